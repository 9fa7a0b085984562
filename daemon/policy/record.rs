//! The access record: one line of the access log. What is recorded, and under which names; writing it durably is
//! `host::log`'s business.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::account::Who;
use super::path::Slug;
use super::probes::Probes;
use super::reason::Reason;

/// What was asked for or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A process began writing this log.
    Start,
    /// A process stopped in order.
    Stop,
    /// An attempt to log in, let in or not.
    Login,
    /// A session ended.
    Logout,
    /// A file was opened for writing.
    OpenWrite,
    /// A file was opened for reading.
    OpenRead,
    /// A file was closed.
    Close,
    /// A write revealed content that is not accepted.
    Refuse,
    /// An upload became an arrival.
    Publish,
    /// A file was renamed.
    Rename,
    /// A file was removed.
    Remove,
    /// A folder was listed.
    List,
    /// An operation that was denied or does not exist here.
    Other,
    /// A worker claimed an arrival.
    Claim,
    /// What a worker had claimed that is gone or does not move any more was taken from it.
    Takeover,
    /// A result was put into an outbox.
    Deliver,
    /// An arrival's job ended: done, deferred or held.
    Job,
    /// A receipt was written.
    Receipt,
    /// Something was deleted because its time had passed: log days, arrivals, results, receipts, unfinished uploads.
    Expire,
    /// An operator confirmed that a clock that had jumped is right.
    Confirm,
    /// A day's head of the log was signed; failed: a log is not as it was sealed, or could not be sealed.
    Seal,
    /// The clock was set, or the machine slept; from here on times tell another story than the order of records.
    ClockJump,
    /// A process took a configuration over, or turned one down.
    Config,
    /// Content is where it does not belong, or is not what it was; `detail` begins with the code of an `Incident`.
    Incident,
    /// An operator cut a session.
    Kick,
    /// An operator had a held arrival worked on again.
    Release,
    /// An operator discarded a held arrival: its payload is removed for good.
    Discard,
    /// An operator had a deferred arrival tried at once.
    Retry,
    /// Connections that never asked to log in, all of a minute together.
    Probes,
    /// The zone was copied into a backup, or came back from one.
    Backup,
    /// A result was collected: downloaded to its end, or removed by its receiver.
    Collect,
    /// The passphrase of a result was handed out.
    Passphrase,
    /// The pseudonym key of an exchange was destroyed.
    Destroy,
    /// An operator closed an incident.
    IncidentClose,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was not allowed.
    Denied,
    /// It was allowed and failed.
    Failed,
}

/// Everything about one access. Absent fields do not appear in the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// What.
    pub event: Event,
    /// How it ended.
    pub outcome: Outcome,
    /// The session, unique per connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The peer's address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The proxy that named the peer, in records of logins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<IpAddr>,
    /// The institution; for a login, the user name as far as it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub institution: Option<String>,
    /// The label of the person's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_label: Option<String>,
    /// The key's fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    /// The client's identification string (RFC 4253 §4.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// A login's key exchange method, as in `mlkem768x25519-sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kex: Option<String>,
    /// A login's cipher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// A login's message authentication, where the cipher does not do that too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// What the key of a login signed with, as in `rsa-sha2-512`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<String>,
    /// The exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Slug>,
    /// The path, as the institution sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The new path of a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_path: Option<String>,
    /// The arrival's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<String>,
    /// Bytes moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Lower-case hex of the SHA-256 of the encrypted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why it was denied or failed; the code of a `Reason` or of a `LoginRefusal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The operator behind it, as far as the machine knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Anything else, in words, without personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of [`Event::Probes`]: how many, and from where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
}

impl Record {
    /// A record with nothing but what happened and how it ended.
    pub fn new(event: Event, outcome: Outcome) -> Self {
        Self {
            event,
            outcome,
            session: None,
            peer: None,
            proxy: None,
            institution: None,
            key_label: None,
            key_fingerprint: None,
            client: None,
            kex: None,
            cipher: None,
            mac: None,
            key_algorithm: None,
            exchange: None,
            path: None,
            new_path: None,
            arrival: None,
            bytes: None,
            sha256: None,
            reason: None,
            operator: None,
            detail: None,
            probes: None,
        }
    }

    /// The same, of a person.
    #[must_use]
    pub fn by(mut self, who: &Who) -> Self {
        self.institution = Some(who.institution.to_string());
        self.key_label = Some(who.label.clone());
        self.key_fingerprint = Some(who.fingerprint.clone());
        self
    }

    /// The same, for a reason.
    #[must_use]
    pub fn because(mut self, reason: &Reason) -> Self {
        self.reason = Some(reason.code().to_owned());
        self
    }
}

/// One line of the log: a record in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    /// UTC.
    pub time: Timestamp,
    /// The machine.
    pub node: String,
    /// `serve`, `work` or `cli`.
    pub process: String,
    /// Counts from 1 within the file.
    pub seq: u64,
    /// Lower-case hex of the SHA-256 of the line before, without its line end; 64 zeros in a file's first line.
    pub prev: String,
    /// What happened.
    #[serde(flatten)]
    pub record: Record,
}

/// The longest reason that an operator may give, in characters.
pub const OPERATOR_REASON_MAX: usize = 500;

/// The reason an operator gives for a change, as a record holds it; none where it says nothing.
pub fn operator_reason(text: &str) -> Option<String> {
    let reason = printable(text.trim(), OPERATOR_REASON_MAX);
    let reason = reason.trim();
    (!reason.is_empty()).then(|| reason.to_owned())
}

/// What a peer said, as a record holds it: on one line, no control characters, and so many characters at most.
pub fn printable(text: &str, most: usize) -> String {
    let breaks = |c: char| if matches!(c, '\n' | '\t') { ' ' } else { c };
    text.chars().map(breaks).filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_several_lines_is_one_whose_words_stay_apart() {
        assert_eq!(printable("SELECT a\nFROM\tb\u{1b}[2J\r\n", 100), "SELECT a FROM b[2J ");
        assert_eq!(printable("SELECT a\nFROM b", 9), "SELECT a ");
        assert_eq!(operator_reason("\u{1}\n\u{1}"), None);
    }
}

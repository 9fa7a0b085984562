//! Who may log in. A login rests on a key that belongs to a labelled person of an institution; the signature over it is
//! `serve::ssh`'s business, and what the person may then do is `request`'s.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::path::Slug;

/// An organisation that takes part in exchanges. Its slug is its SFTP user name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Institution {
    /// Also the SFTP user name.
    pub name: Slug,
    /// Its name in full.
    pub title: String,
    /// Whom the operators write to.
    pub contact: Option<String>,
    /// Where a passphrase can be sent, as in +32…
    pub phone: Option<String>,
    /// The people who may log in.
    pub people: Vec<Person>,
    /// age recipients (`age1…`) that results are encrypted to; may be empty for one that only drops.
    pub recipients: Vec<String>,
    /// Networks that logins may come from; empty means any.
    pub networks: Vec<IpNet>,
}

/// A person who may log in for an institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What the log and receipts call this person, unique within the institution.
    pub label: String,
    /// Why this person has access.
    pub function: Option<String>,
    /// This person's keys.
    pub keys: Vec<PersonKey>,
    /// age recipients of what only this person is to read.
    pub recipients: Vec<String>,
}

/// One public key of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonKey {
    /// OpenSSH's form: `SHA256:` and unpadded base64.
    pub fingerprint: String,
    /// The key type, as in `ssh-ed25519`.
    pub algorithm: String,
    /// First calendar day on which it is accepted, Europe/Brussels.
    pub not_before: Option<Date>,
    /// Last calendar day on which it is accepted, Europe/Brussels.
    pub not_after: Option<Date>,
}

/// Whom a session belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The institution that logged in.
    pub institution: Slug,
    /// The person's label.
    pub label: String,
    /// The key's fingerprint.
    pub fingerprint: String,
}

/// Why a login is refused. The peer never learns which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginRefusal {
    /// No institution of that name.
    UnknownUser,
    /// The key is not one of the institution's.
    UnknownKey,
    /// `not-before` lies ahead.
    KeyNotYetValid,
    /// `not-after` has passed.
    KeyExpired,
    /// The peer's address is outside the institution's networks.
    WrongNetwork,
    /// None of the institution's agreements is in force, or none that this person takes part in.
    NoOpenExchange,
    /// The key is one of the institution's, but would sign in a way that is not accepted.
    AlgorithmNotAccepted,
    /// The connection ended without a proof that the key is the peer's.
    NotProven,
    /// The key is good, and as many sessions as may be run from this source.
    TooManyFromSource,
    /// The key is good, and as many sessions as may be run of this institution.
    TooManyOfInstitution,
}

impl Institution {
    /// The person of that label.
    pub fn person(&self, label: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.label == label)
    }
}

impl LoginRefusal {
    /// All, for metrics.
    pub const ALL: [Self; 10] = [
        Self::UnknownUser,
        Self::UnknownKey,
        Self::KeyNotYetValid,
        Self::KeyExpired,
        Self::WrongNetwork,
        Self::NoOpenExchange,
        Self::AlgorithmNotAccepted,
        Self::NotProven,
        Self::TooManyFromSource,
        Self::TooManyOfInstitution,
    ];

    /// The stable code for log and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown-user",
            Self::UnknownKey => "unknown-key",
            Self::KeyNotYetValid => "key-not-yet-valid",
            Self::KeyExpired => "key-expired",
            Self::WrongNetwork => "wrong-network",
            Self::NoOpenExchange => "no-open-exchange",
            Self::AlgorithmNotAccepted => "algorithm-not-accepted",
            Self::NotProven => "not-proven",
            Self::TooManyFromSource => "too-many-from-source",
            Self::TooManyOfInstitution => "too-many-of-institution",
        }
    }
}

/// A login attempt, as far as the peer has shown it.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The SSH user name.
    pub user: &'a str,
    /// The offered key's fingerprint.
    pub fingerprint: &'a str,
    /// Where it comes from.
    pub peer: IpAddr,
    /// The calendar day in Europe/Brussels.
    pub today: Date,
}

/// Whether the offered key would be let in. `has_open_exchange` says whether any agreement of an institution is in
/// force that this person of it takes part in.
pub fn identify(
    institutions: &BTreeMap<Slug, Institution>,
    has_open_exchange: impl Fn(&Slug, &Person) -> bool,
    attempt: &Attempt<'_>,
) -> Result<Who, LoginRefusal> {
    let institution = Slug::parse(attempt.user)
        .ok()
        .and_then(|name| institutions.get(&name))
        .ok_or(LoginRefusal::UnknownUser)?;
    let (person, key) = institution
        .people
        .iter()
        .flat_map(|person| person.keys.iter().map(move |key| (person, key)))
        .find(|(_, key)| key.fingerprint == attempt.fingerprint)
        .ok_or(LoginRefusal::UnknownKey)?;
    if key.not_before.is_some_and(|day| attempt.today < day) {
        return Err(LoginRefusal::KeyNotYetValid);
    }
    if key.not_after.is_some_and(|day| attempt.today > day) {
        return Err(LoginRefusal::KeyExpired);
    }
    if !institution.networks.is_empty() && !institution.networks.iter().any(|net| net.contains(&attempt.peer))
    {
        return Err(LoginRefusal::WrongNetwork);
    }
    if !has_open_exchange(&institution.name, person) {
        return Err(LoginRefusal::NoOpenExchange);
    }
    Ok(Who {
        institution: institution.name.clone(),
        label: person.label.clone(),
        fingerprint: key.fingerprint.clone(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn institutions() -> BTreeMap<Slug, Institution> {
        let agency = Institution {
            name: Slug::parse("agency").unwrap(),
            title: "Agency".into(),
            contact: None,
            phone: None,
            people: vec![Person {
                label: "an".into(),
                function: None,
                keys: vec![PersonKey {
                    fingerprint: "SHA256:an".into(),
                    algorithm: "ssh-ed25519".into(),
                    not_before: Some(date(2026, 2, 1)),
                    not_after: Some(date(2026, 12, 31)),
                }],
                recipients: vec![],
            }],
            recipients: vec![],
            networks: vec!["10.0.0.0/8".parse().unwrap()],
        };
        BTreeMap::from([(agency.name.clone(), agency)])
    }

    #[test]
    fn a_login_needs_user_key_day_network_and_an_open_agreement() {
        let today = date(2026, 6, 1);
        let good =
            Attempt { user: "agency", fingerprint: "SHA256:an", peer: "10.1.2.3".parse().unwrap(), today };
        let of = |attempt: Attempt<'_>, open: bool| identify(&institutions(), |_, _| open, &attempt);
        assert_eq!(of(good, true).unwrap().label, "an");
        for (attempt, open, refusal) in [
            (Attempt { user: "nobody", ..good }, true, LoginRefusal::UnknownUser),
            (Attempt { user: "../agency", ..good }, true, LoginRefusal::UnknownUser),
            (Attempt { fingerprint: "SHA256:x", ..good }, true, LoginRefusal::UnknownKey),
            (Attempt { today: date(2026, 1, 31), ..good }, true, LoginRefusal::KeyNotYetValid),
            (Attempt { today: date(2027, 1, 1), ..good }, true, LoginRefusal::KeyExpired),
            (Attempt { peer: "192.0.2.1".parse().unwrap(), ..good }, true, LoginRefusal::WrongNetwork),
            (good, false, LoginRefusal::NoOpenExchange),
        ] {
            assert_eq!(of(attempt, open), Err(refusal));
        }
        assert!(of(Attempt { today: date(2026, 12, 31), ..good }, true).is_ok(), "the last day counts");
    }
}

//! The receipt: what an institution and its auditor read about one arrival. It never holds a value from the list.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::arrival::{Arrival, ArrivalId};
use super::path::{Name, Slug};
use super::quality::Quality;
use super::reason::Reason;

/// Where an arrival stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Accepted, its job has not ended.
    InProgress,
    /// Accepted, its result is delivered.
    Delivered,
    /// Accepted, and the same file as an earlier arrival, whose receipt says what came of both.
    Repeated,
    /// Accepted by the gate and held afterwards: an operator looks, or it was not what it seemed.
    Held,
    /// Refused by the gate; nothing of it was kept.
    Refused,
    /// Accepted, held, and then discarded by the operator; nothing of it was kept.
    Discarded,
}

/// How far this zone could look into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Decrypted to the end; every part authenticated.
    Verified,
    /// Only the outer form of age was checked: the file was relayed end to end, or was never opened.
    StructureOnly,
    /// It was refused or discarded; nothing of it was kept.
    NotKept,
}

/// The person behind an arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct By {
    /// The label of the person's key.
    pub key_label: String,
    /// The key's fingerprint.
    pub key_fingerprint: String,
}

/// A reason with its sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    /// The stable code.
    pub code: String,
    /// Line of the decrypted list, or row of its sheet, where one is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// The earlier arrival with the same content, where one is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<ArrivalId>,
    /// Dutch.
    pub nl: String,
    /// English.
    pub en: String,
}

impl From<&Reason> for Explanation {
    fn from(reason: &Reason) -> Self {
        let row = match reason {
            Reason::NotATable { row } => Some(*row),
            Reason::SheetUnreadable { row } => *row,
            _ => None,
        };
        let same =
            if let Reason::SameContentAgain { arrival, .. } = reason { Some(arrival.clone()) } else { None };
        Self {
            code: reason.code().to_owned(),
            row,
            arrival: same,
            nl: reason.dutch().to_owned(),
            en: reason.english().to_owned(),
        }
    }
}

/// What the job did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobReport {
    /// `relay` or `query`.
    pub kind: String,
    /// How often it was tried.
    pub tries: u32,
    /// Rows of the list, without its header; none where it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_in: Option<u64>,
    /// Rows of the result, without its header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_out: Option<u64>,
}

/// One result in one outbox. The sender's receipt names its own deliveries in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Delivery {
    /// The receiver.
    pub to: Slug,
    /// The one person of it who can open it; none where the institution can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// The file's name in the receiver's `out`.
    pub name: Name,
    /// Bytes of the encrypted result.
    pub size: u64,
    /// Lower-case hex of its SHA-256.
    pub sha256: String,
    /// Its rows, without its header; none where they were not counted one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

impl Delivery {
    /// Whose it is.
    pub fn receiver(&self) -> Receiver {
        Receiver { institution: self.to.clone(), person: self.person.clone() }
    }
}

/// Whoever gets a result of its own: an institution, or one of its people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receiver {
    /// Whose outbox it goes to.
    pub institution: Slug,
    /// The label of the one person who can open it.
    pub person: Option<String>,
}

impl From<Slug> for Receiver {
    fn from(institution: Slug) -> Self {
        Self { institution, person: None }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.person {
            Some(person) => write!(f, "{}, {person}", self.institution),
            None => write!(f, "{}", self.institution),
        }
    }
}

/// One JSON per arrival, in the sender's `receipts` folder of the exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Receipt {
    /// The form of this document: 1.
    pub receipt: u32,
    /// The arrival's id.
    pub arrival: ArrivalId,
    /// The exchange.
    pub exchange: Slug,
    /// The agreement's reference.
    pub agreement: String,
    /// The sender.
    pub institution: Slug,
    /// The name the sender gave the file.
    pub name: Name,
    /// Bytes of the encrypted file; for a refused one, bytes seen.
    pub size: u64,
    /// Lower-case hex of its SHA-256; none for a refused one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Who sent it.
    pub by: By,
    /// The session in the access log.
    pub session: String,
    /// When its upload began, UTC.
    pub opened: Timestamp,
    /// When it was accepted or refused, UTC.
    pub received: Timestamp,
    /// When its job ended, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// Where it stands.
    pub verdict: Verdict,
    /// How far this zone could look into it.
    pub content: Content,
    /// Why, where it is not simply delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Explanation>,
    /// What the job did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobReport>,
    /// The report on what its list holds, where there are rules for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// What was delivered to whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<Delivery>,
}

impl Receipt {
    /// A receipt of an arrival about whose job nothing is known yet.
    pub fn of(arrival: &Arrival, agreement: &str, verdict: Verdict) -> Self {
        Self {
            receipt: 1,
            arrival: arrival.id.clone(),
            exchange: arrival.id.exchange().clone(),
            agreement: agreement.to_owned(),
            institution: arrival.id.institution().clone(),
            name: arrival.name.clone(),
            size: arrival.size,
            sha256: arrival.sha256.clone(),
            by: By { key_label: arrival.by.label.clone(), key_fingerprint: arrival.by.fingerprint.clone() },
            session: arrival.session.clone(),
            opened: arrival.opened,
            received: arrival.received,
            finished: None,
            verdict,
            content: match verdict {
                Verdict::Refused | Verdict::Discarded => Content::NotKept,
                Verdict::InProgress | Verdict::Delivered | Verdict::Repeated | Verdict::Held => {
                    Content::StructureOnly
                }
            },
            reason: arrival.refused.as_ref().map(Explanation::from),
            job: None,
            quality: None,
            deliveries: Vec::new(),
        }
    }
}

//! What the records of the access log come to in a report. Counting them is `counter`'s business.

use jiff::Timestamp;
use serde::Serialize;

use super::facts::{Incident, Listed, Timed, Words};
use crate::policy::record::Event;

/// What is told of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// Records in the span, of all exchanges.
    pub records: u64,
    /// Of them, those about this exchange and its parties.
    pub about: u64,
    /// The first record in the span.
    pub first: Option<Timestamp>,
    /// The last record in the span.
    pub last: Option<Timestamp>,
    /// What each person did.
    pub people: Vec<PersonAccess>,
    /// Requests and files that were refused, by reason.
    pub refusals: Vec<Refusal>,
    /// Logins in the name of a party that were refused.
    pub refused_logins: Vec<RefusedLogins>,
    /// Logins in the name of nobody who takes part in this exchange that were refused.
    pub refused_strangers: u64,
    /// What operators did.
    pub actions: Listed<Action>,
    /// What was found to be an incident.
    pub incidents: Listed<Incident>,
    /// Deletions because the time had passed, by kind.
    pub deletions: Vec<Deletions>,
    /// Jobs that ended without a result.
    pub failed_jobs: u64,
}

/// What one person did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PersonAccess {
    /// For whom.
    pub institution: String,
    /// The label.
    pub person: String,
    /// Logins, also for other exchanges.
    pub logins: u64,
    /// Files put in.
    pub uploads: u64,
    /// Results fetched whole.
    pub downloads: u64,
    /// Receipts and other files fetched.
    pub other_downloads: u64,
    /// Results removed: "I have it".
    pub removals: u64,
    /// Results that counted as collected.
    pub collected: u64,
    /// Requests that were turned down.
    pub turned_down: u64,
    /// When anything was last recorded.
    pub last: Timestamp,
}

/// How often something was refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refusal {
    /// For programs.
    pub code: String,
    /// How often.
    pub count: u64,
    /// What the sender was told; none for a code that this version does not know.
    pub told: Option<Words>,
}

/// Logins that were refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RefusedLogins {
    /// In whose name.
    pub institution: String,
    /// For programs.
    pub code: String,
    /// Why.
    pub why: Words,
    /// How often.
    pub count: u64,
    /// The last time.
    pub last: Timestamp,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Action {
    /// When.
    pub time: Timestamp,
    /// For programs.
    pub event: Event,
    /// What.
    pub what: Words,
    /// It was not done.
    pub failed: bool,
    /// Who.
    pub operator: Option<String>,
    /// The arrival, session or institution that it was done to.
    pub to: Option<String>,
    /// Why, in the operator's own words.
    pub reason: Option<String>,
}

impl Timed for Action {
    fn time(&self) -> Timestamp {
        self.time
    }
}

/// How much of one kind was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Deletions {
    /// As the record calls it.
    pub what: String,
    /// How many.
    pub count: u64,
    /// How large together.
    pub bytes: u64,
}

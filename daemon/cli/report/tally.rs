//! What the records of the access log say of one exchange in a span: counted as they go by, so that a million of them take no
//! more memory than the people, reasons and files they speak of. Which files are read is `evidence`'s business.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::facts::{Incident, Listed, Timed, Words};
use super::wording;
use crate::policy::path::Slug;
use crate::policy::record::{Event, Line, Outcome, Record};

/// More people, reasons or names than any agreement has; what a stranger makes up beyond that is counted together.
const KINDS: usize = 2_000;
const OTHERS: &str = "…";

// As `serve` says how far a download came.
const WHOLE: &str = "sent whole";
const IN_PART: &str = "sent in part";

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

/// What a record is for the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighed {
    /// An access.
    Access,
    /// A refused request that no receipt tells of.
    Refusal,
    /// A file that was refused, of which there should be a receipt.
    RefusedFile,
    /// A file that was taken in, of which there should be a receipt.
    TakenIn,
    /// Neither.
    Nothing,
}

/// Counts the records that it is shown, in any order.
#[derive(Debug)]
pub struct Counter {
    exchange: String,
    parties: BTreeSet<String>,
    tally: Tally,
    people: BTreeMap<(String, String), PersonAccess>,
    refusals: BTreeMap<String, u64>,
    logins: BTreeMap<(String, String), (u64, Timestamp)>,
    deletions: BTreeMap<String, (u64, u64)>,
    configurations: BTreeMap<String, Option<String>>,
}

impl Counter {
    /// Nothing counted yet.
    pub fn new(exchange: &str, parties: BTreeSet<String>) -> Self {
        Self {
            exchange: exchange.to_owned(),
            parties,
            tally: Tally::default(),
            people: BTreeMap::new(),
            refusals: BTreeMap::new(),
            logins: BTreeMap::new(),
            deletions: BTreeMap::new(),
            configurations: BTreeMap::new(),
        }
    }

    /// Counts a record of the span.
    pub fn take(&mut self, line: &Line) -> Weighed {
        self.tally.records += 1;
        let (first, last) = (&mut self.tally.first, &mut self.tally.last);
        *first = Some(first.map_or(line.time, |first| first.min(line.time)));
        *last = (*last).max(Some(line.time));
        let record = &line.record;
        match exchange_of(record) {
            Some(exchange) if exchange == self.exchange => {
                self.tally.about += 1;
                self.of_exchange(line)
            }
            Some(_) => Weighed::Nothing,
            None => self.of_zone(line),
        }
    }

    /// All counts.
    pub fn finish(self) -> Tally {
        let mut tally = self.tally;
        tally.people = self.people.into_values().collect();
        let refusal = |(code, count): (String, u64)| Refusal { told: wording::reason(&code), code, count };
        tally.refusals = self.refusals.into_iter().map(refusal).collect();
        tally.refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.count));
        let logins = self.logins.into_iter();
        tally.refused_logins = logins
            .map(|((institution, code), (count, last))| {
                let why = wording::login_refusal(&code);
                RefusedLogins { institution, why, code, count, last }
            })
            .collect();
        let deletions = self.deletions.into_iter();
        tally.deletions = deletions.map(|(what, (count, bytes))| Deletions { what, count, bytes }).collect();
        tally.actions.settle();
        tally.incidents.settle();
        tally
    }

    fn of_exchange(&mut self, line: &Line) -> Weighed {
        let record = &line.record;
        let is_ok = record.outcome == Outcome::Ok;
        match record.event {
            Event::Publish if is_ok => self.access(line, |person| person.uploads += 1, Weighed::TakenIn),
            Event::Close if is_ok && is_download(record) => self.downloaded(line),
            Event::Remove if is_ok && record.detail.as_deref() != Some("unfinished upload") => {
                self.access(line, |person| person.removals += 1, Weighed::Access)
            }
            Event::Publish
            | Event::Close
            | Event::Remove
            | Event::OpenWrite
            | Event::OpenRead
            | Event::Refuse
            | Event::Rename
            | Event::List
            | Event::Other => self.request(line),
            Event::Incident => {
                self.tally.incidents.take(incident(line));
                Weighed::Nothing
            }
            Event::Job => {
                self.tally.failed_jobs += u64::from(!is_ok);
                Weighed::Nothing
            }
            Event::Expire => self.deleted(record),
            // A download or a removal that counted: both have records of their own.
            Event::Collect => self.access(line, |person| person.collected += 1, Weighed::Nothing),
            Event::Release
            | Event::Discard
            | Event::Retry
            | Event::Kick
            | Event::Confirm
            | Event::Passphrase
            | Event::Destroy
            | Event::IncidentClose => self.acted(line),
            Event::Start
            | Event::Stop
            | Event::Login
            | Event::Logout
            | Event::Claim
            | Event::Takeover
            | Event::Deliver
            | Event::Receipt
            | Event::Seal
            | Event::ClockJump
            | Event::Config
            | Event::Probes
            | Event::Backup => Weighed::Nothing,
        }
    }

    /// What concerns the whole zone, or somebody and no single exchange.
    fn of_zone(&mut self, line: &Line) -> Weighed {
        let record = &line.record;
        let is_party = record.institution.as_ref().is_some_and(|name| self.parties.contains(name));
        match record.event {
            Event::Login if is_party && record.outcome == Outcome::Ok => {
                self.access(line, |person| person.logins += 1, Weighed::Access)
            }
            Event::Login if record.outcome != Outcome::Ok => self.refused_login(line, is_party),
            Event::Kick if is_party => self.acted(line),
            Event::Config if !self.is_changed(line) => Weighed::Nothing,
            Event::Confirm | Event::Config | Event::Backup => self.acted(line),
            Event::Seal if record.outcome == Outcome::Failed => {
                self.tally.incidents.take(incident(line));
                Weighed::Nothing
            }
            Event::Start
            | Event::Stop
            | Event::Login
            | Event::Logout
            | Event::OpenWrite
            | Event::OpenRead
            | Event::Close
            | Event::Refuse
            | Event::Publish
            | Event::Rename
            | Event::Remove
            | Event::List
            | Event::Other
            | Event::Claim
            | Event::Takeover
            | Event::Deliver
            | Event::Job
            | Event::Receipt
            | Event::Expire
            | Event::Seal
            | Event::ClockJump
            | Event::Incident
            | Event::Kick
            | Event::Release
            | Event::Discard
            | Event::Retry
            | Event::Probes
            | Event::Collect
            | Event::Passphrase
            | Event::Destroy
            | Event::IncidentClose => Weighed::Nothing,
        }
    }

    fn access(&mut self, line: &Line, count: fn(&mut PersonAccess), as_what: Weighed) -> Weighed {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let key = (name(&line.record.institution), name(&line.record.key_label));
        let key = bounded(&self.people, key, || (OTHERS.to_owned(), OTHERS.to_owned()));
        let person = self.people.entry(key.clone()).or_default();
        (person.institution, person.person) = key;
        person.last = person.last.max(line.time);
        count(person);
        as_what
    }

    fn downloaded(&mut self, line: &Line) -> Weighed {
        let is_result = line.record.path.as_deref().is_some_and(|path| path.split('/').nth(2) == Some("out"));
        if !is_result {
            return self.access(line, |person| person.other_downloads += 1, Weighed::Access);
        }
        if line.record.detail.as_deref() == Some(WHOLE) {
            return self.access(line, |person| person.downloads += 1, Weighed::Access);
        }
        Weighed::Nothing
    }

    /// A request that came to nothing, or that only led to another.
    fn request(&mut self, line: &Line) -> Weighed {
        let record = &line.record;
        let Some(code) = record.reason.as_ref().filter(|_| record.outcome != Outcome::Ok) else {
            return Weighed::Nothing;
        };
        let key = bounded(&self.refusals, code.clone(), || OTHERS.to_owned());
        *self.refusals.entry(key).or_default() += 1;
        let is_file = record.event == Event::Refuse && record.arrival.is_some();
        let weighed = if is_file { Weighed::RefusedFile } else { Weighed::Refusal };
        self.access(line, |person| person.turned_down += 1, weighed)
    }

    fn refused_login(&mut self, line: &Line, is_party: bool) -> Weighed {
        if !is_party {
            self.tally.refused_strangers += 1;
            return Weighed::Nothing;
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let key = (text(&line.record.institution), text(&line.record.reason));
        let key = bounded(&self.logins, key, || (OTHERS.to_owned(), OTHERS.to_owned()));
        let (count, last) = self.logins.entry(key).or_insert((0, line.time));
        *count += 1;
        *last = (*last).max(line.time);
        Weighed::Nothing
    }

    fn acted(&mut self, line: &Line) -> Weighed {
        let record = &line.record;
        let of_zone = matches!(record.event, Event::Confirm | Event::Config | Event::Backup);
        let session = record.session.as_ref().or(record.institution.as_ref());
        self.tally.actions.take(Action {
            time: line.time,
            event: record.event,
            what: wording::action(record.event),
            failed: record.outcome != Outcome::Ok,
            operator: record.operator.clone(),
            to: record.arrival.as_ref().or(session).filter(|_| !of_zone).cloned(),
            // What stands there for the zone names other agreements' files.
            reason: record.detail.clone().filter(|_| !of_zone),
        });
        Weighed::Nothing
    }

    /// Every start of a process is a record of its configuration; only one that differs from the last is a change.
    fn is_changed(&mut self, line: &Line) -> bool {
        let process = format!("{}.{}", line.process, line.node);
        let process = bounded(&self.configurations, process, || OTHERS.to_owned());
        let digest = line.record.sha256.clone();
        let before = self.configurations.insert(process, digest.clone());
        line.record.outcome != Outcome::Ok || before.is_some_and(|before| before != digest)
    }

    fn deleted(&mut self, record: &Record) -> Weighed {
        let detail = record.detail.as_deref().unwrap_or_default();
        let what = detail.split_once(": ").map_or(detail, |(what, _)| what).to_owned();
        let what = bounded(&self.deletions, what, || OTHERS.to_owned());
        let (count, bytes) = self.deletions.entry(what).or_default();
        *count += 1;
        *bytes = bytes.saturating_add(record.bytes.unwrap_or(0));
        Weighed::Nothing
    }
}

/// The exchange that a record is about; what was refused before it was looked up says it in its path only.
fn exchange_of(record: &Record) -> Option<&str> {
    let of_path = || {
        let is_request = record.session.is_some() && record.institution.is_some();
        record.path.as_deref().filter(|_| is_request)?.strip_prefix('/')?.split('/').next()
    };
    record.exchange.as_ref().map(Slug::as_str).or_else(of_path).filter(|name| !name.is_empty())
}

fn is_download(record: &Record) -> bool {
    record.detail.as_deref().is_some_and(|detail| detail == WHOLE || detail == IN_PART)
}

fn incident(line: &Line) -> Incident {
    let record = &line.record;
    let told = record.detail.as_deref().unwrap_or_default().split([' ', ':', ';']).next();
    let is_seal = record.event == Event::Seal;
    let code = if is_seal { wording::LOG_BROKEN } else { told.unwrap_or_default() }.to_owned();
    Incident {
        time: line.time,
        what: wording::incident(&code),
        code,
        institution: record.institution.clone(),
        arrival: record.arrival.clone(),
        standing: None,
    }
}

/// The key, or, where there are too many already, the one that stands for all others.
fn bounded<K: Ord, V>(there: &BTreeMap<K, V>, key: K, others: impl FnOnce() -> K) -> K {
    if there.len() < KINDS || there.contains_key(&key) { key } else { others() }
}

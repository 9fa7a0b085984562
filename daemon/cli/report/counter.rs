//! Counts what the records of the access log say of one exchange: as they go by, so that a million of them take no more memory
//! than the people, reasons and files they speak of. Which files are read is `evidence`'s business.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::facts::Incident;
use super::tally::{Action, Deletions, PersonAccess, Refusal, RefusedLogins, Tally};
use super::wording;
use crate::policy::path::Slug;
use crate::policy::record::{Event, Line, Outcome, Record};

/// More people, reasons or names than any agreement has; what a stranger makes up beyond that is counted together.
const KINDS: usize = 2_000;
const OTHERS: &str = "…";

// As `serve` says how far a download came.
const WHOLE: &str = "sent whole";
const IN_PART: &str = "sent in part";

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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &str) -> Line {
        let text = format!(
            r#"{{"time":"2026-11-21T12:00:00Z","node":"n","process":"serve","seq":1,"prev":"","session":"s",{fields}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn counter() -> Counter {
        Counter::new("pillar-3", ["agii", "atlas"].map(str::to_owned).into())
    }

    #[test]
    fn each_record_counts_for_what_it_is_and_other_exchanges_for_nothing() {
        let ours = r#""institution":"agii","key-label":"an","exchange":"pillar-3""#;
        let table = [
            (r#""event":"publish","outcome":"ok","arrival":"a""#, ours, Weighed::TakenIn),
            (
                r#""event":"refuse","outcome":"denied","arrival":"a","reason":"not-encrypted""#,
                ours,
                Weighed::RefusedFile,
            ),
            (
                r#""event":"open-write","outcome":"denied","reason":"name-not-accepted""#,
                ours,
                Weighed::Refusal,
            ),
            (
                r#""event":"close","outcome":"ok","path":"/pillar-3/out/x","detail":"sent whole""#,
                ours,
                Weighed::Access,
            ),
            (
                r#""event":"close","outcome":"ok","path":"/pillar-3/out/x","detail":"sent in part""#,
                ours,
                Weighed::Nothing,
            ),
            (r#""event":"remove","outcome":"ok","detail":"collected""#, ours, Weighed::Access),
            (r#""event":"remove","outcome":"ok","detail":"unfinished upload""#, ours, Weighed::Nothing),
            (
                r#""event":"login","outcome":"ok""#,
                r#""institution":"agii","key-label":"an""#,
                Weighed::Access,
            ),
            (
                r#""event":"login","outcome":"ok""#,
                r#""institution":"other","key-label":"x""#,
                Weighed::Nothing,
            ),
            (
                r#""event":"publish","outcome":"ok""#,
                r#""institution":"agii","exchange":"other""#,
                Weighed::Nothing,
            ),
            // What was denied before it was looked up says only in its path what it was about.
            (
                r#""event":"open-read","outcome":"denied","reason":"no-such-path","path":"/pillar-3/out/x""#,
                r#""institution":"other","key-label":"x""#,
                Weighed::Refusal,
            ),
            (
                r#""event":"open-read","outcome":"denied","reason":"no-such-path","path":"/other/out/x""#,
                r#""institution":"agii","key-label":"an""#,
                Weighed::Nothing,
            ),
        ];
        let mut counter = counter();
        for (event, who, weighed) in table {
            assert_eq!(counter.take(&line(&format!("{event},{who}"))), weighed, "{event} {who}");
        }
        let tally = counter.finish();
        let an = &tally.people[0];
        assert_eq!((an.logins, an.uploads, an.downloads, an.removals, an.turned_down), (1, 1, 1, 1, 2));
        assert_eq!(tally.people[1].institution, "other");
        assert_eq!(tally.people.len(), 2);
    }

    #[test]
    fn a_start_with_the_same_configuration_is_no_change_of_it() {
        let config = |digest: &str| {
            line(&format!(r#""event":"config","outcome":"ok","operator":"start","sha256":"{digest}""#))
        };
        let mut counter = counter();
        for digest in ["a", "a", "b", "b", "a"] {
            counter.take(&config(digest));
        }
        assert_eq!(counter.finish().actions.count, 2);
    }

    #[test]
    fn names_that_strangers_make_up_take_no_more_memory_than_a_bound() {
        let mut counter = counter();
        for number in 0..3 * KINDS {
            let who = format!(r#""institution":"x{number}","key-label":"y""#);
            counter.take(&line(&format!(
                r#""event":"open-read","outcome":"denied","reason":"r{number}","path":"/pillar-3/out/x",{who}"#
            )));
        }
        let tally = counter.finish();
        assert!(tally.people.len() <= KINDS + 1 && tally.refusals.len() <= KINDS + 1);
        let turned_down: u64 = tally.people.iter().map(|person| person.turned_down).sum();
        assert_eq!(turned_down, 3 * KINDS as u64, "all are counted");
    }
}

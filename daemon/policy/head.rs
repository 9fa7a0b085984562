//! The head of the access log: a small signed document that says how far each log file of the zone had come. Heads form a
//! chain of their own and outlive the records. What the next head says follows here from what the last ones said and what
//! was found in the files; reading files is `host::evidence`'s business, signing and keeping heads `work::seal`'s.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::chain::{self, Break, Place, Seal};
use super::digest::{hex, sha256};
use super::path::Slug;
use super::retention::{LogName, is_expired, may_delete};

/// How far one log file had come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sealed {
    /// The file; its name says day, process and node.
    pub file: LogName,
    /// Its records, which are numbered from 1 to this.
    pub records: u64,
    /// Lines up to and with the last of them.
    pub lines: u64,
    /// Bytes up to and with its line end.
    pub bytes: u64,
    /// Lower-case hex of the SHA-256 of its line, which stands for all before it.
    pub last: String,
}

impl Sealed {
    /// The place in the file; `None` where the hash is none.
    pub fn place(&self) -> Option<Place> {
        Some(Place { line: self.lines, seq: self.records, hash: chain::hash(&self.last)?, bytes: self.bytes })
    }

    fn new(file: LogName, place: &Place) -> Self {
        let Place { line: lines, seq: records, hash, bytes } = *place;
        Self { file, records, lines, bytes, last: hex(&hash) }
    }
}

/// What is wrong with a file, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Broken {
    /// The file.
    pub file: LogName,
    /// What.
    pub what: String,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Head {
    /// The form of this document: 1.
    pub head: u32,
    /// Counts from 1.
    pub number: u64,
    /// Lower-case hex of the SHA-256 of the head before; 64 zeros in the first.
    pub previous: String,
    /// When it was signed, UTC.
    pub time: Timestamp,
    /// The machine that signed.
    pub node: Slug,
    /// How many days records were kept then.
    pub keep_days: u16,
    /// Whether all files are told; otherwise only those that changed since the head before.
    pub complete: bool,
    /// How far the files had come.
    pub files: Vec<Sealed>,
    /// Files of which a record says that they were deleted because their time had passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<LogName>,
    /// Files that are not as they were sealed, or no chain; they stay at what was sealed of them before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
}

/// The digest by which the next head, and whoever was sent it, knows a head.
pub fn digest(text: &[u8]) -> String {
    sha256(text)
}

/// What the heads up to one say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The last head's number, digest and time.
    pub last: Option<(u64, String, Timestamp)>,
    /// How far the files had come.
    pub files: BTreeMap<LogName, Sealed>,
    /// Files that may be gone.
    pub expired: BTreeSet<LogName>,
    /// Files that were found to be wrong.
    pub broken: BTreeMap<LogName, String>,
}

impl Known {
    /// Takes the next head, and its text.
    pub fn follow(&mut self, head: &Head, text: &[u8]) {
        self.last = Some((head.number, digest(text), head.time));
        if head.complete {
            self.broken.clear();
        }
        for sealed in &head.files {
            self.broken.remove(&sealed.file);
            self.files.insert(sealed.file.clone(), sealed.clone());
        }
        self.expired.extend(head.expired.iter().cloned());
        self.broken.extend(head.broken.iter().map(|broken| (broken.file.clone(), broken.what.clone())));
    }
}

/// What was found in a file behind what was sealed.
#[derive(Debug, Clone)]
pub struct Walked {
    /// How far its chain goes, or where it breaks.
    pub outcome: Result<Place, Break>,
    /// Files that its records say were deleted.
    pub expired: Vec<LogName>,
    /// Whether its records speak of a head.
    pub tells_of_heads: bool,
}

/// When, where and under which rule a head is made.
#[derive(Debug, Clone)]
pub struct Making {
    /// Now.
    pub time: Timestamp,
    /// This machine.
    pub node: Slug,
    /// The configuration's.
    pub keep_days: u16,
}

/// The next head, from what is known and what was found in each file that is there. `None` if nothing changed and the day
/// is the same.
pub fn next(known: &Known, making: &Making, walked: BTreeMap<LogName, Walked>) -> Option<Head> {
    let today = day(making.time);
    let complete = known.last.as_ref().is_none_or(|(_, _, time)| day(*time) != today);
    let mut broken = BTreeMap::new();
    let expired = expired(making, &walked, &mut broken);
    let is_excused = |name: &LogName| expired.contains(name) || known.expired.contains(name);
    for name in known.files.keys().filter(|name| !walked.contains_key(name) && !is_excused(name)) {
        broken
            .insert(name.clone(), "the file is gone, and no record says that its time had passed".to_owned());
    }
    let mut files = Vec::new();
    for (name, Walked { outcome, tells_of_heads, .. }) in &walked {
        if known.last.is_none() && *tells_of_heads {
            broken.insert(
                name.clone(),
                "its records tell of heads, and there are none: they were removed".to_owned(),
            );
        }
        match outcome {
            Ok(place) if place.seq > 0 => files.push(Sealed::new(name.clone(), place)),
            Ok(_) => {}
            Err(found) => {
                broken.insert(name.clone(), found.to_string());
            }
        }
    }
    // What a broken file was worth before stays under seal in a complete head.
    let kept =
        known.files.values().filter(|sealed| broken.contains_key(&sealed.file) && !is_excused(&sealed.file));
    files.extend(kept.filter(|_| complete).cloned());
    if !complete {
        files.retain(|sealed| {
            known.files.get(&sealed.file) != Some(sealed) || known.broken.contains_key(&sealed.file)
        });
        broken.retain(|name, what| known.broken.get(name) != Some(what));
    }
    files.sort_by(|one, other| one.file.cmp(&other.file));
    let is_new = |name: &&LogName| !known.expired.contains(*name) || complete && walked.contains_key(*name);
    let expired: Vec<LogName> = expired.union(&known.expired).filter(is_new).cloned().collect();
    if !complete && files.is_empty() && expired.is_empty() && broken.is_empty() {
        return None;
    }
    let (number, previous) = known
        .last
        .as_ref()
        .map_or_else(|| (1, hex(&chain::START)), |(number, digest, _)| (number + 1, digest.clone()));
    let Making { time, node, keep_days } = making.clone();
    let broken = broken.into_iter().map(|(file, what)| Broken { file, what }).collect();
    Some(Head { head: 1, number, previous, time, node, keep_days, complete, files, expired, broken })
}

/// The deletions that records tell, as far as they were due; one that was not is a break of the file that tells it.
fn expired(
    making: &Making,
    walked: &BTreeMap<LogName, Walked>,
    broken: &mut BTreeMap<LogName, String>,
) -> BTreeSet<LogName> {
    let mut expired = BTreeSet::new();
    for (teller, Walked { expired: told, .. }) in walked {
        for name in told {
            if may_delete(&teller.process, &name.process)
                && is_expired(day(making.time), making.keep_days, name)
            {
                expired.insert(name.clone());
            } else {
                let what = format!(
                    "a record in {teller} says that it was deleted, before its time or by a stranger"
                );
                broken.insert(name.clone(), what);
            }
        }
    }
    expired
}

/// The UTC day of a time.
pub fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// The seals that heads put on one file, by record.
pub type Seals = BTreeMap<LogName, Vec<Seal>>;

#[cfg(test)]
mod tests {
    use super::super::chain::Damage;
    use super::*;

    fn name(text: &str) -> LogName {
        LogName::parse(text).unwrap()
    }

    const SERVE: &str = "2026-11-21.serve.zone-1.jsonl";
    const OLD: &str = "2026-10-20.serve.zone-1.jsonl";

    fn at(time: &str) -> Making {
        Making { time: time.parse().unwrap(), node: Slug::parse("zone-1").unwrap(), keep_days: 31 }
    }

    fn place(seq: u64) -> Place {
        Place { line: seq, seq, hash: [u8::try_from(seq).unwrap(); 32], bytes: seq * 100 }
    }

    fn found(file: &str, outcome: Result<Place, Break>, expired: &[&str]) -> (LogName, Walked) {
        (
            name(file),
            Walked {
                outcome,
                expired: expired.iter().map(|text| name(text)).collect(),
                tells_of_heads: false,
            },
        )
    }

    fn known(heads: &[Head]) -> Known {
        let mut known = Known::default();
        heads.iter().for_each(|head| known.follow(head, &serde_json::to_vec(head).unwrap()));
        known
    }

    fn torn() -> Break {
        Break { damage: Damage::Dropped, line: 3, seq: 3, what: "gone".into() }
    }

    #[test]
    fn a_head_follows_the_one_before_and_tells_what_changed() {
        let first =
            next(&Known::default(), &at("2026-11-21T10:00:00Z"), [found(SERVE, Ok(place(5)), &[])].into());
        let first = first.unwrap();
        assert_eq!(
            (first.number, first.previous.as_str(), first.complete),
            (1, "0".repeat(64).as_str(), true)
        );
        assert_eq!(first.files[0].place(), Some(place(5)));
        let known_first = known(std::slice::from_ref(&first));
        let later = at("2026-11-21T11:00:00Z");
        assert_eq!(next(&known_first, &later, [found(SERVE, Ok(place(5)), &[])].into()), None);
        let second = next(&known_first, &later, [found(SERVE, Ok(place(6)), &[])].into()).unwrap();
        let text = serde_json::to_vec(&first).unwrap();
        assert_eq!((second.number, second.previous, second.complete), (2, digest(&text), false));
        let midnight = at("2026-11-22T00:00:00Z");
        let daily = next(&known_first, &midnight, [found(SERVE, Ok(place(5)), &[])].into()).unwrap();
        assert_eq!((daily.complete, daily.files), (true, first.files));
    }

    #[test]
    fn a_file_that_broke_or_went_away_is_told_once_a_day_and_keeps_its_seal() {
        let first =
            next(&Known::default(), &at("2026-11-21T10:00:00Z"), [found(SERVE, Ok(place(5)), &[])].into());
        let first = first.unwrap();
        let later = at("2026-11-21T11:00:00Z");
        let broken = || [found(SERVE, Err(torn()), &[])].into();
        let gone = BTreeMap::new;
        for found in [broken as fn() -> _, gone] {
            let second = next(&known(std::slice::from_ref(&first)), &later, found()).unwrap();
            assert_eq!((second.files.len(), second.broken.len()), (0, 1));
            let known_both = known(&[first.clone(), second]);
            assert_eq!(next(&known_both, &later, found()), None, "it is known");
            let daily = next(&known_both, &at("2026-11-22T01:00:00Z"), found()).unwrap();
            assert_eq!((&daily.files, daily.broken.len()), (&first.files, 1));
            let mended = [super::tests::found(SERVE, Ok(place(5)), &[])].into();
            let mended = next(&known_both, &later, mended).unwrap();
            assert!(known(&[first.clone(), mended]).broken.is_empty(), "put back as it was");
        }
    }

    #[test]
    fn a_first_head_over_records_of_heads_says_that_heads_were_removed() {
        let (file, walked) = found(SERVE, Ok(place(5)), &[]);
        let walked = Walked { tells_of_heads: true, ..walked };
        let making = at("2026-11-21T10:00:00Z");
        let first = next(&Known::default(), &making, [(file.clone(), walked.clone())].into()).unwrap();
        assert_eq!((first.number, first.broken.len()), (1, 1));
        assert_eq!(next(&known(&[first]), &making, [(file, walked)].into()).unwrap().broken, []);
    }

    #[test]
    fn a_file_may_go_when_its_time_has_passed_and_its_own_process_recorded_that() {
        let files = || [found(OLD, Ok(place(9)), &[]), found(SERVE, Ok(place(5)), &[])];
        let first = next(&Known::default(), &at("2026-11-21T10:00:00Z"), files().into()).unwrap();
        let known_first = known(&[first]);
        let later = at("2026-11-21T11:00:00Z");
        let told = next(&known_first, &later, [found(SERVE, Ok(place(6)), &[OLD])].into()).unwrap();
        assert_eq!((told.expired, told.broken), (vec![name(OLD)], vec![]));
        let early = Making { keep_days: 60, ..later.clone() };
        let head = next(&known_first, &early, [found(SERVE, Ok(place(6)), &[OLD])].into()).unwrap();
        assert_eq!((head.expired.len(), head.broken.len()), (0, 1), "before its time");
        let stranger = found("2026-11-21.work.zone-1.jsonl", Ok(place(6)), &[OLD]);
        let head = next(&known_first, &later, [found(SERVE, Ok(place(5)), &[]), stranger].into()).unwrap();
        assert_eq!((head.expired.len(), head.broken.len()), (0, 1), "by another process");
    }
}

//! Examines a folder of the access log from the public key alone: heads against their chain, copies against heads, day files
//! against heads. It needs no configuration, so an auditor can do it on a copy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::heads::{Heads, Kept};
use super::{EvidenceError, LogFolder, feed};
use crate::policy::chain::{Damage, Place, Walker};
use crate::policy::evidence::{Finding, Found, Trail};
use crate::policy::head::{day, digest};
use crate::policy::retention::LogName;
use crate::policy::signature::ZoneKey;

/// Heads come every hour.
const OVERDUE: SignedDuration = SignedDuration::from_hours(2);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Examination {
    /// Nothing was found to be wrong.
    pub intact: bool,
    /// Everything that is wrong; of each day file, the first place.
    pub findings: Vec<Finding>,
    /// The key by which heads were believed.
    pub key: String,
    /// How many heads were believed.
    pub heads: usize,
    /// When the last of them was signed.
    pub last_head: Option<Timestamp>,
    /// The day files.
    pub files: Vec<FileReport>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

/// A day file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileReport {
    /// Its name.
    pub file: LogName,
    /// Records up to which its chain holds.
    pub records: u64,
    /// How many of them no head has sealed yet.
    pub not_yet_sealed: u64,
    /// Lines that are no records: cut short by a crash, never acknowledged.
    pub torn_lines: u64,
}

/// Examines a folder. The copies were kept elsewhere.
pub fn examine(directory: &Path, key: &ZoneKey, copies: Vec<Kept>) -> Result<Examination, EvidenceError> {
    let folder = LogFolder::open(directory)?;
    let mut found = Vec::new();
    let (trail, heads) = follow(&folder, key, copies, &mut found)?;
    let names = folder.names()?;
    let mut examination = Examination {
        intact: false,
        findings: found,
        key: key.fingerprint(),
        heads,
        last_head: trail.known.last.as_ref().map(|(_, _, time)| *time),
        files: Vec::new(),
        notes: Vec::new(),
    };
    let present: BTreeSet<&LogName> = names.iter().collect();
    for name in trail.known.files.keys().filter(|name| !present.contains(name)) {
        if !trail.known.expired.contains(name) {
            let what = "the file is missing: heads have sealed it, and none says that its time had passed";
            examination.findings.push(Finding::of_file(name.to_string(), Damage::Missing, what));
        }
    }
    let mut last_record = None;
    for name in &names {
        let time = examination.file(&folder, &trail, name)?;
        last_record = last_record.max(time);
    }
    examination.remark(&trail, last_record);
    examination.intact = examination.findings.is_empty();
    Ok(examination)
}

/// The heads of the folder, one after the other; where one is gone or not to be believed, its copy.
fn follow(
    folder: &LogFolder,
    key: &ZoneKey,
    copies: Vec<Kept>,
    findings: &mut Vec<Finding>,
) -> Result<(Trail, usize), EvidenceError> {
    let mut all: BTreeMap<u64, Kept> = BTreeMap::new();
    if let Some(heads) = Heads::open(folder)? {
        for (number, month) in heads.numbers()? {
            all.insert(number, heads.read(number, &month)?);
        }
    }
    let last = all.keys().last().copied().unwrap_or(0);
    for copy in copies {
        if let Err(what) = found(&copy).believe(key) {
            findings.push(Finding::of_file(&copy.file, Damage::Forged, what));
            continue;
        }
        match all.get(&copy.number) {
            Some(head) if head.text == copy.text => continue,
            Some(head) => {
                let what = format!("is another than the copy of it, whose SHA-256 is {}", digest(&copy.text));
                findings.push(Finding::of_file(&head.file, Damage::Rewritten, what));
            }
            None => {
                let place = if copy.number > last { "at the end" } else { "between others" };
                let what = format!("head {} is missing {place}, but a copy of it was kept", copy.number);
                findings.push(Finding::of_file(&copy.file, Damage::Missing, what));
            }
        }
        all.insert(copy.number, copy);
    }
    let mut trail = Trail::from(1);
    all.values().for_each(|kept| trail.take(&found(kept), key));
    if all.is_empty() {
        let what = "there are no heads: nothing here is sealed, and nothing can be proved";
        findings.push(Finding::of_file("heads", Damage::Missing, what));
    }
    findings.append(&mut trail.findings);
    let believed = all.values().filter(|kept| found(kept).believe(key).is_ok()).count();
    Ok((trail, believed))
}

fn found(kept: &Kept) -> Found<'_> {
    Found { file: &kept.file, number: kept.number, text: &kept.text, signature: &kept.signature }
}

impl Examination {
    /// Examines a day file; gives the time of its last record.
    fn file(
        &mut self,
        folder: &LogFolder,
        trail: &Trail,
        name: &LogName,
    ) -> Result<Option<Timestamp>, EvidenceError> {
        let Some(mut file) = folder.file(name)? else { return Ok(None) };
        let seals = trail.seals.get(name).cloned().unwrap_or_default();
        let sealed = seals.last().map_or(0, |seal| seal.seq);
        if seals.is_empty() && self.last_head.is_some_and(|time| name.day < day(time)) {
            let what = "no head knows this file, although heads were signed after its day";
            self.findings.push(Finding::of_file(name.to_string(), Damage::Forged, what));
        }
        let mut walker = Walker::new(Place::START, seals);
        let mut last = String::new();
        let mut keep_time = |link: &crate::policy::chain::Link<'_>| {
            last.clear();
            last.push_str(link.time);
        };
        let has_no_end =
            feed(&mut file, &mut walker, &mut keep_time).map_err(|cause| folder.unread(name, cause))?;
        if has_no_end {
            self.notes
                .push(format!("{name}: its last line has no end: cut short, or being written just now"));
        }
        let (records, torn_lines) = (walker.place().seq, walker.torn());
        if let Err(found) = walker.finish() {
            self.findings.push(Finding::of_break(name, found));
        }
        let not_yet_sealed = records.saturating_sub(sealed);
        self.files.push(FileReport { file: name.clone(), records, not_yet_sealed, torn_lines });
        Ok(last.parse().ok())
    }

    fn remark(&mut self, trail: &Trail, last_record: Option<Timestamp>) {
        for incident in &trail.incidents {
            let (head, time, file, what) =
                (incident.head, incident.time, &incident.broken.file, &incident.broken.what);
            self.notes.push(format!("head {head}, signed {time}, tells of an incident: {file}: {what}"));
        }
        for file in self.files.iter().filter(|file| file.torn_lines > 0) {
            let (name, count) = (&file.file, file.torn_lines);
            self.notes.push(format!(
                "{name}: {count} line(s) are no records and the chain passes them by, as after a crash"
            ));
        }
        if let (Some(head), Some(record)) = (self.last_head, last_record)
            && record.duration_since(head) > OVERDUE
        {
            self.notes.push(format!(
                "the last head is of {head}, the last record of {record}: `work` did not run, or heads were removed; \
                 copies of heads (--heads) would tell"
            ));
        }
    }
}

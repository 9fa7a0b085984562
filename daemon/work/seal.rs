//! Seals the access logs of all processes in the log's folder: every hour, at the day's end, at start and at stop, it signs a
//! head. It seals only what continues what it sealed before, so a `serve` that was taken over can forge what it writes
//! from then on, and never what was sealed. What a head says is `policy::head`'s; keeping it `host::evidence`'s.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::civil::Date;

use super::Workshop;
use super::signer::SignError;
use crate::host::evidence::heads::{Heads, Kept};
use crate::host::evidence::{EvidenceError, LogFolder, copies};
use crate::host::log::LogError;
use crate::host::spool::SpoolError;
use crate::policy::evidence::{Found, Trail};
use crate::policy::head::{self, Head, Known, Making, day, digest};
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::retention::LogName;
use crate::policy::signature::{Namespace, ZoneKey};

/// Why the log could not be sealed; it is tried again in a minute.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Logs or heads could not be read or written.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A head that lies there is not ours.
    #[error("{0}; compare with a copy kept elsewhere: the heads of the access log were tampered with")]
    Forged(String),
    /// No signature.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A head has no form in JSON.
    #[error("a head of the access log cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// What was found could not be recorded.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A head could not be put beside the receipts.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What the sealing keeps in mind.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    /// The hour, since 1970, in which all was sealed last.
    hour: Option<i64>,
    /// What was broken already when this process began: an operator who starts it again has seen it.
    acknowledged: Option<BTreeMap<LogName, String>>,
    /// What the last failure was, to tell it once.
    failure: Option<String>,
}

/// Shared with readiness.
#[derive(Debug, Default)]
pub(super) struct Seals {
    working: Mutex<Sealing>,
    trouble: Mutex<Vec<String>>,
}

impl Seals {
    /// Why evidence is in danger; nothing when it is not.
    pub fn trouble(&self) -> Vec<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, trouble: Vec<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// The heads so far, as far as they matter for the next one.
struct Past {
    known: Known,
    /// The last that tells all.
    complete: Option<Kept>,
}

impl Workshop {
    /// Seals the logs if an hour began since they were sealed last. Blocks.
    pub(super) fn seal_when_due(&self) {
        let hour = self.clock.now().as_second().div_euclid(3600);
        // Another thread that seals now does it for this one too.
        let Ok(mut sealing) = self.seals.working.try_lock() else { return };
        if sealing.hour != Some(hour) {
            self.seal_and_tell(&mut sealing, hour);
        }
    }

    /// Seals the logs now. Blocks.
    pub(super) fn seal_now(&self) {
        let hour = self.clock.now().as_second().div_euclid(3600);
        let mut sealing = self.seals.working.lock().unwrap_or_else(PoisonError::into_inner);
        self.seal_and_tell(&mut sealing, hour);
    }

    fn seal_and_tell(&self, sealing: &mut Sealing, hour: i64) {
        match self.seal(sealing) {
            Ok(()) => (sealing.hour, sealing.failure) = (Some(hour), None),
            Err(error) => {
                let text = error.to_string();
                self.metrics.not_sealed();
                self.seals.tell(vec![format!("the access log is not sealed: {text}")]);
                if sealing.failure.as_ref() != Some(&text) {
                    tracing::error!(%error, "the access log could not be sealed; trying again");
                    // What makes this fail may be that the log cannot be written, which readiness tells too.
                    let record =
                        Record { detail: Some(text.clone()), ..Record::new(Event::Seal, Outcome::Failed) };
                    let _ = self.log.append(&record);
                }
                sealing.failure = Some(text);
            }
        }
    }

    fn seal(&self, sealing: &mut Sealing) -> Result<(), SealError> {
        let config = self.config();
        let directory = &config.machine.log.directory;
        let folder = LogFolder::open(directory)?;
        let heads = Heads::make(&folder)?;
        // Another node that shares this folder is sealing it.
        let Some(_lock) = heads.lock()? else { return Ok(()) };
        let key = self.signer.public();
        let mut past = past(&heads, &key)?;
        let acknowledged = sealing.acknowledged.get_or_insert_with(|| past.known.broken.clone()).clone();
        let making = Making {
            time: self.clock.now(),
            node: config.machine.node.clone(),
            keep_days: config.machine.log.keep_days,
        };
        let walked = walk(&folder, &past.known, making.time)?;
        if let Some(head) = head::next(&past.known, &making, walked) {
            let before = past.known.broken.clone();
            let kept = self.sign(&heads, &key, &head)?;
            past.known.follow(&head, &kept.text);
            self.record(&head, &kept, &before)?;
            if config.machine.log.heads_to.syslog {
                copies::tell_syslog(Path::new(copies::SYSLOG), &kept)?;
            }
            if head.complete {
                past.complete = Some(kept);
            }
        }
        let broken = &past.known.broken;
        let new = broken.iter().filter(|(file, what)| acknowledged.get(*file) != Some(*what));
        self.seals
            .tell(new.map(|(file, what)| format!("an incident in the access log: {file}: {what}")).collect());
        if let Some((_, _, time)) = &past.known.last {
            self.metrics.sealed(*time, broken.len());
        }
        self.send(&heads, past.complete.as_ref())
    }

    fn sign(&self, heads: &Heads, key: &ZoneKey, head: &Head) -> Result<Kept, SealError> {
        let mut text = serde_json::to_vec(head)?;
        text.push(b'\n');
        let signature = self.signer.sign(Namespace::LogHead, &text)?;
        if head.number == 1 {
            heads.keep_key(&key.allowed_signers())?;
        }
        heads.keep(head, &text, &signature)?;
        tracing::info!(head = head.number, files = head.files.len(), "the access log is sealed");
        Ok(Kept { number: head.number, file: String::new(), text, signature: signature.into_bytes() })
    }

    /// The day's head, so that the log itself tells that heads were there; and what was found to be wrong.
    fn record(&self, head: &Head, kept: &Kept, before: &BTreeMap<LogName, String>) -> Result<(), LogError> {
        for broken in &head.broken {
            if before.get(&broken.file) == Some(&broken.what) {
                continue;
            }
            let (file, what) = (broken.file.to_string(), broken.what.clone());
            tracing::error!(%file, %what, "INCIDENT: a log is not as it was sealed, or no chain; it stays at what was sealed");
            let record = Record::new(Event::Seal, Outcome::Failed);
            self.log.append(&Record { path: Some(file), detail: Some(what), ..record })?;
        }
        if head.complete {
            let detail = Some(format!("head {}", head.number));
            let sha256 = Some(digest(&kept.text));
            self.log.append(&Record { sha256, detail, ..Record::new(Event::Seal, Outcome::Ok) })?;
        }
        Ok(())
    }

    /// Sends heads to their second places; what did not arrive the last time, arrives now.
    fn send(&self, heads: &Heads, complete: Option<&Kept>) -> Result<(), SealError> {
        let config = self.config();
        let to = &config.machine.log.heads_to;
        if let Some(path) = &to.file {
            let last = copies::last_number(path)?;
            let missing = heads.numbers()?.into_iter().filter(|(number, _)| *number > last);
            let missing: Vec<Kept> =
                missing.map(|(number, month)| heads.read(number, &month)).collect::<Result<_, _>>()?;
            if !missing.is_empty() {
                copies::append(path, &missing)?;
            }
        }
        let Some((kept, head)) = complete
            .filter(|_| to.receipts)
            .and_then(|kept| Some((kept, serde_json::from_slice::<Head>(&kept.text).ok()?)))
        else {
            return Ok(());
        };
        let name = format!("log-{}.head", day(head.time));
        for (institution, exchange) in config.pairs() {
            for (name, text) in [(format!("{name}.sig"), &kept.signature), (name.clone(), &kept.text)] {
                self.spool.keep_beside_receipts(&institution, &exchange, (&name, text))?;
            }
        }
        Ok(())
    }
}

/// What the heads say that lie there: from the last one that tells all.
fn past(heads: &Heads, key: &ZoneKey) -> Result<Past, SealError> {
    let numbers = heads.numbers()?;
    let mut recent: Vec<Kept> = Vec::new();
    for (number, month) in numbers.iter().rev() {
        let kept = heads.read(*number, month)?;
        let is_complete = serde_json::from_slice::<Head>(&kept.text).is_ok_and(|head| head.complete);
        recent.push(kept);
        if is_complete {
            break;
        }
    }
    let first = recent.last().map_or(1, |kept| kept.number);
    let mut trail = Trail::from(first);
    for Kept { number, file, text, signature } in recent.iter().rev() {
        trail.take(&Found { file, number: *number, text, signature }, key);
    }
    if let Some(finding) = trail.findings.first() {
        return Err(SealError::Forged(format!("{} {}", finding.file, finding.what)));
    }
    Ok(Past { known: trail.known, complete: recent.pop() })
}

/// Follows every file from where it was sealed. Once a day, those of today and yesterday from their beginning.
fn walk(
    folder: &LogFolder,
    known: &Known,
    now: Timestamp,
) -> Result<BTreeMap<LogName, head::Walked>, EvidenceError> {
    let (today, last) = (day(now), known.last.as_ref());
    let is_new_day = last.is_none_or(|(_, _, time)| day(*time) != today);
    let is_recent = |day: Date| today.since(day).is_ok_and(|age| age.get_days() <= 1);
    let number = last.map_or(0, |(number, ..)| *number);
    let mut walked = BTreeMap::new();
    for name in folder.names()? {
        let wholly = is_new_day && is_recent(name.day);
        if let Some(found) = folder.walk(&name, (known.files.get(&name), number), wholly)? {
            walked.insert(name, found);
        }
    }
    Ok(walked)
}

#[cfg(test)]
mod tests;

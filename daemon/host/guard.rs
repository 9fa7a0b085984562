//! Guards what is deleted against a clock that is not to be believed: compares the clocks, keeps the time that was known last
//! over restarts, records what changes, and gives `Leave` to delete. What makes a clock unbelievable is `policy::trust`'s
//! question; what is deleted with a `Leave` that of those who ask for it.
//!
//! ```text
//! log/clock-‹process›.‹node›.json     one per process, which alone may replace it: the log's folder is sticky
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::log::{AccessLog, LogError};
use crate::policy::path::Slug;
use crate::policy::record::{Event, Line, Outcome, Record};
use crate::policy::retention::LogName;
use crate::policy::trust::{Leave, Reading, Standing, Trust, words};

/// How old what is on the disk may become while all is well: a crash makes a stop look longer by this.
const KEPT_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// More than any of these files holds, in bytes.
const SMALL: u64 = 4 << 10;
/// How far from the end of a log its last record is looked for, in bytes.
const TAIL: u64 = 128 << 10;
const BEGINNING: &str = "clock-";
const ENDING: &str = ".json";
const OWNER_WRITES: Mode = Mode::from_raw_mode(0o640);

/// Why what is known of the clock cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {cause}", path = path.display())]
pub struct GuardError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// What is known of a process's clock, as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Known {
    /// The last time that was believed; while deletions wait, what the clock should have said.
    pub time: Timestamp,
    /// Whether deletions wait.
    pub held: bool,
}

/// The same, of a process in a log folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Told {
    /// `serve` or `work`.
    pub process: Slug,
    /// The machine.
    pub node: Slug,
    /// What it knows.
    pub known: Known,
}

/// The guard of one process.
#[derive(Debug)]
pub struct Guard {
    directory: PathBuf,
    name: String,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    trust: Trust,
    /// What the disk has.
    written: Option<Known>,
    /// Whether the log says that deletions wait.
    is_recorded: bool,
    /// What the last failure was, to tell it once.
    failure: Option<String>,
}

impl Guard {
    /// Finds out what time was known last: what this process wrote, else the newest record of the log. To be called before
    /// this process writes a record. Blocks.
    pub fn open(
        directory: &Path,
        node: &Slug,
        process: &'static str,
        clock: Clock,
    ) -> Result<Self, GuardError> {
        let name = format!("{BEGINNING}{process}.{node}{ENDING}");
        let written = own(directory, &name)?;
        let known = match &written {
            Some(known) => Some((known.time, known.held)),
            None => newest_record(directory, process, node)?.map(|time| (time, false)),
        };
        let trust = Trust::begin(known, clock.reading());
        let state = State { trust, written, is_recorded: false, failure: None };
        Ok(Self { directory: directory.to_owned(), name, clock, state: Mutex::new(state) })
    }

    /// Looks at the clock, and gives leave to delete if it is to be believed. What changed since the look before is recorded;
    /// that deletions go on, before they do. Blocks.
    pub fn look(&self, log: &AccessLog) -> Option<Leave> {
        let mut state = self.state();
        let reading = self.clock.reading();
        let leave = match state.trust.judge(reading) {
            Standing::Steady(leave) => Some(leave),
            Standing::Jumped(off) => {
                state.trust.hold();
                let expected = state.trust.expected(reading.since_boot);
                tracing::warn!(
                    %expected, now = %reading.now, off = words(off),
                    "the clock is not where it should be, or this machine was off for more than a day: nothing is deleted \
                     until the clock comes back, or `dropzone clock confirm` says that it is right"
                );
                state.record_hold(log, (reading, off));
                None
            }
            Standing::Held(off) => {
                state.record_hold(log, (reading, off));
                None
            }
            Standing::CameBack => {
                let record = Record::new(Event::ClockJump, Outcome::Ok);
                let detail = Some("the clock is as expected again; deletions go on".to_owned());
                match log.append(&Record { detail, ..record }) {
                    Ok(()) => {
                        tracing::info!("the clock is as expected again; deletions go on");
                        state.believe(reading)
                    }
                    Err(_) => None,
                }
            }
        };
        self.keep(&mut state, reading);
        leave
    }

    /// An operator says that the clock is right. Gives what was done, in words. Blocks.
    pub fn confirm(&self, log: &AccessLog, operator: &str, reason: &str) -> Result<String, LogError> {
        let mut state = self.state();
        let reading = self.clock.reading();
        let off = match state.trust.judge(reading) {
            Standing::Steady(_) => {
                return Ok("the clock is where it should be; there was nothing to confirm".to_owned());
            }
            Standing::CameBack => SignedDuration::ZERO,
            Standing::Jumped(off) | Standing::Held(off) => off,
        };
        let (now, expected) = (reading.now, state.trust.expected(reading.since_boot));
        let detail = format!("{now} is right, {expected} was expected ({}): {reason}", words(off));
        log.append(&Record {
            operator: Some(operator.to_owned()),
            detail: Some(detail),
            ..Record::new(Event::Confirm, Outcome::Ok)
        })?;
        tracing::info!(%now, operator, "the clock was confirmed; deletions go on");
        let _ = state.believe(reading);
        self.keep(&mut state, reading);
        Ok(format!("{now} is right from now on; deletions go on"))
    }

    /// Whether deletions wait.
    pub fn is_held(&self) -> bool {
        self.state().trust.is_held()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is known, now and then and whenever it changed in kind. A failure delays nothing: what lies there is
    /// older then, and the next start waits rather than believes.
    fn keep(&self, state: &mut State, reading: Reading) {
        let held = state.trust.is_held();
        let time = if held { state.trust.expected(reading.since_boot) } else { reading.now };
        let known = Known { time, held };
        let is_kept = state.written.as_ref().is_some_and(|written| {
            written.held == held && known.time.duration_since(written.time).abs() < KEPT_EVERY
        });
        if is_kept {
            return;
        }
        match write(&self.directory, &self.name, &known) {
            Ok(()) => (state.written, state.failure) = (Some(known), None),
            Err(error) => {
                let text = error.to_string();
                if state.failure.as_ref() != Some(&text) {
                    tracing::error!(
                        %error,
                        "what time it is could not be kept for the next start, which may hold deletions back then"
                    );
                }
                state.failure = Some(text);
            }
        }
    }
}

impl State {
    fn believe(&mut self, reading: Reading) -> Option<Leave> {
        self.trust.believe(reading);
        self.is_recorded = false;
        match self.trust.judge(reading) {
            Standing::Steady(leave) => Some(leave),
            Standing::Jumped(_) | Standing::Held(_) | Standing::CameBack => None,
        }
    }

    /// Deletions wait also where that cannot be recorded yet.
    fn record_hold(&mut self, log: &AccessLog, (reading, off): (Reading, SignedDuration)) {
        if self.is_recorded {
            return;
        }
        let expected = self.trust.expected(reading.since_boot);
        let detail =
            format!("the clock is {} of the time expected, {expected}; nothing is deleted", words(off));
        let record = Record { detail: Some(detail), ..Record::new(Event::ClockJump, Outcome::Denied) };
        self.is_recorded = log.append(&record).is_ok();
    }
}

/// What the processes that write into a log folder know of their clocks.
pub fn told(directory: &Path) -> Result<Vec<Told>, GuardError> {
    let folder = open(directory)?;
    let mut all = Vec::new();
    for name in names(directory, &folder)? {
        let parts = name.strip_prefix(BEGINNING).and_then(|rest| rest.strip_suffix(ENDING));
        let Some((process, node)) = parts.and_then(|parts| parts.split_once('.')) else { continue };
        let (Ok(process), Ok(node)) = (Slug::parse(process), Slug::parse(node)) else { continue };
        if let Some((known, _)) = read(directory, &folder, &name)? {
            all.push(Told { process, node, known });
        }
    }
    all.sort_by(|one, other| (&one.node, &one.process).cmp(&(&other.node, &other.process)));
    Ok(all)
}

/// Leave for a command, which does not run long enough to know the clock itself: what `work` of this machine knows counts.
pub fn leave_of_work(directory: &Path, node: &Slug, clock: &Clock) -> Result<Option<Leave>, GuardError> {
    let name = format!("{BEGINNING}work.{node}{ENDING}");
    let Some((known, _)) = read(directory, &open(directory)?, &name)? else { return Ok(None) };
    let reading = clock.reading();
    Ok(match Trust::begin(Some((known.time, known.held)), reading).judge(reading) {
        Standing::Steady(leave) => Some(leave),
        Standing::Jumped(_) | Standing::Held(_) | Standing::CameBack => None,
    })
}

/// What this process wrote; a file that another user put there says nothing.
fn own(directory: &Path, name: &str) -> Result<Option<Known>, GuardError> {
    let Some((known, owner)) = read(directory, &open(directory)?, name)? else { return Ok(None) };
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(Some(known));
    }
    tracing::warn!(
        file = name,
        owner,
        "what is known of the clock belongs to another user, and is not believed"
    );
    Ok(None)
}

/// What a file says, and who owns it; none where there is none, or nothing that can be understood.
fn read(directory: &Path, folder: &OwnedFd, name: &str) -> Result<Option<(Known, u32)>, GuardError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed("open", directory, name)(error)),
    };
    let owner = rustix::fs::fstat(&file).map_err(failed("examine", directory, name))?.st_uid;
    let mut text = Vec::new();
    File::from(file).take(SMALL).read_to_end(&mut text).map_err(failed("read", directory, name))?;
    match serde_json::from_slice(&text) {
        Ok(known) => Ok(Some((known, owner))),
        Err(error) => {
            tracing::warn!(file = name, %error, "what is known of the clock cannot be read, and is not believed");
            Ok(None)
        }
    }
}

/// In place as a whole or not at all.
fn write(directory: &Path, name: &str, known: &Known) -> Result<(), GuardError> {
    let folder = open(directory)?;
    let temporary = format!(".{name}.new");
    let put = || -> io::Result<()> {
        match rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&folder, &temporary, flags, OWNER_WRITES)?);
        let mut text = serde_json::to_vec(known)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        rustix::fs::renameat(&folder, &temporary, &folder, name)?;
        Ok(rustix::fs::fsync(&folder)?)
    };
    put().map_err(failed("write", directory, name))
}

/// When the last record of the newest log was written: of this process if there is one, else of any. Nothing else is known
/// where this version runs for the first time.
fn newest_record(directory: &Path, process: &str, node: &Slug) -> Result<Option<Timestamp>, GuardError> {
    let folder = open(directory)?;
    let logs: Vec<LogName> =
        names(directory, &folder)?.iter().filter_map(|name| LogName::parse(name)).collect();
    let is_own = |name: &&LogName| name.process.as_str() == process && name.node == *node;
    let newest = logs.iter().filter(is_own).max().or_else(|| logs.iter().max());
    let Some(name) = newest else { return Ok(None) };
    let shown = name.to_string();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(&folder, &shown, flags, Mode::empty());
    let mut file = File::from(file.map_err(failed("open", directory, &shown))?);
    let last = last_time(&mut file).map_err(failed("read", directory, &shown))?;
    // Of a file without a record, its day is known.
    Ok(last.or_else(|| name.day.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| day.timestamp())))
}

fn last_time(file: &mut File) -> io::Result<Option<Timestamp>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    let mut lines = text.rsplit(|byte| *byte == b'\n');
    Ok(lines.find_map(|line| serde_json::from_slice::<Line>(line).ok()).map(|line| line.time))
}

fn names(directory: &Path, folder: &OwnedFd) -> Result<Vec<String>, GuardError> {
    let failed = |cause: Errno| GuardError { doing: "list", path: directory.to_owned(), cause: cause.into() };
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

fn open(directory: &Path) -> Result<OwnedFd, GuardError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(|cause| GuardError {
        doing: "open the folder",
        path: directory.to_owned(),
        cause: cause.into(),
    })
}

fn failed<E: Into<io::Error>>(
    doing: &'static str,
    directory: &Path,
    name: &str,
) -> impl FnOnce(E) -> GuardError {
    let path = directory.join(name);
    move |cause| GuardError { doing, path, cause: cause.into() }
}

#[cfg(test)]
mod tests;

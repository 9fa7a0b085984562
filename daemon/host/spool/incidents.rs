//! Incidents, until operators close them and some time after: `incidents/‹id›.json`, one for each case, and how far the access log
//! was read for signs of them in `incidents/position.json`. The folder is `work`'s own: `serve` reads it at most, for what a
//! process that was taken over did must not be its to close. What a case is, is `policy::incident`'s question.
//!
//! Whoever changes anything holds the casebook, which one process on one node does at a time. A case is written before the position
//! that goes past its signs, and knows itself what it has counted: what a crash has read again counts once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use rustix::fs::{FlockOperation, Mode, flock, fstat};
use rustix::io::Errno;

use super::small::DESCRIPTION_MAX;
use super::{Attempt, Directory, Spool, SpoolError, is_ours, is_unfinished, to_json, write_durably};
use crate::policy::incident::case::{Case, CaseId};
use crate::policy::retention::LogName;

/// The folder, below the spool.
const INCIDENTS: &str = "incidents";
/// Its owner alone changes anything in it.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o2750);
const ENDING: &str = ".json";
const POSITION: &str = "position.json";
const LOCK: &str = ".lock";
/// More than any position holds, in bytes.
const POSITION_MAX: u64 = 4 << 20;

/// How far the access log was read, in bytes of each day file.
pub type Position = BTreeMap<LogName, u64>;

/// Cases, as they lie there.
#[derive(Debug, Default)]
pub struct Cases {
    /// By their ids.
    pub read: Vec<Case>,
    /// Files that are none, or somebody else's, and what is wrong with them.
    pub unreadable: Vec<SpoolError>,
}

/// The right to change cases, as long as it is held.
#[derive(Debug)]
pub struct Casebook {
    folder: Directory,
    _lock: File,
}

impl Spool {
    /// At the start of `work`: makes the folder, and refuses one that is somebody else's.
    pub fn own_incidents(&self) -> Result<(), SpoolError> {
        self.incidents_folder().map(drop)
    }

    /// All cases but those that `is_passed_by`, oldest day first. For looking: changes nothing.
    pub fn incidents(&self, is_passed_by: impl Fn(&CaseId) -> bool) -> Result<Cases, SpoolError> {
        cases_in(&self.top, is_passed_by)
    }

    /// Takes the right to change cases; none while another process, or another thread of this one, has it.
    pub fn casebook(&self) -> Result<Option<Casebook>, SpoolError> {
        let folder = self.incidents_folder()?;
        let what = || format!("{INCIDENTS}/{LOCK}");
        let file = match folder.file_to_write(LOCK) {
            // Whoever can open it can hold it, and then no case is ever opened again.
            Err(Errno::NOENT) => match folder.create_private(LOCK) {
                Err(Errno::EXIST) => return Ok(None),
                made => made,
            },
            there => there,
        };
        let file = file.attempt("open", what)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked.attempt("lock", what)?,
        }
        Ok(Some(Casebook { folder, _lock: file }))
    }

    fn incidents_folder(&self) -> Result<Directory, SpoolError> {
        let folder = match self.top.directory(INCIDENTS) {
            Err(Errno::NOENT) => self.top.make_with_mode(INCIDENTS, FOLDER_MODE),
            other => other,
        };
        let folder = folder.attempt("make", || INCIDENTS.to_owned())?;
        let facts = folder.stat_self().attempt("examine", || INCIDENTS.to_owned())?;
        if is_ours(&facts) && facts.st_mode & 0o022 == 0 {
            return Ok(folder);
        }
        Err(SpoolError::Unfit(format!(
            "the folder {INCIDENTS} of the spool {} belongs to user {} with mode {:04o}, and only the user that runs `work` may write \
             there: find out who made it so; then, with both sides stopped, chown it with all in it to that user and chmod it to 2750",
            self.path.display(),
            facts.st_uid,
            facts.st_mode & 0o7777
        )))
    }
}

/// Those in a spool, but those that `is_passed_by`.
pub fn cases_in(top: &Directory, is_passed_by: impl Fn(&CaseId) -> bool) -> Result<Cases, SpoolError> {
    let mut cases = Cases::default();
    let folder = match top.directory(INCIDENTS) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(cases),
        Err(error) => return Err(error).attempt("open", || INCIDENTS.to_owned()),
    };
    for id in ids(&folder)?.iter().filter(|id| !is_passed_by(id)) {
        match read(&folder, id) {
            Ok(case) => cases.read.extend(case),
            Err(error) => cases.unreadable.push(error),
        }
    }
    Ok(cases)
}

impl Casebook {
    /// The cases that are there, oldest day first. What a crash left half-written goes: nobody else writes now.
    pub fn ids(&self) -> Result<Vec<CaseId>, SpoolError> {
        let mut left = Vec::new();
        let note = |name: &str| left.extend(is_unfinished(name).then(|| name.to_owned()));
        self.folder.each_name(note).attempt("list", || INCIDENTS.to_owned())?;
        for name in left {
            self.folder.remove_if_there(&name).attempt("remove", || format!("{INCIDENTS}/{name}"))?;
        }
        ids(&self.folder)
    }

    /// One of them; none if it is gone.
    pub fn case(&self, id: &CaseId) -> Result<Option<Case>, SpoolError> {
        read(&self.folder, id)
    }

    /// Keeps it as it is now, durably.
    pub fn keep(&self, case: &Case) -> Result<(), SpoolError> {
        write_durably(&self.folder, &format!("{}{ENDING}", case.id), &to_json(case)?)
    }

    /// Removes it, durably.
    pub fn remove(&self, id: &CaseId) -> Result<(), SpoolError> {
        let name = format!("{id}{ENDING}");
        let removed = self.folder.remove_if_there(&name).and_then(|()| self.folder.sync());
        removed.attempt("remove", || format!("{INCIDENTS}/{name}"))
    }

    /// How far the log was read. Without an answer, from the beginning: what is read again counts once.
    pub fn position(&self) -> Result<Position, SpoolError> {
        let file = match self.folder.file(POSITION) {
            Err(Errno::NOENT) => return Ok(Position::new()),
            there => there.attempt("open", || POSITION.to_owned())?,
        };
        let mut text = Vec::new();
        file.take(POSITION_MAX).read_to_end(&mut text).attempt("read", || POSITION.to_owned())?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Keeps it, durably.
    pub fn keep_position(&self, position: &Position) -> Result<(), SpoolError> {
        write_durably(&self.folder, POSITION, &to_json(position)?)
    }
}

fn ids(folder: &Directory) -> Result<Vec<CaseId>, SpoolError> {
    let mut ids = Vec::new();
    let note = |name: &str| ids.extend(name.strip_suffix(ENDING).and_then(CaseId::parse));
    folder.each_name(note).attempt("list", || INCIDENTS.to_owned())?;
    ids.sort();
    Ok(ids)
}

fn read(folder: &Directory, id: &CaseId) -> Result<Option<Case>, SpoolError> {
    let name = format!("{id}{ENDING}");
    let what = || format!("{INCIDENTS}/{name}");
    let file = match folder.file(&name) {
        Err(Errno::NOENT) => return Ok(None),
        there => there.attempt("open", what)?,
    };
    let facts = fstat(&file).attempt("examine", what)?;
    // By the folder's owner: operators of the zone's group read here too.
    let owner = folder.stat_self().attempt("examine", || INCIDENTS.to_owned())?.st_uid;
    let unreadable = |cause: String| SpoolError::Unreadable { what: what(), cause };
    if facts.st_uid != 0 && facts.st_uid != owner || facts.st_mode & 0o022 != 0 {
        return Err(unreadable(format!("user {} may have written it, and not `work`", facts.st_uid)));
    }
    let mut text = Vec::new();
    file.take(DESCRIPTION_MAX).read_to_end(&mut text).attempt("read", what)?;
    let case: Case = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    if &case.id == id { Ok(Some(case)) } else { Err(unreadable(format!("it describes {}", case.id))) }
}

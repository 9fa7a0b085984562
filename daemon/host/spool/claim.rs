//! What a worker does with an arrival: claim it, stage results beside it, deliver them, and move it on. A claim is a
//! rename into `active`; whoever's rename succeeds has it.

use std::fs::File;

use jiff::Timestamp;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{
    Attempt, Directory, PAYLOAD, Spool, SpoolError, exists_or, read_arrival, read_json, to_json,
    write_durably,
};
use crate::policy::arrival::{Arrival, ArrivalId, State};
use crate::policy::path::{Name, Slug};
use crate::policy::reason::Reason;

/// Why an arrival is held.
pub(super) const HOLD: &str = "hold.json";
pub(super) const TRIES: &str = "tries.json";

/// Lies beside a held arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HoldNote {
    /// Why.
    pub reason: Reason,
    /// What an operator needs to know beyond it; never a value from the list.
    pub detail: String,
}

const NOW: Timestamps = Timestamps { last_access: NOW_SPEC, last_modification: NOW_SPEC };
const NOW_SPEC: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tries {
    tries: u32,
}

/// An arrival that this worker has, until one of `finish`, `defer`, `hold` and `release` succeeds. Dropping it before
/// leaves it in `active`, as a crash would.
#[derive(Debug)]
pub struct Claim<'a> {
    spool: &'a Spool,
    id: ArrivalId,
    folder: Directory,
    tries: u32,
}

impl Spool {
    /// Moves an arrival to `active`. `None` where another worker was first.
    pub fn claim(&self, from: State, id: &ArrivalId) -> Result<Option<Claim<'_>>, SpoolError> {
        let (name, active) = (id.to_string(), self.state(State::Active));
        match self.state(from).move_to(&name, active, &name) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(exists_or(error, || name, "claim")),
        }
        let claim = self.claimed(id).inspect_err(|_| {
            // What was not opened was not claimed. If this fails too, the next start recovers it.
            let _ = active.move_to(&name, self.state(from), &name);
        });
        claim.map(Some)
    }

    fn claimed(&self, id: &ArrivalId) -> Result<Claim<'_>, SpoolError> {
        let name = id.to_string();
        let folder = self.state(State::Active).directory(&name).attempt("open", || name)?;
        // An operator released it by moving the folder.
        folder.remove_if_there(HOLD).attempt("remove", || HOLD.to_owned())?;
        // A count that cannot be read is no reason to leave the arrival behind: it counts anew.
        let tries = read_json::<Tries>(&folder, TRIES).map_or(0, |tries| tries.tries);
        Ok(Claim { spool: self, id: id.clone(), folder, tries })
    }

    /// At start, before any claim: what a crash left in `active` goes back to `incoming`. The try counts, for the arrival
    /// itself may be what ended the process.
    pub fn recover(&self) -> Result<Recovered, SpoolError> {
        let mut recovered = Recovered::default();
        for id in self.list(State::Active)? {
            match self.put_back(&id) {
                Ok(()) => recovered.ids.push(id),
                Err(error) => recovered.failures.push((id, error)),
            }
        }
        Ok(recovered)
    }

    /// Moves an arrival that nobody works on any more from `active` to `incoming`, and counts its try.
    pub fn put_back(&self, id: &ArrivalId) -> Result<(), SpoolError> {
        let (name, active, incoming) =
            (id.to_string(), self.state(State::Active), self.state(State::Incoming));
        let counted = active.directory(&name).attempt("open", || name.clone()).and_then(|folder| {
            let tries = read_json::<Tries>(&folder, TRIES).map_or(0, |tries| tries.tries).saturating_add(1);
            write_durably(&folder, TRIES, &to_json(&Tries { tries })?)
        });
        active.move_to(&name, incoming, &name).map_err(|error| exists_or(error, || name, "recover"))?;
        incoming.sync().and_then(|()| active.sync()).attempt("sync", || "incoming".to_owned())?;
        // An arrival that waits uncounted is better than one that nobody sees.
        counted
    }
}

/// What a start found in `active`.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Back in `incoming`.
    pub ids: Vec<ArrivalId>,
    /// Those that could not be moved back, or not be counted.
    pub failures: Vec<(ArrivalId, SpoolError)>,
}

impl Claim<'_> {
    /// Which arrival.
    pub fn id(&self) -> &ArrivalId {
        &self.id
    }

    /// Its description.
    pub fn arrival(&self) -> Result<Arrival, SpoolError> {
        read_arrival(&self.folder, &self.id)
    }

    /// Its encrypted file.
    pub fn payload(&self) -> Result<File, SpoolError> {
        self.folder.file(PAYLOAD).attempt("open", || format!("{}/{PAYLOAD}", self.id))
    }

    /// Tries before this one.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// A new, empty file for a receiver's result, in the arrival's folder.
    pub fn stage(&self, receiver: &Slug) -> Result<File, SpoolError> {
        let name = staged(receiver);
        self.folder.create_anew(&name).attempt("make", || format!("{}/{name}", self.id))
    }

    /// The payload itself as a receiver's result.
    pub fn stage_payload(&self, receiver: &Slug) -> Result<(), SpoolError> {
        let name = staged(receiver);
        self.folder
            .remove_if_there(&name)
            .and_then(|()| self.folder.link(PAYLOAD, &self.folder, &name))
            .attempt("link", || format!("{}/{name}", self.id))?;
        // How long a result is kept counts from its delivery, and the link still has the time of its upload.
        let file = self.folder.file_to_write(&name);
        file.and_then(|file| futimens(file, &NOW))
            .attempt("set the time of", || format!("{}/{name}", self.id))
    }

    /// Puts a staged result into the receiver's outbox, durably. One that is already there under this name, which derives
    /// from the arrival, is this delivery: a crash came between it and the end of the job.
    pub fn deliver(&self, receiver: &Slug, name: &Name) -> Result<(), SpoolError> {
        let staged = staged(receiver);
        let what = || format!("{}/{staged}", self.id);
        let file = self.folder.file(&staged).attempt("open", what)?;
        file.sync_all().attempt("sync", what)?;
        let outbox = self.spool.outbox_of(receiver, self.id.exchange())?;
        match self.folder.move_to(&staged, &outbox, name.as_str()) {
            Ok(()) => {}
            Err(Errno::EXIST) => self.folder.remove(&staged).attempt("remove", what)?,
            Err(error) => return Err(error).attempt("deliver", what),
        }
        outbox.sync().and_then(|()| self.folder.sync()).attempt("sync", what)
    }

    /// Delivered: to `done`.
    pub fn finish(&self) -> Result<(), SpoolError> {
        self.clear_staged()?;
        self.forget_tries()?;
        self.move_on(State::Done)
    }

    /// To be tried again: to `deferred`, due at `until`, which is the modification time of its `tries.json`.
    pub fn defer(&self, until: Timestamp, tries: u32) -> Result<(), SpoolError> {
        self.clear_staged()?;
        write_durably(&self.folder, TRIES, &to_json(&Tries { tries })?)?;
        self.set_due(until)?;
        self.move_on(State::Deferred)
    }

    /// An operator must look: to `hold`, with the reason beside it. Moved back to `incoming`, it starts anew.
    pub fn hold(&self, reason: &Reason, detail: &str) -> Result<(), SpoolError> {
        self.clear_staged()?;
        let note = HoldNote { reason: reason.clone(), detail: detail.to_owned() };
        write_durably(&self.folder, HOLD, &to_json(&note)?)?;
        self.forget_tries()?;
        self.move_on(State::Hold)
    }

    /// Not now: to `incoming`, with the tries it had.
    pub fn release(&self) -> Result<(), SpoolError> {
        self.clear_staged()?;
        self.move_on(State::Incoming)
    }

    fn forget_tries(&self) -> Result<(), SpoolError> {
        self.folder.remove_if_there(TRIES).attempt("remove", || TRIES.to_owned())
    }

    fn clear_staged(&self) -> Result<(), SpoolError> {
        for entry in self.folder.entries().attempt("list", || self.id.to_string())? {
            if entry.name.starts_with("result-") || entry.name.ends_with(".new") {
                self.folder.remove_if_there(&entry.name).attempt("remove", || entry.name.clone())?;
            }
        }
        Ok(())
    }

    /// On a file that this process made: a time can only be set by its owner, and the folder is `serve`'s.
    fn set_due(&self, at: Timestamp) -> Result<(), SpoolError> {
        let stamp = Timespec { tv_sec: at.as_second(), tv_nsec: 0 };
        let times = Timestamps { last_access: stamp, last_modification: stamp };
        self.folder
            .file_to_write(TRIES)
            .and_then(|file| futimens(file, &times))
            .attempt("set the time of", || format!("{}/{TRIES}", self.id))
    }

    fn move_on(&self, state: State) -> Result<(), SpoolError> {
        let name = self.id.to_string();
        let (active, target) = (self.spool.state(State::Active), self.spool.state(state));
        active.move_to(&name, target, &name).map_err(|error| exists_or(error, || name.clone(), "move"))?;
        target.sync().and_then(|()| active.sync()).attempt("sync", || name.clone())
    }
}

fn staged(receiver: &Slug) -> String {
    format!("result-{receiver}.age")
}

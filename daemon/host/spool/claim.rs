//! What a worker does with an arrival: claim it, work on it, and move it on. A claim is a rename into `active`, under a name
//! that says whose it is; whoever's rename succeeds has it. What leaves a claimed arrival is `staging`'s, how a process
//! shows that it lives `nodes`'s.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{MutexGuard, PoisonError};

use jiff::Timestamp;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::expire::EXPIRED;
use super::{
    Attempt, Directory, PAYLOAD, Spool, SpoolError, exists_or, random, read_arrival, read_json, to_json,
    write_durably,
};
use crate::policy::arrival::{Arrival, ArrivalId, State};
use crate::policy::lease::Claimed;
use crate::policy::reason::Reason;

/// Why an arrival is held.
pub(super) const HOLD: &str = "hold.json";
pub(super) const TRIES: &str = "tries.json";
/// There while a job runs.
pub(super) const BEGUN: &str = "begun";

/// Lies beside a held arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HoldNote {
    /// Why.
    pub reason: Reason,
    /// What an operator needs to know beyond it; never a value from the list.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Tries {
    tries: u32,
    /// It was there when a process ended in the middle of its jobs. From then on it runs alone, and only what happens then
    /// counts as its doing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    suspect: bool,
}

/// An arrival that this worker has, until one of `finish`, `defer`, `hold` and `release` succeeds, or another takes it over.
/// Dropping it before leaves it in `active`, as a crash would.
#[derive(Debug)]
pub struct Claim<'a> {
    place: Place<'a>,
    name: String,
    nonce: String,
    folder: Directory,
    tries: Tries,
}

/// No two threads of this process have the same arrival: its name in `active` would be the same for both.
#[derive(Debug)]
struct Place<'a> {
    spool: &'a Spool,
    id: ArrivalId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.spool.in_hand().remove(&self.id);
    }
}

impl Spool {
    /// Moves an arrival to `active`. `None` where another worker was first.
    pub fn claim(&self, from: State, id: &ArrivalId) -> Result<Option<Claim<'_>>, SpoolError> {
        let Some(place) = self.take_place(id) else { return Ok(None) };
        let (name, own, active) = (id.to_string(), self.own_name(id), self.state(State::Active));
        match self.state(from).move_to(&name, active, &own) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(exists_or(error, || name, "claim")),
        }
        let claim = self.claimed(place, own.clone()).inspect_err(|_| {
            // What was not opened was not claimed. If this fails too, it is put back when this process has ended.
            let _ = active.move_to(&own, self.state(from), &name);
        });
        claim.map(Some)
    }

    fn claimed<'a>(&'a self, place: Place<'a>, name: String) -> Result<Claim<'a>, SpoolError> {
        let folder = self.state(State::Active).directory(&name).attempt("open", || name.clone())?;
        let nonce = format!("{:016x}", random());
        let mut claim = Claim { place, name, nonce, folder, tries: Tries::default() };
        // An operator released it by moving the folder.
        claim.remove(HOLD)?;
        claim.settle()?;
        // A count that cannot be read is no reason to leave the arrival behind: it counts anew.
        claim.tries = read_json(&claim.folder, TRIES).unwrap_or_default();
        Ok(claim)
    }

    /// What lies in `active`, and whose it is.
    pub fn claims(&self) -> Result<Vec<Claimed>, SpoolError> {
        let entries = self.state(State::Active).entries().attempt("list", || "active".to_owned())?;
        let mut claims: Vec<_> = entries.iter().filter_map(|entry| Claimed::parse(&entry.name)).collect();
        claims.sort_unstable();
        Ok(claims)
    }

    /// Makes another's claim one of this process, from where `put_back` takes it on. Whether this process was the first.
    pub fn take_over(&self, claimed: &Claimed) -> Result<bool, SpoolError> {
        let (name, active) = (claimed.to_string(), self.state(State::Active));
        match active.move_to(&name, active, &self.own_name(&claimed.id)) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(exists_or(error, || name, "take over")),
        }
    }

    /// Whether this process has claimed it, and not moved it on.
    pub fn has_claimed(&self, id: &ArrivalId) -> bool {
        self.state(State::Active).stat(&self.own_name(id)).is_ok()
    }

    /// Moves an arrival that nobody works on any more from this process's claims to `incoming`. If its job had begun, that
    /// may be its own doing, and is noted.
    pub fn put_back(&self, id: &ArrivalId) -> Result<(), SpoolError> {
        let Some(_place) = self.take_place(id) else { return Err(SpoolError::Busy(id.to_string())) };
        let (name, own) = (id.to_string(), self.own_name(id));
        let (active, incoming) = (self.state(State::Active), self.state(State::Incoming));
        let counted =
            active.directory(&own).attempt("open", || own.clone()).and_then(|folder| blame(&folder));
        let mut moved = active.move_to(&own, incoming, &name);
        if moved == Err(Errno::EXIST) && self.is_there(State::Incoming, id)? {
            self.set_aside(State::Incoming, &name, id)?;
            moved = active.move_to(&own, incoming, &name);
        }
        moved.map_err(|error| exists_or(error, || name, "recover"))?;
        incoming.sync().and_then(|()| active.sync()).attempt("sync", || "incoming".to_owned())?;
        // An arrival that waits uncounted is better than one that nobody sees.
        counted
    }

    /// An arrival, and not just something of that name that is in the way.
    fn is_there(&self, state: State, id: &ArrivalId) -> Result<bool, SpoolError> {
        match self.arrival(state, id) {
            Ok(_) => Ok(true),
            Err(SpoolError::Unreadable { .. }) => Ok(false),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Of an arrival that lies in two states, as a broken file system or a hand-made copy leaves it: takes the one that does not
    /// count out of the way. It goes when the retention of finished arrivals says so, and that is recorded then.
    fn set_aside(&self, from: State, name: &str, id: &ArrivalId) -> Result<(), SpoolError> {
        let (folder, done, aside) = (self.state(from), self.state(State::Done), format!("{id}{EXPIRED}"));
        match folder.move_to(name, done, &aside) {
            Ok(()) => {
                tracing::warn!(arrival = %id, state = from.as_str(), "lay in two states; one was set aside")
            }
            // Nobody is in the way any more.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(exists_or(error, || aside, "set aside")),
        }
        done.sync().and_then(|()| folder.sync()).attempt("sync", || aside)
    }

    fn own_name(&self, id: &ArrivalId) -> String {
        Claimed { id: id.clone(), owner: Some(self.me().clone()) }.to_string()
    }

    fn take_place(&self, id: &ArrivalId) -> Option<Place<'_>> {
        let is_new = self.in_hand().insert(id.clone());
        is_new.then(|| Place { spool: self, id: id.clone() })
    }

    fn in_hand(&self) -> MutexGuard<'_, BTreeSet<ArrivalId>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The simplest rule by which an innocent list that shared a process with a bad one is not held for it: the first time it
/// is only suspected, and runs alone from then on; what ends the process then is its own doing, and counts.
fn blame(folder: &Directory) -> Result<(), SpoolError> {
    if folder.stat(BEGUN).is_err() {
        return Ok(());
    }
    let before: Tries = read_json(folder, TRIES).unwrap_or_default();
    let tries = before.tries.saturating_add(u32::from(before.suspect));
    write_durably(folder, TRIES, &to_json(&Tries { tries, suspect: true })?)
}

impl<'a> Claim<'a> {
    /// Which arrival.
    pub fn id(&self) -> &ArrivalId {
        &self.place.id
    }

    /// Its description.
    pub fn arrival(&self) -> Result<Arrival, SpoolError> {
        read_arrival(&self.folder, self.id())
    }

    /// Its encrypted file.
    pub fn payload(&self) -> Result<File, SpoolError> {
        self.folder.file(PAYLOAD).attempt("open", || format!("{}/{PAYLOAD}", self.id()))
    }

    /// Tries before this one.
    pub fn tries(&self) -> u32 {
        self.tries.tries
    }

    /// Whether it may have ended a process, and is to run without others beside it.
    pub fn is_suspect(&self) -> bool {
        self.tries.suspect
    }

    /// Marks that its job begins: if the process ends now, that may be its doing. Not synced: a power cut is nobody's.
    pub fn begin(&self) -> Result<(), SpoolError> {
        self.make(BEGUN).map(drop)
    }

    /// Whether the same arrival lies where it has come to its end already. That happens after a power cut on a file system
    /// whose renames can come back half, and where somebody copied the folder.
    pub fn has_ended_before(&self) -> Result<bool, SpoolError> {
        for state in [State::Done, State::Refused] {
            if self.spool().is_there(state, self.id())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// To where what lay in two states waits for its removal: nothing is done with it any more.
    pub fn set_aside(&self) -> Result<(), SpoolError> {
        self.spool().set_aside(State::Active, &self.name, self.id())
    }

    /// Delivered: to `done`. The notes of what was delivered go with it.
    pub fn finish(&self) -> Result<(), SpoolError> {
        self.settle()?;
        self.remove(TRIES)?;
        self.move_on(State::Done)
    }

    /// To be tried again: to `deferred`, due at `until`, which is the modification time of its `tries.json`.
    pub fn defer(&self, until: Timestamp, tries: u32) -> Result<(), SpoolError> {
        self.settle()?;
        // It came to an end in order, so it is no suspect any more.
        self.write(TRIES, &to_json(&Tries { tries, suspect: false })?)?;
        self.set_time(TRIES, until)?;
        self.move_on(State::Deferred)
    }

    /// An operator must look: to `hold`, with the reason beside it. Moved back to `incoming`, it starts anew.
    pub fn hold(&self, reason: &Reason, detail: &str) -> Result<(), SpoolError> {
        self.settle()?;
        let note = HoldNote { reason: reason.clone(), detail: detail.to_owned() };
        self.write(HOLD, &to_json(&note)?)?;
        self.remove(TRIES)?;
        self.move_on(State::Hold)
    }

    /// Not now: to `incoming`, with the tries it had.
    pub fn release(&self) -> Result<(), SpoolError> {
        self.settle()?;
        self.move_on(State::Incoming)
    }

    fn move_on(&self, state: State) -> Result<(), SpoolError> {
        let name = self.id().to_string();
        let (active, target) = (self.spool().state(State::Active), self.spool().state(state));
        let mut moved = active.move_to(&self.name, target, &name);
        let may_give_way = matches!(state, State::Incoming | State::Deferred | State::Hold);
        if moved == Err(Errno::EXIST) && may_give_way && self.spool().is_there(state, self.id())? {
            self.spool().set_aside(state, &name, self.id())?;
            moved = active.move_to(&self.name, target, &name);
        }
        match moved {
            Err(error @ (Errno::EXIST | Errno::NOTEMPTY)) => return Err(exists_or(error, || name, "move")),
            moved => self.fenced(moved, "move", "")?,
        }
        target.sync().and_then(|()| active.sync()).attempt("sync", || name)
    }

    pub(super) fn spool(&self) -> &'a Spool {
        self.place.spool
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Of this claim alone: what two tries stage never has the same name.
    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// For reading, and for syncing what was done by name.
    pub(super) fn folder(&self) -> &Directory {
        &self.folder
    }
}

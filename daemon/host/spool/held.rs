//! What an operator does with an arrival that waits: released, it goes back to `incoming`; retried, a deferred one is due at
//! once; discarded, its payload is removed and its description stays in `refused`. Whether it may be done, and its record and
//! receipt, are `work::held`'s business.
//!
//! Each of them begins with a rename that only one can win, on any node. A discard takes several steps: the folder's name
//! `hold/‹id›.discard` says that it is decided, so that whoever finds it there carries it through.

use jiff::Timestamp;
use rustix::fs::FileType;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::claim::HOLD;
use super::staging::is_note;
use super::{
    ARRIVAL, Attempt, Directory, PAYLOAD, Spool, SpoolError, exists_or, read_arrival, read_own_json, to_json,
    write_durably,
};
use crate::policy::arrival::{Arrival, ArrivalId, DISCARDING, State};
use crate::policy::reason::Reason;

/// Who discarded an arrival, and why.
const DISCARD: &str = "discard.json";
/// What is kept of a discarded arrival, as evidence.
const KEPT: [&str; 3] = [ARRIVAL, HOLD, DISCARD];

/// Lies beside a discarded arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiscardNote {
    /// Which arrival.
    pub arrival: ArrivalId,
    /// Who decided it.
    pub operator: String,
    /// Why, in the operator's words.
    pub reason: String,
    /// When, UTC.
    pub at: Timestamp,
    /// What its sender is told; none: that an operator discarded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Reason>,
}

/// An arrival that is being discarded.
#[derive(Debug)]
pub struct Discarding<'a> {
    spool: &'a Spool,
    id: ArrivalId,
    folder: Directory,
}

impl Spool {
    /// Whether an arrival is in a state at this moment.
    pub fn is_in(&self, state: State, id: &ArrivalId) -> bool {
        self.state(state).stat(&id.to_string()).is_ok()
    }

    /// Whether an arrival, or what describes it, is this user's, who handed it in: `serve`'s, where that has a user of its own.
    pub fn is_handed_in_by(&self, state: State, id: &ArrivalId, user: u32) -> bool {
        if user == 0 || user == rustix::process::geteuid().as_raw() {
            return false;
        }
        let Ok(folder) = self.state(state).directory(&id.to_string()) else { return false };
        let facts = [folder.stat_self(), folder.stat(PAYLOAD), folder.stat(ARRIVAL)];
        facts.into_iter().flatten().any(|facts| facts.st_uid == user)
    }

    /// Moves a held arrival back to `incoming`, where its tries count anew. Whether it was still held.
    pub fn release(&self, id: &ArrivalId) -> Result<bool, SpoolError> {
        self.back_to_incoming(State::Hold, id)
    }

    /// Moves a deferred arrival back to `incoming`, with the tries it had. Whether it was still deferred.
    pub fn retry(&self, id: &ArrivalId) -> Result<bool, SpoolError> {
        self.back_to_incoming(State::Deferred, id)
    }

    fn back_to_incoming(&self, from: State, id: &ArrivalId) -> Result<bool, SpoolError> {
        let name = id.to_string();
        let (from, incoming) = (self.state(from), self.state(State::Incoming));
        match from.move_to(&name, incoming, &name) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(exists_or(error, || name, "move")),
        }
        incoming.sync().and_then(|()| from.sync()).attempt("sync", || name)?;
        Ok(true)
    }

    /// Decides that a held arrival is discarded, durably: from here on nobody works on it. `None` if it is not held any more.
    pub fn begin_discard(
        &self,
        id: &ArrivalId,
        note: &DiscardNote,
    ) -> Result<Option<Discarding<'_>>, SpoolError> {
        let name = id.to_string();
        match self.state(State::Hold).directory(&name) {
            Ok(folder) => self.decide_discard(folder, id, note),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).attempt("open", || name),
        }
    }

    /// Of the one who has opened the folder; meanwhile somebody else may have moved it.
    fn decide_discard(
        &self,
        folder: Directory,
        id: &ArrivalId,
        note: &DiscardNote,
    ) -> Result<Option<Discarding<'_>>, SpoolError> {
        let (name, hold) = (id.to_string(), self.state(State::Hold));
        // The note first: whoever finds the other name finds the note too. Beside a held arrival it means nothing.
        write_durably(&folder, DISCARD, &to_json(note)?)?;
        match hold.move_to(&name, hold, &format!("{name}{DISCARDING}")) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                folder.remove_if_there(DISCARD).attempt("remove", || DISCARD.to_owned())?;
                return Ok(None);
            }
            Err(error) => return Err(exists_or(error, || name, "move")),
        }
        hold.sync().attempt("sync", || name)?;
        Ok(Some(Discarding { spool: self, id: id.clone(), folder }))
    }

    /// The arrivals whose discard is decided and not carried through, oldest first.
    pub fn discarding(&self) -> Result<Vec<ArrivalId>, SpoolError> {
        let entries =
            self.state(State::Hold).entries().attempt("list", || State::Hold.as_str().to_owned())?;
        let id = |name: &str| ArrivalId::parse(name.strip_suffix(DISCARDING)?);
        let mut ids: Vec<_> = entries.iter().filter_map(|entry| id(&entry.name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Goes on with one of them; `None` if somebody else has carried it through.
    pub fn resume_discard(&self, id: &ArrivalId) -> Result<Option<Discarding<'_>>, SpoolError> {
        let name = format!("{id}{DISCARDING}");
        match self.state(State::Hold).directory(&name) {
            Ok(folder) => Ok(Some(Discarding { spool: self, id: id.clone(), folder })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).attempt("open", || name),
        }
    }
}

impl Discarding<'_> {
    /// Which arrival.
    pub fn id(&self) -> &ArrivalId {
        &self.id
    }

    /// Its description.
    pub fn arrival(&self) -> Result<Arrival, SpoolError> {
        read_arrival(&self.folder, &self.id)
    }

    /// Who decided it, and why; none if that was not noted by `work`: anybody in the group can rename a folder.
    pub fn note(&self) -> Result<Option<DiscardNote>, SpoolError> {
        match read_own_json::<DiscardNote>(&self.folder, DISCARD) {
            Ok(note) => Ok(note.filter(|note| note.arrival == self.id)),
            Err(SpoolError::Unreadable { .. }) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Of one that nobody decided: held, as before.
    pub fn undo(&self) -> Result<(), SpoolError> {
        let (name, hold) = (self.id.to_string(), self.spool.state(State::Hold));
        hold.move_to(&format!("{name}{DISCARDING}"), hold, &name)
            .map_err(|error| exists_or(error, || name.clone(), "move"))?;
        hold.sync().attempt("sync", || name)
    }

    /// Removes the payload and all that was made of it, durably, and then moves what is left to `refused`. Once more is no harm.
    pub fn finish(&self) -> Result<(), SpoolError> {
        for entry in self.folder.entries().attempt("list", || self.id.to_string())? {
            if !is_evidence(&entry.name) {
                self.remove(&entry.name, entry.kind)
                    .attempt("remove", || format!("{}/{}", self.id, entry.name))?;
            }
        }
        self.folder.sync().attempt("sync", || self.id.to_string())?;
        let (name, hold, refused) =
            (self.id.to_string(), self.spool.state(State::Hold), self.spool.state(State::Refused));
        match hold.move_to(&format!("{name}{DISCARDING}"), refused, &name) {
            // Somebody else carried it through at the same time.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(exists_or(error, || name, "move")),
        }
        refused.sync().and_then(|()| hold.sync()).attempt("sync", || name)
    }

    fn remove(&self, name: &str, kind: FileType) -> rustix::io::Result<()> {
        if kind != FileType::Directory {
            return self.folder.remove_if_there(name);
        }
        let inner = self.folder.directory(name)?;
        for entry in inner.entries()? {
            inner.remove_if_there(&entry.name)?;
        }
        self.folder.remove_directory(name)
    }
}

/// Also a note of what a receiver has: beside a held arrival, there is one for what was delivered only.
fn is_evidence(name: &str) -> bool {
    KEPT.contains(&name) || is_note(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::claim::TRIES;
    use super::*;
    use crate::policy::arrival::tests::arrival_named;

    fn spool(root: &Path) -> Spool {
        Spool::open(root, &[]).unwrap()
    }

    fn note() -> DiscardNote {
        let at = "2026-11-21T12:00:00Z".parse().unwrap();
        let arrival = arrival_named("a.age").id;
        DiscardNote { arrival, operator: "uid 0".into(), reason: "sent by mistake".into(), at, because: None }
    }

    /// An arrival that lies in a state, with what may lie beside it.
    fn arrival_in(root: &Path, state: State, name: &str) -> Arrival {
        let arrival = arrival_named(name);
        let folder = root.join(state.as_str()).join(arrival.id.to_string());
        std::fs::create_dir_all(folder.join("staged")).unwrap();
        std::fs::write(folder.join(ARRIVAL), serde_json::to_vec(&arrival).unwrap()).unwrap();
        let hold = serde_json::json!({"reason": Reason::JobFailed, "detail": ""}).to_string();
        for (name, text) in [
            ("payload.age", "x"),
            ("result-agii.0.age", "x"),
            ("result-atlas.1.json", "{}"),
            (TRIES, "{}"),
            ("staged/a", "x"),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        std::fs::write(folder.join(HOLD), hold).unwrap();
        arrival
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_discarded_keeps_its_description_and_loses_everything_else() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let arrival = arrival_in(root.path(), State::Hold, "a.age");
        let discarding = spool.begin_discard(&arrival.id, &note()).unwrap().unwrap();
        assert_eq!(spool.list(State::Hold).unwrap(), [], "nobody takes it for a held one");
        assert!(!spool.release(&arrival.id).unwrap(), "it is decided");
        assert_eq!(
            (discarding.arrival().unwrap(), discarding.note().unwrap()),
            (arrival.clone(), Some(note()))
        );
        drop(discarding);
        // As after a crash.
        assert_eq!(spool.discarding().unwrap(), std::slice::from_ref(&arrival.id));
        let (one, other) = (
            spool.resume_discard(&arrival.id).unwrap().unwrap(),
            spool.resume_discard(&arrival.id).unwrap().unwrap(),
        );
        one.finish().unwrap();
        other.finish().unwrap();
        let left = root.path().join("refused").join(arrival.id.to_string());
        assert_eq!(names(&left), ["arrival.json", "discard.json", "hold.json", "result-atlas.1.json"]);
        assert_eq!(spool.discarding().unwrap(), []);
        assert!(spool.resume_discard(&arrival.id).unwrap().is_none());
    }

    #[test]
    fn of_a_release_and_a_discard_at_the_same_time_one_comes_too_late_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let arrival = arrival_in(root.path(), State::Hold, "a.age");
        let opened = spool.state(State::Hold).directory(&arrival.id.to_string()).unwrap();
        assert!(spool.release(&arrival.id).unwrap());
        assert!(!spool.release(&arrival.id).unwrap());
        assert!(spool.decide_discard(opened, &arrival.id, &note()).unwrap().is_none());
        assert!(spool.begin_discard(&arrival.id, &note()).unwrap().is_none());
        let incoming = root.path().join("incoming").join(arrival.id.to_string());
        assert!(!names(&incoming).contains(&DISCARD.to_owned()), "{:?}", names(&incoming));
        assert!(names(&incoming).contains(&"payload.age".to_owned()));
    }

    #[test]
    fn a_deferred_arrival_is_due_at_once_and_keeps_its_tries() {
        let root = tempfile::tempdir().unwrap();
        let spool = spool(root.path());
        let arrival = arrival_in(root.path(), State::Deferred, "a.age");
        std::fs::write(
            root.path().join("deferred").join(arrival.id.to_string()).join(TRIES),
            "{\"tries\": 3}",
        )
        .unwrap();
        assert!(!spool.release(&arrival.id).unwrap(), "it is not held");
        assert!(spool.retry(&arrival.id).unwrap());
        assert_eq!(spool.claim(State::Incoming, &arrival.id).unwrap().unwrap().tries(), 3);
    }
}

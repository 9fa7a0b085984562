//! Copies a spool while arrivals move through it. An arrival's folder is held by its descriptor, so that it can be copied to
//! its end wherever it is moved meanwhile; and the states are listed until nothing new appears, so that none escapes by
//! moving from a folder that is still to be listed into one that was.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::store::{Shelf, Store};
use super::{Attempt, BackupError, Copied, Progress};
use crate::host::directory::Directory;
use crate::policy::arrival::{ArrivalId, State};
use crate::policy::backup::{
    AFTER_ARRIVALS, LEFT_OUT, SPOOL, arrival_of, comes_back_as, is_being_written, is_of_the_moment,
};

/// Looks at the states, each of which copies what came since the last. What is still new then came after the backup began.
const LOOKS: usize = 20;
/// Folders in each other that are followed.
const DEPTH: usize = 8;
/// Names of what was left out that are told one by one.
const TOLD: usize = 20;

/// Copies all of a spool but what no backup holds.
pub(super) fn copy(
    spool: &Directory,
    store: &mut Store,
    progress: Progress<'_>,
) -> Result<Copied, BackupError> {
    let mut taking = Taking { store, progress, strangers: BTreeSet::new() };
    let shelf = taking.store.shelf(SPOOL, spool)?;
    let tops: Vec<String> = listed(spool, SPOOL)?.into_iter().map(|(name, _)| name).collect();
    let is_state = |name: &str| State::ALL.iter().any(|state| state.as_str() == name);
    let is_other = |name: &&String| {
        !is_state(name) && !LEFT_OUT.contains(&name.as_str()) && !AFTER_ARRIVALS.contains(&name.as_str())
    };
    for name in tops.iter().filter(is_other) {
        taking.tree(spool, &shelf, name, DEPTH)?;
    }
    let arrivals = taking.arrivals(spool, &shelf)?;
    for name in AFTER_ARRIVALS.iter().filter(|name| tops.iter().any(|top| top == *name)) {
        taking.tree(spool, &shelf, name, DEPTH)?;
    }
    let Taking { store, strangers, .. } = taking;
    store.close(&shelf)?;
    let mut left_out: Vec<String> = tops
        .iter()
        .filter(|name| LEFT_OUT.contains(&name.as_str()))
        .map(|name| format!("{SPOOL}/{name}/"))
        .collect();
    left_out.extend(strangers);
    Ok(Copied { arrivals, left_out })
}

struct Taking<'a, 'p> {
    store: &'a mut Store,
    progress: Progress<'p>,
    /// What lies where it does not belong.
    strangers: BTreeSet<String>,
}

/// What one look at all states found.
type Found = BTreeMap<ArrivalId, (State, String)>;

impl Taking<'_, '_> {
    fn arrivals(&mut self, spool: &Directory, shelf: &Shelf) -> Result<BTreeMap<State, u64>, BackupError> {
        let mut states = Vec::new();
        for state in State::ALL {
            match spool.directory(state.as_str()) {
                Ok(folder) => states.push((state, folder)),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error).attempt("open", || state.as_str().to_owned()),
            }
        }
        let mut shelves = BTreeMap::new();
        for (state, folder) in states.iter().filter(|(state, _)| comes_back_as(*state) == *state) {
            shelves.insert(*state, self.store.shelf_in(shelf, state.as_str(), folder)?);
        }
        let (mut counts, mut taken, mut owed) =
            (BTreeMap::new(), BTreeSet::new(), None::<BTreeSet<ArrivalId>>);
        for _ in 0..LOOKS {
            let found = self.look(&states)?;
            let owed = owed.get_or_insert_with(|| found.keys().cloned().collect());
            let new: Found = found.into_iter().filter(|(id, _)| !taken.contains(id)).collect();
            // Gone from every state: its time had passed.
            owed.retain(|id| new.contains_key(id));
            if new.is_empty() {
                break;
            }
            for (id, (state, name)) in new {
                let target = comes_back_as(state);
                let (Some((_, folder)), Some(shelf)) =
                    (states.iter().find(|(other, _)| *other == state), shelves.get(&target))
                else {
                    continue;
                };
                if self.arrival(folder, shelf, (&name, &id))? {
                    *counts.entry(target).or_default() += 1;
                    owed.remove(&id);
                    taken.insert(id);
                }
            }
        }
        if let Some(id) = owed.iter().flatten().next() {
            let moving = std::io::Error::other("it moved on whenever it was to be copied; try again");
            return Err(moving).attempt("copy", || id.to_string());
        }
        shelves.values().try_for_each(|shelf| self.store.close(shelf))?;
        Ok(counts)
    }

    /// All arrivals: forwards in the order of their life, and backwards, for what goes back is met only so.
    fn look(&mut self, states: &[(State, Directory)]) -> Result<Found, BackupError> {
        let mut found = Found::new();
        for (state, folder) in states.iter().chain(states.iter().rev()) {
            for (name, _) in listed(folder, state.as_str())? {
                match arrival_of(*state, &name) {
                    // Seen again, it is further on.
                    Some(id) => drop(found.insert(id, (*state, name))),
                    // A refusal that is being described.
                    None if name.ends_with(".new") => {}
                    None => self.stranger(format!("{SPOOL}/{}/{name}, which is no arrival", state.as_str())),
                }
            }
        }
        Ok(found)
    }

    fn stranger(&mut self, told: String) {
        if self.strangers.len() < TOLD {
            self.strangers.insert(told);
        }
    }

    /// Copies an arrival; not if it is no longer there, or goes away underneath.
    fn arrival(
        &mut self,
        folder: &Directory,
        shelf: &Shelf,
        (name, id): (&str, &ArrivalId),
    ) -> Result<bool, BackupError> {
        let held = match folder.directory(name) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            held => held.attempt("open", || name.to_owned())?,
        };
        let (mark, new_name) = (self.store.mark(), id.to_string());
        let target = self.store.shelf_in(shelf, &new_name, &held)?;
        for (file, kind) in listed(&held, name)? {
            if is_of_the_moment(&file) || kind == FileType::Directory {
                continue;
            }
            if !self.file(&held, &target, &file)? && matches!(file.as_str(), "payload.age" | "arrival.json") {
                // Its files are being removed one after the other: no half of it is kept.
                self.store.discard(mark, shelf, &new_name)?;
                return Ok(false);
            }
        }
        self.store.close(&target)?;
        Ok(true)
    }

    /// Copies a folder with what is in it.
    fn tree(
        &mut self,
        parent: &Directory,
        shelf: &Shelf,
        name: &str,
        depth: usize,
    ) -> Result<(), BackupError> {
        let folder = match parent.directory(name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            folder => folder.attempt("open", || name.to_owned())?,
        };
        let Some(depth) = depth.checked_sub(1) else {
            self.stranger(format!("{name}/ in the spool: too many folders in each other"));
            return Ok(());
        };
        let target = self.store.shelf_in(shelf, name, &folder)?;
        for (name, kind) in lasting(&folder, name)? {
            if kind == FileType::Directory {
                self.tree(&folder, &target, &name, depth)?;
            } else {
                self.file(&folder, &target, &name)?;
            }
        }
        self.store.close(&target)
    }

    /// Copies a file as it is now; says whether it was there.
    fn file(&mut self, folder: &Directory, target: &Shelf, name: &str) -> Result<bool, BackupError> {
        let source = match folder.file(name) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
            source => source.attempt("open", || name.to_owned())?,
        };
        self.store.copy(target, name, source, u64::MAX)?;
        (self.progress)("the spool", self.store.bytes());
        Ok(true)
    }
}

/// The entries of a folder; for each whether it is a folder, asked where the listing does not say it.
fn listed(folder: &Directory, shown: &str) -> Result<Vec<(String, FileType)>, BackupError> {
    let entries = folder.entries().attempt("list", || shown.to_owned())?;
    let kind = |name: &str, kind: FileType| match kind {
        FileType::Unknown => folder.stat(name).map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode)),
        known => known,
    };
    Ok(entries
        .into_iter()
        .map(|entry| (kind(&entry.name, entry.kind), entry.name))
        .map(|(k, n)| (n, k))
        .collect())
}

/// The same for folders in which files come with their signatures. A signature is put there before what it signs: of what the
/// first listing knows, the second has the signature too.
pub(super) fn lasting(folder: &Directory, shown: &str) -> Result<Vec<(String, FileType)>, BackupError> {
    let first: BTreeSet<String> = listed(folder, shown)?.into_iter().map(|(name, _)| name).collect();
    let mut second = listed(folder, shown)?;
    second.retain(|(name, _)| (first.contains(name) || name.ends_with(".sig")) && !is_being_written(name));
    second.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(second)
}

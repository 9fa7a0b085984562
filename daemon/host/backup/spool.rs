//! Copies a spool while arrivals move through it. An arrival's folder is held by its descriptor, so that it can be copied to
//! its end wherever it is moved meanwhile; and the states are listed until nothing new appears, so that none escapes by
//! moving from a folder that is still to be listed into one that was.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::store::{Shelf, Store};
use super::{Attempt, BackupError, Copied, Progress};
use crate::host::directory::Directory;
use crate::policy::arrival::{ArrivalId, EXPIRED, State, UNFINISHED};
use crate::policy::backup::{
    AFTER_ARRIVALS, LEFT_OUT, SPOOL, arrival_of, comes_back_as, is_being_written, is_of_the_moment,
    speaking_against,
};

/// Looks at the states, each of which copies what came since the last. What is still new then came after the backup began.
const LOOKS: usize = 20;
/// So many looks in a row find nothing new before it is believed that there is nothing.
const QUIET: u32 = 2;
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
        // Unless it is a file.
        taking.file(spool, &shelf, name)?;
    }
    let arrivals = taking.arrivals(spool, &shelf)?;
    for name in AFTER_ARRIVALS.iter().filter(|name| tops.iter().any(|top| top == *name)) {
        taking.tree(spool, &shelf, name, DEPTH)?;
    }
    let Taking { strangers, .. } = taking;
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
        for (state, folder) in &states {
            shelves.insert(*state, self.store.shelf_in(shelf, comes_back_as(*state).as_str(), folder)?);
        }
        let (mut counts, mut taken, mut owed) =
            (BTreeMap::new(), BTreeSet::new(), None::<BTreeSet<ArrivalId>>);
        let mut quiet = 0;
        for _ in 0..LOOKS {
            let found = self.look(&states)?;
            let owed = owed.get_or_insert_with(|| found.keys().cloned().collect());
            let new: Found = found.into_iter().filter(|(id, _)| !taken.contains(id)).collect();
            // Gone from every state: its time had passed.
            owed.retain(|id| new.contains_key(id));
            // Once more, for what escaped a look by moving cannot well escape the next one too.
            quiet = if new.is_empty() { quiet + 1 } else { 0 };
            if quiet == QUIET {
                break;
            }
            for (id, (state, name)) in new {
                let Some((state, held)) = hold(&states, &id, (state, &name))? else { continue };
                let Some(shelf) = shelves.get(&state) else { continue };
                if self.arrival(&held, shelf, &id)? {
                    *counts.entry(comes_back_as(state)).or_default() += 1;
                    owed.remove(&id);
                    taken.insert(id);
                }
            }
        }
        if let Some(id) = owed.iter().flatten().next() {
            let moving = std::io::Error::other("it moved on whenever it was to be copied; try again");
            return Err(moving).attempt("copy", || id.to_string());
        }
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
                    // A refusal that is being described, or an arrival that is being removed.
                    None if name.ends_with(UNFINISHED) || name.ends_with(EXPIRED) => {}
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

    /// Copies an arrival; not if it goes away underneath.
    fn arrival(&mut self, held: &Directory, shelf: &Shelf, id: &ArrivalId) -> Result<bool, BackupError> {
        let (mark, new_name) = (self.store.mark(), id.to_string());
        let target = self.store.shelf_in(shelf, &new_name, held)?;
        for (file, kind) in listed(held, &new_name)? {
            if is_of_the_moment(&file) || kind == FileType::Directory {
                continue;
            }
            // The result is staged before the note is written, and withdrawn before the note is removed: in this order, what
            // is not there now has left for its receiver, if the note still is there afterwards.
            if speaking_against(&file).is_some_and(|files| files.iter().any(|file| held.stat(file).is_ok())) {
                continue;
            }
            if !self.file(held, &target, &file)? && matches!(file.as_str(), "payload.age" | "arrival.json") {
                // Its files are being removed one after the other: no half of it is kept.
                self.store.discard(mark, shelf, &new_name)?;
                return Ok(false);
            }
        }
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
        Ok(())
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

/// Opens the folder of an arrival that was seen under a name: there, or wherever it has moved to since.
fn hold(
    states: &[(State, Directory)],
    id: &ArrivalId,
    (seen, name): (State, &str),
) -> Result<Option<(State, Directory)>, BackupError> {
    let open = |folder: &Directory, name: &str| match folder.directory(name) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        held => held.attempt("open", || name.to_owned()).map(Some),
    };
    if let Some((_, folder)) = states.iter().find(|(state, _)| *state == seen)
        && let Some(held) = open(folder, name)?
    {
        return Ok(Some((seen, held)));
    }
    for (state, folder) in states.iter().chain(states.iter().rev()) {
        let names = if *state == State::Active {
            let names = listed(folder, state.as_str())?.into_iter().map(|(name, _)| name);
            names.filter(|name| arrival_of(*state, name).as_ref() == Some(id)).collect()
        } else {
            vec![id.to_string()]
        };
        for name in names {
            if let Some(held) = open(folder, &name)? {
                return Ok(Some((*state, held)));
            }
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Sources;
    use super::*;
    use crate::policy::arrival::tests::arrival_named;

    fn put(root: &Path, path: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    fn copied(root: &Path) -> (BTreeSet<String>, Copied) {
        let to = root.join("to");
        let mut store = Store::begin(&to).unwrap();
        let sources = Sources { spool: root.join("spool"), log: root.join("log") };
        let copied = sources.copy_spool(&mut store, &mut |_, _| {}).unwrap();
        store.settle().unwrap();
        (store.files.into_iter().map(|entry| String::from(entry.path)).collect(), copied)
    }

    #[test]
    fn an_arrival_in_work_comes_back_as_one_that_waits_with_what_it_has_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let id = arrival_named("list.age").id;
        let at = |name: &str| format!("spool/active/{id}.zone-1.0badcafe/{name}");
        for name in [
            "payload.age",
            "arrival.json",
            "tries.json",
            "begun",
            ".0123.new",
            "receipt-1.json",
            "result-gone.1.json",
            "result-staged.1.json",
            "result-staged.1.age",
            "result-withdrawn.1.json",
            "result-withdrawn.1.void",
            "result-unnoted.1.age",
        ] {
            put(folder.path(), &at(name));
        }
        let (files, copied) = copied(folder.path());
        let kept = ["arrival.json", "payload.age", "result-gone.1.json", "tries.json"];
        assert_eq!(files, kept.map(|name| format!("spool/incoming/{id}/{name}")).into());
        assert_eq!(copied.arrivals, BTreeMap::from([(State::Incoming, 1)]));
    }

    #[test]
    fn every_folder_of_a_spool_is_copied_but_those_of_the_moment_and_what_is_left_out_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (id, discarding) = (arrival_named("list.age").id, arrival_named("mistake.age").id);
        for path in [
            &format!("spool/done/{id}/payload.age"),
            "spool/done/mine/notes.txt",
            &format!("spool/hold/{discarding}.discard/payload.age"),
            &format!("spool/refused/{id}.new/arrival.json"),
            "spool/seen/ab/abcdef",
            "spool/note.json",
            "spool/outbox/city/relay/list.age",
            "spool/outbox/city/relay/.0123456789abcdef.new",
            "spool/partial/agency.relay/list.age/payload.age",
            "spool/nodes/zone-1.0badcafe",
            "spool/pseudonyms/relay.key",
        ] {
            put(folder.path(), path);
        }
        let (files, copied) = copied(folder.path());
        let wanted = [
            format!("spool/done/{id}/payload.age"),
            format!("spool/hold/{discarding}/payload.age"),
            "spool/note.json".to_owned(),
            "spool/outbox/city/relay/list.age".to_owned(),
            "spool/seen/ab/abcdef".to_owned(),
        ];
        assert_eq!(files, wanted.into());
        let mut left_out = copied.left_out;
        left_out.sort();
        assert_eq!(
            left_out,
            ["spool/done/mine, which is no arrival", "spool/nodes/", "spool/partial/", "spool/pseudonyms/"]
        );
    }

    #[test]
    fn arrivals_that_keep_moving_are_copied_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<ArrivalId> = (0..50).map(|number| arrival_named(&format!("{number}.age")).id).collect();
        for state in State::ALL {
            std::fs::create_dir_all(folder.path().join("spool").join(state.as_str())).unwrap();
        }
        for id in &ids {
            put(folder.path(), &format!("spool/incoming/{id}/payload.age"));
            put(folder.path(), &format!("spool/incoming/{id}/arrival.json"));
        }
        // Dropped in whatever way the copy ends, it ends the moves.
        let (going, gone) = std::sync::mpsc::sync_channel::<()>(0);
        let (files, copied) = std::thread::scope(|scope| {
            let _going = going;
            scope.spawn(|| {
                let at = |state: State, id: &ArrivalId| {
                    folder.path().join("spool").join(state.as_str()).join(id.to_string())
                };
                let round = [State::Incoming, State::Active, State::Deferred, State::Hold, State::Incoming];
                let gone = gone;
                for pair in std::iter::repeat_n(round.windows(2), 10_000).flatten() {
                    for id in &ids {
                        std::fs::rename(at(pair[0], id), at(pair[1], id)).unwrap();
                        if gone.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                            return;
                        }
                    }
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
            copied(folder.path())
        });
        assert_eq!(copied.arrivals.values().sum::<u64>(), 50);
        assert_eq!(files.len(), 100);
    }
}

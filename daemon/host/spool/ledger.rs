//! Which arrivals have taken a place in the rhythm of their flow: `rhythm/‹exchange›/‹flow›/‹number›`, one entry each, a line of
//! JSON and behind it the marks of the keys that come once only. The numbers are taken in turn, and whoever makes one has
//! read all before it; so of two arrivals for one place, on any nodes, the second to make its entry sees the first. An
//! entry is never removed while the ledger is kept, for then a number could be taken twice: one that is freed says so.
//! Whether there is a place is `policy::rhythm`'s question. The folder is `work`'s own, as `seen` is.

use std::io::{BufRead, BufReader, Read, Write};

use jiff::civil::Date;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Attempt, Directory, Spool, SpoolError, is_ours_alone, temporary_name, to_json, write_durably};
use crate::host::files::digest;
use crate::policy::arrival::ArrivalId;
use crate::policy::path::Slug;
use crate::policy::reason::Reason;
use crate::policy::rhythm::{Mark, Use};

/// The folder, below the spool.
pub(super) const RHYTHM: &str = "rhythm";
/// Since when a flow's count is kept.
const SINCE: &str = "since.json";
/// More than the first line of an entry has, in bytes.
const LINE_MAX: u64 = 4 << 10;
/// How often a number may be lost to another process.
const TRIES: usize = 1_000;

/// What came of asking for a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// The arrival has one, since now or since an earlier try.
    In,
    /// There is none, for this reason.
    Out(Reason),
}

/// What is known of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The first day of the count.
    pub since: Date,
    /// The places that were taken, in that order.
    pub uses: Vec<Use>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Since {
    day: Date,
}

/// The ledger of one flow.
#[derive(Debug)]
pub struct Ledger {
    folder: Directory,
    path: String,
}

impl Spool {
    /// At the start of `work`: makes the folder, and refuses one that is somebody else's.
    pub fn own_rhythm(&self) -> Result<(), SpoolError> {
        self.own_folder(RHYTHM).map(drop)
    }

    /// A flow's ledger, which is begun on this day if there is none.
    pub fn ledger(&self, exchange: &Slug, flow: &Slug, today: Date) -> Result<Ledger, SpoolError> {
        let path = format!("{RHYTHM}/{exchange}/{flow}");
        let folder = self.rhythm_of(exchange)?;
        let folder = super::seen::open_or_make(&folder, flow.as_str()).attempt("make", || path.clone())?;
        let ledger = Ledger { folder, path };
        if ledger.folder.stat(SINCE).is_err() {
            write_durably(&ledger.folder, SINCE, &to_json(&Since { day: today })?)?;
        }
        Ok(ledger)
    }

    /// What is known of a flow; none where `work` has not begun to count. Makes nothing.
    pub fn kept(&self, exchange: &Slug, flow: &Slug) -> Result<Option<Kept>, SpoolError> {
        kept_in(&self.top, exchange, flow)
    }

    /// Frees the place of an arrival in whichever flow of its exchange. Says whether it had one.
    pub fn free_place(&self, arrival: &ArrivalId) -> Result<bool, SpoolError> {
        let exchange = arrival.exchange();
        let top = match self.top.directory(RHYTHM).and_then(|top| top.directory(exchange.as_str())) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error).attempt("open", || format!("{RHYTHM}/{exchange}")),
        };
        let mut was_there = false;
        for entry in top.entries().attempt("list", || format!("{RHYTHM}/{exchange}"))? {
            // What is no flow is a file.
            let Ok(folder) = top.directory(&entry.name) else { continue };
            let ledger = Ledger { folder, path: format!("{RHYTHM}/{exchange}/{}", entry.name) };
            was_there |= ledger.free(arrival)?;
        }
        Ok(was_there)
    }

    /// Removes the ledgers of an exchange, entry by entry, each after `record`, which gets its length and digest, has agreed. Gives
    /// how many went.
    pub fn drop_ledgers(
        &self,
        exchange: &Slug,
        record: impl Fn(&str, u64, String) -> bool,
    ) -> Result<usize, SpoolError> {
        let top = self.rhythm_of(exchange)?;
        let mut gone = 0;
        for flow in top.entries().attempt("list", || format!("{RHYTHM}/{exchange}"))? {
            let Ok(folder) = top.directory(&flow.name) else { continue };
            let at = format!("{RHYTHM}/{exchange}/{}", flow.name);
            for entry in folder.entries().attempt("list", || at.clone())? {
                let path = format!("{at}/{}", entry.name);
                let file = folder.file(&entry.name).attempt("open", || path.clone())?;
                let (bytes, sha256) = digest(file).attempt("read", || path.clone())?;
                if !record(&path, bytes, sha256) {
                    return Ok(gone);
                }
                folder.remove_if_there(&entry.name).attempt("remove", || path)?;
                gone += 1;
            }
            top.remove_directory(&flow.name).attempt("remove", || at)?;
        }
        Ok(gone)
    }

    pub(super) fn rhythm_of(&self, exchange: &Slug) -> Result<Directory, SpoolError> {
        let top = self.own_folder(RHYTHM)?;
        super::seen::open_or_make(&top, exchange.as_str()).attempt("make", || format!("{RHYTHM}/{exchange}"))
    }
}

impl Ledger {
    /// Gives an arrival its place, durably, unless it has one, or `admit`, which gets all that were taken before, or one of its
    /// marks say that there is none. `marks` are sorted.
    pub fn enter(
        &self,
        own: &Use,
        marks: &[Mark],
        admit: &dyn Fn(&[Use]) -> Result<(), Reason>,
    ) -> Result<Entered, SpoolError> {
        let mut known: Vec<(u32, Use)> = Vec::new();
        let mut temporary = None::<String>;
        for _ in 0..TRIES {
            let last = known.last().map_or(0, |(number, _)| *number);
            known.extend(self.entries(last)?);
            let is_own = |(_, one): &&(u32, Use)| one.arrival == own.arrival && !one.is_freed;
            if let Some((number, entry)) = known.iter().find(is_own) {
                if entry.is_allowed {
                    // An operator's word came before anybody knew its keys: others are to meet them.
                    self.rewrite(*number, &Use { is_allowed: true, ..own.clone() }, marks)?;
                }
                self.discard(temporary);
                // Whoever made it may have ended before it was durable.
                self.folder.sync().attempt("sync", || self.path.clone())?;
                return Ok(Entered::In);
            }
            let uses: Vec<Use> = known.iter().map(|(_, one)| one.clone()).collect();
            let refused = admit(&uses).err();
            let met = || Ok::<bool, SpoolError>(!marks.is_empty() && self.meets(&known, marks)?);
            if let Some(reason) =
                refused.map_or_else(|| Ok(met()?.then_some(Reason::SurplusKey)), |r| Ok(Some(r)))?
            {
                self.discard(temporary);
                return Ok(Entered::Out(reason));
            }
            let written = match temporary.take() {
                Some(written) => written,
                None => self.write(own, marks)?,
            };
            let number = known.last().map_or(0, |(number, _)| *number).saturating_add(1);
            match self.folder.move_to(&written, &self.folder, &name_of(number)) {
                Ok(()) => {
                    self.folder.sync().attempt("sync", || self.path.clone())?;
                    return Ok(Entered::In);
                }
                // Somebody else was first: read what they wrote.
                Err(Errno::EXIST) => temporary = Some(written),
                Err(error) => {
                    self.discard(Some(written));
                    return Err(error).attempt("make", || self.path.clone());
                }
            }
        }
        self.discard(temporary);
        Err(SpoolError::Busy(self.path.clone()))
    }

    /// An operator's word: this arrival has a place, whatever was taken before. Its keys come when it is worked on.
    pub fn allow(&self, own: &Use) -> Result<(), SpoolError> {
        let own = Use { is_allowed: true, name: None, ..own.clone() };
        self.enter(&own, &[], &|_| Ok(())).map(drop)
    }

    fn free(&self, arrival: &ArrivalId) -> Result<bool, SpoolError> {
        let entries = self.entries(0)?;
        let own = entries.into_iter().find(|(_, one)| one.arrival == *arrival && !one.is_freed);
        let Some((number, entry)) = own else { return Ok(false) };
        self.rewrite(number, &Use { is_freed: true, name: None, ..entry }, &[])?;
        Ok(true)
    }

    /// The entries behind a number, in order. One that `work` did not write is an error: it must not make a place, nor take one.
    fn entries(&self, behind: u32) -> Result<Vec<(u32, Use)>, SpoolError> {
        let mut numbers = Vec::new();
        let read = |name: &str| numbers.extend(number_of(name).filter(|number| *number > behind));
        self.folder.each_name(read).attempt("list", || self.path.clone())?;
        numbers.sort_unstable();
        numbers.into_iter().map(|number| Ok((number, self.open(number)?.0))).collect()
    }

    /// An entry, and what is behind its first line.
    fn open(&self, number: u32) -> Result<(Use, impl Read), SpoolError> {
        let path = || format!("{}/{}", self.path, name_of(number));
        let file = self.folder.file(&name_of(number)).attempt("open", path)?;
        let unreadable = |cause: String| SpoolError::Unreadable { what: path(), cause };
        if !is_ours_alone(&rustix::fs::fstat(&file).attempt("examine", path)?) {
            return Err(unreadable("it is not this user's alone".to_owned()));
        }
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).attempt("read", path)?;
        let entry = serde_json::from_slice(&line).map_err(|error| unreadable(error.to_string()))?;
        Ok((entry, reader))
    }

    /// Whether any entry has one of these marks.
    fn meets(&self, known: &[(u32, Use)], marks: &[Mark]) -> Result<bool, SpoolError> {
        for (number, entry) in known {
            if entry.is_freed {
                continue;
            }
            let (_, mut reader) = self.open(*number)?;
            let mut mark = [0; Mark::LENGTH];
            while read_mark(&mut reader, &mut mark).attempt("read", || self.path.clone())? {
                if marks.binary_search(&Mark(mark)).is_ok() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn rewrite(&self, number: u32, entry: &Use, marks: &[Mark]) -> Result<(), SpoolError> {
        let written = self.write(entry, marks)?;
        self.folder
            .replace(&written, &self.folder, &name_of(number))
            .inspect_err(|_| self.discard(Some(written.clone())))
            .and_then(|()| self.folder.sync())
            .attempt("make", || self.path.clone())
    }

    /// Whole and durable under a name of its own; gives that name.
    fn write(&self, entry: &Use, marks: &[Mark]) -> Result<String, SpoolError> {
        let line = serde_json::to_vec(entry)
            .map_err(|error| SpoolError::Unreadable { what: self.path.clone(), cause: error.to_string() })?;
        let mut bytes = Vec::with_capacity(line.len() + 1 + marks.len().saturating_mul(Mark::LENGTH));
        bytes.extend(line);
        bytes.push(b'\n');
        marks.iter().for_each(|mark| bytes.extend(mark.0));
        write_temporary(&self.folder, &bytes).attempt("write", || self.path.clone())
    }

    /// What cannot be removed now is swept later.
    fn discard(&self, temporary: Option<String>) {
        if let Some(temporary) = temporary {
            let _ = self.folder.remove_if_there(&temporary);
        }
    }
}

/// The same as [`Spool::kept`], for whoever only looks.
pub fn kept_in(spool: &Directory, exchange: &Slug, flow: &Slug) -> Result<Option<Kept>, SpoolError> {
    let path = format!("{RHYTHM}/{exchange}/{flow}");
    let top = spool.directory(RHYTHM).and_then(|top| top.directory(exchange.as_str()));
    let folder = match top.and_then(|top| top.directory(flow.as_str())) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).attempt("open", || path),
    };
    let ledger = Ledger { folder, path };
    let since: Since = match super::read_json(&ledger.folder, SINCE) {
        Ok(since) => since,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let entries = ledger.entries(0)?;
    Ok(Some(Kept { since: since.day, uses: entries.into_iter().map(|(_, one)| one).collect() }))
}

pub(super) fn write_temporary(folder: &Directory, bytes: &[u8]) -> std::io::Result<String> {
    let temporary = temporary_name();
    let write = || -> std::io::Result<()> {
        let mut file = folder.create_own(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().inspect_err(|_| {
        let _ = folder.remove_if_there(&temporary);
    })?;
    Ok(temporary)
}

/// False at the end; half a mark is an error.
fn read_mark(reader: &mut impl Read, mark: &mut [u8; Mark::LENGTH]) -> std::io::Result<bool> {
    let mut read = 0;
    while let Some(rest) = mark.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) if read == 0 => return Ok(false),
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => read += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn name_of(number: u32) -> String {
    format!("{number:08}")
}

fn number_of(name: &str) -> Option<u32> {
    let number = name.parse().ok()?;
    (name_of(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Barrier, Mutex};

    use jiff::Timestamp;
    use jiff::civil::date;

    use super::*;
    use crate::policy::arrival::tests::arrival_named;

    const DAY: Date = date(2026, 11, 22);

    fn spool() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), &[]).unwrap();
        (folder, spool)
    }

    fn ledger(spool: &Spool) -> Ledger {
        spool.ledger(&slug("pillar-3"), &slug("enrich"), DAY).unwrap()
    }

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn place(name: &str) -> Use {
        let (arrival, taken) = (arrival_named(name).id, Timestamp::UNIX_EPOCH);
        Use { arrival, day: DAY, taken, name: None, is_allowed: false, is_freed: false }
    }

    /// Room for so many.
    fn at_most(most: usize) -> impl Fn(&[Use]) -> Result<(), Reason> {
        move |uses| {
            let used = uses.iter().filter(|one| !one.is_freed).count();
            if used < most { Ok(()) } else { Err(Reason::Surplus { again: DAY }) }
        }
    }

    fn uses(spool: &Spool) -> Vec<Use> {
        spool.kept(&slug("pillar-3"), &slug("enrich")).unwrap().unwrap().uses
    }

    #[test]
    fn an_arrival_meets_its_own_place_again_and_another_finds_none() {
        let (_folder, spool) = spool();
        assert_eq!(spool.kept(&slug("pillar-3"), &slug("enrich")).unwrap(), None);
        for _ in 0..2 {
            assert_eq!(ledger(&spool).enter(&place("a.age"), &[], &at_most(1)).unwrap(), Entered::In);
        }
        let out = Entered::Out(Reason::Surplus { again: DAY });
        assert_eq!(ledger(&spool).enter(&place("b.age"), &[], &at_most(1)).unwrap(), out);
        assert_eq!(uses(&spool), [place("a.age")]);
        assert!(spool.free_place(&place("a.age").arrival).unwrap());
        assert!(!spool.free_place(&place("a.age").arrival).unwrap());
        assert_eq!(ledger(&spool).enter(&place("b.age"), &[], &at_most(1)).unwrap(), Entered::In);
        assert_eq!(ledger(&spool).enter(&place("a.age"), &[], &at_most(1)).unwrap(), out, "it was freed");
    }

    #[test]
    fn a_key_that_came_before_leaves_no_place_for_the_list_until_that_one_is_discarded() {
        let (_folder, spool) = spool();
        let marks = |marks: &[u8]| marks.iter().map(|mark| Mark([*mark; Mark::LENGTH])).collect::<Vec<_>>();
        let enter =
            |name: &str, keys: &[u8]| ledger(&spool).enter(&place(name), &marks(keys), &|_| Ok(())).unwrap();
        assert_eq!(enter("a.age", &[1, 2, 3]), Entered::In);
        assert_eq!(enter("b.age", &[4, 5]), Entered::In);
        assert_eq!(enter("c.age", &[3, 9]), Entered::Out(Reason::SurplusKey));
        assert_eq!(enter("c.age", &[5]), Entered::Out(Reason::SurplusKey));
        spool.free_place(&place("a.age").arrival).unwrap();
        assert_eq!(enter("c.age", &[3, 9]), Entered::In);
        // An operator let it through before anybody knew its keys; from then on they are known.
        ledger(&spool).allow(&place("d.age")).unwrap();
        assert_eq!(enter("d.age", &[3, 7]), Entered::In);
        assert_eq!(enter("e.age", &[7]), Entered::Out(Reason::SurplusKey));
        assert!(uses(&spool).iter().any(|one| one.is_allowed && one.arrival == place("d.age").arrival));
    }

    #[test]
    fn of_many_that_ask_at_the_same_time_as_many_come_in_as_there_are_places() {
        let (folder, spool) = spool();
        ledger(&spool);
        let (barrier, entered) = (Barrier::new(8), Mutex::new(0));
        std::thread::scope(|scope| {
            for worker in 0..8 {
                // Each of them a node of its own.
                let node = Spool::open(folder.path(), &[]).unwrap();
                let (barrier, entered) = (&barrier, &entered);
                scope.spawn(move || {
                    let (ledger, own) = (ledger(&node), place(&format!("{worker}.age")));
                    barrier.wait();
                    // Half of them by number, half by key.
                    let marks = if worker % 2 == 0 { vec![Mark([7; Mark::LENGTH])] } else { Vec::new() };
                    if ledger.enter(&own, &marks, &at_most(3)).unwrap() == Entered::In {
                        *entered.lock().unwrap() += 1;
                    }
                });
            }
        });
        let taken = uses(&spool);
        assert_eq!(*entered.lock().unwrap(), taken.len());
        assert_eq!(taken.len(), 3);
        let distinct: BTreeSet<_> = taken.iter().map(|one| &one.arrival).collect();
        assert_eq!(distinct.len(), 3);
        let even = |one: &&Use| {
            (0..8).step_by(2).any(|worker| place(&format!("{worker}.age")).arrival == one.arrival)
        };
        assert!(taken.iter().filter(even).count() <= 1, "one for each key: {taken:?}");
        let left = std::fs::read_dir(folder.path().join("rhythm/pillar-3/enrich")).unwrap();
        assert!(
            left.map(|entry| entry.unwrap().file_name())
                .all(|name| !name.to_string_lossy().ends_with(".new"))
        );
    }

    #[test]
    fn an_entry_that_somebody_else_can_write_stops_the_count() {
        let (folder, spool) = spool();
        ledger(&spool).enter(&place("a.age"), &[], &at_most(1)).unwrap();
        let entry = folder.path().join("rhythm/pillar-3/enrich/00000001");
        let mode = |mode| std::fs::set_permissions(&entry, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o664);
        assert!(ledger(&spool).enter(&place("b.age"), &[], &at_most(9)).is_err());
        mode(0o640);
        std::fs::write(&entry, "{}").unwrap();
        assert!(ledger(&spool).enter(&place("b.age"), &[], &at_most(9)).is_err());
    }

    #[test]
    fn dropped_ledgers_are_gone_entry_by_entry_after_a_record() {
        let (folder, spool) = spool();
        for name in ["a.age", "b.age"] {
            ledger(&spool).enter(&place(name), &[], &at_most(9)).unwrap();
        }
        let recorded = Mutex::new(Vec::new());
        let record = |path: &str, _, _| {
            recorded.lock().unwrap().push(path.to_owned());
            recorded.lock().unwrap().len() < 3
        };
        assert_eq!(spool.drop_ledgers(&slug("pillar-3"), record).unwrap(), 2, "what is not recorded stays");
        assert!(folder.path().join("rhythm/pillar-3/enrich").exists());
        assert_eq!(spool.drop_ledgers(&slug("pillar-3"), |_, _, _| true).unwrap(), 1);
        assert!(!folder.path().join("rhythm/pillar-3/enrich").exists());
    }
}

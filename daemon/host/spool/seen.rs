//! What was here before: `seen/‹first two hex›/‹sha256›.json`, one marker for each encrypted file that a job was begun on. It
//! outlives the arrival. Whoever makes a marker first, on any node, is the first arrival with that content; what follows
//! from that is `policy::replay`'s question. The folder is `work`'s own: `serve` reads it at most, for a process that may
//! be taken over must not say what was here before.

use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{FileType, Mode, Timespec, Timestamps, futimens};
use rustix::io::Errno;

use super::{Attempt, Directory, Spool, SpoolError, is_ours, read_json, temporary_name, to_json};
use crate::policy::arrival::{Arrival, ArrivalId, State};
use crate::policy::replay::Marker;

/// The folder, below the spool.
pub(super) const SEEN: &str = "seen";
/// Its owner alone changes anything in it.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o2750);
const MARKER_MODE: Mode = Mode::from_raw_mode(0o640);
const ENDING: &str = ".json";

/// What is known of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The first arrival that had it.
    By(Marker),
    /// Nobody can say: the marker has another owner, or cannot be read.
    Forged {
        /// Where it lies, relative to the spool.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// Where a marker lies.
struct Place {
    folder: String,
    name: String,
}

impl Place {
    /// `None` for what is no SHA-256.
    fn of(sha256: &str) -> Option<Self> {
        let is_digest = sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let folder = sha256.get(..2).filter(|_| is_digest)?.to_owned();
        Some(Self { folder, name: format!("{sha256}{ENDING}") })
    }

    fn path(&self) -> String {
        format!("{SEEN}/{}/{}", self.folder, self.name)
    }
}

impl Spool {
    /// At the start of `work`: makes the folder, and refuses one that is somebody else's.
    pub fn own_seen(&self) -> Result<(), SpoolError> {
        self.seen_folder().map(drop)
    }

    /// Marks a content as seen, durably, unless it is marked already; gives the marker that stands. Of several that do this
    /// at the same time, on any node, one succeeds.
    pub fn mark_seen(&self, sha256: &str, marker: &Marker) -> Result<Seen, SpoolError> {
        let place = Place::of(sha256).ok_or_else(|| no_digest(sha256))?;
        let folder = self.markers_beside(&place)?;
        let seen = match read(&folder, &place)? {
            Some(seen) => seen,
            None => {
                let temporary = write_marker(&folder, &place, marker)?;
                match folder.move_to(&temporary, &folder, &place.name) {
                    Ok(()) => Seen::By(marker.clone()),
                    Err(error) => {
                        discard(&folder, &temporary);
                        if error != Errno::EXIST {
                            return Err(error).attempt("make", || place.path());
                        }
                        // Removed again since: the next try finds out.
                        read(&folder, &place)?.ok_or_else(|| SpoolError::Busy(place.path()))?
                    }
                }
            }
        };
        // Also where it was there: whoever made it may have ended before it was durable.
        folder.sync().attempt("sync", || place.path())?;
        Ok(seen)
    }

    /// Whether the marker of an arrival's content names another arrival. What cannot be read says no.
    pub fn is_repetition(&self, state: State, id: &ArrivalId) -> bool {
        let sha256 = self.arrival(state, id).ok().and_then(|arrival| arrival.sha256);
        let Some(place) = sha256.as_deref().and_then(Place::of) else { return false };
        let folder = self.top.directory(SEEN).and_then(|seen| seen.directory(&place.folder));
        let seen = folder.ok().and_then(|folder| read(&folder, &place).ok().flatten());
        matches!(seen, Some(Seen::By(marker)) if marker.arrival != *id)
    }

    /// An operator lets this arrival's content be used although it was seen elsewhere: from now on it is the first one.
    pub fn allow_seen(&self, arrival: &Arrival, now: Timestamp) -> Result<(), SpoolError> {
        let sha256 = arrival.sha256.as_deref().unwrap_or_default();
        let place = Place::of(sha256).ok_or_else(|| no_digest(sha256))?;
        let folder = self.markers_beside(&place)?;
        let marker = Marker { arrival: arrival.id.clone(), received: arrival.received, seen: now };
        let temporary = write_marker(&folder, &place, &marker)?;
        folder
            .replace(&temporary, &folder, &place.name)
            .inspect_err(|_| discard(&folder, &temporary))
            .and_then(|()| folder.sync())
            .attempt("make", || place.path())
    }

    /// Removes the marker of an arrival that an operator discards, so that its sender may send the same file again. One that
    /// names another arrival stays. Says whether there was one. To be called before the arrival is removed.
    pub fn forget_seen(&self, arrival: &Arrival) -> Result<bool, SpoolError> {
        let Some(place) = arrival.sha256.as_deref().and_then(Place::of) else { return Ok(false) };
        let opened = self.top.directory(SEEN).and_then(|seen| seen.directory(&place.folder));
        let folder = match opened {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error).attempt("open", || place.path()),
        };
        match read(&folder, &place)? {
            Some(Seen::By(marker)) if marker.arrival == arrival.id => {
                let removed = folder.remove_if_there(&place.name).and_then(|()| folder.sync());
                removed.attempt("remove", || place.path()).map(|()| true)
            }
            Some(Seen::By(_) | Seen::Forged { .. }) | None => Ok(false),
        }
    }

    /// Removes the markers that are older than `kept`, each after `record`, which gets its SHA-256, has recorded it and
    /// agreed. One that cannot be removed does not keep the others.
    pub fn expire_seen(
        &self,
        now: Timestamp,
        kept: Duration,
        record: impl Fn(&str, &Marker) -> bool,
    ) -> Result<(), SpoolError> {
        let seen = match self.top.directory(SEEN) {
            Ok(seen) => seen,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).attempt("open", || SEEN.to_owned()),
        };
        for part in seen.entries().attempt("list", || SEEN.to_owned())? {
            let expired = seen
                .directory(&part.name)
                .attempt("open", || format!("{SEEN}/{}", part.name))
                .and_then(|folder| expire_part(&folder, now, kept, &record));
            if let Err(error) = expired {
                tracing::error!(%error, "markers of old content could not be removed");
            }
        }
        Ok(())
    }

    fn markers_beside(&self, place: &Place) -> Result<Directory, SpoolError> {
        let seen = self.seen_folder()?;
        open_or_make(&seen, &place.folder).attempt("make", || format!("{SEEN}/{}", place.folder))
    }

    fn seen_folder(&self) -> Result<Directory, SpoolError> {
        self.own_folder(SEEN)
    }

    /// A folder that is `work`'s own, made if it is not there; refused where it is somebody else's.
    pub(super) fn own_folder(&self, name: &str) -> Result<Directory, SpoolError> {
        let folder = open_or_make(&self.top, name).attempt("make", || name.to_owned())?;
        let facts = folder.stat_self().attempt("examine", || name.to_owned())?;
        if is_ours(&facts) {
            return Ok(folder);
        }
        Err(SpoolError::Unfit(format!(
            "the folder {name} of the spool {} belongs to user {} and not to the one that runs `work`: find out who made it; \
             then, with both sides stopped, chown it with all below it to that user",
            self.path.display(),
            facts.st_uid
        )))
    }
}

fn no_digest(sha256: &str) -> SpoolError {
    SpoolError::Unreadable { what: SEEN.to_owned(), cause: format!("{sha256:?} is no SHA-256") }
}

/// There already but for the first time, so that is tried first.
pub(super) fn open_or_make(parent: &Directory, name: &str) -> rustix::io::Result<Directory> {
    match parent.directory(name) {
        Err(Errno::NOENT) => parent.make_with_mode(name, FOLDER_MODE),
        other => other,
    }
}

fn read(folder: &Directory, place: &Place) -> Result<Option<Seen>, SpoolError> {
    let facts = match folder.stat(&place.name) {
        Ok(facts) => facts,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).attempt("examine", || place.path()),
    };
    let forged = |cause: String| Ok(Some(Seen::Forged { path: place.path(), cause }));
    if !is_ours(&facts) {
        return forged(format!("it belongs to user {}", facts.st_uid));
    }
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return forged("it is no file".to_owned());
    }
    match read_json::<Marker>(folder, &place.name) {
        Ok(marker) => Ok(Some(Seen::By(marker))),
        Err(SpoolError::Unreadable { cause, .. }) => forged(cause),
        // Removed since.
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whole and durable under a name of its own, with the time that `expire_seen` goes by; gives that name.
fn write_marker(folder: &Directory, place: &Place, marker: &Marker) -> Result<String, SpoolError> {
    let json = to_json(marker)?;
    let temporary = temporary_name();
    let stamp = Timespec { tv_sec: marker.seen.as_second(), tv_nsec: 0 };
    let write = || -> std::io::Result<()> {
        let mut file = folder.create(&temporary)?;
        rustix::fs::fchmod(&file, MARKER_MODE)?;
        file.write_all(&json)?;
        futimens(&file, &Timestamps { last_access: stamp, last_modification: stamp })?;
        file.sync_all()
    };
    write().attempt("write", || place.path()).inspect_err(|_| discard(folder, &temporary))?;
    Ok(temporary)
}

/// What cannot be removed now is swept later.
fn discard(folder: &Directory, temporary: &str) {
    let _ = folder.remove_if_there(temporary);
}

fn expire_part(
    folder: &Directory,
    now: Timestamp,
    kept: Duration,
    record: impl Fn(&str, &Marker) -> bool,
) -> Result<(), SpoolError> {
    let kept = i64::try_from(kept.as_secs()).unwrap_or(i64::MAX);
    let mut is_changed = false;
    for entry in folder.entries().attempt("list", || SEEN.to_owned())? {
        let Ok(facts) = folder.stat(&entry.name) else { continue };
        let age = now.as_second().saturating_sub(facts.st_mtime);
        let place = entry.name.strip_suffix(ENDING).and_then(|sha256| Some((sha256, Place::of(sha256)?)));
        // What a crash left half-made is `orphans`' business.
        let Some((sha256, place)) = place.filter(|_| age > kept) else { continue };
        if matches!(read(folder, &place)?, Some(Seen::By(marker)) if record(sha256, &marker)) {
            folder.remove_if_there(&entry.name).attempt("remove", || format!("{SEEN}/{}", entry.name))?;
            is_changed = true;
        }
    }
    if is_changed {
        folder.sync().attempt("sync", || SEEN.to_owned())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;
    use std::sync::{Barrier, Mutex};

    use super::*;
    use crate::policy::arrival::tests::arrival_named;

    const NOW: &str = "2026-11-21T23:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn digest(text: &str) -> String {
        crate::policy::digest::sha256(text.as_bytes())
    }

    fn arrival(name: &str, content: &str) -> Arrival {
        Arrival { sha256: Some(digest(content)), ..arrival_named(name) }
    }

    fn marker(arrival: &Arrival) -> Marker {
        Marker { arrival: arrival.id.clone(), received: arrival.received, seen: now() }
    }

    fn spool() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), &[]).unwrap();
        (folder, spool)
    }

    fn path(folder: &Path, content: &str) -> std::path::PathBuf {
        folder.join(Place::of(&digest(content)).unwrap().path())
    }

    #[test]
    fn the_first_marker_of_a_content_stands_and_is_its_makers_alone_to_write() {
        let (folder, spool) = spool();
        let (one, other) = (marker(&arrival("a.age", "x")), marker(&arrival("b.age", "x")));
        assert_eq!(spool.mark_seen(&digest("x"), &one).unwrap(), Seen::By(one.clone()));
        for again in [&one, &other] {
            assert_eq!(spool.mark_seen(&digest("x"), again).unwrap(), Seen::By(one.clone()));
        }
        let place = path(folder.path(), "x");
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode(&place), mode(place.parent().unwrap())), (0o640, 0o2750));
        assert_eq!(mode(&folder.path().join(SEEN)), 0o2750);
        let names: Vec<_> = std::fs::read_dir(place.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing else is left");
        assert_eq!(spool.mark_seen(&digest("y"), &other).unwrap(), Seen::By(other));
        assert!(spool.mark_seen("../x", &one).is_err());
    }

    #[test]
    fn of_many_that_mark_at_the_same_time_exactly_one_is_first() {
        let (folder, spool) = spool();
        for round in 0..20 {
            let content = digest(&round.to_string());
            let barrier = Barrier::new(4);
            let stands = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for worker in 0..4 {
                    // Each of them a node of its own.
                    let node = Spool::open(folder.path(), &[]).unwrap();
                    let own = marker(&arrival(&format!("{worker}.age"), "x"));
                    let (barrier, stands, content) = (&barrier, &stands, &content);
                    scope.spawn(move || {
                        barrier.wait();
                        let stood = node.mark_seen(content, &own).unwrap();
                        stands.lock().unwrap().push(stood);
                    });
                }
            });
            let stands = stands.into_inner().unwrap();
            assert!(stands.iter().all(|seen| *seen == stands[0]), "{stands:?}");
        }
        drop(spool);
    }

    #[test]
    fn what_work_did_not_write_is_no_marker() {
        let (folder, spool) = spool();
        let own = marker(&arrival("a.age", "x"));
        spool.mark_seen(&digest("x"), &own).unwrap();
        let place = path(folder.path(), "x");
        let foreign = serde_json::to_vec(&own).unwrap();
        for (what, plant) in [
            ("empty", Box::new(|| std::fs::write(&place, "").unwrap()) as Box<dyn Fn()>),
            ("a link", Box::new(|| symlink("/etc/passwd", &place).unwrap())),
            ("a folder", Box::new(|| std::fs::create_dir(&place).unwrap())),
            ("another's", {
                Box::new(|| {
                    std::fs::write(&place, &foreign).unwrap();
                    std::os::unix::fs::chown(&place, Some(12_345), None).unwrap();
                })
            }),
        ] {
            if what == "another's" && !rustix::process::geteuid().is_root() {
                continue;
            }
            let _ = std::fs::remove_file(&place).or_else(|_| std::fs::remove_dir(&place));
            plant();
            let seen = spool.mark_seen(&digest("x"), &own).unwrap();
            assert!(matches!(seen, Seen::Forged { .. }), "{what}: {seen:?}");
        }
    }

    #[test]
    fn a_folder_that_somebody_else_made_is_not_used() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (folder, spool) = spool();
        std::fs::create_dir(folder.path().join(SEEN)).unwrap();
        std::os::unix::fs::chown(folder.path().join(SEEN), Some(12_345), None).unwrap();
        assert!(matches!(spool.own_seen(), Err(SpoolError::Unfit(_))));
        assert!(spool.mark_seen(&digest("x"), &marker(&arrival("a.age", "x"))).is_err());
    }

    #[test]
    fn a_discarded_arrival_is_forgotten_and_nobody_elses_marker_is() {
        let (_folder, spool) = spool();
        let (first, second) = (arrival("a.age", "x"), arrival("b.age", "x"));
        assert!(!spool.forget_seen(&first).unwrap(), "never seen");
        spool.mark_seen(&digest("x"), &marker(&first)).unwrap();
        assert!(!spool.forget_seen(&second).unwrap());
        assert!(!spool.forget_seen(&arrival_named("a.age")).unwrap(), "without a digest");
        assert_eq!(spool.mark_seen(&digest("x"), &marker(&second)).unwrap(), Seen::By(marker(&first)));
        assert!(spool.forget_seen(&first).unwrap());
        assert_eq!(spool.mark_seen(&digest("x"), &marker(&second)).unwrap(), Seen::By(marker(&second)));
    }

    #[test]
    fn an_operator_can_let_an_arrival_be_the_first() {
        let (_folder, spool) = spool();
        let (first, second) = (arrival("a.age", "x"), arrival("b.age", "x"));
        spool.mark_seen(&digest("x"), &marker(&first)).unwrap();
        spool.allow_seen(&second, now()).unwrap();
        assert_eq!(spool.mark_seen(&digest("x"), &marker(&first)).unwrap(), Seen::By(marker(&second)));
    }

    #[test]
    fn markers_go_when_their_time_has_passed_and_their_deletion_is_recorded() {
        let (folder, spool) = spool();
        for content in ["old", "kept", "young"] {
            let own = arrival(&format!("{content}.age"), content);
            let back = if content == "young" { 5 } else { 15 };
            let seen = now() - jiff::SignedDuration::from_hours(24 * back);
            let marker = Marker { seen, ..marker(&own) };
            spool.mark_seen(&digest(content), &marker).unwrap();
        }
        let told = Mutex::new(Vec::new());
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let expire = |at: Timestamp| {
            let record = |sha256: &str, marker: &Marker| {
                told.lock().unwrap().push((sha256.to_owned(), marker.arrival.clone()));
                sha256 != digest("kept")
            };
            spool.expire_seen(at, days(10), record).unwrap();
        };
        expire(now());
        let mut recorded = told.lock().unwrap().clone();
        recorded.sort();
        let mut expected =
            ["old", "kept"].map(|it| (digest(it), arrival(&format!("{it}.age"), it).id)).to_vec();
        expected.sort();
        assert_eq!(recorded, expected);
        let there = ["old", "kept", "young"].map(|content| path(folder.path(), content).exists());
        assert_eq!(there, [false, true, true]);
    }
}

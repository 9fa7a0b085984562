//! What a crash left half-made, and its removal: folders of uploads without content, descriptions beside uploads that were not
//! published, refusals and receipts that were not completed, uploads that the disk failed. Other processes, on other nodes with
//! clocks of their own, may be making such things at this moment: so something is an orphan when it has not changed for a while
//! by this process's own measure of time, and nobody holds its lock. What has merely expired is `partial`'s business.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::ledger::RHYTHM;
use super::partial::UNSAFE;
use super::passphrases::PASSPHRASES;
use super::publish::remove_arrival;
use super::seen::SEEN;
use super::{Attempt, Directory, PAYLOAD, Spool, SpoolError, is_unfinished};
use crate::policy::arrival::{State, UNFINISHED};
use crate::policy::path::{Name, Slug};

/// Longer than anybody takes from making a folder to writing into it, unless it was stopped; and then it makes it again.
const AFTER: Duration = Duration::from_secs(30);
/// Half-made things watched at a time; what is beyond has its turn later.
const WATCHED_MAX: usize = 100_000;

/// What looked like an orphan when the spool was last swept.
#[derive(Debug, Default)]
pub struct Orphans {
    seen: HashMap<String, (Looks, Instant)>,
}

/// Inode, size, modification and change time of a folder and of what makes it look like an orphan.
type Looks = [i64; 4];

/// What a sweep removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swept {
    /// Nothing that anybody sent.
    Rubble(String),
    /// An upload that the disk had failed.
    Failed(Slug, Slug, Name),
}

impl Spool {
    /// Removes the orphans among uploads and refusals that were seen unchanged long enough before `now`.
    pub fn sweep(&self, orphans: &mut Orphans, now: Instant) -> Result<Vec<Swept>, SpoolError> {
        let (mut swept, mut seen) = (Vec::new(), HashMap::new());
        let mut is_old = orphans.watch(&mut seen, now);
        let swept_all = self
            .sweep_partials(&mut swept, &mut is_old)
            .and_then(|()| self.sweep_refusals(&mut swept, &mut is_old));
        drop(is_old);
        orphans.seen = seen;
        swept_all.map(|()| swept)
    }

    /// Likewise what `work` makes: receipts, and the markers of what was seen, which nobody else may remove.
    pub fn sweep_papers(&self, orphans: &mut Orphans, now: Instant) -> Result<Vec<Swept>, SpoolError> {
        let (mut swept, mut seen) = (Vec::new(), HashMap::new());
        let mut is_old = orphans.watch(&mut seen, now);
        let swept_all = self
            .sweep_receipts(&mut swept, &mut is_old)
            .and_then(|()| self.sweep_markers(&mut swept, &mut is_old))
            .and_then(|()| self.sweep_ledgers(&mut swept, &mut is_old))
            .and_then(|()| match self.top.directory(PASSPHRASES) {
                Ok(folder) => sweep_unfinished(&folder, PASSPHRASES, &mut swept, &mut is_old),
                Err(_) => Ok(()),
            });
        drop(is_old);
        orphans.seen = seen;
        swept_all.map(|()| swept)
    }

    fn sweep_markers(
        &self,
        swept: &mut Vec<Swept>,
        is_old: &mut impl FnMut(&str, Looks) -> bool,
    ) -> Result<(), SpoolError> {
        // Not there before `work` ran once.
        let Ok(markers) = self.top.directory(SEEN) else { return Ok(()) };
        for part in entries(&markers, SEEN)? {
            if let Ok(folder) = markers.directory(&part) {
                sweep_unfinished(&folder, &format!("{SEEN}/{part}"), swept, is_old)?;
            }
        }
        Ok(())
    }

    fn sweep_ledgers(
        &self,
        swept: &mut Vec<Swept>,
        is_old: &mut impl FnMut(&str, Looks) -> bool,
    ) -> Result<(), SpoolError> {
        let Ok(top) = self.top.directory(RHYTHM) else { return Ok(()) };
        for exchange in entries(&top, RHYTHM)? {
            let Ok(folder) = top.directory(&exchange) else { continue };
            let at = format!("{RHYTHM}/{exchange}");
            sweep_unfinished(&folder, &at, swept, is_old)?;
            for flow in entries(&folder, &at)? {
                // What is no flow is a file.
                if let Ok(ledger) = folder.directory(&flow) {
                    sweep_unfinished(&ledger, &format!("{at}/{flow}"), swept, is_old)?;
                }
            }
        }
        Ok(())
    }

    fn sweep_partials(
        &self,
        swept: &mut Vec<Swept>,
        is_old: &mut impl FnMut(&str, Looks) -> bool,
    ) -> Result<(), SpoolError> {
        for pair in entries(&self.partial, "partial")? {
            let Some((institution, exchange)) = pair.split_once('.') else { continue };
            let (Ok(institution), Ok(exchange)) = (Slug::parse(institution), Slug::parse(exchange)) else {
                continue;
            };
            let parent = self.partials(&institution, &exchange)?;
            for name in entries(&parent, &pair)? {
                let path = format!("partial/{pair}/{name}");
                // It may be published or removed at any time.
                let Ok(folder) = parent.directory(&name) else { continue };
                let Some(looks) = orphaned(&folder) else { continue };
                if is_old(&path, looks)
                    && let Some(removed) =
                        self.sweep_partial(&parent, &folder, (&institution, &exchange), &name)
                {
                    swept.push(removed);
                }
            }
        }
        Ok(())
    }

    /// What goes of an upload's folder. What cannot be removed now has its turn the next time.
    fn sweep_partial(
        &self,
        parent: &Directory,
        folder: &Directory,
        (institution, exchange): (&Slug, &Slug),
        name: &str,
    ) -> Option<Swept> {
        let rubble = || Swept::Rubble(format!("partial/{institution}.{exchange}/{name}"));
        let parsed = Name::parse(name).ok()?;
        let was_unsafe = folder.stat(UNSAFE).is_ok() && folder.stat(PAYLOAD).is_ok();
        match self.open_partial(institution, exchange, &parsed) {
            Ok(Some(partial)) if partial.size().is_ok_and(|size| size == 0) => {
                partial.remove().is_ok().then(rubble)
            }
            Ok(Some(_held)) => {
                // Nobody else writes beside it while it is held.
                let beside = entries(folder, name).ok()?;
                let mut beside = beside.iter().filter(|entry| *entry != PAYLOAD);
                beside.try_for_each(|entry| folder.remove_if_there(entry)).ok().map(|()| rubble())
            }
            Ok(None) if was_unsafe => Some(Swept::Failed(institution.clone(), exchange.clone(), parsed)),
            Ok(None) => {
                // Without its file nobody can hold it. Who is about to make one makes the folder again.
                let beside = entries(folder, name).ok()?;
                let mut beside = beside.iter().filter(|entry| *entry != PAYLOAD);
                let cleared = beside.try_for_each(|entry| folder.remove_if_there(entry));
                cleared.and_then(|()| parent.remove_directory(name)).ok().map(|()| rubble())
            }
            Err(SpoolError::Busy(_)) => None,
            Err(error) => {
                tracing::warn!(%error, "what a crash or a failing disk left could not be removed");
                None
            }
        }
    }

    fn sweep_refusals(
        &self,
        swept: &mut Vec<Swept>,
        is_old: &mut impl FnMut(&str, Looks) -> bool,
    ) -> Result<(), SpoolError> {
        let refused = self.state(State::Refused);
        for name in entries(refused, "refused")?.into_iter().filter(|name| name.ends_with(UNFINISHED)) {
            let path = format!("refused/{name}");
            let looks = refused.directory(&name).and_then(|folder| looks_of(&folder));
            if looks.is_ok_and(|looks| is_old(&path, looks)) && remove_arrival(refused, &name).is_ok() {
                swept.push(Swept::Rubble(path));
            }
        }
        Ok(())
    }

    fn sweep_receipts(
        &self,
        swept: &mut Vec<Swept>,
        is_old: &mut impl FnMut(&str, Looks) -> bool,
    ) -> Result<(), SpoolError> {
        for institution in entries(&self.receipts, "receipts")? {
            let Ok(of_institution) = self.receipts.directory(&institution) else { continue };
            for exchange in entries(&of_institution, &institution)? {
                let Ok(folder) = of_institution.directory(&exchange) else { continue };
                sweep_unfinished(&folder, &format!("receipts/{institution}/{exchange}"), swept, is_old)?;
            }
        }
        Ok(())
    }
}

impl Orphans {
    /// Says of something whether it has looked so for long enough. Fills `seen`, which takes the place of what was seen before.
    fn watch(
        &self,
        seen: &mut HashMap<String, (Looks, Instant)>,
        now: Instant,
    ) -> impl FnMut(&str, Looks) -> bool {
        move |path, looks| {
            let since = self.seen.get(path).filter(|(before, _)| *before == looks).map_or(now, |(_, at)| *at);
            if seen.len() < WATCHED_MAX {
                seen.insert(path.to_owned(), (looks, since));
            }
            now.saturating_duration_since(since) >= AFTER
        }
    }
}

/// What was to take the place of another file of a folder, and was not completed.
fn sweep_unfinished(
    folder: &Directory,
    at: &str,
    swept: &mut Vec<Swept>,
    is_old: &mut impl FnMut(&str, Looks) -> bool,
) -> Result<(), SpoolError> {
    for name in entries(folder, at)?.into_iter().filter(|name| is_unfinished(name)) {
        let path = format!("{at}/{name}");
        let looks = folder.stat(&name).map(|facts| looks(&facts));
        if looks.is_ok_and(|looks| is_old(&path, looks)) && folder.remove_if_there(&name).is_ok() {
            swept.push(Swept::Rubble(path));
        }
    }
    Ok(())
}

/// How the folder of an upload looks, if that is not how one looks that can be gone on with.
fn orphaned(folder: &Directory) -> Option<Looks> {
    let names = entries(folder, "").ok()?;
    let payload = folder.stat(PAYLOAD);
    let has_content = payload.as_ref().is_ok_and(|facts| facts.st_size > 0);
    if has_content && names.len() == 1 {
        return None;
    }
    let [inode, size, mtime, ctime] = looks_of(folder).ok()?;
    // Whoever holds it writes into the file, not into the folder.
    let (length, changed) = payload.map_or((0, 0), |facts| (facts.st_size, facts.st_mtime));
    Some([inode, size.wrapping_add(length), mtime.max(changed), ctime])
}

fn looks_of(folder: &Directory) -> rustix::io::Result<Looks> {
    folder.stat_self().map(|facts| looks(&facts))
}

fn looks(facts: &rustix::fs::Stat) -> Looks {
    [facts.st_ino.cast_signed(), facts.st_size, facts.st_mtime, facts.st_ctime]
}

fn entries(folder: &Directory, what: &str) -> Result<Vec<String>, SpoolError> {
    let entries = folder.entries().attempt("list", || what.to_owned())?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::ARRIVAL;
    use super::*;

    fn spool(folder: &Path) -> (Spool, Slug, Name) {
        let slug = Slug::parse("a").unwrap();
        let spool = Spool::open(folder, &[(slug.clone(), slug.clone())]).unwrap();
        (spool, slug, Name::parse("list.age").unwrap())
    }

    /// Looks again and again, and says after which look how many were gone.
    fn sweeps(spool: &Spool, seconds: &[u64]) -> Vec<usize> {
        let (mut orphans, start) = (Orphans::default(), Instant::now());
        let sweep =
            |after: &u64| spool.sweep(&mut orphans, start + Duration::from_secs(*after)).unwrap().len();
        seconds.iter().map(sweep).collect()
    }

    #[test]
    fn what_a_crash_left_goes_after_half_a_minute_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, slug, name) = spool(folder.path());
        let at = |path: &str| folder.path().join(path);
        for path in ["partial/a.a/empty.age", "partial/a.a/described.age", "refused/x.new"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        std::fs::write(at("partial/a.a/described.age/arrival.json"), "{}").unwrap();
        std::fs::write(at("refused/x.new/.0123456789abcdef.new"), "{").unwrap();
        drop(spool.create_partial(&slug, &slug, &Name::parse("nothing.age").unwrap()).unwrap());
        let mut partial = spool.create_partial(&slug, &slug, &name).unwrap();
        partial.write_at(b"content", 0).unwrap();
        partial.folder.create(ARRIVAL).unwrap();
        drop(partial);
        assert!(!spool.has_partials(&slug, &slug, 2).unwrap(), "rubble is no upload");
        assert!(spool.has_partials(&slug, &slug, 1).unwrap());
        assert_eq!(sweeps(&spool, &[0, 15, 29, 31, 45]), [0, 0, 0, 5, 0]);
        let left = std::fs::read_dir(at("partial/a.a/list.age")).unwrap().count();
        assert_eq!((left, spool.partials_facts(&slug, &slug).unwrap().len()), (1, 1), "the upload stays");
        assert_eq!(std::fs::read_dir(at("partial/a.a")).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(at("refused")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_of_work_left_goes_too_and_markers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, ..) = spool(folder.path());
        for path in ["seen/0a", "receipts/a/a"] {
            let at = |name: &str| folder.path().join(path).join(name);
            std::fs::create_dir_all(at("")).unwrap();
            for name in [".0123456789abcdef.new", "kept.json"] {
                std::fs::write(at(name), "{}").unwrap();
            }
        }
        let (mut orphans, start) = (Orphans::default(), Instant::now());
        let sweep =
            |after| spool.sweep_papers(&mut orphans, start + Duration::from_secs(after)).unwrap().len();
        assert_eq!([0, 29, 30, 60].map(sweep), [0, 0, 2, 0]);
        for path in ["seen/0a/kept.json", "receipts/a/a/kept.json"] {
            assert!(folder.path().join(path).exists(), "{path}");
        }
    }

    #[test]
    fn what_somebody_holds_or_still_changes_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, slug, name) = spool(folder.path());
        let held = spool.create_partial(&slug, &slug, &name).unwrap();
        held.folder.create(ARRIVAL).unwrap();
        assert_eq!(sweeps(&spool, &[0, 31, 62]), [0, 0, 0]);
        drop(held);
        let (mut orphans, start) = (Orphans::default(), Instant::now());
        for at in [0, 20, 40] {
            let moment = folder.path().join(format!("partial/a.a/list.age/.{at:016x}.new"));
            std::fs::write(moment, "").unwrap();
            let swept = spool.sweep(&mut orphans, start + Duration::from_secs(at)).unwrap();
            assert_eq!(swept, [], "after {at} s");
            // Times of file systems go in steps.
            std::thread::sleep(Duration::from_millis(1100));
        }
    }

    #[test]
    fn an_upload_that_the_disk_failed_goes_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, slug, name) = spool(folder.path());
        let mut partial = spool.create_partial(&slug, &slug, &name).unwrap();
        partial.write_at(b"content", 0).unwrap();
        partial.folder.create(UNSAFE).unwrap();
        drop(partial);
        let (mut orphans, start) = (Orphans::default(), Instant::now());
        assert_eq!(spool.sweep(&mut orphans, start).unwrap(), []);
        let swept = spool.sweep(&mut orphans, start + AFTER).unwrap();
        assert_eq!(swept, [Swept::Failed(slug.clone(), slug, name)]);
        assert_eq!(std::fs::read_dir(folder.path().join("partial/a.a")).unwrap().count(), 0);
    }
}

//! The keys of pseudonyms: `pseudonyms/‹exchange›.key`, one for each exchange that needs one. The folder is `work`'s alone: nobody
//! else enters it, and no backup holds it, because an end that can be undone from a tape is none. What a key is for is
//! `policy::pseudonym`'s question.
//!
//! A key is made at the first need, whole and durable before anybody uses it; of several nodes that make one at the same time,
//! one succeeds and all use that. A key that was destroyed leaves `‹exchange›.destroyed`, so that no new one takes its place
//! unnoticed and makes measurements that look comparable and are not.

use std::io::{Read, Write};

use jiff::Timestamp;
use rustix::fs::Mode;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{Attempt, Directory, Spool, SpoolError, is_ours, temporary_name};
use crate::policy::path::Slug;
use crate::policy::pseudonym::{KEY_BYTES, PseudonymKey};

/// The folder, below the spool.
const PSEUDONYMS: &str = "pseudonyms";
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);
/// What anybody but its owner may do.
const OTHERS: u32 = 0o077;
/// More than a key's file holds, in bytes.
const KEY_MAX: u64 = 256;
/// How often a key that others make and destroy meanwhile is looked for.
const LOOKS: usize = 3;

impl Spool {
    /// The key of an exchange, made now if there is none yet; `None` where it was destroyed.
    pub fn pseudonym_key(&self, exchange: &Slug) -> Result<Option<PseudonymKey>, SpoolError> {
        let folder = self.pseudonyms()?;
        let (key, destroyed) = (key_name(exchange), destroyed_name(exchange));
        for _ in 0..LOOKS {
            if folder.stat(&destroyed).is_ok() {
                return Ok(None);
            }
            if read(&folder, &key)?.is_none() {
                make(&folder, &key)?;
            }
            // Also where it was there: whoever made it may have ended before it was durable.
            folder.sync().attempt("sync", || PSEUDONYMS.to_owned())?;
            // Made in the moment between the two steps of a destruction, it must not stay.
            if folder.stat(&destroyed).is_ok() {
                wipe(&folder, &key)?;
                return Ok(None);
            }
            // Read anew: what counts is the one that is there.
            if let Some(key) = read(&folder, &key)? {
                return Ok(Some(key));
            }
        }
        Err(SpoolError::Busy(format!("{PSEUDONYMS}/{key}")))
    }

    /// The key that was used up to now; none if there is none.
    pub fn present_pseudonym_key(&self, exchange: &Slug) -> Result<Option<PseudonymKey>, SpoolError> {
        match self.top.directory(PSEUDONYMS) {
            Ok(folder) => read(&folder, &key_name(exchange)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).attempt("open", || PSEUDONYMS.to_owned()),
        }
    }

    /// Destroys the key of an exchange for good: it is overwritten, removed, and no new one is made. Whether there was one.
    pub fn destroy_pseudonym_key(&self, exchange: &Slug, now: Timestamp) -> Result<bool, SpoolError> {
        let folder = match self.top.directory(PSEUDONYMS) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error).attempt("open", || PSEUDONYMS.to_owned()),
        };
        let (key, destroyed) = (key_name(exchange), destroyed_name(exchange));
        if is_absent(&folder, &key) {
            return Ok(false);
        }
        // First: who makes a key looks for this before and after.
        match folder.create_private(&destroyed) {
            Ok(mut file) => {
                let written = writeln!(file, "{now}").and_then(|()| file.sync_all());
                written.attempt("write", || destroyed.clone())?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).attempt("make", || destroyed),
        }
        folder.sync().attempt("sync", || PSEUDONYMS.to_owned())?;
        wipe(&folder, &key)?;
        Ok(true)
    }

    fn pseudonyms(&self) -> Result<Directory, SpoolError> {
        let opened = match self.top.directory(PSEUDONYMS) {
            Err(Errno::NOENT) => self.top.make_with_mode(PSEUDONYMS, FOLDER_MODE),
            other => other,
        };
        let folder = opened.attempt("make", || PSEUDONYMS.to_owned())?;
        let facts = folder.stat_self().attempt("examine", || PSEUDONYMS.to_owned())?;
        if is_ours(&facts) && facts.st_mode & OTHERS == 0 {
            return Ok(folder);
        }
        Err(SpoolError::Unfit(format!(
            "the folder {PSEUDONYMS} of the spool {} belongs to user {} with mode {:o}, and may be entered by nobody but the user \
             that runs `work`: find out who changed it; then chown it to that user and chmod it to 700",
            self.path.display(),
            facts.st_uid,
            facts.st_mode & 0o7777
        )))
    }
}

fn key_name(exchange: &Slug) -> String {
    format!("{exchange}.key")
}

fn destroyed_name(exchange: &Slug) -> String {
    format!("{exchange}.destroyed")
}

fn is_absent(folder: &Directory, name: &str) -> bool {
    matches!(folder.stat(name), Err(Errno::NOENT))
}

/// None if there is none. One that is damaged or that others may read is an error, and never a reason to make another.
fn read(folder: &Directory, name: &str) -> Result<Option<PseudonymKey>, SpoolError> {
    let what = || format!("{PSEUDONYMS}/{name}");
    let file = match folder.file(name) {
        Ok(file) => file,
        // A link, a FIFO or a folder of that name is something that is there.
        Err(Errno::NOENT) if is_absent(folder, name) => return Ok(None),
        Err(error) => return Err(error).attempt("open", what),
    };
    let unreadable = |cause: &str| Err(SpoolError::Unreadable { what: what(), cause: cause.to_owned() });
    let facts = rustix::fs::fstat(&file).attempt("examine", what)?;
    if !is_ours(&facts) || facts.st_mode & OTHERS != 0 {
        return unreadable(
            "others than the user that runs `work` may read or write it; find out who did, and chmod it to 600",
        );
    }
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_MAX as usize));
    file.take(KEY_MAX).read_to_end(&mut text).attempt("read", what)?;
    match PseudonymKey::parse(&text) {
        Some(key) => Ok(Some(key)),
        None => unreadable(
            "it is no key; put back the copy that you keep of it, or move it away and have all pseudonyms change",
        ),
    }
}

/// Makes a key, unless somebody else is first.
fn make(folder: &Directory, name: &str) -> Result<(), SpoolError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let filled = rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty());
    if filled.attempt("draw random bytes for", || name.to_owned())? != KEY_BYTES {
        return Err(SpoolError::Busy(name.to_owned()));
    }
    let temporary = temporary_name();
    let mut file = folder.create_private(&temporary).attempt("make", || name.to_owned())?;
    let written =
        file.write_all(PseudonymKey::new(bytes).to_text().as_bytes()).and_then(|()| file.sync_all());
    let moved = written.attempt("write", || name.to_owned()).and_then(|()| {
        match folder.move_to(&temporary, folder, name) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error).attempt("make", || name.to_owned()),
        }
    });
    if !matches!(moved, Ok(true)) {
        wipe(folder, &temporary)?;
    }
    moved.map(drop)
}

/// Overwrites and removes a file. On a file system that writes elsewhere what is overwritten, and on flash, that is less than
/// it seems: the disk should be encrypted.
fn wipe(folder: &Directory, name: &str) -> Result<(), SpoolError> {
    let what = || format!("{PSEUDONYMS}/{name}");
    match folder.file_to_write(name) {
        Ok(mut file) => {
            let length =
                usize::try_from(file.metadata().attempt("examine", what)?.len().min(KEY_MAX)).unwrap_or(0);
            file.write_all(&vec![0; length]).and_then(|()| file.sync_all()).attempt("overwrite", what)?;
        }
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error).attempt("open", what),
    }
    folder.remove_if_there(name).and_then(|()| folder.sync()).attempt("remove", what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    struct Case {
        folder: tempfile::TempDir,
        spool: Spool,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let spool = Spool::open(folder.path(), &[]).unwrap();
            Self { folder, spool }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(PSEUDONYMS).join(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.folder.path().join(PSEUDONYMS)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    fn exchange() -> Slug {
        Slug::parse("pillar-3").unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_key_is_made_once_for_each_exchange_and_nobody_else_can_read_it() {
        let case = Case::new();
        assert_eq!(case.spool.present_pseudonym_key(&exchange()).unwrap(), None, "to look makes none");
        let key = case.spool.pseudonym_key(&exchange()).unwrap().unwrap();
        let again = Spool::open(case.folder.path(), &[]).unwrap();
        assert_eq!(again.pseudonym_key(&exchange()).unwrap(), Some(key.clone()));
        let other = Slug::parse("pillar-4").unwrap();
        assert_ne!(case.spool.pseudonym_key(&other).unwrap(), Some(key));
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(case.path("")), mode(case.path("pillar-3.key"))), (0o700, 0o600));
        assert_eq!(case.names().len(), 2, "nothing half-made stays");
    }

    #[test]
    fn all_who_need_a_key_at_the_same_time_get_the_same_one() {
        let case = Case::new();
        let keys: Vec<PseudonymKey> = std::thread::scope(|scope| {
            let nodes: Vec<_> = (0..8)
                .map(|_| {
                    let path = case.folder.path();
                    scope.spawn(move || {
                        let node = Spool::open(path, &[]).unwrap();
                        node.pseudonym_key(&exchange()).unwrap().unwrap()
                    })
                })
                .collect();
            nodes.into_iter().map(|node| node.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(case.names(), ["pillar-3.key"]);
    }

    #[test]
    fn a_key_that_was_destroyed_is_gone_and_no_other_takes_its_place() {
        let case = Case::new();
        assert!(!case.spool.destroy_pseudonym_key(&exchange(), now()).unwrap(), "there was none");
        case.spool.pseudonym_key(&exchange()).unwrap().unwrap();
        // A second name shows what the bytes became.
        std::fs::hard_link(case.path("pillar-3.key"), case.folder.path().join("kept")).unwrap();
        assert!(case.spool.destroy_pseudonym_key(&exchange(), now()).unwrap());
        assert!(std::fs::read(case.folder.path().join("kept")).unwrap().iter().all(|byte| *byte == 0));
        assert_eq!(case.names(), ["pillar-3.destroyed"]);
        assert_eq!(case.spool.pseudonym_key(&exchange()).unwrap(), None);
        assert_eq!(case.spool.present_pseudonym_key(&exchange()).unwrap(), None);
        assert!(!case.spool.destroy_pseudonym_key(&exchange(), now()).unwrap());
    }

    #[test]
    fn a_destruction_that_a_crash_cut_short_is_completed() {
        let case = Case::new();
        case.spool.pseudonym_key(&exchange()).unwrap().unwrap();
        std::fs::write(case.path("pillar-3.destroyed"), "").unwrap();
        assert_eq!(case.spool.pseudonym_key(&exchange()).unwrap(), None);
        assert!(case.spool.destroy_pseudonym_key(&exchange(), now()).unwrap());
        assert_eq!(case.names(), ["pillar-3.destroyed"]);
    }

    #[test]
    fn a_key_that_is_damaged_or_open_to_others_is_an_error_and_not_replaced() {
        for break_it in [
            |case: &Case| std::fs::write(case.path("pillar-3.key"), "x").unwrap(),
            |case: &Case| std::fs::write(case.path("pillar-3.key"), "").unwrap(),
            |case: &Case| {
                let open = std::fs::Permissions::from_mode(0o640);
                std::fs::set_permissions(case.path("pillar-3.key"), open).unwrap();
            },
            |case: &Case| {
                std::fs::rename(case.path("pillar-3.key"), case.path("elsewhere")).unwrap();
                std::os::unix::fs::symlink("elsewhere", case.path("pillar-3.key")).unwrap();
            },
        ] {
            let case = Case::new();
            case.spool.pseudonym_key(&exchange()).unwrap().unwrap();
            break_it(&case);
            assert!(case.spool.pseudonym_key(&exchange()).is_err());
        }
        let case = Case::new();
        std::fs::create_dir(case.path("")).unwrap();
        std::fs::set_permissions(case.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(case.spool.pseudonym_key(&exchange()), Err(SpoolError::Unfit(_))));
    }
}

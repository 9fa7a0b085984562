//! Where tools of this machine hand in finished encrypted files: `handoff/‹exchange›/‹name›`. The folders are `work`'s own, writable
//! for whichever group the operator gives them to, and none of `serve`'s business. What lies there is somebody else's file, which
//! may change at any moment: it is only ever read, and removed; what becomes of it is a copy. What is taken, `work` decides.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::fs::{FileType, Mode, Stat, fstat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{Attempt, Directory, Spool, SpoolError};
use crate::policy::path::{Name, Slug};

/// The folder with one folder for each exchange that files are handed in for.
const HANDOFF: &str = "handoff";
/// Everybody finds the folder of an exchange, and nobody lists them.
const TOP_MODE: Mode = Mode::from_raw_mode(0o711);
/// Until the operator gives it to a group: nobody's but `work`'s. Files in it get the folder's group, and nobody but their owner
/// and `work` removes them.
const EXCHANGE_MODE: Mode = Mode::from_raw_mode(0o3700);

/// A file that was handed in, as it looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// Under which name.
    pub name: Name,
    /// How it looked.
    pub look: Look,
}

/// What shows that a file is still the same, and unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    identity: [u64; 2],
    size: u64,
    modified: [i64; 2],
    changed: [i64; 2],
    owner: u32,
    is_plain: bool,
}

impl Look {
    fn of(facts: &Stat) -> Self {
        Self {
            identity: [facts.st_dev, facts.st_ino],
            size: u64::try_from(facts.st_size).unwrap_or(0),
            modified: [facts.st_mtime, i64::try_from(facts.st_mtime_nsec).unwrap_or(0)],
            changed: [facts.st_ctime, i64::try_from(facts.st_ctime_nsec).unwrap_or(0)],
            owner: facts.st_uid,
            is_plain: FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile && facts.st_nlink == 1,
        }
    }

    /// Whether it is a file, and not reached in another way too. A link could lead to what nobody meant to hand in.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The number of the user whose file it is.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Its modification time, in seconds since 1970.
    pub fn modified(&self) -> Option<u32> {
        let [seconds, _] = self.modified;
        u32::try_from(seconds).ok()
    }

    /// When it became what it is, which nobody can set.
    pub fn changed(&self) -> Timestamp {
        let [seconds, nanoseconds] = self.changed;
        let at =
            i32::try_from(nanoseconds).ok().and_then(|nanoseconds| Timestamp::new(seconds, nanoseconds).ok());
        at.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// A number for its arrival's id, so that the same file becomes the same arrival also after a crash.
    pub fn number(&self) -> u32 {
        let mut hasher = Sha256::new();
        let ([device, inode], [modified, fraction]) = (self.identity, self.modified);
        for part in [device, inode, self.size, modified.cast_unsigned(), fraction.cast_unsigned()] {
            hasher.update(part.to_be_bytes());
        }
        for part in self.changed {
            hasher.update(part.to_be_bytes());
        }
        let digest: [u8; 32] = hasher.finalize().into();
        digest.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }
}

impl Spool {
    /// Makes the folder of an exchange, if it is not there yet, and says where it is.
    pub fn own_handoff(&self, exchange: &Slug) -> Result<PathBuf, SpoolError> {
        self.handoff_of(exchange)?;
        Ok(self.path.join(HANDOFF).join(exchange.as_str()))
    }

    fn handoff_of(&self, exchange: &Slug) -> Result<Directory, SpoolError> {
        let made = self.top.make_with_mode(HANDOFF, TOP_MODE);
        let made = made.and_then(|top| top.make_with_mode(exchange.as_str(), EXCHANGE_MODE));
        made.attempt("open", || format!("{HANDOFF}/{exchange}"))
    }

    /// What lies there, but of each owner `most` at a time: files before what is none, and what has been there longest first,
    /// so that whoever floods the folder keeps nobody else's file from its turn. Names that begin with a dot, and those that
    /// no arrival can have, are left out.
    pub fn handed_in(&self, exchange: &Slug, most: usize) -> Result<Vec<Handed>, SpoolError> {
        let folder = self.handoff_of(exchange)?;
        let entries = folder.entries().attempt("list", || format!("{HANDOFF}/{exchange}"))?;
        let names = entries.iter().filter(|entry| !entry.name.starts_with('.'));
        let names = names.filter_map(|entry| Name::parse(&entry.name).ok());
        let seen = |name: Name| {
            let look = Look::of(&folder.stat(name.as_str()).ok()?);
            Some(Handed { name, look })
        };
        Ok(in_turn(names.filter_map(seen).collect(), most))
    }

    /// Opens a file as it was seen; none where it is not there any more, or another.
    pub fn open_handed(&self, exchange: &Slug, handed: &Handed) -> Result<Option<File>, SpoolError> {
        let what = || format!("{HANDOFF}/{exchange}/{}", handed.name);
        match self.handoff_of(exchange)?.file(handed.name.as_str()) {
            Ok(file) => Ok(is_still(&file, handed).attempt("examine", what)?.then_some(file)),
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(error) => Err(error).attempt("open", what),
        }
    }

    /// Removes a file as it was seen, durably; one that took its place since stays. Whether it was there.
    pub fn remove_handed(&self, exchange: &Slug, handed: &Handed) -> Result<bool, SpoolError> {
        let what = || format!("{HANDOFF}/{exchange}/{}", handed.name);
        let folder = self.handoff_of(exchange)?;
        match folder.stat(handed.name.as_str()) {
            Ok(facts) if Look::of(&facts) == handed.look => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error).attempt("examine", what),
        }
        folder.remove(handed.name.as_str()).and_then(|()| folder.sync()).attempt("remove", what)?;
        Ok(true)
    }
}

fn in_turn(mut handed: Vec<Handed>, most: usize) -> Vec<Handed> {
    handed.sort_unstable_by(|one, other| {
        let turn = |handed: &Handed| (!handed.look.is_plain, handed.look.changed);
        (turn(one), one.name.as_str()).cmp(&(turn(other), other.name.as_str()))
    });
    let mut of_owners: HashMap<u32, usize> = HashMap::new();
    handed.retain(|handed| {
        let of_owner = of_owners.entry(handed.look.owner).or_default();
        *of_owner += 1;
        *of_owner <= most
    });
    handed
}

/// Whether an open file looks as it was seen.
fn is_still(file: &File, handed: &Handed) -> rustix::io::Result<bool> {
    Ok(Look::of(&fstat(file)?) == handed.look)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_folder_is_works_own_until_the_operator_gives_it_to_a_group() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), &[]).unwrap();
        let path = spool.own_handoff(&Slug::parse("x").unwrap()).unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o3700, 0o711));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o3770)).unwrap();
        spool.own_handoff(&Slug::parse("x").unwrap()).unwrap();
        assert_eq!(mode(&path), 0o3770, "what the operator chose stays");
    }

    #[test]
    fn what_changed_since_it_was_seen_is_neither_opened_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, exchange) = (Spool::open(folder.path(), &[]).unwrap(), Slug::parse("x").unwrap());
        let path = spool.own_handoff(&exchange).unwrap();
        let file = path.join("list.age");
        std::fs::write(&file, "one").unwrap();
        let handed = spool.handed_in(&exchange, 9).unwrap();
        assert!(handed[0].look.is_plain() && spool.open_handed(&exchange, &handed[0]).unwrap().is_some());
        std::fs::write(path.join("other"), "two").unwrap();
        std::fs::rename(path.join("other"), &file).unwrap();
        assert!(spool.open_handed(&exchange, &handed[0]).unwrap().is_none());
        assert!(!spool.remove_handed(&exchange, &handed[0]).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        let handed = spool.handed_in(&exchange, 9).unwrap();
        assert!(spool.remove_handed(&exchange, &handed[0]).unwrap());
        assert!(!spool.remove_handed(&exchange, &handed[0]).unwrap());
    }

    #[test]
    fn links_are_no_plain_files_and_are_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, exchange) = (Spool::open(folder.path(), &[]).unwrap(), Slug::parse("x").unwrap());
        let path = spool.own_handoff(&exchange).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        symlink("../../secret", path.join("soft.age")).unwrap();
        std::fs::hard_link(folder.path().join("secret"), path.join("hard.age")).unwrap();
        std::fs::create_dir(path.join("folder.age")).unwrap();
        std::fs::write(path.join(".hidden.age"), "x").unwrap();
        let handed = spool.handed_in(&exchange, 9).unwrap();
        let mut names: Vec<_> = handed.iter().map(|handed| handed.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["folder.age", "hard.age", "soft.age"]);
        assert!(handed.iter().all(|handed| !handed.look.is_plain()));
        let soft = handed.iter().find(|handed| handed.name.as_str() == "soft.age").unwrap();
        assert!(spool.open_handed(&exchange, soft).unwrap().is_none());
    }

    #[test]
    fn a_flood_of_what_cannot_be_taken_keeps_no_file_from_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, exchange) = (Spool::open(folder.path(), &[]).unwrap(), Slug::parse("x").unwrap());
        let path = spool.own_handoff(&exchange).unwrap();
        std::fs::write(path.join("z.age"), "x").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        for number in 0..20 {
            symlink("../../secret", path.join(format!("a{number}.age"))).unwrap();
            std::fs::write(path.join(format!("b{number}.age")), "written to again and again").unwrap();
        }
        let handed = spool.handed_in(&exchange, 3).unwrap();
        assert_eq!((handed.len(), handed[0].name.as_str()), (3, "z.age"));
        assert!(handed.iter().all(|handed| handed.look.is_plain()));
        // Somebody else's, that lie there for longer and are never taken.
        let of = |owner: u32, one: &Handed| Handed { look: Look { owner, ..one.look }, ..one.clone() };
        let flood = spool.handed_in(&exchange, 99).unwrap();
        let mut all: Vec<Handed> = flood.iter().skip(1).map(|one| of(1, one)).collect();
        let late = Look { changed: [i64::MAX, 0], ..flood[0].look };
        all.push(of(2, &Handed { look: late, ..flood[0].clone() }));
        assert!(in_turn(all, 3).iter().any(|one| one.look.owner == 2));
    }
}

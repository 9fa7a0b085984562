//! A folder held by its descriptor. Everything below it is reached one name at a time through `openat2` with
//! `RESOLVE_BENEATH` and without following any symbolic link, so no name that a peer chose can lead elsewhere.
//! Which names are allowed is `policy::path`'s question.
//!
//! One exception: what a claimed arrival gives away is named by two components, both of our own making, through the name of
//! its folder (`host::spool::staging`). A descriptor of that folder, however it was opened, would survive the rename that takes
//! the claim away; only the path does not, and that is the fence.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, fstat, fsync, mkdirat, openat2,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::{Errno, Result};

/// Folders of the spool: the group shares them, and what is made in them belongs to the group.
pub const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o2770);
/// Files of the spool: the group reads them, and may complete them.
pub const FILE_MODE: Mode = Mode::from_raw_mode(0o660);

/// Small files and results, which are written once: the group only reads them, so that who made one has also written it.
const OWN_MODE: Mode = Mode::from_raw_mode(0o640);

/// What is nobody else's business.
const PRIVATE_MODE: Mode = Mode::from_raw_mode(0o600);

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// An open folder.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is in a folder.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name; names that are not UTF-8 are left out of listings.
    pub name: String,
    /// Whether it is a folder, where the file system says so without being asked again.
    pub kind: FileType,
}

impl Directory {
    /// Opens a folder by a path that the operator chose. The path itself may lead through links.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a folder in this one.
    pub fn directory(&self, name: &str) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Self(openat2(&self.0, name, flags, Mode::empty(), BENEATH)?))
    }

    /// The same folder by another descriptor: each is told once of what could not be written since it was opened.
    pub fn again(&self) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(&self.0, ".", flags, Mode::empty())?))
    }

    /// Opens a folder in this one, which is made if it is not there.
    pub fn make(&self, name: &str) -> Result<Self> {
        self.make_with_mode(name, DIRECTORY_MODE)
    }

    /// The same, with another mode than the spool's folders have.
    pub fn make_with_mode(&self, name: &str, mode: Mode) -> Result<Self> {
        match mkdirat(&self.0, name, mode) {
            Ok(()) => {
                let made = self.directory(name)?;
                // mkdir clears the set-group-ID bit where the process asks for it itself.
                rustix::fs::fchmod(&made.0, mode)?;
                fsync(&self.0)?;
                Ok(made)
            }
            Err(Errno::EXIST) => self.directory(name),
            Err(error) => Err(error),
        }
    }

    /// Opens a regular file for reading; anything else is `NOENT`, and a FIFO never blocks.
    pub fn file(&self, name: &str) -> Result<File> {
        self.open_regular(name, OFlags::RDONLY)
    }

    /// Opens an existing regular file for reading and writing.
    pub fn file_to_write(&self, name: &str) -> Result<File> {
        self.open_regular(name, OFlags::RDWR)
    }

    /// Makes a file that is not there yet.
    pub fn create(&self, name: &str) -> Result<File> {
        self.create_with_mode(name, FILE_MODE)
    }

    /// The same, of one that only its owner writes.
    pub fn create_own(&self, name: &str) -> Result<File> {
        self.create_with_mode(name, OWN_MODE)
    }

    /// The same, of one that nobody but its owner opens.
    pub fn create_private(&self, name: &str) -> Result<File> {
        self.create_with_mode(name, PRIVATE_MODE)
    }

    /// Makes a file that only its owner writes, in place of one that may be there.
    pub fn create_anew(&self, name: &str) -> Result<File> {
        self.remove_if_there(name)?;
        self.create_own(name)
    }

    fn create_with_mode(&self, name: &str, mode: Mode) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(openat2(&self.0, name, flags, mode, BENEATH)?))
    }

    fn open_regular(&self, name: &str, access: OFlags) -> Result<File> {
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat2(&self.0, name, flags, Mode::empty(), BENEATH)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::NOENT);
        }
        Ok(File::from(file))
    }

    /// Facts about an entry, which is not followed where it is a link.
    pub fn stat(&self, name: &str) -> Result<Stat> {
        statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Facts about this folder.
    pub fn stat_self(&self) -> Result<Stat> {
        fstat(&self.0)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        unlinkat(&self.0, name, AtFlags::empty())
    }

    /// Removes a file; one that is not there is removed already.
    pub fn remove_if_there(&self, name: &str) -> Result<()> {
        match self.remove(name) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    /// Removes an empty folder.
    pub fn remove_directory(&self, name: &str) -> Result<()> {
        unlinkat(&self.0, name, AtFlags::REMOVEDIR)
    }

    /// Moves an entry; `EXIST` where the target is there.
    pub fn move_to(&self, name: &str, target: &Self, new_name: &str) -> Result<()> {
        renameat_with(&self.0, name, &target.0, new_name, RenameFlags::NOREPLACE)
    }

    /// Moves an entry over one that may be there.
    pub fn replace(&self, name: &str, target: &Self, new_name: &str) -> Result<()> {
        renameat(&self.0, name, &target.0, new_name)
    }

    /// Gives a file a second name.
    pub fn link(&self, name: &str, target: &Self, new_name: &str) -> Result<()> {
        rustix::fs::linkat(&self.0, name, &target.0, new_name, AtFlags::empty())
    }

    /// Makes this folder's entries durable.
    pub fn sync(&self) -> Result<()> {
        fsync(&self.0)
    }

    /// Facts about an entry of a folder in this one. For reading only: should the folder be a link, it is followed, and what
    /// is told is no more than a size and times.
    pub fn stat_within(&self, folder: &str, name: &str) -> Result<Stat> {
        statat(&self.0, format!("{folder}/{name}"), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Shows the name of every entry but `.` and `..`, in no order, without keeping any.
    pub fn each_name(&self, mut each: impl FnMut(&str)) -> Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => each(name),
            }
        }
        Ok(())
    }

    /// All entries but `.` and `..`, in no order.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => entries.push(Entry { name: name.to_owned(), kind: entry.file_type() }),
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let inside = tempfile::tempdir_in(outside.path()).unwrap();
        symlink("../secret", inside.path().join("link")).unwrap();
        symlink("..", inside.path().join("up")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, inside.path().join("fifo"), Mode::RWXU).unwrap();
        let directory = Directory::open(inside.path()).unwrap();
        for name in ["link", "../secret", "up/secret", "/etc/passwd", "fifo", "..", "."] {
            assert!(directory.file(name).is_err(), "{name}");
            assert!(directory.file_to_write(name).is_err(), "{name}");
        }
        for name in ["up", "..", "/"] {
            assert!(directory.directory(name).is_err(), "{name}");
        }
        assert!(directory.create("../new").is_err());
        assert!(directory.create("link").is_err(), "a dangling or live link is never written through");
    }

    #[test]
    fn a_move_never_replaces_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        directory.create("a").unwrap().write_all(b"a").unwrap();
        directory.create("b").unwrap().write_all(b"b").unwrap();
        assert_eq!(directory.move_to("a", &directory, "b"), Err(Errno::EXIST));
        directory.replace("a", &directory, "b").unwrap();
        assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"a");
    }
}

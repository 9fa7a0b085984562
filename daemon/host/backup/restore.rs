//! Puts a backup back where no zone is: every file with its mode and its times, and its owners where this user may give
//! files away. `dropzone.yaml` comes last: without it nothing starts on what is only half there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, fchmod, fchown, fsync, futimens, mkdirat};
use rustix::io::Errno;

use super::opened::{Opened, differs};
use super::reach::{Reach, settle};
use super::store::{StoreError, pour, sync_parent};
use super::{Attempt, BackupError, Progress};
use crate::host::directory::Directory;
use crate::policy::backup::{Facts, FileEntry, Inside, LOG, SPOOL};

const FILE_BITS: u32 = 0o777;
const FOLDER_BITS: u32 = 0o3777;
/// What the configuration is in.
const MAIN: &str = "dropzone.yaml";
const ZONE_MODE: u32 = 0o750;

/// Where things go in the new zone.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The spool.
    pub spool: Inside,
    /// The access log.
    pub log: Inside,
    /// Folders that no backup holds and that a zone needs, with their modes.
    pub more: Vec<(Inside, u32)>,
    /// The number that each user's number has become on this machine; none where files stay with who puts them back.
    pub users: Option<BTreeMap<u32, u32>>,
    /// The same for groups.
    pub groups: Option<BTreeMap<u32, u32>>,
}

impl Layout {
    fn place(&self, path: &Inside) -> Option<Inside> {
        let moved = |top: &Inside, rest: Option<&str>| {
            rest.map_or(Some(top.clone()), |rest| Inside::parse(&format!("{}/{rest}", top.as_str())))
        };
        let (top, rest) =
            path.as_str().split_once('/').map_or((path.as_str(), None), |(top, rest)| (top, Some(rest)));
        match top {
            SPOOL => moved(&self.spool, rest),
            LOG => moved(&self.log, rest),
            _ => Some(path.clone()),
        }
    }
}

/// Writes a checked backup as a new zone.
pub fn restore(
    backup: &Opened,
    to: &Path,
    layout: &Layout,
    progress: Progress<'_>,
) -> Result<(), StoreError> {
    let root = begin(to)?;
    let putting = Putting { root, to: to.to_owned(), layout };
    for (path, mode) in &layout.more {
        putting.folder(path, *mode)?;
    }
    for entry in &backup.manifest.folders {
        let path = putting.place(&entry.path)?;
        putting.folder(&path, 0o700)?;
    }
    let mut reach = Reach::new(&backup.root);
    let mut bytes = 0;
    let (main, files): (Vec<_>, Vec<_>) =
        backup.manifest.files.iter().partition(|entry| entry.path.as_str() == MAIN);
    for entry in &files {
        putting.file(entry, &mut reach)?;
        bytes += entry.size;
        progress("files", bytes);
    }
    // From the inside to the outside: a file that is made changes the time of its folder.
    for entry in backup.manifest.folders.iter().rev() {
        let path = putting.place(&entry.path)?;
        let folder = putting.open(&path).attempt("open", || path.as_str().to_owned())?;
        putting
            .dress(&folder, &entry.facts, FOLDER_BITS)
            .attempt("set mode, owner and times of", || path.as_str().to_owned())?;
    }
    progress("what is in memory", bytes);
    let place = |path: &Inside| putting.place(path);
    let placed: Vec<Inside> = files.iter().map(|entry| place(&entry.path)).collect::<Result<_, _>>()?;
    let folders =
        backup.manifest.folders.iter().map(|entry| place(&entry.path)).collect::<Result<Vec<_>, _>>()?;
    settle(&putting.root, placed.iter(), folders.iter())?;
    for entry in main {
        putting.file(entry, &mut reach)?;
        let written = putting.root.file(MAIN).and_then(fsync);
        written.attempt("sync", || MAIN.to_owned())?;
    }
    fchmod(&putting.root, Mode::from_raw_mode(ZONE_MODE))
        .and_then(|()| putting.root.sync())
        .and_then(|()| sync_parent(to))
        .attempt("complete", || to.display().to_string())?;
    Ok(())
}

fn begin(to: &Path) -> Result<Directory, StoreError> {
    let shown = || to.display().to_string();
    let made = match mkdirat(rustix::fs::CWD, to, Mode::from_raw_mode(0o700)) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    };
    made.attempt("make the folder", shown)?;
    let root = Directory::open(to).attempt("open the folder", shown)?;
    if root.entries().attempt("list the folder", shown)?.is_empty() {
        return Ok(root);
    }
    Err(StoreError::Occupied(format!(
        "{} is not empty; name a new folder: a backup is never put back over a zone",
        to.display()
    )))
}

struct Putting<'a> {
    root: Directory,
    to: PathBuf,
    layout: &'a Layout,
}

impl Putting<'_> {
    fn place(&self, path: &Inside) -> Result<Inside, BackupError> {
        let unfit = || std::io::Error::other("its path is too long there");
        self.layout.place(path).ok_or_else(unfit).attempt("put back", || path.as_str().to_owned())
    }

    /// Makes a folder, and those it lies in.
    fn folder(&self, path: &Inside, mode: u32) -> Result<(), BackupError> {
        let make = || -> Result<(), Errno> {
            let (mut parent, count) = (None::<Directory>, path.names().count());
            for (number, name) in path.names().enumerate() {
                let within = parent.as_ref().unwrap_or(&self.root);
                let is_made = match mkdirat(within, name, Mode::from_raw_mode(0o700)) {
                    Err(Errno::EXIST) => false,
                    made => made.map(|()| true)?,
                };
                let opened = within.directory(name)?;
                if is_made {
                    let mode = if number + 1 == count { mode } else { ZONE_MODE };
                    fchmod(&opened, Mode::from_raw_mode(mode))?;
                    within.sync()?;
                }
                parent = Some(opened);
            }
            Ok(())
        };
        make().attempt("make", || self.to.join(path.as_str()).display().to_string())
    }

    fn open(&self, path: &Inside) -> Result<Directory, Errno> {
        let mut opened: Option<Directory> = None;
        for name in path.names() {
            opened = Some(opened.as_ref().unwrap_or(&self.root).directory(name)?);
        }
        opened.ok_or(Errno::NOENT)
    }

    /// Copies a file; what changed since it was checked ends it.
    fn file(&self, entry: &FileEntry, reach: &mut Reach<'_>) -> Result<(), BackupError> {
        let shown = || entry.path.as_str().to_owned();
        let path = self.place(&entry.path)?;
        let (folder, name) = path.split();
        let folder = folder.and_then(Inside::parse).map(|folder| self.open(&folder)).transpose();
        let folder = folder.attempt("open the folder of", shown)?;
        let source = reach.file(&entry.path).attempt("open", shown)?;
        let target = folder.as_ref().unwrap_or(&self.root).create(name).attempt("make", shown)?;
        let (size, sha256) = pour(source, &target).attempt("copy", shown)?;
        if let Some(what) = differs(entry, size, &sha256) {
            return Err(std::io::Error::other(what)).attempt("put back", shown);
        }
        self.dress(&target, &entry.facts, FILE_BITS).attempt("set mode, owner and times of", shown)
    }

    /// Owner, mode, times: in this order, because each undoes something of the one after it.
    fn dress(&self, what: impl std::os::fd::AsFd, facts: &Facts, bits: u32) -> Result<(), Errno> {
        let number = |numbers: &Option<BTreeMap<u32, u32>>, number| numbers.as_ref()?.get(number).copied();
        let user = number(&self.layout.users, &facts.user).map(Uid::from_raw);
        let group = number(&self.layout.groups, &facts.group).map(Gid::from_raw);
        if user.is_some() || group.is_some() {
            fchown(&what, user, group)?;
        }
        fchmod(&what, Mode::from_raw_mode(facts.mode & bits))?;
        let stamp = Timespec { tv_sec: facts.mtime, tv_nsec: 0 };
        futimens(&what, &Timestamps { last_access: stamp, last_modification: stamp })
    }
}

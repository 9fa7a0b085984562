//! Reaches what lies deep in a backup or a new zone, one name at a time, and makes it durable.

use std::fs::File;

use rustix::fs::{fsync, syncfs};
use rustix::io::Errno;

use super::{Attempt, BackupError};
use crate::host::directory::Directory;
use crate::policy::backup::Inside;

/// Opens files and folders by their paths, and keeps the last folder.
pub(super) struct Reach<'a> {
    root: &'a Directory,
    last: Option<(String, Directory)>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(root: &'a Directory) -> Self {
        Self { root, last: None }
    }

    pub(super) fn file(&mut self, path: &Inside) -> Result<File, Errno> {
        let (folder, name) = path.split();
        self.within(folder)?.file(name)
    }

    /// A folder; the top where none is named.
    pub(super) fn within(&mut self, folder: Option<&str>) -> Result<&Directory, Errno> {
        let Some(folder) = folder else { return Ok(self.root) };
        if self.last.as_ref().is_none_or(|(last, _)| last != folder) {
            let mut opened: Option<Directory> = None;
            for name in folder.split('/') {
                opened = Some(opened.as_ref().unwrap_or(self.root).directory(name)?);
            }
            self.last = opened.map(|opened| (folder.to_owned(), opened));
        }
        self.last.as_ref().map(|(_, opened)| opened).ok_or(Errno::NOENT)
    }
}

/// Makes files and folders durable. All together first, which takes the disk a few writes for thousands of files; then each by
/// itself, which tells what failed, and does all the work where the file system cannot do it together.
pub(super) fn settle<'p>(
    root: &Directory,
    files: impl Iterator<Item = &'p Inside>,
    folders: impl Iterator<Item = &'p Inside>,
) -> Result<(), BackupError> {
    // What this cannot do, the next lines do.
    let _ = syncfs(root);
    let mut reach = Reach::new(root);
    for path in files {
        reach.file(path).and_then(fsync).attempt("sync", || path.as_str().to_owned())?;
    }
    for path in folders {
        let folder = reach.within(Some(path.as_str()));
        folder.and_then(Directory::sync).attempt("sync", || path.as_str().to_owned())?;
    }
    root.sync().attempt("sync", || "the top folder".to_owned())
}

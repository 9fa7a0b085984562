//! A backup while it grows: new files and folders that nobody else can read, and the list
//! of them that becomes the manifest. What goes in, and in which order, is for `spool`, `log` and the command.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{Mode, fchmod, fstat, mkdirat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::reach::settle;
use super::{Attempt, BackupError, facts};
use crate::host::directory::Directory;
use crate::policy::backup::{FileEntry, FolderEntry, Inside};
use crate::policy::digest::hex;

const OWN_FOLDER: Mode = Mode::from_raw_mode(0o700);
const OWN_FILE: Mode = Mode::from_raw_mode(0o600);
/// Copied at a time, in bytes.
const PIECE: usize = 256 << 10;

/// Why there is no new backup.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is something in the way.
    #[error("{0}")]
    Occupied(String),
    /// A system call failed.
    #[error(transparent)]
    Failed(#[from] BackupError),
}

/// A backup that is being written.
#[derive(Debug)]
pub struct Store {
    root: Directory,
    /// What is in it, in the order it came in.
    pub folders: Vec<FolderEntry>,
    /// See `folders`.
    pub files: Vec<FileEntry>,
    bytes: u64,
}

/// A folder in it.
#[derive(Debug)]
pub struct Shelf {
    directory: Directory,
    path: Inside,
}

/// How far a store had come, to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize, usize, u64);

impl Store {
    /// Begins one in a folder that is made, or is there and empty.
    pub fn begin(path: &Path) -> Result<Self, StoreError> {
        let shown = || path.display().to_string();
        let made = match mkdirat(rustix::fs::CWD, path, OWN_FOLDER) {
            Err(Errno::EXIST) => Ok(()),
            made => made,
        };
        made.attempt("make the folder", shown)?;
        let root = Directory::open(path).attempt("open the folder", shown)?;
        if !root.entries().attempt("list the folder", shown)?.is_empty() {
            return Err(StoreError::Occupied(format!(
                "{} is not empty; name a new folder: a backup is never written over another",
                path.display()
            )));
        }
        fchmod(&root, OWN_FOLDER).attempt("set the mode of", shown)?;
        sync_parent(path).attempt("sync the folder of", shown)?;
        Ok(Self { root, folders: Vec::new(), files: Vec::new(), bytes: 0 })
    }

    /// Bytes copied so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A folder at the top, like another; opened where it is there already.
    pub fn shelf(&mut self, name: &str, like: &Directory) -> Result<Shelf, BackupError> {
        let path = inside(name)?;
        let directory = self.make(None, &path, name, like)?;
        Ok(Shelf { directory, path })
    }

    /// A folder in another.
    pub fn shelf_in(&mut self, shelf: &Shelf, name: &str, like: &Directory) -> Result<Shelf, BackupError> {
        let path = inside(&format!("{}/{name}", shelf.path.as_str()))?;
        let directory = self.make(Some(shelf), &path, name, like)?;
        Ok(Shelf { directory, path })
    }

    fn make(
        &mut self,
        parent: Option<&Shelf>,
        path: &Inside,
        name: &str,
        like: &Directory,
    ) -> Result<Directory, BackupError> {
        let (parent, shown) =
            (parent.map_or(&self.root, |shelf| &shelf.directory), || path.as_str().to_owned());
        let stat = like.stat_self().attempt("examine", shown)?;
        match mkdirat(parent, name, OWN_FOLDER) {
            Ok(()) => {
                self.folders.push(FolderEntry { path: path.clone(), facts: facts(&stat) });
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).attempt("make", shown),
        }
        parent.directory(name).attempt("open", shown)
    }

    /// Copies a file, up to `limit` bytes of it.
    pub fn copy(&mut self, shelf: &Shelf, name: &str, source: File, limit: u64) -> Result<(), BackupError> {
        let path = inside(&format!("{}/{name}", shelf.path.as_str()))?;
        let shown = || path.as_str().to_owned();
        let stat = fstat(&source).attempt("examine", shown)?;
        let target = shelf.directory.create(name).attempt("make", shown)?;
        fchmod(&target, OWN_FILE).attempt("set the mode of", shown)?;
        let (size, sha256) = pour(source.take(limit), &target).attempt("copy", shown)?;
        self.bytes = self.bytes.saturating_add(size);
        self.files.push(FileEntry { path, size, sha256, facts: facts(&stat) });
        Ok(())
    }

    /// A folder at the top, like that of `source`.
    pub fn keep_folder(&mut self, source: &Path, name: &str) -> Result<(), BackupError> {
        let like = Directory::open(source).and_then(|source| source.directory(name));
        self.shelf(name, &like.attempt("open", || name.to_owned())?).map(drop)
    }

    /// Keeps bytes that were read from a file of `source`, at the top or in a folder at the top.
    pub fn keep(&mut self, source: &Path, path: &str, content: &[u8]) -> Result<(), BackupError> {
        let path = inside(path)?;
        let shown = || path.as_str().to_owned();
        let source = Directory::open(source).attempt("open the folder of", shown)?;
        let (folder, name) = path.split();
        let (stat, written) = if let Some(folder) = folder {
            let like = source.directory(folder).attempt("open", || folder.to_owned())?;
            let shelf = self.shelf(folder, &like)?;
            let written = write_new(&shelf.directory, name, content).attempt("write", shown)?;
            (like.stat(name), written)
        } else {
            (source.stat(name), write_new(&self.root, name, content).attempt("write", shown)?)
        };
        let (facts, (size, sha256)) = (facts(&stat.attempt("examine", shown)?), written);
        self.bytes = self.bytes.saturating_add(size);
        self.files.push(FileEntry { path, size, sha256, facts });
        Ok(())
    }

    /// Writes a file that no manifest names: the manifest itself, and what speaks for it.
    pub fn seal(&self, name: &str, content: &[u8]) -> Result<(), BackupError> {
        let write = || -> std::io::Result<()> {
            // Whole or not at all: where it is, everything else is.
            let temporary = format!(".{name}.new");
            write_new(&self.root, &temporary, content)?;
            self.root.file(&temporary)?.sync_all()?;
            self.root.move_to(&temporary, &self.root, name)?;
            Ok(self.root.sync()?)
        };
        write().attempt("write", || name.to_owned())
    }

    /// Makes all that is in it durable.
    pub fn settle(&self) -> Result<(), BackupError> {
        let (files, folders) = (self.files.iter(), self.folders.iter());
        settle(&self.root, files.map(|entry| &entry.path), folders.map(|entry| &entry.path))
    }

    /// Where it stands.
    pub fn mark(&self) -> Mark {
        Mark(self.folders.len(), self.files.len(), self.bytes)
    }

    /// Forgets a folder and what came into it since the mark.
    pub fn discard(&mut self, mark: Mark, parent: &Shelf, name: &str) -> Result<(), BackupError> {
        let remove = || -> Result<(), Errno> {
            let folder = parent.directory.directory(name)?;
            for entry in folder.entries()? {
                folder.remove(&entry.name)?;
            }
            parent.directory.remove_directory(name)
        };
        remove().attempt("remove", || format!("{}/{name}", parent.path.as_str()))?;
        self.folders.truncate(mark.0);
        self.files.truncate(mark.1);
        self.bytes = mark.2;
        Ok(())
    }
}

fn inside(path: &str) -> Result<Inside, BackupError> {
    let unfit = || std::io::Error::other("no path that a backup can hold");
    Inside::parse(path).ok_or_else(unfit).attempt("copy", || path.to_owned())
}

fn write_new(folder: &Directory, name: &str, content: &[u8]) -> std::io::Result<(u64, String)> {
    let target = folder.create(name)?;
    fchmod(&target, OWN_FILE)?;
    pour(content, &target)
}

/// Copies all that can be read; gives the number of bytes and their SHA-256.
pub(super) fn pour(mut source: impl Read, mut target: &File) -> std::io::Result<(u64, String)> {
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let count = source.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        target.write_all(bytes)?;
        size += count as u64;
    }
    Ok((size, hex(&hasher.finalize())))
}

/// Makes a folder's own name durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), Errno> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Directory::open(parent)?.sync()
}

//! Reading and removing the files of past days. Which ones, `policy::retention` says.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::LogError;
use crate::host::files;
use crate::policy::retention::LogName;

/// The log files in a folder.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, LogError> {
    let failed = |error: rustix::io::Errno| failure("list", directory, error.into());
    let listing = Dir::read_from(open(directory)?).map_err(failed)?;
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_str().ok().filter(|name| LogName::parse(name).is_some());
        names.extend(name.map(str::to_owned));
    }
    Ok(names)
}

/// Whether the system would let this process remove a file: in a sticky folder, only whoever owns one of the two. What it would
/// not is left to whom it lets, and not recorded as deleted.
pub(super) fn may_remove(directory: &Path, name: &LogName) -> bool {
    let Ok(folder) = open(directory) else { return false };
    let file = rustix::fs::statat(&folder, name.to_string(), AtFlags::SYMLINK_NOFOLLOW);
    let (Ok(folder), Ok(file)) = (rustix::fs::fstat(&folder), file) else { return false };
    let user = rustix::process::geteuid();
    let is_sticky = Mode::from_raw_mode(folder.st_mode).contains(Mode::SVTX);
    !is_sticky || user.is_root() || [folder.st_uid, file.st_uid].contains(&user.as_raw())
}

/// The length and the SHA-256, in hex, of a file; none if it is gone.
pub(super) fn digest(directory: &Path, name: &LogName) -> Result<Option<(u64, String)>, LogError> {
    let path = directory.join(name.to_string());
    let failed = |error| failure("read", &path, error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(open(directory)?, name.to_string(), flags, Mode::empty()) {
        Ok(file) => files::digest(File::from(file)).map(Some).map_err(failed),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}

/// Removes a file for good; one that is not there is removed already, by another machine that shares the folder.
pub(super) fn remove(directory: &Path, name: &LogName) -> Result<(), LogError> {
    let failed =
        |error: rustix::io::Errno| failure("delete", &directory.join(name.to_string()), error.into());
    let folder = open(directory)?;
    match rustix::fs::unlinkat(&folder, name.to_string(), AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    rustix::fs::fsync(&folder).map_err(failed)
}

fn open(directory: &Path) -> Result<OwnedFd, LogError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|error| failure("open the folder of", directory, error.into()))
}

fn failure(doing: &'static str, path: &Path, cause: io::Error) -> LogError {
    LogError::File { doing, path: path.to_owned(), cause: Arc::new(cause) }
}

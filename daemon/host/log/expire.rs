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

/// The log files in a folder that `wanted` names.
pub(super) fn names(directory: &Path, wanted: impl Fn(&LogName) -> bool) -> Result<Vec<String>, LogError> {
    let failed = |error: rustix::io::Errno| failure("list", directory, error.into());
    let listing = Dir::read_from(open(directory)?).map_err(failed)?;
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_str().ok().and_then(LogName::parse);
        names.extend(name.filter(&wanted).map(|name| name.to_string()));
    }
    Ok(names)
}

/// The length and the SHA-256, in hex, of a file.
pub(super) fn digest(directory: &Path, name: &str) -> Result<(u64, String), LogError> {
    let path = directory.join(name);
    let failed = |error| failure("read", &path, error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(open(directory)?, name, flags, Mode::empty());
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    files::digest(file).map_err(failed)
}

/// Removes a file for good.
pub(super) fn remove(directory: &Path, name: &str) -> Result<(), LogError> {
    let failed = |error: rustix::io::Errno| failure("delete", &directory.join(name), error.into());
    let folder = open(directory)?;
    rustix::fs::unlinkat(&folder, name, AtFlags::empty()).map_err(failed)?;
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

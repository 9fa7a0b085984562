//! Backups of a zone: a copy of configuration, spool and access log, taken while the zone runs, with a manifest that names
//! every file. `store` is the copy while it grows, `spool` and `log` say what goes into it and in which order, `opened` is a
//! finished one, which is checked against its manifest and put back. What a manifest says is `policy::backup`'s question.
//!
//! The order is the promise, because everything moves while it is copied: marks of what was seen, then arrivals, then results
//! and receipts, then the log. So no mark stands for an arrival that is missing, nothing counts as delivered whose result
//! is missing (unless it was collected), and whatever happened to what is here has its record here.

mod log;
pub mod names;
mod opened;
mod reach;
mod restore;
mod spool;
mod store;

use std::path::{Path, PathBuf};

use rustix::fs::Stat;

pub use self::opened::{Fault, Opened, checksum_of};
pub use self::restore::{Layout, restore};
pub use self::store::{Store, StoreError};
use crate::host::directory::Directory;
use crate::policy::backup::Facts;

/// What is being copied, and how much of it is done.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64);

/// A step of a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempted} {what}: {cause}")]
pub struct BackupError {
    attempted: &'static str,
    what: String,
    #[source]
    cause: std::io::Error,
}

/// Names the attempt in an error.
trait Attempt<T> {
    fn attempt(self, attempted: &'static str, what: impl FnOnce() -> String) -> Result<T, BackupError>;
}

impl<T, E: Into<std::io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, attempted: &'static str, what: impl FnOnce() -> String) -> Result<T, BackupError> {
        self.map_err(|cause| BackupError { attempted, what: what(), cause: cause.into() })
    }
}

/// What there is to copy.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The spool.
    pub spool: PathBuf,
    /// The access log.
    pub log: PathBuf,
}

/// What came of copying.
#[derive(Debug, Default)]
pub struct Copied {
    /// Arrivals by the state they come back in.
    pub arrivals: std::collections::BTreeMap<crate::policy::arrival::State, u64>,
    /// What was left out, in words.
    pub left_out: Vec<String>,
}

impl Sources {
    /// Whether a path, or the folder it is to be made in, lies in what is copied: a backup must not copy itself.
    pub fn hold(&self, path: &Path) -> bool {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let Some(place) = real(path).or_else(|| real(parent)) else { return false };
        [&self.spool, &self.log]
            .iter()
            .any(|source| real(source).is_some_and(|source| place.starts_with(source)))
    }

    /// Copies the spool, in the order that makes it consistent.
    pub fn copy_spool(&self, store: &mut Store, progress: Progress<'_>) -> Result<Copied, BackupError> {
        spool::copy(&open(&self.spool)?, store, progress)
    }

    /// Copies the access log, last of all; says how far its heads had come.
    pub fn copy_log(
        &self,
        store: &mut Store,
        progress: Progress<'_>,
    ) -> Result<Option<crate::policy::backup::LastHead>, BackupError> {
        log::copy(&open(&self.log)?, store, progress)
    }
}

fn open(path: &Path) -> Result<Directory, BackupError> {
    Directory::open(path).attempt("open the folder", || path.display().to_string())
}

fn facts(stat: &Stat) -> Facts {
    Facts { mode: stat.st_mode & 0o7777, user: stat.st_uid, group: stat.st_gid, mtime: stat.st_mtime }
}

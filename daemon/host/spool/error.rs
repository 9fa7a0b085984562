//! What goes wrong in the spool: what was attempted, with which file or folder, and the cause. What of it a peer or an operator
//! is told, others decide.

use rustix::io::Errno;

use crate::policy::path::Name;

/// What went wrong in the spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The spool is not fit for use; the operator must do something.
    #[error("{0}")]
    Unfit(String),
    /// A system call failed.
    #[error("spool: cannot {attempted} {what}: {cause}")]
    Io {
        /// What was attempted.
        attempted: &'static str,
        /// With which file or folder, relative to the spool.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// Another session or process holds it.
    #[error("spool: {0} is in use")]
    Busy(String),
    /// Another process has taken the arrival over; nothing more can be done with it here.
    #[error("spool: the claim on {0} is lost to another process")]
    Lost(String),
    /// There is already one of that name.
    #[error("spool: {0} is already there")]
    Exists(String),
    /// A description cannot be read as what it should be.
    #[error("spool: {what} cannot be read: {cause}")]
    Unreadable {
        /// The file, relative to the spool.
        what: String,
        /// What the reader said.
        cause: String,
    },
}

impl SpoolError {
    /// There is no upload of that name.
    pub fn none(name: &Name) -> Self {
        Self::Io { attempted: "find", what: name.to_string(), cause: Errno::NOENT.into() }
    }

    /// Whether there was no room, or no quota, for what was attempted, which can be tried again. What could not be made durable
    /// for that is lost all the same.
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { cause, attempted, .. }
            if matches!(cause.kind(), StorageFull | QuotaExceeded) && *attempted != "sync")
    }

    /// Whether the thing asked for is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Names the attempt in an error.
pub(super) trait Attempt<T> {
    fn attempt(self, attempted: &'static str, what: impl FnOnce() -> String) -> Result<T, SpoolError>;
}

impl<T> Attempt<T> for rustix::io::Result<T> {
    fn attempt(self, attempted: &'static str, what: impl FnOnce() -> String) -> Result<T, SpoolError> {
        self.map_err(|errno| SpoolError::Io { attempted, what: what(), cause: errno.into() })
    }
}

impl<T> Attempt<T> for std::io::Result<T> {
    fn attempt(self, attempted: &'static str, what: impl FnOnce() -> String) -> Result<T, SpoolError> {
        self.map_err(|cause| SpoolError::Io { attempted, what: what(), cause })
    }
}

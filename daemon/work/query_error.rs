//! Why a query came to nothing, and whether another try may help. Running it is `query`'s business.

use rusqlite::ErrorCode;

use super::encrypt::EncryptError;
use super::postgres::PostgresError;
use super::stop::{Interrupted, Stop};
use crate::policy::job::Failure;
use crate::policy::reason::Reason;

/// Why a query came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The list cannot be read.
    #[error("the list cannot be read: {}", .0.code())]
    List(Reason),
    /// SQLite failed.
    #[error("cannot {attempted}: {cause}")]
    Sql {
        /// What was attempted.
        attempted: &'static str,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// A PostgreSQL server did not do it.
    #[error(transparent)]
    Postgres(PostgresError),
    /// The columns of the result are not those agreed.
    #[error(
        "the query gives the columns {found:?}, agreed are {agreed:?}: correct `sql` or `columns` of the flow"
    )]
    Columns {
        /// Of the result.
        found: Vec<String>,
        /// In the configuration.
        agreed: Vec<String>,
    },
    /// The query is no single SELECT.
    #[error("the query is not one SELECT without parameters: correct `sql` of the flow")]
    NotASelect,
    /// A value has no form in CSV.
    #[error(
        "column {column} of the result holds {what}, which a CSV list cannot hold: correct `sql` of the flow"
    )]
    Value {
        /// From 1.
        column: usize,
        /// What it is.
        what: &'static str,
    },
    /// The result cannot be encrypted or written.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// The register holds nothing at all.
    #[error(
        "the register holds no tables, so it is probably being made; make it under another name and put it in place by a rename"
    )]
    EmptyRegister,
    /// The databases of this process have no more memory, and no other job took of it.
    #[error(
        "the query needs more memory than work.job-memory ({limit} bytes for each of work.jobs): look at what it sorts, groups \
         or holds, raise the limit, or have the list sent in parts"
    )]
    Memory {
        /// For one job.
        limit: u64,
    },
    /// The process is stopping, or its time is over.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl QueryError {
    /// Whether another try may help.
    pub fn failure(&self) -> Failure {
        match self {
            Self::List(reason) => Failure::Lasting(reason.clone()),
            Self::Postgres(error) => error.failure(),
            Self::Columns { .. } => Failure::Lasting(Reason::ColumnsNotAgreed),
            Self::NotASelect | Self::Value { .. } => Failure::Lasting(Reason::JobFailed),
            Self::Encrypt(EncryptError::Io(_)) | Self::EmptyRegister => Failure::Passing,
            Self::Interrupted(why) => why.failure(),
            Self::Encrypt(EncryptError::TooLarge { .. }) => Failure::Lasting(Reason::ResultTooLarge),
            Self::Memory { .. } => Failure::Lasting(Reason::JobMemory),
            Self::Encrypt(EncryptError::Recipient(_) | EncryptError::NoRecipient) => {
                Failure::Lasting(Reason::JobFailed)
            }
            Self::Sql { cause, .. } if may_pass(cause) => Failure::Passing,
            Self::Sql { .. } => Failure::Lasting(Reason::JobFailed),
        }
    }

    /// Whether SQLite was refused memory: by the bound on all databases of this process, or by the machine.
    pub fn is_out_of_memory(&self) -> bool {
        let Self::Sql { cause, .. } = self else { return false };
        cause.sqlite_error_code() == Some(ErrorCode::OutOfMemory)
    }
}

/// A register that is locked, away, or being replaced by another file.
fn may_pass(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::SchemaChanged
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
                | ErrorCode::OperationInterrupted
        )
    )
}

/// Names the attempt in an error.
pub(super) fn attempt(attempted: &'static str) -> impl Fn(rusqlite::Error) -> QueryError + Copy {
    move |cause| QueryError::Sql { attempted, cause }
}

/// The same for a query, which may have been ended early or be more than one statement.
pub(super) fn sql_error(attempted: &'static str, cause: rusqlite::Error, stop: &Stop) -> QueryError {
    let was_interrupted = cause.sqlite_error_code() == Some(ErrorCode::OperationInterrupted);
    match (cause, stop.cause()) {
        (rusqlite::Error::MultipleStatement, _) => QueryError::NotASelect,
        (_, Some(why)) if was_interrupted => QueryError::Interrupted(why),
        (cause, _) => QueryError::Sql { attempted, cause },
    }
}

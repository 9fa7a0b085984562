//! Why a command came to nothing, and whether another try may help. Nothing that the program printed is in these words: it
//! may be a value of the list.

use std::io;

use crate::policy::job::Failure;
use crate::policy::reason::Reason;
use crate::work::encrypt::EncryptError;
use crate::work::stop::Interrupted;

/// EX_TEMPFAIL of sysexits.h: the program says that another try may help.
pub const TRY_AGAIN: i32 = 75;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The list cannot be read.
    #[error("the list cannot be read: {}", .0.code())]
    List(Reason),
    /// The program was not run, because it could not have been kept from doing harm.
    #[error("the program was not run: {0}")]
    NotConfined(String),
    /// No process can be started.
    #[error("cannot start the program: {0}")]
    Start(#[source] io::Error),
    /// What leads to and from the program failed.
    #[error("cannot reach the program: {0}")]
    Pipe(#[source] io::Error),
    /// It says that another try may help.
    #[error("the program asks to be tried again (exit code {TRY_AGAIN}); the program log has what it said")]
    TryAgain,
    /// It failed.
    #[error("the program ended with exit code {0}; the program log has what it said")]
    Failed(i32),
    /// It was killed, and not for a limit that this process watches.
    #[error(
        "the program was ended by signal {0}; the program log has what it said. 9 may be the kernel's when memory runs out, 24 is \
         its processor time (work.job-time), 25 a try to write into a file"
    )]
    Killed(i32),
    /// It printed no header line.
    #[error("the program printed no header line: its first line names the columns, and a name stands once")]
    NoHeader,
    /// What it printed is no table.
    #[error(
        "line {line} of what the program printed is no row of a table: UTF-8, comma-separated, as many fields as the header line, \
         at most {most} bytes"
    )]
    NotATable {
        /// From 1, the header line.
        line: u64,
        /// Bytes of a row.
        most: usize,
    },
    /// The columns are not those agreed.
    #[error(
        "the program prints {found} columns, and not those agreed, which are {agreed:?}: correct it, or `columns` of the flow"
    )]
    Columns {
        /// How many it printed. Their names could be a row of the list.
        found: usize,
        /// In the configuration.
        agreed: Vec<String>,
    },
    /// The result cannot be encrypted or written.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// Its processes took too much memory together.
    #[error(
        "the program needs more memory than work.job-memory ({limit} bytes): raise it, or have the list sent in parts"
    )]
    Memory {
        /// For all its processes.
        limit: u64,
    },
    /// It made too many processes.
    #[error("the program made more than {limit} processes")]
    Processes {
        /// At a time.
        limit: u64,
    },
    /// The process is stopping, or its time is over.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl CommandError {
    /// Whether another try may help.
    pub fn failure(&self) -> Failure {
        match self {
            Self::List(reason) => Failure::Lasting(reason.clone()),
            Self::TryAgain
            | Self::Start(_)
            | Self::Pipe(_)
            | Self::Encrypt(EncryptError::Io(_))
            | Self::Interrupted(Interrupted::Stopping) => Failure::Passing,
            Self::Columns { .. } => Failure::Lasting(Reason::ColumnsNotAgreed),
            Self::Memory { .. } => Failure::Lasting(Reason::JobMemory),
            Self::Interrupted(Interrupted::TooLong { .. }) => Failure::Lasting(Reason::JobTooLong),
            Self::Encrypt(EncryptError::TooLarge { .. }) => Failure::Lasting(Reason::ResultTooLarge),
            Self::Encrypt(EncryptError::Recipient(_) | EncryptError::NoRecipient) => {
                Failure::Lasting(Reason::JobFailed)
            }
            Self::NotConfined(_)
            | Self::Failed(_)
            | Self::Killed(_)
            | Self::NoHeader
            | Self::NotATable { .. }
            | Self::Processes { .. } => Failure::Lasting(Reason::CommandFailed),
        }
    }
}

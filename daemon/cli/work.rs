//! `dropzone work`: the job side, as a daemon of its own.

use std::path::Path;
use std::process::ExitCode;

use super::daemon::{self, Start};
use super::exit::{EX_CONFIG, EX_SOFTWARE, EX_UNAVAILABLE};
use crate::host::files::FileError;
use crate::host::http::HttpError;
use crate::host::log::LogError;
use crate::host::program_log;
use crate::host::socket::SocketError;
use crate::host::spool::SpoolError;

/// Works on the zone in `directory` until it is told to stop.
pub fn run(directory: &Path, stop_with_parent: bool) -> anyhow::Result<ExitCode> {
    // Here lists are in the clear.
    program_log::tell_only_where_it_panicked();
    daemon::run(
        directory,
        stop_with_parent,
        |_| None,
        exit_code,
        |Start { config, clock, mut shutdown, hangup, .. }| {
            crate::work::run(config, clock, hangup, async move {
                // Not inside the macro: what it takes is not evaluated where the level is off.
                let cause = shutdown.requested().await;
                tracing::info!(cause, "stopping");
            })
        },
    )
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<FileError>().is_some()
        || matches!(error.downcast_ref(), Some(SpoolError::Unfit(_)))
        || matches!(error.downcast_ref(), Some(SocketError::Occupied(_) | SocketError::Io { .. }))
    {
        EX_CONFIG
    } else if error.downcast_ref::<HttpError>().is_some()
        || matches!(error.downcast_ref(), Some(LogError::InUse { .. }))
        || matches!(error.downcast_ref(), Some(SocketError::InUse(_)))
    {
        EX_UNAVAILABLE
    } else {
        EX_SOFTWARE
    }
}

//! `dropzone serve`: the network side, as a daemon of its own.

use std::path::Path;
use std::process::ExitCode;

use super::daemon::{self, Start};
use super::exit::{EX_CONFIG, EX_SOFTWARE, EX_UNAVAILABLE};
use crate::host::log::LogError;
use crate::host::spool::SpoolError;
use crate::serve::ServeError;

/// Serves the zone in `directory` until it is told to stop.
pub fn run(directory: &Path, stop_with_parent: bool) -> anyhow::Result<ExitCode> {
    let needs = |config: &_| Some(crate::serve::needs(config));
    daemon::run(directory, stop_with_parent, needs, exit_code, |start| {
        let Start { config, clock, shutdown, hangup, contained } = start;
        crate::serve::run(config, clock, shutdown, hangup, contained)
    })
}

fn exit_code(error: &ServeError) -> u8 {
    match error {
        ServeError::File(_) | ServeError::HostKey { .. } | ServeError::Spool(SpoolError::Unfit(_)) => {
            EX_CONFIG
        }
        ServeError::Listen { .. }
        | ServeError::Http(_)
        | ServeError::Socket(_)
        | ServeError::LogReplaced(_)
        | ServeError::Log(LogError::InUse { .. }) => EX_UNAVAILABLE,
        ServeError::Spool(_) | ServeError::Guard(_) | ServeError::Log(_) | ServeError::Metrics(_) => {
            EX_SOFTWARE
        }
    }
}

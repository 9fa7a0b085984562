//! What both daemons do before they differ: read the zone, lock the process down, and listen for the end.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Config;
use crate::host::clock::Clock;
use crate::host::process::{self, Shutdown};
use crate::host::program_log;

/// How long a thread that does not end by itself keeps the process; what it worked on is recovered at the next start.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// sysexits: something that this needs, a port most likely, is not to be had.
pub const EX_UNAVAILABLE: u8 = 69;
/// sysexits: something this program or its machine could not do.
pub const EX_SOFTWARE: u8 = 70;
/// sysexits: the zone is not fit for use; starting again does not help.
pub const EX_CONFIG: u8 = 78;

/// What a daemon gets to run with.
pub struct Start {
    /// The zone.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// Runs a daemon to its end. An error is told by its own words, which say what to do, and by the exit code.
pub fn run<Running, Failure>(
    directory: &Path,
    stop_with_parent: bool,
    exit_code: impl FnOnce(&Failure) -> u8,
    daemon: impl FnOnce(Start) -> Running,
) -> anyhow::Result<ExitCode>
where
    Running: Future<Output = Result<(), Failure>>,
    Failure: std::fmt::Display,
{
    let config = match crate::config::load(directory) {
        Ok(config) => config,
        Err(errors) => {
            super::check::tell(&mut std::io::stderr().lock(), directory, &errors)?;
            return Ok(super::check::exit_code(&errors));
        }
    };
    program_log::begin();
    process::share_with_group_only();
    process::prepare()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::listen(stop_with_parent)?;
        match daemon(Start { config, clock: Clock::system(), shutdown }).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                tracing::error!("{error}");
                Ok(ExitCode::from(exit_code(&error)))
            }
        }
    });
    runtime.shutdown_timeout(LAST_WAIT);
    ended
}

//! What both daemons do before they differ: read the zone, lock the process down, and listen for the end.

use std::future::Future;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Config;
use crate::host::clock::Clock;
use crate::host::containment::{self, Containment, Needs};
use crate::host::process::{self, Hangup, Shutdown};
use crate::host::program_log;

/// How long a thread that does not end by itself keeps the process; what it worked on is recovered at the next start.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a daemon gets to run with.
pub struct Start {
    /// The zone.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// When to stop.
    pub shutdown: Shutdown,
    /// When to reload.
    pub hangup: Hangup,
    /// What the process is held to.
    pub contained: Containment,
}

/// Runs a daemon to its end, held to its needs where it knows them. An error is told by its own words, which say what to do,
/// and by the exit code.
pub fn run<Running, Failure>(
    directory: &Path,
    stop_with_parent: bool,
    needs: impl FnOnce(&Config) -> Option<Needs>,
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
    // Asked before containment: it looks into files that tell how many processors a container may use.
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let contained = needs(&config).map(|needs| containment::contain(&needs)).unwrap_or_default();
    // Its threads inherit what binds this one.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::listen(stop_with_parent)?;
        let hangup = Hangup::listen()?;
        match daemon(Start { config, clock: Clock::system(), shutdown, hangup, contained }).await {
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

//! `dropzone log`: the access log for people. `verify` proves that it is as it was written, `show` finds records in it.

pub mod show;
pub mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

/// What to do with the access log.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Check all log files against the signed heads, and name the first record that is not as it was written.
    ///
    /// Exit code 0: intact; 1: broken.
    Verify(verify::Verify),
    /// Show records.
    Show(show::Show),
}

/// Runs it. Without a folder of its own, it takes the log of the zone in `directory`.
pub fn run(directory: &Path, command: Log) -> anyhow::Result<ExitCode> {
    match command {
        Log::Verify(verify) => verify::run(directory, &verify),
        Log::Show(show) => show::run(directory, &show),
    }
}

/// The folder that was named, or the zone's; or the exit code, when there is no zone that says so.
fn folder(named: Option<&PathBuf>, zone: &Path) -> anyhow::Result<Result<PathBuf, ExitCode>> {
    if let Some(named) = named {
        return Ok(Ok(named.clone()));
    }
    match crate::config::load(zone) {
        Ok(config) => Ok(Ok(config.machine.log.directory)),
        Err(errors) => {
            super::check::tell(&mut std::io::stderr().lock(), zone, &errors)?;
            Ok(Err(super::check::exit_code(&errors)))
        }
    }
}

//! `dropzone serve`: the network side, as a daemon of its own.

use std::path::Path;
use std::process::ExitCode;

use super::daemon::{self, Start};

/// Serves the zone in `directory` until it is told to stop.
pub fn run(directory: &Path, stop_with_parent: bool) -> anyhow::Result<ExitCode> {
    daemon::run(directory, stop_with_parent, |Start { config, clock, shutdown }| {
        crate::serve::run(config, clock, shutdown)
    })
}

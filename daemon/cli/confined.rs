//! `dropzone confined DESCRIPTION`, which nobody types: `work` starts it, and it becomes the program of a command's job.

use std::io::Write;
use std::process::ExitCode;

use super::exit::EX_CONFIG;
use crate::host::confine::Confinement;

/// Comes back only where the program is not run. What was printed then is this process's word to `work`.
pub fn run(description: &str) -> anyhow::Result<ExitCode> {
    let confinement: Confinement = serde_json::from_str(description)?;
    let error = confinement.enter();
    // Behind the word that all is ready, nothing of this process's is believed: then it is for the program log.
    let _ = writeln!(std::io::stdout().lock(), "{error}");
    let _ = writeln!(std::io::stderr().lock(), "{error}");
    Ok(ExitCode::from(EX_CONFIG))
}

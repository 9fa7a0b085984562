//! `dropzone demo`: the main job in one go, over real SFTP, with made-up people. It needs no other program. Every step is
//! done by the same daemons that run in production; the demo only plays the institutions.

pub mod agreements;
mod client;
mod people;
mod story;
mod zone;

use std::io::Write;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use self::zone::DemoZone;
use crate::host::process::Shutdown;

/// What `run` gets to stop both daemons; it gives them 10 seconds itself.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Runs the demo; `keep` leaves the daemons running until Ctrl-C.
pub fn run(keep: bool) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(play(keep))
}

async fn play(keep: bool) -> anyhow::Result<ExitCode> {
    let folder =
        tempfile::Builder::new().prefix("dropzone-demo-").tempdir().context("no temporary folder")?;
    // The folder stays, because the commands at the end refer to it.
    let zone = zone::make(&folder.keep())?;
    let mut daemons = start(&zone)?;
    let told = story::tell(&zone, &mut std::io::stdout()).await;
    if keep && told.is_ok() {
        writeln!(std::io::stdout(), "\nThe zone is running. Ctrl-C stops it.")?;
        Shutdown::listen(false)?.requested().await;
    }
    stop(&mut daemons).await?;
    told?;
    Ok(ExitCode::SUCCESS)
}

fn start(zone: &DemoZone) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("the demo cannot find its own program")?;
    let output = crate::host::files::new_output(&zone.directory.join("daemons.log"))?;
    Command::new(program)
        .arg("--config")
        .arg(&zone.directory)
        .args(["run", "--stop-with-parent"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .context("the daemons cannot be started")
}

/// The end of its standard input tells `run` to stop.
async fn stop(daemons: &mut Child) -> anyhow::Result<()> {
    drop(daemons.stdin.take());
    match timeout(STOP_PATIENCE, daemons.wait()).await {
        Ok(ended) => {
            let status = ended?;
            anyhow::ensure!(status.success(), "the daemons ended with {status}");
        }
        Err(_) => daemons.kill().await?,
    }
    Ok(())
}

//! `dropzone run`: both daemons as children of one process, for laptops, containers and the demo. A child that ends is
//! started again, after waits that grow; one Ctrl-C or SIGTERM stops both. What the daemons do is theirs alone.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::host::process::{Hangup, Shutdown};
use crate::host::program_log;

/// The daemons, by their subcommands.
const DAEMONS: [&str; 2] = ["work", "serve"];
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// The wait after a first failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A daemon that lived so long failed for a new cause.
const PROVEN: Duration = Duration::from_secs(60);

/// Runs both daemons on the zone in `directory` until it is told to stop.
pub fn run(directory: &Path, stop_with_parent: bool) -> anyhow::Result<ExitCode> {
    // A zone that cannot work should say so once, here, and not twice every half minute.
    if let Err(errors) = crate::config::load(directory) {
        super::check::tell(&mut std::io::stderr().lock(), directory, &errors)?;
        return Ok(super::check::exit_code(&errors));
    }
    program_log::begin();
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (told, hangups) = watch::channel(0_u64);
    let daemons = DAEMONS.map(|name| Daemon {
        name,
        program: program.clone(),
        arguments: vec!["--config".into(), directory.into(), name.into(), "--stop-with-parent".into()],
        grace: GRACE,
        hangups: hangups.clone(),
    });
    runtime.block_on(async {
        let mut shutdown = Shutdown::listen(stop_with_parent)?;
        let mut hangup = Hangup::listen()?;
        let pass_on = async move {
            loop {
                hangup.requested().await;
                tracing::info!("SIGHUP: both daemons reload");
                told.send_modify(|count| *count = count.wrapping_add(1));
            }
        };
        let stop = async move {
            tokio::select! {
                reason = shutdown.requested() => reason,
                () = pass_on => "never",
            }
        };
        let ended = supervise(daemons, stop).await;
        Ok(ended.map_or(ExitCode::SUCCESS, ExitCode::from))
    })
}

/// Keeps the daemons running until `stop` says why not, or until one of them says that starting it again is no use:
/// then the other stops as well, and its exit code is returned.
async fn supervise(daemons: [Daemon; DAEMONS.len()], stop: impl Future<Output = &'static str>) -> Option<u8> {
    let (stopping, stopped) = watch::channel(false);
    let keep = async |daemon: Daemon| {
        let ended = daemon.keep_running(stopped.clone()).await;
        if ended.is_some() {
            stopping.send_replace(true);
        }
        ended
    };
    let both = async {
        let [first, second] = daemons;
        let (first, second) = tokio::join!(keep(first), keep(second));
        first.or(second)
    };
    tokio::pin!(both);
    tokio::select! {
        ended = &mut both => ended,
        reason = stop => {
            tracing::info!(reason, "stopping");
            stopping.send_replace(true);
            both.await
        }
    }
}

/// The exit code of a daemon that will fail the same way again: wrong usage (64) or a zone that is not fit (78).
fn lasting(status: &std::io::Result<ExitStatus>) -> Option<u8> {
    let code = status.as_ref().ok()?.code()?;
    u8::try_from(code).ok().filter(|code| matches!(code, 64 | 78))
}

/// How long to wait before a daemon is started again. `last` is the wait before the start that failed now, none for
/// the first; `lived` is how long it ran.
fn next_wait(last: Option<Duration>, lived: Duration) -> Duration {
    match last {
        Some(last) if lived < PROVEN => last.saturating_mul(2).min(LONGEST_WAIT),
        _ => FIRST_WAIT,
    }
}

/// One daemon, and how to start it.
struct Daemon {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    grace: Duration,
    /// Counts the SIGHUPs to pass on.
    hangups: watch::Receiver<u64>,
}

impl Daemon {
    /// The exit code, where starting it again is no use.
    async fn keep_running(&self, mut stopped: watch::Receiver<bool>) -> Option<u8> {
        let mut wait = None;
        while !*stopped.borrow() {
            let started = Instant::now();
            let ended = match self.start() {
                Ok(mut child) => {
                    // Held here, because `Child::wait` closes the pipe first, and the daemon would stop.
                    let _pipe = child.stdin.take();
                    let status = tokio::select! {
                        status = self.wait(&mut child) => status,
                        _ = stopped.changed() => {
                            self.stop(child).await;
                            return None;
                        }
                    };
                    if let Some(code) = lasting(&status) {
                        tracing::error!(
                            daemon = self.name,
                            code,
                            "a daemon cannot work on this zone as it is"
                        );
                        return Some(code);
                    }
                    told(status)
                }
                Err(error) => format!("cannot be started: {error}"),
            };
            let next = next_wait(wait, started.elapsed());
            tracing::error!(daemon = self.name, ended, again_in = ?next, "a daemon ended and will be started again");
            wait = Some(next);
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                _ = stopped.changed() => {}
            }
        }
        None
    }

    /// Waits for its end, and passes on what it is to hear until then.
    async fn wait(&self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let mut hangups = self.hangups.clone();
        // One that came before this start has been seen: a new process reads the configuration anyway.
        hangups.mark_unchanged();
        let pid = pid(child);
        loop {
            tokio::select! {
                status = child.wait() => return status,
                Ok(()) = hangups.changed() => {
                    if let Some(pid) = pid {
                        // It may have ended by itself in the meantime.
                        let _ = rustix::process::kill_process(pid, Signal::HUP);
                    }
                }
            }
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let child = Command::new(&self.program)
            .args(&self.arguments)
            // The daemon stops when this pipe closes: when we end, however we end.
            .stdin(Stdio::piped())
            // A group of its own, so that Ctrl-C comes to us only and each daemon is told once.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        tracing::info!(daemon = self.name, pid = child.id(), "started");
        Ok(child)
    }

    async fn stop(&self, mut child: Child) {
        if let Some(pid) = pid(&child) {
            // It may have ended by itself in the meantime.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let ended = match tokio::time::timeout(self.grace, child.wait()).await {
            Ok(status) => told(status),
            Err(_) => {
                tracing::warn!(daemon = self.name, "did not stop in time and is killed");
                told(child.kill().await.map(|()| ExitStatus::default()))
            }
        };
        tracing::info!(daemon = self.name, ended, "stopped");
    }
}

fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

fn told(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| format!("its end is unknown: {error}"), |status| status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_begin_anew_after_a_minute_of_life() {
        let short = Duration::from_secs(1);
        let mut waits = vec![next_wait(None, short)];
        for _ in 0..8 {
            waits.push(next_wait(waits.last().copied(), short));
        }
        let millis: Vec<u128> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(next_wait(Some(LONGEST_WAIT), PROVEN), FIRST_WAIT);
        assert_eq!(next_wait(None, Duration::from_secs(3600)), FIRST_WAIT);
    }

    fn daemon(script: &str) -> Daemon {
        let arguments = vec!["-c".into(), script.into()];
        Daemon {
            name: "test",
            program: "/bin/sh".into(),
            arguments,
            grace: Duration::from_millis(500),
            hangups: watch::channel(0).1,
        }
    }

    /// Runs two such daemons for a while, then stops them; how long stopping took.
    async fn run_for(time: Duration, scripts: [&str; 2]) -> Duration {
        let started = Instant::now();
        let stop = async move {
            tokio::time::sleep(time).await;
            "the test is over"
        };
        tokio::time::timeout(Duration::from_secs(20), supervise(scripts.map(daemon), stop)).await.unwrap();
        started.elapsed().saturating_sub(time)
    }

    #[tokio::test]
    async fn a_daemon_that_ends_is_started_again_and_the_other_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (failing, steady) = (folder.path().join("failing"), folder.path().join("steady"));
        let scripts = [
            format!("echo >> {}; exit 1", failing.display()),
            // Ends by itself if its stdin does.
            format!("echo >> {}; exec cat", steady.display()),
        ];
        let took = run_for(Duration::from_millis(1100), scripts.each_ref().map(String::as_str)).await;
        assert_eq!(std::fs::read(failing).unwrap().len(), 2, "started again after half a second");
        assert_eq!(std::fs::read(steady).unwrap().len(), 1);
        assert!(took < Duration::from_millis(450), "SIGTERM was enough: {took:?}");
    }

    #[tokio::test]
    async fn a_daemon_that_says_that_its_zone_is_not_fit_ends_both() {
        let stop = std::future::pending();
        let both = supervise(["exit 78", "exec sleep 60"].map(daemon), stop);
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), both).await.unwrap(), Some(78));
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_listen_is_killed_after_its_grace() {
        let deaf = "trap '' TERM; while :; do sleep 0.05; done";
        let took = run_for(Duration::from_millis(300), [deaf, "exec sleep 60"]).await;
        assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    }
}

//! A node: a folder with its own `dropzone.yaml`, and the two daemons on it, each of which can be killed alone.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::programs::{Ran, run, run_with_input, with_clock};
use crate::harness::{AN, Daemon, PATIENCE, Zone, pid};

/// Long enough for a busy machine, short enough to be waited for.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(3);

pub struct Node<'a> {
    zone: &'a Zone,
    pub name: &'static str,
    number: u16,
    /// What its clock is wrong by, as faketime writes it.
    clock: Option<&'static str>,
    daemons: [Option<Child>; 2],
}

impl<'a> Node<'a> {
    /// Lays a node out beside the zone, whose spool, log and register it shares.
    pub fn new(zone: &'a Zone, name: &'static str, number: u16) -> Self {
        let node = Self { zone, name, number, clock: None, daemons: [None, None] };
        let directory = node.directory();
        run(Command::new("cp").arg("-a").arg(zone.directory()).arg(&directory)).must_succeed();
        for shared in ["spool", "log"] {
            fs::remove_dir_all(directory.join(shared)).unwrap();
        }
        let path = |name: &str| zone.directory().join(name).display().to_string();
        let file = directory.join("dropzone.yaml");
        let mut text = fs::read_to_string(&file).unwrap();
        for (from, to) in [
            ("node: test", format!("node: {name}")),
            ("spool: spool", format!("spool: {}", path("spool"))),
            ("{directory: log,", format!("{{directory: {},", path("log"))),
            ("sqlite: register.db", format!("sqlite: {}", path("register.db"))),
            ("tries: 10", format!("tries: 10, lease: {}s", LEASE.as_secs())),
            (":2222\"", format!(":{}\"", node.port(2222))),
            (":9721\"", format!(":{}\"", node.port(9721))),
            (":9722\"", format!(":{}\"", node.port(9722))),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            text = text.replace(from, &to);
        }
        fs::write(&file, text).unwrap();
        node
    }

    /// The same, with a clock that is wrong.
    pub fn with_clock(mut self, clock: &'static str) -> Self {
        self.clock = Some(clock);
        self
    }

    fn directory(&self) -> PathBuf {
        self.zone.directory().with_file_name(format!("node-{}", self.name))
    }

    /// Its own, so that two nodes fit on one address.
    fn port(&self, of_zone: u16) -> u16 {
        of_zone + 100 * self.number
    }

    /// Starts a daemon and waits until it is ready.
    pub fn start(&mut self, daemon: Daemon) {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.zone.program_log_file()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        command.arg("--config").arg(self.directory()).arg(daemon.name()).env("DROPZONE_LOG", "info");
        if let Some(clock) = self.clock {
            with_clock(&mut command, clock);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn();
        self.daemons[daemon as usize] = Some(child.unwrap());
        let url = format!(
            "http://{}:{}/readyz",
            self.zone.ssh().ip(),
            self.port(if daemon == Daemon::Serve { 9721 } else { 9722 })
        );
        self.zone.wait_for("a daemon to be ready", || {
            let mut curl = Command::new("curl");
            let ran = run(curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).arg(&url));
            (ran.text() == "200").then_some(())
        });
    }

    pub fn signal(&self, daemon: Daemon, signal: Signal) {
        let child = self.daemons[daemon as usize].as_ref().unwrap();
        kill_process(pid(child.id()), signal).unwrap();
    }

    /// As a power cut would, for this process.
    pub fn kill(&mut self, daemon: Daemon) {
        let mut child = self.daemons[daemon as usize].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Where clients come in.
    pub fn door(&self) -> Door<'a> {
        Door { zone: self.zone, port: self.port(2222) }
    }

    /// OpenSSH's `sftp` on this node's `serve`.
    pub fn sftp(&self, batch: &str) -> Ran {
        self.door().sftp(batch)
    }

    /// Whether it has claimed something.
    pub fn is_at_work(&self) -> bool {
        self.zone.arrivals("active").iter().any(|name| name.contains(&format!(".{}.", self.name)))
    }

    /// Its own records with these fields.
    pub fn logged(&self, fields: &[(&str, &str)]) -> Vec<Value> {
        let own = self.zone.logged(fields).into_iter();
        own.filter(|line| line["node"] == self.name).collect()
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        for child in self.daemons.iter_mut().flatten() {
            // One that is stopped does not hear anything else.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where clients of a node come in, whatever happens to its worker meanwhile.
#[derive(Clone, Copy)]
pub struct Door<'a> {
    zone: &'a Zone,
    port: u16,
}

impl Door<'_> {
    /// OpenSSH's `sftp` with a batch.
    pub fn sftp(self, batch: &str) -> Ran {
        let mut sftp = Command::new("sftp");
        sftp.args(["-b", "-", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "LogLevel=ERROR",
            ])
            .arg("-o")
            .arg(format!("IdentityFile={}", self.zone.key_of(AN).display()))
            .arg("-P")
            .arg(self.port.to_string())
            .arg(format!("{}@{}", AN.user, self.zone.ssh().ip()))
            .env("SSH_AUTH_SOCK", "")
            .current_dir(self.zone.here());
        run_with_input(&mut sftp, &format!("{batch}\n"))
    }
}

/// Keeps the register locked, as somebody does who writes to it: jobs wait for it for ten seconds.
pub struct RegisterLock(Child);

impl RegisterLock {
    pub fn new(zone: &Zone) -> Self {
        let _ = fs::remove_file(zone.here().join("locked"));
        let lock = zone.put_here("lock.sql", "BEGIN EXCLUSIVE;\n.shell touch locked\n.shell sleep 600\n");
        let child = Command::new("sqlite3")
            .arg(zone.register())
            .arg(format!(".read {}", lock.display()))
            .current_dir(zone.here())
            .process_group(0)
            .spawn()
            .unwrap();
        let lock = Self(child);
        zone.wait_for("the lock", || zone.here().join("locked").exists().then_some(()));
        lock
    }
}

impl Drop for RegisterLock {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process_group(pid(self.0.id()), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Waits for the longest time that a takeover may take on a busy machine.
pub fn within_patience(mut is_so: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    while start.elapsed() < PATIENCE {
        if is_so() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    false
}

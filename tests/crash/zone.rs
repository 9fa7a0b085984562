//! A zone whose spool and log lie on the test's disk. `serve` and `work` are started by themselves, so that one can be
//! killed and the other goes on.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::disk::Disk;
use crate::disk::tree::Loss;
use crate::harness::{AN, Daemon, PATIENCE, Zone, pid};

pub const BOTH: [Daemon; 2] = [Daemon::Serve, Daemon::Work];

pub struct Site {
    serve: Option<Child>,
    work: Option<Child>,
    pub zone: Zone,
    pub disk: Disk,
}

impl Site {
    /// Laid out, not started. `None`, and said, where there is no FUSE.
    pub fn lay_out() -> Option<Self> {
        let disk = Disk::mounted()?;
        let zone = Zone::lay_out();
        for top in ["spool", "log"] {
            let (here, there) = (zone.directory().join(top), disk.join(top));
            fs::remove_dir_all(&here).unwrap();
            fs::create_dir(&there).unwrap();
            std::os::unix::fs::symlink(&there, &here).unwrap();
        }
        disk.settle();
        let file = zone.directory().join("dropzone.yaml");
        let text = fs::read_to_string(&file).unwrap();
        // A process that was killed gives back what it had claimed after its lease.
        fs::write(&file, text.replace("scan-every: 200ms", "scan-every: 200ms, lease: 1s")).unwrap();
        Some(Self { serve: None, work: None, zone, disk })
    }

    /// Both run.
    pub fn new() -> Option<Self> {
        let mut site = Self::lay_out()?;
        site.start_all();
        Some(site)
    }

    fn child(&mut self, daemon: Daemon) -> &mut Option<Child> {
        match daemon {
            Daemon::Serve => &mut self.serve,
            Daemon::Work => &mut self.work,
        }
    }

    pub fn start(&mut self, daemon: Daemon) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.zone.program_log_file());
        let child = Command::new(env!("CARGO_BIN_EXE_dropzone"))
            .arg("--config")
            .arg(self.zone.directory())
            .arg(daemon.name())
            .env("DROPZONE_LOG", self.zone.log_level)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.disk.started(daemon, child.id());
        *self.child(daemon) = Some(child);
    }

    /// Starts what does not run, and waits until both do; also what a rule kills meanwhile.
    pub fn start_all(&mut self) {
        let start = Instant::now();
        while !BOTH.into_iter().all(|daemon| self.is_alive(daemon) && self.is_ready(daemon)) {
            for daemon in BOTH {
                if !self.is_alive(daemon) {
                    self.reap(daemon);
                    self.start(daemon);
                }
            }
            assert!(start.elapsed() < PATIENCE, "the zone does not get ready\n{}", self.zone.program_log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What `/readyz` says.
    pub fn is_ready(&self, daemon: Daemon) -> bool {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(self.zone.metrics(daemon)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    pub fn is_alive(&mut self, daemon: Daemon) -> bool {
        self.child(daemon).as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// `kill -9`, and its end.
    pub fn kill(&mut self, daemon: Daemon) {
        if let Some(child) = self.child(daemon) {
            let _ = child.kill();
        }
        self.reap(daemon);
    }

    fn reap(&mut self, daemon: Daemon) {
        if let Some(mut child) = self.child(daemon).take() {
            child.wait().unwrap();
        }
        self.disk.ended(daemon);
    }

    /// Asks both to stop, and waits for it.
    pub fn stop_all(&mut self) {
        for daemon in BOTH {
            if let Some(child) = self.child(daemon) {
                let _ = kill_process(pid(child.id()), Signal::TERM);
            }
        }
        BOTH.into_iter().for_each(|daemon| self.reap(daemon));
    }

    /// The power goes; when it is back, nobody runs.
    pub fn cut(&mut self, loss: Loss) {
        if self.disk.has_power() {
            self.disk.cut(loss);
        }
        BOTH.into_iter().for_each(|daemon| self.kill(daemon));
        self.disk.power_on();
    }

    /// One try to upload; whether the client was told that all is well.
    pub fn put(&self, exchange: &str, name: &str, content: &[u8]) -> bool {
        self.zone.put_here(name, content);
        self.zone.sftp(AN, &format!("put {name} /{exchange}/in/{name}")).succeeded()
    }

    /// A command of an operator; whether it went well.
    pub fn operator(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        command.arg("--config").arg(self.zone.directory()).args(arguments);
        crate::harness::programs::run(&mut command).succeeded()
    }

    /// Has spool and log lie in another folder from now on, while nothing runs.
    pub fn move_to(&self, folder: &Path) {
        for top in ["spool", "log"] {
            let (here, there) = (self.zone.directory().join(top), folder.join(top));
            fs::remove_file(&here).unwrap();
            if !there.exists() {
                fs::create_dir(&there).unwrap();
            }
            std::os::unix::fs::symlink(&there, &here).unwrap();
        }
    }

    /// `dropzone log verify` with the zone's public key: what it says, and whether it is content.
    pub fn verify_log(&self, folder: &Path) -> (bool, String) {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        verify.args(["--config", "/nonexistent", "log", "verify"]).arg(folder).arg("--key");
        verify.arg(self.zone.directory().join("keys/signing_ed25519.pub"));
        let ran = crate::harness::programs::run(&mut verify);
        (ran.succeeded(), ran.text() + &ran.stderr)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        BOTH.into_iter().for_each(|daemon| self.kill(daemon));
        self.disk.heal();
        self.disk.power_on();
    }
}

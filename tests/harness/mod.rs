//! A zone for one test: laid out in a temporary folder, run by the real program, taken down with the test. `config` writes
//! its files, `programs` runs other people's programs, `observe` looks at what the zone left behind.

pub mod config;
pub mod disk;
pub mod observe;
pub mod programs;
pub mod python;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use self::programs::{person_key, run};

/// Every wait of every test ends after this. No test asks how quick something is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Says what is not tested here, and why. Cargo shows it although the test passes, as it does not what `eprintln!` says:
/// whoever reads the output of `tests/run` sees what was left out.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Tells a number that was measured, in the same way.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "MEASURED: {what}");
}

const SSH_PORT: u16 = 2222;
const SERVE_METRICS_PORT: u16 = 9721;
const WORK_METRICS_PORT: u16 = 9722;

/// Somebody with a key: the SFTP user name, and which key.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    pub user: &'static str,
    pub key: &'static str,
}

/// Of the agency, which drops and collects.
pub const AN: Person = Person { user: "agency", key: "an" };
/// Of the city, which collects what the agency relays.
pub const BO: Person = Person { user: "city", key: "bo" };
/// Of the agency, with a key whose time has passed.
pub const ELS: Person = Person { user: "agency", key: "els" };
/// Of an institution whose only agreement has ended.
pub const OTTO: Person = Person { user: "former", key: "otto" };

/// Which of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Serve,
    Work,
}

impl Daemon {
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Work => "work",
        }
    }
}

/// A zone in a folder of its own, and `dropzone run` on it once it is started.
pub struct Zone {
    folder: tempfile::TempDir,
    address: Ipv4Addr,
    running: Option<Child>,
    /// `DROPZONE_LOG` of what is started.
    pub log_level: &'static str,
    /// The wall clock of what is started, if not the machine's.
    pub clock: Option<String>,
}

impl Zone {
    /// A zone that runs.
    pub fn new() -> Self {
        let mut zone = Self::lay_out();
        zone.start();
        zone
    }

    /// A zone whose files can still be changed before it is started.
    pub fn lay_out() -> Self {
        Self::lay_out_in(&std::env::temp_dir())
    }

    /// The same, in a folder of its own in this one.
    pub fn lay_out_in(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("dropzone-test-").tempdir_in(parent).unwrap();
        let zone = Self { folder, address: own_address(), running: None, log_level: "info", clock: None };
        run(Command::new(env!("CARGO_BIN_EXE_dropzone")).arg("init").arg(zone.directory())).must_succeed();
        for folder in ["people", "here"] {
            fs::create_dir(zone.folder.path().join(folder)).unwrap();
        }
        for person in [AN, BO, ELS, OTTO, Person { user: "nobody", key: "stranger" }] {
            person_key(&zone.key_of(person));
        }
        for institution in ["agency", "city", "former"] {
            let file = zone.identity_of(institution);
            run(Command::new("age-keygen").arg("-o").arg(file)).must_succeed();
        }
        config::write(&zone);
        zone
    }

    /// Adds to the machine's file, before the zone is started.
    pub fn configure(&self, text: &str) {
        let file = self.directory().join("dropzone.yaml");
        let before = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{before}{text}\n")).unwrap();
    }

    pub fn start(&mut self) {
        self.start_program(Path::new(env!("CARGO_BIN_EXE_dropzone")));
    }

    /// Starts another build of the program, and waits until both daemons say that they are ready.
    pub fn start_program(&mut self, program: &Path) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.program_log_file()).unwrap();
        let mut command = Command::new(program);
        command.arg("--config").arg(self.directory()).arg("run").env("DROPZONE_LOG", self.log_level);
        if let Some(clock) = &self.clock {
            programs::with_clock(&mut command, clock);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.running = Some(child);
        self.wait_until_ready();
    }

    pub fn wait_until_ready(&self) {
        for daemon in [Daemon::Serve, Daemon::Work] {
            self.wait_for(&format!("{} to be ready", daemon.name()), || {
                (self.http_status(daemon, "/readyz") == "200").then_some(())
            });
        }
        self.wait_for("an open SSH port", || std::net::TcpStream::connect(self.ssh()).ok());
    }

    /// Sends a signal to `dropzone run` and waits for its end.
    pub fn end_with(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.running.take().unwrap();
        kill_process(pid(child.id()), signal).unwrap();
        ended_within(&mut child, PATIENCE).unwrap_or_else(|| {
            child.kill().unwrap();
            panic!("dropzone run did not end on {signal:?}")
        })
    }

    /// What `look` finds, sooner or later.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("zone")
    }

    pub fn spool(&self) -> PathBuf {
        self.directory().join("spool")
    }

    pub fn log(&self) -> PathBuf {
        self.directory().join("log")
    }

    pub fn register(&self) -> PathBuf {
        self.directory().join("register.db")
    }

    /// The folder that clients start in: local files of batches lie here.
    pub fn here(&self) -> PathBuf {
        self.folder.path().join("here")
    }

    /// Puts a file there.
    pub fn put_here(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.here().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn read_here(&self, name: &str) -> Vec<u8> {
        fs::read(self.here().join(name)).unwrap()
    }

    pub fn key_of(&self, person: Person) -> PathBuf {
        self.folder.path().join("people").join(person.key)
    }

    pub fn identity_of(&self, institution: &str) -> PathBuf {
        self.folder.path().join("people").join(format!("{institution}.agekey"))
    }

    pub fn program_log_file(&self) -> PathBuf {
        self.folder.path().join("program.log")
    }

    pub fn ssh(&self) -> SocketAddr {
        (self.address, SSH_PORT).into()
    }

    pub fn metrics(&self, daemon: Daemon) -> SocketAddr {
        match daemon {
            Daemon::Serve => (self.address, SERVE_METRICS_PORT).into(),
            Daemon::Work => (self.address, WORK_METRICS_PORT).into(),
        }
    }

    /// Where an institution's results or receipts lie in the spool.
    pub fn folder_of(&self, folder: &str, institution: &str, exchange: &str) -> PathBuf {
        self.spool().join(folder).join(institution).join(exchange)
    }

    pub fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = kill_process(pid(child.id()), Signal::TERM);
            if ended_within(&mut child, Duration::from_secs(20)).is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- program log\n{}\n--- access log", self.program_log());
            for line in self.log_lines() {
                eprintln!("{line}");
            }
        }
    }
}

pub fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn ended_within(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// All of 127.0.0.0/8 is this machine, so every test can have an address of its own, on which nobody else takes a port.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(251).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let [_, a, b, c] = number.to_be_bytes();
        if [0, 255].contains(&c) {
            continue;
        }
        // 127.0.0.0/16 is left to whatever else runs on this machine.
        let address = Ipv4Addr::new(127, a.max(1), b, c);
        let ports = [SSH_PORT, SERVE_METRICS_PORT, WORK_METRICS_PORT];
        if ports.iter().all(|port| TcpListener::bind((address, *port)).is_ok()) {
            return address;
        }
    }
}

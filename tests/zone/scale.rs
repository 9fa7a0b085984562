//! Very many arrivals: a start, a listing and a job cost about what they cost with few. The one limit that is a promise is the
//! start with 100,000 of them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::harness::programs::{fingerprint, sha256};
use crate::harness::{AN, Daemon, Zone, pid, say};

/// A start may take this long with 100,000 arrivals.
const START: Duration = Duration::from_secs(5);
/// No file system lets a file have more names than this.
const LINKS: usize = 30_000;

/// Puts arrivals of the agency into a state, as `serve` would have published them; their payload is written once.
fn plant(zone: &Zone, state: &str, exchange: &str, numbers: std::ops::Range<usize>, payload: &[u8]) {
    let folder = zone.spool().join(state);
    let _ = fs::create_dir(&folder);
    let key = fingerprint(&zone.key_of(AN));
    let mut source = folder.clone();
    for number in numbers {
        let (name, random) = (format!("list-{number}.age"), 0);
        let (day, second) = (1 + number / 86_400, number % 86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let digest = &sha256(name.as_bytes())[..8];
        let id = format!(
            "202601{day:02}T{hour:02}{minute:02}{second:02}000Z-{digest}-{random:08x}.agency.{exchange}"
        );
        let at = folder.join(&id);
        fs::create_dir(&at).unwrap();
        let received = format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        let arrival = serde_json::json!({
            "id": id, "name": name, "flow": "hand-on", "size": payload.len(), "sha256": sha256(payload),
            "armored": false, "by": {"institution": "agency", "label": "an", "fingerprint": key},
            "session": "planted", "opened": received, "received": received, "mtime": null, "refused": null,
        });
        fs::write(at.join("arrival.json"), arrival.to_string()).unwrap();
        if state == "deferred" {
            fs::write(at.join("tries.json"), "{\"tries\": 1}").unwrap();
            let later =
                fs::FileTimes::new().set_modified(std::time::SystemTime::now() + Duration::from_secs(86_400));
            let tries = fs::OpenOptions::new().write(true).open(at.join("tries.json")).unwrap();
            tries.set_times(later).unwrap();
        }
        if number % LINKS == 0 || !source.join("payload.age").exists() {
            fs::write(at.join("payload.age"), payload).unwrap();
            source = at;
        } else {
            fs::hard_link(source.join("payload.age"), at.join("payload.age")).unwrap();
        }
    }
}

/// One daemon, started by itself, and how long it took until its program log said something.
struct Started(Child);

impl Started {
    fn new(zone: &Zone, daemon: Daemon) -> Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(zone.program_log_file()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        command.arg("--config").arg(zone.directory()).arg(daemon.name()).env("DROPZONE_LOG", "info");
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Processor time that it has used so far.
    fn processor_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    fn end(mut self) {
        kill_process(pid(self.0.id()), Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a start took: the shorter of the clock's and the processor's time, for others may be using this machine.
fn started(zone: &Zone, daemon: Daemon, until: impl Fn() -> bool) -> (Started, Duration) {
    let (begin, process) = (Instant::now(), Started::new(zone, daemon));
    zone.wait_for("the start", || until().then_some(()));
    let took = begin.elapsed().min(process.processor_time());
    say(&format!("{} started in {took:?}", daemon.name()));
    (process, took)
}

fn claims(zone: &Zone) -> usize {
    zone.logged(&[("event", "claim")]).len()
}

#[test]
fn a_zone_with_100_000_arrivals_starts_and_claims_within_5_seconds() {
    let zone = Zone::lay_out();
    let payload = zone.age(b"relayed", &["-r", &zone.recipient()]);
    plant(&zone, "incoming", "relay", 0..40_000, &payload);
    plant(&zone, "deferred", "relay", 40_000..60_000, &payload);
    plant(&zone, "done", "relay", 60_000..100_000, &payload);
    let (work, took) = started(&zone, Daemon::Work, || claims(&zone) > 0);
    assert!(took < START, "work: {took:?}");
    let (serve, took) = started(&zone, Daemon::Serve, || zone.http_status(Daemon::Serve, "/readyz") == "200");
    assert!(took < START, "serve: {took:?}");
    let before = serve.processor_time();
    let listings = 5;
    for _ in 0..listings {
        zone.sftp(AN, "ls /relay/in").must_succeed();
    }
    let each = (serve.processor_time() - before) / listings;
    say(&format!("a listing of 60,000 takes {each:?} of processor time"));
    let (before, claimed, begin) = (work.processor_time(), claims(&zone), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let jobs = claims(&zone) - claimed;
    let used = work.processor_time() - before;
    say(&format!("{jobs} jobs in {:?}, {used:?} of processor time", begin.elapsed()));
    work.end();
    serve.end();
}

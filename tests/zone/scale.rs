//! Very many arrivals: a start, a listing and a job cost about what they cost with few. The one limit that is a promise is the
//! start with 100,000 of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::{Signal, kill_process};

use crate::harness::programs::{fingerprint, sha256};
use crate::harness::{AN, Daemon, Zone, pid, say};

/// A start may take this long with 100,000 arrivals.
const START: Duration = Duration::from_secs(5);
/// No file of most file systems may have many more names.
const LINKS: usize = 30_000;
/// Free bytes that a file system in memory needs for 100,000 arrivals, so that they are made in seconds.
const ROOM: u64 = 1 << 30;

/// A zone in memory, where there is room; else where all others are.
fn roomy_zone() -> Zone {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |facts| facts.f_bavail * facts.f_frsize);
    if room > ROOM { Zone::lay_out_in(memory) } else { Zone::lay_out() }
}

/// Encrypts for nobody in particular: what is relayed is not opened.
fn encrypted(number: usize) -> Vec<u8> {
    let recipient = age::x25519::Identity::generate().to_public();
    age::encrypt(&recipient, format!("relayed {number}").as_bytes()).unwrap()
}

/// Puts arrivals of the agency into a state, as `serve` would have published them. The first so many have each a content of
/// their own.
fn plant(zone: &Zone, state: &str, numbers: std::ops::Range<usize>, own_content: usize) {
    let folder = zone.spool().join(state);
    let _ = fs::create_dir(&folder);
    let key = fingerprint(&zone.key_of(AN));
    let (shared, first) = (encrypted(numbers.start), numbers.start);
    let link = |from: &Path, to: PathBuf, content: &[u8]| {
        // The first of a row is written.
        if fs::hard_link(from, &to).is_err() {
            fs::write(to, content).unwrap();
        }
    };
    for number in numbers {
        let name = format!("list-{number}.age");
        let (hour, minute, second) = (number / 3600 % 24, number / 60 % 60, number % 60);
        let (digest, day) = (&sha256(name.as_bytes())[..8], 1 + number / 86_400);
        let id = format!("202601{day:02}T{hour:02}{minute:02}{second:02}000Z-{digest}-00000000.agency.relay");
        let at = folder.join(&id);
        fs::create_dir(&at).unwrap();
        let received = format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        let has_own = number - first < own_content;
        let payload = if has_own { encrypted(number) } else { shared.clone() };
        let arrival = serde_json::json!({
            "id": id, "name": name, "flow": "hand-on", "size": payload.len(), "sha256": sha256(&payload),
            "armored": false, "by": {"institution": "agency", "label": "an", "fingerprint": key},
            "session": "planted", "opened": received, "received": received, "mtime": null, "refused": null,
        });
        let source = zone.here().join(format!("{state}-{}", number / LINKS));
        let _ = fs::create_dir(&source);
        if has_own {
            fs::write(at.join("payload.age"), payload).unwrap();
        } else {
            keep(&source.join("payload.age"), &payload, || {});
            link(&source.join("payload.age"), at.join("payload.age"), &payload);
        }
        // Nobody reads what was done a year ago, so there is only one of it.
        if state == "done" {
            keep(&source.join("arrival.json"), arrival.to_string().as_bytes(), || {});
            link(&source.join("arrival.json"), at.join("arrival.json"), &[]);
        } else {
            fs::write(at.join("arrival.json"), arrival.to_string()).unwrap();
        }
        if state == "deferred" {
            let tries = source.join("tries.json");
            keep(&tries, b"{\"tries\": 1}", || {
                let never = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
                let file = fs::OpenOptions::new().write(true).open(&tries).unwrap();
                file.set_times(fs::FileTimes::new().set_modified(never)).unwrap();
            });
            link(&tries, at.join("tries.json"), &[]);
        }
    }
}

/// A file that is written once, and what is done with it then.
fn keep(path: &Path, content: &[u8], then: impl Fn()) {
    if !path.exists() {
        fs::write(path, content).unwrap();
        then();
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
fn a_zone_with_100_000_arrivals_starts_and_claims_within_5_seconds_and_works_on() {
    let zone = roomy_zone();
    plant(&zone, "incoming", 0..30_000, 500);
    plant(&zone, "deferred", 30_000..40_000, 0);
    plant(&zone, "done", 40_000..100_000, 0);
    let (work, took) = started(&zone, Daemon::Work, || claims(&zone) > 0);
    assert!(took < START, "work: {took:?}");
    let (serve, took) = started(&zone, Daemon::Serve, || zone.http_status(Daemon::Serve, "/readyz") == "200");
    assert!(took < START, "serve: {took:?}");
    for what in ["ls /relay/in", "ls /relay/in", "-ls /relay/in/nothing.age"] {
        let (before, begin) = (serve.processor_time(), Instant::now());
        zone.sftp(AN, what).must_succeed();
        let used = serve.processor_time() - before;
        say(&format!("{what}, of 40,000: {used:?} of processor time, {:?} in all", begin.elapsed()));
    }
    let (before, claimed, begin) = (work.processor_time(), claims(&zone), Instant::now());
    zone.wait_for("more jobs", || (claims(&zone) > claimed + 50).then_some(()));
    let (jobs, used) = (claims(&zone) - claimed, work.processor_time() - before);
    say(&format!("{jobs} jobs: {used:?} of processor time, {:?} in all", begin.elapsed()));
    for process in [work, serve] {
        process.end();
    }
}

#[test]
fn arrivals_that_came_while_work_was_stopped_are_each_processed_exactly_once() {
    let count = if std::env::var_os("DROPZONE_LONG").is_some() { 20_000 } else { 2_000 };
    let zone = roomy_zone();
    plant(&zone, "incoming", 0..count, count);
    let waiting: BTreeSet<String> = zone.arrivals("incoming").into_iter().collect();
    let begin = Instant::now();
    let work = Started::new(&zone, Daemon::Work);
    let mut done = 0;
    while done < count {
        // However slow the machine is, there is always some progress.
        let before = done;
        zone.wait_for("another arrival that is done", || {
            done = zone.arrivals("done").len();
            (done > before).then_some(())
        });
        std::thread::sleep(Duration::from_millis(200));
    }
    let (took, used) = (begin.elapsed(), work.processor_time());
    say(&format!("{count} arrivals: {used:?} of processor time, {took:?} in all"));
    work.end();
    assert_eq!(zone.arrivals("done").into_iter().collect::<BTreeSet<_>>(), waiting);
    let lines = zone.log_lines();
    for event in ["claim", "deliver", "job"] {
        let mut times: BTreeMap<&str, usize> = waiting.iter().map(|id| (id.as_str(), 0)).collect();
        for line in lines.iter().filter(|line| line["event"] == event && line["outcome"] == "ok") {
            *times.get_mut(line["arrival"].as_str().unwrap()).unwrap() += 1;
        }
        let wrong: Vec<_> = times.into_iter().filter(|(_, times)| *times != 1).collect();
        assert!(wrong.is_empty(), "{event}: {wrong:?}");
    }
    assert_eq!(zone.results("city", "relay").len(), count);
    let told = zone.receipts("agency", "relay");
    assert_eq!(told.iter().filter(|receipt| receipt["verdict"] == "delivered").count(), count);
}

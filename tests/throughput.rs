//! How long a list of a million numbers takes against a register of two million, from its publication to its result, and
//! how long the shell pipeline takes that an operator would write instead, in the same run on the same machine. Needs a
//! release build (`DROPZONE_RELEASE_BIN`) and the programs `age` and `sqlite3`; without a release build it says so and
//! passes. The time is reported, not judged: a busy machine is no defect. Result and memory are judged.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use age::x25519::Identity;
use dropzone::host::spool::Spool;
use dropzone::policy::account::Who;
use dropzone::policy::arrival::{Arrival, ArrivalId, delivery_name};
use dropzone::policy::envelope::Inspector;
use dropzone::policy::path::{Folder, Name, Slug};

const ROWS: usize = 1_000_000;
const REGISTER: usize = 2_000_000;
const ROUNDS: u32 = 3;
/// `work` must stay below this, in KiB.
const MEMORY: u64 = 400 * 1024;
const SQL: &str = "SELECT arrival.insz, j.registered, j.latest, j.category, j.status FROM arrival \
                   LEFT JOIN jobseekers j ON j.insz = arrival.insz ORDER BY arrival.rowid";

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

/// Made-up national numbers: right in form and check digits, each once, in no order.
fn numbers() -> Vec<String> {
    let number = |at: usize| {
        let (year, month, day, serial) = (at % 100, at / 100 % 12 + 1, at / 1200 % 28 + 1, at / 33_600 + 1);
        let nine = ((year * 100 + month) * 100 + day) * 1000 + serial;
        format!("{nine:09}{:02}", 97 - nine % 97)
    };
    let count = REGISTER + REGISTER / 4;
    // A step that shares no divisor with the count visits each once, far from the one before.
    (0..count).map(|at| number(at * 1_618_033 % count)).collect()
}

/// What the register says of the person at a place in it.
fn facts(at: usize) -> [String; 4] {
    [
        format!("20{:02}-{:02}-{:02}", at % 24, at % 12 + 1, at % 28 + 1),
        format!("2026-{:02}-{:02}", at % 11 + 1, at % 27 + 1),
        format!("category {:02}", at % 40),
        ["open", "closed, \"done\"", ""].get(at % 3).copied().unwrap_or_default().to_owned(),
    ]
}

fn write_register(path: &Path, people: &[String]) {
    let mut connection = rusqlite::Connection::open(path).unwrap();
    let table = "CREATE TABLE jobseekers (insz TEXT PRIMARY KEY, registered TEXT, latest TEXT, category TEXT, status TEXT)";
    connection.execute_batch(table).unwrap();
    let transaction = connection.transaction().unwrap();
    let mut insert = transaction.prepare("INSERT INTO jobseekers VALUES (?, ?, ?, ?, ?)").unwrap();
    for (at, insz) in people.iter().enumerate() {
        let [registered, latest, category, status] = facts(at);
        insert.execute([insz, &registered, &latest, &category, &status]).unwrap();
    }
    drop(insert);
    transaction.commit().unwrap();
}

/// The join, by other means.
fn expected(list: &[String], people: &[String]) -> String {
    let places: HashMap<&str, usize> =
        people.iter().enumerate().map(|(at, insz)| (insz.as_str(), at)).collect();
    let mut text = "insz,registered,latest,category,status\n".to_owned();
    for insz in list {
        match places.get(insz.as_str()) {
            Some(at) => {
                let [registered, latest, category, status] = facts(*at);
                let status = if status.contains('"') {
                    format!("\"{}\"", status.replace('"', "\"\""))
                } else {
                    status
                };
                writeln!(text, "{insz},{registered},{latest},{category},{status}").unwrap();
            }
            None => writeln!(text, "{insz},,,,").unwrap(),
        }
    }
    text
}

struct Zone {
    directory: PathBuf,
    recipient: String,
    receiver: Identity,
    metrics: u16,
}

fn make_zone(directory: &Path) -> Zone {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (serve, metrics) = (free(), free());
    let machine = format!(
        "listen: [\"127.0.0.1:0\"]\nhost-key: keys/ssh_host_ed25519_key\nidentities: [keys/zone.agekey]\n\
         signing-key: keys/signing_ed25519\nspool: spool\nlog: {{directory: log, keep-days: 31}}\n\
         metrics: {{serve: \"127.0.0.1:{serve}\", work: \"127.0.0.1:{metrics}\"}}\n\
         databases: {{register: {{sqlite: register.db}}}}\n"
    );
    let receiver = Identity::generate();
    let institution =
        format!("institution: agii\ntitle: An agency\npeople: []\nrecipients: [{}]\n", receiver.to_public());
    let exchange = format!(
        "exchange: pillar-3\nagreement: {{reference: P-3, title: t, legal-basis: l, from: 2023-03-03}}\n\
         parties: {{agii: [drop, collect]}}\nflows:\n  - flow: enrich\n    from: [agii]\n    \
         accept: {{max-size: 1 GiB}}\n    job: {{query: {{database: register, sql: '{SQL}'}}}}\n    to: [agii]\n"
    );
    let texts = [
        ("dropzone.yaml", machine.as_str()),
        ("institutions/agii.yaml", &institution),
        ("exchanges/pillar-3.yaml", &exchange),
    ];
    let keys = dropzone::cli::init::make_zone(directory, &texts).unwrap();
    Zone { directory: directory.to_owned(), recipient: keys.recipient, receiver, metrics }
}

/// `dropzone work`, ended with the test.
struct Worker(Child);

impl Worker {
    fn start(program: &str, zone: &Zone) -> Self {
        let child = Command::new(program).arg("--config").arg(&zone.directory).arg("work").spawn().unwrap();
        let worker = Self(child);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", zone.metrics)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "work does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        worker
    }

    /// The most memory it ever had, in KiB.
    fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Processor time of a process, or of the children it has waited for, in hundredths of a second.
fn processor_time(process: &str, of_children: bool) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in brackets may hold anything; utime is the twelfth field after it.
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap().split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    fields.iter().skip(if of_children { 13 } else { 11 }).take(2).sum()
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Publishes as `serve` does, and waits for the result.
fn through_dropzone(spool: &Spool, payload: &[u8], round: u32) -> (Duration, Vec<u8>) {
    let name = Name::parse("list.csv.age").unwrap();
    let (institution, exchange) = (slug("agii"), slug("pillar-3"));
    let sha256 = dropzone::policy::digest::sha256(payload);
    let at = jiff::Timestamp::from_second(1_800_000_000 + i64::from(round)).unwrap();
    let arrival = Arrival {
        id: ArrivalId::new(at, &name, round, &institution, &exchange),
        name: name.clone(),
        flow: Some(slug("enrich")),
        size: payload.len() as u64,
        sha256: Some(sha256),
        armored: false,
        by: Who { institution: institution.clone(), label: "an".into(), fingerprint: "SHA256:an".into() },
        session: "throughput".into(),
        opened: at,
        received: at,
        mtime: None,
        refused: None,
    };
    let mut partial = spool.create_partial(&institution, &exchange, &name).unwrap();
    partial.write_at(payload, 0).unwrap();
    let mut inspector = Inspector::default();
    inspector.feed(payload).unwrap();
    let envelope = inspector.seal().unwrap();
    spool.publish(partial, &envelope, &arrival).unwrap();
    let start = Instant::now();
    let result = delivery_name(&arrival);
    while spool.file_facts(&institution, &exchange, Folder::Out, &result).unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(600), "no result came");
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = start.elapsed();
    let mut bytes = Vec::new();
    let mut file = spool.open_file(&institution, &exchange, Folder::Out, &result).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    (took, bytes)
}

fn through_the_shell(zone: &Zone, list: &Path) -> Duration {
    let script = r#"set -eu
        age -d -i "$ZONE/keys/zone.agekey" "$LIST" |
        sqlite3 :memory: "ATTACH 'file:$ZONE/register.db?mode=ro' AS register" ".mode csv" \
            ".import /dev/stdin arrival" ".headers on" "$SQL" |
        age -r "$RECIPIENT" -o "$OUT""#;
    let out = list.with_extension("out");
    let _ = fs::remove_file(&out);
    let start = Instant::now();
    let status = Command::new("sh")
        .args(["-c", script])
        .env("ZONE", &zone.directory)
        .env("LIST", list)
        .env("SQL", SQL)
        .env("OUT", &out)
        .env("RECIPIENT", zone.receiver.to_public().to_string())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    let took = start.elapsed();
    assert!(status.success());
    let result = age::decrypt(&zone.receiver, &fs::read(out).unwrap()).unwrap();
    assert_eq!(
        result.iter().filter(|byte| **byte == b'\n').count(),
        ROWS + 1,
        "the pipeline did its work too"
    );
    took
}

#[test]
fn a_million_numbers_take_half_as_long_as_in_the_shell() {
    let Ok(program) = std::env::var("DROPZONE_RELEASE_BIN") else {
        println!("skipped: DROPZONE_RELEASE_BIN names no release build");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let zone = make_zone(&folder.path().join("zone"));
    let numbers = numbers();
    let people = &numbers[..REGISTER];
    write_register(&zone.directory.join("register.db"), people);
    // From all over the register, and from among those it does not know.
    let list: Vec<String> = (0..ROWS).map(|at| numbers[at * 271_829 % numbers.len()].clone()).collect();
    let recipient: age::x25519::Recipient = zone.recipient.parse().unwrap();
    let plain = format!("insz\n{}\n", list.join("\n"));
    let path = folder.path().join("list.csv.age");
    let expected = expected(&list, people);
    let worker = Worker::start(&program, &zone);
    let spool = Spool::open(&zone.directory.join("spool"), &[(slug("agii"), slug("pillar-3"))]).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // The same file again would be the same arrival, and no job.
        let payload = age::encrypt(&recipient, plain.as_bytes()).unwrap();
        fs::write(&path, &payload).unwrap();
        let used = || (processor_time(&worker.0.id().to_string(), false), processor_time("self", true));
        let before = used();
        let (took, result) = through_dropzone(&spool, &payload, round);
        let result = age::decrypt(&zone.receiver, &result).unwrap();
        assert!(result == expected.as_bytes(), "the result is not that of the independent join");
        ours.push(took);
        theirs.push(through_the_shell(&zone, &path));
        let after = used();
        println!(
            "round {round}: dropzone {took:.2?} ({:.2} s of processors), shell {:.2?} ({:.2} s of processors)",
            (after.0 - before.0) as f64 / 100.0,
            theirs[round as usize],
            (after.1 - before.1) as f64 / 100.0
        );
    }
    ours.sort_unstable();
    theirs.sort_unstable();
    let middle = ROUNDS as usize / 2;
    let ratio = ours[middle].as_secs_f64() / theirs[middle].as_secs_f64();
    let memory = worker.most_memory();
    println!(
        "medians: dropzone {:.2?}, shell {:.2?}, ratio {ratio:.2} (goal: at most 0.50)",
        ours[middle], theirs[middle]
    );
    println!("most memory of work: {} MiB (limit: 400 MiB)", memory / 1024);
    assert!(memory < MEMORY, "work took {memory} KiB");
}

//! Jobs that never end, make too much, take too much, or lose their database: each ends in one delivery or on hold with its own
//! reason, and none of them keeps another institution waiting.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::programs::run;
use crate::harness::{AN, BO, Zone, config, pid};

const LIST: &str = "insz\n85073003328\n";
const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS c FROM n";

/// Laid out with other limits of `work`.
fn laid_out(work: &str) -> Zone {
    let zone = Zone::lay_out();
    let file = zone.directory().join("dropzone.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("tries: 10", &format!("tries: 10, {work}"))).unwrap();
    zone
}

/// One more exchange, with a query of its own.
fn exchange(zone: &Zone, name: &str, sql: &str, columns: &str) {
    let text = format!(
        "exchange: {name}\nagreement: {{reference: r, title: t, legal-basis: l, from: 2023-03-03}}\n\
         parties: {{agency: [drop, collect]}}\nflows:\n  - flow: enrich\n    from: [agency]\n    to: [agency]\n\
         \x20   accept: {{names: [\"*.csv.age\"], max-size: 1 GiB}}\n\
         \x20   job: {{query: {{database: register, sql: \"{sql}\"{columns}}}}}\n"
    );
    fs::write(zone.directory().join("exchanges").join(format!("{name}.yaml")), text).unwrap();
}

/// Drops a list into an exchange and waits until it is held with this reason; gives what the operator reads.
fn held(zone: &Zone, exchange: &str, list: &[u8], code: &str) -> String {
    zone.upload(AN, &format!("/{exchange}/in/a.csv.age"), &zone.encrypt(std::str::from_utf8(list).unwrap()));
    let receipt = zone.receipt(exchange, "a.csv.age", "held");
    assert_eq!(receipt["reason"]["code"], code, "{receipt:#}");
    assert_eq!(receipt["job"]["tries"], 1, "held at once");
    assert!(zone.results("agency", exchange).is_empty());
    let id =
        zone.wait_for("the hold", || zone.arrivals("hold").into_iter().find(|id| id.ends_with(exchange)));
    let folder = zone.spool().join("hold").join(id);
    let names = crate::harness::observe::names(&folder);
    assert_eq!(names, ["arrival.json", "hold.json", "payload.age"], "nothing staged is left");
    let note: Value = serde_json::from_slice(&fs::read(folder.join("hold.json")).unwrap()).unwrap();
    note["detail"].as_str().unwrap().to_owned()
}

/// What was dropped there in the end went out exactly once.
fn delivered_once(zone: &Zone, exchange: &str) {
    zone.receipt(exchange, "a.csv.age", "delivered");
    zone.wait_for("the end of the job", || zone.arrivals("active").is_empty().then_some(()));
    assert_eq!(zone.results("agency", exchange).len(), 1);
    assert_eq!(zone.logged(&[("event", "deliver"), ("exchange", exchange)]).len(), 1);
    let receipts = zone.receipts("agency", exchange);
    assert_eq!(receipts.len(), 1, "one receipt, the last one");
}

fn retry(zone: &Zone) {
    for id in zone.arrivals("deferred") {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        // It may be taken between the look and the command.
        run(command.arg("--config").arg(zone.directory()).args(["retry", &id, "--reason", "test"]));
    }
}

#[test]
fn a_query_that_never_ends_is_held_when_its_time_is_over() {
    let mut zone = laid_out("job-time: 2s");
    exchange(&zone, "endless", ENDLESS, "");
    zone.start();
    let detail = held(&zone, "endless", LIST.as_bytes(), "job-too-long");
    assert!(detail.contains("2s (work.job-time)"), "{detail}");
}

#[test]
fn queries_that_never_end_leave_one_job_to_other_institutions() {
    let mut zone = laid_out("job-time: 1h");
    exchange(&zone, "endless", ENDLESS, "");
    zone.start();
    for name in ["a", "b", "c"] {
        zone.upload(AN, &format!("/endless/in/{name}.csv.age"), &zone.encrypt(LIST));
    }
    zone.wait_for("an endless job", || (!zone.arrivals("active").is_empty()).then_some(()));
    zone.upload(BO, "/city-only/in/b.age", &zone.encrypt("x"));
    zone.result("city", "city-only");
    assert_eq!(zone.arrivals("active").iter().filter(|id| id.contains(".agency.")).count(), 1);
    assert!(zone.end_with(Signal::TERM).success(), "an endless job does not keep the process");
}

#[test]
fn a_job_that_makes_or_takes_more_than_it_may_is_held_at_once() {
    let mut zone = laid_out("result-size: 64 KiB, job-memory: 16 MiB");
    let numbers = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000000)";
    exchange(&zone, "flood", &format!("{numbers} SELECT x FROM n"), "");
    exchange(&zone, "sorted", &format!("{numbers} SELECT hex(randomblob(60)) AS b FROM n ORDER BY b"), "");
    zone.start();
    let detail = held(&zone, "flood", LIST.as_bytes(), "result-too-large");
    assert!(detail.contains("65536 bytes together (work.result-size)"), "{detail}");
    let detail = held(&zone, "sorted", LIST.as_bytes(), "job-memory");
    assert!(detail.contains("more memory than work.job-memory"), "{detail}");
    let long = "insz\n".to_owned() + &"85073003328\n".repeat(1_500_000);
    let detail = held(&zone, "notes", &long.as_bytes()[..800_000], "result-too-large");
    assert!(detail.contains("65536"), "{detail}");
    let detail = held(&zone, "pillar-3", long.as_bytes(), "job-memory");
    assert!(detail.contains("a job may hold 16777216"), "{detail}");
    zone.upload(AN, "/pillar-3/in/next.csv.age", &zone.encrypt(LIST));
    zone.receipt("pillar-3", "next.csv.age", "delivered");
}

#[test]
fn columns_other_than_those_agreed_and_garbage_are_held_at_once() {
    let mut zone = Zone::lay_out();
    exchange(&zone, "wider", "SELECT arrival.* FROM arrival", ", columns: [insz]");
    zone.start();
    let detail = held(&zone, "wider", b"insz,name\n1,x\n", "columns-not-agreed");
    assert!(detail.contains("agreed are [\"insz\"]"), "{detail}");
    held(&zone, "pillar-3", b"insz\n1,2\n", "not-a-table");
    zone.upload(AN, "/wider/in/next.csv.age", &zone.encrypt(LIST));
    zone.receipt("wider", "next.csv.age", "delivered");
}

/// Holds the register exclusively, as a program that loads it does.
fn lock(zone: &Zone) -> Child {
    let script = zone.put_here("lock.sql", "BEGIN EXCLUSIVE;\n.shell touch locked\n.shell sleep 600\n");
    let child = Command::new("sqlite3")
        .arg(zone.register())
        .arg(format!(".read {}", script.display()))
        .current_dir(zone.here())
        .process_group(0)
        .spawn()
        .unwrap();
    zone.wait_for("the lock", || zone.here().join("locked").exists().then_some(()));
    child
}

#[test]
fn a_register_that_another_program_holds_defers_the_list_until_it_is_free() {
    let zone = Zone::new();
    let mut locking = lock(&zone);
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt(LIST));
    zone.wait_for("it in deferred", || (zone.arrivals("deferred").len() == 1).then_some(()));
    rustix::process::kill_process_group(pid(locking.id()), Signal::KILL).unwrap();
    locking.wait().unwrap();
    retry(&zone);
    delivered_once(&zone, "pillar-3");
}

#[test]
fn a_register_that_goes_away_in_the_middle_of_a_job_costs_a_try_at_most() {
    let mut zone = Zone::lay_out();
    let slow = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 8000000)
                SELECT arrival.insz, (SELECT count(*) FROM n) AS n, j.category FROM arrival
                LEFT JOIN jobseekers j ON j.insz = arrival.insz";
    exchange(&zone, "slow", slow, "");
    zone.start();
    zone.upload(AN, "/slow/in/a.csv.age", &zone.encrypt(LIST));
    zone.wait_for("the claim", || (!zone.arrivals("active").is_empty()).then_some(()));
    fs::remove_file(zone.register()).unwrap();
    zone.wait_for("the end of the try", || zone.arrivals("active").is_empty().then_some(()));
    assert!(zone.arrivals("hold").is_empty(), "that passes");
    config::make_register(&zone);
    retry(&zone);
    delivered_once(&zone, "slow");
    let result = format!("/slow/out/{}", zone.result("agency", "slow"));
    let text = String::from_utf8(zone.decrypt("agency", &zone.download(AN, &result))).unwrap();
    assert!(text.contains("85073003328,8000000,werkzoekend"), "{text}");
}

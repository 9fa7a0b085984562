//! What an agreement says is what happens: who of an institution takes part, how often a list comes, and what is left when it has
//! ended.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::observe::names;
use crate::harness::programs::{Ran, person_key, public_key, run, sha256};
use crate::harness::{AN, BO, Daemon, Person, Zone};

/// A colleague of An's.
const RIA: Person = Person { user: "agency", key: "ria" };

fn dropzone(zone: &Zone, arguments: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_dropzone")).arg("--config").arg(zone.directory()).args(arguments))
}

fn edit(zone: &Zone, file: &str, old: &str, new: &str) {
    let path = zone.directory().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{file} has no {old:?}");
    fs::write(path, text.replace(old, new)).unwrap();
}

fn add_ria(zone: &Zone) {
    person_key(&zone.key_of(RIA));
    let person = format!(
        "people:\n  - label: ria\n    function: integration officer\n    keys: [\"{}\"]\n",
        public_key(&zone.key_of(RIA))
    );
    edit(zone, "institutions/agency.yaml", "people:\n", &person);
}

fn status(zone: &Zone) -> Value {
    serde_json::from_slice(&dropzone(zone, &["status", "--json"]).must_succeed().stdout).unwrap()
}

/// The row of `dropzone status` about an exchange.
fn row<'a>(status: &'a Value, rows: &str, exchange: &str) -> &'a Value {
    status[rows].as_array().unwrap().iter().find(|row| row["exchange"] == exchange).unwrap()
}

#[test]
fn one_person_more_than_agreed_is_refused_by_name_and_what_runs_goes_on() {
    let zone = Zone::lay_out();
    // An, and Els whose key has expired.
    edit(
        &zone,
        "exchanges/notes.yaml",
        "agency: [drop, collect]",
        "agency: {may: [drop, collect], people: {at-most: 2}}",
    );
    let mut zone = zone;
    zone.start();
    assert!(dropzone(&zone, &["check"]).must_succeed().text().contains("an, els"));
    add_ria(&zone);
    let told = dropzone(&zone, &["check"]).must_fail();
    let told = format!("{}{}", told.text(), told.stderr);
    for part in ["exchanges/notes.yaml", "at-most", "3 people of agency", "ria, an, els", "allows 2"] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    dropzone(&zone, &["reload"]).must_fail();
    zone.sftp(RIA, "ls /").must_fail();
    zone.sftp(AN, "ls /notes/in").must_succeed();
    // Who does not take part does not count.
    edit(&zone, "exchanges/notes.yaml", "people: {at-most: 2}", "people: {at-most: 2, only: [an, els]}");
    dropzone(&zone, &["reload"]).must_succeed();
    zone.sftp(RIA, "ls /pillar-3/in").must_succeed();
}

#[test]
fn who_does_not_take_part_meets_what_a_stranger_meets_and_without_any_part_cannot_log_in() {
    let mut zone = Zone::lay_out();
    add_ria(&zone);
    edit(
        &zone,
        "exchanges/pillar-3.yaml",
        "agency: [drop, collect]",
        "agency: {may: [drop, collect], people: {functions: [registrar]}}",
    );
    edit(
        &zone,
        "exchanges/notes.yaml",
        "agency: [drop, collect]",
        "agency: {may: [drop, collect], people: {only: [an]}}",
    );
    for exchange in ["relay", "small"] {
        let circle = "agency: {may: [drop], people: {functions: [integration officer]}}";
        edit(&zone, &format!("exchanges/{exchange}.yaml"), "agency: [drop]", circle);
    }
    zone.start();
    let seen = |person| zone.sftp(person, "ls -1 /").must_succeed().text();
    let (of_an, of_ria) = (seen(AN), seen(RIA));
    for (exchange, an, ria) in [("pillar-3", false, false), ("notes", true, false), ("relay", false, true)] {
        assert_eq!(
            (of_an.contains(exchange), of_ria.contains(exchange)),
            (an, ria),
            "{exchange}: {of_an} {of_ria}"
        );
    }
    zone.put_here("list.csv.age", zone.encrypt("x"));
    for batch in
        ["ls /notes/in", "put list.csv.age /notes/in/list.csv.age", "get /notes/receipts/x", "cd /notes"]
    {
        let told = |batch: &str| {
            let ran = zone.sftp(RIA, batch).must_fail();
            ran.stderr.replace("notes", "_").replace("absent", "_")
        };
        assert_eq!(told(batch), told(&batch.replace("notes", "absent")), "{batch}");
    }
    zone.upload(AN, "/notes/in/list.csv.age", &zone.encrypt("insz\n85073003328\n"));
    zone.receipt("notes", "list.csv.age", "delivered");
    for exchange in ["relay", "small"] {
        edit(
            &zone,
            &format!("exchanges/{exchange}.yaml"),
            "functions: [integration officer]",
            "functions: [registrar]",
        );
    }
    dropzone(&zone, &["reload"]).must_succeed();
    zone.sftp(RIA, "ls /").must_fail();
    // The record comes when the connection has ended, which the client need not wait for.
    let refused =
        || zone.logged(&[("event", "login"), ("outcome", "denied"), ("reason", "no-open-exchange")]);
    zone.wait_for("the record of the refused login", || (refused().len() == 1).then_some(()));
}

#[test]
fn a_list_beyond_the_rhythm_is_held_over_a_kill_and_released_by_an_operators_word() {
    let mut zone = Zone::lay_out();
    edit(
        &zone,
        "exchanges/relay.yaml",
        "    job: relay",
        "    rhythm: {period: 120 months, expected: true}\n    job: relay",
    );
    zone.start();
    let drop_one = |zone: &Zone, name: &str, verdict: &str| {
        zone.upload(AN, &format!("/relay/in/{name}"), &zone.encrypt(name));
        zone.receipt("relay", name, verdict)
    };
    drop_one(&zone, "a.age", "delivered");
    let held = drop_one(&zone, "b.age", "held");
    assert_eq!(held["reason"]["code"], "surplus", "{held:#}");
    zone.end_with(Signal::KILL);
    zone.start();
    drop_one(&zone, "c.age", "held");
    let id = zone.arrivals("hold").remove(0);
    let told = status(&zone);
    let flow = row(&told, "flows", "relay");
    assert_eq!(flow["period"], json!({"first": "2024-02-01", "last": "2034-01-31", "used": 1, "allowed": 1}));
    assert_eq!((&flow["due"], &flow["missing-since"]), (&json!("2044-01-31"), &Value::Null));
    assert!(flow["last-delivery"].is_string(), "{flow:#}");
    let agreement = row(&told, "agreements", "relay");
    assert_eq!((&agreement["standing"], &agreement["days-left"]), (&json!("open"), &Value::Null));
    assert!(zone.metric(Daemon::Work, "dropzone_rhythm_missing{exchange=\"relay\",flow=\"hand-on\"}") < 0.5);
    assert!(dropzone(&zone, &["status"]).must_succeed().text().contains("1 of 1"));
    dropzone(&zone, &["hold", "release", &id, "--reason", "it corrects the first"]).must_succeed();
    zone.wait_for("the released one", || (zone.results("city", "relay").len() == 2).then_some(()));
    assert_eq!(row(&status(&zone), "flows", "relay")["period"]["used"], 2);
}

#[test]
fn what_an_ended_agreement_left_goes_once_also_when_work_is_killed_in_the_middle() {
    let mut zone = Zone::new();
    // A list that is held, of an agreement that will have ended.
    edit(&zone, "exchanges/small.yaml", "    job: relay", "    rhythm: {period: 120 months}\n    job: relay");
    dropzone(&zone, &["reload"]).must_succeed();
    for name in ["a.age", "b.age"] {
        zone.upload(AN, &format!("/small/in/{name}"), &zone.encrypt(name));
    }
    zone.wait_for("one that is held", || (zone.arrivals("hold").len() == 1).then_some(()));
    zone.wait_for("one that is done", || (zone.arrivals("done").len() == 1).then_some(()));
    assert!(zone.end_with(Signal::TERM).success());
    edit(&zone, "exchanges/small.yaml", "from: 2024-02-01", "from: 2024-02-01\n  until: 2024-06-30");
    let rhythm = zone.spool().join("rhythm/small");
    let noticed = json!({"until": "2024-06-30", "at": "2024-07-01T00:00:00Z"}).to_string();
    fs::write(rhythm.join("end.json"), noticed).unwrap();
    let out = zone.folder_of("outbox", "city", "small");
    let mut left: Vec<String> = (0..400).map(|number| format!("{number:03}.age")).collect();
    left.iter().for_each(|name| fs::write(out.join(name), name).unwrap());
    left = names(&out);
    assert_eq!(left.len(), 401);
    let digests: Vec<String> = left.iter().map(|name| sha256(&fs::read(out.join(name)).unwrap())).collect();
    zone.start();
    zone.wait_for("the first to go", || (names(&out).len() < left.len()).then_some(()));
    zone.end_with(Signal::KILL);
    zone.start();
    zone.wait_for("all to go", || names(&out).is_empty().then_some(()));
    zone.wait_for("the arrivals to go", || {
        (zone.arrivals("hold").is_empty() && zone.arrivals("done").is_empty()).then_some(())
    });
    let mut twice = 0;
    for (name, digest) in left.iter().zip(&digests) {
        let path = format!("/small/out/{name}");
        let told = zone.logged(&[("event", "expire"), ("path", &path), ("sha256", digest)]).len();
        assert!((1..=2).contains(&told), "{name}: {told}");
        twice += usize::from(told == 2);
    }
    assert!(twice <= 1, "a kill repeats the one record whose deed it cut off: {twice}");
    let receipts = zone.receipts("agency", "small");
    assert!(receipts.iter().any(|receipt| receipt["reason"]["code"] == "agreement-ended"), "{receipts:#?}");
    zone.sftp(BO, "ls /small").must_fail();
    assert!(!rhythm.join("hand-on").exists(), "the count goes as receipts of that age do");
    assert!(zone.end_with(Signal::TERM).success());
    dropzone(&zone, &["log", "verify"]).must_succeed();
}

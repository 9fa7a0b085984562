//! What operators do with arrivals that wait, by the commands they have: look, release, discard, try now. Each is in the log
//! before it takes effect.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::programs::{Ran, run, run_with_input, sqlite};
use crate::harness::{AN, Zone, config};

const LIST: &str = "insz\n85073003328\n";

/// The program, called by somebody with an account of her own.
fn dropzone(zone: &Zone, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    command.env("SUDO_USER", "alice").arg("--config").arg(zone.directory()).args(arguments);
    run(&mut command)
}

/// Puts a register in place that lacks the table which the query names.
fn register_without_table(zone: &Zone) {
    let other = zone.directory().join("other.db");
    sqlite(&other, "CREATE TABLE measures (insz TEXT);");
    fs::rename(other, zone.register()).unwrap();
}

fn in_state(zone: &Zone, state: &str) -> String {
    zone.wait_for(&format!("an arrival in {state}"), || zone.arrivals(state).into_iter().next())
}

/// The one record of what an operator did.
fn decision(zone: &Zone, event: &str) -> Value {
    let [record] = zone.logged(&[("event", event)]).try_into().unwrap();
    record
}

#[test]
fn a_held_list_is_found_explained_and_released_once_its_cause_is_mended() {
    let mut zone = Zone::lay_out();
    register_without_table(&zone);
    zone.start();
    assert!(dropzone(&zone, &["hold", "list"]).must_succeed().text().contains("nothing is held"));
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt(LIST));
    let id = in_state(&zone, "hold");
    let listed: Value =
        serde_json::from_slice(&dropzone(&zone, &["hold", "list", "--json"]).must_succeed().stdout).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["reason"]["code"]), (&id.as_str().into(), &"job-failed".into()));
    let table = dropzone(&zone, &["hold", "list"]).must_succeed().text();
    assert!(table.contains(&id) && table.contains("a.csv.age") && table.contains("job-failed"), "{table}");
    let shown = dropzone(&zone, &["hold", "show", &id[..30]]).must_succeed().text();
    let release = format!("hold release {id} --reason");
    for part in [&id, "a.csv.age", "an of agency", "no such table: jobseekers", "tries        1", &release] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    assert!(dropzone(&zone, &["status"]).text().contains("hold show"));
    config::make_register(&zone);
    let told = dropzone(&zone, &["hold", "release", &id[..30], "--reason", "the table is there now"]);
    assert!(told.must_succeed().text().contains("released"));
    let receipt = zone.receipt("pillar-3", "a.csv.age", "delivered");
    assert_eq!(receipt["job"]["tries"], 1, "{receipt:#}");
    assert_eq!(zone.results("agency", "pillar-3").len(), 1);
    assert_eq!(zone.logged(&[("event", "deliver")]).len(), 1);
    let record = decision(&zone, "release");
    assert_eq!((&record["arrival"], &record["outcome"]), (&id.as_str().into(), &"ok".into()));
    assert_eq!(record["detail"], "the table is there now");
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(record["operator"], format!("uid {user}, by own account alice"));
    let claims = zone.logged(&[("event", "claim")]);
    assert!(record["time"].as_str() < claims[1]["time"].as_str(), "recorded before it was worked on");
}

#[test]
fn a_discarded_list_is_gone_for_good_and_its_sender_can_prove_it() {
    let zone = Zone::new();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n1,2\n"));
    let id = in_state(&zone, "hold");
    let told = dropzone(&zone, &["hold", "discard", &id, "--reason", "the agency sends another"]);
    assert!(told.must_succeed().text().contains("discarded"));
    let receipt = zone.receipt("pillar-3", "a.csv.age", "discarded");
    assert_eq!((&receipt["content"], &receipt["reason"]["code"]), (&"not-kept".into(), &"discarded".into()));
    assert_eq!(zone.accepted(), 0);
    assert_eq!(zone.arrivals("hold"), [""; 0]);
    let left = zone.spool().join("refused").join(&id);
    assert!(left.join("arrival.json").exists() && !left.join("payload.age").exists());
    let note: Value = serde_json::from_slice(&fs::read(left.join("discard.json")).unwrap()).unwrap();
    assert_eq!(note["reason"], "the agency sends another");
    let record = decision(&zone, "discard");
    assert_eq!((&record["detail"], &record["arrival"]), (&note["reason"], &id.as_str().into()));
    verify_receipt(&zone, "a.csv.age");
    assert_eq!(dropzone(&zone, &["hold", "show", &id]).code, Some(65), "there is nothing to show any more");
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt(LIST));
    zone.receipt("pillar-3", "a.csv.age", "delivered");
    assert_eq!(zone.results("agency", "pillar-3").len(), 1);
    assert_eq!(zone.receipts("agency", "pillar-3").len(), 2, "the discarded one keeps its receipt");
}

/// As the README beside the receipts says.
fn verify_receipt(zone: &Zone, name: &str) {
    let folder = zone.folder_of("receipts", "agency", "pillar-3");
    let mut receipts = crate::harness::observe::names(&folder);
    receipts.retain(|file| file.starts_with(name) && file.ends_with(".json"));
    let [receipt] = receipts.try_into().unwrap();
    let signature = folder.join(format!("{receipt}.sig"));
    let mut verify = Command::new("ssh-keygen");
    verify.args(["-Y", "verify", "-I", "dropzone-zone", "-n", "receipt@dropzone", "-f"]);
    verify.arg(folder.join("allowed_signers")).arg("-s").arg(signature);
    run_with_input(&mut verify, &fs::read_to_string(folder.join(receipt)).unwrap()).must_succeed();
}

#[test]
fn a_deferred_list_is_tried_at_once_when_its_operator_says_so() {
    let mut zone = Zone::lay_out();
    fs::remove_file(zone.register()).unwrap();
    zone.start();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt(LIST));
    let id = in_state(&zone, "deferred");
    assert_eq!(dropzone(&zone, &["hold", "release", &id, "--reason", "x"]).code, Some(65), "it is not held");
    config::make_register(&zone);
    dropzone(&zone, &["retry", &id, "--reason", "the register is back"]).must_succeed();
    let receipt = zone.receipt("pillar-3", "a.csv.age", "delivered");
    assert_eq!(receipt["job"]["tries"], 2);
    assert_eq!(zone.results("agency", "pillar-3").len(), 1);
    assert_eq!(zone.logged(&[("event", "deliver")]).len(), 1);
    assert_eq!(decision(&zone, "retry")["detail"], "the register is back");
}

#[test]
fn nothing_is_decided_without_a_reason_about_nothing_or_while_work_is_away() {
    let mut zone = Zone::new();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n1,2\n"));
    let id = in_state(&zone, "hold");
    for command in ["release", "discard"] {
        assert_eq!(dropzone(&zone, &["hold", command, &id]).code, Some(64));
        assert_eq!(dropzone(&zone, &["hold", command, &id, "--reason", " "]).code, Some(64));
        let unknown = dropzone(&zone, &["hold", command, "19990101", "--reason", "x"]);
        assert_eq!(unknown.code, Some(65));
        assert!(unknown.stderr.contains("no arrival in hold begins with"), "{}", unknown.stderr);
    }
    assert!(zone.end_with(Signal::TERM).success());
    let away = dropzone(&zone, &["hold", "discard", &id, "--reason", "x"]);
    assert_eq!(away.code, Some(69));
    assert!(away.stderr.contains("work: it does not run"), "{}", away.stderr);
    assert!(dropzone(&zone, &["hold", "show", &id]).must_succeed().text().contains("not-a-table"));
    assert_eq!(zone.arrivals("hold"), [id]);
    assert!(
        zone.logged(&[("event", "release")]).is_empty() && zone.logged(&[("event", "discard")]).is_empty()
    );
}

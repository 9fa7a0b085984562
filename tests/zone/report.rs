//! What a data protection officer reads: its numbers against those of an independent reader, its signature under `ssh-keygen`'s
//! eyes, and that whatever a peer or an operator wrote stays text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::observe::names;
use crate::harness::programs::{Ran, run, run_with_input};
use crate::harness::{AN, BO, Person, Zone};

const STRANGER: Person = Person { user: "agency", key: "stranger" };

fn today() -> String {
    run(Command::new("date").arg("+%F").env("TZ", "Europe/Brussels")).must_succeed().text().trim().to_owned()
}

fn report(zone: &Zone, exchange: &str, options: &[&str]) -> Ran {
    let mut report = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    report.arg("--config").arg(zone.directory()).args(["report", exchange, "--to", &today()]);
    run(report.args(options).arg(zone.here()))
}

fn made(zone: &Zone, ending: &str) -> PathBuf {
    let is_it = |name: &&String| name.starts_with("report-") && name.ends_with(ending);
    let names = names(&zone.here());
    zone.here().join(names.iter().find(is_it).unwrap_or_else(|| panic!("no {ending} in {names:?}")))
}

fn facts(zone: &Zone) -> Value {
    serde_json::from_slice(&fs::read(made(zone, ".json")).unwrap()).unwrap()
}

fn page(zone: &Zone) -> String {
    fs::read_to_string(made(zone, ".html")).unwrap()
}

fn verify(zone: &Zone, file: &Path) -> Ran {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "verify", "-I", "dropzone-zone", "-n", "report@dropzone", "-f"]);
    keygen.arg(zone.here().join("allowed_signers")).arg("-s").arg(format!("{}.sig", file.display()));
    run_with_input(&mut keygen, &fs::read_to_string(file).unwrap())
}

fn statement(facts: &Value, about: &str) -> Value {
    let all = facts["statements"].as_array().unwrap();
    all.iter().find(|statement| statement["about"] == about).unwrap().clone()
}

#[test]
fn of_days_without_a_log_it_does_not_say_that_nobody_was_turned_down() {
    let zone = Zone::lay_out();
    let mut report = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    report.arg("--config").arg(zone.directory());
    report.args(["report", "pillar-3", "--from", "2024-01-01", "--to", "2024-01-31"]);
    run(report.arg(zone.here().join("new-folder"))).must_succeed();
    let made = zone.here().join("new-folder/report-pillar-3-2024-01-01-2024-01-31.nl.json");
    let facts: Value = serde_json::from_slice(&fs::read(made).unwrap()).unwrap();
    let logins = statement(&facts, "logins");
    assert_eq!(logins["level"], "attention", "{logins}");
    assert!(logins["nl"].as_str().unwrap().contains("niet na te gaan"), "{logins}");
}

/// A zone in which something of everything happened, stopped, so that nothing more does.
fn lived_in() -> Zone {
    let mut zone = Zone::new();
    for name in ["mei.csv.age", "juni.csv.age"] {
        zone.upload(AN, &format!("/pillar-3/in/{name}"), &zone.encrypt("insz\n85073003328\n99123199742\n"));
        zone.receipt("pillar-3", name, "delivered");
    }
    zone.put_here("plain.csv", "insz\n85073003328\n");
    zone.sftp(AN, "put plain.csv /pillar-3/in/plain.csv.age").must_fail();
    zone.sftp(AN, "put plain.csv /pillar-3/in/wrong.txt").must_fail();
    zone.receipt("pillar-3", "plain.csv.age", "refused");
    zone.upload(AN, "/pillar-3/in/no.csv.age", &zone.encrypt("name\nx\n"));
    let held = zone.receipt("pillar-3", "no.csv.age", "held")["arrival"].as_str().unwrap().to_owned();
    // The receipt is written just before the arrival moves.
    zone.wait_for("the held arrival", || zone.arrivals("hold").contains(&held).then_some(()));
    let mut discard = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    discard.arg("--config").arg(zone.directory()).args(["hold", "discard", &held, "--reason"]);
    run(discard.arg("<b onclick=x>sent again</b> & \"so\"")).must_succeed();
    zone.receipt("pillar-3", "no.csv.age", "discarded");
    let result = zone.result("agency", "pillar-3");
    zone.download(AN, &format!("/pillar-3/out/{result}"));
    zone.sftp(AN, &format!("rm \"/pillar-3/out/{result}\"")).must_succeed();
    zone.sftp(STRANGER, "ls").must_fail();
    // Somebody who is no party, and something of another exchange.
    zone.sftp(BO, "ls /pillar-3/out").must_fail();
    zone.upload(AN, "/relay/in/other.age", &zone.age(b"x", &["-r", &zone.recipient()]));
    zone.receipt("relay", "other.age", "delivered");
    zone.end_with(Signal::TERM);
    zone.start();
    zone.end_with(Signal::TERM);
    zone
}

#[test]
fn a_report_says_what_an_independent_reader_of_log_and_receipts_counts() {
    let zone = lived_in();
    report(&zone, "pillar-3", &["--from", &today()]).must_succeed();
    let facts = facts(&zone);
    let receipts = zone.receipts("agency", "pillar-3");
    assert_eq!(facts["arrivals"]["count"], receipts.len());
    for verdict in ["delivered", "refused", "discarded"] {
        let count = receipts.iter().filter(|receipt| receipt["verdict"] == verdict).count();
        assert_eq!(facts["arrivals"]["verdicts"][verdict], count, "{verdict}");
    }
    assert_eq!(facts["arrivals"]["rows-in"], 2 + 2 + 1);
    assert_eq!(facts["arrivals"]["signatures"]["good"], receipts.len());
    for receipt in &receipts {
        let listed = facts["arrivals"]["listed"].as_array().unwrap();
        let row = listed.iter().find(|row| row["arrival"] == receipt["arrival"]).unwrap();
        assert_eq!((&row["name"], &row["person"]), (&receipt["name"], &receipt["by"]["key-label"]));
        assert_eq!(
            row["deliveries"].as_array().unwrap().len(),
            receipt["deliveries"].as_array().map_or(0, Vec::len)
        );
    }
    let count = |fields: &[(&str, &str)]| zone.logged(fields).len();
    let people = facts["log"]["people"].as_array().unwrap();
    let an = people.iter().find(|person| person["person"] == "an").unwrap();
    let of_an = |event: &'static str| [("event", event), ("outcome", "ok"), ("key-label", "an")];
    let ours = |event| count(&[&of_an(event)[..], &[("exchange", "pillar-3")]].concat());
    assert_eq!(an["logins"], count(&of_an("login")));
    assert_eq!(an["uploads"], ours("publish"));
    assert_eq!(an["removals"], ours("remove"));
    assert_eq!((&an["downloads"], an["uploads"].as_u64()), (&Value::from(1), Some(3)));
    let refused = facts["log"]["refused-logins"].as_array().unwrap();
    assert_eq!((&refused[0]["code"], &refused[0]["count"]), (&"unknown-key".into(), &1.into()));
    assert!(people.iter().any(|person| person["institution"] == "city"), "who is no party shows");
    assert_eq!(facts["log"]["records"], zone.log_lines().len());
    assert_eq!(statement(&facts, "log")["level"], "good");
    assert_eq!(facts["overall"], "attention");
    assert!(!facts.to_string().contains("other.age"), "another agreement's file is nobody's business here");
}

#[test]
fn the_page_and_the_facts_are_signed_and_say_the_same_in_either_language() {
    let zone = lived_in();
    for (language, verdict) in [("nl", "4 bestanden ingediend"), ("en", "4 files were handed in")] {
        report(&zone, "pillar-3", &["--from", "2026-01-01", "--lang", language]).must_succeed();
        for ending in [format!(".{language}.html"), format!(".{language}.json")] {
            verify(&zone, &made(&zone, &ending)).must_succeed();
        }
        let page = fs::read_to_string(made(&zone, &format!(".{language}.html"))).unwrap();
        assert!(page.contains(&format!("lang=\"{language}\"")) && page.contains(verdict), "{page}");
        let again = report(&zone, "pillar-3", &["--from", "2026-01-01", "--lang", language]).must_fail();
        assert_eq!(again.code, Some(73), "nothing is overwritten");
    }
    let altered = made(&zone, ".nl.html");
    fs::write(&altered, page_without_a_verdict(&altered)).unwrap();
    verify(&zone, &altered).must_fail();
}

fn page_without_a_verdict(path: &Path) -> String {
    fs::read_to_string(path).unwrap().replace("geweigerd", "geleverd")
}

#[test]
fn what_peers_and_operators_wrote_stays_text_and_nothing_is_fetched_or_run() {
    let mut zone = lived_in();
    zone.start();
    let name = "<script>alert(1)<'\"&.csv.age";
    zone.put_here("evil", zone.encrypt("insz\n"));
    zone.sftp(AN, "put evil \"/pillar-3/in/<script>alert(1)<'\\\"&.csv.age\"").must_succeed();
    zone.receipt("pillar-3", name, "delivered");
    zone.end_with(Signal::TERM);
    report(&zone, "pillar-3", &["--from", &today()]).must_succeed();
    let page = page(&zone);
    assert!(page.contains("&lt;script&gt;alert(1)"), "the name is there, as text");
    assert!(page.contains("&lt;b onclick=x&gt;sent again&lt;/b&gt;"), "so is the operator's reason");
    for forbidden in
        ["<script", "<b ", "onclick=x>", "http://", "https://", "src=", "<link", "@import", "url("]
    {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let policy =
        page.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn without_the_signing_key_there_is_a_report_only_if_it_says_so() {
    let zone = lived_in();
    fs::remove_file(zone.directory().join("keys/signing_ed25519")).unwrap();
    let refused = report(&zone, "pillar-3", &["--from", &today()]).must_fail();
    assert!(refused.code == Some(66) && refused.stderr.contains("--unsigned"), "{}", refused.stderr);
    assert!(!names(&zone.here()).iter().any(|name| name.starts_with("report-")));
    report(&zone, "pillar-3", &["--from", &today(), "--unsigned"]).must_succeed();
    assert!(page(&zone).contains("Dit verslag is niet ondertekend. Het bewijst op zichzelf niets"));
    assert_eq!(facts(&zone)["signed-with"], Value::Null);
    assert!(!names(&zone.here()).iter().any(|name| name.ends_with(".sig") && name.starts_with("report-")));
}

#[test]
fn a_log_or_a_receipt_that_was_altered_makes_the_verdict_bad() {
    let zone = lived_in();
    let log = names(&zone.log()).into_iter().find(|name| name.ends_with(".serve.test.jsonl")).unwrap();
    let log = zone.log().join(log);
    let text = fs::read_to_string(&log).unwrap();
    let line = text.lines().position(|line| line.contains("\"event\":\"remove\"")).unwrap();
    let lines = text.lines().enumerate().filter(|(at, _)| *at != line).map(|(_, line)| format!("{line}\n"));
    fs::write(&log, lines.collect::<String>()).unwrap();
    let folder = zone.folder_of("receipts", "agency", "pillar-3");
    let receipt =
        names(&folder).into_iter().find(|name| name.starts_with("plain") && name.ends_with(".json"));
    let receipt = folder.join(receipt.unwrap());
    let altered = fs::read_to_string(&receipt).unwrap().replace("\"refused\"", "\"delivered\"");
    fs::write(&receipt, altered).unwrap();
    report(&zone, "pillar-3", &["--from", &today()]).must_succeed();
    let facts = facts(&zone);
    assert_eq!(facts["overall"], "bad");
    assert_eq!(statement(&facts, "log")["level"], "bad");
    assert_eq!(statement(&facts, "receipts")["level"], "bad");
    assert_eq!(facts["arrivals"]["signatures"]["bad"], 1);
    assert!(page(&zone).contains("Niet in orde"));
}

#[test]
fn a_span_that_is_longer_than_the_log_is_kept_is_told_and_the_receipts_speak_for_it() {
    let zone = lived_in();
    report(&zone, "pillar-3", &["--from", "2025-01-01"]).must_succeed();
    let facts = facts(&zone);
    let coverage = statement(&facts, "coverage");
    assert_eq!(coverage["level"], "attention");
    assert!(coverage["nl"].as_str().unwrap().contains("31 dagen bewaard"), "{coverage}");
    assert_eq!(facts["figures"]["unit"], "month");
    // The log's days are gone, the receipts are not.
    for name in names(&zone.log()).iter().filter(|name| name.ends_with(".jsonl")) {
        fs::remove_file(zone.log().join(name)).unwrap();
    }
    for name in names(&zone.here()).iter().filter(|name| name.starts_with("report-")) {
        fs::remove_file(zone.here().join(name)).unwrap();
    }
    report(&zone, "pillar-3", &["--from", "2025-01-01"]).must_succeed();
    let facts = self::facts(&zone);
    assert_eq!((&facts["arrivals"]["count"], &facts["log"]["records"]), (&4.into(), &0.into()));
    assert!(statement(&facts, "coverage")["nl"].as_str().unwrap().contains("geen toegangslogboek meer"));
}

#[test]
fn a_span_or_an_exchange_that_cannot_be_is_a_usage_error() {
    let zone = Zone::lay_out();
    for (exchange, from, said) in [
        ("nothing", "2026-01-01", "there are: "),
        ("pillar-3", "2999-01-01", "lies behind"),
        ("pillar-3", "1990-01-01", "longer than 20 years"),
    ] {
        let refused = report(&zone, exchange, &["--from", from]).must_fail();
        assert_eq!(refused.code, Some(64), "{}", refused.stderr);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}

//! What an auditor can prove with a copy of the log's folder and the public key, and what stock programs say to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::observe::names;
use crate::harness::programs::{Ran, person_key, run, run_with_input};
use crate::harness::{AN, Daemon, Zone};

/// A zone that ran twice, so that what the first run wrote is sealed; and its log's folder.
fn sealed() -> (Zone, PathBuf) {
    let mut zone = Zone::new();
    for name in ["a", "b"] {
        zone.upload(AN, &format!("/pillar-3/in/{name}.csv.age"), &zone.encrypt("insz\n85073003328\n"));
        zone.receipt("pillar-3", &format!("{name}.csv.age"), "delivered");
    }
    zone.end_with(Signal::TERM);
    zone.start();
    let log = zone.log();
    // The start seals what the first run left.
    zone.wait_for("a second head", || {
        let months = names(&log.join("heads"));
        let heads = months.iter().flat_map(|month| names(&log.join("heads").join(month)));
        (heads.filter(|name| name.ends_with(".json")).count() > 1).then_some(())
    });
    zone.end_with(Signal::TERM);
    (zone, log)
}

fn verify(folder: &Path, zone: &Zone, more: &[&str]) -> Ran {
    let mut verify = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    // Neither a zone nor anything else of this machine is needed.
    verify.args(["--config", "/nonexistent", "log", "verify"]).arg(folder).arg("--key");
    run(verify.arg(zone.directory().join("keys/signing_ed25519.pub")).args(more))
}

/// The head files, relative to the log's folder, the oldest first.
fn heads(log: &Path) -> Vec<PathBuf> {
    let months = names(&log.join("heads")).into_iter().map(|month| log.join("heads").join(month));
    let all = months.flat_map(|month| names(&month).into_iter().map(move |name| month.join(name)));
    all.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect()
}

fn serve_file(log: &Path) -> PathBuf {
    let name = names(log).into_iter().find(|name| name.ends_with(".serve.test.jsonl")).unwrap();
    log.join(name)
}

fn edit(path: &Path, edit: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<String> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    edit(&mut lines);
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

/// Replaces a head by one that says something else, signed with a key of the forger's own.
fn forge(log: &Path) {
    let head = heads(log).remove(0);
    let text = fs::read_to_string(&head).unwrap().replace("\"keep-days\":31", "\"keep-days\":30");
    fs::write(&head, text).unwrap();
    let key = log.join("forger");
    person_key(&key);
    fs::remove_file(head.with_extension("json.sig")).unwrap();
    let mut sign = Command::new("ssh-keygen");
    run(sign.args(["-Y", "sign", "-n", "log-head@dropzone", "-f"]).arg(key).arg(head)).must_succeed();
}

/// Each gets the other's content.
fn exchange(one: &Path, other: &Path) {
    let (first, second) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    fs::write(one, second).unwrap();
    fs::write(other, first).unwrap();
}

fn rewrite_all(lines: &mut [String]) {
    let mut prev = "0".repeat(64);
    for line in lines {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record["prev"] = prev.into();
        record["institution"] = "nobody".into();
        *line = record.to_string();
        prev = crate::harness::programs::sha256(line.as_bytes());
    }
}

#[test]
fn ssh_keygen_accepts_every_head_and_the_verifier_the_whole_log() {
    let (zone, log) = sealed();
    let heads = heads(&log);
    assert!(heads.len() > 1);
    for head in heads {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-Y", "verify", "-I", "dropzone-zone", "-n", "log-head@dropzone", "-f"]);
        keygen.arg(log.join("heads/allowed_signers")).arg("-s").arg(head.with_extension("json.sig"));
        run_with_input(&mut keygen, &fs::read_to_string(head).unwrap()).must_succeed();
    }
    let told: Value = serde_json::from_str(&verify(&log, &zone, &["--json"]).must_succeed().text()).unwrap();
    assert_eq!((&told["intact"], &told["findings"]), (&true.into(), &serde_json::json!([])));
    let records: u64 =
        told["files"].as_array().unwrap().iter().map(|file| file["records"].as_u64().unwrap()).sum();
    assert_eq!(records as usize, zone.log_lines().len());
    let text = verify(&log, &zone, &[]).must_succeed().text();
    assert!(text.contains("The log is intact."), "{text}");
}

type Tampering = fn(&Path);

/// What is done to a copy of the log, and how the first finding names it.
const TAMPERINGS: &[(&str, Tampering, &str)] = &[
    (
        "a byte",
        |log| edit(&serve_file(log), |l| l[4] = l[4].replace("\"ok\"", "\"OK\"")),
        ".serve.test.jsonl, line 5, record 5: the record is not as it was written",
    ),
    (
        "a line dropped",
        |log| edit(&serve_file(log), |l| drop(l.remove(4))),
        ".serve.test.jsonl, line 5, record 5: record 5 is missing before record 6",
    ),
    (
        "a line inserted",
        |log| edit(&serve_file(log), |l| l.insert(5, l[2].clone())),
        ".serve.test.jsonl, line 6, record 3: was inserted",
    ),
    (
        "two lines swapped",
        |log| edit(&serve_file(log), |l| l.swap(3, 4)),
        ".serve.test.jsonl, line 4, record 4: record 5 stands before record 4",
    ),
    (
        "the sealed tail cut off",
        |log| edit(&serve_file(log), |l| l.truncate(4)),
        ".serve.test.jsonl, line 5, record 5: the file ends here",
    ),
    (
        "a day deleted",
        |log| fs::remove_file(serve_file(log)).unwrap(),
        ".serve.test.jsonl: the file is missing",
    ),
    (
        "a head deleted",
        |log| fs::remove_file(&heads(log)[0]).unwrap(),
        "00000002.json: head 1 is missing before this one",
    ),
    (
        "a head edited",
        |log| edit(&heads(log)[0], |l| l[0] = l[0].replace("31", "32")),
        "00000001.json: its signature does not fit",
    ),
    ("a head signed by another", forge, "00000001.json: its signature was made with another key"),
    (
        "a head's signature deleted",
        |log| fs::remove_file(heads(log)[0].with_extension("json.sig")).unwrap(),
        "00000001.json: has no signature beside it",
    ),
    (
        "a head's signature taken from another",
        |log| {
            let signature = |at: usize| heads(log)[at].with_extension("json.sig");
            fs::copy(signature(1), signature(0)).unwrap();
        },
        "00000001.json: its signature does not fit",
    ),
    (
        "two heads exchanged, with their signatures",
        |log| {
            let [one, other] = [0, 1].map(|at| heads(log)[at].clone());
            exchange(&one, &other);
            exchange(&one.with_extension("json.sig"), &other.with_extension("json.sig"));
        },
        "00000001.json: is head 2, under the name of another",
    ),
    (
        "a day under the name of another day",
        |log| fs::rename(serve_file(log), log.join("2026-01-02.serve.test.jsonl")).unwrap(),
        ".serve.test.jsonl: the file is missing",
    ),
    (
        "a day under the name of another node",
        |log| {
            let other = serve_file(log).to_str().unwrap().replace(".test.", ".other.");
            fs::rename(serve_file(log), other).unwrap();
        },
        ".serve.test.jsonl: the file is missing",
    ),
    (
        "the files of two processes exchanged",
        |log| {
            let other = serve_file(log).to_str().unwrap().replace(".serve.", ".work.");
            exchange(&serve_file(log), Path::new(&other));
        },
        ".serve.test.jsonl, line 1, record 1: record",
    ),
    (
        "a day of nobody's put beside the others",
        |log| {
            fs::copy(serve_file(log), log.join("2026-01-02.serve.test.jsonl")).unwrap();
        },
        "2026-01-02.serve.test.jsonl: no head knows this file",
    ),
    (
        "the first line dropped",
        |log| edit(&serve_file(log), |l| drop(l.remove(0))),
        ".serve.test.jsonl, line 1, record 1: record 1 is missing before record 2",
    ),
    ("all heads deleted", |log| fs::remove_dir_all(log.join("heads")).unwrap(), "heads: there are no heads"),
    (
        "the whole chain rewritten",
        |log| edit(&serve_file(log), |l| rewrite_all(l)),
        ".serve.test.jsonl, line 1, record 1: record",
    ),
];

#[test]
fn every_kind_of_tampering_is_named_at_its_place() {
    let (zone, log) = sealed();
    for (what, tamper, told) in TAMPERINGS {
        let copy = zone.here().join("copy");
        run(Command::new("cp").arg("-r").arg(&log).arg(&copy)).must_succeed();
        tamper(&copy);
        let ran = verify(&copy, &zone, &[]);
        let text = ran.text();
        assert_eq!(ran.code, Some(1), "{what}: {text}");
        let first = text.lines().find(|line| line.starts_with("BROKEN:")).unwrap_or_default();
        assert!(first.contains(told), "{what}: {text}");
        fs::remove_dir_all(copy).unwrap();
    }
    // Without tampering the same copy is intact: what is found is what was done.
    verify(&log, &zone, &[]).must_succeed();
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_log_that_was_rewritten_underneath_turns_readiness_red_and_is_not_sealed() {
    let (zone, log) = sealed();
    edit(&serve_file(&log), |lines| rewrite_all(lines));
    let mut work = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    work.arg("--config").arg(zone.directory()).arg("work").stdin(Stdio::null()).stderr(Stdio::null());
    let _work = Ended(work.spawn().unwrap());
    zone.wait_for("readiness to tell the incident", || {
        zone.http(Daemon::Work, "/readyz").contains("an incident in the access log").then_some(())
    });
    assert!((zone.metric(Daemon::Work, "dropzone_log_broken_files") - 1.0).abs() < 0.1);
    let recorded = zone.logged(&[("event", "seal"), ("outcome", "failed")]);
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert!(recorded[0]["path"].as_str().unwrap().ends_with(".serve.test.jsonl"));
}

#[test]
fn records_are_found_by_what_they_are_about() {
    let (_zone, log) = sealed();
    let show = |more: &[&str]| {
        let mut show = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        run(show.args(["--config", "/nonexistent", "log", "show"]).arg(&log).args(more)).must_succeed().text()
    };
    let lines = show(&["--json", "--file", "a.csv.age", "--institution", "agency", "--outcome", "ok"]);
    let all: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        ["publish", "receipt"].iter().all(|event| all.iter().any(|line| line["event"] == *event)),
        "{lines}"
    );
    assert!(all.iter().all(|line| line.to_string().contains("a.csv.age")), "{lines}");
    assert!(all.is_sorted_by_key(|line| line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()));
    assert_eq!(show(&["--json", "--until", "2020-01-01"]), "");
    let csv = show(&["--csv", "--person", "an", "--exchange", "pillar-3"]);
    assert!(
        csv.starts_with("time,process,seq,event,") && csv.contains("\"publish\",\"ok\",\"agency\",\"an\""),
        "{csv}"
    );
    let table = show(&["--last", "2"]);
    assert!(table.contains("| time") && table.contains("the last 2 shown"), "{table}");
}

//! What has had its time goes, with a record; what is under legal hold stays; and a clock that nobody can believe deletes nothing.
//! No test can wait for years: things are given old names and times, and what the daemons knew of the clock is set back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::observe::names;
use crate::harness::programs::{Ran, run, sha256};
use crate::harness::{AN, Daemon, Zone};

const OLD: &str = "2020-01-01T00:00:00Z";

fn dropzone(zone: &Zone, arguments: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_dropzone")).arg("--config").arg(zone.directory()).args(arguments))
}

fn touch(path: &Path) {
    run(Command::new("touch").args(["-d", OLD]).arg(path)).must_succeed();
}

/// A zone that delivered a list in two exchanges and refused one, and has stopped.
fn used() -> Zone {
    let mut zone = Zone::new();
    for exchange in ["pillar-3", "notes"] {
        zone.upload(AN, &format!("/{exchange}/in/list.csv.age"), &zone.encrypt("insz\n85073003328\n"));
        zone.receipt(exchange, "list.csv.age", "delivered");
    }
    zone.put_here("plain.csv.age", "insz\n85073003328\n");
    zone.sftp(AN, "put plain.csv.age /pillar-3/in/plain.csv.age").must_fail();
    zone.receipt("pillar-3", "plain.csv.age", "refused");
    zone.wait_for("both lists to be done", || (zone.arrivals("done").len() == 2).then_some(()));
    stop(&mut zone);
    zone
}

fn stop(zone: &mut Zone) {
    assert!(zone.end_with(Signal::TERM).success());
}

/// Something planted: where it lies, how records call it, and the digest they must tell.
struct Planted {
    at: PathBuf,
    path: String,
    sha256: String,
}

fn planted(at: PathBuf, path: &str, digested: &Path) -> Planted {
    let sha256 = sha256(&fs::read(digested).unwrap());
    Planted { at, path: path.to_owned(), sha256 }
}

/// Gives a file some content, and an old time.
fn file(zone: &Zone, at: &str, path: &str) -> Planted {
    let at = zone.directory().join(at);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(&at, format!("made for {path}")).unwrap();
    touch(&at);
    planted(at.clone(), path, &at)
}

/// A copy of an arrival of this exchange in a state, of long ago.
fn arrival(zone: &Zone, state: &str, exchange: &str) -> Planted {
    let folder = zone.spool().join(state);
    let is_it = |id: &String| id.ends_with(&format!(".agency.{exchange}"));
    let id = names(&folder).into_iter().find(is_it).unwrap();
    let old = id.replace(id.split('-').next().unwrap(), "20200101T000000000Z");
    let (from, at) = (folder.join(&id), folder.join(&old));
    fs::create_dir(&at).unwrap();
    let mut description: Value =
        serde_json::from_slice(&fs::read(from.join("arrival.json")).unwrap()).unwrap();
    (description["id"], description["received"]) = (json!(old), json!(OLD));
    let name = description["name"].as_str().unwrap().to_owned();
    fs::write(at.join("arrival.json"), description.to_string()).unwrap();
    let mut digested = at.join("arrival.json");
    if from.join("payload.age").exists() {
        digested = at.join("payload.age");
        fs::copy(from.join("payload.age"), &digested).unwrap();
    } else {
        // A refusal stays until its receipt is there.
        let stamp = old.split('.').next().unwrap();
        let receipt = format!("{name}.{stamp}.json");
        fs::write(zone.folder_of("receipts", "agency", exchange).join(receipt), "{}").unwrap();
    }
    touch(&at);
    planted(at, &format!("/{exchange}/in/{name}"), &digested)
}

/// A marker of content that was here long ago. Its record tells the content's digest, which is its name.
fn marker(zone: &Zone) -> Planted {
    let digest = sha256(b"content of long ago");
    let path = format!("seen/{}/{digest}.json", &digest[..2]);
    let Planted { at, path, .. } = file(zone, &format!("spool/{path}"), &path);
    let arrival = "20200101T000000000Z-0a1b2c3d-00000abc.agency.pillar-3";
    fs::write(&at, json!({"arrival": arrival, "received": OLD, "seen": OLD}).to_string()).unwrap();
    touch(&at);
    Planted { at, path, sha256: digest }
}

/// A log of long ago. Its records are those of another day, which no chain minds.
fn log_day(zone: &Zone, process: &str, node: &str) -> Planted {
    let like = if process == "serve" { ".serve.test.jsonl" } else { ".work.test.jsonl" };
    let from = names(&zone.log()).into_iter().find(|name| name.ends_with(like)).unwrap();
    let name = format!("2020-01-01.{process}.{node}.jsonl");
    let at = zone.log().join(&name);
    fs::copy(zone.log().join(from), &at).unwrap();
    planted(at.clone(), &name, &at)
}

/// What an exchange leaves, all of it old.
fn things_of(zone: &Zone, exchange: &str) -> Vec<Planted> {
    let of = |folder: &str, shown: &str, name: &str| {
        file(
            zone,
            &format!("spool/{folder}/agency/{exchange}/{name}"),
            &format!("/{exchange}/{shown}/{name}"),
        )
    };
    let partial = format!("spool/partial/agency.{exchange}/late.csv.age/payload.age");
    vec![
        arrival(zone, "done", exchange),
        of("outbox", "out", "late.csv.age"),
        of("receipts", "receipts", "late.csv.age.json"),
        of("receipts", "receipts", "late.csv.age.json.sig"),
        file(zone, &partial, &format!("/{exchange}/in/late.csv.age")),
    ]
}

fn are_gone(zone: &Zone, things: &[Planted]) {
    for Planted { at, path, .. } in things {
        zone.wait_for(&format!("{path} to go"), || (!at.exists()).then_some(()));
    }
}

fn are_recorded(zone: &Zone, things: &[Planted]) {
    for Planted { path, sha256, .. } in things {
        let told = zone.logged(&[("event", "expire"), ("path", path), ("sha256", sha256)]);
        assert_eq!(told.len(), 1, "{path}: {:#?}", zone.logged(&[("event", "expire")]));
        assert!(told[0]["bytes"].as_u64().is_some() || path.starts_with("seen/"), "{told:?}");
    }
}

#[test]
fn what_has_had_its_time_goes_after_a_record_with_its_digest_and_the_log_stays_intact() {
    let mut zone = used();
    let mut things = things_of(&zone, "pillar-3");
    things.push(arrival(&zone, "refused", "pillar-3"));
    things.push(file(
        &zone,
        "spool/receipts/agency/pillar-3/log-2020-01-01.head",
        "/pillar-3/receipts/log-2020-01-01.head",
    ));
    things.push(marker(&zone));
    for (process, node) in
        [("serve", "test"), ("work", "test"), ("cli", "test"), ("serve", "gone"), ("work", "gone")]
    {
        things.push(log_day(&zone, process, node));
    }
    let (kept, before) = (zone.arrivals("done").len() - 1, zone.results("agency", "pillar-3").len() - 1);
    zone.start();
    are_gone(&zone, &things);
    are_recorded(&zone, &things);
    assert_eq!(zone.arrivals("done").len(), kept, "the young ones stay");
    assert_eq!(zone.results("agency", "pillar-3").len(), before);
    let receipts = names(&zone.folder_of("receipts", "agency", "pillar-3"));
    for stays in ["allowed_signers", "LEESMIJ-README.txt"] {
        assert!(receipts.iter().any(|name| name == stays), "{receipts:?}");
    }
    let done = "dropzone_retention_deleted_total{kind=\"done\"}";
    assert!((zone.metric(Daemon::Work, done) - 1.0).abs() < 0.1);
    stop(&mut zone);
    dropzone(&zone, &["log", "verify"]).must_succeed();
}

#[test]
fn a_legal_hold_keeps_all_of_its_exchange_and_the_log_and_a_reload_ends_it() {
    let mut zone = used();
    let exchange = zone.directory().join("exchanges/notes.yaml");
    let text = fs::read_to_string(&exchange).unwrap();
    fs::write(&exchange, format!("{text}legal-hold: true\n")).unwrap();
    let told = dropzone(&zone, &["check"]).must_succeed().text();
    assert!(told.contains("LEGAL HOLD") && told.contains("done 31 days"), "{told}");
    let (free, held) = (things_of(&zone, "pillar-3"), things_of(&zone, "notes"));
    let day = log_day(&zone, "work", "test");
    zone.start();
    are_gone(&zone, &free);
    // Whoever got here has been through the same rounds.
    for Planted { at, path, .. } in held.iter().chain([&day]) {
        assert!(at.exists(), "{path}");
    }
    fs::write(&exchange, text).unwrap();
    dropzone(&zone, &["reload"]).must_succeed();
    // `serve` looks for unfinished uploads every ten minutes.
    let (uploads, rest): (Vec<_>, Vec<_>) =
        held.into_iter().chain([day]).partition(|thing| thing.at.ends_with("payload.age"));
    are_gone(&zone, &rest);
    are_recorded(&zone, &rest);
    assert!(uploads.iter().all(|upload| upload.at.exists()));
}

#[test]
fn after_a_jump_or_a_long_stop_nothing_is_deleted_until_an_operator_confirms_the_clock() {
    let mut zone = used();
    let things =
        [things_of(&zone, "pillar-3"), vec![log_day(&zone, "work", "test"), log_day(&zone, "serve", "test")]];
    let things: Vec<Planted> = things.into_iter().flatten().collect();
    for process in ["serve", "work"] {
        let known = zone.log().join(format!("clock-{process}.test.json"));
        assert!(fs::read_to_string(&known).unwrap().contains("\"held\":false"));
        fs::write(known, "{\"time\":\"2026-01-01T00:00:00Z\",\"held\":false}\n").unwrap();
    }
    let told = dropzone(&zone, &["status"]).must_succeed().text();
    assert!(told.contains("would delete nothing until confirmed"), "{told}");
    zone.start();
    for daemon in [Daemon::Serve, Daemon::Work] {
        zone.wait_for("deletions to wait", || {
            (zone.metric(daemon, "dropzone_retention_held") > 0.5).then_some(())
        });
        assert_eq!(zone.http_status(daemon, "/readyz"), "200", "it works all the same");
    }
    assert!(zone.program_log().contains("nothing is deleted until"));
    for command in [["status"].as_slice(), &["clock", "show"]] {
        let told = dropzone(&zone, command).must_succeed().text();
        assert_eq!(told.matches("NOTHING IS DELETED").count(), 2, "{told}");
    }
    assert_eq!(dropzone(&zone, &["clock", "confirm"]).code, Some(64));
    assert_eq!(dropzone(&zone, &["clock", "confirm", "--reason", " "]).code, Some(64));
    assert!(things.iter().all(|thing| thing.at.exists()) && zone.logged(&[("event", "expire")]).is_empty());
    dropzone(&zone, &["clock", "confirm", "--reason", "was moved to another rack"]).must_succeed();
    are_gone(&zone, &things);
    are_recorded(&zone, &things);
    let confirmed = zone.logged(&[("event", "confirm"), ("outcome", "ok")]);
    assert_eq!(confirmed.len(), 2, "{confirmed:?}");
    for line in &confirmed {
        assert!(line["detail"].as_str().unwrap().ends_with(": was moved to another rack"), "{line}");
        assert!(line["operator"].as_str().unwrap().starts_with("uid "), "{line}");
    }
    let waits = zone.logged(&[("event", "clock-jump"), ("outcome", "denied")]);
    assert_eq!(waits.len(), 2, "{waits:?}");
    assert!(zone.metric(Daemon::Work, "dropzone_retention_held") < 0.5);
    let told = dropzone(&zone, &["clock", "show"]).must_succeed().text();
    assert_eq!(told.matches("as expected").count(), 2, "{told}");
}

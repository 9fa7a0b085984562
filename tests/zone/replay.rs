//! The same encrypted file more than once, and a file that is not what was sent: one delivery, or none and an alarm.

use std::fs;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::config::make_register;
use crate::harness::observe::names;
use crate::harness::programs::{sha256, sqlite};
use crate::harness::{AN, BO, Daemon, Zone, pid};

const LIST: &str = "insz\n85073003328\n";

fn pause_work(zone: &Zone, signal: Signal) {
    kill_process(pid(*zone.pids(Daemon::Work).last().unwrap()), signal).unwrap();
}

fn receipt_of(zone: &Zone, institution: &str, exchange: &str, verdict: &str) -> Value {
    zone.wait_for(&format!("a receipt that says {verdict}"), || {
        let receipts = zone.receipts(institution, exchange);
        receipts.into_iter().find(|receipt| receipt["verdict"] == verdict)
    })
}

/// A zone in which the city may drop lists into `pillar-3` too.
fn shared_exchange() -> Zone {
    let mut zone = Zone::lay_out();
    let file = zone.directory().join("exchanges/pillar-3.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text
        .replace("  agency: [drop, collect]", "  agency: [drop, collect]\n  city: [drop, collect]")
        .replace("from: [agency]", "from: [agency, city]")
        .replace("to: [agency]", "to: [agency, city]");
    fs::write(&file, text).unwrap();
    zone.start();
    zone
}

#[test]
fn the_same_file_under_two_names_is_delivered_once_and_the_second_receipt_names_the_first() {
    let zone = Zone::new();
    let list = zone.encrypt(LIST);
    zone.upload(AN, "/pillar-3/in/one.csv.age", &list);
    let first = zone.receipt("pillar-3", "one.csv.age", "delivered");
    zone.upload(AN, "/pillar-3/in/two.csv.age", &list);
    let second = zone.receipt("pillar-3", "two.csv.age", "repeated");
    assert_eq!(second["reason"]["code"], "same-content-again");
    assert_eq!(second["reason"]["arrival"], first["arrival"]);
    assert!(second["reason"]["nl"].as_str().unwrap().contains("versleutel ze dan opnieuw"), "{second:#}");
    assert!(second.get("deliveries").is_none() && second.get("job").is_none(), "{second:#}");
    zone.wait_for("both to be done", || (zone.arrivals("done").len() == 2).then_some(()));
    assert_eq!(zone.results("agency", "pillar-3").len(), 1);
    assert_eq!(zone.logged(&[("event", "deliver")]).len(), 1);
    let [line] = zone.logged(&[("event", "job"), ("reason", "same-content-again")]).try_into().unwrap();
    assert_eq!((&line["outcome"], &line["arrival"]), (&"ok".into(), &second["arrival"]));
    assert_eq!(line["detail"], format!("the same as {}", first["arrival"].as_str().unwrap()));
    let repeated = "dropzone_jobs_total{exchange=\"pillar-3\",result=\"repeated\"}";
    zone.wait_for("the metric", || (zone.metric(Daemon::Work, repeated) > 0.5).then_some(()));
    zone.upload(AN, "/pillar-3/in/three.csv.age", &zone.encrypt(LIST));
    zone.receipt("pillar-3", "three.csv.age", "delivered");
    assert_eq!(zone.results("agency", "pillar-3").len(), 2, "the same list encrypted anew is another file");
}

#[test]
fn a_file_that_is_held_is_still_the_same_when_it_comes_again() {
    let zone = Zone::new();
    let bad = zone.encrypt("insz\n1,2\n");
    zone.upload(AN, "/pillar-3/in/one.csv.age", &bad);
    let first = zone.receipt("pillar-3", "one.csv.age", "held");
    zone.wait_for("the hold", || (zone.arrivals("hold").len() == 1).then_some(()));
    zone.upload(AN, "/pillar-3/in/two.csv.age", &bad);
    let second = zone.receipt("pillar-3", "two.csv.age", "repeated");
    assert_eq!(second["reason"]["arrival"], first["arrival"]);
    assert!(second["reason"]["en"].as_str().unwrap().contains("is held"), "{second:#}");
    zone.upload(AN, "/pillar-3/in/three.csv.age", &zone.encrypt(LIST));
    zone.receipt("pillar-3", "three.csv.age", "delivered");
}

#[test]
fn a_file_that_another_institution_sent_is_held_reported_and_delivered_to_nobody() {
    let zone = shared_exchange();
    let list = zone.encrypt(LIST);
    zone.upload(AN, "/pillar-3/in/list.csv.age", &list);
    let first = zone.receipt("pillar-3", "list.csv.age", "delivered");
    let delivered = zone.logged(&[("event", "deliver")]).len();
    zone.upload(BO, "/pillar-3/in/mine.csv.age", &list);
    let receipt = receipt_of(&zone, "city", "pillar-3", "held");
    assert_eq!(receipt["reason"]["code"], "same-content-elsewhere");
    let told = receipt.to_string();
    assert!(!told.contains("agency") && !told.contains(first["arrival"].as_str().unwrap()), "{told}");
    assert!(receipt["reason"]["nl"].as_str().unwrap().contains("Versleutel uw lijst opnieuw"), "{told}");
    zone.wait_for("the hold", || (zone.arrivals("hold").len() == 1).then_some(()));
    assert_eq!(zone.logged(&[("event", "deliver")]).len(), delivered);
    let [incident] = zone.logged(&[("event", "incident")]).try_into().unwrap();
    for (field, value) in [
        ("institution", &"city".into()),
        ("key-label", &"bo".into()),
        ("session", &receipt["session"]),
        ("arrival", &receipt["arrival"]),
        ("sha256", &sha256(&list).into()),
        ("detail", &"other-institution".into()),
    ] {
        assert_eq!(&incident[field], value, "{field}");
    }
    assert!(!incident.to_string().contains("agency"), "{incident}");
    let metric = "dropzone_incidents_total{kind=\"other-institution\"}";
    assert!((zone.metric(Daemon::Work, metric) - 1.0).abs() < 0.1);
    let loud = |line: &str| line.contains("\"ERROR\"") && line.contains("other-institution");
    assert!(zone.program_log().lines().any(loud), "the operator hears of it");
    let note =
        fs::read_to_string(zone.spool().join("hold").join(&zone.arrivals("hold")[0]).join("hold.json"));
    assert!(note.unwrap().contains(first["arrival"].as_str().unwrap()), "and finds the first one");
}

#[test]
fn a_file_of_another_agreement_is_held() {
    let zone = Zone::new();
    let list = zone.encrypt(LIST);
    zone.upload(AN, "/pillar-3/in/list.csv.age", &list);
    zone.receipt("pillar-3", "list.csv.age", "delivered");
    zone.upload(AN, "/relay/in/list.age", &list);
    assert_eq!(zone.receipt("relay", "list.age", "held")["reason"]["code"], "same-content-elsewhere");
    assert!(zone.results("city", "relay").is_empty());
    assert_eq!(zone.logged(&[("event", "incident"), ("detail", "other-exchange")]).len(), 1);
}

#[test]
fn what_is_put_in_the_place_of_a_published_file_is_held_and_reported() {
    let zone = Zone::new();
    for (number, exchange) in ["pillar-3", "relay"].into_iter().enumerate() {
        // As long as the one that was sent, and as good to look at.
        let (list, other) = (zone.encrypt(LIST), zone.encrypt("insz\n90010112345\n"));
        assert_eq!(list.len(), other.len());
        pause_work(&zone, Signal::STOP);
        zone.upload(AN, &format!("/{exchange}/in/list.csv.age"), &list);
        let arrival = zone.arrivals("incoming").remove(0);
        let payload = zone.spool().join("incoming").join(&arrival).join("payload.age");
        fs::write(payload, &other).unwrap();
        pause_work(&zone, Signal::CONT);
        let receipt = zone.receipt(exchange, "list.csv.age", "held");
        assert_eq!(receipt["reason"]["code"], "damaged");
        assert_eq!(receipt["sha256"], sha256(&list), "the receipt is about what was sent");
        let lines = zone.logged(&[("event", "incident"), ("detail", "substituted"), ("arrival", &arrival)]);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["sha256"], sha256(&other), "the record is about what was found");
        let metric = "dropzone_incidents_total{kind=\"substituted\"}";
        assert!((zone.metric(Daemon::Work, metric) - (number + 1) as f64).abs() < 0.1);
        zone.wait_for("the hold", || zone.arrivals("hold").contains(&arrival).then_some(()));
        // What was sent was never worked on, so it may be sent again.
        zone.upload(AN, &format!("/{exchange}/in/again.csv.age"), &list);
        zone.receipt(exchange, "again.csv.age", "delivered");
    }
    assert_eq!(zone.logged(&[("event", "deliver")]).len(), 2, "nothing of what was put there");
}

#[test]
fn a_worker_that_is_killed_behind_its_marker_delivers_once_after_the_restart() {
    let mut zone = Zone::lay_out();
    // A register that does not come to an end: long enough to be killed in the job.
    fs::remove_file(zone.register()).unwrap();
    sqlite(
        &zone.register(),
        "CREATE VIEW jobseekers AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
         SELECT CAST(i AS TEXT) AS insz, '' AS category, '' AS registered FROM n;",
    );
    zone.start();
    let list = zone.encrypt(LIST);
    zone.upload(AN, "/pillar-3/in/one.csv.age", &list);
    let digest = sha256(&list);
    let marker = zone.spool().join("seen").join(&digest[..2]).join(format!("{digest}.json"));
    zone.wait_for("the marker", || marker.exists().then_some(()));
    kill_process(pid(*zone.pids(Daemon::Work).last().unwrap()), Signal::KILL).unwrap();
    assert_eq!(zone.arrivals("active").len(), 1, "it was killed in the middle of the job");
    make_register(&zone);
    zone.receipt("pillar-3", "one.csv.age", "delivered");
    zone.upload(AN, "/pillar-3/in/two.csv.age", &list);
    zone.receipt("pillar-3", "two.csv.age", "repeated");
    assert_eq!(zone.results("agency", "pillar-3").len(), 1);
    assert_eq!(zone.logged(&[("event", "deliver")]).len(), 1);
    assert_eq!(
        names(marker.parent().unwrap()),
        [format!("{digest}.json")],
        "one marker, and nothing unfinished"
    );
}

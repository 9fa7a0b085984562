//! Incidents: what institutions and strangers do that must be reported, found in the access log, with the agreement's deadline, until
//! an operator closes it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::programs::{Ran, run};
use crate::harness::{AN, BO, Daemon, OTTO, Zone};

fn lay_out() -> Zone {
    let zone = Zone::lay_out();
    for (exchange, within) in [("pillar-3", "24h"), ("relay", "48h")] {
        let path = zone.directory().join(format!("exchanges/{exchange}.yaml"));
        let text = fs::read_to_string(&path).unwrap();
        let duty = format!("agreement:\n  incidents: {{within: {within}, to: dpo@{exchange}.example}}\n");
        fs::write(path, text.replacen("agreement:\n", &duty, 1)).unwrap();
    }
    zone
}

fn dropzone(zone: &Zone, arguments: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_dropzone"))
        .env("SUDO_USER", "alice")
        .arg("--config")
        .arg(zone.directory())
        .args(arguments))
}

fn incidents(zone: &Zone) -> Vec<Value> {
    let listed = dropzone(zone, &["incidents", "list", "--all", "--json"]).must_succeed();
    serde_json::from_slice(&listed.stdout).unwrap()
}

fn incident(zone: &Zone, kind: &str) -> Value {
    zone.wait_for(&format!("an incident: {kind}"), || {
        incidents(zone).into_iter().find(|incident| incident["kind"] == kind && incident["announced"] == true)
    })
}

/// Seconds between the first sign and the deadline.
fn time_to_report(incident: &Value) -> i64 {
    let time = |name: &str| incident[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    time("report-by").duration_since(time("first")).as_secs()
}

#[test]
fn what_was_sent_in_clear_opens_a_case_with_the_agreements_deadline_until_an_operator_closes_it() {
    let mut zone = lay_out();
    let (script, got) = (zone.directory().join("tell"), zone.directory().join("got"));
    fs::write(&script, format!("#!/bin/sh\ncat >> {}\n", got.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    zone.configure(&format!("incidents: {{program: [{}]}}", script.display()));
    zone.start();
    let plain = zone.put_here("plain.csv", "insz\n85073003328\n");
    zone.sftp(AN, &format!("put {} /relay/in/list.csv.age", plain.display())).must_fail();
    let found = incident(&zone, "plaintext-refused");
    assert_eq!((&found["institution"], &found["exchange"]), (&"agency".into(), &"relay".into()));
    assert_eq!((&found["report-to"], time_to_report(&found)), (&"dpo@relay.example".into(), 48 * 3600));
    assert_eq!(found["agreement"], "ref-relay");
    let id = found["id"].as_str().unwrap();
    let told = zone.wait_for("the program to be told", || {
        fs::read_to_string(&got).ok().filter(|text| text.ends_with('\n'))
    });
    let [message] = told.lines().collect::<Vec<_>>().try_into().unwrap();
    let message: Value = serde_json::from_str(message).unwrap();
    assert_eq!((&message["incident"], &message["report-by"]), (&found["id"], &found["report-by"]));
    assert_eq!(zone.logged(&[("event", "incident"), ("detail", "plaintext-refused")]).len(), 1);
    assert!(zone.metric(Daemon::Work, "dropzone_incidents_total{kind=\"plaintext-refused\"}") == 1.0);
    zone.wait_for("the time left in the metrics", || {
        let metrics = zone.http(Daemon::Work, "/metrics");
        let line = metrics.lines().find(|line| line.starts_with("dropzone_incident_report_seconds_left"))?;
        let left: f64 =
            line.strip_prefix("dropzone_incident_report_seconds_left{exchange=\"relay\"} ")?.parse().ok()?;
        (left > 47.0 * 3600.0 && left <= 48.0 * 3600.0).then_some(())
    });
    let status = dropzone(&zone, &["status"]).must_succeed().text();
    assert!(status.contains("INCIDENTS: 1 open"), "{status}");
    let shown = dropzone(&zone, &["incidents", "show", &id[..12]]).must_succeed().text();
    assert!(shown.contains("dpo@relay.example") && shown.contains("incidents close"), "{shown}");
    dropzone(&zone, &["incidents", "close", id, "--reason", " "]).must_fail();
    dropzone(&zone, &["incidents", "close", id, "--reason", "reported by telephone"]).must_succeed();
    let [closed] = zone.logged(&[("event", "incident-close")]).try_into().unwrap();
    assert_eq!((&closed["detail"], &closed["exchange"]), (&"reported by telephone".into(), &"relay".into()));
    assert!(closed["operator"].as_str().unwrap().contains("alice"), "{closed}");
    zone.wait_for("nothing to be open", || {
        (zone.metric(Daemon::Work, "dropzone_incidents_open{kind=\"plaintext-refused\"}") == 0.0)
            .then_some(())
    });
    assert!(dropzone(&zone, &["incidents", "list"]).text().contains("no incident is open"));
    zone.sftp(AN, &format!("put {} /relay/in/list.csv.age", plain.display())).must_fail();
    zone.wait_for("another case", || (incidents(&zone).len() == 2).then_some(()));
    let again = incidents(&zone).into_iter().find(|incident| incident["closed"].is_null()).unwrap();
    assert_eq!((&again["id"], &again["count"]), (&format!("{id}-2").into(), &1.into()));
}

#[test]
fn a_strangers_key_and_a_look_at_others_are_found_and_a_persons_second_key_is_not() {
    let mut zone = lay_out();
    zone.start();
    let key = |person| zone.key_of(person).display().to_string();
    let address = zone.ssh();
    let log_in = |keys: &[String]| {
        let mut sftp = Command::new("sftp");
        sftp.args(["-b", "-", "-oBatchMode=yes", "-oIdentitiesOnly=yes", "-F/dev/null"])
            .arg(format!("-oUserKnownHostsFile={}", zone.known_hosts().display()))
            .arg(format!("-P{}", address.port()));
        sftp.args(keys.iter().map(|key| format!("-oIdentityFile={key}")));
        crate::harness::programs::run_with_input(sftp.arg(format!("agency@{}", address.ip())), "ls /\n")
    };
    // What an agent offers first, before the one that counts.
    log_in(&[key(OTTO), key(AN)]).must_succeed();
    zone.wait_for("the refused key's record", || {
        zone.logged(&[("event", "login"), ("reason", "unknown-key")]).into_iter().next()
    });
    zone.sftp(BO, "ls /pillar-3/out\nls /nothing-of-the-kind").must_fail();
    let foreign = incident(&zone, "foreign-path");
    assert_eq!((&foreign["institution"], &foreign["exchange"]), (&"city".into(), &"pillar-3".into()));
    assert_eq!(
        (&foreign["report-to"], time_to_report(&foreign)),
        (&"dpo@pillar-3.example".into(), 24 * 3600)
    );
    assert_eq!(incidents(&zone).len(), 1, "{:#?}", incidents(&zone));
    log_in(&[key(OTTO)]).must_fail();
    let stranger = incident(&zone, "unknown-key");
    assert_eq!((&stranger["institution"], &stranger["exchange"]), (&"agency".into(), &Value::Null));
    // The strictest of what the agency is party of.
    assert_eq!((&stranger["count"], time_to_report(&stranger)), (&1.into(), 24 * 3600));
    assert_eq!(incidents(&zone).len(), 2);
}

#[test]
fn a_log_that_was_altered_is_an_incident() {
    let mut zone = lay_out();
    zone.start();
    zone.sftp(AN, "ls /").must_succeed();
    zone.end_with(rustix::process::Signal::TERM);
    let log = zone.log();
    let file =
        crate::harness::observe::names(&log).into_iter().find(|name| name.contains(".serve.")).unwrap();
    let text = fs::read_to_string(log.join(&file)).unwrap();
    // Cut off behind its first record: what was sealed is gone. What was written after the last seal need not be missed.
    let first = text.find('\n').unwrap();
    fs::write(log.join(&file), &text[..=first]).unwrap();
    // Its readiness is red now, which a start of the whole zone waits for.
    let mut work = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    work.arg("--config").arg(zone.directory()).arg("work").stdin(Stdio::null()).stderr(Stdio::null());
    let _work = Ended(work.spawn().unwrap());
    let found = incident(&zone, "log-tampered");
    assert_eq!((&found["institution"], &found["exchange"]), (&Value::Null, &Value::Null));
    assert_eq!(time_to_report(&found), 24 * 3600, "the strictest in force");
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

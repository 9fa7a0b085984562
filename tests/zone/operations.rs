//! What operators see and do: status, health, metrics, stopping, and what happens when a daemon dies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::programs::{Ran, run};
use crate::harness::{AN, Daemon, Zone, pid};

fn status(zone: &Zone, options: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    command.arg("--config").arg(zone.directory()).arg("status").args(options);
    run(&mut command).must_succeed()
}

#[test]
fn status_tells_states_the_oldest_and_the_last_delivery_as_table_and_as_json() {
    let zone = Zone::new();
    zone.upload(AN, "/pillar-3/in/good.csv.age", &zone.encrypt("insz\n85073003328\n"));
    zone.upload(AN, "/pillar-3/in/bad.csv.age", &zone.encrypt("insz\n1,2\n"));
    zone.put_here("plain.csv.age", "insz\n");
    zone.sftp(AN, "put plain.csv.age /pillar-3/in/").must_fail();
    zone.receipt("pillar-3", "bad.csv.age", "held");
    // The receipt is written before the arrival moves.
    zone.wait_for("one done and one held", || {
        (zone.arrivals("done").len() == 1 && zone.arrivals("hold").len() == 1).then_some(())
    });
    let status_json: Value = serde_json::from_slice(&status(&zone, &["--json"]).stdout).unwrap();
    let count = |state: &str| {
        let rows = status_json["arrivals"].as_array().unwrap();
        rows.iter().find(|row| row["state"] == state).unwrap()["count"].as_u64().unwrap()
    };
    let counts = ["incoming", "active", "deferred", "hold", "done", "refused"].map(count);
    assert_eq!(counts, [0, 0, 0, 1, 1, 1], "{status_json:#}");
    let exchanges = status_json["exchanges"].as_array().unwrap();
    let pillar = exchanges.iter().find(|row| row["exchange"] == "pillar-3").unwrap();
    assert!(pillar["last-done"].is_string() && pillar["last-arrival"].is_string());
    assert_eq!(status_json["held"][0]["reason"]["code"], "not-a-table");
    let table = status(&zone, &[]).text();
    let held = zone.arrivals("hold").remove(0);
    for part in ["node test", "| hold ", "| pillar-3 ", "not-a-table", &held] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
}

#[test]
fn output_that_nobody_reads_to_its_end_is_no_error() {
    let zone = Zone::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    command.arg("--config").arg(zone.directory()).args(["status", "--json"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let ran = ran.wait_with_output().unwrap();
    assert_eq!((ran.status.code(), String::from_utf8_lossy(&ran.stderr).as_ref()), (Some(0), ""));
}

/// Dashboards and alerts build on these names: they break when one goes.
const SERVE_SERIES: &[&str] = &[
    "dropzone_build_info",
    "dropzone_access_log_healthy",
    "dropzone_access_log_errors_total",
    "dropzone_connections_total",
    "dropzone_connections",
    "dropzone_connections_refused_total{cause=\"login-grace\"}",
    "dropzone_connections_refused_total{cause=\"early-drop\"}",
    "dropzone_connections_unauthenticated",
    "dropzone_penalties_active",
    "dropzone_penalties_total{cause=\"authentication-failure\"}",
    "dropzone_probes_total{source=\"other\"}",
    "dropzone_limits_reached_total{limit=\"handles\"}",
    "dropzone_authentications_total{reason=\"none\",result=\"accepted\"}",
    "dropzone_authentications_total{reason=\"unknown-user\",result=\"refused\"}",
    "dropzone_sessions",
    "dropzone_uploads_total{institution=\"agency\",outcome=\"published\"}",
    "dropzone_uploads_refused_total{reason=\"not-encrypted\"}",
    "dropzone_received_bytes_total{institution=\"agency\"}",
    "dropzone_sent_bytes_total{institution=\"city\"}",
    "dropzone_upload_duration_seconds_bucket",
];
const WORK_SERIES: &[&str] = &[
    "dropzone_build_info",
    "dropzone_access_log_healthy",
    "dropzone_access_log_errors_total",
    "dropzone_arrivals{state=\"hold\"}",
    "dropzone_oldest_waiting_arrival_seconds",
    "dropzone_job_duration_seconds_bucket",
    "dropzone_jobs_total{exchange=\"pillar-3\",result=\"done\"}",
    "dropzone_jobs_held_total{reason=\"not-a-table\"}",
    "dropzone_last_delivery_timestamp_seconds{exchange=\"pillar-3\"}",
    "dropzone_spool_free_bytes",
];

#[test]
fn health_and_every_named_metric_are_served_from_the_start() {
    let zone = Zone::new();
    for (daemon, series) in [(Daemon::Serve, SERVE_SERIES), (Daemon::Work, WORK_SERIES)] {
        assert_eq!(zone.http_status(daemon, "/healthz"), "200");
        assert_eq!(zone.http_status(daemon, "/readyz"), "200");
        let text = zone.http(daemon, "/metrics");
        for name in series {
            assert!(
                text.lines().any(|line| line.starts_with(name)),
                "{} has no {name}\n{text}",
                daemon.name()
            );
        }
    }
}

#[test]
fn metrics_count_what_happened() {
    let zone = Zone::new();
    let sent = zone.encrypt("insz\n85073003328\n");
    zone.upload(AN, "/pillar-3/in/a.csv.age", &sent);
    zone.receipt("pillar-3", "a.csv.age", "delivered");
    let result = zone.result("agency", "pillar-3");
    let got = zone.download(AN, &format!("/pillar-3/out/{result}"));
    let serve = |series: &str| zone.metric(Daemon::Serve, series);
    assert!(
        (serve("dropzone_uploads_total{institution=\"agency\",outcome=\"published\"}") - 1.0).abs() < 0.1
    );
    assert!((serve("dropzone_authentications_total{reason=\"none\",result=\"accepted\"}") - 2.0).abs() < 0.1);
    let received = serve("dropzone_received_bytes_total{institution=\"agency\"}");
    assert!((received - sent.len() as f64).abs() < 0.1);
    zone.wait_for("the bytes sent to be counted", || {
        let bytes = serve("dropzone_sent_bytes_total{institution=\"agency\"}");
        ((bytes - got.len() as f64).abs() < 0.1).then_some(())
    });
    zone.wait_for("the job to be counted", || {
        let done = zone.metric(Daemon::Work, "dropzone_jobs_total{exchange=\"pillar-3\",result=\"done\"}");
        let arrivals = zone.metric(Daemon::Work, "dropzone_arrivals{state=\"done\"}");
        let last = "dropzone_last_delivery_timestamp_seconds{exchange=\"pillar-3\"}";
        let told = [done, arrivals, zone.metric(Daemon::Work, last).min(1.0)];
        told.iter().all(|value| (value - 1.0).abs() < 0.1).then_some(())
    });
}

#[test]
fn collecting_is_recorded_with_the_label_of_the_person() {
    let zone = Zone::new();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n"));
    let path = format!("/pillar-3/out/{}", zone.result("agency", "pillar-3"));
    zone.sftp(AN, &format!("get {path} got\nrm {path}")).must_succeed();
    assert!(zone.results("agency", "pillar-3").is_empty());
    let [line] = zone.logged(&[("event", "remove"), ("path", &path)]).try_into().unwrap();
    assert_eq!((&line["detail"], &line["key-label"]), (&"collected".into(), &"an".into()), "{line:#}");
    assert_eq!(line["outcome"], "ok");
    let read = zone.logged(&[("event", "open-read"), ("path", &path), ("key-label", "an")]);
    assert_eq!(read.len(), 1, "reading it was recorded too");
}

#[test]
fn every_line_of_the_log_carries_on_the_chain_of_its_file() {
    let zone = Zone::new();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n"));
    zone.receipt("pillar-3", "a.csv.age", "delivered");
    for daemon in ["serve", "work"] {
        let name = crate::harness::observe::names(&zone.log());
        let name = name.iter().find(|name| name.contains(&format!(".{daemon}."))).unwrap();
        let text = fs::read_to_string(zone.log().join(name)).unwrap();
        let (mut seq, mut prev) = (0, "0".repeat(64));
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            seq += 1;
            assert_eq!((&value["seq"], &value["prev"]), (&seq.into(), &prev.into()), "{line}");
            prev = crate::harness::programs::sha256(line.as_bytes());
        }
        assert!(seq > 3, "{daemon}: {seq} lines");
    }
}

#[test]
fn one_ctrl_c_stops_both_daemons_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut zone = Zone::new();
        let children = [zone.pids(Daemon::Serve), zone.pids(Daemon::Work)].concat();
        assert_eq!(children.len(), 2);
        let status = zone.end_with(signal);
        assert_eq!(status.code(), Some(0), "{signal:?}");
        for child in children {
            assert!(!fs::exists(format!("/proc/{child}")).unwrap(), "process {child} is left");
        }
        assert_eq!(zone.logged(&[("event", "stop")]).len(), 2, "both said so in the log");
    }
}

#[test]
fn a_daemon_that_is_killed_is_started_again_and_the_zone_goes_on() {
    let mut zone = Zone::new();
    for (at, daemon) in [Daemon::Serve, Daemon::Work].into_iter().enumerate() {
        let before = zone.pids(daemon);
        kill_process(pid(*before.last().unwrap()), Signal::KILL).unwrap();
        zone.wait_for("another one", || (zone.pids(daemon).len() > before.len()).then_some(()));
        zone.wait_until_ready();
        let name = format!("after-{at}.csv.age");
        zone.upload(AN, &format!("/pillar-3/in/{name}"), &zone.encrypt("insz\n85073003328\n"));
        zone.receipt("pillar-3", &name, "delivered");
    }
    assert!(zone.is_running());
}

#[test]
fn daemons_whose_parent_is_killed_end_by_themselves() {
    let mut zone = Zone::new();
    let children = [zone.pids(Daemon::Serve), zone.pids(Daemon::Work)].concat();
    zone.end_with(Signal::KILL);
    for child in children {
        zone.wait_for("the end of a daemon", || {
            // One that ended and was not waited for yet is dead as well.
            let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            (state.is_empty() || state.contains(") Z ")).then_some(())
        });
    }
}

#[test]
fn a_quiet_program_log_changes_nothing_of_what_the_daemons_do() {
    let mut zone = Zone::lay_out();
    zone.log_level = "error";
    zone.start();
    zone.upload(AN, "/pillar-3/in/list.csv.age", &zone.encrypt("insz\n85073003328\n"));
    zone.receipt("pillar-3", "list.csv.age", "delivered");
    assert!(zone.end_with(Signal::INT).success());
}

#[test]
fn a_daemon_that_cannot_start_says_why_by_its_exit_code() {
    let zone = Zone::lay_out();
    let program = |command: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        program.args(["--config", zone.directory().to_str().unwrap(), command]);
        run(&mut program)
    };
    let host_key = zone.directory().join("keys/ssh_host_ed25519_key");
    fs::set_permissions(&host_key, PermissionsExt::from_mode(0o640)).unwrap();
    let refused = program("serve");
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
    for part in [host_key.to_str().unwrap(), "chmod 0600"] {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.stderr);
    }
    fs::set_permissions(&host_key, PermissionsExt::from_mode(0o600)).unwrap();
    let _taken = std::net::TcpListener::bind(zone.ssh()).unwrap();
    assert_eq!(program("serve").code, Some(69));
}

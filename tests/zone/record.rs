//! No record, no reply: while the access log cannot be written, nobody gets in and nothing moves.

use std::fs;
use std::process::Command;

use crate::harness::disk::SmallDisk;
use crate::harness::observe::names;
use crate::harness::programs::run;
use crate::harness::{AN, Daemon, Zone};

/// Logs in and says so, waits to be told to go on, and tries what would have to be recorded.
const IN_A_SESSION: &str = r#"
import time
client = sftp()
started = client.open("/pillar-3/in/started.csv.age", "wb")
started.write(read("list"))
open("logged-in", "w").close()
for _ in range(2000):
    if os.path.exists("go-on"):
        break
    time.sleep(0.02)
print(json.dumps({
    "close": outcome(lambda: client._request(paramiko.sftp.CMD_CLOSE, started.handle)),
    "write": outcome(lambda: client.open("/pillar-3/in/other.csv.age", "wb")),
    "read": outcome(lambda: client.open("/pillar-3/out/waiting.age", "rb")),
    "list": outcome(lambda: client.listdir("/")),
    "remove": outcome(lambda: client.remove("/pillar-3/out/waiting.age")),
}))
"#;

#[test]
fn without_a_log_nothing_is_done_and_with_it_the_zone_recovers_by_itself() {
    let zone = Zone::new();
    zone.put_here("list", zone.encrypt("insz\n85073003328\n"));
    let waiting = zone.folder_of("outbox", "agency", "pillar-3").join("waiting.age");
    fs::write(&waiting, "a result").unwrap();
    let aside = zone.directory().join("log-aside");
    let told = std::thread::scope(|scope| {
        let session = scope.spawn(|| zone.python(AN, IN_A_SESSION));
        if std::env::var_os("DROPZONE_TEST_PYTHON").is_some() {
            zone.wait_for("the session", || zone.here().join("logged-in").exists().then_some(()));
        }
        fs::rename(zone.log(), &aside).unwrap();
        fs::write(zone.log(), "no folder").unwrap();
        zone.put_here("go-on", "");
        session.join().unwrap()
    });
    if let Some(told) = told {
        let told: serde_json::Value = serde_json::from_str(&told.must_succeed().text()).unwrap();
        for (request, answer) in told.as_object().unwrap() {
            assert_eq!(answer[0], "refused", "{request}: {answer}");
        }
    }
    zone.sftp(AN, "ls /").must_fail();
    assert_eq!(zone.http_status(Daemon::Serve, "/readyz"), "503");
    assert_eq!(zone.http_status(Daemon::Serve, "/healthz"), "200", "it lives, it only cannot work");
    assert!(zone.http(Daemon::Serve, "/readyz").contains("access log"));
    assert!(zone.metric(Daemon::Serve, "dropzone_access_log_healthy").abs() < 0.1);
    assert!(zone.metric(Daemon::Serve, "dropzone_access_log_errors_total") >= 1.0);
    assert!(waiting.exists(), "nothing was collected that nobody recorded");
    assert!(zone.results("agency", "pillar-3") == ["waiting.age"], "no delivery either");
    fs::remove_file(zone.log()).unwrap();
    fs::rename(&aside, zone.log()).unwrap();
    zone.wait_until_ready();
    zone.upload(AN, "/pillar-3/in/after.csv.age", &zone.encrypt("insz\n85073003328\n"));
    zone.receipt("pillar-3", "after.csv.age", "delivered");
    zone.sftp(AN, "put list /pillar-3/in/started.csv.age").must_succeed();
    zone.receipt("pillar-3", "started.csv.age", "delivered");
    let accepted = zone.accepted();
    let published = zone.logged(&[("event", "publish"), ("outcome", "ok")]).len();
    assert_eq!(accepted, published, "no arrival is there whose publication is not in the log");
    let resumed = zone.log_lines().into_iter().find(|line| {
        line["detail"].as_str().is_some_and(|detail| detail.contains("could not be written for a while"))
    });
    assert!(resumed.is_some(), "the log itself says that there was a gap");
}

#[test]
fn a_full_log_disk_refuses_logins_until_there_is_room() {
    let mut zone = Zone::lay_out();
    let Some(_disk) = SmallDisk::mount(&zone.log(), "size=64k") else { return };
    zone.start();
    zone.sftp(AN, "ls /").must_succeed();
    let filler = zone.log().join("filler");
    run(Command::new("dd").args(["if=/dev/zero", "bs=4096"]).arg(format!("of={}", filler.display())))
        .must_fail();
    // What is left of the last block of the log takes a few records yet.
    zone.wait_for("a refused login", || (!zone.sftp(AN, "ls /").succeeded()).then_some(()));
    assert_eq!(zone.http_status(Daemon::Serve, "/readyz"), "503");
    fs::remove_file(filler).unwrap();
    zone.wait_until_ready();
    zone.sftp(AN, "ls /").must_succeed();
    zone.log_lines();
}

/// The numbers of the lines in today's file of `serve`, as they stand there.
fn numbers(zone: &Zone) -> Vec<u64> {
    let files = names(&zone.log());
    let file = files.iter().rev().find(|name| name.contains(".serve.")).unwrap();
    let text = fs::read_to_string(zone.log().join(file)).unwrap();
    let number =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap();
    text.lines().map(number).collect()
}

#[test]
fn a_log_that_is_cut_short_underneath_goes_on_behind_a_gap_that_it_tells() {
    let zone = Zone::new();
    zone.sftp(AN, "ls /").must_succeed();
    let last = *numbers(&zone).last().unwrap();
    let files = names(&zone.log());
    let file = files.iter().rev().find(|name| name.contains(".serve.")).unwrap();
    fs::File::options().write(true).truncate(true).open(zone.log().join(file)).unwrap();
    zone.sftp(AN, "ls /").must_succeed();
    let found = numbers(&zone);
    assert!(found[0] > last, "it must not look like a new day: {found:?} behind {last}");
    assert!(found.is_sorted_by(|a, b| a + 1 == *b), "{found:?}");
    assert!(zone.log_lines().iter().any(|line| {
        line["detail"].as_str().is_some_and(|detail| detail.contains("removed, replaced or cut short"))
    }));
}

#[test]
fn a_log_folder_that_is_removed_turns_readiness_red_without_a_visitor_and_made_anew_green() {
    let zone = Zone::new();
    zone.sftp(AN, "ls /").must_succeed();
    let last = *numbers(&zone).last().unwrap();
    // The processes may be writing into it.
    zone.wait_for("an empty place", || {
        let _ = fs::remove_dir_all(zone.log());
        (!zone.log().exists()).then_some(())
    });
    for daemon in [Daemon::Serve, Daemon::Work] {
        zone.wait_for("red", || (zone.http_status(daemon, "/readyz") == "503").then_some(()));
    }
    let refused = zone.openssh(AN, &["-N"], &[]).must_fail();
    assert!(refused.stderr.contains("not available at the moment"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("log"), "{}", refused.stderr);
    fs::create_dir(zone.log()).unwrap();
    // Held to the folder it began with, serve ends and is started again; otherwise it goes on by itself.
    zone.wait_until_ready();
    zone.sftp(AN, "ls /").must_succeed();
    let told = |detail: &str| {
        let holds =
            |line: &serde_json::Value| line["detail"].as_str().is_some_and(|text| text.contains(detail));
        zone.log_lines().iter().any(holds)
    };
    assert!(told("could not be written for a while"), "the log itself says that there was a gap");
    if dropzone::host::containment::offered().files {
        assert!(zone.program_log().contains("held to the one it began with"));
        return;
    }
    assert!(numbers(&zone)[0] > last, "the chain goes on: {:?} behind {last}", numbers(&zone));
    assert!(told("refused meanwhile: 1"), "and says how many were refused");
}

//! A result that is locked with a passphrase: opened by `age` with what the operator was shown, or a program was told, and by
//! nothing else; and who is not told it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use serde_json::Value;

use crate::harness::programs::{Ran, run, run_with_input};
use crate::harness::{AN, BO, Daemon, Zone, skip};

const LIST: &str = "insz,contract\n85073003328,ja\n90010112345,nee\n";
const EXCHANGE: &str = r"
exchange: locked
agreement: {reference: ref-locked, title: Test, legal-basis: decreet, from: 2024-02-01}
parties:
  agency: [drop]
  city: [collect]
flows:
  - flow: hand-over
    from: [agency]
    accept: {names: ['*.csv.age'], max-size: 1 MiB}
    job: shape
    deliver:
      - {to: [city], lock: passphrase}
";

/// Types a line where a program asks for it on its terminal, and tells what it said and how it ended.
const AT_A_TERMINAL: &str = r#"
import os, pty, select, sys, time
typed = sys.stdin.readline()
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
said, asked, until = b"", False, time.monotonic() + 60
while time.monotonic() < until:
    if not select.select([terminal], [], [], 1)[0]:
        continue
    try:
        more = os.read(terminal, 65536)
    except OSError:
        break
    if not more:
        break
    said += more
    if not asked and typed.strip() and b"assphrase" in said:
        asked = True
        os.write(terminal, typed.encode())
else:
    os.kill(pid, 9)
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn at_a_terminal(command: &[&str], typed: &str) -> Ran {
    let mut python = Command::new("/usr/bin/python3");
    run_with_input(python.args(["-c", AT_A_TERMINAL]).args(command), &format!("{typed}\n"))
}

fn lay_out() -> Zone {
    let zone = Zone::lay_out();
    fs::write(zone.directory().join("exchanges/locked.yaml"), EXCHANGE).unwrap();
    zone
}

fn dropzone(zone: &Zone, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    command.env("SUDO_USER", "alice").arg("--config").arg(zone.directory()).args(arguments);
    run(&mut command)
}

/// Drops the list, and gives the name of what comes out for the city.
fn deliver(zone: &Zone) -> String {
    zone.upload(AN, "/locked/in/list.csv.age", &zone.encrypt(LIST));
    let name = zone.result("city", "locked");
    zone.receipt("locked", "list.csv.age", "delivered");
    name
}

fn passphrase_in(text: &str) -> String {
    let is_one = |line: &&str| line.len() == 29 && line.split('-').count() == 5;
    text.lines().map(str::trim).find(is_one).unwrap_or_else(|| panic!("no passphrase in {text}")).to_owned()
}

/// What the real age makes of the city's file with a passphrase.
fn opened(zone: &Zone, name: &str, passphrase: &str) -> Result<Vec<u8>, String> {
    let encrypted = zone.put_here("got.age", zone.download(BO, &format!("/locked/out/{name}")));
    let plain = zone.here().join("plain");
    let _ = fs::remove_file(&plain);
    let command = ["age", "-d", "-o", plain.to_str().unwrap(), encrypted.to_str().unwrap()];
    let ran = at_a_terminal(&command, passphrase);
    if ran.succeeded() { Ok(fs::read(plain).unwrap()) } else { Err(ran.text()) }
}

#[test]
fn age_opens_a_locked_result_with_what_an_operator_was_shown_once_at_a_terminal() {
    let mut zone = lay_out();
    zone.start();
    let name = deliver(&zone);
    let listed: Value =
        serde_json::from_slice(&dropzone(&zone, &["passphrase", "--list", "--json"]).must_succeed().stdout)
            .unwrap();
    assert_eq!(listed[0]["locked"]["name"], name.as_str(), "{listed:#}");
    let nowhere = dropzone(&zone, &["passphrase", &name]).must_fail();
    assert!(nowhere.code == Some(64) && nowhere.stderr.contains("--piped"), "{nowhere:?}");
    assert!(zone.logged(&[("event", "passphrase")]).is_empty(), "nothing was asked for");

    let program = env!("CARGO_BIN_EXE_dropzone");
    let directory = zone.directory();
    let shown = at_a_terminal(&[program, "--config", directory.to_str().unwrap(), "passphrase", &name], "")
        .must_succeed();
    let passphrase = passphrase_in(&shown.text());
    assert!(shown.text().contains("Nobody is shown it again"), "{}", shown.text());
    assert_eq!(opened(&zone, &name, &passphrase).unwrap(), LIST.as_bytes());
    let wrong = opened(&zone, &name, "aaaaa-aaaaa-aaaaa-aaaaa-aaaaa").unwrap_err();
    assert!(wrong.contains("incorrect passphrase"), "{wrong}");

    let again = dropzone(&zone, &["passphrase", &name, "--piped"]).must_fail();
    assert!(again.stderr.contains("no passphrase is kept"), "{}", again.stderr);
    let [record] = zone.logged(&[("event", "passphrase")]).try_into().unwrap();
    assert_eq!((&record["outcome"], &record["path"]), (&"ok".into(), &format!("/locked/out/{name}").into()));
    assert!(record["operator"].as_str().unwrap().starts_with("uid "), "{record}");
    assert!(zone.search_tree(&passphrase).is_empty(), "it lies somewhere in clear");
    assert!(zone.metric(Daemon::Work, "dropzone_passphrase_handovers_total{result=\"operator\"}") == 1.0);
    for folder in ["in", "out", "receipts"] {
        let listing = zone.sftp(BO, &format!("ls -la /locked/{folder}"));
        assert!(!listing.text().contains("passphrase"), "{}", listing.text());
    }
}

#[test]
fn a_configured_program_is_told_and_tried_again_until_it_takes_it() {
    let mut zone = lay_out();
    let script = zone.directory().join("sms");
    let got = zone.directory().join("got");
    let text = format!(
        "#!/bin/sh\ncat >> {0}\nwhile [ $# -gt 0 ]; do echo \"$1\" >> {0}; shift; done\nenv >> {0}\n",
        got.display()
    );
    fs::write(&script, text).unwrap();
    zone.configure(&format!("passphrases: {{program: [{}, --to-the-gateway]}}", script.display()));
    zone.start();
    let name = deliver(&zone);
    // It may not be executed yet.
    zone.wait_for("a try that failed", || {
        let failed = zone.logged(&[("event", "passphrase"), ("outcome", "failed")]);
        failed.first().map(|record| assert!(record["detail"].as_str().unwrap().contains("cannot be started")))
    });
    let waiting = dropzone(&zone, &["passphrase", "--list"]).must_succeed().text();
    assert!(waiting.contains(&name) && waiting.contains("cannot be started"), "{waiting}");
    let status = dropzone(&zone, &["status"]).must_succeed().text();
    assert!(status.contains("wait to be handed out: 1") && status.contains("did not take 1"), "{status}");
    zone.wait_for("the metric", || {
        (zone.metric(Daemon::Work, "dropzone_passphrases_waiting") == 1.0).then_some(())
    });
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let told = zone.wait_for("the program to be told", || {
        let text = fs::read_to_string(&got).ok()?;
        text.contains("--to-the-gateway").then_some(text)
    });
    let message: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!((&message["exchange"], &message["to"]), (&"locked".into(), &"city".into()));
    let passphrase = message["passphrase"].as_str().unwrap();
    assert_eq!(opened(&zone, &name, passphrase).unwrap(), LIST.as_bytes());
    zone.wait_for("nothing to be kept", || {
        dropzone(&zone, &["passphrase", "--list"]).text().contains("no passphrase waits").then_some(())
    });
    fs::remove_file(&got).unwrap();
    assert!(zone.search_tree(passphrase).is_empty(), "it lies somewhere in clear");
}

/// As the user that `serve` runs as: another one than `work`'s, in the zone's group.
fn as_serve(zone: &Zone, program: &[&str]) -> Ran {
    let group = fs::metadata(zone.spool()).unwrap().gid();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", &format!("--regid={group}"), "--clear-groups"]).args(program);
    run(&mut command)
}

#[test]
fn the_user_of_serve_reads_no_passphrase_and_is_told_none() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can play two users");
    }
    let mut zone = lay_out();
    zone.start();
    let name = deliver(&zone);
    let folder = zone.spool().join("passphrases");
    let [file] = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    fs::set_permissions(zone.directory().parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
    let outbox = zone.folder_of("outbox", "city", "locked");
    as_serve(&zone, &["cat", outbox.join(&name).to_str().unwrap()]).must_succeed();
    for command in [["ls", folder.to_str().unwrap()], ["cat", file.to_str().unwrap()]] {
        let denied = as_serve(&zone, &command).must_fail();
        assert!(denied.stderr.contains("Permission denied"), "{}", denied.stderr);
    }
    let moved = zone.directory().join("stolen");
    let move_it = ["mv", folder.to_str().unwrap(), moved.to_str().unwrap()];
    assert!(!as_serve(&zone, &move_it).succeeded(), "the folder can be moved away");

    let socket = zone.directory().join("run/work-control.sock");
    let ask = |what: Value| {
        let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(60)\ns.connect(sys.argv[1])\n\
                      s.sendall(sys.argv[2].encode() + b'\\n')\nprint(s.makefile().readline())";
        let request = serde_json::json!({"ask": what, "name": "root"}).to_string();
        as_serve(&zone, &["/usr/bin/python3", "-c", script, socket.to_str().unwrap(), &request])
            .must_succeed()
            .text()
    };
    assert!(ask("passphrases".into()).contains(&name), "the socket answers this user at all");
    let answer = ask(serde_json::json!({"passphrase": {"delivery": name}}));
    assert!(
        answer.starts_with("{\"refused\"") && answer.contains("root and to the user of `work` only"),
        "{answer}"
    );
    let id = zone.arrivals("done").pop().unwrap();
    let answer = ask(serde_json::json!({"passphrase-shown": {"arrival": id, "to": "city"}}));
    assert!(answer.starts_with("{\"refused\""), "{answer}");
    assert!(zone.logged(&[("event", "passphrase")]).is_empty() && file.exists());
}

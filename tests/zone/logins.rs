//! Who gets in, and what runs once somebody is in: SFTP and nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{AN, BO, Daemon, ELS, OTTO, Person, Zone};

#[test]
fn every_refused_login_gets_the_same_answer_and_its_own_reason_in_the_log() {
    let zone = Zone::new();
    let mut answers = BTreeSet::new();
    for (person, reason) in [
        (Person { user: "nobody", key: "stranger" }, "unknown-user"),
        (Person { user: "root", key: AN.key }, "unknown-user"),
        (Person { user: "agency", key: "stranger" }, "unknown-key"),
        (Person { user: "agency", key: BO.key }, "unknown-key"),
        (ELS, "key-expired"),
        (OTTO, "no-open-exchange"),
    ] {
        let ran = zone.sftp(person, "ls").must_fail();
        answers.insert(ran.stderr.replace(&format!("{}@", person.user), ""));
        let line = zone.wait_for("the record", || {
            let lines =
                zone.logged(&[("event", "login"), ("outcome", "denied"), ("institution", person.user)]);
            lines.into_iter().find(|line| line["reason"] == reason)
        });
        assert!(line["key-fingerprint"].as_str().unwrap().starts_with("SHA256:"), "{line:#}");
        let series = format!("dropzone_authentications_total{{reason=\"{reason}\",result=\"refused\"}}");
        assert!(zone.metric(Daemon::Serve, &series) >= 1.0, "{series}");
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers.first().unwrap().contains("Permission denied (publickey)."), "{answers:?}");
    assert!(zone.logged(&[("event", "login"), ("outcome", "ok")]).is_empty());
}

#[test]
fn no_password_is_ever_asked_for() {
    let zone = Zone::new();
    for methods in ["password", "keyboard-interactive", "hostbased", "gssapi-with-mic", "none"] {
        let only = format!("PreferredAuthentications={methods}");
        let ran =
            zone.openssh(AN, &["-o", &only, "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1"], &[]);
        assert!(ran.must_fail().stderr.contains("Permission denied (publickey)."), "{methods}");
    }
}

#[test]
fn commands_shells_forwarding_and_other_subsystems_are_refused_and_nothing_hangs() {
    let zone = Zone::new();
    for (options, command) in [
        (vec![], vec!["id"]),
        (vec!["-T"], vec![]),
        (vec!["-tt"], vec![]),
        (vec!["-tt"], vec!["/bin/sh"]),
        (vec![], vec!["scp", "-t", "/pillar-3/in"]),
        (vec!["-s"], vec!["netconf"]),
        (vec!["-s"], vec!["shell"]),
        (vec!["-W", "127.0.0.1:22"], vec![]),
        (vec!["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22"], vec![]),
    ] {
        let ran = zone.openssh(AN, &options, &command).must_fail();
        let words = ["failed", "refused", "prohibited", "denied", "forbidden", "open failed"];
        let says_so = words.iter().any(|word| ran.stderr.contains(word));
        assert!(says_so, "{options:?} {command:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{options:?} {command:?}: {}", ran.text());
    }
    zone.sftp(AN, "ls /").must_succeed();
}

/// A listening port at the client whose connections the server would have to make.
#[test]
fn a_local_forwarding_carries_no_byte() {
    let zone = Zone::new();
    let script = r#"
connection = transport()
def forward(target):
    connection.open_channel("direct-tcpip", target, ("127.0.0.1", 1), timeout=40)
print(json.dumps([outcome(lambda: attempt(lambda: forward(target)))
    for target in [(HOST, PORT), ("127.0.0.1", 9721), ("localhost", 22)]]
    + [len(paramiko.SFTPClient.from_transport(connection).listdir("/"))]))
"#;
    let script = format!("{ATTEMPT}{script}");
    let Some(ran) = zone.python(AN, &script) else { return };
    let told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    for answer in &told.as_array().unwrap()[..3] {
        assert_eq!(answer[0], "refused", "{told}");
    }
    assert_eq!(told[3], 4, "SFTP still runs on that connection");
}

/// paramiko tells a refusal by several kinds of exception.
const ATTEMPT: &str = r#"
def attempt(action):
    try:
        return action()
    except (paramiko.SSHException, EOFError) as error:
        raise IOError(str(error))
"#;

const CHANNEL_REQUESTS: &str = r#"
connection = transport()
def on_channel(action):
    channel = connection.open_session(timeout=40)
    channel.settimeout(40)
    try:
        return outcome(lambda: attempt(lambda: action(channel)))
    finally:
        channel.close()
told = {
    "exec": on_channel(lambda channel: channel.exec_command("id")),
    "shell": on_channel(lambda channel: channel.invoke_shell()),
    "pty": on_channel(lambda channel: channel.get_pty()),
    "env": on_channel(lambda channel: channel.set_environment_variable("LD_PRELOAD", "x")),
    "x11": on_channel(lambda channel: channel.request_x11()),
    "subsystem": on_channel(lambda channel: channel.invoke_subsystem("netconf")),
    "forwarding": outcome(lambda: attempt(lambda: connection.request_port_forward("", 0))),
}
told["sftp"] = len(paramiko.SFTPClient.from_transport(connection).listdir("/"))
print(json.dumps(told))
"#;

#[test]
fn every_request_of_a_channel_but_sftp_is_answered_with_a_refusal() {
    let zone = Zone::new();
    let Some(ran) = zone.python(AN, &format!("{ATTEMPT}{CHANNEL_REQUESTS}")) else { return };
    let mut told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    let told = told.as_object_mut().unwrap();
    assert_eq!(told.remove("sftp"), Some(4.into()), "SFTP still runs on that connection");
    // paramiko asks for no answer to this one, so it cannot tell.
    told.remove("env");
    for (request, answer) in told {
        assert_eq!(answer[0], "refused", "{request}: {answer}");
    }
}

#[test]
fn what_no_drop_zone_has_is_refused_and_the_session_goes_on() {
    let zone = Zone::new();
    zone.put_here("a.csv.age", zone.encrypt("insz\n"));
    let batch = "-mkdir /pillar-3/in/x\n-rmdir /pillar-3/in\n-symlink /etc/passwd /pillar-3/in/x.csv.age\n\
                 -ln /pillar-3/out /pillar-3/in/y.csv.age\n-mkdir /new\n-rm /pillar-3/in\n-rename /pillar-3 /x\n\
                 -rename /pillar-3/out /pillar-3/in/x\nput a.csv.age /pillar-3/in/\nls /\n";
    zone.sftp(AN, batch).must_succeed();
    assert!(zone.partials().is_empty());
    zone.receipt("pillar-3", "a.csv.age", "delivered");
    assert!(zone.logged(&[("outcome", "denied")]).len() >= 7, "each is in the log");
    for batch in ["mkdir /pillar-3/in/x", "rmdir /pillar-3/in", "symlink /etc/passwd /pillar-3/in/x.csv.age"]
    {
        zone.sftp(AN, batch).must_fail();
    }
}

//! Libraries: a small driver in the library's language takes the steps as JSON and answers in JSON, all in one connection.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::{Value, json};

use super::run_client;
use crate::client::{Said, Step};
use crate::harness::programs::public_key;
use crate::harness::{Person, Zone};

/// Runs a driver with the steps, whom to be and whom to trust, as the last argument.
pub fn drive(
    zone: &Zone,
    person: Person,
    steps: &[Step],
    interpreter: &OsStr,
    driver: &[&OsStr],
) -> Vec<Said> {
    let steps_json: Vec<Value> = steps
        .iter()
        .map(|step| json!({"kind": format!("{:?}", step.kind), "from": step.from, "to": step.to}))
        .collect();
    let all = json!({
        "host": zone.ssh().ip().to_string(),
        "port": zone.ssh().port(),
        "user": person.user,
        "key": zone.key_of(person),
        "host-key": public_key(&zone.directory().join("keys/ssh_host_ed25519_key")),
        "known-hosts": zone.known_hosts(),
        "steps": steps_json,
    });
    let ran = run_client(zone, Command::new(interpreter).args(driver).arg(all.to_string())).must_succeed();
    let answers: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(answers.len(), steps.len(), "{answers:?}");
    let said = |answer: &Value| Said {
        ok: answer["ok"].as_bool().unwrap(),
        text: answer["text"].as_str().unwrap().to_owned(),
    };
    answers.iter().map(said).collect()
}

/// The interpreter that `tests/run` makes.
pub const PYTHON: &str = "DROPZONE_TEST_PYTHON";
/// The folder with the packages that `tests/run` installs for Node.
pub const NODE: &str = "DROPZONE_TEST_NODE";

pub const NO_PYTHON: &str =
    "DROPZONE_TEST_PYTHON names no interpreter with paramiko and asyncssh; tests/run makes one";
pub const NO_NODE: &str =
    "DROPZONE_TEST_NODE names no folder with ssh2-sftp-client in it; tests/run makes one";

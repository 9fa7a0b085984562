//! Libraries: a small driver in the library's language takes the steps as JSON and answers in JSON, all in one connection.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::run_client;
use crate::client::{Client, Said, Step};
use crate::harness::programs::public_key;
use crate::harness::{Person, Zone};

/// A library and its driver.
pub struct Library {
    pub name: &'static str,
    pub driver: Driver,
}

/// A driver by its file, in the folder of its language.
#[derive(Clone, Copy)]
pub enum Driver {
    Python(&'static str),
    Node(&'static str),
}

impl Driver {
    /// The interpreter that `tests/run` makes, or the folder with the packages that it installs for Node.
    fn variable(self) -> &'static str {
        match self {
            Self::Python(_) => "DROPZONE_TEST_PYTHON",
            Self::Node(_) => "DROPZONE_TEST_NODE",
        }
    }

    fn command(self) -> Command {
        let made = std::env::var_os(self.variable()).unwrap();
        let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        match self {
            Self::Python(file) => {
                let mut python = Command::new(made);
                python.arg("-B").arg(drivers.join("python").join(file));
                python
            }
            Self::Node(file) => {
                let mut node = Command::new("node");
                node.arg(drivers.join("node").join(file)).arg(made);
                node
            }
        }
    }
}

impl Client for Library {
    fn name(&self) -> &'static str {
        self.name
    }

    fn missing(&self) -> Option<&'static str> {
        let is_missing = std::env::var_os(self.driver.variable()).is_none();
        is_missing.then_some(match self.driver {
            Driver::Python(_) => {
                "DROPZONE_TEST_PYTHON names no interpreter with the libraries; tests/run makes one"
            }
            Driver::Node(_) => {
                "DROPZONE_TEST_NODE names no folder with ssh2-sftp-client in it; tests/run makes one"
            }
        })
    }

    /// The driver's last argument says what to do, whom to be and whom to trust.
    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
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
        let ran = run_client(zone, self.driver.command().arg(all.to_string())).must_succeed();
        let answers: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(answers.len(), steps.len(), "{answers:?}");
        let said = |answer: &Value| Said {
            ok: answer["ok"].as_bool().unwrap(),
            text: answer["text"].as_str().unwrap().to_owned(),
        };
        answers.iter().map(said).collect()
    }
}

//! Scripts for paramiko, the client that shows what OpenSSH's cannot: single packets, other orders, lost connections.

use std::process::Command;

use super::programs::{Ran, run};
use super::{Person, Zone};

/// What every script begins with; it reads its arguments from the command line.
const PRELUDE: &str = include_str!("prelude.py");

impl Zone {
    /// Runs a script as a person; `None` where there is no interpreter with paramiko.
    pub fn python(&self, person: Person, script: &str) -> Option<Ran> {
        let Some(interpreter) = std::env::var_os("DROPZONE_TEST_PYTHON") else {
            eprintln!(
                "SKIPPED: DROPZONE_TEST_PYTHON names no interpreter with paramiko; tests/run makes one"
            );
            return None;
        };
        let mut command = Command::new(interpreter);
        command.arg("-c").arg(format!("{PRELUDE}\n{script}"));
        command.arg(self.ssh().ip().to_string()).arg(self.ssh().port().to_string());
        command.arg(person.user).arg(self.key_of(person)).current_dir(self.here());
        Some(run(&mut command))
    }
}

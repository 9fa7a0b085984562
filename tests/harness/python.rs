//! Scripts for paramiko, the client that shows what OpenSSH's cannot: single packets, other orders, lost connections.

use std::ffi::OsString;
use std::process::Command;

use super::programs::{Ran, run};
use super::{Person, Zone, skip};

/// What every script begins with; it reads its arguments from the command line.
const PRELUDE: &str = include_str!("prelude.py");

/// The interpreter that `tests/run` makes, with the packages of `tests/requirements.txt`; `None`, and said, where there is
/// none.
pub fn interpreter(package: &str) -> Option<OsString> {
    let interpreter = std::env::var_os("DROPZONE_TEST_PYTHON");
    if interpreter.is_none() {
        skip(&format!("DROPZONE_TEST_PYTHON names no interpreter with {package}; tests/run makes one"));
    }
    interpreter
}

impl Zone {
    /// Runs a script as a person; `None` where there is no interpreter with paramiko.
    pub fn python(&self, person: Person, script: &str) -> Option<Ran> {
        let interpreter = interpreter("paramiko")?;
        let mut command = Command::new(interpreter);
        command.arg("-c").arg(format!("{PRELUDE}\n{script}"));
        command.arg(self.ssh().ip().to_string()).arg(self.ssh().port().to_string());
        command.arg(person.user).arg(self.key_of(person)).current_dir(self.here());
        Some(run(&mut command))
    }
}

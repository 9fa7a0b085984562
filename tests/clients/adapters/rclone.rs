//! rclone on Go's SSH: a program per step. It tries `exec` for a shell and hashes first, and lives without.

use std::process::Command;

use super::{run_client, said};
use crate::client::{Client, Kind, Said, Step};
use crate::harness::{Person, Zone};

pub struct Rclone;

pub const CLIENT: &dyn Client = &Rclone;

impl Client for Rclone {
    fn name(&self) -> &'static str {
        "rclone"
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let answer = |step| {
            let ran = run_client(zone, command(zone, person, step).args(["--retries", "1"]));
            match step.kind {
                Kind::List if ran.succeeded() => Said { ok: true, text: ran.text().replace("/\n", "\n") },
                _ => said(&ran),
            }
        };
        steps.iter().map(answer).collect()
    }
}

fn command(zone: &Zone, person: Person, step: &Step) -> Command {
    let Step { kind, from, to } = step;
    let remote = |path: &str| format!(":sftp:{path}");
    let mut rclone = Command::new("rclone");
    rclone.args(["--config", "", "--sftp-host", &zone.ssh().ip().to_string()]);
    rclone.args(["--sftp-port", &zone.ssh().port().to_string(), "--sftp-user", person.user]);
    rclone.arg("--sftp-key-file").arg(zone.key_of(person));
    rclone.arg("--sftp-known-hosts-file").arg(zone.known_hosts());
    match kind {
        Kind::List => rclone.args(["lsf", &remote(from)]),
        // It keeps the time always.
        Kind::Put | Kind::PutTimed => rclone.args(["copyto", from, &remote(to)]),
        Kind::PutAll => rclone.args(["copy", from, &remote(to)]),
        Kind::Get | Kind::GetTimed => rclone.args(["copyto", &remote(from), to]),
        Kind::Rename => rclone.args(["moveto", &remote(from), &remote(to)]),
        Kind::Remove => rclone.args(["deletefile", &remote(from)]),
        Kind::Mkdir => rclone.args(["mkdir", &remote(from)]),
        Kind::Rmdir => rclone.args(["rmdir", &remote(from)]),
        kind => panic!("rclone cannot do {kind:?}"),
    };
    rclone
}

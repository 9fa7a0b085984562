//! OpenSSH's `scp`, which speaks SFTP since version 9; a program per step.

use std::process::Command;

use super::{files_of, login, run_client, said, ssh_options};
use crate::client::{Client, Kind, Said, Step};
use crate::harness::{Person, Zone};

pub struct OpensshScp;

pub const CLIENT: &dyn Client = &OpensshScp;

impl Client for OpensshScp {
    fn name(&self) -> &'static str {
        "openssh-scp"
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        steps.iter().map(|step| said(&run_client(zone, &mut command(zone, person, step)))).collect()
    }
}

fn command(zone: &Zone, person: Person, step: &Step) -> Command {
    let mut scp = Command::new("scp");
    scp.args(ssh_options(zone, person)).arg("-q").arg("-P").arg(zone.ssh().port().to_string());
    let remote = |path: &str| format!("{}:{path}", login(zone, person));
    match step.kind {
        Kind::Put => scp.arg(&step.from).arg(remote(&step.to)),
        Kind::PutTimed => scp.arg("-p").arg(&step.from).arg(remote(&step.to)),
        Kind::PutAll => scp.args(files_of(zone, &step.from)).arg(remote(&step.to)),
        Kind::Get => scp.arg(remote(&step.from)).arg(&step.to),
        Kind::GetTimed => scp.arg("-p").arg(remote(&step.from)).arg(&step.to),
        kind => panic!("scp cannot do {kind:?}"),
    };
    scp
}

//! OpenSSH's `sftp` with a batch. It says on stderr what went wrong, so between the steps a mark goes to both streams.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::{MARK, between_marks, login, own_file, run_client, ssh_options};
use crate::client::{Client, Kind, Said, Step};
use crate::harness::{Person, Zone};

pub struct OpensshSftp;

pub const CLIENT: &dyn Client = &OpensshSftp;

impl Client for OpensshSftp {
    fn name(&self) -> &'static str {
        "openssh-sftp"
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let batch = own_file(zone, "sftp-batch");
        let mut text = String::new();
        for (number, step) in steps.iter().enumerate() {
            // `@`: not echoed; `-`: what fails does not end the batch.
            writeln!(text, "@!echo '{MARK}{number}'; echo '{MARK}{number}' >&2\n@-{}", line(step)).unwrap();
        }
        fs::write(&batch, text).unwrap();
        let mut sftp = Command::new("sftp");
        sftp.args(ssh_options(zone, person)).arg("-P").arg(zone.ssh().port().to_string());
        let ran = run_client(zone, sftp.arg("-b").arg(batch).arg(login(zone, person)));
        let (said, wrong) =
            (between_marks(&ran.text(), steps.len()), between_marks(&ran.stderr, steps.len()));
        let mut answers: Vec<Said> = steps
            .iter()
            .zip(said.into_iter().zip(wrong))
            .map(|(step, answer)| match answer {
                (Some(said), Some(wrong)) if wrong.is_empty() => Said { ok: true, text: shown(step, &said) },
                (_, Some(wrong)) => Said { ok: false, text: wrong },
                (_, None) => Said::nothing(),
            })
            .collect();
        // A connection that is lost is told by the exit code, and what was being done then has failed.
        if let (false, Some(last)) = (ran.succeeded(), answers.iter_mut().rfind(|said| said.ok)) {
            *last = Said { ok: false, text: ran.stderr };
        }
        answers
    }
}

fn line(step: &Step) -> String {
    let Step { kind, from, to } = step;
    match kind {
        Kind::List => format!("ls -1 \"{from}\""),
        Kind::Stat => format!("ls -ln \"{from}\""),
        Kind::Put => format!("put \"{from}\" \"{to}\""),
        Kind::PutTimed => format!("put -p \"{from}\" \"{to}\""),
        Kind::PutAll => format!("put \"{from}/\"* \"{to}/\""),
        Kind::Resume => format!("reput \"{from}\" \"{to}\""),
        Kind::Get => format!("get \"{from}\" \"{to}\""),
        Kind::GetTimed => format!("get -p \"{from}\" \"{to}\""),
        Kind::Rename => format!("rename \"{from}\" \"{to}\""),
        Kind::Remove => format!("rm \"{from}\""),
        Kind::Mkdir => format!("mkdir \"{from}\""),
        Kind::Rmdir => format!("rmdir \"{from}\""),
        Kind::Symlink => format!("symlink \"{from}\" \"{to}\""),
        Kind::Chmod => format!("chmod 600 \"{from}\""),
        Kind::Overwrite => panic!("no step"),
    }
}

fn shown(step: &Step, said: &str) -> String {
    match step.kind {
        // Whole paths, one a line.
        Kind::List => said.lines().map(|path| format!("{}\n", path.rsplit('/').next().unwrap())).collect(),
        // The time is shown without its seconds.
        Kind::Stat => format!("{} -", said.split_whitespace().nth(4).unwrap_or_default()),
        _ => said.to_owned(),
    }
}

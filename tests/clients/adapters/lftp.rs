//! lftp with a script; it runs `ssh` for the transport and has its own SFTP.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::{MARK, between_marks, own_file, run_client, ssh_options};
use crate::client::{Client, Kind, Said, Step};
use crate::harness::{Person, Zone};

pub struct Lftp;

pub const CLIENT: &dyn Client = &Lftp;

const SETTINGS: &str = "\
set net:max-retries 2
set net:timeout 20
set net:reconnect-interval-base 1
set cmd:fail-exit no
set cache:enable no
set sftp:charset UTF-8
";

impl Client for Lftp {
    fn name(&self) -> &'static str {
        "lftp"
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let script = own_file(zone, "lftp-script");
        let ssh = format!("ssh -a -x {}", ssh_options(zone, person).join(" "));
        let mut text = format!("{SETTINGS}set sftp:connect-program \"{ssh}\"\n");
        writeln!(text, "open -u {}, -p {} sftp://{}", person.user, zone.ssh().port(), zone.ssh().ip())
            .unwrap();
        for (number, step) in steps.iter().enumerate() {
            let line = line(step);
            writeln!(text, "echo {MARK}{number}\n({line}) && echo {OK} || echo {FAILED}").unwrap();
        }
        fs::write(&script, text).unwrap();
        let ran = run_client(zone, Command::new("lftp").arg("-f").arg(script));
        let parts = between_marks(&ran.text(), steps.len()).into_iter();
        parts
            .zip(steps)
            .map(|(part, step)| match part {
                Some(text) => match text.strip_suffix(&format!("{OK}\n")) {
                    Some(text) => Said { ok: true, text: shown(step, text) },
                    None => Said { ok: false, text: format!("{text}{}", ran.stderr) },
                },
                None => Said::nothing(),
            })
            .collect()
    }
}

const OK: &str = "=ok=";
const FAILED: &str = "=failed=";

fn line(step: &Step) -> String {
    let Step { kind, from, to } = step;
    match kind {
        Kind::List => format!("cls -1 -a \"{from}/\""),
        Kind::Stat => format!("cls -l --block-size=1 --time-style=%s \"{from}\""),
        // It sets the time always, by FSETSTAT before CLOSE.
        Kind::Put | Kind::PutTimed => format!("put \"{from}\" -o \"{to}\""),
        Kind::PutAll => format!("mput -O \"{to}\" \"{from}/\"*"),
        Kind::Resume => format!("put -c \"{from}\" -o \"{to}\""),
        Kind::Get | Kind::GetTimed => format!("get \"{from}\" -o \"{to}\""),
        Kind::Rename => format!("mv \"{from}\" \"{to}\""),
        Kind::Remove => format!("rm \"{from}\""),
        Kind::Mkdir => format!("mkdir \"{from}\""),
        Kind::Rmdir => format!("rmdir \"{from}\""),
        Kind::Symlink => format!("ln -s \"{from}\" \"{to}\""),
        Kind::Chmod => format!("chmod 600 \"{from}\""),
        Kind::Overwrite => panic!("no step"),
    }
}

fn shown(step: &Step, said: &str) -> String {
    match step.kind {
        Kind::List => said
            .lines()
            .map(|path| format!("{}\n", path.trim_end_matches('/').rsplit('/').next().unwrap()))
            .collect(),
        // -rw-r----- 1 owner group size time name
        Kind::Stat => said.split_whitespace().skip(4).take(2).collect::<Vec<_>>().join(" "),
        _ => said.to_owned(),
    }
}

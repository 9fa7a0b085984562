//! PuTTY's `psftp` with a batch. It echoes each command, which separates the answers, and says in each what it did.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{login, own_file, run_client};
use crate::client::{Client, Kind, Said, Step};
use crate::harness::programs::{fingerprint, run};
use crate::harness::{Person, Zone};

pub struct Psftp;

pub const CLIENT: &dyn Client = &Psftp;

impl Client for Psftp {
    fn name(&self) -> &'static str {
        "psftp"
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let batch = own_file(zone, "psftp-batch");
        let mut text = String::new();
        for step in steps {
            // The last command is the one that counts.
            writeln!(text, "cd /\n{}", line(step)).unwrap();
        }
        fs::write(&batch, text).unwrap();
        let host = fingerprint(&zone.directory().join("keys/ssh_host_ed25519_key.pub"));
        let mut psftp = Command::new("psftp");
        psftp.arg("-P").arg(zone.ssh().port().to_string()).arg("-i").arg(ppk(zone, person));
        // Echo the commands, go on after errors.
        psftp.args(["-batch", "-bc", "-be", "-hostkey", &host, "-b"]).arg(batch).arg(login(zone, person));
        let ran = run_client(zone, &mut psftp);
        let all = ran.text();
        let mut parts = all.split("psftp> cd /\n").skip(1);
        steps.iter().map(|step| parts.next().map_or_else(Said::nothing, |part| answer(step, part))).collect()
    }
}

/// PuTTY reads keys in its own format only.
fn ppk(zone: &Zone, person: Person) -> PathBuf {
    let file = own_file(zone, "ppk");
    let mut puttygen = Command::new("puttygen");
    puttygen.arg(zone.key_of(person)).args(["-O", "private", "--new-passphrase", "/dev/null", "-o"]);
    run(puttygen.arg(&file)).must_succeed();
    file
}

fn line(step: &Step) -> String {
    let Step { kind, from, to } = step;
    match kind {
        Kind::List => format!("ls \"{from}\""),
        Kind::Put => format!("put \"{from}\" \"{to}\""),
        Kind::PutAll => format!("cd \"{to}\"\nmput \"{from}/\"*"),
        Kind::Resume => format!("reput \"{from}\" \"{to}\""),
        Kind::Get => format!("get \"{from}\" \"{to}\""),
        Kind::Rename => format!("mv \"{from}\" \"{to}\""),
        Kind::Remove => format!("rm \"{from}\""),
        Kind::Mkdir => format!("mkdir \"{from}\""),
        Kind::Rmdir => format!("rmdir \"{from}\""),
        Kind::Chmod => format!("chmod 600 \"{from}\""),
        kind => panic!("psftp cannot do {kind:?}"),
    }
}

/// The last command's part: its echo, then what it said. It is done if every line is one that tells of something done.
fn answer(step: &Step, part: &str) -> Said {
    let Some((_, last)) = part.rsplit_once("psftp> ").map_or(Some(("", part)), |(before, last)| {
        // The batch ends with a `quit` that nobody wrote.
        if last.starts_with("quit") { before.rsplit_once("psftp> ") } else { Some((before, last)) }
    }) else {
        return Said { ok: false, text: part.to_owned() };
    };
    let lines: Vec<&str> = last.lines().skip(1).collect();
    let done = |line: &&str| match step.kind {
        Kind::List => line.starts_with("Listing directory ") || line.starts_with(['d', '-']),
        Kind::Put | Kind::PutAll => line.starts_with("local:"),
        Kind::Resume => line.starts_with("local:") || line.starts_with("reput: restarting at "),
        Kind::Get => line.starts_with("remote:"),
        Kind::Rename | Kind::Chmod => line.contains(" -> "),
        _ => line.ends_with(": OK"),
    };
    let ok = !lines.is_empty() && lines.iter().all(done);
    // drwxr-x---    1 agency   dropzone       4096 Nov 22 02:13 name
    let name = |line: &str| {
        let mut rest = line;
        for _ in 0..8 {
            rest = rest.trim_start().split_once(' ').map_or("", |(_, rest)| rest);
        }
        format!("{rest}\n")
    };
    let text = match step.kind {
        Kind::List if ok => lines.iter().skip(1).map(|line| name(line)).collect(),
        _ => last.to_owned(),
    };
    Said { ok, text }
}

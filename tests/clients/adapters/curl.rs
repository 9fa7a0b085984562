//! curl on libssh2: all steps in one process, which goes on with its connection where libssh2 lets it.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::{MARK, between_marks, files_of, own_file, run_client};
use crate::client::{Client, Kind, Said, Step};
use crate::harness::programs::{fingerprint, run};
use crate::harness::{Person, Zone};

pub struct Curl;

pub const CLIENT: &dyn Client = &Curl;

impl Client for Curl {
    fn name(&self) -> &'static str {
        "curl"
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let (settings, listing) = (own_file(zone, "curl-settings"), own_file(zone, "curl-listing"));
        let host = fingerprint(&zone.directory().join("keys/ssh_host_ed25519_key.pub"));
        let host = host.trim_start_matches("SHA256:");
        let mut text = String::new();
        for (number, step) in steps.iter().enumerate() {
            let key = zone.key_of(person);
            write!(
                text,
                "{}silent\nshow-error\nuser = \"{}:\"\nkey = \"{}\"\npubkey = \"{}\"\nhostpubsha256 = \"{host}=\"\n\
                 write-out = \"{MARK}{number}\\n%{{exitcode}} %{{errormsg}}\\n\"\n{}",
                if number == 0 { "" } else { "next\n" },
                person.user,
                key.display(),
                key.with_extension("pub").display(),
                transfer(zone, step, &listing.with_extension(number.to_string()).display().to_string())
            )
            .unwrap();
        }
        fs::write(&settings, text).unwrap();
        let ran = run_client(zone, Command::new("curl").arg("-q").arg("-K").arg(settings));
        // A step of several files has several answers; each begins with the mark.
        let answers = between_marks(&ran.text().replace('\n', "\n "), steps.len());
        let failed = |number: usize| {
            let mark = format!("{MARK}{number}\n");
            ran.text().split(&mark).skip(1).any(|answer| !answer.starts_with("0 "))
        };
        steps
            .iter()
            .zip(answers)
            .enumerate()
            .map(|(number, (step, answer))| match (answer, step.kind) {
                (None, _) => Said { ok: false, text: ran.stderr.clone() },
                (Some(answer), _) if failed(number) => {
                    Said { ok: false, text: format!("{answer}{}", ran.stderr) }
                }
                (Some(_), Kind::List) => {
                    let listing = fs::read_to_string(listing.with_extension(number.to_string()));
                    Said { ok: true, text: listing.unwrap_or_default() }
                }
                (Some(text), _) => Said { ok: true, text },
            })
            .collect()
    }
}

/// What the settings say of one step. A command goes with the transfer of a listing that nobody looks at.
fn transfer(zone: &Zone, step: &Step, listing: &str) -> String {
    let Step { kind, from, to } = step;
    let url = |path: &str| format!("url = \"sftp://{}{}\"\n", zone.ssh(), encoded(path));
    let command =
        |command: String| format!("{}output = \"/dev/null\"\nquote = {}\n", url("/"), quoted(&command));
    match kind {
        Kind::List => {
            format!("{}list-only\noutput = \"{listing}\"\n", url(&format!("{}/", from.trim_end_matches('/'))))
        }
        Kind::Put => format!("{}upload-file = {}\n", url(to), quoted(from)),
        Kind::PutTimed => {
            let mut date = Command::new("date");
            date.args(["-u", "+%Y%m%d %H:%M:%S GMT", "-r"]).arg(zone.here().join(from));
            let command = format!("-mtime \"{}\" \"{to}\"", run(&mut date).must_succeed().text().trim());
            format!("{}upload-file = {}\nquote = {}\n", url(to), quoted(from), quoted(&command))
        }
        Kind::PutAll => {
            let files = files_of(zone, from).join(",");
            format!("{}upload-file = \"{{{files}}}\"\n", url(&format!("{to}/")))
        }
        Kind::Resume => format!("{}upload-file = {}\ncontinue-at = \"-\"\n", url(to), quoted(from)),
        Kind::Get => format!("{}output = {}\n", url(from), quoted(to)),
        Kind::GetTimed => format!("{}output = {}\nremote-time\n", url(from), quoted(to)),
        Kind::Rename => command(format!("rename \"{from}\" \"{to}\"")),
        Kind::Remove => command(format!("rm \"{from}\"")),
        Kind::Mkdir => command(format!("mkdir \"{from}\"")),
        Kind::Rmdir => command(format!("rmdir \"{from}\"")),
        Kind::Symlink => command(format!("symlink \"{from}\" \"{to}\"")),
        Kind::Chmod => command(format!("chmod 600 \"{from}\"")),
        kind => panic!("curl cannot do {kind:?}"),
    }
}

/// As a value in the settings file.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// As the path of an URL.
fn encoded(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                text.push(char::from(byte))
            }
            _ => write!(text, "%{byte:02X}").unwrap(),
        }
    }
    text
}

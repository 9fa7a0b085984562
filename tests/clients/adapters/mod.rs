//! One file per family of clients: each turns steps into what that client understands, and what it says into answers.

pub mod asyncssh;
pub mod curl;
pub mod lftp;
pub mod openssh_scp;
pub mod openssh_sftp;
pub mod paramiko;
pub mod psftp;
pub mod rclone;
mod script;
pub mod ssh2_sftp_client;
pub mod sshfs;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::client::Said;
use crate::harness::programs::{Ran, run};
use crate::harness::{Person, Zone};

/// Runs a client as somebody who has no settings of their own and a terminal that shows UTF-8.
fn run_client(zone: &Zone, command: &mut Command) -> Ran {
    run(command
        .env("HOME", zone.here())
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("SSH_AUTH_SOCK", "")
        .current_dir(zone.here()))
}

/// A path for a file of the adapter's own: up to eight of them work in one folder at once.
fn own_file(zone: &Zone, what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    zone.here().join(format!(".{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// `user@host`
pub fn login(zone: &Zone, person: Person) -> String {
    format!("{}@{}", person.user, zone.ssh().ip())
}

/// What `ssh`, and every program that starts it, is to be told; the port and the user come on top.
pub fn ssh_options(zone: &Zone, person: Person) -> Vec<String> {
    let options = [
        "BatchMode=yes".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        format!("UserKnownHostsFile={}", zone.known_hosts().display()),
        format!("IdentityFile={}", zone.key_of(person).display()),
    ];
    let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]);
    ["-F", "none"].map(str::to_owned).into_iter().chain(options).collect()
}

/// The local files of a folder, relative to `here`.
fn files_of(zone: &Zone, folder: &str) -> Vec<String> {
    let names = crate::harness::observe::names(&zone.here().join(folder));
    names.iter().map(|name| format!("{folder}/{name}")).collect()
}

/// For clients that need a run of their own per step.
fn said(ran: &Ran) -> Said {
    Said { ok: ran.succeeded(), text: format!("{}{}", ran.text(), ran.stderr) }
}

/// What stands between one mark and the next, by the number in the mark; nothing for a step that was not reached.
fn between_marks(text: &str, steps: usize) -> Vec<Option<String>> {
    let mut parts = vec![None; steps];
    for part in text.split(MARK).skip(1) {
        let (number, rest) = part.split_once('\n').unwrap_or((part, ""));
        let number: usize = number.trim().parse().unwrap();
        parts[number] = Some(rest.to_owned());
    }
    parts
}

/// A mark that no client gives a meaning to.
const MARK: &str = "==step==";

//! The files of a kit. What Windows' programs read has CRLF; what OpenSSH and the shell read has not.

use std::path::Path;

use anyhow::Context;
use ssh_key::HashAlg;

use super::{Zone, page};
use crate::host::files;
use crate::policy::agreement::{Flow, Job};
use crate::policy::published::ALLOWED_SIGNERS;

/// One page for everybody.
pub const PAGE: &str = "LEESMIJ-README.html";
/// For WinSCP.
pub const SESSION: &str = "winscp-dropzone.ini";
/// For Linux, macOS and Git Bash.
pub const SCRIPT: &str = "dropzone.sh";
/// For Windows.
pub const WINDOWS_SCRIPT: &str = "dropzone.ps1";
/// For OpenSSH.
pub const KNOWN_HOSTS: &str = "known_hosts";
/// A batch for sftp, to change.
pub const BATCH: &str = "sftp-batch.txt";

const SCRIPT_TEXT: &str = include_str!("dropzone.sh");
const WINDOWS_SCRIPT_TEXT: &str = include_str!("dropzone.ps1");

/// A file.
pub struct File {
    /// Its name in the folder.
    pub name: String,
    text: String,
    mode: u32,
}

/// All of them.
pub struct Contents {
    /// In order.
    pub files: Vec<File>,
    /// What the operator should see to.
    pub missing: Vec<String>,
}

impl Contents {
    /// What an institution gets.
    pub fn of(zone: &Zone<'_>) -> Self {
        let plain = |name: &str, text: String| File { name: name.to_owned(), text, mode: 0o644 };
        let mut files = vec![
            plain(PAGE, page::page(zone).into_string()),
            plain(SESSION, crlf(&session(zone))),
            plain(KNOWN_HOSTS, known_hosts(zone)),
            plain(ALLOWED_SIGNERS, zone.signs.allowed_signers()),
            plain(BATCH, batch(zone)),
            File { mode: 0o755, ..plain(SCRIPT, filled(SCRIPT_TEXT, zone)) },
            plain(WINDOWS_SCRIPT, crlf(&filled(WINDOWS_SCRIPT_TEXT, zone))),
        ];
        let mut missing = Vec::new();
        for exchange in zone.open_exchanges() {
            for flow in exchange.flows_from(&zone.institution.name) {
                let recipients = recipients(zone, flow);
                let name = recipients_file(exchange.name.as_str(), flow);
                if recipients.is_empty() {
                    missing.push(format!("{name} is empty: nobody who receives has a recipient yet"));
                }
                let text: String = recipients.iter().map(|recipient| format!("{recipient}\n")).collect();
                files.push(plain(&name, text));
            }
        }
        Self { files, missing }
    }

    /// Writes all into a folder, which is made or is empty.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let shown = |path: &Path| path.display().to_string();
        if !files::exists(directory) {
            files::make_folder(directory, 0o755).with_context(|| shown(directory))?;
        }
        let of_recipients = directory.join(RECIPIENTS);
        files::make_folder(&of_recipients, 0o755).with_context(|| shown(&of_recipients))?;
        for file in &self.files {
            let path = directory.join(&file.name);
            files::write_new(&path, file.text.as_bytes(), file.mode).with_context(|| shown(&path))?;
        }
        Ok(())
    }
}

const RECIPIENTS: &str = "recipients";

/// Where the recipients of a flow stand, for `age -R`.
pub fn recipients_file(exchange: &str, flow: &Flow) -> String {
    format!("{RECIPIENTS}/{exchange}.{}.txt", flow.name)
}

/// Whom a list of a flow is encrypted to: who reads it.
pub fn recipients(zone: &Zone<'_>, flow: &Flow) -> Vec<String> {
    match flow.job {
        Job::Relay => {
            let receivers = flow.to.iter().filter_map(|name| zone.config.institutions.get(name));
            receivers.flat_map(|institution| institution.recipients.iter().cloned()).collect()
        }
        Job::Shape | Job::Query(_) | Job::Command(_) => zone.recipients.clone(),
    }
}

/// What a client shows at its first connection.
pub fn fingerprint(zone: &Zone<'_>) -> String {
    zone.host_key.fingerprint(HashAlg::Sha256).to_string()
}

/// As a link that WinSCP opens: the fingerprint in URL-safe base64, without the number of bits.
pub fn winscp_link(zone: &Zone<'_>) -> String {
    let (user, host, port) = (&zone.institution.name, bracketed(&zone.host), zone.port);
    let digest = digest(zone).replace('+', "-").replace('/', "_");
    format!("winscp-sftp://{user};fingerprint=ssh-ed25519-{digest}@{host}:{port}/")
}

/// As OpenSSH and WinSCP write it, without `SHA256:`.
fn digest(zone: &Zone<'_>) -> String {
    fingerprint(zone).trim_start_matches("SHA256:").to_owned()
}

/// What "Tools, Import" of WinSCP's login dialog takes. FSProtocol 2 is SFTP and nothing else.
fn session(zone: &Zone<'_>) -> String {
    let Zone { institution, host, port, .. } = zone;
    format!(
        "[Sessions\\dropzone-{user}]\nHostName={host}\nPortNumber={port}\nUserName={user}\nFSProtocol=2\n\
         SshHostKey=ssh-ed25519 255 {digest}\nUpdateDirectories=1\nRemoteDirectory=/\n",
        user = institution.name,
        digest = digest(zone),
    )
}

fn known_hosts(zone: &Zone<'_>) -> String {
    let key = zone.host_key.to_openssh().unwrap_or_default();
    // A comment is nobody's business.
    let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let host = if zone.port == 22 { zone.host.clone() } else { format!("[{}]:{}", zone.host, zone.port) };
    format!("{host} {key}\n")
}

fn batch(zone: &Zone<'_>) -> String {
    let mut text = format!(
        "# sftp -b {BATCH} -P {} -i KEY -o UserKnownHostsFile={KNOWN_HOSTS} {}@{}\n",
        zone.port, zone.institution.name, zone.host
    );
    for exchange in zone.open_exchanges() {
        let (name, own) = (&exchange.name, exchange.parties.get(&zone.institution.name));
        if own.is_some_and(|own| own.may_drop) {
            text += &format!("# put list.csv.age /{name}/in/\n-ls -l /{name}/receipts\n");
        }
        if own.is_some_and(|own| own.may_collect) {
            text += &format!("-ls -l /{name}/out\n# get /{name}/out/*\n");
        }
    }
    text
}

fn filled(text: &str, zone: &Zone<'_>) -> String {
    let (port, user) = (zone.port.to_string(), zone.institution.name.as_str());
    text.replace("@HOST@", &bracketed(&zone.host)).replace("@PORT@", &port).replace("@USER@", user)
}

/// An IPv6 address stands in brackets where a port may follow.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

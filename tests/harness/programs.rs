//! Other people's programs: OpenSSH, age, SQLite. Each runs within a time limit, so that a server that never answers
//! shows as a failed test and not as a test that never ends.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Daemon, PATIENCE, Person, Zone};

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    said: String,
}

/// A session that lasts until this is dropped.
pub struct HeldSession(Child);

impl HeldSession {
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for HeldSession {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ran {
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    #[track_caller]
    pub fn must_succeed(self) -> Self {
        assert!(
            self.succeeded(),
            "{} ended with {:?}\n{}\n{}",
            self.said,
            self.code,
            self.text(),
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn must_fail(self) -> Self {
        assert!(!self.succeeded(), "{} succeeded\n{}\n{}", self.said, self.text(), self.stderr);
        self
    }
}

/// Runs a program to its end, without input.
pub fn run(command: &mut Command) -> Ran {
    run_with_input(command, "")
}

/// Runs a program to its end; the input is small enough for a pipe.
pub fn run_with_input(command: &mut Command, input: &str) -> Ran {
    let said = format!("{command:?}");
    let mut limited = Command::new("timeout");
    limited.arg("--kill-after=5").arg(PATIENCE.as_secs().to_string()).arg(command.get_program());
    limited.args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap());
    }
    let mut child = limited
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{said}: {error}"));
    // A program that ends without reading its input says why on stderr.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let code = output.status.code();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(code != Some(124) && code != Some(137), "{said} hung\n{stderr}");
    Ran { code, stdout: output.stdout, stderr, said }
}

/// Has a program see another wall clock: a shift as in `+1h`, or a moment to go on from as in `@2026-03-01 12:00:00` (UTC).
pub fn with_clock<'a>(command: &'a mut Command, clock: &str) -> &'a mut Command {
    // The clock that nobody can set is left alone: waits are measured on it.
    command
        .env("TZ", "UTC")
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME", clock)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

/// Where Debian's package libfaketime puts it.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        folders.map(|folder| folder.join("faketime/libfaketime.so.1")).filter(|file| file.exists());
    found.next().unwrap_or_else(|| panic!("libfaketime is missing: install that package"))
}

/// A key pair as OpenSSH's own program makes it.
pub fn person_key(file: &Path) {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(file))
        .must_succeed();
}

pub fn public_key(file: &Path) -> String {
    // Not `with_extension`: people's labels have dots.
    let public = format!("{}.pub", file.display());
    fs::read_to_string(public).unwrap().trim().to_owned()
}

/// The fingerprint as OpenSSH shows it.
pub fn fingerprint(file: &Path) -> String {
    let told = run(Command::new("ssh-keygen").arg("-lf").arg(file)).must_succeed().text();
    told.split(' ').nth(1).unwrap().to_owned()
}

/// The `age1…` that belongs to an identity file.
pub fn recipient(identity: &Path) -> String {
    run(Command::new("age-keygen").arg("-y").arg(identity)).must_succeed().text().trim().to_owned()
}

pub fn sqlite(database: &Path, sql: &str) {
    run_with_input(Command::new("sqlite3").arg("-bail").arg(database), sql).must_succeed();
}

/// What `sha256sum` says, in lower-case hex.
pub fn sha256(content: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Zone {
    /// The `age1…` that lists for this zone are encrypted to.
    pub fn recipient(&self) -> String {
        recipient(&self.directory().join("keys/zone.agekey"))
    }

    /// Encrypts for this zone.
    pub fn encrypt(&self, plain: impl AsRef<[u8]>) -> Vec<u8> {
        self.age(plain.as_ref(), &["-r", &self.recipient()])
    }

    /// Runs `age` with these options on some content.
    pub fn age(&self, input: &[u8], options: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, input).unwrap();
        run(Command::new("age").args(options).arg("-o").arg(&to).arg(&from)).must_succeed();
        fs::read(to).unwrap()
    }

    /// Decrypts what an institution collected.
    pub fn decrypt(&self, institution: &str, encrypted: &[u8]) -> Vec<u8> {
        let identity = self.identity_of(institution);
        self.age(encrypted, &["-d", "-i", identity.to_str().unwrap()])
    }

    /// OpenSSH's `sftp -b` with a batch; lines that begin with `-` may fail.
    pub fn sftp(&self, person: Person, batch: &str) -> Ran {
        let mut sftp = Command::new("sftp");
        sftp.args(["-b", "-", "-P"]).arg(self.ssh().port().to_string());
        run_with_input(self.as_person(person, &mut sftp).arg(self.login(person)), &format!("{batch}\n"))
    }

    /// OpenSSH's `ssh` with these options, and what comes behind the host.
    pub fn openssh(&self, person: Person, options: &[&str], command: &[&str]) -> Ran {
        let mut ssh = Command::new("ssh");
        ssh.arg("-p").arg(self.ssh().port().to_string()).args(options);
        run(self.as_person(person, &mut ssh).arg(self.login(person)).args(command))
    }

    /// A session of OpenSSH's `ssh` in which nothing happens, from an address; it has logged in when this returns.
    pub fn session(&self, person: Person, from: Ipv4Addr) -> HeldSession {
        let accepted = || self.metric(Daemon::Serve, "dropzone_sessions");
        let before = accepted();
        let mut ssh = Command::new("ssh");
        ssh.args(["-N", "-p"])
            .arg(self.ssh().port().to_string())
            .arg("-o")
            .arg(format!("BindAddress={from}"));
        let command = self.as_person(person, &mut ssh).arg(self.login(person));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.wait_for("the login", || (accepted() > before).then_some(()));
        HeldSession(child)
    }

    fn login(&self, person: Person) -> String {
        format!("{}@{}", person.user, self.ssh().ip())
    }

    fn as_person<'a>(&self, person: Person, command: &'a mut Command) -> &'a mut Command {
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        command
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o"])
            .arg(option("UserKnownHostsFile", &self.known_hosts()))
            .args(["-o", "StrictHostKeyChecking=yes", "-o"])
            .arg(option("IdentityFile", &self.key_of(person)))
            .env("SSH_AUTH_SOCK", "")
            .current_dir(self.here())
    }

    /// Clients know the host key beforehand, as an institution does that was sent it.
    pub fn known_hosts(&self) -> PathBuf {
        let file = self.here().join(".known-hosts");
        if !file.exists() {
            let key = public_key(&self.directory().join("keys/ssh_host_ed25519_key"));
            // In place whole: several clients may begin at once.
            let mut new = tempfile::NamedTempFile::new_in(self.here()).unwrap();
            writeln!(new, "[{}]:{} {key}", self.ssh().ip(), self.ssh().port()).unwrap();
            new.persist(&file).unwrap();
        }
        file
    }

    /// Puts content into a folder under this name, and must succeed.
    pub fn upload(&self, person: Person, path: &str, content: &[u8]) {
        let name = path.rsplit('/').next().unwrap();
        self.put_here(name, content);
        self.sftp(person, &format!("put \"{name}\" \"{path}\"")).must_succeed();
    }

    /// Collects a file over SFTP.
    pub fn download(&self, person: Person, path: &str) -> Vec<u8> {
        let _ = fs::remove_file(self.here().join("download"));
        self.sftp(person, &format!("get \"{path}\" download")).must_succeed();
        self.read_here("download")
    }
}

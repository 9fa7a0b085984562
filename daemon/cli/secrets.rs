//! Whether the files that a zone names and `config::load` does not open are what they should be: host key, signing key,
//! age identities, databases, programs of commands. What this user may not read is noted, not refused: another user's process
//! reads it.

use std::path::Path;

use age::x25519;
use memchr::memmem::find;
use ssh_key::{PrivateKey, PublicKey};

use crate::config::{Config, ConfigError, Database, Key, Loaded, Note, Postgres, PostgresTls};
use crate::host::evidence::read_text;
use crate::host::files::{CA_LIMIT, FileError, examine_file, read_public, read_secret};
use crate::policy::agreement::Job;
use crate::policy::backup::NeededKey;
use crate::policy::signature::ZoneKey;
use crate::work::command::fit::{Objection, objection};

const MAIN: &str = "dropzone.yaml";

/// Where systemd shows each service its own credentials, while that service runs.
const CREDENTIALS: &str = "/run/credentials";

/// What was found.
#[derive(Debug, Default)]
pub struct Examined {
    /// What is wrong.
    pub errors: Vec<ConfigError>,
    /// What could not be looked at.
    pub notes: Vec<Note>,
}

/// Looks at every file that the zone's processes will open.
pub fn examine(loaded: &Loaded) -> Examined {
    let machine = &loaded.config.machine;
    let mut examined = Examined::default();
    let root = Key::root();
    examined.secret(loaded, &root.at("host-key"), &machine.host_key, is_ed25519_key);
    examined.secret(loaded, &root.at("signing-key"), &machine.signing_key, is_ed25519_key);
    for (index, identity) in machine.identities.iter().enumerate() {
        examined.secret(loaded, &root.at("identities").item(index), identity, is_identity);
    }
    for (name, database) in &machine.databases {
        let key = root.at("databases").at(name.as_str());
        match database {
            Database::Sqlite(file) => {
                if let Err(error) = examine_file(file) {
                    examined.not_read(loaded, &key.at("sqlite"), file, &error);
                }
            }
            Database::Postgres(server) => examined.server(loaded, &key.at("postgres"), server),
        }
    }
    for (name, exchange) in &loaded.config.exchanges {
        for (index, flow) in exchange.flows.iter().enumerate() {
            let Job::Command(command) = &flow.job else { continue };
            if let Some(Objection { key, problem, remedy }) = objection(&loaded.config, command) {
                let key = root.at("flows").item(index).at("job").at("command").at(key);
                let file = format!("exchanges/{name}.yaml");
                examined.errors.push(ConfigError::about(file, &key, problem, remedy));
            }
        }
    }
    examined
}

/// The secrets that the zone names, each with its public half as far as this user can know it: from the secret itself, or
/// from the `.pub` beside it.
pub fn needed(config: &Config) -> Vec<NeededKey> {
    let machine = &config.machine;
    let shown = |path: &Path| path.strip_prefix(&config.directory).unwrap_or(path).display().to_string();
    let key = |key: &str, path: &Path| NeededKey {
        key: key.to_owned(),
        path: shown(path),
        public: fingerprint(path).or_else(|| ZoneKey::parse(&beside(path)?).map(|key| key.fingerprint())),
    };
    let identity = |path: &std::path::PathBuf| NeededKey {
        key: "identities".to_owned(),
        path: shown(path),
        public: recipients(path).or_else(|| beside(path).map(|text| text.trim().to_owned())),
    };
    let keys = [key("host-key", &machine.host_key), key("signing-key", &machine.signing_key)];
    let passwords = machine.databases.values().filter_map(|database| match database {
        Database::Sqlite(_) => None,
        Database::Postgres(server) => server.password.as_deref(),
    });
    let password = |path| NeededKey { key: "password".to_owned(), path: shown(path), public: None };
    let identities = machine.identities.iter().map(identity);
    keys.into_iter().chain(identities).chain(passwords.map(password)).collect()
}

/// The public half of the signing key, as far as this user can know it.
pub fn zone_key(path: &Path) -> Option<ZoneKey> {
    let of_secret =
        || Some(ZoneKey::new(PrivateKey::from_openssh(&*read_secret(path).ok()?).ok()?.public_key().clone()));
    of_secret().or_else(|| ZoneKey::parse(&beside(path)?))
}

/// The public half of the host key, as far as this user can know it.
pub fn host_key(path: &Path) -> Option<PublicKey> {
    let of_secret = || Some(PrivateKey::from_openssh(&*read_secret(path).ok()?).ok()?.public_key().clone());
    of_secret().or_else(|| PublicKey::from_openssh(beside(path)?.trim()).ok())
}

/// What senders encrypt to, as far as this user can know it.
pub fn recipients_of(identities: &[std::path::PathBuf]) -> Vec<String> {
    let of_file = |path: &std::path::PathBuf| recipients(path).or_else(|| beside(path));
    let texts: Vec<String> = identities.iter().filter_map(of_file).collect();
    let words = texts.iter().flat_map(|text| text.split([',', '\n']).map(str::trim));
    words.filter(|word| word.parse::<x25519::Recipient>().is_ok()).map(str::to_owned).collect()
}

fn fingerprint(path: &Path) -> Option<String> {
    let key = PrivateKey::from_openssh(&*read_secret(path).ok()?).ok()?;
    Some(key.fingerprint(ssh_key::HashAlg::Sha256).to_string())
}

fn recipients(path: &Path) -> Option<String> {
    let content = read_secret(path).ok()?;
    let lines = std::str::from_utf8(&content).ok()?.lines().map(str::trim);
    let public = |line: &str| Some(line.parse::<x25519::Identity>().ok()?.to_public().to_string());
    let all: Vec<String> = lines.filter_map(public).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn beside(path: &Path) -> Option<String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    read_text(Path::new(&name)).ok()
}

impl Examined {
    fn secret(
        &mut self,
        loaded: &Loaded,
        key: &Key,
        path: &Path,
        judge: fn(&[u8]) -> Result<(), &'static str>,
    ) {
        match read_secret(path) {
            Ok(content) => {
                if let Err(problem) = judge(&content) {
                    let problem = format!("the file {} {problem}", path.display());
                    let remedy = "name the right file, or take one that `dropzone init` makes";
                    self.errors.push(loaded.error_in_main(key, problem, remedy));
                }
            }
            Err(_) if path.starts_with(CREDENTIALS) => self.not_examined(
                key,
                path,
                "because systemd shows it to its own service only, while that runs",
            ),
            Err(error) => self.not_read(loaded, key, path, &error),
        }
    }

    /// What is here of it. Whether it answers is seen when a job runs.
    fn server(&mut self, loaded: &Loaded, key: &Key, server: &Postgres) {
        if let Some(file) = &server.password {
            self.secret(loaded, &key.at("password"), file, is_password);
        }
        let PostgresTls::Require { ca: file } = &server.tls else { return };
        match read_public(file, CA_LIMIT) {
            Ok(text) if find(&text, b"-----BEGIN CERTIFICATE-----").is_some() => {}
            Ok(_) => {
                let problem = format!("the file {} holds no certificate in PEM", file.display());
                let remedy = "put the certificate of the authority that signed the server's there";
                self.errors.push(loaded.error_in_main(&key.at("ca"), problem, remedy));
            }
            Err(error) => self.not_read(loaded, &key.at("ca"), file, &error),
        }
    }

    fn not_read(&mut self, loaded: &Loaded, key: &Key, path: &Path, error: &FileError) {
        if error.is_denied() {
            self.not_examined(key, path, "because this user cannot read it");
        } else {
            let problem = format!("the file {} {error}", path.display());
            self.errors.push(loaded.error_in_main(key, problem, error.remedy()));
        }
    }

    fn not_examined(&mut self, key: &Key, path: &Path, why: &str) {
        let text = format!("{key}: {} was not examined, {why}", path.display());
        self.notes.push(Note { file: MAIN.to_owned(), text });
    }
}

fn is_password(content: &[u8]) -> Result<(), &'static str> {
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    if line.is_empty() || line.contains(&b'\n') { Err("is not one line with the password") } else { Ok(()) }
}

fn is_ed25519_key(content: &[u8]) -> Result<(), &'static str> {
    let key = PrivateKey::from_openssh(content).map_err(|_| "is not an OpenSSH private key")?;
    if key.is_encrypted() {
        return Err("has a passphrase, which nobody is there to type");
    }
    if key.key_data().ed25519().is_none() {
        return Err("is not an ed25519 key");
    }
    Ok(())
}

fn is_identity(content: &[u8]) -> Result<(), &'static str> {
    let text = std::str::from_utf8(content).map_err(|_| "is not an age identity file")?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().ok_or("holds no age identity")?;
    if std::iter::once(first).chain(lines).all(|line| line.parse::<x25519::Identity>().is_ok()) {
        Ok(())
    } else {
        Err("holds something that is not an X25519 age identity")
    }
}

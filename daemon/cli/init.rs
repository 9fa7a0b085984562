//! `dropzone init`: makes a zone that works at once, with keys of its own and a sample to change. It never makes keys for
//! people or institutions: a key that two have seen proves nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use age::secrecy::ExposeSecret;
use anyhow::Context;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{HashAlg, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::exit::EX_CANTCREAT;
use crate::host::files::{self, FileError, Folder};

/// The files of a new zone, with five published agreements: path below the zone's folder, and text.
pub const SAMPLE: [(&str, &str); 19] = [
    ("dropzone.yaml", include_str!("../../config/dropzone.yaml")),
    ("institutions/agii.yaml", include_str!("../../config/institutions/agii.yaml")),
    ("institutions/amal.yaml", include_str!("../../config/institutions/amal.yaml")),
    ("institutions/atlas.yaml", include_str!("../../config/institutions/atlas.yaml")),
    ("institutions/lommel.yaml", include_str!("../../config/institutions/lommel.yaml")),
    ("institutions/mechelen.yaml", include_str!("../../config/institutions/mechelen.yaml")),
    ("institutions/vdab.yaml", include_str!("../../config/institutions/vdab.yaml")),
    ("institutions/vsb.yaml", include_str!("../../config/institutions/vsb.yaml")),
    ("institutions/zorgkas-cm.yaml", include_str!("../../config/institutions/zorgkas-cm.yaml")),
    ("institutions/zorgkas-helan.yaml", include_str!("../../config/institutions/zorgkas-helan.yaml")),
    ("institutions/zorgkas-lm.yaml", include_str!("../../config/institutions/zorgkas-lm.yaml")),
    ("institutions/zorgkas-neutraal.yaml", include_str!("../../config/institutions/zorgkas-neutraal.yaml")),
    ("institutions/zorgkas-solidaris.yaml", include_str!("../../config/institutions/zorgkas-solidaris.yaml")),
    ("institutions/zorgkas-vlaams.yaml", include_str!("../../config/institutions/zorgkas-vlaams.yaml")),
    ("exchanges/client-feedback.yaml", include_str!("../../config/exchanges/client-feedback.yaml")),
    ("exchanges/lists-lommel.yaml", include_str!("../../config/exchanges/lists-lommel.yaml")),
    ("exchanges/pillar-3.yaml", include_str!("../../config/exchanges/pillar-3.yaml")),
    ("exchanges/pilot-mechelen.yaml", include_str!("../../config/exchanges/pilot-mechelen.yaml")),
    ("exchanges/social-protection.yaml", include_str!("../../config/exchanges/social-protection.yaml")),
];

/// The host key, below the zone's folder.
pub const HOST_KEY: &str = "keys/ssh_host_ed25519_key";
/// The age identity, below the zone's folder.
pub const IDENTITY: &str = "keys/zone.agekey";
/// The key for signing receipts and log heads, below the zone's folder.
pub const SIGNING_KEY: &str = "keys/signing_ed25519";

/// The folders of a zone, and their modes. Two users in one group share spool, log and sockets; in the log and at the top of the
/// spool (sticky) each removes only what is its own.
const FOLDERS: [(&str, u32); 6] = [
    ("institutions", 0o750),
    ("exchanges", 0o750),
    ("keys", 0o700),
    ("spool", 0o3770),
    ("log", 0o3770),
    ("run", 0o2770),
];

/// The public halves of a zone's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneKeys {
    /// The SSH host key, as a line of a `.pub` file.
    pub host_key: String,
    /// Its fingerprint, which clients show at their first connection.
    pub host_fingerprint: String,
    /// The signing key, as a line of a `.pub` file.
    pub signing_key: String,
    /// The age recipient that senders encrypt to.
    pub recipient: String,
}

/// Makes a sample zone and says what to do next.
pub fn run(directory: &Path) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if let Some(problem) = occupied(directory)? {
        writeln!(std::io::stderr().lock(), "dropzone: {problem}")?;
        return Ok(ExitCode::from(EX_CANTCREAT));
    }
    let keys = make_zone(directory, &SAMPLE)?;
    write_sample_register(&directory.join("register.db"))?;
    tell(&mut out, directory, &keys)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a zone of these files (path below `directory`, and text), with new keys and the folders it needs. `directory` is
/// made too, or is empty.
pub fn make_zone(directory: &Path, texts: &[(&str, &str)]) -> anyhow::Result<ZoneKeys> {
    if files::exists(directory) {
        files::set_mode(directory, 0o750).with_context(|| shown(directory))?;
    } else {
        files::make_folder(directory, 0o750).with_context(|| shown(directory))?;
    }
    for (name, mode) in FOLDERS {
        let path = directory.join(name);
        files::make_folder(&path, mode).with_context(|| shown(&path))?;
    }
    let keys = write_keys(directory)?;
    for (name, text) in texts {
        let path = directory.join(name);
        files::write_new(&path, text.as_bytes(), 0o640).with_context(|| shown(&path))?;
    }
    Ok(keys)
}

/// Makes a zone's keys in the `keys` folder of `directory`.
pub fn write_keys(directory: &Path) -> anyhow::Result<ZoneKeys> {
    let host = write_ssh_key(&directory.join(HOST_KEY), "dropzone host key")?;
    let signing = write_ssh_key(&directory.join(SIGNING_KEY), "dropzone signing key")?;
    let recipient = write_identity(&directory.join(IDENTITY))?;
    Ok(ZoneKeys {
        host_key: host.public_key().to_openssh()?,
        host_fingerprint: host.fingerprint(HashAlg::Sha256).to_string(),
        signing_key: signing.public_key().to_openssh()?,
        recipient,
    })
}

/// Makes an ed25519 key at `path` (0600), with the public half beside it (`.pub`, 0644).
pub fn write_ssh_key(path: &Path, comment: &str) -> anyhow::Result<PrivateKey> {
    let key = ssh_key(comment)?;
    let text = key.to_openssh(LineEnding::LF)?;
    files::write_new(path, text.as_bytes(), 0o600).with_context(|| shown(path))?;
    let public = beside(path);
    let line = format!("{}\n", key.public_key().to_openssh()?);
    files::write_new(&public, line.as_bytes(), 0o644).with_context(|| shown(&public))?;
    Ok(key)
}

/// A new ed25519 key, from the operating system's randomness.
pub fn ssh_key(comment: &str) -> anyhow::Result<PrivateKey> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    let filled = rustix::rand::getrandom(seed.as_mut_slice(), rustix::rand::GetRandomFlags::empty())?;
    anyhow::ensure!(filled == seed.len(), "the operating system gave too little randomness; try again");
    Ok(PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&seed)), comment)?)
}

/// Makes an age identity at `path` (0600) as `age-keygen` writes it, with the recipient beside it (`.pub`, 0644). Returns
/// the recipient.
pub fn write_identity(path: &Path) -> anyhow::Result<String> {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let text = Zeroizing::new(format!("# public key: {recipient}\n{}\n", secret.expose_secret()));
    files::write_new(path, text.as_bytes(), 0o600).with_context(|| shown(path))?;
    let public = beside(path);
    files::write_new(&public, format!("{recipient}\n").as_bytes(), 0o644).with_context(|| shown(&public))?;
    Ok(recipient)
}

/// Why nothing is made there, if so.
pub(super) fn occupied(directory: &Path) -> Result<Option<String>, FileError> {
    if !files::exists(directory) {
        return Ok(None);
    }
    let names = match Folder::open(directory).and_then(|folder| folder.names(1)) {
        Err(FileError::TooMany { .. }) => 2,
        Err(error @ FileError::WrongKind { .. }) => {
            return Ok(Some(format!("{} {error}; name another folder", directory.display())));
        }
        other => other?.len(),
    };
    let refusal = format!(
        "{} is not empty; name a new folder, or empty it if nothing in it is needed",
        directory.display()
    );
    Ok((names > 0).then_some(refusal))
}

/// A few made-up jobseekers, so that the sample's query has something to join with.
pub(super) fn write_sample_register(path: &Path) -> anyhow::Result<()> {
    files::write_new(path, b"", 0o640)?;
    let register = rusqlite::Connection::open(path)?;
    register.execute_batch(
        "CREATE TABLE jobseekers (insz TEXT PRIMARY KEY, eerste_inschrijving TEXT, laatste_inschrijving TEXT, categorie TEXT,
           status_dienstverlening TEXT, acties TEXT, uitstroom_naar_werk TEXT) STRICT;
         INSERT INTO jobseekers VALUES
           ('85073003328', '2021-02-01', '2024-02-01', 'werkzoekend met uitkering', 'begeleiding', 'solliciteren', 'nee'),
           ('90010100123', '2025-09-15', '2025-09-15', 'vrij ingeschreven', 'inschatting', 'oriëntatie', 'nee'),
           ('99123199742', NULL, NULL, NULL, NULL, NULL, NULL);",
    )?;
    Ok(())
}

fn tell(out: &mut impl Write, directory: &Path, keys: &ZoneKeys) -> std::io::Result<()> {
    let zone = directory.display();
    writeln!(out, "A drop zone was made in {zone}:")?;
    writeln!(out, "  dropzone.yaml, institutions/, exchanges/   the configuration, with a sample to change")?;
    writeln!(out, "  register.db                                a made-up database for the sample's query")?;
    writeln!(out, "  {HOST_KEY}                  SSH host key, {}", keys.host_fingerprint)?;
    writeln!(out, "  {IDENTITY}                           age identity; senders encrypt to")?;
    writeln!(out, "                                             {}", keys.recipient)?;
    writeln!(out, "  {SIGNING_KEY}                       for signing receipts and log heads")?;
    writeln!(out, "  spool/, log/                               the files in transit; the access log")?;
    writeln!(out, "  run/                                       where the two processes reach each other")?;
    writeln!(out, "\nAdd a person's public key to {zone}/institutions/agii.yaml. Then:")?;
    writeln!(out, "  dropzone --config {zone} check")?;
    writeln!(out, "  dropzone --config {zone} run")?;
    writeln!(out, "  dropzone --config {zone} status")
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_new_zone_is_sound_and_its_secrets_are_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let zone = parent.path().join("zone");
        let keys = make_zone(&zone, &SAMPLE).unwrap();
        write_sample_register(&zone.join("register.db")).unwrap();
        let loaded = crate::config::load_with_notes(&zone).unwrap();
        let examined = crate::cli::secrets::examine(&loaded);
        assert_eq!((examined.errors, examined.notes), (vec![], vec![]));
        for (name, mode) in [
            ("", 0o750),
            ("keys", 0o700),
            (HOST_KEY, 0o600),
            (SIGNING_KEY, 0o600),
            (IDENTITY, 0o600),
            ("keys/ssh_host_ed25519_key.pub", 0o644),
            ("keys/zone.agekey.pub", 0o644),
            ("dropzone.yaml", 0o640),
            ("institutions/agii.yaml", 0o640),
            ("spool", 0o3770),
            ("log", 0o3770),
            ("run", 0o2770),
        ] {
            assert_eq!(zone.join(name).metadata().unwrap().mode() & 0o7777, mode, "{name}");
        }
        let other = make_zone(&parent.path().join("other"), &SAMPLE).unwrap();
        assert_ne!(keys.host_key, other.host_key);
        assert_ne!(keys.recipient, other.recipient);
        assert_ne!(keys.host_key, keys.signing_key);
    }

    #[test]
    fn a_folder_with_anything_in_it_is_left_alone() {
        let zone = tempfile::tempdir().unwrap();
        assert_eq!(occupied(zone.path()).unwrap(), None);
        files::write_new(&zone.path().join(".hidden"), b"", 0o600).unwrap();
        assert!(occupied(zone.path()).unwrap().is_some());
        assert!(occupied(&zone.path().join(".hidden")).unwrap().is_some());
    }
}

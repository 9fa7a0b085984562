//! What a signature of this zone means: SSHSIG (OpenSSH's PROTOCOL.sshsig), made with one ed25519 key in namespaces of its own, so
//! that stock `ssh-keygen -Y verify` checks it. Making one is `work`'s business, which alone holds the private key.

use std::fmt;

use ssh_key::{HashAlg, PublicKey, SshSig};

/// What a signature is for. One made for another purpose does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Under a receipt.
    Receipt,
    /// Under a head of the access log.
    LogHead,
    /// Under the manifest of a backup.
    Backup,
    /// Under a report.
    Report,
}

impl Namespace {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Receipt, Self::LogHead, Self::Backup, Self::Report];

    /// As `ssh-keygen -n` wants it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receipt => "receipt@dropzone",
            Self::LogHead => "log-head@dropzone",
            Self::Backup => "backup@dropzone",
            Self::Report => "report@dropzone",
        }
    }
}

/// Who signs, as `ssh-keygen -I` wants it.
pub const SIGNER: &str = "dropzone-zone";

/// The ending of a file that holds the signature of the file beside it.
pub const ENDING: &str = ".sig";

/// Why a signature is worth nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// It cannot be read as a signature.
    NotASignature,
    /// Another key made it.
    OtherKey {
        /// That key's fingerprint.
        fingerprint: String,
    },
    /// It was made for another purpose.
    OtherNamespace,
    /// It belongs to another text.
    OtherText,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASignature => f.write_str("is no signature in SSHSIG form"),
            Self::OtherKey { fingerprint } => write!(f, "was made with another key, {fingerprint}"),
            Self::OtherNamespace => f.write_str("was made for another purpose"),
            Self::OtherText => f.write_str("does not fit the text: one of the two was altered"),
        }
    }
}

/// The public half of a zone's signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneKey(PublicKey);

impl ZoneKey {
    /// Takes what signs.
    pub fn new(mut key: PublicKey) -> Self {
        key.set_comment("");
        Self(key)
    }

    /// Reads the first key of a `.pub` or an `allowed_signers` file.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let key = |line: &str| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "ssh-ed25519");
            let (algorithm, key) = (words.next()?, words.next()?);
            PublicKey::from_openssh(&format!("{algorithm} {key}")).ok()
        };
        lines.into_iter().find_map(key).map(Self)
    }

    /// How people compare it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The file that `ssh-keygen -Y verify -f` wants; see "ALLOWED SIGNERS" in ssh-keygen(1).
    pub fn allowed_signers(&self) -> String {
        let namespaces = Namespace::ALL.map(Namespace::as_str).join(",");
        let key = self.0.to_openssh().unwrap_or_default();
        format!("{SIGNER} namespaces=\"{namespaces}\" {key}\n")
    }

    /// Whether this key made the signature (PEM) for this purpose and this text.
    pub fn verify(&self, purpose: Namespace, text: &[u8], signature: &[u8]) -> Result<(), Distrust> {
        let signature = SshSig::from_pem(signature).map_err(|_| Distrust::NotASignature)?;
        if signature.public_key() != self.0.key_data() {
            let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256).to_string();
            return Err(Distrust::OtherKey { fingerprint });
        }
        if signature.namespace() != purpose.as_str() {
            return Err(Distrust::OtherNamespace);
        }
        self.0.verify(purpose.as_str(), text, &signature).map_err(|_| Distrust::OtherText)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ssh_key::PrivateKey;
    use ssh_key::private::{Ed25519Keypair, KeypairData};

    use super::*;

    pub(crate) fn private_key(seed: u8) -> PrivateKey {
        PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[seed; 32])), "a comment").unwrap()
    }

    pub(crate) fn signed(key: &PrivateKey, purpose: Namespace, text: &[u8]) -> String {
        let signature = key.sign(purpose.as_str(), HashAlg::Sha512, text).unwrap();
        signature.to_pem(ssh_key::LineEnding::LF).unwrap()
    }

    #[test]
    fn a_signature_counts_for_its_key_its_purpose_and_its_text_only() {
        let key = private_key(1);
        let zone = ZoneKey::new(key.public_key().clone());
        let signature = signed(&key, Namespace::Receipt, b"text");
        let verify = |purpose, text: &[u8], signature: &str| zone.verify(purpose, text, signature.as_bytes());
        assert_eq!(verify(Namespace::Receipt, b"text", &signature), Ok(()));
        assert_eq!(verify(Namespace::Receipt, b"Text", &signature), Err(Distrust::OtherText));
        assert_eq!(verify(Namespace::LogHead, b"text", &signature), Err(Distrust::OtherNamespace));
        assert_eq!(verify(Namespace::Receipt, b"text", "none"), Err(Distrust::NotASignature));
        let foreign = signed(&private_key(2), Namespace::Receipt, b"text");
        let other = verify(Namespace::Receipt, b"text", &foreign);
        assert!(matches!(other, Err(Distrust::OtherKey { .. })), "{other:?}");
    }

    #[test]
    fn the_public_key_reads_back_from_all_it_is_published_as() {
        let zone = ZoneKey::new(private_key(1).public_key().clone());
        let line = private_key(1).public_key().to_openssh().unwrap();
        for text in [line.clone(), format!("# a word\n\n{line}\n"), zone.allowed_signers()] {
            assert_eq!(ZoneKey::parse(&text), Some(zone.clone()), "{text}");
        }
        for text in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----"] {
            assert_eq!(ZoneKey::parse(text), None, "{text}");
        }
    }
}

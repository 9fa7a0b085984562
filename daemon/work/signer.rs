//! Signs with the zone's key. Only this process reads that key; what a signature means is `policy::signature`'s.

use std::path::Path;

use ssh_key::{HashAlg, LineEnding, PrivateKey};

use crate::host::files;
use crate::policy::signature::{Namespace, ZoneKey};

/// The zone's signing key. Its memory is wiped when it is dropped.
pub struct Signer(PrivateKey);

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign: {0}")]
pub struct SignError(#[from] ssh_key::Error);

impl Signer {
    /// Reads the key (OpenSSH form, ed25519, no passphrase, mode 0600).
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = files::read_secret(path)
            .map_err(|error| anyhow::anyhow!("the signing key {shown} {error}; {}", error.remedy()))?;
        let key = PrivateKey::from_openssh(&*text).ok().filter(|key| key.key_data().ed25519().is_some());
        let key = key.ok_or_else(|| {
            anyhow::anyhow!(
                "the signing key {shown} is no ed25519 key in OpenSSH form without passphrase; `dropzone check` says more"
            )
        })?;
        Ok(Self(key))
    }

    /// The signature of a text, in the PEM form of ssh-keygen. The same text gives the same signature.
    pub fn sign(&self, purpose: Namespace, text: &[u8]) -> Result<String, SignError> {
        // SHA-512 is what ssh-keygen takes when nobody says otherwise.
        Ok(self.0.sign(purpose.as_str(), HashAlg::Sha512, text)?.to_pem(LineEnding::LF)?)
    }

    /// What verifies it.
    pub fn public(&self) -> ZoneKey {
        ZoneKey::new(self.0.public_key().clone())
    }
}

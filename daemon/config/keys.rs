//! Which public keys a person may log in with: no weak ones, no certificates, no options. Proving that a key is the peer's
//! is `serve::auth`'s business.

use ssh_key::public::{KeyData, RsaPublicKey};
use ssh_key::{HashAlg, PublicKey};

/// Fewest bits of an RSA modulus.
pub const RSA_BITS_MIN: usize = 3072;
/// Most bits of an RSA modulus: beyond that a peer makes us work.
const RSA_BITS_MAX: usize = 16_384;
/// Longest public key line, in bytes.
const LINE_MAX: usize = 8_192;

/// A public key fit for login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginKey {
    /// `SHA256:` and unpadded base64.
    pub fingerprint: String,
    /// As in `ssh-ed25519`.
    pub algorithm: String,
}

/// What is wrong with a key, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

const MAKE_ONE: &str = "have the person make one with `ssh-keygen -t ed25519`";
const PASTE: &str = "paste the one line of the person's .pub file";

/// Reads an OpenSSH public key line.
pub fn login_key(line: &str) -> Result<LoginKey, Refusal> {
    let line = line.trim();
    refuse_other_forms(line)?;
    let refused = |problem: &str, remedy| Refusal { problem: problem.to_owned(), remedy };
    let key = PublicKey::from_openssh(line)
        .map_err(|error| refused(&format!("is not an OpenSSH public key ({error})"), PASTE))?;
    match key.key_data() {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {}
        KeyData::Rsa(rsa) => refuse_weak_rsa(rsa)?,
        KeyData::Dsa(_) => return Err(refused("is a DSA key, which is too weak", MAKE_ONE)),
        _ => return Err(refused("is a key of a type that is not accepted", MAKE_ONE)),
    }
    Ok(LoginKey {
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        algorithm: key.algorithm().as_str().to_owned(),
    })
}

fn refuse_other_forms(line: &str) -> Result<(), Refusal> {
    let refused = |problem: &str, remedy| Err(Refusal { problem: problem.to_owned(), remedy });
    let first = line.split_whitespace().next().unwrap_or_default();
    if line.contains("PRIVATE KEY") || line.starts_with("PuTTY-User-Key-File") {
        return refused(
            "is a private key",
            "remove it from here, consider it known, and have the person make a new one; paste its .pub file",
        );
    }
    if line.contains("BEGIN SSH2 PUBLIC KEY") {
        return refused("is in the SSH2 format", "convert it with `ssh-keygen -i -f FILE`");
    }
    if line.is_empty() || line.len() > LINE_MAX || line.chars().any(char::is_control) {
        return refused("is not one line of an OpenSSH public key", PASTE);
    }
    if first.contains("-cert-v") {
        return refused("is a certificate, which outlives what this file says", PASTE);
    }
    let is_type = |word: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start));
    if !is_type(first) && line.split_whitespace().skip(1).any(is_type) {
        return refused(
            "has options before the key",
            "remove them: networks and dates have keys of their own, and nothing else can be done here anyway",
        );
    }
    Ok(())
}

fn refuse_weak_rsa(rsa: &RsaPublicKey) -> Result<(), Refusal> {
    // The library counts whole bytes; a modulus with leading zero bits would pass as longer than it is.
    let modulus = rsa.n().as_positive_bytes().unwrap_or_default();
    let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = (modulus.len() * 8).saturating_sub(zeros);
    let exponent = rsa.e().as_positive_bytes().unwrap_or_default();
    let odd_exponent = exponent.last().is_some_and(|byte| byte % 2 == 1) && exponent != [1];
    let problem = if bits < RSA_BITS_MIN {
        format!("is an RSA key of {bits} bits, fewer than {RSA_BITS_MIN}")
    } else if bits > RSA_BITS_MAX {
        format!("is an RSA key of {bits} bits, more than {RSA_BITS_MAX}")
    } else if !odd_exponent || modulus.last().is_some_and(|byte| byte % 2 == 0) {
        "is an RSA key that no honest program makes".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal { problem, remedy: MAKE_ONE })
}

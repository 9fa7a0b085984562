//! Which algorithms the SSH transport offers in each profile, and the settings of russh that go with them. Every list is
//! explicit: the library's defaults are no policy. Which profile is in force says the configuration.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac, server};

use crate::config::{Algorithms, Limits};

/// No finite-field groups (their cost before authentication is the peer's to choose), no NIST curves. The last two are no
/// methods but say what else is understood: RFC 8308, and the strict order of packets that stops Terrapin.
const KEX_COMPAT: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
const KEX_STRICT: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// GCM first: it runs fastest; CTR with encrypt-then-MAC is there for old clients. No ChaCha20 (not on BSI's list).
const CIPHERS_COMPAT: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::AES_256_CTR];
const CIPHERS_STRICT: &[cipher::Name] = &[cipher::AES_256_GCM];

/// Encrypt-then-MAC only. GCM does without, but clients choose one all the same and give up where the list is empty.
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// What user keys may sign with; SHA-1 is left out.
const SIGNATURES_COMPAT: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::SkEd25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];
const SIGNATURES_STRICT: &[Algorithm] = &[Algorithm::Ed25519];

fn signatures(profile: Algorithms) -> &'static [Algorithm] {
    match profile {
        Algorithms::Compat => SIGNATURES_COMPAT,
        Algorithms::Strict => SIGNATURES_STRICT,
    }
}

/// Whether a signature algorithm is one of a profile. How long an RSA key must be says `config`: a shorter one is nobody's.
pub fn may_sign(profile: Algorithms, algorithm: &Algorithm) -> bool {
    signatures(profile).contains(algorithm)
}

/// The lists of a profile, the server's first choice first; the client's order decides.
pub fn preferred(profile: Algorithms) -> Preferred {
    let (kex, cipher) = match profile {
        Algorithms::Compat => (KEX_COMPAT, CIPHERS_COMPAT),
        Algorithms::Strict => (KEX_STRICT, CIPHERS_STRICT),
    };
    Preferred {
        kex: Cow::Borrowed(kex),
        // For the host key, of which there is one, and for what user keys are told to sign with.
        key: Cow::Borrowed(signatures(profile)),
        cipher: Cow::Borrowed(cipher),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}

/// What a profile offers, by name, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Key exchange methods.
    pub key_exchanges: Vec<String>,
    /// Ciphers.
    pub ciphers: Vec<String>,
    /// Message authentication, where the cipher does not do that too.
    pub macs: Vec<String>,
    /// What people's keys may sign with.
    pub signatures: Vec<String>,
}

/// What a profile offers. Of the key exchange, those that are methods and no announcements of what else is understood.
pub fn offered(profile: Algorithms) -> Offered {
    fn names<T: AsRef<str>>(names: &[T]) -> impl Iterator<Item = &str> {
        names.iter().map(AsRef::as_ref)
    }
    let Preferred { kex, cipher, mac, key, .. } = preferred(profile);
    let is_method = |name: &&str| !name.starts_with("ext-info-") && !name.starts_with("kex-strict-");
    Offered {
        key_exchanges: names(&kex).filter(is_method).map(str::to_owned).collect(),
        ciphers: names(&cipher).map(str::to_owned).collect(),
        macs: names(&mac).map(str::to_owned).collect(),
        signatures: key.iter().map(ToString::to_string).collect(),
    }
}

/// russh's configuration. The window is large because a transfer over a long line is bound by it; packets are as large as
/// SFTP's.
pub fn server_config(host_key: PrivateKey, profile: Algorithms, limits: &Limits) -> server::Config {
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-dropzone")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // Every refusal takes the same time; the "none" probe that all clients send first costs nothing.
        auth_rejection_time: Duration::from_millis(200),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        limits: russh::Limits::new(limits.rekey_bytes, limits.rekey_bytes, limits.rekey_after),
        window_size: 8 << 20,
        maximum_packet_size: 256 << 10,
        channel_buffer_size: 1,
        event_buffer_size: 8,
        preferred: preferred(profile),
        max_auth_attempts: limits.auth_attempts,
        inactivity_timeout: Some(limits.idle),
        keepalive_interval: Some(limits.keepalive),
        keepalive_max: limits.keepalive_tries,
        nodelay: true,
        ..server::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_is_to_bound_is_what_the_limits_say() {
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let limits = Limits::default();
        let config = server_config(key, Algorithms::Compat, &limits);
        assert_eq!(config.keepalive_interval, Some(Duration::from_secs(30)));
        assert_eq!((config.keepalive_max, config.max_auth_attempts), (3, 6));
        assert_eq!(config.limits.rekey_time_limit, Duration::from_secs(3_600));
        assert_eq!((config.limits.rekey_read_limit, config.limits.rekey_write_limit), (1 << 30, 1 << 30));
        assert_eq!(config.inactivity_timeout, Some(Duration::from_secs(300)));
    }

    /// As LIMITS has it. A list is not just checked for what must not be in it: anything new is a decision.
    #[test]
    fn the_profiles_offer_what_was_decided_and_nothing_else() {
        let names = |profile| {
            let Preferred { kex, cipher, mac, compression, key, .. } = preferred(profile);
            let kex: Vec<&str> = kex.iter().map(AsRef::as_ref).collect();
            let cipher: Vec<&str> = cipher.iter().map(AsRef::as_ref).collect();
            let mac: Vec<&str> = mac.iter().map(AsRef::as_ref).collect();
            let compression: Vec<&str> = compression.iter().map(AsRef::as_ref).collect();
            let key: Vec<String> = key.iter().map(ToString::to_string).collect();
            [kex.join(" "), cipher.join(" "), mac.join(" "), compression.join(" "), key.join(" ")]
        };
        let macs = "hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com";
        assert_eq!(
            names(Algorithms::Compat),
            [
                "mlkem768x25519-sha256 curve25519-sha256 curve25519-sha256@libssh.org ext-info-s \
                 kex-strict-s-v00@openssh.com",
                "aes256-gcm@openssh.com aes128-gcm@openssh.com aes256-ctr",
                macs,
                "none",
                "ssh-ed25519 sk-ssh-ed25519@openssh.com ecdsa-sha2-nistp256 ecdsa-sha2-nistp384 \
                 ecdsa-sha2-nistp521 sk-ecdsa-sha2-nistp256@openssh.com rsa-sha2-512 rsa-sha2-256",
            ]
        );
        assert_eq!(offered(Algorithms::Strict).key_exchanges, ["mlkem768x25519-sha256"]);
        assert_eq!(offered(Algorithms::Compat).ciphers.join(" "), names(Algorithms::Compat)[1]);
        assert_eq!(
            names(Algorithms::Strict),
            [
                "mlkem768x25519-sha256 ext-info-s kex-strict-s-v00@openssh.com",
                "aes256-gcm@openssh.com",
                macs,
                "none",
                "ssh-ed25519",
            ]
        );
    }

    #[test]
    fn no_profile_takes_a_signature_with_sha_1() {
        for profile in [Algorithms::Compat, Algorithms::Strict] {
            assert!(!may_sign(profile, &Algorithm::Rsa { hash: None }));
            assert!(!may_sign(profile, &Algorithm::Dsa));
            assert!(may_sign(profile, &Algorithm::Ed25519));
        }
    }
}

//! Which algorithms the SSH transport offers, and the settings of russh that go with them. Every list is explicit: the
//! library's defaults are no policy.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac, server};

use crate::config::Limits;

/// No finite-field groups (their cost before authentication is the peer's to choose), no NIST curves.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// GCM first: it runs fastest; CTR with encrypt-then-MAC is there for old clients. No ChaCha20 (not on BSI's list).
const CIPHERS: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::AES_256_CTR];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// What user keys may sign with; SHA-1 is left out.
fn signatures() -> Vec<Algorithm> {
    vec![
        Algorithm::Ed25519,
        Algorithm::SkEd25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::SkEcdsaSha2NistP256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// Whether a signature algorithm is one of those.
pub fn may_sign(algorithm: &Algorithm) -> bool {
    signatures().contains(algorithm)
}

/// russh's configuration. The window is large because a transfer over a long line is bound by it; packets are as large as
/// SFTP's.
pub fn server_config(host_key: PrivateKey, limits: &Limits) -> server::Config {
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
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Owned(signatures()),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
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
        let config = server_config(key, &limits);
        assert_eq!(config.keepalive_interval, Some(Duration::from_secs(30)));
        assert_eq!((config.keepalive_max, config.max_auth_attempts), (3, 6));
        assert_eq!(config.limits.rekey_time_limit, Duration::from_secs(3_600));
        assert_eq!((config.limits.rekey_read_limit, config.limits.rekey_write_limit), (1 << 30, 1 << 30));
        assert_eq!(config.inactivity_timeout, Some(Duration::from_secs(300)));
    }
}

//! Which algorithms a connection may use, and that the log says which it used.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handler};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{Preferred, cipher, kex};
use serde_json::Value;

use crate::harness::programs::{public_key, run};
use crate::harness::{AN, Person, Zone};

const MLKEM: kex::Name = kex::MLKEM768X25519_SHA256;
const GCM: cipher::Name = cipher::AES_256_GCM;

pub struct Anyone;

impl Handler for Anyone {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// Whether a client that can do nothing else gets in.
async fn logs_in(zone: &Zone, kex: kex::Name, cipher: cipher::Name) -> bool {
    let preferred = Preferred { kex: vec![kex].into(), cipher: vec![cipher].into(), ..Preferred::DEFAULT };
    let config = Arc::new(client::Config { preferred, ..client::Config::default() });
    let key = load_secret_key(zone.key_of(AN), None).unwrap();
    let login = async {
        let mut connection = client::connect(config, zone.ssh(), Anyone).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        Ok::<_, russh::Error>(connection.authenticate_publickey(AN.user, key).await?.success())
    };
    match tokio::time::timeout(Duration::from_secs(30), login).await.expect("an answer") {
        Ok(success) => success,
        Err(error) => {
            assert!(matches!(error, russh::Error::NoCommonAlgo { .. }), "{error}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strict_profile_has_one_way_and_compat_has_the_ways_of_older_clients() {
    for (profile, is_strict) in [("strict", true), ("compat", false)] {
        let mut zone = Zone::lay_out();
        let main = zone.directory().join("dropzone.yaml");
        fs::write(&main, fs::read_to_string(&main).unwrap() + &format!("algorithms: {profile}\n")).unwrap();
        zone.start();
        assert!(logs_in(&zone, MLKEM, GCM).await, "{profile}");
        for (kex, cipher) in [
            (kex::CURVE25519, GCM),
            (kex::CURVE25519_PRE_RFC_8731, GCM),
            (MLKEM, cipher::AES_128_GCM),
            (MLKEM, cipher::AES_256_CTR),
        ] {
            assert_eq!(logs_in(&zone, kex, cipher).await, !is_strict, "{profile}: {kex:?} {cipher:?}");
        }
        for (kex, cipher) in [
            (kex::DH_G14_SHA256, GCM),
            (kex::ECDH_SHA2_NISTP256, GCM),
            (MLKEM, cipher::CHACHA20_POLY1305),
            (MLKEM, cipher::AES_192_CTR),
        ] {
            assert!(!logs_in(&zone, kex, cipher).await, "{profile}: {kex:?} {cipher:?}");
        }
        let logged = zone.logged(&[("event", "login"), ("outcome", "ok")]);
        assert_eq!(logged.len(), if is_strict { 1 } else { 5 });
        assert_eq!(logged[0]["kex"], "mlkem768x25519-sha256");
        assert_eq!(logged[0]["cipher"], "aes256-gcm@openssh.com");
    }
}

/// Adds a person of the agency with this key.
fn add(zone: &Zone, label: &str, key: &str) {
    let file = zone.directory().join("institutions/agency.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}  - {{label: {label}, keys: [\"{key}\"]}}\n")).unwrap();
}

#[test]
fn the_log_tells_kex_cipher_key_algorithm_and_client_of_each_session() {
    const KINDS: [(&str, &str, &str, &str); 5] = [
        ("p256", "ecdsa", "256", "ecdsa-sha2-nistp256"),
        ("p384", "ecdsa", "384", "ecdsa-sha2-nistp384"),
        ("p521", "ecdsa", "521", "ecdsa-sha2-nistp521"),
        ("rsa", "rsa", "3072", "rsa-sha2-512"),
        ("ed", "ed25519", "256", "ssh-ed25519"),
    ];
    let mut zone = Zone::lay_out();
    for (name, kind, bits, _) in KINDS {
        let file = zone.key_of(Person { user: "agency", key: name });
        run(Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", "", "-t", kind, "-b", bits, "-f"])
            .arg(&file))
        .must_succeed();
        add(&zone, name, &public_key(&file));
    }
    zone.start();
    let log_in = |key: &'static str, options: &[&str]| {
        let person = Person { user: "agency", key };
        zone.openssh(person, &[options, &["-s"]].concat(), &["sftp"])
    };
    let sessions = || zone.logged(&[("event", "login"), ("outcome", "ok")]);
    for (at, (key, _, _, algorithm)) in KINDS.into_iter().enumerate() {
        log_in(key, &["-oKexAlgorithms=curve25519-sha256", "-oCiphers=aes128-gcm@openssh.com"])
            .must_succeed();
        let logged = sessions();
        assert_eq!(logged.len(), at + 1);
        let line = &logged[at];
        assert_eq!(
            (&line["key-label"], &line["key-algorithm"]),
            (&key.into(), &algorithm.into()),
            "{line:#}"
        );
        assert_eq!(line["kex"], "curve25519-sha256");
        assert_eq!((&line["cipher"], &line["mac"]), (&"aes128-gcm@openssh.com".into(), &Value::Null));
        assert!(line["client"].as_str().unwrap().starts_with("SSH-2.0-OpenSSH_"), "{line:#}");
    }
    let etm = "hmac-sha2-512-etm@openssh.com";
    log_in(
        "rsa",
        &["-oCiphers=aes256-ctr", &format!("-oMACs={etm}"), "-oPubkeyAcceptedAlgorithms=rsa-sha2-256"],
    )
    .must_succeed();
    let line = sessions().pop().unwrap();
    let told = ["cipher", "mac", "key-algorithm"].map(|field| line[field].as_str().unwrap());
    assert_eq!(told, ["aes256-ctr", etm, "rsa-sha2-256"]);
    // SHA-1, for which the same key is used.
    log_in("rsa", &["-oPubkeyAcceptedAlgorithms=ssh-rsa"]).must_fail();
    log_in("ed", &["-oMACs=hmac-sha1,hmac-sha2-256", "-oCiphers=aes256-ctr"]).must_fail();
    assert_eq!(sessions().len(), KINDS.len() + 1);
}

/// A security key made of software: the signature is over the digests of application and message, with flags and counter
/// between them (PROTOCOL.u2f).
const SECURITY_KEYS: &str = r#"
import hashlib, struct
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

class SecurityKey(paramiko.PKey):
    def __init__(self, kind):
        self.kind = kind
        if kind == "sk-ssh-ed25519@openssh.com":
            self.secret = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
        else:
            self.secret = ec.derive_private_key(7, ec.SECP256R1())

    def get_name(self):
        return self.kind

    def asbytes(self):
        blob = paramiko.Message()
        blob.add_string(self.kind)
        public, encoding = self.secret.public_key(), serialization.Encoding
        if "ed25519" in self.kind:
            blob.add_string(public.public_bytes(encoding.Raw, serialization.PublicFormat.Raw))
        else:
            blob.add_string("nistp256")
            blob.add_string(public.public_bytes(encoding.X962, serialization.PublicFormat.UncompressedPoint))
        blob.add_string("ssh:")
        return blob.asbytes()

    def can_sign(self):
        return True

    def sign_ssh_data(self, data, algorithm=None):
        trailer = struct.pack(">BI", 1, 1)
        signed = hashlib.sha256(b"ssh:").digest() + trailer + hashlib.sha256(data).digest()
        if "ed25519" in self.kind:
            signature = self.secret.sign(signed)
        else:
            r, s = decode_dss_signature(self.secret.sign(signed, ec.ECDSA(hashes.SHA256())))
            both = paramiko.Message()
            both.add_mpint(r)
            both.add_mpint(s)
            signature = both.asbytes()
        message = paramiko.Message()
        message.add_string(self.kind)
        message.add_string(signature)
        message.add_bytes(trailer)
        return message

KINDS = ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"]

def line(kind):
    return kind + " " + SecurityKey(kind).get_base64()

def log_in(kind, spoil=False):
    key = SecurityKey(kind)
    if spoil:
        whole = key.sign_ssh_data
        key.sign_ssh_data = lambda data, algorithm=None: whole(data + b"x", algorithm)
    connection = paramiko.Transport(socket.create_connection((HOST, PORT), timeout=50))
    try:
        connection.connect(username=USER, pkey=key)
        return len(paramiko.SFTPClient.from_transport(connection).listdir("/"))
    except paramiko.SSHException as error:
        return type(error).__name__
    finally:
        connection.close()
"#;

#[test]
fn security_keys_log_in() {
    let mut zone = Zone::lay_out();
    let script = |what: &str| format!("{SECURITY_KEYS}\nprint(json.dumps([{what} for kind in KINDS]))");
    let Some(ran) = zone.python(AN, &script("line(kind)")) else { return };
    let lines: Vec<String> = serde_json::from_slice(&ran.must_succeed().stdout).unwrap();
    for (at, line) in lines.iter().enumerate() {
        add(&zone, &format!("token-{at}"), line);
    }
    zone.start();
    let told = |what: &str| -> Value {
        let ran = zone.python(AN, &script(what)).unwrap().must_succeed();
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    assert_eq!(told("log_in(kind)"), serde_json::json!([4, 4]));
    let refused = "AuthenticationException";
    assert_eq!(told("log_in(kind, spoil=True)"), serde_json::json!([refused, refused]));
    let logged = zone.logged(&[("event", "login"), ("outcome", "ok")]);
    let algorithms: Vec<&str> = logged.iter().map(|line| line["key-algorithm"].as_str().unwrap()).collect();
    assert_eq!(algorithms, ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"]);
}

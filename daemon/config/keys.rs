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
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    // Made for these tests; nobody holds the private halves.
    const ACCEPTED: [(&str, &str, &str); 7] = [
        (
            "ssh-ed25519",
            "SHA256:+QoT22LlHrKqP4FVYSUqi2sAtdh9QUwFUDYuHCS5qfw",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICjG7MNh+RlGR23en0xVV93TX2xIOsl1H8aNWNjAtMk7",
        ),
        (
            "ecdsa-sha2-nistp256",
            "SHA256:L0V20W+8o2xEvCjj7FAd4TK3h/tKCJPa9vpvYxpeZPM",
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFjNX0dQb1Phq0VHxhY9u9f+VUKdES8kcqwzY4lJJTNXBpRnlk9xL2vh9G4W/pm5lpaW6GlEMlsjMvkousGvv2o=",
        ),
        (
            "ecdsa-sha2-nistp384",
            "SHA256:2XN7/GPXdyjFaq27G+KkaWUw6HoiGow4Ul73bGeMOz8",
            "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBBkuCbFdL74jwKG43K1nwK194GEEx1n45/YoObwpevCbIpdKuruvblO4Wmgp+nJWPCjSJgp7enjLmMEPsiK4LfyGMR+hnyZIDJvzr4iIBCWa+bTDofU6n/fYlyTH+D6EfQ==",
        ),
        (
            "ecdsa-sha2-nistp521",
            "SHA256:a3HcaJaGxIX3vIFKcGtQGt7PDkna6zt1vVSUkO6RUZ8",
            "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAACeD6TnHa/Kj4mxc8PPu/JLj+nGc/wnM5WWAHvaGNFDABLEeLBPIWg3LhJQz01oTRt0NicosQDkHSRuSyxsUZP/QBk1Zi3sVpgRYgFB32qEgrsJ5EFDMp2gVUMtDb8+EGWZtf6p6gjhghgRGtyNoTrBB+wvSytD0LJaE3wTv+8t2rQuA==",
        ),
        (
            "ssh-rsa",
            "SHA256:wO0bUA5kIdnaJ7PMrr1gLgfP/pvNPYnFL5weHnuWW5k",
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDTW5AByqIAKCttdwEtHBjnFFPwBzI30aed6/d9bGHtHpp8u6zpHYyZ50F30535HA2s18gQg1TowP2HSJnKk9hSZb6R3tMIRzrZg2xVAWeOMJQBghLrohnljaPNqkZ/lkK52tn3rVCds5QccXlOjPPUEqbi0678xb34IWwNrjFfBOJrLB/ClZwUHiLN5SEpwKj9A5lOiHpQgoNMFb5QVNCgRjqkfVfsHodUMOImwQzshbLY4OPtVnRLvFbrsH2u1w/pNmnSs5mA5dLjGHN4wp+m8sBYRPAgJPKierxIRFosYvgyx8jcT6vYsWvNXUG3Q45RigRp5anJ2YI4PLHMIBSmfDrjP9YNLMcCiRtBNNz181siz7G8hZqI8pjyBdXZDFbxnz52rR745zf2y4/Z5a9vfofKduj9skhxB/aW3ZEp9X2MPrsYrbJCXxBzchjZF7lmOrCj/ZKrAZCymyem7AVwkTUk0fg+G+2j6eWmL7OOrRFM7z8O7qcuy3XInWyT/cc=",
        ),
        (
            "sk-ssh-ed25519@openssh.com",
            "SHA256:IPSLiyOWp1grLjS9jXVLVzm4wLVFTH6p8mpgezUo98A",
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICjG7MNh+RlGR23en0xVV93TX2xIOsl1H8aNWNjAtMk7AAAABHNzaDo=",
        ),
        (
            "sk-ecdsa-sha2-nistp256@openssh.com",
            "SHA256:7FU1OgVYvR5sN+bW9/kQvXqO+CE8kdJOM30WXilLk2M",
            "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBFjNX0dQb1Phq0VHxhY9u9f+VUKdES8kcqwzY4lJJTNXBpRnlk9xL2vh9G4W/pm5lpaW6GlEMlsjMvkousGvv2oAAAAEc3NoOg==",
        ),
    ];
    const RSA_2048: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCU6kj+RYzvZTis4NaXpTYBZ3FESypBctijJLfesg9tMUZElsLuMiywExhhGJtRxC0F5b1CMoyc0YZeFGWxgQ1kavZFL9CLWXjWUwekSCLbuLtjmlNSCUeNbz41jZkl3irMxf1I5D48VgQ2fOaMca+Fk5ptW/EfQk6dbvpeKpRDqQx11oYohEovMMUh6cXk6GE/iMruXI/jgruAMJhxAb6Tgp8IMgKKntb9O7MOivOvPuWBQ4DhTV5GyMEjfA2qSetSqlp+TvhwBtRICyRrXeyLCAng/HET4wmJ5P+3XwcLikD7mC2OH88OqlsKE2usu3dQjpYdDubzSGyoFC6t54Tn";
    const RSA_3065: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ==";
    const RSA_E1: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAABAQAAAYEAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB";
    const DSA: &str = "ssh-dss AAAAB3NzaC1kc3MAAACBAKm5OF+Ic7vkAkwDfv7B7xKWMT8GBpIpiZdq0NC26NZ05E2vrvIjHb8zeyoGy9Q2i309X6Ygj1P820DdCH5eeBf0mmYn4z0NC7seAF6SVoUVhReGW/u3J653cum5Q3nXOBZtSpTmNuEzMW28mj28qZfAT/ivAUoWtuFdw5w8WCKLAAAAFQCcrnFq69N3lDqyPKHVTfCXbITI+QAAAIBnpVi0Y8ctyjBzqnWcGXKLw02A455vXGiZ5Kk75OotcjOSpRUYIQOt1GYrSfiG+vkLmZ6BDvmjLeQfUt/EylCnlw51ekcZXVQMkqjjJyi+3PQeeFiBMJQOFpwzZo4M/UV3lzRQwq2FmyZYiQdjrIqgzmcYK5yIFGokt7nY8aO+vgAAAIAhxDeylXPaBGinGtZb2r6Mx8aFIAP5CGc1H++kL1bego3dZdfE78J4150t2be/Vx46eMJxwaCHZDt3QkAYNs+n2E6yOBRKzpuV99MQ0ZgpdVgTmudbDAhHju8f53VshAbQAUeJs+jq9SdgjDFcEPKjzIDSHx+uKAZTPQBkPSg1vQ==";
    const CERTIFICATE: &str = "ecdsa-sha2-nistp256-cert-v01@openssh.com AAAAKGVjZHNhLXNoYTItbmlzdHAyNTYtY2VydC12MDFAb3BlbnNzaC5jb20AAAAg46K6U1adwLnBQ/pvONQ6X416dHk5utUZBxq5HIFjjZoAAAAIbmlzdHAyNTYAAABBBFjNX0dQb1Phq0VHxhY9u9f+VUKdES8kcqwzY4lJJTNXBpRnlk9xL2vh9G4W/pm5lpaW6GlEMlsjMvkousGvv2oAAAAAAAAAAAAAAAEAAAACaWQAAAAFAAAAAXgAAAAAAAAAAP//////////AAAAAAAAAIIAAAAVcGVybWl0LVgxMS1mb3J3YXJkaW5nAAAAAAAAABdwZXJtaXQtYWdlbnQtZm9yd2FyZGluZwAAAAAAAAAWcGVybWl0LXBvcnQtZm9yd2FyZGluZwAAAAAAAAAKcGVybWl0LXB0eQAAAAAAAAAOcGVybWl0LXVzZXItcmMAAAAAAAAAAAAAADMAAAALc3NoLWVkMjU1MTkAAAAgKMbsw2H5GUZHbd6fTFVX3dNfbEg6yXUfxo1Y2MC0yTsAAABTAAAAC3NzaC1lZDI1NTE5AAAAQMGqV5bjIzeFTDdBSww0Y00y55Jg+BcF7kmndwvHJ3bKr8c4QkEBF5trZLFfBNSkwl7PgyOOJ8LEjA+F4JI2wAk=";

    #[test]
    fn strong_keys_are_known_by_the_fingerprint_that_ssh_keygen_shows() {
        for (algorithm, fingerprint, line) in ACCEPTED {
            let key = login_key(&format!("{line} an.peeters@example.org")).unwrap();
            assert_eq!((key.algorithm.as_str(), key.fingerprint.as_str()), (algorithm, fingerprint));
            assert_eq!(login_key(line).unwrap(), key, "the comment is optional");
        }
    }

    #[test]
    fn weak_keys_and_other_things_are_refused_and_never_repeated() {
        let ed25519 = ACCEPTED[0].2;
        let with = |before: &str| format!("{before} {ed25519}");
        for (line, problem) in [
            (RSA_2048.to_owned(), "2048 bits"),
            (RSA_3065.to_owned(), "3065 bits"),
            (RSA_E1.to_owned(), "no honest program"),
            (DSA.to_owned(), "DSA"),
            (CERTIFICATE.to_owned(), "certificate"),
            (with("command=\"/bin/sh\""), "options"),
            (with("restrict,from=\"10.0.0.1\""), "options"),
            (with("no-pty"), "options"),
            (format!("{ed25519}\n{ed25519}"), "one line"),
            (ed25519.replace("AAAAC3", "AAAAC4"), "not an OpenSSH"),
            (ed25519[..40].to_owned(), "not an OpenSSH"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn".to_owned(), "private key"),
            ("PuTTY-User-Key-File-3: ssh-ed25519".to_owned(), "private key"),
            ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA".to_owned(), "SSH2"),
            ("ssh-ed25519".to_owned(), "not an OpenSSH"),
            (String::new(), "one line"),
        ] {
            let refusal = login_key(&line).unwrap_err();
            assert!(refusal.problem.contains(problem), "{line}: {}", refusal.problem);
            assert!(!refusal.problem.contains("AAAA"));
        }
    }
}

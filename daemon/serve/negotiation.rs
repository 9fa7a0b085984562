//! Which algorithms a connection came to use, read from what the client sends in the clear: russh keeps its own result to
//! itself. RFC 4253 §7.1 makes the choice from both sides' lists alone, so the client's KEXINIT and ours say it all. Pure;
//! `tap` hands over the bytes. What is found here is for the record: nothing is decided by it.

use russh::{Preferred, kex};

/// Longest packet that is looked at: RFC 4253 §6.1 asks for 35,000 bytes.
const PACKET_MAX: usize = 64 << 10;
/// Longest identification line (RFC 4253 §4.2).
const LINE_MAX: usize = 255;
/// SSH_MSG_KEXINIT.
const KEXINIT: u8 = 20;
/// The message's number and its cookie.
const BEFORE_LISTS: usize = 17;

/// What a connection is secured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Key exchange method.
    pub kex: String,
    /// Cipher, in both directions.
    pub cipher: String,
    /// Message authentication; none where the cipher does that too.
    pub mac: Option<String>,
}

/// What has been understood so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The client's KEXINIT is not complete.
    More,
    /// It was, and this is what both can do.
    All(Negotiated),
    /// Nothing will come of it.
    Nothing,
}

/// Listens to the beginning of a client's byte stream.
#[derive(Debug, Default)]
pub struct Listener {
    has_identification: bool,
    held: Vec<u8>,
}

impl Listener {
    /// Takes the next bytes. `ours` are the lists that this side has sent.
    pub fn hear(&mut self, bytes: &[u8], ours: &Preferred) -> Heard {
        self.held.extend_from_slice(bytes);
        if !self.has_identification {
            match self.held.iter().position(|byte| *byte == b'\n') {
                Some(end) => drop(self.held.drain(..=end)),
                None if self.held.len() <= LINE_MAX => return Heard::More,
                None => return Heard::Nothing,
            }
            self.has_identification = true;
        }
        // Every turn takes a packet away, of at least five bytes.
        while let Some((length, rest)) = self.held.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if !(2..=PACKET_MAX).contains(&length) {
                return Heard::Nothing;
            }
            let Some(packet) = rest.get(..length) else { return Heard::More };
            if let Some(payload) = payload(packet).filter(|payload| payload.first() == Some(&KEXINIT)) {
                return agreed(payload, ours).map_or(Heard::Nothing, Heard::All);
            }
            // Before KEXINIT a client may send messages that mean nothing.
            self.held.drain(..length.saturating_add(4));
        }
        Heard::More
    }
}

/// A packet without its padding.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let (padding, rest) = packet.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// RFC 4253 §7.1: the first name of the client's list that is also in the server's. russh takes the cipher of the client's
/// way for both ways.
fn agreed(kexinit: &[u8], ours: &Preferred) -> Option<Negotiated> {
    let mut rest = kexinit.get(BEFORE_LISTS..)?;
    // Key exchange, host key, cipher out and in, MAC out.
    let mut lists = [""; 5];
    for list in &mut lists {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (names, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        (*list, rest) = (std::str::from_utf8(names).ok()?, behind);
    }
    let [kex, _, cipher, _, mac] = lists;
    let methods: Vec<&str> = ours.kex.iter().filter(|name| is_method(name)).map(AsRef::as_ref).collect();
    let cipher = first_common(cipher, ours.cipher.iter().map(AsRef::as_ref))?;
    let has_own_mac = cipher.contains("-gcm");
    let mac = first_common(mac, ours.mac.iter().map(AsRef::as_ref)).filter(|_| !has_own_mac);
    Some(Negotiated { kex: first_common(kex, methods.into_iter())?, cipher, mac })
}

/// Some names in the list of methods only say what else is understood.
fn is_method(name: &kex::Name) -> bool {
    ![kex::EXTENSION_SUPPORT_AS_SERVER, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER].contains(name)
}

/// Of our own names only, so that no peer's text gets into a record.
fn first_common<'a>(theirs: &str, ours: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    theirs.split(',').find_map(|name| ours.clone().find(|own| *own == name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Algorithms;
    use crate::serve::algorithms::preferred;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(payload.len() + 1 + 4).unwrap().to_be_bytes().to_vec();
        packet.push(4);
        packet.extend(payload);
        packet.extend([0; 4]);
        packet
    }

    fn kexinit(kex: &str, cipher: &str, mac: &str) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; 16]);
        for list in [kex, "ssh-ed25519", cipher, "none", mac, mac, "none", "none", "", ""] {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload.extend([0; 5]);
        packet(&payload)
    }

    fn heard(stream: &[u8], piece: usize) -> Heard {
        let (mut listener, ours) = (Listener::default(), preferred(Algorithms::Compat));
        for bytes in stream.chunks(piece) {
            match listener.hear(bytes, &ours) {
                Heard::More => {}
                end => return end,
            }
        }
        Heard::More
    }

    fn all(kex: &str, cipher: &str, mac: Option<&str>) -> Heard {
        Heard::All(Negotiated { kex: kex.into(), cipher: cipher.into(), mac: mac.map(str::to_owned) })
    }

    #[test]
    fn the_clients_order_decides_however_the_bytes_are_cut() {
        let etm = "hmac-sha2-512-etm@openssh.com";
        for (message, expected) in [
            (
                kexinit(
                    "sntrup,curve25519-sha256,mlkem768x25519-sha256",
                    "aes128-gcm@openssh.com,aes256-ctr",
                    etm,
                ),
                all("curve25519-sha256", "aes128-gcm@openssh.com", None),
            ),
            (
                kexinit("mlkem768x25519-sha256", "chacha20,aes256-ctr", &format!("hmac-sha1,{etm}")),
                all("mlkem768x25519-sha256", "aes256-ctr", Some(etm)),
            ),
            // What is no method is not chosen, though both say it.
            (
                kexinit("ext-info-s,kex-strict-s-v00@openssh.com,curve25519-sha256", "aes256-ctr", etm),
                all("curve25519-sha256", "aes256-ctr", Some(etm)),
            ),
            (kexinit("diffie-hellman-group1-sha1", "aes256-ctr", etm), Heard::Nothing),
        ] {
            let mut stream = b"SSH-2.0-client\r\n".to_vec();
            stream.extend(packet(&[2, 0, 0, 0, 0]));
            stream.extend(packet(&[4, KEXINIT]));
            stream.extend(message);
            for piece in [1, 2, 7, stream.len()] {
                assert_eq!(heard(&stream, piece), expected, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_no_ssh_ends_the_listening_within_bounds() {
        assert_eq!(heard(&[b'x'; 300], 50), Heard::Nothing);
        assert_eq!(heard(b"SSH-2.0-x\n\xff\xff\xff\xff", 5), Heard::Nothing);
        assert_eq!(heard(b"SSH-2.0-x\n\0\0\0\0\0\0\0\0", 5), Heard::Nothing);
        let cut = kexinit("curve25519-sha256", "aes256-ctr", "");
        let mut short = b"SSH-2.0-x\n".to_vec();
        short.extend(packet(cut.get(5..40).unwrap()));
        assert_eq!(heard(&short, 9), Heard::Nothing);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_hold_more_than_a_packet_and_a_piece(bytes in proptest::collection::vec(any::<u8>(), 0..2000), piece in 1_usize..300) {
            let (mut listener, ours) = (Listener::default(), preferred(Algorithms::Compat));
            let stream = [b"SSH-2.0-x\n".to_vec(), bytes].concat();
            for bytes in stream.chunks(piece) {
                if listener.hear(bytes, &ours) != Heard::More {
                    break;
                }
                prop_assert!(listener.held.len() <= PACKET_MAX + 4 + piece);
            }
        }
    }
}

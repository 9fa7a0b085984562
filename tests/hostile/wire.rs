//! An SSH client's transport (RFC 4253) that stops wherever it is told to and sends whatever it is given: in the clear
//! before the keys are exchanged, under aes256-gcm after. It trusts any host key, for it only ever meets its own zone.

use std::io::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use russh::keys::PrivateKey;
use russh::keys::signature::Signer;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::PATIENCE;
use crate::message::{
    CHANNEL_OPEN_CONFIRMATION, CHANNEL_SUCCESS, KEX_ECDH_INIT, KEX_ECDH_REPLY, KEXINIT, NEWKEYS,
    SERVICE_ACCEPT, SERVICE_REQUEST, USERAUTH_REQUEST, USERAUTH_SUCCESS, channel_request, data, fields,
    kexinit, mpint, number, open_channel, string,
};
use crate::sftp::{INIT, packet};

const VERSION: &str = "SSH-2.0-hostile";

/// A connection to the zone.
pub struct Wire {
    pub socket: TcpStream,
    sealing: Option<Gcm>,
    opening: Option<Gcm>,
    server_version: Vec<u8>,
    /// The hash of the first exchange (RFC 4253 §7.2), once there was one.
    id: Option<Vec<u8>>,
}

/// aes256-gcm@openssh.com in one direction (RFC 5647): the length is in the clear, the nonce counts.
struct Gcm {
    key: LessSafeKey,
    nonce: [u8; 12],
}

/// An address of this machine that nobody has connected from before.
pub fn new_source() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, a, b, c] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 64 + a, b, c.max(1))
}

/// A TCP connection from an address of this machine.
pub async fn dial(to: SocketAddr, from: Ipv4Addr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    let stream = timeout(PATIENCE, socket.connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Wire {
    /// A connection on which nothing was said yet, from an address of its own.
    pub async fn connect(to: SocketAddr) -> Result<Self> {
        Ok(Self::on(dial(to, new_source()).await?))
    }

    /// The same on a socket that is there.
    pub fn on(socket: TcpStream) -> Self {
        Self { socket, sealing: None, opening: None, server_version: Vec::new(), id: None }
    }

    /// One on which both have said their version.
    pub async fn greet(to: SocketAddr) -> Result<Self> {
        Self::connect(to).await?.greeted().await
    }

    /// One whose keys are exchanged.
    pub async fn encrypted(to: SocketAddr) -> Result<Self> {
        let mut wire = Self::greet(to).await?;
        wire.exchange_keys().await?;
        Ok(wire)
    }

    /// One on which the user authentication service has begun.
    pub async fn serviced(to: SocketAddr) -> Result<Self> {
        Self::connect(to).await?.with_service().await
    }

    /// The same on one that is there.
    pub async fn greeted(mut self) -> Result<Self> {
        self.raw(format!("{VERSION}\r\n").as_bytes()).await?;
        while self.server_version.last() != Some(&b'\n') {
            let byte = timeout(PATIENCE, self.socket.read_u8()).await??;
            self.server_version.push(byte);
        }
        self.server_version.truncate(self.server_version.len() - 2);
        Ok(self)
    }

    /// The user authentication service begins on a connection on which nothing was said yet.
    pub async fn with_service(self) -> Result<Self> {
        let mut wire = self.greeted().await?;
        wire.exchange_keys().await?;
        wire.send(&[vec![SERVICE_REQUEST], string("ssh-userauth")].concat()).await?;
        wire.expect(SERVICE_ACCEPT).await?;
        Ok(wire)
    }

    /// Logs in on a connection on which nothing was said yet.
    pub async fn logged_in(self, user: &str, key: &PrivateKey) -> Result<Self> {
        let mut wire = self.with_service().await?;
        let request = wire.signed_request(user, key);
        wire.send(&request).await?;
        wire.expect(USERAUTH_SUCCESS).await?;
        Ok(wire)
    }

    /// A channel with a session that has begun, as this client grants it a window and its largest packet: the server's number.
    pub async fn sftp(&mut self, window: u32, largest: u32) -> Result<u32> {
        self.another_sftp(7, window, largest).await
    }

    /// The same under another number of this client's.
    pub async fn another_sftp(&mut self, ours: u32, window: u32, largest: u32) -> Result<u32> {
        self.send(&open_channel("session", ours, window, largest)).await?;
        let channel = number(&self.expect(CHANNEL_OPEN_CONFIRMATION).await?, 5);
        self.send(&channel_request(channel, "subsystem", &string("sftp"))).await?;
        self.expect(CHANNEL_SUCCESS).await?;
        self.send(&data(channel, &packet(INIT, &3_u32.to_be_bytes()))).await?;
        Ok(channel)
    }

    /// The request that proves a key (RFC 4252 §7).
    pub fn signed_request(&self, user: &str, key: &PrivateKey) -> Vec<u8> {
        let request = offer(user, key, true);
        let signed = [string(self.id.as_ref().unwrap()), request.clone()].concat();
        let signature = key.try_sign(&signed).unwrap();
        [request, string([string("ssh-ed25519"), string(signature.as_bytes())].concat())].concat()
    }

    /// Bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(PATIENCE, self.socket.write_all(bytes)).await?
    }

    /// A message in a packet of its own.
    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        let packet = self.packet(message);
        self.raw(&packet).await
    }

    /// A packet (RFC 4253 §6), under the key if there is one.
    pub fn packet(&mut self, message: &[u8]) -> Vec<u8> {
        // Under the key the length is not encrypted and does not count for the block.
        let unpadded = message.len() + if self.sealing.is_some() { 1 } else { 5 };
        let padding = 20 - (unpadded + 4) % 16;
        let length = u32::try_from(1 + message.len() + padding).unwrap().to_be_bytes();
        let mut body = [&[u8::try_from(padding).unwrap()], message, &vec![0; padding]].concat();
        if let Some(gcm) = &mut self.sealing {
            let nonce = gcm.next();
            gcm.key.seal_in_place_append_tag(nonce, Aad::from(length), &mut body).unwrap();
        }
        [length.to_vec(), body].concat()
    }

    /// The next message.
    pub async fn receive(&mut self) -> Result<Vec<u8>> {
        timeout(PATIENCE, self.receive_whenever()).await?
    }

    async fn receive_whenever(&mut self) -> Result<Vec<u8>> {
        let length = self.socket.read_u32().await?;
        let tag = self.opening.as_ref().map_or(0, |_| 16);
        let mut body = vec![0; length as usize + tag];
        self.socket.read_exact(&mut body).await?;
        if let Some(gcm) = &mut self.opening {
            let nonce = gcm.next();
            let aad = Aad::from(length.to_be_bytes());
            let opened = gcm.key.open_in_place(nonce, aad, &mut body).map_err(|_| Error::other("tag"))?;
            let opened = opened.len();
            body.truncate(opened);
        }
        let end = body.len() - usize::from(body[0]);
        Ok(body[1..end].to_vec())
    }

    /// The next message of a type; what comes before it is passed over.
    pub async fn expect(&mut self, kind: u8) -> Result<Vec<u8>> {
        loop {
            let message = self.receive().await?;
            if message[0] == kind {
                return Ok(message);
            }
        }
    }

    /// All messages until the server ends the connection, and whether it has ended within the test's patience.
    pub async fn drain(&mut self) -> (Vec<Vec<u8>>, bool) {
        let mut messages = Vec::new();
        let ended = timeout(PATIENCE, async {
            while let Ok(message) = self.receive_whenever().await {
                messages.push(message);
            }
        });
        let ended = ended.await.is_ok();
        (messages, ended)
    }

    /// Says that no more will come, and leaves the other direction open.
    pub async fn end(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// The first exchange of keys, or another one (RFC 4253 §7-9, RFC 8731).
    pub async fn exchange_keys(&mut self) -> Result<()> {
        let ours = kexinit();
        self.send(&ours).await?;
        let theirs = self.expect(KEXINIT).await?;
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let public = private.compute_public_key().unwrap();
        self.send(&[vec![KEX_ECDH_INIT], string(&public)].concat()).await?;
        let reply = self.expect(KEX_ECDH_REPLY).await?;
        let reply = fields(&reply[1..]);
        let (host_key, their_public) = (&reply[0], &reply[1]);
        let peer = UnparsedPublicKey::new(&X25519, their_public);
        let secret = agree_ephemeral(private, peer, Error::other("agreement"), |secret| Ok(mpint(secret)))?;
        let hash = Sha256::new()
            .chain_update(string(VERSION))
            .chain_update(string(&self.server_version))
            .chain_update(string(&ours))
            .chain_update(string(&theirs))
            .chain_update(string(host_key))
            .chain_update(string(&public))
            .chain_update(string(their_public))
            .chain_update(&secret)
            .finalize()
            .to_vec();
        let id = self.id.get_or_insert_with(|| hash.clone()).clone();
        let derive =
            |letter: u8| Sha256::digest([&secret[..], &hash[..], &[letter], &id[..]].concat()).to_vec();
        let (sealing, opening) =
            (Gcm::new(&derive(b'C'), &derive(b'A')), Gcm::new(&derive(b'D'), &derive(b'B')));
        self.send(&[NEWKEYS]).await?;
        self.sealing = Some(sealing);
        self.expect(NEWKEYS).await?;
        self.opening = Some(opening);
        Ok(())
    }
}

impl Gcm {
    fn new(key: &[u8], nonce: &[u8]) -> Self {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        Self { key, nonce: nonce[..12].try_into().unwrap() }
    }

    fn next(&mut self) -> Nonce {
        let now = self.nonce;
        let count = u64::from_be_bytes(now[4..].try_into().unwrap()).wrapping_add(1);
        self.nonce[4..].copy_from_slice(&count.to_be_bytes());
        Nonce::assume_unique_for_key(now)
    }
}

/// A request for a key, without the signature that would prove it (RFC 4252 §7).
pub fn offer(user: &str, key: &PrivateKey, signed: bool) -> Vec<u8> {
    let blob = key.public_key().to_bytes().unwrap();
    [
        vec![USERAUTH_REQUEST],
        string(user),
        string("ssh-connection"),
        string("publickey"),
        vec![u8::from(signed)],
        string("ssh-ed25519"),
        string(blob),
    ]
    .concat()
}

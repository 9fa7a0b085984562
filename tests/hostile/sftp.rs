//! SFTP (draft-ietf-secsh-filexfer-02) by hand, over the library's SSH: requests that no client sends, in orders that none
//! has.

use std::time::Duration;

use russh::{Channel, ChannelMsg, client};
use tokio::time::timeout;

pub use crate::message::string;

pub const INIT: u8 = 1;
pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const OPENDIR: u8 = 11;
pub const REMOVE: u8 = 13;
pub const REALPATH: u8 = 16;
pub const RENAME: u8 = 18;

/// Flags of OPEN: WRITE, CREAT and TRUNC.
pub const UPLOAD: u32 = 0x1a;
/// READ.
pub const DOWNLOAD: u32 = 1;

/// One channel's session, spoken by hand.
pub struct Sftp {
    channel: Channel<client::Msg>,
    id: u32,
    came: Vec<u8>,
}

/// An answer: its type, and what follows the request's id.
pub struct Answer(pub u8, pub Vec<u8>);

impl Answer {
    pub fn status(&self) -> u32 {
        assert_eq!(self.0, 101, "no status");
        u32::from_be_bytes(self.1[..4].try_into().unwrap())
    }

    pub fn handle(&self) -> String {
        assert_eq!(self.0, 102, "no handle: {}", String::from_utf8_lossy(&self.1));
        String::from_utf8(self.1[4..].to_vec()).unwrap()
    }
}

impl Sftp {
    pub fn on(channel: Channel<client::Msg>) -> Self {
        Self { channel, id: 0, came: Vec::new() }
    }

    /// Bytes of the channel as they are; whether they could be sent.
    pub async fn raw(&mut self, bytes: Vec<u8>) -> bool {
        timeout(crate::PATIENCE, self.channel.data_bytes(bytes)).await.is_ok_and(|sent| sent.is_ok())
    }

    pub async fn send(&mut self, kind: u8, body: &[u8]) {
        assert!(self.raw(packet(kind, body)).await, "the channel takes no more");
    }

    /// Sends a request and does not wait.
    pub async fn ask(&mut self, kind: u8, body: &[u8]) {
        self.id += 1;
        let body = [&self.id.to_be_bytes(), body].concat();
        self.send(kind, &body).await;
    }

    /// Sends a request and waits for its answer.
    pub async fn call(&mut self, kind: u8, body: &[u8]) -> Answer {
        self.ask(kind, body).await;
        let id = self.id.to_be_bytes();
        loop {
            let answer = self.next().await.unwrap_or_else(|| panic!("the channel ended"));
            if answer[1..5] == id && answer[0] != 2 {
                return Answer(answer[0], answer[5..].to_vec());
            }
        }
    }

    /// The next packet, from its type on; `None` where the channel ends instead.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.came.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*length) as usize;
                if self.came.len() >= end {
                    return Some(self.came.drain(..end).skip(4).collect());
                }
            }
            match timeout(Duration::from_secs(20), self.channel.wait()).await.unwrap() {
                Some(ChannelMsg::Data { data }) => self.came.extend_from_slice(&data),
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => return None,
                Some(_) => {}
            }
        }
    }

    /// Says that no more will come, and waits for the end of the channel.
    pub async fn end(&mut self) {
        self.channel.eof().await.unwrap();
        self.rest().await;
    }

    /// All packets until the channel ends.
    pub async fn rest(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while let Some(packet) = self.next().await {
            packets.push(packet);
        }
        packets
    }
}

/// A packet as it goes over the channel.
pub fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).unwrap().to_be_bytes();
    [&length[..], &[kind], body].concat()
}

/// A request with its id, as it goes over the channel.
pub fn request(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    packet(kind, &[&id.to_be_bytes(), body].concat())
}

pub fn open(path: &str, flags: u32) -> Vec<u8> {
    [string(path), flags.to_be_bytes().to_vec(), vec![0; 4]].concat()
}

pub fn write(handle: &str, offset: u64, bytes: &[u8]) -> Vec<u8> {
    [string(handle), offset.to_be_bytes().to_vec(), string(bytes)].concat()
}

pub fn read(handle: u32, offset: u64, length: u32) -> Vec<u8> {
    [string(format!("{handle:08x}")), offset.to_be_bytes().to_vec(), length.to_be_bytes().to_vec()].concat()
}

pub fn age_file() -> Vec<u8> {
    age::encrypt(&age::x25519::Identity::generate().to_public(), b"insz\n").unwrap()
}

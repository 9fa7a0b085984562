//! A zone that runs, and a connection to it that sends what it is told to.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle, Handler};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use tokio::time::{sleep, timeout};

pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const OPENDIR: u8 = 11;
pub const REALPATH: u8 = 16;
pub const RENAME: u8 = 18;

/// A zone whose `serve` runs until this is dropped.
pub struct Zone {
    folder: tempfile::TempDir,
    serve: Child,
    address: SocketAddr,
    key: PrivateKey,
}

pub struct Anyone;

impl Handler for Anyone {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Zone {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let zone = folder.path().join("zone");
        let program = env!("CARGO_BIN_EXE_dropzone");
        let made = Command::new(program).arg("init").arg(&zone).stdout(Stdio::null()).status().unwrap();
        assert!(made.success());
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let (ports, address) = free_addresses();
        let write = |name: &str, text: &str| fs::write(zone.join(name), text).unwrap();
        for name in ["institutions", "exchanges"] {
            for entry in fs::read_dir(zone.join(name)).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        write(
            "institutions/agency.yaml",
            &format!(
                "institution: agency\ntitle: Agency\npeople:\n  - {{label: an, keys: [\"{}\"]}}\nrecipients: [{}]\n",
                key.public_key().to_openssh().unwrap(),
                age::x25519::Identity::generate().to_public(),
            ),
        );
        write("exchanges/pillar-3.yaml", EXCHANGE);
        write("dropzone.yaml", &format!("node: test\nlisten: [\"{address}\"]\n{MACHINE}metrics: {ports}\n"));
        let serve = Command::new(program)
            .arg("--config")
            .arg(&zone)
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { folder, serve, address, key }
    }

    /// Logs in, with a window of so many bytes on each channel.
    pub async fn log_in(&self, window: u32) -> Handle<Anyone> {
        let config =
            Arc::new(client::Config { window_size: window, nodelay: true, ..client::Config::default() });
        for _ in 0..200 {
            let Ok(mut connection) = client::connect(Arc::clone(&config), self.address, Anyone).await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let key = PrivateKeyWithHashAlg::new(Arc::new(self.key.clone()), None);
            assert!(connection.authenticate_publickey("agency", key).await.unwrap().success());
            return connection;
        }
        panic!("serve does not answer")
    }

    /// A channel with a session that has begun.
    pub async fn sftp(&self, connection: &Handle<Anyone>) -> Result<Sftp, russh::Error> {
        let channel = connection.channel_open_session().await?;
        channel.request_subsystem(false, "sftp").await?;
        let mut sftp = Sftp { channel, id: 0, came: Vec::new() };
        sftp.send(1, &3_u32.to_be_bytes()).await;
        Ok(sftp)
    }

    pub fn put_result(&self, name: &str, bytes: &[u8]) {
        let outbox = self.folder.path().join("zone/spool/outbox/agency/pillar-3");
        fs::create_dir_all(&outbox).unwrap();
        fs::write(outbox.join(name), bytes).unwrap();
    }

    /// Descriptors that `serve` has open.
    pub fn open_files(&self) -> usize {
        let descriptors = PathBuf::from(format!("/proc/{}/fd", self.serve.id()));
        fs::read_dir(descriptors).unwrap().count()
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        let _ = self.serve.kill();
        let _ = self.serve.wait();
    }
}

/// One channel's session, spoken by hand.
pub struct Sftp {
    channel: Channel<client::Msg>,
    id: u32,
    came: Vec<u8>,
}

/// An answer: its type, and what follows the request's id.
pub struct Answer(u8, Vec<u8>);

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
    async fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = u32::try_from(body.len() + 1).unwrap().to_be_bytes().to_vec();
        packet.push(kind);
        packet.extend(body);
        self.channel.data_bytes(packet).await.unwrap();
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
        loop {
            if let Some(length) = self.came.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*length) as usize;
                if self.came.len() >= end {
                    let packet: Vec<u8> = self.came.drain(..end).skip(4).collect();
                    if packet[1..5] == self.id.to_be_bytes() && packet[0] != 2 {
                        return Answer(packet[0], packet[5..].to_vec());
                    }
                    continue;
                }
            }
            match timeout(Duration::from_secs(20), self.channel.wait()).await.unwrap() {
                Some(ChannelMsg::Data { data }) => self.came.extend_from_slice(&data),
                Some(_) => {}
                None => panic!("the channel ended"),
            }
        }
    }

    /// Says that no more requests will come, and leaves the channel open.
    pub async fn end(self) {
        self.channel.eof().await.unwrap();
        std::mem::forget(self.channel);
    }

    /// Closes the channel whatever waits in it.
    pub async fn close(self) {
        self.channel.close().await.unwrap();
    }
}

/// string (RFC 4251 §5)
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
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

fn free_addresses() -> (String, SocketAddr) {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [ssh, serve, work] = held.each_ref().map(|socket| socket.local_addr().unwrap());
    (format!("{{serve: \"{serve}\", work: \"{work}\"}}"), ssh)
}

const MACHINE: &str = "\
host-key: keys/ssh_host_ed25519_key
identities: [keys/zone.agekey]
signing-key: keys/signing_ed25519
spool: spool
log: {directory: log, keep-days: 31}
penalties: {exempt: [127.0.0.0/8]}
";

const EXCHANGE: &str = "\
exchange: pillar-3
agreement: {reference: r, title: t, legal-basis: l, from: 2023-03-03}
parties:
  agency: [drop, collect]
flows:
  - flow: pass
    from: [agency]
    accept: {names: [\"*.age\"], max-size: 100 MiB, armored: true}
    job: relay
    to: [agency]
";

//! A zone whose `serve` runs, and how it has to be found after an attack on it. Not the zone of `tests/harness`: it needs no
//! other program, and it is `serve` alone, whose memory and descriptors are counted.

use std::fs;
use std::io::Result;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle, Handler};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use tokio::time::{sleep, timeout};

use crate::PATIENCE;
use crate::sftp::{REALPATH, Sftp};
use crate::wire::{Wire, dial, new_source};

/// What `serve` may hold after an attack beyond what it held before: the allocator gives back what it pleases.
pub const SLACK: usize = 12 << 20;

/// A zone whose `serve` runs until this is dropped.
pub struct Zone {
    folder: tempfile::TempDir,
    serve: Child,
    pub address: SocketAddr,
    metrics: SocketAddr,
    pub key: PrivateKey,
}

pub struct Anyone;

impl Handler for Anyone {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &PublicKeyOrCertificate,
    ) -> std::result::Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Zone {
    /// With the limits as they are by default.
    pub fn start() -> Self {
        Self::with("")
    }

    /// With these lines more in `dropzone.yaml`.
    pub fn with(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let zone = folder.path().join("zone");
        let program = env!("CARGO_BIN_EXE_dropzone");
        let made = Command::new(program).arg("init").arg(&zone).stdout(Stdio::null()).status().unwrap();
        assert!(made.success());
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let [address, metrics, work] = free_addresses();
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
        write(
            "dropzone.yaml",
            &format!(
                "node: test\nlisten: [\"{address}\"]\nmetrics: {{serve: \"{metrics}\", work: \"{work}\"}}\n{MACHINE}{lines}\n"
            ),
        );
        let said = fs::File::create(zone.join("said")).unwrap();
        let serve = Command::new(program)
            .arg("--config")
            .arg(&zone)
            .arg("serve")
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let zone = Self { folder, serve, address, metrics, key };
        for _ in 0..400 {
            if zone.said().contains("listening for ssh") {
                return zone;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("serve does not begin: {}", zone.said());
    }

    /// Logs in from an address of its own, with a window of so many bytes on each channel.
    pub async fn log_in(&self, window: u32) -> Handle<Anyone> {
        for _ in 0..100 {
            if let Ok(connection) = self.try_log_in(window).await {
                return connection;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("serve lets nobody in: {}", self.said());
    }

    async fn try_log_in(&self, window: u32) -> std::result::Result<Handle<Anyone>, russh::Error> {
        let config =
            Arc::new(client::Config { window_size: window, nodelay: true, ..client::Config::default() });
        let stream = dial(self.address, new_source()).await?;
        let mut connection = client::connect_stream(config, stream, Anyone).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(self.key.clone()), None);
        match connection.authenticate_publickey("agency", key).await?.success() {
            true => Ok(connection),
            false => Err(russh::Error::NotAuthenticated),
        }
    }

    /// A channel with a session that has begun.
    pub async fn sftp(&self, connection: &Handle<Anyone>) -> std::result::Result<Sftp, russh::Error> {
        let mut sftp = self.silent_sftp(connection).await?;
        sftp.send(1, &3_u32.to_be_bytes()).await;
        Ok(sftp)
    }

    /// A channel on which not even INIT was sent.
    pub async fn silent_sftp(&self, connection: &Handle<Anyone>) -> std::result::Result<Sftp, russh::Error> {
        let channel = connection.channel_open_session().await?;
        channel.request_subsystem(false, "sftp").await?;
        Ok(Sftp::on(channel))
    }

    /// Somebody who is logged in, over a transport that sends anything.
    pub async fn wire(&self) -> Result<Wire> {
        Wire::connect(self.address).await?.logged_in("agency", &self.key).await
    }

    pub fn put_result(&self, name: &str, bytes: &[u8]) {
        let outbox = self.folder.path().join("zone/spool/outbox/agency/pillar-3");
        fs::create_dir_all(&outbox).unwrap();
        fs::write(outbox.join(name), bytes).unwrap();
    }

    /// The results that lie in `out`.
    pub fn results(&self) -> Vec<String> {
        self.files("outbox")
    }

    /// The names of all files under a folder of the spool.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().join("zone/spool").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.file_name().into_string().unwrap()),
                }
            }
        }
        found
    }

    /// Bytes that `serve` has read so far, from whatever it reads.
    pub fn bytes_read(&self) -> usize {
        let told = fs::read_to_string(format!("/proc/{}/io", self.serve.id())).unwrap();
        told.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    /// Descriptors that `serve` has open.
    pub fn open_files(&self) -> usize {
        let descriptors = PathBuf::from(format!("/proc/{}/fd", self.serve.id()));
        fs::read_dir(descriptors).unwrap().count()
    }

    /// Bytes of memory that `serve` holds.
    pub fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.serve.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// What it holds before an attack: somebody was there once, so that what is needed by everybody is counted.
    pub async fn at_rest(&self) -> usize {
        for _ in 0..3 {
            let connection = self.log_in(1 << 20).await;
            let mut sftp = self.sftp(&connection).await.unwrap();
            sftp.call(REALPATH, &crate::message::string("/")).await;
        }
        self.memory()
    }

    /// After an attack: nothing ended in a panic, a login works within a second, nothing was published, and memory is
    /// back.
    pub async fn is_unharmed(&self, at_rest: usize) {
        self.lets_in_within_a_second().await;
        assert!(!self.said().contains("panicked"), "{}", self.said());
        for folder in ["incoming", "active", "deferred", "hold", "done"] {
            assert_eq!(self.files(folder), Vec::<String>::new(), "{folder}");
        }
        self.holds_at_most(at_rest + SLACK).await;
    }

    /// And no upload was begun either.
    pub fn has_no_partials(&self) {
        assert_eq!(self.files("partial"), Vec::<String>::new());
    }

    /// One of five tries must do: a busy machine may be slow, a harmed server is slow each time.
    pub async fn lets_in_within_a_second(&self) {
        for _ in 0..5 {
            let entering = async {
                let connection = self.try_log_in(1 << 20).await?;
                let mut sftp = self.sftp(&connection).await?;
                sftp.call(REALPATH, &crate::message::string("/")).await;
                Ok::<_, russh::Error>(())
            };
            if let Ok(Ok(())) = timeout(Duration::from_secs(1), entering).await {
                return;
            }
        }
        panic!("no login within a second: {}", self.said());
    }

    /// Memory comes down to so much, as connections end.
    pub async fn holds_at_most(&self, most: usize) {
        for _ in 0..100 {
            if self.memory() <= most {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{} KiB are held, not {} KiB", self.memory() >> 10, most >> 10);
    }

    /// The value of a series of `serve`'s metrics.
    pub async fn metric(&self, series: &str) -> f64 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(self.metrics).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: zone\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut text)).await.unwrap().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    /// How often an event was recorded.
    pub fn recorded(&self, event: &str) -> usize {
        self.access_log().matches(&format!("\"event\":\"{event}\"")).count()
    }

    /// How much was recorded.
    pub fn logged_bytes(&self) -> usize {
        self.access_log().len()
    }

    fn access_log(&self) -> String {
        let log = fs::read_dir(self.folder.path().join("zone/log")).unwrap();
        log.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default()).collect()
    }

    /// What `serve` printed.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("zone/said")).unwrap()
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        let _ = self.serve.kill();
        let _ = self.serve.wait();
    }
}

fn free_addresses() -> [SocketAddr; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.each_ref().map(|socket| socket.local_addr().unwrap())
}

const MACHINE: &str = "\
host-key: keys/ssh_host_ed25519_key
identities: [keys/zone.agekey]
signing-key: keys/signing_ed25519
spool: spool
log: {directory: log, keep-days: 31}
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

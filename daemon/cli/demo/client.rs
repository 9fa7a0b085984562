//! An SFTP client inside the process, so that the demo needs no other program. It checks the host key as a partner would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use russh::client::{self, Handle, Handler};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh_sftp::client::SftpSession;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

/// Longer than any step of the demo takes.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// A logged-in session.
pub struct Client {
    sftp: SftpSession,
    // The connection lives as long as its handle.
    connection: Handle<KnownHost>,
}

struct KnownHost {
    fingerprint: String,
}

impl Handler for KnownHost {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                key.fingerprint(HashAlg::Sha256).to_string() == self.fingerprint
            }
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}

impl Client {
    /// Logs in; waits for a server that is starting.
    pub async fn log_in(
        address: SocketAddr,
        fingerprint: &str,
        user: &str,
        key: &PrivateKey,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        loop {
            match timeout(PATIENCE, Self::try_log_in(address, fingerprint, user, key)).await? {
                Ok(Some(client)) => return Ok(client),
                Ok(None) => anyhow::bail!("the server refused the key of {user}"),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Whether the server, which runs, refuses this key.
    pub async fn is_turned_away(
        address: SocketAddr,
        fingerprint: &str,
        user: &str,
        key: &PrivateKey,
    ) -> anyhow::Result<bool> {
        Ok(timeout(PATIENCE, Self::try_log_in(address, fingerprint, user, key)).await??.is_none())
    }

    /// Nobody where the key is refused.
    async fn try_log_in(
        address: SocketAddr,
        fingerprint: &str,
        user: &str,
        key: &PrivateKey,
    ) -> anyhow::Result<Option<Self>> {
        let handler = KnownHost { fingerprint: fingerprint.to_owned() };
        let mut connection = client::connect(Arc::new(client::Config::default()), address, handler).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
        let answer = connection.authenticate_publickey(user, key).await?;
        if !answer.success() {
            return Ok(None);
        }
        let channel = connection.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        let sftp = SftpSession::new(channel.into_stream()).await?;
        Ok(Some(Self { sftp, connection }))
    }

    /// Puts a file; the error is the server's own text.
    pub async fn put(&self, path: &str, content: &[u8]) -> anyhow::Result<()> {
        let mut file = self.sftp.create(path).await?;
        let written = match file.write_all(content).await {
            Ok(()) => file.flush().await,
            Err(error) => Err(error),
        };
        let closed = file.shutdown().await;
        written?;
        Ok(closed?)
    }

    /// Fetches a file.
    pub async fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        self.sftp.read(path).await.with_context(|| path.to_owned())
    }

    /// The names in a folder.
    pub async fn list(&self, path: &str) -> anyhow::Result<Vec<String>> {
        let mut names: Vec<_> = self.sftp.read_dir(path).await?.map(|entry| entry.file_name()).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until the server has cut the connection.
    pub async fn wait_until_cut(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.connection.is_closed() {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        anyhow::bail!("the session was not cut within {} s", PATIENCE.as_secs())
    }

    /// Waits until a folder is empty.
    pub async fn wait_until_empty(&self, folder: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.list(folder).await?.is_empty() {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        anyhow::bail!("{folder} was not emptied within {} s", PATIENCE.as_secs())
    }

    /// The last receipt of an uploaded file, once it says more than `in-progress`.
    pub async fn receipt(&self, exchange: &str, uploaded: &str) -> anyhow::Result<Value> {
        let folder = format!("/{exchange}/receipts");
        let is_its = |name: &str| name.starts_with(&format!("{uploaded}.")) && name.ends_with(".json");
        let name = self.wait_for(&folder, is_its).await?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let receipt: Value = serde_json::from_slice(&self.get(&format!("{folder}/{name}")).await?)?;
            if receipt.get("verdict").is_some_and(|verdict| verdict != "in-progress") {
                return Ok(receipt);
            }
            sleep(PAUSE).await;
        }
        anyhow::bail!("{name} stays in progress")
    }

    /// Waits for a name that fits.
    pub async fn wait_for(&self, folder: &str, fits: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(name) = self.list(folder).await?.into_iter().find(|name| fits(name)) {
                return Ok(name);
            }
            sleep(PAUSE).await;
        }
        anyhow::bail!("nothing came into {folder} within {} s", PATIENCE.as_secs())
    }

    /// Logs out.
    pub async fn log_out(self) -> anyhow::Result<()> {
        Ok(self.sftp.close().await?)
    }
}

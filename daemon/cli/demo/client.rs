//! An SFTP client inside the process, so that the demo needs no other program. It checks the host key as a partner would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use russh::client::{self, Handle, Handler};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh_sftp::client::SftpSession;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

/// Longer than any step of the demo takes.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// A logged-in session.
pub struct Client {
    sftp: SftpSession,
    // The connection lives as long as its handle.
    _connection: Handle<KnownHost>,
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
                Ok(client) => return Ok(client),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn try_log_in(
        address: SocketAddr,
        fingerprint: &str,
        user: &str,
        key: &PrivateKey,
    ) -> anyhow::Result<Self> {
        let handler = KnownHost { fingerprint: fingerprint.to_owned() };
        let mut connection = client::connect(Arc::new(client::Config::default()), address, handler).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
        let answer = connection.authenticate_publickey(user, key).await?;
        anyhow::ensure!(answer.success(), "the server refused the key of {user}");
        let channel = connection.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        let sftp = SftpSession::new(channel.into_stream()).await?;
        Ok(Self { sftp, _connection: connection })
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

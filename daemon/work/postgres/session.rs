//! One connection to a PostgreSQL server, for one job: how it is reached, with whose password, and that it ends. A running
//! statement is cancelled at the server when its job ends early. What is asked on it is `postgres`' business.

use std::future::poll_fn;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};

use super::error::{PostgresError, Told, chain};
use super::tls::Tls;
use crate::config::PostgresTls;
use crate::host::files::{CA_LIMIT, FileError, read_public, read_secret};

/// How long a server may take to answer at all, and to be asked to cancel.
const CONNECT_WAIT: Duration = Duration::from_secs(15);
const CANCEL_WAIT: Duration = Duration::from_secs(3);
/// How long the end of a connection is waited for.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// A server that is gone without a word is noticed after about this.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection.
pub struct Session {
    client: Client,
    way: Way,
    connection: JoinHandle<()>,
}

#[derive(Clone)]
enum Way {
    Local,
    Encrypted(Tls),
}

impl Session {
    /// Connects and logs in.
    pub async fn open(told: Told<'_>) -> Result<Self, PostgresError> {
        let way = match &told.server.tls {
            PostgresTls::Local => Way::Local,
            PostgresTls::Require { ca } => Way::Encrypted(authorities(told, ca)?),
        };
        let config = config(told, &way)?;
        let (client, connection) = match way.clone() {
            Way::Local => connect(told, &config, NoTls).await?,
            Way::Encrypted(tls) => connect(told, &config, tls).await?,
        };
        Ok(Self { client, way, connection })
    }

    /// To ask the server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Ends it, and first whatever the server is still doing for it.
    pub async fn close(self, is_busy: bool) {
        if is_busy {
            let token = self.client.cancel_token();
            let cancel = async {
                match self.way {
                    Way::Local => token.cancel_query(NoTls).await,
                    Way::Encrypted(tls) => token.cancel_query(tls).await,
                }
            };
            match timeout(CANCEL_WAIT, cancel).await {
                Ok(Ok(())) => {}
                // The server ends the statement when it notices that nobody listens, or by its timeout.
                Ok(Err(error)) => {
                    tracing::debug!(error = chain(&error), "a statement could not be cancelled")
                }
                Err(_) => tracing::debug!("a statement could not be cancelled in time"),
            }
        }
        drop(self.client);
        // The transaction is rolled back by its end, whichever way that comes.
        let _ = timeout(CLOSE_WAIT, self.connection).await;
    }
}

async fn connect<T>(
    told: Told<'_>,
    config: &Config,
    tls: T,
) -> Result<(Client, JoinHandle<()>), PostgresError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    match timeout(CONNECT_WAIT, config.connect(tls)).await {
        Ok(Ok((client, connection))) => Ok((client, tokio::spawn(attend(connection)))),
        Ok(Err(error)) => Err(told.not_connected(&error)),
        Err(_) => {
            let what = format!("no answer within {}", humantime::format_duration(CONNECT_WAIT));
            Err(told.unreachable(what, "see that the server can be reached from here"))
        }
    }
}

/// Moves what goes over a connection until it ends. Notices are dropped unread: a function's may hold values.
async fn attend<T>(mut connection: Connection<Socket, T>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let Err(error) = message {
            tracing::debug!(error = error.to_string(), "the connection to a database ended");
            return;
        }
    }
}

fn config(told: Told<'_>, way: &Way) -> Result<Config, PostgresError> {
    let server = told.server;
    let mut config = Config::new();
    config
        .host(server.host.as_str())
        .port(server.port)
        .dbname(server.database.as_str())
        .user(server.user.as_str())
        .application_name("dropzone")
        .connect_timeout(CONNECT_WAIT)
        .tcp_user_timeout(SILENCE)
        .keepalives_idle(SILENCE / 2)
        .keepalives_interval(SILENCE / 6)
        .keepalives_retries(3)
        .ssl_mode(match way {
            Way::Local => SslMode::Disable,
            Way::Encrypted(_) => SslMode::Require,
        });
    if let Some(file) = &server.password {
        let secret = read_secret(file).map_err(|error| not_read(told, &error))?;
        // As `psql`'s own file has it, the line's end is no part of it.
        let line = secret.strip_suffix(b"\n").unwrap_or(&secret);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        config.password(line);
    }
    Ok(config)
}

fn authorities(told: Told<'_>, file: &Path) -> Result<Tls, PostgresError> {
    let text = read_public(file, CA_LIMIT).map_err(|error| not_read(told, &error))?;
    Tls::under(&text).map_err(|what| {
        let remedy = "put the certificate of the authority that signed the server's there, as PEM";
        told.unreachable(format!("{} {what}", file.display()), remedy)
    })
}

fn not_read(told: Told<'_>, error: &FileError) -> PostgresError {
    told.unreachable(format!("{} {error}", error.path().display()), error.remedy())
}

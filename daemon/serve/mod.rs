//! The network side. It holds the SSH host key and no other secret, and runs no other program.
//!
//! A connection: `listener` accepts it, `proxy` says who a proxy speaks for, `admission` who has a place; `connection` is what is
//! known of it, `disorder` why one broke. SSH on it: `algorithms` says how it is encrypted, `tap` and `negotiation` hear what
//! was agreed on, `ssh` lets people in and opens channels, `session` says whose they are. On a channel: `sftp` answers
//! requests, `ask` asks `work` whether a file is for this zone, `budget` shares memory out, `unread` counts what nobody
//! reads. Beside them: `sessions` knows who is there and ends what is revoked, `reload` takes a changed configuration over,
//! `control` does what operators ask, `upkeep` removes what has had its time, `collected` results that somebody has, `tidy` sees to the spool's room and to what crashes leave,
//! and `needs` says what the process is held to.

mod admission;
mod algorithms;
mod ask;
mod budget;
mod collected;
mod connection;
mod control;
mod disorder;
mod listener;
mod needs;
mod negotiation;
mod proxy;
mod reload;
mod session;
mod sessions;
pub mod sftp;
mod ssh;
mod tap;
mod tidy;
mod unread;
mod upkeep;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use russh::keys::PrivateKey;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::admission::Admission;
pub use self::algorithms::{Offered, offered};
use self::ask::JobSide;
use self::budget::Budget;
pub use self::needs::needs;
use self::sessions::Sessions;
use crate::config::{self, Config};
use crate::host::clock::Clock;
use crate::host::containment::Containment;
use crate::host::control::serve as answer_requests;
use crate::host::files::{self, FileError};
use crate::host::guard::{Guard, GuardError};
use crate::host::http::{self, HttpError};
use crate::host::log::{AccessLog, LogError};
use crate::host::metrics::{MetricsError, ReloadMetrics, ServeMetrics};
use crate::host::process::{Hangup, Shutdown};
use crate::host::socket::{Socket, SocketError};
use crate::host::spool::{Spool, SpoolError};
use crate::host::systemd;
use crate::host::upkeep::Upkeep;
use crate::policy::record::{Event, Outcome, Record};

/// What all connections share.
pub struct Server {
    config: watch::Sender<Arc<Config>>,
    /// Of new connections; follows `config`.
    ssh: RwLock<Arc<russh::server::Config>>,
    sessions: Arc<Sessions>,
    reloads: ReloadMetrics,
    upkeep: Upkeep,
    /// Held by the one reload at a time.
    reloading: tokio::sync::Mutex<()>,
    spool: Spool,
    log: AccessLog,
    metrics: ServeMetrics,
    job_side: JobSide,
    clock: Clock,
    /// Memory for bytes that cannot go to disk yet.
    memory: Arc<Budget>,
    admission: Arc<Admission>,
}

/// Why `serve` cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The access log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is known of the clock.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The metrics listener.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The metrics themselves.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The log's folder was replaced, and containment keeps this process to the one before.
    #[error(
        "the folder of the access log {path} was replaced, and this process is held to the one it began with: it ends, to be started again", path = .0.display()
    )]
    LogReplaced(PathBuf),
    /// The host key's file.
    #[error("host key {path}: {0}; {remedy}", path = .0.path().display(), remedy = .0.remedy())]
    File(#[from] FileError),
    /// The host key.
    #[error("host key {path}: {cause}; make one with `ssh-keygen -t ed25519 -N ''` or `dropzone init`")]
    HostKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {cause}; is another server running there, or is the port below 1024?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
}

/// Serves until it is told to stop, then ends every connection in order.
pub async fn run(
    config: Config,
    clock: Clock,
    mut shutdown: Shutdown,
    hangup: Hangup,
    contained: Containment,
) -> Result<(), ServeError> {
    let machine = &config.machine;
    let host_key = read_host_key(&machine.host_key)?;
    let ssh = Arc::new(algorithms::server_config(host_key, machine.algorithms, &machine.limits));
    // Before this process writes a record of its own, which would say that it is now.
    let guard = Guard::open(&machine.log.directory, &machine.node, "serve", clock.clone())?;
    let log = AccessLog::open(&machine.log.directory, &machine.node, "serve", clock.clone())?;
    let spool = Spool::open(&machine.spool, &config.pairs())?;
    spool.recall(clock.now())?;
    spool.keep_free(machine.limits.spool_reserve);
    let memory = Budget::new(machine.limits.unwritten_bytes_in_all);
    let metrics = ServeMetrics::new(config.institutions.keys(), &clock)?;
    metrics.watch_log(&log)?;
    metrics.contained(contained)?;
    let job_side = JobSide::new(machine.sockets.work.clone(), metrics.questions());
    let reloads = ReloadMetrics::new(metrics.registry(), clock.now())?;
    let upkeep = Upkeep::new(guard, metrics.registry())?;
    // After the log was opened, which keeps a second process of this zone away.
    let socket = Socket::bind(&machine.sockets.serve).await?;
    let (config, ssh) = (watch::Sender::new(Arc::new(config)), RwLock::new(ssh));
    let (sessions, reloading, admission) = Default::default();
    let server = Arc::new(Server {
        config,
        ssh,
        sessions,
        reloads,
        upkeep,
        reloading,
        spool,
        log,
        metrics,
        job_side,
        clock,
        admission,
        memory,
    });

    let watched = Arc::clone(&server);
    let registry = server.metrics.registry().clone();
    let (_, metrics_listener) =
        http::listen(server.config().machine.metrics.serve, registry, move || watched.faults()).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(metrics_listener);
    let (stop, stopped) = watch::channel(false);
    let mut accepting = JoinSet::new();
    for &address in &server.config().machine.listen {
        let listener = listener::bind(address).map_err(|cause| ServeError::Listen { address, cause })?;
        tracing::info!(address = %listener.local_addr().unwrap_or(address), "listening for ssh");
        accepting.spawn(listener::accept(Arc::clone(&server), listener, stopped.clone()));
    }
    server.log.append_async(Record::new(Event::Start, Outcome::Ok)).await?;
    server.log.append_async(config::taken_over(None, &server.config(), "start".to_owned())).await?;
    go_on_beside(&server, &mut tasks, hangup, socket);
    systemd::ready("serving");

    let asked = until_the_end(&server, &mut shutdown).await;
    // The receivers live in the tasks that are waited for next.
    let _ = stop.send(true);
    while accepting.join_next().await.is_some() {}
    tasks.shutdown().await;
    admission::tell_probes(&server).await;
    asked?;
    server.log.append_async(Record::new(Event::Stop, Outcome::Ok)).await?;
    Ok(())
}

impl Server {
    /// The configuration in force. A reload replaces it whole: who decides several things by it takes it once.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// russh's settings for the next connection.
    fn ssh(&self) -> Arc<russh::server::Config> {
        Arc::clone(&self.ssh.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What keeps this process from being ready.
    fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.reloads.fault().into_iter().collect();
        if !self.log.is_healthy() {
            faults.push("the access log cannot be written: uploads and downloads are refused".to_owned());
        }
        faults.extend(tidy::measure(self));
        faults
    }
}

fn read_host_key(path: &std::path::Path) -> Result<PrivateKey, ServeError> {
    let text = files::read_secret(path)?;
    let refuse = |cause: String| ServeError::HostKey { path: path.to_owned(), cause };
    let key = PrivateKey::from_openssh(text.as_slice()).map_err(|error| refuse(error.to_string()))?;
    match key.algorithm() {
        russh::keys::Algorithm::Ed25519 if !key.is_encrypted() => Ok(key),
        other => Err(refuse(format!("it must be an ed25519 key without passphrase, not {other}"))),
    }
}

/// Until somebody says so, or until only a new process can go on.
async fn until_the_end(server: &Server, shutdown: &mut Shutdown) -> Result<(), ServeError> {
    let ended = tokio::select! {
        cause = shutdown.requested() => Ok(cause),
        error = tidy::log_is_out_of_reach(server) => Err(error),
    };
    systemd::stopping();
    ended.map(|cause| tracing::info!(cause, "stopping"))
}

/// What runs beside the connections.
fn go_on_beside(server: &Arc<Server>, tasks: &mut JoinSet<()>, hangup: Hangup, socket: Socket) {
    tasks.spawn(upkeep::go_on(Arc::clone(server)));
    tasks.spawn(collected::go_on(Arc::clone(server)));
    tasks.spawn(tidy::go_on(Arc::clone(server)));
    tasks.spawn(admission::watch(Arc::clone(server)));
    tasks.spawn(sessions::guard(Arc::clone(server)));
    tasks.spawn(reload::follow(Arc::clone(server), hangup));
    let asked = Arc::clone(server);
    tasks.spawn(answer_requests(socket, move |ask, operator| {
        control::perform(Arc::clone(&asked), ask, operator)
    }));
}

//! The job side: claims arrivals, decrypts, joins, encrypts and delivers, and writes the receipts. It listens on no
//! network but the loopback of its metrics, and alone holds age identities and databases.
//!
//! `scan` is the loop, which `watch` wakes; `turns` says whose turn it is; `worker` is the life of one arrival; `deliver` its
//! job, of which `make` makes the results, with `open`, `sheet`, `check`, `join`, `outgoing`, `shape`, `pseudonym` and `encrypt` as
//! steps; `query` the database that `join` runs in, of which `split` says whether a list may be cut, `postgres` the same on a
//! server, `query_error` what went wrong with either; `command` runs a program instead; `replay` whether a file was here before;
//! `stop` when a job ends before it is done; `receipts` what its sender reads, signed by `signer`; `takeover` what becomes of the
//! arrivals of a process that is gone.
//!
//! Beside it, `ask` tells `serve` whether a file is for this zone, `control` does what operators ask, `held` what they decide
//! about arrivals that wait; `reload` takes a changed configuration over, `retention` deletes what has had its time, `handoff`
//! takes in what tools of this machine hand in, `tidy` what a crash left, `passphrase` makes, keeps and shows what opens some
//! results, `messenger` hands it to a program, `seal` signs how far the access log has come, `incidents` finds in it
//! what may have to be reported, and `memory` shares out what
//! registers may take.

mod aside;
mod ask;
mod check;
pub mod command;
mod control;
pub mod deliver;
pub mod encrypt;
mod end;
mod handoff;
mod held;
mod incidents;
pub mod join;
mod make;
mod memory;
mod messenger;
pub mod open;
pub mod outgoing;
pub mod passphrase;
mod postgres;
mod pseudonym;
pub mod query;
mod query_error;
pub mod receipts;
mod reload;
mod replay;
mod retention;
mod rhythm;
mod scan;
mod seal;
pub mod shape;
pub mod sheet;
pub mod signer;
mod split;
pub mod stop;
mod takeover;
mod tidy;
pub mod turns;
pub mod watch;
pub mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use anyhow::Context;
use zeroize::Zeroizing;

use self::incidents::Watch;
use self::memory::Memory;
use self::open::Identities;
use self::seal::Seals;
use self::signer::{SignError, Signer};
use self::takeover::Claims;
use crate::config::Config;
use crate::host::clock::Clock;
use crate::host::control::serve as answer_requests;
use crate::host::files;
use crate::host::guard::Guard;
use crate::host::http;
use crate::host::log::{AccessLog, LogError};
use crate::host::metrics::{PassphraseMetrics, ReloadMetrics, WorkMetrics};
use crate::host::process::Hangup;
use crate::host::socket::Socket;
use crate::host::spool::{Spool, SpoolError};
use crate::host::systemd;
use crate::host::upkeep::Upkeep;
use crate::policy::arrival::{Arrival, ArrivalId, State};
use crate::policy::path::Slug;
use crate::policy::record::{Event, Outcome, Record};

/// What every job needs.
pub struct Workshop {
    config: tokio::sync::watch::Sender<Arc<Config>>,
    spool: Spool,
    claims: Claims,
    log: AccessLog,
    clock: Clock,
    identities: Identities,
    signer: Signer,
    seals: Seals,
    memory: Memory,
    metrics: WorkMetrics,
    reloads: ReloadMetrics,
    passphrases: PassphraseMetrics,
    watch: Watch,
    upkeep: Upkeep,
    /// Held by the one discard at a time.
    discarding: Mutex<()>,
    /// Held by the one reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// The last scan of the spool failed, or the last try could not be recorded.
    is_stuck: AtomicBool,
    /// Held for writing by the job of an arrival that may end the process, for reading by all others.
    room: RwLock<()>,
    stop: Arc<AtomicBool>,
}

/// Why an arrival could not be moved on; it is tried again at a later scan.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// No record, no move.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A receipt has no form in JSON.
    #[error("a receipt cannot be written as JSON: {0}")]
    Json(String),
    /// No receipt without a signature.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Runs until `shutdown`: opens everything, and works; its first look takes on what a crash left. Fails only at start.
pub async fn run(
    config: Config,
    clock: Clock,
    hangup: Hangup,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let opening = tokio::task::spawn_blocking(move || Workshop::open(config, clock));
    let workshop = Arc::new(opening.await.context("opening the workshop")??);
    let seen = Arc::clone(&workshop);
    let config = workshop.config();
    let machine = &config.machine;
    let (_, monitoring) =
        http::listen(machine.metrics.work, workshop.metrics.registry().clone(), move || seen.ailments())
            .await?;
    // After the log was opened, which keeps a second process of this zone away.
    let socket = Socket::bind(&machine.sockets.work).await?;
    let operators = Socket::bind(&machine.sockets.work_control).await?;
    workshop.log.append_async(Record::new(Event::Start, Outcome::Ok)).await?;
    workshop.log.append_async(crate::config::taken_over(None, &config, "start".to_owned())).await?;
    let asked = Arc::clone(&workshop);
    let perform = move |ask, operator| control::perform(Arc::clone(&asked), ask, operator);
    systemd::ready("waiting for arrivals");
    tokio::select! {
        () = scan::run(&workshop, shutdown) => {}
        () = ask::answer_questions(&workshop, socket) => {}
        () = answer_requests(operators, perform) => {}
        () = reload::follow(&workshop, hangup) => {}
        () = retention::keep_up(&workshop) => {}
        () = tidy::go_on(&workshop) => {}
        () = handoff::keep_up(&workshop) => {}
        () = messenger::go_on(&workshop) => {}
        () = incidents::go_on(&workshop) => {}
        () = async { monitoring.await; std::future::pending().await } => {}
    }
    systemd::stopping();
    workshop.log.append_async(Record::new(Event::Stop, Outcome::Ok)).await?;
    tokio::task::spawn_blocking(move || workshop.seal_now()).await.context("sealing the access log")
}

impl Workshop {
    /// Opens spool, log and keys, and joins those who claim. Blocks.
    pub fn open(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let machine = &config.machine;
        let identities = read_identities(&machine.identities)?;
        let signer = Signer::read(&machine.signing_key)?;
        query::bound_memory(machine.work.job.memory.saturating_mul(machine.work.jobs as u64))?;
        let spool = Spool::open(&machine.spool, &config.pairs())?;
        // Before this process writes a record of its own, which would say that it is now.
        let guard = Guard::open(&machine.log.directory, &machine.node, "work", clock.clone())?;
        spool.own_seen()?;
        spool.own_rhythm()?;
        spool.own_passphrases()?;
        spool.own_incidents()?;
        let log = AccessLog::open(&machine.log.directory, &machine.node, "work", clock.clone())?;
        // After the log was opened: from here on no other process of this node claims.
        let claims = Claims::new(spool.join(&machine.node, machine.work.lease)?);
        let metrics = WorkMetrics::new(config.exchanges.values(), &clock)?;
        metrics.watch_log(&log)?;
        tell_last_deliveries(&spool, &metrics)?;
        let reloads = ReloadMetrics::new(metrics.registry(), clock.now())?;
        let passphrases = PassphraseMetrics::new(metrics.registry())?;
        let watch = Watch::new(metrics.registry())?;
        let config = tokio::sync::watch::Sender::new(Arc::new(config));
        let upkeep = Upkeep::new(guard, metrics.registry())?;
        let (seals, memory, is_stuck, room, stop) = Default::default();
        let (reloading, discarding) = Default::default();
        let workshop = Self {
            config,
            spool,
            claims,
            log,
            clock,
            identities,
            signer,
            seals,
            memory,
            metrics,
            reloads,
            passphrases,
            watch,
            upkeep,
            discarding,
            reloading,
            is_stuck,
            room,
            stop,
        };
        workshop.publish_key()?;
        Ok(workshop)
    }

    /// The configuration in force. A reload replaces it whole: who decides several things by it takes it once.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Ends running jobs soon; their arrivals go back to `incoming`.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Why this process cannot do its work; nothing when it can.
    fn ailments(&self) -> Vec<String> {
        let log = (!self.log.is_healthy()).then_some("the access log cannot be written");
        let stuck = self.is_stuck.load(Ordering::Relaxed);
        let spool = stuck.then_some("the spool cannot be read or written; the program log says why");
        let told = [log, spool].into_iter().flatten().map(str::to_owned);
        told.chain(self.reloads.fault()).chain(self.seals.trouble()).collect()
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Monitoring asks for how long nothing was delivered, and a restart is no delivery.
fn tell_last_deliveries(spool: &Spool, metrics: &WorkMetrics) -> Result<(), SpoolError> {
    let done = spool.list(State::Done)?;
    let mut last: BTreeMap<&Slug, Option<&ArrivalId>> = BTreeMap::new();
    // Newest first. Nothing was delivered of one that is the same as an earlier arrival.
    for id in done.iter().rev() {
        let found = last.entry(id.exchange()).or_default();
        if found.is_none() && !spool.is_repetition(State::Done, id) {
            *found = Some(id);
        }
    }
    for (exchange, id) in last.into_iter().filter_map(|(exchange, id)| Some((exchange, id?))) {
        // Its folder changed last when the results left it.
        if let Ok(at) = spool.since(State::Done, id) {
            metrics.delivered_before(exchange, at);
        }
    }
    Ok(())
}

fn read_identities(paths: &[std::path::PathBuf]) -> anyhow::Result<Identities> {
    let mut texts: Vec<(&Path, Zeroizing<Vec<u8>>)> = Vec::new();
    for path in paths {
        let secret = files::read_secret(path).map_err(|error| {
            let told = format!("{}: {error}; {}", path.display(), error.remedy());
            // Kept whole: the exit code says that another start does not help.
            anyhow::Error::new(error).context(told)
        })?;
        texts.push((path, secret));
    }
    let texts = texts.iter().map(|(path, text)| (*path, std::str::from_utf8(text).unwrap_or_default()));
    Ok(Identities::parse(texts)?)
}

/// A record about an arrival of which no more than its id is known.
fn record_about(event: Event, outcome: Outcome, id: &ArrivalId) -> Record {
    Record {
        institution: Some(id.institution().to_string()),
        exchange: Some(id.exchange().clone()),
        arrival: Some(id.to_string()),
        ..Record::new(event, outcome)
    }
}

/// A record about an arrival and the person behind it.
fn record_of(event: Event, outcome: Outcome, arrival: &Arrival) -> Record {
    Record {
        session: Some(arrival.session.clone()),
        exchange: Some(arrival.id.exchange().clone()),
        arrival: Some(arrival.id.to_string()),
        bytes: Some(arrival.size),
        sha256: arrival.sha256.clone(),
        ..Record::new(event, outcome)
    }
    .by(&arrival.by)
}

#[cfg(test)]
mod tests;

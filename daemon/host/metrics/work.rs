//! What monitoring sees of `work`:
//! - `dropzone_arrivals{state}`: arrivals in each state at the last scan
//! - `dropzone_oldest_waiting_arrival_seconds`: age of the oldest arrival that waits or is worked on; 0 if none does
//! - `dropzone_job_duration_seconds{kind}`: from claim to done, deferred or held; `kind` is relay or query
//! - `dropzone_jobs_total{exchange,result}`: tries of jobs, by done, repeated (no job: the same file was here), deferred, held,
//!   or lost to another process
//! - `dropzone_takeovers_total`: arrivals taken from a process that is gone or does not move any more
//! - `dropzone_jobs_held_total{reason}`: arrivals that an operator must look at, by the code of a `Reason`
//! - `dropzone_incidents_total{kind}`: files where they do not belong or not what they were, by the code of an `Incident`
//! - `dropzone_deliveries_total{exchange,receiver}`: results put into an outbox
//! - `dropzone_last_delivery_timestamp_seconds{exchange}`: seconds since 1970; 0 if none is known
//! - `dropzone_log_head_timestamp_seconds`: when the last head of the access log was signed; 0 if none is known
//! - `dropzone_log_seal_failures_total`: times that the access log could not be sealed
//! - `dropzone_log_broken_files`: log files that are not as they were sealed, or no chain: an incident
//! - `dropzone_spool_free_bytes`: what can still be written at the last scan

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{
    Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::rhythm::RhythmMetrics;
use super::{MetricsError, add, counters, durations, seconds, serve::reasons};
use crate::host::clock::Clock;
use crate::host::log::AccessLog;
use crate::policy::agreement::Exchange;
use crate::policy::arrival::State;
use crate::policy::incident::Incident;
use crate::policy::path::Slug;
use crate::policy::reason::Reason;

/// The kinds of jobs, as `policy::agreement::Job::kind` calls them.
const KINDS: [&str; 4] = ["relay", "shape", "query", "command"];

/// How one try of a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobResult {
    /// Delivered.
    Done,
    /// The same as an earlier arrival.
    Repeated,
    /// To be tried again.
    Deferred,
    /// An operator must look.
    Held,
    /// Another process took it over.
    Lost,
}

impl JobResult {
    /// All, for metrics.
    pub const ALL: [Self; 5] = [Self::Done, Self::Repeated, Self::Deferred, Self::Held, Self::Lost];

    /// The label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Repeated => "repeated",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Lost => "lost",
        }
    }
}

/// The metrics of `work`. Shared by `Arc`.
pub struct WorkMetrics {
    registry: Registry,
    arrivals: IntGaugeVec,
    oldest_waiting: Gauge,
    job_duration: HistogramVec,
    exchanges: RwLock<BTreeMap<Slug, OfExchange>>,
    vectors: Vectors,
    held: IntCounterVec,
    incidents: IntCounterVec,
    spool_free: IntGauge,
    takeovers: IntCounter,
    seals: Seals,
    /// When lists are due.
    pub rhythm: RhythmMetrics,
}

struct Seals {
    last: Gauge,
    failures: IntCounter,
    broken: IntGauge,
}

struct OfExchange {
    jobs: [IntCounter; JobResult::ALL.len()],
    deliveries: BTreeMap<Slug, IntCounter>,
    last_delivery: Gauge,
}

impl WorkMetrics {
    /// All series, at 0.
    pub fn new<'a>(
        exchanges: impl Iterator<Item = &'a Exchange>,
        clock: &Clock,
    ) -> Result<Self, MetricsError> {
        let registry = super::registry("work", clock)?;
        let arrivals =
            IntGaugeVec::new(Opts::new("dropzone_arrivals", "Arrivals at the last scan"), &["state"])?;
        State::ALL.iter().for_each(|state| arrivals.with_label_values(&[state.as_str()]).set(0));
        let oldest_waiting = Gauge::new(
            "dropzone_oldest_waiting_arrival_seconds",
            "Age of the oldest arrival that waits or is worked on; 0 if none does",
        )?;
        let spool_free =
            IntGauge::new("dropzone_spool_free_bytes", "What can still be written to the spool")?;
        add(&registry, &arrivals)?;
        add(&registry, &oldest_waiting)?;
        add(&registry, &spool_free)?;
        let name = ("dropzone_job_duration_seconds", "From claim to done, deferred or held");
        let job_duration = durations(&registry, name, &["kind"])?;
        for kind in KINDS {
            job_duration.with_label_values(&[kind]);
        }
        let vectors = Vectors::new(&registry)?;
        let held = reasons(&registry, ("dropzone_jobs_held_total", "Arrivals an operator must look at"))?;
        let name = ("dropzone_incidents_total", "Files where they do not belong, or not what they were");
        let incidents = counters(&registry, name, &["kind"])?;
        Incident::ALL.iter().for_each(|kind| drop(incidents.with_label_values(&[kind.code()])));
        let help = "Arrivals taken from a process that is gone or does not move any more";
        let takeovers = IntCounter::new("dropzone_takeovers_total", help)?;
        add(&registry, &takeovers)?;
        let seals = seals(&registry)?;
        let rhythm = RhythmMetrics::new(&registry)?;
        let known = RwLock::default();
        let metrics = Self {
            registry,
            arrivals,
            oldest_waiting,
            job_duration,
            exchanges: known,
            vectors,
            held,
            incidents,
            spool_free,
            takeovers,
            seals,
            rhythm,
        };
        metrics.know(exchanges);
        Ok(metrics)
    }

    /// From now on these exchanges have series, with all their receivers; those of others stay as they are.
    pub fn know<'a>(&self, exchanges: impl Iterator<Item = &'a Exchange>) {
        let mut known = self.exchanges.write().unwrap_or_else(PoisonError::into_inner);
        for exchange in exchanges {
            known.insert(exchange.name.clone(), self.vectors.of(exchange));
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, BTreeMap<Slug, OfExchange>> {
        self.exchanges.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `host::http` serves.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Shows the health of the access log too.
    pub fn watch_log(&self, log: &AccessLog) -> Result<(), MetricsError> {
        super::watch_log(&self.registry, log)
    }

    /// How many arrivals a scan found in a state.
    pub fn arrivals(&self, state: State, count: usize) {
        self.arrivals.with_label_values(&[state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How long the oldest arrival has waited.
    pub fn oldest_waiting(&self, age: Duration) {
        self.oldest_waiting.set(age.as_secs_f64());
    }

    /// A try of a job ended. `kind` is that of `Job::kind`.
    pub fn job(&self, exchange: &Slug, kind: &'static str, result: JobResult, took: Duration) {
        self.job_duration.with_label_values(&[kind]).observe(took.as_secs_f64());
        let known = self.known();
        let jobs = known.get(exchange).map(|of| &of.jobs);
        let at = JobResult::ALL.iter().position(|one| *one == result);
        if let Some(counter) = at.and_then(|at| jobs?.get(at)) {
            counter.inc();
        }
    }

    /// An arrival is held; `job` counts the try too.
    pub fn held(&self, reason: &Reason) {
        self.held.with_label_values(&[reason.code()]).inc();
    }

    /// An incident was reported.
    pub fn incident(&self, incident: Incident) {
        self.incidents.with_label_values(&[incident.code()]).inc();
    }

    /// A result was put into a receiver's outbox.
    pub fn delivered(&self, exchange: &Slug, receiver: &Slug, at: Timestamp) {
        let known = self.known();
        let Some(of) = known.get(exchange) else { return };
        of.last_delivery.set(seconds(at));
        if let Some(counter) = of.deliveries.get(receiver) {
            counter.inc();
        }
    }

    /// What was delivered last before the start.
    pub fn delivered_before(&self, exchange: &Slug, at: Timestamp) {
        if let Some(of) = self.known().get(exchange) {
            of.last_delivery.set(seconds(at));
        }
    }

    /// The access log was looked at: its last head, and how many of its files are not as they were.
    pub fn sealed(&self, last: Timestamp, broken: usize) {
        self.seals.last.set(seconds(last));
        self.seals.broken.set(i64::try_from(broken).unwrap_or(i64::MAX));
    }

    /// The access log could not be sealed.
    pub fn not_sealed(&self) {
        self.seals.failures.inc();
    }

    /// An arrival was taken from another process.
    pub fn taken_over(&self) {
        self.takeovers.inc();
    }

    /// What can still be written to the spool.
    pub fn spool_free(&self, bytes: u64) {
        self.spool_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

fn seals(registry: &Registry) -> Result<Seals, MetricsError> {
    let last = Gauge::new(
        "dropzone_log_head_timestamp_seconds",
        "When the last head of the access log was signed, seconds since 1970; 0 if none is known",
    )?;
    let failures =
        IntCounter::new("dropzone_log_seal_failures_total", "Times that the access log could not be sealed")?;
    let broken = IntGauge::new("dropzone_log_broken_files", "Log files that are not as they were sealed")?;
    add(registry, &last)?;
    add(registry, &failures)?;
    add(registry, &broken)?;
    Ok(Seals { last, failures, broken })
}

/// What the series of an exchange are made from.
struct Vectors {
    jobs: IntCounterVec,
    deliveries: IntCounterVec,
    last_delivery: GaugeVec,
}

impl Vectors {
    fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let jobs =
            counters(registry, ("dropzone_jobs_total", "Tries of jobs by result"), &["exchange", "result"])?;
        let name = ("dropzone_deliveries_total", "Results put into an outbox");
        let deliveries = counters(registry, name, &["exchange", "receiver"])?;
        let help = "The last delivery, seconds since 1970; 0 if none is known";
        let last = Opts::new("dropzone_last_delivery_timestamp_seconds", help);
        let last_delivery = GaugeVec::new(last, &["exchange"])?;
        add(registry, &last_delivery)?;
        Ok(Self { jobs, deliveries, last_delivery })
    }

    fn of(&self, exchange: &Exchange) -> OfExchange {
        let (name, receivers) = (exchange.name.as_str(), exchange.flows.iter().flat_map(|flow| &flow.to));
        let counter = |receiver: &Slug| self.deliveries.with_label_values(&[name, receiver.as_str()]);
        OfExchange {
            jobs: JobResult::ALL.map(|result| self.jobs.with_label_values(&[name, result.code()])),
            deliveries: receivers.map(|receiver| (receiver.clone(), counter(receiver))).collect(),
            last_delivery: self.last_delivery.with_label_values(&[name]),
        }
    }
}

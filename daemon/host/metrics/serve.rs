//! What monitoring sees of `serve`:
//! - `dropzone_connections_total`, `dropzone_connections`: TCP connections accepted, and open now
//! - `dropzone_connections_refused_total{cause}`: connections cut before anybody was logged in
//! - `dropzone_connections_unauthenticated`: TCP connections that wait for their login now
//! - `dropzone_penalties_total{cause}`, `dropzone_penalties_active`: offences that counted against their source, and sources
//!   refused now
//! - `dropzone_limits_reached_total{limit}`: what sessions had too much of: channels, handles, requests, time without progress
//! - `dropzone_probes_total{source}`: connections that ended without asking to log in; `source` is `exempt` or `other`
//! - `dropzone_authentications_total{result,reason}`: logins; `reason` is the code of a `LoginRefusal`, or `none`
//! - `dropzone_sessions`: SFTP sessions open now
//! - `dropzone_uploads_total{institution,outcome}`: files opened for writing, by how that ended
//! - `dropzone_uploads_refused_total{reason}`: refused uploads, by the code of a `Reason`
//! - `dropzone_received_bytes_total{institution}`, `dropzone_sent_bytes_total{institution}`: file content only
//! - `dropzone_requests_denied_total{reason}`: SFTP requests turned down and recorded, by the code of a `Reason`
//! - `dropzone_sessions_ended_total{cause}`: SFTP sessions that this side ended
//! - `dropzone_unwritten_bytes`: bytes of uploads held in memory now, because what lies before them has not come
//! - `dropzone_questions_total{answer}`: uploads about which `work` was asked, by its answer, or `none`
//! - `dropzone_question_duration_seconds`: how long the upload waited for that
//! - `dropzone_upload_duration_seconds`: from OPEN to the answer that acknowledges the file
//! - `dropzone_spool_full_total`: uploads and requests turned down because uploads must leave room in the spool
//! - `dropzone_spool_reserve_bytes`, `dropzone_spool_free_bytes`: what uploads must leave, and what is left
//! - `dropzone_contained{what}`: 1 where the kernel keeps the process from the files, ports and processes it does not need

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::admission::{Admission, Limit};
use super::ends::{ConnectionRefusal, SessionEnd, UploadOutcome};
use super::{MetricsError, add, counters, durations};
use crate::host::clock::Clock;
use crate::host::containment::Containment;
use crate::host::log::AccessLog;
use crate::policy::account::LoginRefusal;
use crate::policy::path::Slug;
use crate::policy::penalties::Offence;
use crate::policy::question::Answer;
use crate::policy::reason::Reason;

/// The metrics of `serve`. Shared by `Arc`.
pub struct ServeMetrics {
    registry: Registry,
    connections: IntGauge,
    connections_total: IntCounter,
    connections_refused: IntCounterVec,
    authentications: IntCounterVec,
    sessions: IntGauge,
    admission: Admission,
    institutions: RwLock<BTreeMap<Slug, OfInstitution>>,
    vectors: Vectors,
    uploads_refused: IntCounterVec,
    requests_denied: IntCounterVec,
    sessions_ended: IntCounterVec,
    unwritten: IntGauge,
    upload_duration: Histogram,
    questions: Questions,
    spool: SpoolRoom,
}

/// Looked up once per transfer or chunk: no label has to be hashed for that.
struct OfInstitution {
    uploads: [IntCounter; UploadOutcome::ALL.len()],
    received: IntCounter,
    sent: IntCounter,
}

impl ServeMetrics {
    /// All series, at 0.
    pub fn new<'a>(
        institutions: impl Iterator<Item = &'a Slug>,
        clock: &Clock,
    ) -> Result<Self, MetricsError> {
        let registry = super::registry("serve", clock)?;
        let connections = IntGauge::new("dropzone_connections", "TCP connections open now")?;
        let sessions = IntGauge::new("dropzone_sessions", "SFTP sessions open now")?;
        let connections_total = IntCounter::new("dropzone_connections_total", "TCP connections accepted")?;
        let unwritten = IntGauge::new("dropzone_unwritten_bytes", "Bytes held in memory until others come")?;
        add(&registry, &unwritten)?;
        add(&registry, &connections)?;
        add(&registry, &sessions)?;
        add(&registry, &connections_total)?;
        let metrics = Self {
            connections_refused: connections_refused(&registry)?,
            authentications: authentications(&registry)?,
            institutions: RwLock::default(),
            vectors: Vectors::new(&registry)?,
            uploads_refused: reasons(
                &registry,
                ("dropzone_uploads_refused_total", "Refused uploads by reason"),
            )?,
            requests_denied: reasons(
                &registry,
                ("dropzone_requests_denied_total", "SFTP requests turned down by reason"),
            )?,
            sessions_ended: sessions_ended(&registry)?,
            unwritten,
            upload_duration: durations(
                &registry,
                ("dropzone_upload_duration_seconds", "From OPEN to the acknowledgement"),
                &[],
            )?
            .with_label_values::<&str>(&[]),
            questions: Questions::new(&registry)?,
            spool: SpoolRoom::new(&registry)?,
            connections,
            connections_total,
            sessions,
            admission: Admission::new(&registry)?,
            registry,
        };
        metrics.know(institutions);
        Ok(metrics)
    }

    /// From now on these institutions have series; those of others stay as they are.
    pub fn know<'a>(&self, institutions: impl Iterator<Item = &'a Slug>) {
        let mut known = self.institutions.write().unwrap_or_else(PoisonError::into_inner);
        for institution in institutions {
            known.entry(institution.clone()).or_insert_with(|| self.vectors.of(institution));
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, BTreeMap<Slug, OfInstitution>> {
        self.institutions.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `host::http` serves.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Shows the health of the access log too.
    pub fn watch_log(&self, log: &AccessLog) -> Result<(), MetricsError> {
        super::watch_log(&self.registry, log)
    }

    /// Shows what the process is held to.
    pub fn contained(&self, contained: Containment) -> Result<(), MetricsError> {
        let help = "1 where the kernel keeps the process to what it needs";
        let gauges = IntGaugeVec::new(Opts::new("dropzone_contained", help), &["what"])?;
        add(&self.registry, &gauges)?;
        for (what, held) in contained.parts() {
            gauges.with_label_values(&[what]).set(i64::from(held));
        }
        Ok(())
    }

    /// A connection was accepted; it counts as open until the guard is dropped.
    pub fn connection(&self) -> Open {
        self.connections_total.inc();
        Open::one_more(&self.connections)
    }

    /// A connection was cut before anybody was logged in.
    pub fn connection_refused(&self, cause: ConnectionRefusal) {
        self.connections_refused.with_label_values(&[cause.code()]).inc();
    }

    /// A source was penalised.
    pub fn penalty(&self, offence: Offence) {
        self.admission.penalty(offence);
    }

    /// A connection ended that never asked to log in.
    pub fn probe(&self, exempt: bool) {
        self.admission.probe(exempt);
    }

    /// How many connections wait for their login now, and how many sources are refused.
    pub fn admission(&self, waiting: usize, refused: usize) {
        self.admission.now(waiting, refused);
    }

    /// Somebody who is logged in met a limit.
    pub fn limit_reached(&self, limit: Limit) {
        self.admission.reached(limit);
    }

    /// A login was decided.
    pub fn authentication(&self, refusal: Option<LoginRefusal>) {
        let labels = refusal.map_or(["accepted", "none"], |refusal| ["refused", refusal.code()]);
        self.authentications.with_label_values(&labels).inc();
    }

    /// An SFTP session began; it counts as open until the guard is dropped.
    pub fn session(&self) -> Open {
        Open::one_more(&self.sessions)
    }

    /// A file that was opened for writing ended.
    pub fn upload(&self, institution: &Slug, outcome: UploadOutcome) {
        let known = self.known();
        let uploads = known.get(institution).map(|of| &of.uploads);
        let at = UploadOutcome::ALL.iter().position(|one| *one == outcome);
        if let Some(counter) = at.and_then(|at| uploads?.get(at)) {
            counter.inc();
        }
    }

    /// The gate refused an upload; `upload` counts it too.
    pub fn upload_refused(&self, reason: &Reason) {
        self.uploads_refused.with_label_values(&[reason.code()]).inc();
    }

    /// A request was turned down.
    pub fn request_denied(&self, reason: &Reason) {
        self.met_full_spool(reason);
        self.requests_denied.with_label_values(&[reason.code()]).inc();
    }

    /// Counts it if the reason is that the spool is full.
    pub fn met_full_spool(&self, reason: &Reason) {
        if *reason == Reason::SpoolFull {
            self.spool.full.inc();
        }
    }

    /// What uploads must leave in the spool, and what is left in it.
    pub fn spool_room(&self, reserve: u64, free: u64) {
        self.spool.reserve.set(i64::try_from(reserve).unwrap_or(i64::MAX));
        self.spool.free.set(i64::try_from(free).unwrap_or(i64::MAX));
    }

    /// This side ended an SFTP session.
    pub fn session_ended(&self, cause: SessionEnd) {
        self.sessions_ended.with_label_values(&[cause.code()]).inc();
    }

    /// So many bytes of uploads are held in memory.
    pub fn unwritten(&self, bytes: usize) {
        self.unwritten.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// File content came from an institution.
    pub fn received(&self, institution: &Slug, bytes: u64) {
        if let Some(of) = self.known().get(institution) {
            of.received.inc_by(bytes);
        }
    }

    /// File content went to an institution.
    pub fn sent(&self, institution: &Slug, bytes: u64) {
        if let Some(of) = self.known().get(institution) {
            of.sent.inc_by(bytes);
        }
    }

    /// Counts what `work` is asked; clones share the counts.
    pub fn questions(&self) -> Questions {
        self.questions.clone()
    }

    /// An upload was acknowledged, so long after its OPEN.
    pub fn upload_took(&self, duration: Duration) {
        self.upload_duration.observe(duration.as_secs_f64());
    }
}

/// Counts the questions to `work`.
#[derive(Clone)]
pub struct Questions {
    answers: IntCounterVec,
    duration: Histogram,
}

impl Questions {
    fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let name = ("dropzone_questions_total", "Uploads about which work was asked, by its answer");
        let answers = counters(registry, name, &["answer"])?;
        for answer in Answer::ALL.map(Some).into_iter().chain([None]) {
            answers.with_label_values(&[answer.map_or("none", Answer::code)]);
        }
        let name = ("dropzone_question_duration_seconds", "How long an upload waited for the answer");
        Ok(Self { answers, duration: durations(registry, name, &[])?.with_label_values::<&str>(&[]) })
    }

    /// Something was asked, and this came back after so long.
    pub fn asked(&self, answer: Option<Answer>, took: Duration) {
        self.answers.with_label_values(&[answer.map_or("none", Answer::code)]).inc();
        self.duration.observe(took.as_secs_f64());
    }
}

/// Whether uploads find room.
struct SpoolRoom {
    full: IntCounter,
    reserve: IntGauge,
    free: IntGauge,
}

impl SpoolRoom {
    fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let full = IntCounter::new("dropzone_spool_full_total", "Turned down because the spool is full")?;
        let reserve = IntGauge::new("dropzone_spool_reserve_bytes", "What uploads must leave in the spool")?;
        let free = IntGauge::new("dropzone_spool_free_bytes", "What can still be written to the spool")?;
        add(registry, &full)?;
        add(registry, &reserve)?;
        add(registry, &free)?;
        Ok(Self { full, reserve, free })
    }
}

/// Counts as open while it lives.
#[must_use]
pub struct Open(IntGauge);

impl Open {
    fn one_more(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A counter with one series per reason.
pub(super) fn reasons(registry: &Registry, name: (&str, &str)) -> Result<IntCounterVec, MetricsError> {
    let reasons = counters(registry, name, &["reason"])?;
    for code in Reason::codes() {
        reasons.with_label_values(&[code]);
    }
    Ok(reasons)
}

fn connections_refused(registry: &Registry) -> Result<IntCounterVec, MetricsError> {
    let name = ("dropzone_connections_refused_total", "Connections cut before anybody was logged in");
    let refused = counters(registry, name, &["cause"])?;
    for cause in ConnectionRefusal::ALL {
        refused.with_label_values(&[cause.code()]);
    }
    Ok(refused)
}

fn sessions_ended(registry: &Registry) -> Result<IntCounterVec, MetricsError> {
    let name = ("dropzone_sessions_ended_total", "SFTP sessions that this side ended");
    let ended = counters(registry, name, &["cause"])?;
    for cause in SessionEnd::ALL {
        ended.with_label_values(&[cause.code()]);
    }
    Ok(ended)
}

fn authentications(registry: &Registry) -> Result<IntCounterVec, MetricsError> {
    let name = ("dropzone_authentications_total", "Logins by result and reason");
    let authentications = counters(registry, name, &["result", "reason"])?;
    authentications.with_label_values(&["accepted", "none"]);
    for refusal in LoginRefusal::ALL {
        authentications.with_label_values(&["refused", refusal.code()]);
    }
    Ok(authentications)
}

/// What the series of an institution are made from.
struct Vectors {
    uploads: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
}

impl Vectors {
    fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let named = |name, help, labels: &[&str]| counters(registry, (name, help), labels);
        Ok(Self {
            uploads: named(
                "dropzone_uploads_total",
                "Files opened for writing, by how that ended",
                &["institution", "outcome"],
            )?,
            received: named("dropzone_received_bytes_total", "File content received", &["institution"])?,
            sent: named("dropzone_sent_bytes_total", "File content sent", &["institution"])?,
        })
    }

    fn of(&self, institution: &Slug) -> OfInstitution {
        let name = institution.as_str();
        OfInstitution {
            uploads: UploadOutcome::ALL
                .map(|outcome| self.uploads.with_label_values(&[name, outcome.code()])),
            received: self.received.with_label_values(&[name]),
            sent: self.sent.with_label_values(&[name]),
        }
    }
}

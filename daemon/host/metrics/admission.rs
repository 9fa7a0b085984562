//! What monitoring sees of the table of connections: who waits, who is under penalty, who came without asking to log in.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::{MetricsError, add, counters};
use crate::policy::penalties::Offence;

/// What somebody who is logged in had too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Channels at a time, or over a connection's life.
    Channels,
    /// Open files and folders.
    Handles,
    /// Requests whose answers are not read.
    OutstandingRequests,
    /// Bytes in one SFTP packet.
    PacketSize,
    /// Time without SFTP progress.
    Idle,
    /// Signs of life left unanswered.
    Keepalive,
}

impl Limit {
    /// All, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Channels,
        Self::Handles,
        Self::OutstandingRequests,
        Self::PacketSize,
        Self::Idle,
        Self::Keepalive,
    ];

    /// The label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Handles => "handles",
            Self::OutstandingRequests => "outstanding-requests",
            Self::PacketSize => "packet-size",
            Self::Idle => "idle",
            Self::Keepalive => "keepalive",
        }
    }
}

/// A part of `ServeMetrics`.
pub(super) struct Admission {
    waiting: IntGauge,
    penalties: IntCounterVec,
    refused: IntGauge,
    probes_exempt: IntCounter,
    probes_other: IntCounter,
    limits: IntCounterVec,
}

impl Admission {
    /// All series, at 0.
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let waiting = IntGauge::new(
            "dropzone_connections_unauthenticated",
            "TCP connections that wait for their login",
        )?;
        let refused =
            IntGauge::new("dropzone_penalties_active", "Sources whose connections are refused now")?;
        add(registry, &waiting)?;
        add(registry, &refused)?;
        let penalties = counters(
            registry,
            ("dropzone_penalties_total", "Offences that counted against their source"),
            &["cause"],
        )?;
        for offence in Offence::ALL {
            penalties.with_label_values(&[offence.code()]);
        }
        let probes = counters(
            registry,
            ("dropzone_probes_total", "Connections that ended without asking to log in"),
            &["source"],
        )?;
        let limits = counters(
            registry,
            ("dropzone_limits_reached_total", "What sessions had too much of, by limit"),
            &["limit"],
        )?;
        for limit in Limit::ALL {
            limits.with_label_values(&[limit.code()]);
        }
        Ok(Self {
            waiting,
            limits,
            penalties,
            refused,
            probes_exempt: probes.with_label_values(&["exempt"]),
            probes_other: probes.with_label_values(&["other"]),
        })
    }

    pub(super) fn penalty(&self, offence: Offence) {
        self.penalties.with_label_values(&[offence.code()]).inc();
    }

    pub(super) fn probe(&self, exempt: bool) {
        if exempt { &self.probes_exempt } else { &self.probes_other }.inc();
    }

    pub(super) fn reached(&self, limit: Limit) {
        self.limits.with_label_values(&[limit.code()]).inc();
    }

    pub(super) fn now(&self, waiting: usize, refused: usize) {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
    }
}

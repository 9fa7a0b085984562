//! What a process that deletes by itself has for it: the guard of its clock, what monitoring sees, and word of an operator who
//! says that the clock is right. What is deleted with a `Leave`, and when it is looked for, is up to each side.

use prometheus::Registry;
use tokio::sync::Notify;

use super::control::Operator;
use super::guard::Guard;
use super::log::{AccessLog, LogError};
use super::metrics::{MetricsError, RetentionMetrics};
use crate::policy::record::operator_reason;
use crate::policy::retention::Kind;
use crate::policy::trust::Leave;

/// See the module.
pub struct Upkeep {
    guard: Guard,
    metrics: RetentionMetrics,
    confirmed: Notify,
}

/// The clock could not be confirmed.
#[derive(Debug, thiserror::Error)]
pub enum NotConfirmed {
    /// Nobody said why.
    #[error("confirming the clock needs a reason, which the log keeps")]
    NoReason,
    /// No record, no confirmation.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Upkeep {
    /// Registers its metrics.
    pub fn new(guard: Guard, registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self { guard, metrics: RetentionMetrics::new(registry)?, confirmed: Notify::new() })
    }

    /// Looks at the clock, shows monitoring whether deletions wait, and gives leave where they do not. Blocks.
    pub fn look(&self, log: &AccessLog) -> Option<Leave> {
        let leave = self.guard.look(log);
        self.metrics.held(leave.is_none());
        leave
    }

    /// Something was deleted.
    pub fn deleted(&self, kind: Kind) {
        self.metrics.deleted(kind);
    }

    /// An operator says that the clock is right: what waits for that begins at once. Gives what was done, in words. Blocks.
    pub fn confirm(
        &self,
        log: &AccessLog,
        operator: &Operator,
        reason: &str,
    ) -> Result<String, NotConfirmed> {
        let reason = operator_reason(reason).ok_or(NotConfirmed::NoReason)?;
        let told = self.guard.confirm(log, &operator.to_string(), &reason)?;
        self.confirmed.notify_one();
        Ok(told)
    }

    /// Returns when an operator has confirmed the clock since this was asked last.
    pub async fn confirmed(&self) {
        self.confirmed.notified().await;
    }
}

//! What monitoring sees of deletions:
//! - `dropzone_retention_held`: 1 while nothing is deleted because the clock is not to be believed
//! - `dropzone_retention_deleted_total{kind}`: things deleted because their time had passed

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::{MetricsError, add, counters};
use crate::policy::retention::Kind;

/// Whether deletions wait, and how many there were.
pub struct RetentionMetrics {
    held: IntGauge,
    deleted: IntCounterVec,
}

impl RetentionMetrics {
    /// Registers all series, at 0.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let held = IntGauge::new(
            "dropzone_retention_held",
            "1 while nothing is deleted, because the clock is not where it should be and nobody has confirmed it",
        )?;
        add(registry, &held)?;
        let name = ("dropzone_retention_deleted_total", "Things deleted because their time had passed");
        let deleted = counters(registry, name, &["kind"])?;
        for kind in Kind::ALL {
            deleted.with_label_values(&[kind.code()]);
        }
        Ok(Self { held, deleted })
    }

    /// Whether deletions wait.
    pub fn held(&self, is_held: bool) {
        self.held.set(i64::from(is_held));
    }

    /// Something was deleted.
    pub fn deleted(&self, kind: Kind) {
        self.deleted.with_label_values(&[kind.code()]).inc();
    }
}

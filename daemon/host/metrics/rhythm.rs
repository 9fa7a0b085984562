//! What monitoring sees of the rhythm of flows from which lists are expected:
//! - `dropzone_rhythm_due_timestamp_seconds{exchange,flow}`: by when the next list is due; 0 if none is
//! - `dropzone_rhythm_missing{exchange,flow}`: 1 while a list is missing that should have come

use jiff::Timestamp;
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use super::{MetricsError, add, seconds};
use crate::policy::path::Slug;

/// When lists are due, and whether they are missing.
pub struct RhythmMetrics {
    due: GaugeVec,
    missing: IntGaugeVec,
}

impl RhythmMetrics {
    /// Registers them; each flow's series appear when it is first looked at.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let labels = ["exchange", "flow"];
        let help = "By when the next list is due, seconds since 1970; 0 if none is";
        let due = GaugeVec::new(Opts::new("dropzone_rhythm_due_timestamp_seconds", help), &labels)?;
        let help = "1 while a list is missing that should have come";
        let missing = IntGaugeVec::new(Opts::new("dropzone_rhythm_missing", help), &labels)?;
        add(registry, &due)?;
        add(registry, &missing)?;
        Ok(Self { due, missing })
    }

    /// How a flow stands.
    pub fn tell(&self, exchange: &Slug, flow: &Slug, due: Option<Timestamp>, is_missing: bool) {
        let labels = [exchange.as_str(), flow.as_str()];
        self.due.with_label_values(&labels).set(due.map_or(0.0, seconds));
        self.missing.with_label_values(&labels).set(i64::from(is_missing));
    }
}

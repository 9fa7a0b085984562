//! What monitoring sees of incidents that nobody has closed:
//! - `dropzone_incidents_open{kind}`: open ones, by the code of an `Incident`
//! - `dropzone_incident_report_seconds_left{exchange}`: until the first of an exchange's open ones is to be reported, negative when that
//!   has passed; `none` for those without an exchange. There is no series where nothing is open
//! - `dropzone_incident_tellings_total{result}`: incidents that the configured program was told: `taken` or `failed`

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{MetricsError, add, counters};
use crate::policy::incident::Incident;

/// The label of incidents without an exchange.
pub const NONE: &str = "none";
const TAKEN: &str = "taken";
const FAILED: &str = "failed";

/// See the module.
pub struct IncidentMetrics {
    open: IntGaugeVec,
    left: GaugeVec,
    tellings: IntCounterVec,
    shown: Mutex<BTreeSet<String>>,
}

impl IncidentMetrics {
    /// Registers all series that are always there, at 0.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let open = IntGaugeVec::new(
            Opts::new("dropzone_incidents_open", "Incidents that nobody has closed"),
            &["kind"],
        )?;
        Incident::ALL.iter().for_each(|kind| open.with_label_values(&[kind.code()]).set(0));
        let help = "Until the first open incident is to be reported; negative when that has passed";
        let left = GaugeVec::new(Opts::new("dropzone_incident_report_seconds_left", help), &["exchange"])?;
        add(registry, &open)?;
        add(registry, &left)?;
        let name = ("dropzone_incident_tellings_total", "Incidents that the configured program was told");
        let tellings = counters(registry, name, &["result"])?;
        [TAKEN, FAILED].iter().for_each(|result| drop(tellings.with_label_values(&[result])));
        Ok(Self { open, left, tellings, shown: Mutex::default() })
    }

    /// What is open: how many of each kind, and by when the first of each exchange is to be reported.
    pub fn open(
        &self,
        counts: &BTreeMap<Incident, usize>,
        deadlines: &BTreeMap<String, Timestamp>,
        now: Timestamp,
    ) {
        for kind in Incident::ALL {
            let count = counts.get(&kind).copied().unwrap_or(0);
            self.open.with_label_values(&[kind.code()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (exchange, deadline) in deadlines {
            let left = deadline.duration_since(now).as_secs_f64();
            self.left.with_label_values(&[exchange.as_str()]).set(left);
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.iter().filter(|exchange| !deadlines.contains_key(*exchange)) {
            let _ = self.left.remove_label_values(&[gone.as_str()]);
        }
        *shown = deadlines.keys().cloned().collect();
    }

    /// The program was told one, and took it or not.
    pub fn told(&self, was_taken: bool) {
        self.tellings.with_label_values(&[if was_taken { TAKEN } else { FAILED }]).inc();
    }
}

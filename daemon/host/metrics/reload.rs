//! Which configuration a process runs with, for monitoring and readiness:
//! - `dropzone_config_last_reload_successful`: 1, or 0 while what lies on the disk was turned down
//! - `dropzone_config_loaded_timestamp_seconds`: since when the one in force is, seconds since 1970

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::{Gauge, IntGauge, Registry};

use super::{MetricsError, add, seconds};

/// The outcome of the last reload.
pub struct ReloadMetrics {
    is_good: IntGauge,
    loaded: Gauge,
    fault: Mutex<Option<String>>,
}

impl ReloadMetrics {
    /// Registers both series; the configuration that the process started with is good.
    pub fn new(registry: &Registry, now: Timestamp) -> Result<Self, MetricsError> {
        let is_good = IntGauge::new(
            "dropzone_config_last_reload_successful",
            "1, or 0 while the changed configuration was turned down and the one before is in force",
        )?;
        let loaded = Gauge::new(
            "dropzone_config_loaded_timestamp_seconds",
            "Since when the configuration in force is, seconds since 1970",
        )?;
        add(registry, &is_good)?;
        add(registry, &loaded)?;
        let metrics = Self { is_good, loaded, fault: Mutex::new(None) };
        metrics.applied(Some(now));
        Ok(metrics)
    }

    /// What lies on the disk is in force, since now or, with none, as before.
    pub fn applied(&self, since: Option<Timestamp>) {
        self.is_good.set(1);
        if let Some(since) = since {
            self.loaded.set(seconds(since));
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What lies on the disk was turned down for this.
    pub fn turned_down(&self, problem: &str) {
        self.is_good.set(0);
        let fault = format!("the configuration on the disk is not in force, the one before it is: {problem}");
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// For readiness.
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

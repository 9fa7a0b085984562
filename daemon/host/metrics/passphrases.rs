//! What monitoring sees of passphrases that wait to be handed out:
//! - `dropzone_passphrases_waiting`: passphrases of delivered results that nobody was told yet
//! - `dropzone_passphrases_oldest_seconds`: age of the oldest of them; 0 if there is none
//! - `dropzone_passphrase_handovers_total{result}`: passphrases handed out: `operator`, `program`, or `failed` where the program
//!   did not take one

use std::time::Duration;

use prometheus::{Gauge, IntCounterVec, IntGauge, Registry};

use super::{MetricsError, add, counters};

/// How a passphrase was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandOver {
    /// To an operator who asked.
    Operator,
    /// To the configured program.
    Program,
    /// The program did not take it.
    Failed,
}

impl HandOver {
    const ALL: [Self; 3] = [Self::Operator, Self::Program, Self::Failed];

    fn code(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Program => "program",
            Self::Failed => "failed",
        }
    }
}

/// See the module.
pub struct PassphraseMetrics {
    waiting: IntGauge,
    oldest: Gauge,
    handed_over: IntCounterVec,
}

impl PassphraseMetrics {
    /// Registers all series, at 0.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let help = "Passphrases of delivered results that nobody was told yet";
        let waiting = IntGauge::new("dropzone_passphrases_waiting", help)?;
        let help = "Age of the oldest passphrase that nobody was told yet; 0 if there is none";
        let oldest = Gauge::new("dropzone_passphrases_oldest_seconds", help)?;
        add(registry, &waiting)?;
        add(registry, &oldest)?;
        let name =
            ("dropzone_passphrase_handovers_total", "Passphrases handed out, or not taken by the program");
        let handed_over = counters(registry, name, &["result"])?;
        HandOver::ALL.iter().for_each(|result| drop(handed_over.with_label_values(&[result.code()])));
        Ok(Self { waiting, oldest, handed_over })
    }

    /// How many wait, and for how long the oldest has.
    pub fn waiting(&self, count: usize, oldest: Duration) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.oldest.set(oldest.as_secs_f64());
    }

    /// One was handed out, or not taken.
    pub fn handed_over(&self, how: HandOver) {
        self.handed_over.with_label_values(&[how.code()]).inc();
    }
}

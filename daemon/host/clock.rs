//! The one place that asks what time it is. Log times are UTC; agreement days are calendar days in Europe/Brussels.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil::Date};

/// The wall clock.
#[derive(Debug, Clone)]
pub struct Clock {
    zone: TimeZone,
}

impl Clock {
    /// The machine's clock. The time zone's rules are compiled in, so that asking for them cannot fail.
    pub fn system() -> Self {
        Self { zone: TimeZone::get("Europe/Brussels").unwrap_or(TimeZone::UTC) }
    }

    /// Now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The calendar day in Europe/Brussels.
    pub fn today(&self) -> Date {
        self.now().to_zoned(self.zone.clone()).date()
    }
}

//! The wall clock: the only place that asks what time it is, so that a test can say it. Log times and log days are UTC;
//! the days of agreements and keys are calendar days in Europe/Brussels, with the time zone data compiled in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Tells the time.
#[derive(Debug, Clone)]
pub struct Clock {
    fixed: Option<Arc<Mutex<Timestamp>>>,
    agreements: TimeZone,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::with(None)
    }

    /// A clock that stands still until it is set, for tests.
    pub fn fixed(at: Timestamp) -> Self {
        Self::with(Some(at))
    }

    /// Sets one that stands still, and all its clones.
    pub fn set(&self, to: Timestamp) {
        if let Some(fixed) = &self.fixed {
            *fixed.lock().unwrap_or_else(PoisonError::into_inner) = to;
        }
    }

    fn with(fixed: Option<Timestamp>) -> Self {
        // Not the machine's own data: a zone must not end a day early because a container image came without it. It
        // is compiled in, which the test below holds; central European winter time only stands in for a panic.
        let agreements = TimeZoneDatabase::bundled().get("Europe/Brussels");
        Self {
            fixed: fixed.map(|at| Arc::new(Mutex::new(at))),
            agreements: agreements.unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(1))),
        }
    }

    /// The time, for log lines, ids and receipts.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn now(&self) -> Timestamp {
        match &self.fixed {
            Some(fixed) => *fixed.lock().unwrap_or_else(PoisonError::into_inner),
            None => Timestamp::now(),
        }
    }

    /// Time since the machine started, its sleep included, which nobody can set; a clock that stands still has none.
    pub fn since_boot(&self) -> Duration {
        if self.fixed.is_some() {
            return Duration::ZERO;
        }
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(since.tv_sec), u32::try_from(since.tv_nsec));
        Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
    }

    /// The calendar day in Europe/Brussels, for agreements and keys.
    pub fn today(&self) -> Date {
        self.now().to_zoned(self.agreements.clone()).date()
    }

    /// The calendar day in UTC, for the files of the access log.
    pub fn today_utc(&self) -> Date {
        utc_day(self.now())
    }
}

/// The UTC day of a time.
pub(super) fn utc_day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn an_agreement_day_begins_at_midnight_in_brussels_in_winter_and_summer() {
        for (at, agreement_day, log_day) in [
            ("2026-12-31T22:59:59Z", date(2026, 12, 31), date(2026, 12, 31)),
            ("2026-12-31T23:00:00Z", date(2027, 1, 1), date(2026, 12, 31)),
            ("2026-06-30T21:59:59Z", date(2026, 6, 30), date(2026, 6, 30)),
            ("2026-06-30T22:00:00Z", date(2026, 7, 1), date(2026, 6, 30)),
        ] {
            let clock = Clock::fixed(at.parse().unwrap());
            assert_eq!((clock.today(), clock.today_utc()), (agreement_day, log_day), "{at}");
        }
    }
}

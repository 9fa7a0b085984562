//! The wall clock: the only place that asks what time it is, so that a test can say it. Log times and log days are UTC;
//! the days of agreements and keys are calendar days in Europe/Brussels, with the time zone data compiled in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::policy::trust::Reading;

/// Tells the time.
#[derive(Debug, Clone)]
pub struct Clock {
    fixed: Option<Arc<Mutex<Reading>>>,
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

    /// Sets one that stands still, and all its clones: as an operator does, and no time passes.
    pub fn set(&self, to: Timestamp) {
        if let Some(fixed) = &self.fixed {
            fixed.lock().unwrap_or_else(PoisonError::into_inner).now = to;
        }
    }

    /// Lets time pass on one that stands still, and all its clones.
    pub fn pass(&self, time: Duration) {
        if let Some(fixed) = &self.fixed {
            let mut reading = fixed.lock().unwrap_or_else(PoisonError::into_inner);
            reading.now = reading.now.checked_add(time).unwrap_or(Timestamp::MAX);
            reading.since_boot = reading.since_boot.saturating_add(time);
        }
    }

    fn with(fixed: Option<Timestamp>) -> Self {
        // Not the machine's own data: a zone must not end a day early because a container image came without it. It
        // is compiled in, which the test below holds; central European winter time only stands in for a panic.
        let agreements = TimeZoneDatabase::bundled().get("Europe/Brussels");
        Self {
            fixed: fixed.map(|now| Arc::new(Mutex::new(Reading { now, since_boot: Duration::ZERO }))),
            agreements: agreements.unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(1))),
        }
    }

    /// The time, for log lines, ids and receipts.
    pub fn now(&self) -> Timestamp {
        self.reading().now
    }

    /// Time since the machine started, its sleep included, which nobody can set.
    pub fn since_boot(&self) -> Duration {
        self.reading().since_boot
    }

    /// Both at one moment.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn reading(&self) -> Reading {
        if let Some(fixed) = &self.fixed {
            return *fixed.lock().unwrap_or_else(PoisonError::into_inner);
        }
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(since.tv_sec), u32::try_from(since.tv_nsec));
        let since_boot = Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0));
        Reading { now: Timestamp::now(), since_boot }
    }

    /// The calendar day in Europe/Brussels, for agreements and keys.
    pub fn today(&self) -> Date {
        self.day_of(self.now())
    }

    /// The calendar day of a time, in Europe/Brussels.
    pub fn day_of(&self, at: Timestamp) -> Date {
        self.local(at).date()
    }

    /// When a calendar day ends in Europe/Brussels.
    pub fn end_of(&self, day: Date) -> Timestamp {
        day.tomorrow().map_or(Timestamp::MAX, |next| self.begins(next))
    }

    /// What a clock in Brussels shows at a time.
    pub fn local(&self, at: Timestamp) -> DateTime {
        at.to_zoned(self.agreements.clone()).datetime()
    }

    /// When a calendar day begins in Brussels.
    pub fn begins(&self, day: Date) -> Timestamp {
        let begins = day.to_zoned(self.agreements.clone()).map(|midnight| midnight.timestamp());
        begins.unwrap_or(if day < Date::ZERO { Timestamp::MIN } else { Timestamp::MAX })
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
            let begins = clock.begins(agreement_day);
            assert_eq!(clock.local(begins), agreement_day.at(0, 0, 0, 0));
            assert!(begins <= clock.now() && clock.now() < clock.begins(agreement_day.tomorrow().unwrap()));
        }
    }
}

//! The wall clock: the only place that asks what time it is, so that a test can say it. Log times and log days are UTC;
//! the days of agreements and keys are calendar days in Europe/Brussels, with the time zone data compiled in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::policy::trust::Reading;

/// Tells the time.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    agreements: TimeZone,
}

#[derive(Debug, Clone)]
enum Source {
    System,
    /// Stands still.
    Fixed(Arc<Mutex<Reading>>),
    /// The machine's, and how far this one is from it.
    Shifted(Arc<Mutex<Shift>>),
}

#[derive(Debug, Clone, Copy)]
struct Shift {
    now: SignedDuration,
    since_boot: Duration,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::of(Source::System)
    }

    /// A clock that stands still until it is set, for tests.
    pub fn fixed(at: Timestamp) -> Self {
        Self::of(Source::Fixed(Arc::new(Mutex::new(Reading { now: at, since_boot: Duration::ZERO }))))
    }

    /// A clock that shows this now and goes on as the machine's does: what the demo plays an agreement by that is over, or a year
    /// in a minute. No option of a daemon leads here.
    pub fn shifted(to: Timestamp) -> Self {
        let now = to.duration_since(Self::system().now());
        Self::of(Source::Shifted(Arc::new(Mutex::new(Shift { now, since_boot: Duration::ZERO }))))
    }

    /// Sets one that stands still, and all its clones: as an operator does, and no time passes.
    pub fn set(&self, to: Timestamp) {
        if let Source::Fixed(fixed) = &self.source {
            fixed.lock().unwrap_or_else(PoisonError::into_inner).now = to;
        }
    }

    /// Lets time pass on one that stands still or is shifted, and all its clones.
    pub fn pass(&self, time: Duration) {
        match &self.source {
            Source::System => {}
            Source::Fixed(fixed) => {
                let mut reading = fixed.lock().unwrap_or_else(PoisonError::into_inner);
                *reading = later(*reading, time);
            }
            Source::Shifted(shift) => {
                let mut shift = shift.lock().unwrap_or_else(PoisonError::into_inner);
                let by = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
                shift.now = shift.now.saturating_add(by);
                shift.since_boot = shift.since_boot.saturating_add(time);
            }
        }
    }

    fn of(source: Source) -> Self {
        // Not the machine's own data: a zone must not end a day early because a container image came without it. It
        // is compiled in, which the test below holds; central European winter time only stands in for a panic.
        let agreements = TimeZoneDatabase::bundled().get("Europe/Brussels");
        Self { source, agreements: agreements.unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(1))) }
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
    pub fn reading(&self) -> Reading {
        match &self.source {
            Source::System => of_the_machine(),
            Source::Fixed(fixed) => *fixed.lock().unwrap_or_else(PoisonError::into_inner),
            Source::Shifted(shift) => {
                let Shift { now, since_boot } = *shift.lock().unwrap_or_else(PoisonError::into_inner);
                let real = of_the_machine();
                let shifted = real.now.checked_add(now).unwrap_or(Timestamp::MAX);
                Reading { now: shifted, since_boot: real.since_boot.saturating_add(since_boot) }
            }
        }
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

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn of_the_machine() -> Reading {
    let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(since.tv_sec), u32::try_from(since.tv_nsec));
    let since_boot = Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0));
    Reading { now: Timestamp::now(), since_boot }
}

fn later(reading: Reading, time: Duration) -> Reading {
    let now = reading.now.checked_add(time).unwrap_or(Timestamp::MAX);
    Reading { now, since_boot: reading.since_boot.saturating_add(time) }
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

    #[test]
    fn a_shifted_clock_goes_on_by_itself_and_what_passes_on_it_is_no_jump() {
        let began: Timestamp = "2022-06-30T12:00:00Z".parse().unwrap();
        let clock = Clock::shifted(began);
        let (first, copy) = (clock.reading(), clock.clone());
        std::thread::sleep(Duration::from_millis(20));
        let second = copy.reading();
        assert!(began <= first.now && first.now < second.now && first.since_boot < second.since_boot);
        clock.pass(Duration::from_secs(86_400));
        let third = copy.reading();
        assert!(third.now >= second.now + Duration::from_secs(86_400));
        assert!(third.since_boot >= second.since_boot + Duration::from_secs(86_400), "both clocks went on");
    }
}

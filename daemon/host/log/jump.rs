//! Notices that the clock was set: its time against the time since the machine started, from one record to the next.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::policy::record::{Event, Outcome, Record};

/// Two minutes: what a clock corrects by itself (NTP, a leap second) stays far below.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(2);

/// Remembers how the two went.
#[derive(Debug, Default)]
pub(super) struct JumpWatch {
    last: Option<(Timestamp, Duration)>,
}

impl JumpWatch {
    /// A record of a jump between the call before and this one.
    pub fn notice(&mut self, now: Timestamp, since_boot: Duration) -> Option<Record> {
        let (then, then_since_boot) = self.last.replace((now, since_boot))?;
        let passed = SignedDuration::try_from(since_boot.saturating_sub(then_since_boot))
            .unwrap_or(SignedDuration::MAX);
        let jump = now.duration_since(then).saturating_sub(passed);
        if jump.abs() <= TOLERANCE {
            return None;
        }
        let (seconds, way) =
            (jump.as_secs().unsigned_abs(), if jump.is_negative() { "back" } else { "forward" });
        let detail = format!("the clock was set {way} by {seconds} seconds since the record before, {then}");
        Some(Record { detail: Some(detail), ..Record::new(Event::ClockJump, Outcome::Ok) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_recorded_and_one_that_goes_on_is_not() {
        let mut watch = JumpWatch::default();
        let mut notice = |time: &str, since_boot: u64| {
            let record = watch.notice(time.parse().unwrap(), Duration::from_secs(since_boot));
            record.and_then(|record| record.detail)
        };
        assert_eq!(notice("2026-11-21T12:00:00Z", 100), None, "nothing to compare with");
        assert_eq!(notice("2026-11-21T18:00:00Z", 100 + 6 * 3600), None, "six quiet hours");
        assert_eq!(notice("2026-11-21T18:01:50Z", 100 + 6 * 3600), None, "corrected a little");
        let back = notice("2026-11-20T18:01:50Z", 100 + 6 * 3600).unwrap();
        assert!(back.contains("back by 86400 seconds"), "{back}");
        let forward = notice("2036-11-20T18:01:50Z", 101 + 6 * 3600).unwrap();
        assert!(forward.contains("forward by 315619199 seconds"), "{forward}");
        assert_eq!(notice("2036-11-20T18:01:51Z", 102 + 6 * 3600), None, "told once");
    }
}

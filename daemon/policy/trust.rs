//! Whether the clock is to be believed when something is to be deleted for its age. A clock that says another time than it
//! should, by more than a day, holds every deletion back, until it comes back by itself or an operator confirms it.
//! Reading clocks, keeping what is known over a restart, and recording what changes is `host::guard`'s business.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// As far as a clock may be off before deletions wait.
pub const TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// What two clocks say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub now: Timestamp,
    /// The time since the machine started, which nobody can set.
    pub since_boot: Duration,
}

/// Leave to delete what has had its time now. Only a clock that is believed gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave(Timestamp);

impl Leave {
    /// The time that was believed; whoever deletes by it decides by this, and asks no clock again.
    pub fn now(self) -> Timestamp {
        self.0
    }

    /// For tests of what is done with it.
    #[cfg(test)]
    pub(crate) fn at(time: &str) -> Self {
        time.parse().map(Self).unwrap()
    }
}

/// What a look at the clock says.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As expected.
    Steady(Leave),
    /// It was as expected, and is off by this now: from here on deletions wait.
    Jumped(SignedDuration),
    /// It is still off by this.
    Held(SignedDuration),
    /// It was off, and is as expected again.
    CameBack,
}

/// A time that was believed, at a moment since boot; what the clock should say follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    believed: Timestamp,
    at: Duration,
    is_held: bool,
}

impl Trust {
    /// At a start: `known` is the last time that was believed before, and whether deletions waited then; without it, the
    /// clock is believed. How long the machine was off nobody can tell, so a long stop looks like a jump.
    pub fn begin(known: Option<(Timestamp, bool)>, reading: Reading) -> Self {
        let (believed, is_held) = known.unwrap_or((reading.now, false));
        let mut trust = Self { believed, at: reading.since_boot, is_held };
        if let Standing::Steady(_) = trust.judge(reading) {
            trust.believe(reading);
        }
        trust
    }

    /// What the clock should say.
    pub fn expected(&self, since_boot: Duration) -> Timestamp {
        let passed = SignedDuration::try_from(since_boot.saturating_sub(self.at));
        let passed = passed.unwrap_or(SignedDuration::MAX);
        self.believed.checked_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// Looks at the clock. The time that was believed stays the same while it runs, so that many small jumps in one
    /// direction add up.
    pub fn judge(&self, reading: Reading) -> Standing {
        let off = reading.now.duration_since(self.expected(reading.since_boot));
        match (off.abs() > TOLERANCE, self.is_held) {
            (false, false) => Standing::Steady(Leave(reading.now)),
            (true, false) => Standing::Jumped(off),
            (true, true) => Standing::Held(off),
            (false, true) => Standing::CameBack,
        }
    }

    /// Whether deletions wait.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// From here on deletions wait.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// The clock is believed, because it came back or an operator says so.
    pub fn believe(&mut self, reading: Reading) {
        *self = Self { believed: reading.now, at: reading.since_boot, is_held: false };
    }
}

/// How far off a clock is, in words.
pub fn words(off: SignedDuration) -> String {
    let seconds = off.as_secs().unsigned_abs();
    let (days, hours) = (seconds / 86_400, seconds % 86_400 / 3_600);
    format!("{days} days and {hours} hours {}", if off.is_negative() { "behind" } else { "ahead" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "2026-11-21T12:00:00Z";

    fn at(time: &str, since_boot: u64) -> Reading {
        Reading { now: time.parse().unwrap(), since_boot: Duration::from_secs(since_boot) }
    }

    /// The four, and the edges: the clock after an hour in which it was set, and whether deletions go on.
    const JUMPS: [(&str, &str, bool); 8] = [
        ("not at all", "2026-11-21T13:00:00Z", true),
        ("an hour back", "2026-11-21T12:00:00Z", true),
        ("a day back", "2026-11-20T13:00:00Z", true),
        ("a day and a second back", "2026-11-20T12:59:59Z", false),
        ("a day ahead", "2026-11-22T13:00:00Z", true),
        ("a day and a second ahead", "2026-11-22T13:00:01Z", false),
        ("ten years ahead", "2036-11-21T13:00:00Z", false),
        ("ten years back", "2016-11-21T13:00:00Z", false),
    ];

    #[test]
    fn a_clock_that_is_off_by_more_than_a_day_gives_no_leave_to_delete() {
        for (what, time, goes_on) in JUMPS {
            let trust = Trust::begin(None, at(NOON, 100));
            let standing = trust.judge(at(time, 3_700));
            assert_eq!(matches!(standing, Standing::Steady(_)), goes_on, "{what}: {standing:?}");
            assert_eq!(matches!(standing, Standing::Jumped(_)), !goes_on, "{what}: {standing:?}");
        }
    }

    #[test]
    fn over_a_restart_what_was_known_last_counts() {
        for (what, time, goes_on) in JUMPS {
            let known = ("2026-11-21T13:00:00Z".parse().unwrap(), false);
            let trust = Trust::begin(Some(known), at(time, 5));
            let standing = trust.judge(at(time, 5));
            assert_eq!(matches!(standing, Standing::Steady(_)), goes_on, "{what}: {standing:?}");
        }
        assert!(matches!(Trust::begin(None, at(NOON, 5)).judge(at(NOON, 5)), Standing::Steady(_)));
    }

    #[test]
    fn deletions_wait_until_the_clock_comes_back_or_is_confirmed_also_over_a_restart() {
        let mut trust = Trust::begin(None, at(NOON, 100));
        let ahead = at("2036-11-21T12:00:10Z", 110);
        assert!(matches!(trust.judge(ahead), Standing::Jumped(_)));
        trust.hold();
        assert!(matches!(trust.judge(ahead), Standing::Held(_)));
        // Ten days of waiting make the jump no smaller.
        assert!(matches!(trust.judge(at("2036-12-01T12:00:10Z", 110 + 864_000)), Standing::Held(_)));
        let expected = trust.expected(Duration::from_secs(110));
        let again = Trust::begin(Some((expected, true)), at("2036-11-21T12:01:00Z", 7));
        assert!(matches!(again.judge(at("2036-11-21T12:01:00Z", 7)), Standing::Held(_)));
        assert_eq!(again.judge(at("2026-11-21T12:01:00Z", 8)), Standing::CameBack);
        trust.believe(ahead);
        assert_eq!(trust.judge(ahead), Standing::Steady(Leave(ahead.now)));
    }

    #[test]
    fn small_jumps_in_one_direction_add_up() {
        let trust = Trust::begin(None, at(NOON, 0));
        assert!(matches!(trust.judge(at("2026-11-22T11:00:00Z", 0)), Standing::Steady(_)));
        assert!(matches!(trust.judge(at("2026-11-23T10:00:00Z", 0)), Standing::Jumped(_)));
    }

    #[test]
    fn a_machine_that_runs_for_months_is_believed() {
        let trust = Trust::begin(None, at(NOON, 0));
        assert!(matches!(trust.judge(at("2027-05-21T12:00:00Z", 181 * 86_400)), Standing::Steady(_)));
    }
}

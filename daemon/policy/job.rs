//! What follows a failed try of a job: another try after a growing wait, or a hold until an operator looks. Which errors
//! pass by themselves is decided where they arise, in `work`; what one job may take is configured.

use std::time::Duration;

use super::reason::Reason;

/// The wait after the first failed try; it doubles with every further one.
pub const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait between two tries, before chance has its say.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What one job may take before it is ended and its arrival held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// From its claim to its results.
    pub time: Duration,
    /// Bytes of all its results together, as they are delivered.
    pub result_size: u64,
    /// Bytes of its decrypted list; and of the databases in memory of as many jobs as may run at a time, for each of them.
    pub memory: u64,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(3600), result_size: 8 << 30, memory: 1 << 30 }
    }
}

/// Why a try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The same try would fail again: the file is at fault, or the configuration is.
    Lasting(Reason),
    /// The disk, the database or this process is at fault, and that may pass.
    Passing,
}

/// What is done after a failed try.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Try again.
    Retry {
        /// Not before this has passed.
        after: Duration,
    },
    /// Wait for an operator.
    Hold(Reason),
}

/// How often something was tried, and may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// With the one that just failed.
    pub made: u32,
    /// The last of these holds.
    pub limit: u32,
}

/// `chance` is any number, each as likely as the other.
pub fn after_failure(tries: Tries, failure: Failure, chance: u64) -> Next {
    match failure {
        Failure::Lasting(reason) => Next::Hold(reason),
        Failure::Passing if tries.made >= tries.limit => Next::Hold(Reason::TriesExhausted),
        Failure::Passing => Next::Retry { after: wait(tries.made, chance) },
    }
}

/// Arrivals that failed together, because a database went away, must not all come back together: between three quarters and
/// five quarters of the full wait.
fn wait(made: u32, chance: u64) -> Duration {
    let doublings = made.saturating_sub(1).min(16);
    let full = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    let permille = 750 + u32::try_from(chance % 501).unwrap_or(0);
    full.saturating_mul(permille) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chance that leaves a wait as it is.
    const MIDDLE: u64 = 250;

    fn after(made: u32, limit: u32, failure: Failure, chance: u64) -> Next {
        after_failure(Tries { made, limit }, failure, chance)
    }

    #[test]
    fn waits_double_from_half_a_minute_to_an_hour() {
        for (made, seconds) in
            [(1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (9, 3600), (u32::MAX - 1, 3600)]
        {
            let next = after(made, u32::MAX, Failure::Passing, MIDDLE);
            assert_eq!(next, Next::Retry { after: Duration::from_secs(seconds) }, "{made}");
        }
    }

    #[test]
    fn chance_moves_a_wait_by_a_quarter_at_most_and_spreads_those_that_failed_together() {
        for made in [1, 2, 8, 40] {
            let full = wait(made, MIDDLE);
            let mut waits: Vec<Duration> = (0..2000_u64)
                .map(|at| wait(made, at.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
                .inspect(|wait| {
                    assert!(*wait >= full * 3 / 4 && *wait <= full * 5 / 4, "{wait:?} of {full:?}")
                })
                .collect();
            waits.sort_unstable();
            waits.dedup();
            assert!(waits.len() > 400, "only {} different waits", waits.len());
        }
        assert_eq!((wait(1, 0), wait(1, 500)), (FIRST_WAIT * 3 / 4, FIRST_WAIT * 5 / 4));
        assert!(wait(1, u64::MAX) >= FIRST_WAIT * 3 / 4);
    }

    #[test]
    fn the_last_try_and_every_lasting_failure_hold() {
        assert_eq!(after(10, 10, Failure::Passing, 0), Next::Hold(Reason::TriesExhausted));
        assert_eq!(after(11, 10, Failure::Passing, 0), Next::Hold(Reason::TriesExhausted));
        assert!(matches!(after(9, 10, Failure::Passing, 0), Next::Retry { .. }));
        assert_eq!(after(1, 10, Failure::Lasting(Reason::Damaged), 0), Next::Hold(Reason::Damaged));
    }
}

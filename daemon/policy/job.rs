//! What follows a failed try of a job: another try after a growing wait, or a hold until an operator looks. Which errors
//! pass by themselves is decided where they arise, in `work`.

use std::time::Duration;

use super::reason::Reason;

/// The wait after the first failed try; it doubles with every further one.
pub const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait between two tries.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

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

/// `tries` counts the one that just failed; the last of `limit` tries holds.
pub fn after_failure(tries: u32, limit: u32, failure: Failure) -> Next {
    match failure {
        Failure::Lasting(reason) => Next::Hold(reason),
        Failure::Passing if tries >= limit => Next::Hold(Reason::TriesExhausted),
        Failure::Passing => {
            let doublings = tries.saturating_sub(1).min(16);
            Next::Retry { after: FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_half_a_minute_to_an_hour() {
        for (tries, seconds) in
            [(1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (9, 3600), (u32::MAX, 3600)]
        {
            let next = after_failure(tries, u32::MAX, Failure::Passing);
            if tries < u32::MAX {
                assert_eq!(next, Next::Retry { after: Duration::from_secs(seconds) }, "{tries}");
            }
        }
    }

    #[test]
    fn the_last_try_and_every_lasting_failure_hold() {
        assert_eq!(after_failure(10, 10, Failure::Passing), Next::Hold(Reason::TriesExhausted));
        assert_eq!(after_failure(11, 10, Failure::Passing), Next::Hold(Reason::TriesExhausted));
        assert!(matches!(after_failure(9, 10, Failure::Passing), Next::Retry { .. }));
        assert_eq!(after_failure(1, 10, Failure::Lasting(Reason::Damaged)), Next::Hold(Reason::Damaged));
    }
}

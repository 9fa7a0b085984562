//! How much of a register a job may keep mapped, and whether another job ran beside it. What SQLite takes beyond that is bounded for
//! the process, by `query`.

use std::sync::atomic::{AtomicU64, Ordering};

/// What of registers all jobs together may keep mapped, in bytes: it counts as memory of this process.
const MAPPED: u64 = 288 << 20;
/// What a job gets of it at least.
const LEAST_MAPPED: u64 = 8 << 20;

/// The memory for registers, which jobs share: the first takes what is left, down to the smallest share. So a
/// job alone is quick, and two do not take twice as much.
#[derive(Debug, Default)]
pub(super) struct Memory {
    leased: AtomicU64,
    /// Shares so far, and those that were given back.
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Memory {
    pub(super) fn share(&self) -> Share<'_> {
        let of = |leased: u64| MAPPED.saturating_sub(leased).max(LEAST_MAPPED);
        let add = |leased: u64| Some(leased + of(leased));
        // Read first: one that ends between the two counts as one that ran beside this.
        let ended = self.ended.load(Ordering::SeqCst);
        let before = self.begun.fetch_add(1, Ordering::SeqCst);
        let leased = self.leased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or(MAPPED);
        Share { memory: self, bytes: of(leased), begun: before + 1, began_alone: ended == before }
    }
}

/// A job's share, until it is dropped.
pub(super) struct Share<'a> {
    memory: &'a Memory,
    bytes: u64,
    /// How many shares there were with it.
    begun: u64,
    began_alone: bool,
}

impl Share<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether no other job had a share at any time since this one has.
    pub(super) fn was_alone(&self) -> bool {
        self.began_alone && self.memory.begun.load(Ordering::SeqCst) == self.begun
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.memory.leased.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_knows_whether_others_took_memory_beside_it() {
        let memory = Memory::default();
        let first = memory.share();
        assert!(first.was_alone());
        let second = memory.share();
        assert!(!first.was_alone() && !second.was_alone());
        drop(first);
        assert!(!second.was_alone(), "what the first took may have been what the second met");
        drop(second);
        assert!(memory.share().was_alone());
    }
}

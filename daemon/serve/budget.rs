//! Memory that all sessions share for bytes that cannot go to disk yet, because what lies before them has not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What there is, and how much of it is taken.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    taken: AtomicUsize,
}

impl Budget {
    /// So many bytes at most.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: AtomicUsize::new(0) })
    }

    /// Bytes taken now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A session's part of it, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Nothing yet.
    pub fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes so many bytes in all, more or fewer than before. Whether all shares together fit; where they do not, whoever
    /// took more must give up something.
    pub fn set(&mut self, bytes: usize) -> bool {
        let taken = &self.budget.taken;
        let after = if bytes >= self.bytes {
            taken.fetch_add(bytes - self.bytes, Ordering::Relaxed) + (bytes - self.bytes)
        } else {
            taken.fetch_sub(self.bytes - bytes, Ordering::Relaxed) - (self.bytes - bytes)
        };
        let grew = bytes > self.bytes;
        self.bytes = bytes;
        !grew || after <= self.budget.limit
    }

    /// Whether it takes anything.
    pub fn is_taken(&self) -> bool {
        self.bytes > 0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fit_together_or_the_one_that_grows_is_told() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (Share::of(&budget), Share::of(&budget));
        assert!(one.set(60) && other.set(40) && other.set(40));
        assert!(!other.set(41), "one too many");
        assert!(other.set(10), "giving back is always well");
        assert_eq!(budget.taken(), 70);
        drop(one);
        assert!(other.set(100) && !other.set(101));
        drop(other);
        assert_eq!(budget.taken(), 0);
    }
}

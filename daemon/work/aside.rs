//! What could not be moved on, and is left alone for a while: one arrival that nobody can move, for whatever is wrong with its
//! folder, must not keep the others waiting. Each waits twice as long as the time before.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::arrival::ArrivalId;

/// The longest that one is left alone.
const LONGEST: Duration = Duration::from_secs(30);

/// Arrivals that are left alone, and until when.
#[derive(Debug, Default)]
pub(super) struct Aside(BTreeMap<ArrivalId, (Duration, Instant)>);

impl Aside {
    /// It failed once more; `first` is how long it waits after the first time.
    pub fn put(&mut self, id: ArrivalId, first: Duration, now: Instant) {
        let wait = self.0.get(&id).map_or(first, |(wait, _)| wait.saturating_mul(2)).min(LONGEST);
        self.0.insert(id, (wait, now + wait));
    }

    /// Whether it is to be left alone now.
    pub fn holds(&self, id: &ArrivalId, now: Instant) -> bool {
        self.0.get(id).is_some_and(|(_, until)| now < *until)
    }

    /// Forgets all that are not there any more.
    pub fn keep(&mut self, is_there: impl Fn(&ArrivalId) -> bool) {
        self.0.retain(|id, _| is_there(id));
    }

    /// Whether none is left alone.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::arrival::tests::arrival_named;

    #[test]
    fn what_fails_again_and_again_is_left_alone_for_longer_and_longer_but_never_for_good() {
        let (mut aside, id, mut now) = (Aside::default(), arrival_named("a.age").id, Instant::now());
        for wait in [2, 4, 8, 16, 30, 30] {
            aside.put(id.clone(), Duration::from_secs(2), now);
            now += Duration::from_secs(wait);
            assert!(aside.holds(&id, now - Duration::from_millis(1)), "{wait}");
            assert!(!aside.holds(&id, now), "{wait}");
        }
        aside.keep(|_| false);
        assert!(aside.is_empty());
    }
}

//! Which arrival is next: the institutions take turns, so that one with a thousand lists cannot keep another's single one
//! waiting; within an institution the oldest comes first. Taking it is `host::spool`'s business.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::arrival::{ArrivalId, State};
use crate::policy::path::Slug;

/// An arrival that may be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `Incoming` or `Deferred`.
    pub state: State,
    /// Which.
    pub id: ArrivalId,
}

/// The arrivals of the last scan, and whose turn it is.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: Vec<Waiting>,
    served: BTreeMap<Slug, u64>,
    turn: u64,
}

impl Turns {
    /// Replaces what waits by what a scan found, oldest first; `running` are left out.
    pub fn refill(&mut self, found: Vec<Waiting>, running: &BTreeSet<ArrivalId>) {
        self.waiting = found;
        self.waiting.retain(|waiting| !running.contains(&waiting.id));
        let has_arrivals: BTreeSet<&Slug> =
            self.waiting.iter().map(|waiting| waiting.id.institution()).collect();
        self.served.retain(|institution, _| has_arrivals.contains(institution));
    }

    /// The next one: of the institution with the fewest jobs running, then of the one whose last turn is longest ago. Where
    /// several `jobs` may run at a time, no institution has all of them: its slow ones must not keep the others waiting.
    pub fn next(&mut self, running: &BTreeSet<ArrivalId>, jobs: usize) -> Option<Waiting> {
        let most = jobs.saturating_sub(1).max(1);
        let mut best: Option<(usize, (usize, u64))> = None;
        let mut seen = BTreeSet::new();
        for (at, waiting) in self.waiting.iter().enumerate() {
            let institution = waiting.id.institution();
            if !seen.insert(institution) {
                continue;
            }
            let busy = running.iter().filter(|id| id.institution() == institution).count();
            if busy >= most {
                continue;
            }
            let rank = (busy, self.served.get(institution).copied().unwrap_or(0));
            if best.is_none_or(|(_, least)| rank < least) {
                best = Some((at, rank));
            }
        }
        let next = self.waiting.remove(best?.0);
        self.turn += 1;
        self.served.insert(next.id.institution().clone(), self.turn);
        Some(next)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::path::Name;

    fn arrival(second: i64, institution: &str) -> Waiting {
        let at = jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
        let slug = |text| Slug::parse(text).unwrap();
        let id = ArrivalId::new(at, &Name::parse("a.age").unwrap(), 0, &slug(institution), &slug("x"));
        Waiting { state: State::Incoming, id }
    }

    #[test]
    fn institutions_take_turns_and_each_is_served_oldest_first() {
        let mut turns = Turns::default();
        let found: Vec<_> = (0..4).map(|second| arrival(second, "many")).chain([arrival(9, "few")]).collect();
        turns.refill(found, &BTreeSet::new());
        let order: Vec<_> = std::iter::from_fn(|| turns.next(&BTreeSet::new(), 2))
            .map(|next| next.id.institution().to_string())
            .collect();
        assert_eq!(order, ["many", "few", "many", "many", "many"]);
    }

    #[test]
    fn a_newcomer_goes_before_one_whose_job_runs() {
        let mut turns = Turns::default();
        let running = BTreeSet::from([arrival(0, "many").id]);
        turns.refill(vec![arrival(0, "many"), arrival(1, "many"), arrival(2, "few")], &running);
        assert_eq!(turns.len(), 2, "what runs does not wait");
        assert_eq!(turns.next(&running, 3), Some(arrival(2, "few")));
        assert_eq!(turns.next(&running, 3), Some(arrival(1, "many")));
        assert!(turns.next(&running, 3).is_none() && turns.is_empty());
    }

    #[test]
    fn one_job_is_always_kept_for_another_institution() {
        let mut turns = Turns::default();
        let running = BTreeSet::from([arrival(0, "many").id]);
        let found = vec![arrival(1, "many"), arrival(2, "many"), arrival(3, "few")];
        turns.refill(found.clone(), &running);
        assert_eq!(turns.next(&running, 2), Some(arrival(3, "few")));
        assert_eq!(turns.next(&running, 2), None, "the second of two is not for the same");
        assert_eq!(turns.len(), 2, "they still wait");
        assert_eq!(turns.next(&running, 3), Some(arrival(1, "many")));
        turns.refill(found[..2].to_vec(), &BTreeSet::new());
        assert_eq!(turns.next(&BTreeSet::new(), 1), Some(arrival(1, "many")), "where one may run, it runs");
    }
}

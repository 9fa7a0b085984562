//! Which arrival is next: the institutions take turns, so that one with a thousand lists cannot keep another's single one
//! waiting; within an institution the oldest comes first. Taking it is `host::spool`'s business.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

/// The arrivals of the last scan, and whose turn it is. What a turn costs depends on the number of institutions, not of arrivals.
#[derive(Debug, Default)]
pub struct Turns {
    /// Oldest first; none of them is empty.
    waiting: BTreeMap<Slug, VecDeque<Waiting>>,
    count: usize,
    served: BTreeMap<Slug, u64>,
    turn: u64,
}

impl Turns {
    /// Replaces what waits by what a scan found, oldest first; `running` are left out.
    pub fn refill(&mut self, found: Vec<Waiting>, running: &BTreeSet<ArrivalId>) {
        self.waiting.clear();
        self.count = 0;
        for waiting in found.into_iter().filter(|waiting| !running.contains(&waiting.id)) {
            self.count += 1;
            let institution = waiting.id.institution();
            match self.waiting.get_mut(institution) {
                Some(queue) => queue.push_back(waiting),
                None => drop(self.waiting.insert(institution.clone(), VecDeque::from([waiting]))),
            }
        }
        self.served.retain(|institution, _| self.waiting.contains_key(institution));
    }

    /// The next one: of the institution with the fewest jobs running, then of the one whose last turn is longest ago, then of
    /// the one whose oldest arrival is the oldest. Where several `jobs` may run at a time, no institution has all of them: its
    /// slow ones must not keep the others waiting.
    pub fn next(&mut self, running: &BTreeSet<ArrivalId>, jobs: usize) -> Option<Waiting> {
        let most = jobs.saturating_sub(1).max(1);
        let busy = |institution: &Slug| running.iter().filter(|id| id.institution() == institution).count();
        let rank = |(institution, queue): &(&Slug, &VecDeque<Waiting>)| {
            let busy = busy(institution);
            let served = self.served.get(*institution).copied().unwrap_or(0);
            (busy, served, queue.front().map(|waiting| waiting.id.clone()))
        };
        let may_run = |(institution, _): &(&Slug, &VecDeque<Waiting>)| busy(institution) < most;
        let institution = self.waiting.iter().filter(may_run).min_by_key(rank)?.0.clone();
        let queue = self.waiting.get_mut(&institution)?;
        let next = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&institution);
        }
        self.count -= 1;
        self.turn += 1;
        self.served.insert(institution, self.turn);
        Some(next)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
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

    /// The rule, by looking at all of them for each turn.
    fn by_the_rule(found: &[Waiting], running: &BTreeSet<ArrivalId>, turns: usize) -> Vec<Waiting> {
        let (mut left, mut served, mut order) = (found.to_vec(), BTreeMap::new(), Vec::new());
        left.retain(|waiting| !running.contains(&waiting.id));
        for turn in 1..=turns {
            let of = |waiting: &Waiting| waiting.id.institution().clone();
            let rank = |waiting: &Waiting| {
                let busy = running.iter().filter(|id| id.institution() == waiting.id.institution()).count();
                (busy, served.get(&of(waiting)).copied().unwrap_or(0), waiting.id.clone())
            };
            let Some(best) = left.iter().min_by_key(|waiting| rank(waiting)).cloned() else { break };
            left.retain(|waiting| *waiting != best);
            served.insert(of(&best), turn);
            order.push(best);
        }
        order
    }

    proptest::proptest! {
        #[test]
        fn queues_keep_the_order_that_the_rule_gives(
            whose in proptest::collection::vec(0_usize..5, 0..40),
            runs in proptest::collection::vec(0_usize..40, 0..5),
        ) {
            let names = ["a", "b", "c", "d", "e"];
            let found: Vec<_> = whose.iter().zip(0..).map(|(who, second)| arrival(second, names[*who])).collect();
            let running = runs.iter().filter_map(|at| found.get(*at)).map(|waiting| waiting.id.clone()).collect();
            let mut turns = Turns::default();
            turns.refill(found.clone(), &running);
            let order: Vec<_> = std::iter::from_fn(|| turns.next(&running, usize::MAX)).collect();
            proptest::prop_assert_eq!(order, by_the_rule(&found, &running, 100));
            proptest::prop_assert!(turns.is_empty());
        }
    }
}

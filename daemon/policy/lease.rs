//! Whose an arrival in `active` is, and when it is nobody's any more. The folder's name carries the claim,
//! `‹id›.‹node›.‹token›`, so that taking it over is a rename. A process shows that it lives by a count that it raises; how
//! long ago it did, everybody measures on a clock of their own that nobody can set. Times of two machines are never compared.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::arrival::{ArrivalId, State};
use super::path::Slug;

/// The longest lease that is believed; a process that tells of a longer one has this.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// A process that claims: its node, and what tells it from the others that ever ran there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The machine, as `node` in its configuration.
    pub node: Slug,
    /// Random.
    pub token: u32,
}

impl Owner {
    /// One whose node nobody told.
    pub fn unnamed(token: u32) -> Self {
        Self { node: Slug::unknown(), token }
    }

    /// Reads `‹node›.‹8 hex›`.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, token) = text.split_once('.')?;
        let is_token =
            token.len() == 8 && token.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let token = u32::from_str_radix(token, 16).ok().filter(|_| is_token)?;
        Some(Self { node: Slug::parse(node).ok()?, token })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08x}", self.node, self.token)
    }
}

/// What a folder's name in `active` says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimed {
    /// Which arrival.
    pub id: ArrivalId,
    /// Who has it; none where a version of this program claimed it that did not say.
    pub owner: Option<Owner>,
}

impl Claimed {
    /// Reads a folder's name; `None` for a folder that is no arrival.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        match parts.as_slice() {
            [stamp, institution, exchange, owner] => {
                let id = ArrivalId::parse(&format!("{stamp}.{institution}.{exchange}"))?;
                Some(Self { id, owner: Some(Owner::parse(owner)?) })
            }
            _ => Some(Self { id: ArrivalId::parse(text)?, owner: None }),
        }
    }
}

/// Which arrival a folder of this name is in this state.
pub fn arrival_in(state: State, name: &str) -> Option<ArrivalId> {
    if state == State::Active {
        Claimed::parse(name).map(|claimed| claimed.id)
    } else {
        ArrivalId::parse(name)
    }
}

impl fmt::Display for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{}.{owner}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// What a look at a process's sign of life found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// None is there: the process ended in order, or never was.
    Missing,
    /// It is there, and certainly nobody holds it.
    Dead,
    /// So far its count has come.
    Beat {
        /// The count.
        count: u64,
        /// How long it asks to be waited for, which may be longer than this process would.
        lease: Duration,
    },
}

/// What was seen of other processes, and when.
#[derive(Debug, Default)]
pub struct Leases {
    seen: BTreeMap<Owner, (u64, Duration)>,
}

impl Leases {
    /// Whether a process has lost what it claimed. `now` is on a clock that only goes on, of the one who looks.
    #[must_use]
    pub fn is_over(&mut self, owner: &Owner, sign: Sign, now: Duration, lease: Duration) -> bool {
        let (count, asked) = match sign {
            Sign::Missing | Sign::Dead => return true,
            Sign::Beat { count, lease } => (count, lease.min(LONGEST)),
        };
        let (last, since) = *self.seen.entry(owner.clone()).or_insert((count, now));
        if last != count {
            self.seen.insert(owner.clone(), (count, now));
            return false;
        }
        now.saturating_sub(since) >= lease.max(asked)
    }

    /// How long a process has not changed its sign; nothing where it was never seen.
    pub fn silence(&self, owner: &Owner, now: Duration) -> Duration {
        self.seen.get(owner).map_or(Duration::ZERO, |(_, since)| now.saturating_sub(*since))
    }

    /// Forgets all but these.
    pub fn keep(&mut self, is_there: impl Fn(&Owner) -> bool) {
        self.seen.retain(|owner, _| is_there(owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::arrival::tests::arrival_named;

    const LEASE: Duration = Duration::from_secs(30);

    fn owner(text: &str) -> Owner {
        Owner::parse(text).unwrap()
    }

    fn beat(count: u64) -> Sign {
        Sign::Beat { count, lease: LEASE }
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_claim_tells_which_arrival_and_whose_it_is() {
        let id = arrival_named("list.age").id;
        let claimed = Claimed { id: id.clone(), owner: Some(owner("node-1.0a1b2c3d")) };
        assert_eq!(claimed.to_string(), format!("{id}.node-1.0a1b2c3d"));
        assert_eq!(Claimed::parse(&claimed.to_string()), Some(claimed));
        assert_eq!(Claimed::parse(&id.to_string()), Some(Claimed { id: id.clone(), owner: None }));
        for wrong in
            ["node", "node.0a1b2c3", "node.0A1B2C3D", "node.+a1b2c3d", "No.0a1b2c3d", "a.0a1b2c3d.x", ""]
        {
            assert_eq!(Owner::parse(wrong), None, "{wrong}");
            assert_eq!(Claimed::parse(&format!("{id}.{wrong}")), None, "{wrong}");
        }
    }

    #[test]
    fn a_claim_is_over_when_its_sign_has_not_changed_for_the_lease() {
        let (mut leases, owner) = (Leases::default(), owner("a.00000001"));
        assert!(!leases.is_over(&owner, beat(1), at(100), LEASE), "seen for the first time");
        assert!(!leases.is_over(&owner, beat(1), at(129), LEASE));
        assert!(!leases.is_over(&owner, beat(2), at(131), LEASE), "late, but it lives");
        assert!(!leases.is_over(&owner, beat(2), at(160), LEASE), "the lease began anew");
        assert_eq!(leases.silence(&owner, at(160)), at(29));
        assert!(leases.is_over(&owner, beat(2), at(161), LEASE));
        assert!(!leases.is_over(&owner, beat(1), at(161), LEASE), "any change is a sign");
    }

    #[test]
    fn who_looks_only_now_and_then_waits_from_the_look_on() {
        let (mut leases, owner) = (Leases::default(), owner("a.00000001"));
        assert!(!leases.is_over(&owner, beat(1), at(0), LEASE));
        // The one who looks was stopped for an hour itself; the other went on all the time.
        assert!(!leases.is_over(&owner, beat(480), at(3600), LEASE));
        assert!(leases.is_over(&owner, beat(480), at(3630), LEASE));
    }

    #[test]
    fn who_asks_for_more_patience_gets_it_up_to_an_hour() {
        let (mut leases, owner) = (Leases::default(), owner("a.00000001"));
        let slow = |lease| Sign::Beat { count: 1, lease: at(lease) };
        assert!(!leases.is_over(&owner, slow(100), at(0), LEASE));
        assert!(!leases.is_over(&owner, slow(100), at(99), LEASE));
        assert!(leases.is_over(&owner, slow(100), at(100), LEASE));
        assert!(leases.is_over(&owner, slow(1_000_000), at(3600), LEASE));
    }

    #[test]
    fn nobody_waits_for_the_dead() {
        let (mut leases, owner) = (Leases::default(), owner("a.00000001"));
        assert!(leases.is_over(&owner, Sign::Missing, at(0), LEASE));
        assert!(leases.is_over(&owner, Sign::Dead, at(0), LEASE));
    }
}

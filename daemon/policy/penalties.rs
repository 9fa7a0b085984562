//! Who is refused for a while, and for how long: the rules of OpenSSH's `PerSourcePenalties`. What a connection did comes
//! in, and what time it is; refusing the next one is `serve::listener`'s business.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::admission::Source;

/// Sources that are remembered. Beyond that, the one whose penalty ends first is forgotten.
pub const SOURCES_MAX: usize = 65_536;

/// What a connection is penalised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It made its handler panic.
    Crash,
    /// It tried to log in, in vain.
    AuthenticationFailure,
    /// It named a user that does not exist.
    UnknownUser,
    /// It ended without asking to log in.
    NoAuthentication,
    /// It had not logged in when its time was over.
    GraceExceeded,
}

impl Offence {
    /// All, for metrics.
    pub const ALL: [Self; 5] = [
        Self::Crash,
        Self::AuthenticationFailure,
        Self::UnknownUser,
        Self::NoAuthentication,
        Self::GraceExceeded,
    ];

    /// The label; also the key in the configuration.
    pub fn code(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::AuthenticationFailure => "authentication-failure",
            Self::UnknownUser => "unknown-user",
            Self::NoAuthentication => "no-authentication",
            Self::GraceExceeded => "grace-exceeded",
        }
    }
}

/// What a connection did until it ended, as far as penalties ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conduct {
    /// Its handler panicked.
    pub crashed: bool,
    /// Somebody's key was proven and accepted; whatever came before or after is forgiven.
    pub proven: bool,
    /// It was cut because its login took too long.
    pub grace_exceeded: bool,
    /// One of the users it named does not exist.
    pub unknown_user: bool,
    /// It asked to log in.
    pub asked: bool,
}

impl Conduct {
    /// What it is penalised for, if anything; the first that applies.
    pub fn offence(self) -> Option<Offence> {
        match self {
            Self { crashed: true, .. } => Some(Offence::Crash),
            Self { proven: true, .. } => None,
            Self { grace_exceeded: true, .. } => Some(Offence::GraceExceeded),
            Self { unknown_user: true, .. } => Some(Offence::UnknownUser),
            Self { asked: true, .. } => Some(Offence::AuthenticationFailure),
            Self { asked: false, .. } => Some(Offence::NoAuthentication),
        }
    }
}

/// How much each offence counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PenaltyRules {
    /// Whether anybody is penalised.
    pub enabled: bool,
    /// For a [`Offence::Crash`].
    pub crash: Duration,
    /// For a [`Offence::AuthenticationFailure`].
    pub authentication_failure: Duration,
    /// For a [`Offence::UnknownUser`].
    pub unknown_user: Duration,
    /// For a [`Offence::NoAuthentication`].
    pub no_authentication: Duration,
    /// For a [`Offence::GraceExceeded`].
    pub grace_exceeded: Duration,
    /// What must have come together before anything is refused.
    pub min: Duration,
    /// No more than this comes together.
    pub max: Duration,
    /// Monitoring probes and load balancers: never penalised.
    pub exempt: Vec<IpNet>,
}

impl Default for PenaltyRules {
    fn default() -> Self {
        Self {
            enabled: true,
            crash: Duration::from_secs(90),
            authentication_failure: Duration::from_secs(5),
            unknown_user: Duration::from_secs(5),
            no_authentication: Duration::from_secs(1),
            grace_exceeded: Duration::from_secs(10),
            min: Duration::from_secs(15),
            max: Duration::from_secs(600),
            exempt: Vec::new(),
        }
    }
}

impl PenaltyRules {
    /// Whether an address is never penalised.
    pub fn exempts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exempt.iter().any(|network| network.contains(&address))
    }

    fn of(&self, offence: Offence) -> Duration {
        match offence {
            Offence::Crash => self.crash,
            Offence::AuthenticationFailure => self.authentication_failure,
            Offence::UnknownUser => self.unknown_user,
            Offence::NoAuthentication => self.no_authentication,
            Offence::GraceExceeded => self.grace_exceeded,
        }
    }
}

/// What the sources have come to.
#[derive(Debug, Default)]
pub struct Penalties {
    of: HashMap<Source, Penalty>,
    by_end: BTreeSet<(Instant, Source)>,
    enforced: usize,
}

#[derive(Debug, Clone, Copy)]
struct Penalty {
    ends: Instant,
    /// Once it reached the minimum it is enforced to its end.
    enforced: bool,
}

impl Penalties {
    /// Adds an offence to what a source has come to. A penalty of no length is none.
    pub fn add(&mut self, source: Source, offence: Offence, rules: &PenaltyRules, now: Instant) {
        let more = rules.of(offence);
        if more.is_zero() {
            return;
        }
        self.forget_ended(now);
        let before = self.remove(source);
        let left = before.map_or(Duration::ZERO, |penalty| penalty.ends.saturating_duration_since(now));
        let left = (left + more).min(rules.max);
        let enforced = before.is_some_and(|penalty| penalty.enforced) || left >= rules.min;
        // Beyond what the clock can count there is no time at which it could end.
        let Some(ends) = now.checked_add(left) else { return };
        self.of.insert(source, Penalty { ends, enforced });
        self.by_end.insert((ends, source));
        self.enforced += usize::from(enforced);
        if self.of.len() > SOURCES_MAX
            && let Some(&(_, first)) = self.by_end.first()
        {
            self.remove(first);
        }
    }

    /// Whether a source is refused now.
    pub fn refuse(&mut self, source: Source, now: Instant) -> bool {
        self.forget_ended(now);
        self.of.get(&source).is_some_and(|penalty| penalty.enforced)
    }

    /// How many sources are refused now.
    pub fn enforced(&mut self, now: Instant) -> usize {
        self.forget_ended(now);
        self.enforced
    }

    fn forget_ended(&mut self, now: Instant) {
        while let Some(&(ends, source)) = self.by_end.first()
            && ends <= now
        {
            self.remove(source);
        }
    }

    fn remove(&mut self, source: Source) -> Option<Penalty> {
        let penalty = self.of.remove(&source)?;
        self.by_end.remove(&(penalty.ends, source));
        self.enforced -= usize::from(penalty.enforced);
        Some(penalty)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn source(number: u32) -> Source {
        Source::of(Ipv4Addr::from_bits(number).into())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_is_refused_until_the_minimum_has_come_together() {
        let (rules, start, mut penalties) = (PenaltyRules::default(), Instant::now(), Penalties::default());
        for _ in 0..2 {
            penalties.add(source(1), Offence::AuthenticationFailure, &rules, start);
            assert!(!penalties.refuse(source(1), start));
        }
        penalties.add(source(1), Offence::AuthenticationFailure, &rules, start);
        assert!(penalties.refuse(source(1), start));
        assert!(!penalties.refuse(source(2), start), "another source is not concerned");
        assert_eq!(penalties.enforced(start), 1);
    }

    #[test]
    fn a_penalty_is_enforced_to_its_end_and_then_forgotten() {
        let (rules, start, mut penalties) = (PenaltyRules::default(), Instant::now(), Penalties::default());
        penalties.add(source(1), Offence::Crash, &rules, start);
        assert!(penalties.refuse(source(1), start + seconds(89)), "below the minimum by now, yet enforced");
        assert!(!penalties.refuse(source(1), start + seconds(90)));
        assert_eq!(penalties.enforced(start + seconds(90)), 0);
        penalties.add(source(1), Offence::NoAuthentication, &rules, start + seconds(91));
        assert!(!penalties.refuse(source(1), start + seconds(91)));
    }

    #[test]
    fn what_comes_slowly_never_comes_together() {
        let (rules, start, mut penalties) = (PenaltyRules::default(), Instant::now(), Penalties::default());
        for minute in 0..100 {
            let now = start + seconds(60 * minute);
            penalties.add(source(1), Offence::GraceExceeded, &rules, now);
            assert!(!penalties.refuse(source(1), now));
        }
    }

    #[test]
    fn no_more_than_the_maximum_comes_together() {
        let (rules, start, mut penalties) = (PenaltyRules::default(), Instant::now(), Penalties::default());
        for _ in 0..1_000 {
            penalties.add(source(1), Offence::Crash, &rules, start);
        }
        assert!(penalties.refuse(source(1), start + seconds(599)));
        assert!(!penalties.refuse(source(1), start + seconds(600)));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_penalty_that_ends_first() {
        let (rules, start, mut penalties) = (PenaltyRules::default(), Instant::now(), Penalties::default());
        penalties.add(source(0), Offence::GraceExceeded, &rules, start);
        penalties.add(source(0), Offence::GraceExceeded, &rules, start);
        for number in 1..=u32::try_from(SOURCES_MAX).unwrap() {
            penalties.add(source(number), Offence::Crash, &rules, start);
        }
        assert_eq!((penalties.of.len(), penalties.by_end.len()), (SOURCES_MAX, SOURCES_MAX));
        assert!(!penalties.refuse(source(0), start));
        assert!(penalties.refuse(source(1), start));
    }

    #[test]
    fn the_gravest_that_applies_is_the_offence_and_a_proven_key_forgives_the_rest() {
        let none = Conduct::default();
        for (ended, offence) in [
            (none, Some(Offence::NoAuthentication)),
            (Conduct { asked: true, ..none }, Some(Offence::AuthenticationFailure)),
            (Conduct { asked: true, unknown_user: true, ..none }, Some(Offence::UnknownUser)),
            (Conduct { asked: true, grace_exceeded: true, ..none }, Some(Offence::GraceExceeded)),
            (Conduct { asked: true, unknown_user: true, proven: true, ..none }, None),
            (Conduct { proven: true, crashed: true, ..none }, Some(Offence::Crash)),
        ] {
            assert_eq!(ended.offence(), offence, "{ended:?}");
        }
    }

    #[test]
    fn exempt_networks_hold_ipv4_peers_of_ipv6_sockets_too() {
        let rules = PenaltyRules { exempt: vec!["10.0.0.0/8".parse().unwrap()], ..PenaltyRules::default() };
        assert!(rules.exempts("10.1.2.3".parse().unwrap()));
        assert!(rules.exempts("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!rules.exempts("192.0.2.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn whatever_happens_the_books_agree(
            steps in prop::collection::vec((0_u32..6, 0_usize..5, 0_u64..40), 1..200),
        ) {
            let rules = PenaltyRules::default();
            let (mut now, mut penalties) = (Instant::now(), Penalties::default());
            for (from, offence, later) in steps {
                now += seconds(later);
                penalties.add(source(from), Offence::ALL[offence], &rules, now);
                let refused = (0..6).filter(|number| penalties.refuse(source(*number), now)).count();
                prop_assert_eq!(penalties.enforced(now), refused);
                prop_assert_eq!(penalties.of.len(), penalties.by_end.len());
                prop_assert!(penalties.of.values().all(|penalty| penalty.ends <= now + rules.max));
            }
        }
    }
}

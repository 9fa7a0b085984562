//! Who may take up a place: how many connections may wait for their login and how many sessions may run, in all, from one
//! source, and of one institution. Chance comes in as a number. Who is penalised is `penalties`' question; accepting and
//! cutting connections is `serve::listener`'s.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::account::LoginRefusal;
use super::path::Slug;

/// Where a connection comes from, as far as limits tell sources apart: an IPv4 address, or an IPv6 network of 64 bits,
/// because every host may choose the other 64 as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// On a socket for both families an IPv4 peer shows up as `::ffff:a.b.c.d`; it is the same source.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                Self(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// Random early drop, as OpenSSH's `MaxStartups`: from `start` waiting connections on, `rate` percent of the new ones are
/// too many, growing to all of them at `full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyDrop {
    start: usize,
    rate: usize,
    full: usize,
}

impl EarlyDrop {
    /// `start:rate:full`, as in `10:30:100`. `None` if it is not that, if the rate is no percentage, or if it ends before it
    /// begins.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(':').map(|text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<usize>().ok()).flatten()
        });
        let (start, rate, full) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let sensible = (1..=10_000).contains(&full) && start <= full && rate <= 100;
        (sensible && numbers.next().is_none()).then_some(Self { start, rate, full })
    }

    /// The chance in percent that another connection is too many.
    fn chance(self, waiting: usize) -> usize {
        if waiting < self.start {
            return 0;
        }
        if waiting >= self.full {
            return 100;
        }
        self.rate + (100 - self.rate) * (waiting - self.start) / (self.full - self.start)
    }
}

impl Default for EarlyDrop {
    fn default() -> Self {
        Self { start: 10, rate: 30, full: 100 }
    }
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections in all, logged in or not.
    pub connections: usize,
    /// Connections that have not logged in.
    pub unauthenticated: EarlyDrop,
    /// Of those, from one source.
    pub unauthenticated_per_source: usize,
    /// Sessions from one source.
    pub sessions_per_source: usize,
    /// Sessions of one institution.
    pub sessions_per_institution: usize,
}

/// A connection's place; no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What becomes of a new connection.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It may wait for its login.
    Admitted(Ticket),
    /// It may, but another one must go for it.
    InPlaceOf {
        /// The new one.
        ticket: Ticket,
        /// The one to cut.
        victim: Ticket,
    },
    /// It is one too many.
    Refused(Crowded),
}

/// Why a connection is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// As many connections as there may be.
    Connections,
    /// As many that wait for their login as one source may have.
    Source,
    /// Many wait for their login, and this one drew the lot to go.
    EarlyDrop,
}

/// Which bound a login met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionBound {
    /// Sessions from one source.
    Source,
    /// Sessions of one institution.
    Institution,
}

impl SessionBound {
    /// The same, for metrics and log.
    pub fn refusal(self) -> LoginRefusal {
        match self {
            Self::Source => LoginRefusal::TooManyFromSource,
            Self::Institution => LoginRefusal::TooManyOfInstitution,
        }
    }

    /// What the client is told, in Dutch and English: its user has proven who it is and may know why.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Source => {
                "Te veel gelijktijdige sessies vanaf uw adres; sluit er enkele en probeer opnieuw. / \
                 Too many sessions at once from your address; close some and try again."
            }
            Self::Institution => {
                "Te veel gelijktijdige sessies van uw organisatie; sluit er enkele en probeer opnieuw. / \
                 Too many sessions at once of your organisation; close some and try again."
            }
        }
    }
}

/// Everybody who has a place now.
#[derive(Debug, Default)]
pub struct Crowd {
    next: u64,
    /// Not logged in; the oldest first.
    waiting: BTreeMap<Ticket, Source>,
    /// Logged in.
    sessions: BTreeMap<Ticket, (Source, Slug)>,
    /// Told to go for somebody else, and not gone yet.
    going: HashSet<Ticket>,
    waiting_from: HashMap<Source, usize>,
    sessions_from: HashMap<Source, usize>,
    sessions_of: HashMap<Slug, usize>,
}

impl Crowd {
    /// A connection arrived. `lot` is random, below 100.
    ///
    /// Where the lot says that one must go, it falls on the source that has most waiting, if that is clearly more than the
    /// newcomer's: who floods displaces himself, and somebody who connects once gets through.
    pub fn arrives(&mut self, source: Source, bounds: &Bounds, lot: usize) -> Arrival {
        if self.waiting.len() + self.sessions.len() + self.going.len() >= bounds.connections {
            return Arrival::Refused(Crowded::Connections);
        }
        let own = self.waiting_from.get(&source).copied().unwrap_or(0);
        if own >= bounds.unauthenticated_per_source {
            return Arrival::Refused(Crowded::Source);
        }
        if lot >= bounds.unauthenticated.chance(self.waiting.len()) {
            return Arrival::Admitted(self.seat(source));
        }
        let Some(victim) = self.oldest_of_more_than(own + 1) else {
            return Arrival::Refused(Crowded::EarlyDrop);
        };
        self.leaves(victim);
        self.going.insert(victim);
        Arrival::InPlaceOf { ticket: self.seat(source), victim }
    }

    /// A connection's person has proven who it is. Where that is one session too many, the connection keeps its place among
    /// those that wait until it ends.
    pub fn logs_in(
        &mut self,
        ticket: Ticket,
        institution: &Slug,
        bounds: &Bounds,
    ) -> Result<(), SessionBound> {
        let Some(&source) = self.waiting.get(&ticket) else { return Ok(()) };
        if self.sessions_from.get(&source).copied().unwrap_or(0) >= bounds.sessions_per_source {
            return Err(SessionBound::Source);
        }
        if self.sessions_of.get(institution).copied().unwrap_or(0) >= bounds.sessions_per_institution {
            return Err(SessionBound::Institution);
        }
        self.waiting.remove(&ticket);
        one_less(&mut self.waiting_from, &source);
        self.sessions.insert(ticket, (source, institution.clone()));
        *self.sessions_from.entry(source).or_default() += 1;
        *self.sessions_of.entry(institution.clone()).or_default() += 1;
        Ok(())
    }

    /// A connection has ended.
    pub fn leaves(&mut self, ticket: Ticket) {
        self.going.remove(&ticket);
        if let Some(source) = self.waiting.remove(&ticket) {
            one_less(&mut self.waiting_from, &source);
        }
        if let Some((source, institution)) = self.sessions.remove(&ticket) {
            one_less(&mut self.sessions_from, &source);
            one_less(&mut self.sessions_of, &institution);
        }
    }

    /// Whether a connection was told to go for somebody else.
    pub fn is_going(&self, ticket: Ticket) -> bool {
        self.going.contains(&ticket)
    }

    /// How many wait for their login.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn seat(&mut self, source: Source) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, source);
        *self.waiting_from.entry(source).or_default() += 1;
        ticket
    }

    /// The oldest waiting connection of the source that has most of them, if those are more than `few`.
    fn oldest_of_more_than(&self, few: usize) -> Option<Ticket> {
        let (most, _) = self
            .waiting_from
            .iter()
            .filter(|(_, number)| **number > few)
            .max_by_key(|(_, number)| **number)?;
        self.waiting.iter().find(|(_, source)| *source == most).map(|(ticket, _)| *ticket)
    }
}

fn one_less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections: 50,
        unauthenticated: EarlyDrop { start: 10, rate: 30, full: 20 },
        unauthenticated_per_source: 4,
        sessions_per_source: 3,
        sessions_per_institution: 2,
    };

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    #[track_caller]
    fn seat(crowd: &mut Crowd, from: u8, lot: usize) -> Ticket {
        match crowd.arrives(source(from), &BOUNDS, lot) {
            Arrival::Admitted(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(of("192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn early_drop_is_read_as_openssh_writes_it() {
        assert_eq!(EarlyDrop::parse("10:30:100"), Some(EarlyDrop::default()));
        for wrong in [
            "",
            "10",
            "10:30",
            "10:30:100:1",
            "10:101:100",
            "11:30:10",
            "0:30:0",
            "a:b:c",
            "+1:2:3",
            "-1:2:3",
            "1: 2:3",
            "1:2:10001",
            "99999999999999999999:1:1",
        ] {
            assert_eq!(EarlyDrop::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_chance_to_be_too_many_grows_from_the_rate_to_all() {
        let drop = EarlyDrop::default();
        for (waiting, percent) in [(0, 0), (9, 0), (10, 30), (55, 65), (99, 99), (100, 100), (101, 100)] {
            assert_eq!(drop.chance(waiting), percent, "{waiting}");
        }
        let at_once = EarlyDrop::parse("5:0:5").unwrap();
        assert_eq!((at_once.chance(4), at_once.chance(5)), (0, 100));
    }

    #[test]
    fn one_source_may_have_so_many_waiting_and_others_are_not_concerned() {
        let mut crowd = Crowd::default();
        let tickets: Vec<_> = (0..4).map(|_| seat(&mut crowd, 1, 0)).collect();
        assert_eq!(crowd.arrives(source(1), &BOUNDS, 99), Arrival::Refused(Crowded::Source));
        seat(&mut crowd, 2, 0);
        crowd.leaves(tickets[0]);
        seat(&mut crowd, 1, 0);
    }

    #[test]
    fn the_lot_falls_on_who_has_most_waiting_and_on_the_newcomer_among_equals() {
        let mut crowd = Crowd::default();
        for from in 1..=9 {
            seat(&mut crowd, from, 0);
        }
        let oldest = seat(&mut crowd, 10, 0);
        assert_eq!(crowd.arrives(source(11), &BOUNDS, 29), Arrival::Refused(Crowded::EarlyDrop));
        seat(&mut crowd, 10, 99);
        assert_eq!(crowd.arrives(source(10), &BOUNDS, 0), Arrival::Refused(Crowded::EarlyDrop));
        let arrival = crowd.arrives(source(11), &BOUNDS, 0);
        assert!(matches!(arrival, Arrival::InPlaceOf { victim, .. } if victim == oldest), "{arrival:?}");
        assert_eq!(crowd.waiting(), 11);
        assert!(crowd.is_going(oldest));
        crowd.leaves(oldest);
        assert!(!crowd.is_going(oldest));
    }

    #[test]
    fn sessions_are_bounded_by_source_and_by_institution_and_make_room_for_logins() {
        let mut crowd = Crowd::default();
        let (a, b) = (slug("a"), slug("b"));
        let log_in = |crowd: &mut Crowd, from: u8, institution: &Slug| {
            let ticket = seat(crowd, from, 0);
            let done = crowd.logs_in(ticket, institution, &BOUNDS);
            if done.is_err() {
                crowd.leaves(ticket);
            }
            done.map(|()| ticket)
        };
        let first = log_in(&mut crowd, 1, &a).unwrap();
        log_in(&mut crowd, 1, &a).unwrap();
        assert_eq!(log_in(&mut crowd, 2, &a), Err(SessionBound::Institution));
        log_in(&mut crowd, 1, &b).unwrap();
        assert_eq!(log_in(&mut crowd, 1, &slug("c")), Err(SessionBound::Source));
        assert_eq!(crowd.waiting(), 0);
        crowd.leaves(first);
        log_in(&mut crowd, 1, &a).unwrap();
    }

    proptest! {
        #[test]
        fn whatever_comes_the_bounds_hold_and_an_empty_house_is_empty(
            steps in prop::collection::vec((0_u8..4, 0_u8..8, 0_usize..100), 1..400),
        ) {
            let mut crowd = Crowd::default();
            let mut there: Vec<Ticket> = Vec::new();
            for (what, which, lot) in steps {
                let chosen = there.get(lot % there.len().max(1)).copied();
                match (what, chosen) {
                    (0 | 1, _) | (_, None) => match crowd.arrives(source(which), &BOUNDS, lot) {
                        Arrival::Admitted(ticket) | Arrival::InPlaceOf { ticket, .. } => there.push(ticket),
                        Arrival::Refused(_) => {}
                    },
                    (2, Some(ticket)) => {
                        let _ = crowd.logs_in(ticket, &slug(["a", "b", "c"][usize::from(which) % 3]), &BOUNDS);
                    }
                    (_, Some(ticket)) => {
                        crowd.leaves(ticket);
                        there.retain(|other| *other != ticket);
                    }
                }
                prop_assert!(crowd.waiting.len() <= 20);
                prop_assert_eq!(crowd.waiting.len() + crowd.sessions.len() + crowd.going.len(), there.len());
                prop_assert!(there.len() <= BOUNDS.connections);
                prop_assert!(crowd.waiting_from.values().all(|count| (1..=4).contains(count)));
                prop_assert!(crowd.sessions_from.values().all(|count| (1..=3).contains(count)));
                prop_assert!(crowd.sessions_of.values().all(|count| (1..=2).contains(count)));
                prop_assert_eq!(crowd.waiting_from.values().sum::<usize>(), crowd.waiting.len());
                prop_assert_eq!(crowd.sessions_from.values().sum::<usize>(), crowd.sessions.len());
            }
            for ticket in there {
                crowd.leaves(ticket);
            }
            prop_assert!(crowd.waiting.is_empty() && crowd.sessions.is_empty() && crowd.going.is_empty());
            prop_assert!(crowd.waiting_from.is_empty() && crowd.sessions_from.is_empty());
            prop_assert!(crowd.sessions_of.is_empty());
        }
    }
}

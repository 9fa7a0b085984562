//! How connections that never asked to log in are told in the access log: not one line each, which would let anybody who
//! can reach the port fill the disk, but one line for all of them now and then, which says how many came from where.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::admission::Source;

/// Sources that are told apart between two lines; what comes from others by then is counted together.
const SOURCES_MAX: usize = 4_096;
/// Sources that a line names, those with the most connections.
const NAMED_MAX: usize = 20;

/// What a line says. The named sources and the others together are all connections: nothing is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Probes {
    /// When the first of them ended.
    pub since: Timestamp,
    /// Connections that were let in and never asked to log in.
    pub silent: u64,
    /// Connections that were closed before a byte was read: too many, or from a source under penalty.
    pub refused: u64,
    /// Who came most often.
    pub sources: Vec<OfSource>,
    /// Connections from everybody else.
    pub others: u64,
}

/// What came from one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OfSource {
    /// The address; of IPv6, the network.
    pub source: String,
    /// As in [`Probes::silent`].
    pub silent: u64,
    /// As in [`Probes::refused`].
    pub refused: u64,
}

/// Which of the two a connection was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It was let in and never asked to log in.
    Silent,
    /// It was closed before a byte was read.
    Refused,
}

/// Counts until a line is written.
#[derive(Debug, Default)]
pub struct Tally {
    since: Option<Timestamp>,
    all: Count,
    of: HashMap<Source, Count>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    silent: u64,
    refused: u64,
}

impl Count {
    fn add(&mut self, probe: Probe) {
        match probe {
            Probe::Silent => self.silent += 1,
            Probe::Refused => self.refused += 1,
        }
    }

    fn sum(self) -> u64 {
        self.silent + self.refused
    }
}

impl Tally {
    /// A connection ended.
    pub fn add(&mut self, source: Source, probe: Probe, now: Timestamp) {
        self.since.get_or_insert(now);
        self.all.add(probe);
        if self.of.len() < SOURCES_MAX || self.of.contains_key(&source) {
            self.of.entry(source).or_default().add(probe);
        }
    }

    /// What is to be told, if anything; counting begins anew.
    pub fn take(&mut self) -> Option<Probes> {
        let tally = std::mem::take(self);
        let since = tally.since?;
        let mut of: Vec<_> = tally.of.into_iter().collect();
        of.sort_unstable_by_key(|(source, count)| (std::cmp::Reverse(count.sum()), *source));
        of.truncate(NAMED_MAX);
        let named: u64 = of.iter().map(|(_, count)| count.sum()).sum();
        let of_source = |(source, Count { silent, refused }): (Source, Count)| OfSource {
            source: source.to_string(),
            silent,
            refused,
        };
        Some(Probes {
            since,
            silent: tally.all.silent,
            refused: tally.all.refused,
            others: tally.all.sum() - named,
            sources: of.into_iter().map(of_source).collect(),
        })
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

    #[test]
    fn nothing_is_told_when_nobody_came_and_everything_is_told_once() {
        let (mut tally, now) = (Tally::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(tally.take(), None);
        tally.add(source(1), Probe::Silent, now);
        tally.add(source(2), Probe::Refused, now);
        tally.add(source(2), Probe::Refused, now);
        let told = tally.take().unwrap();
        assert_eq!((told.silent, told.refused, told.others), (1, 2, 0));
        assert_eq!(told.sources[0], OfSource { source: "0.0.0.2".into(), silent: 0, refused: 2 });
        assert_eq!(tally.take(), None);
    }

    #[test]
    fn a_line_and_the_memory_for_it_are_bounded_whoever_comes() {
        let (mut tally, now) = (Tally::default(), Timestamp::UNIX_EPOCH);
        for number in 0..100_000 {
            tally.add(source(number), Probe::Silent, now);
        }
        tally.add(source(7), Probe::Refused, now);
        assert_eq!(tally.of.len(), SOURCES_MAX);
        let told = tally.take().unwrap();
        assert_eq!(told.sources.len(), NAMED_MAX);
        assert_eq!(told.sources[0].source, "0.0.0.7");
        assert!(serde_json::to_string(&told).unwrap().len() < 2_000);
    }

    proptest! {
        #[test]
        fn the_named_and_the_others_are_all(who in prop::collection::vec((0_u32..60, any::<bool>()), 1..500)) {
            let mut tally = Tally::default();
            for (number, silent) in &who {
                let probe = if *silent { Probe::Silent } else { Probe::Refused };
                tally.add(source(*number), probe, Timestamp::UNIX_EPOCH);
            }
            let told = tally.take().unwrap();
            let named: u64 = told.sources.iter().map(|of| of.silent + of.refused).sum();
            prop_assert_eq!(told.silent + told.refused, who.len() as u64);
            prop_assert_eq!(named + told.others, who.len() as u64);
        }
    }
}

//! Whether heads are what they should be: signed by the zone, one after the other without a gap, each naming the one before;
//! and what they say together. What they say of records is held against the files by `chain`.

use jiff::Timestamp;
use serde::Serialize;

use super::chain::{Break, Damage, Seal};
use super::head::{Broken, Head, Known, Seals, digest};
use super::retention::LogName;
use super::signature::{Namespace, ZoneKey};

/// Something that is not as it was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The file, relative to the log folder.
    pub file: String,
    /// Its line, from 1.
    pub line: Option<u64>,
    /// The record.
    pub seq: Option<u64>,
    /// What was done.
    pub damage: Damage,
    /// In words.
    pub what: String,
}

impl Finding {
    /// About a whole file.
    pub fn of_file(file: impl Into<String>, damage: Damage, what: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, seq: None, damage, what: what.into() }
    }

    /// About a place in a day file.
    pub fn of_break(file: &LogName, found: Break) -> Self {
        let Break { damage, line, seq, what } = found;
        Self { file: file.to_string(), line: Some(line), seq: Some(seq), damage, what }
    }
}

/// A head as it was found, believed or not.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Where.
    pub file: &'a str,
    /// The number that its name says.
    pub number: u64,
    /// What was signed.
    pub text: &'a [u8],
    /// The signature, PEM.
    pub signature: &'a [u8],
}

impl Found<'_> {
    /// The head, if the zone signed it and it is the one that its name says.
    pub fn believe(&self, key: &ZoneKey) -> Result<Head, String> {
        if self.signature.is_empty() {
            return Err("has no signature beside it".to_owned());
        }
        let verified = key.verify(Namespace::LogHead, self.text, self.signature);
        verified.map_err(|distrust| format!("its signature {distrust}"))?;
        let head: Head =
            serde_json::from_slice(self.text).map_err(|error| format!("cannot be read: {error}"))?;
        if head.head != 1 {
            return Err(format!("has a form ({}) that this version does not know", head.head));
        }
        if head.number != self.number {
            return Err(format!("is head {}, under the name of another", head.number));
        }
        Ok(head)
    }
}

/// An incident that a head tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The head.
    pub head: u64,
    /// When it was signed.
    pub time: Timestamp,
    /// What it says.
    pub broken: Broken,
}

/// Follows heads, in the order of their numbers.
#[derive(Debug)]
pub struct Trail {
    /// What they say together.
    pub known: Known,
    /// What they say of each file.
    pub seals: Seals,
    /// What they tell of that was wrong when they were signed.
    pub incidents: Vec<Incident>,
    /// What is wrong with them.
    pub findings: Vec<Finding>,
    awaited: u64,
    /// The digest of the head before, unless that one is not to be believed.
    previous: Option<String>,
}

impl Trail {
    /// Begins at a head: the first, or one that tells all.
    pub fn from(number: u64) -> Self {
        Self {
            known: Known::default(),
            seals: Seals::new(),
            incidents: Vec::new(),
            findings: Vec::new(),
            awaited: number,
            previous: (number == 1).then(|| "0".repeat(64)),
        }
    }

    /// Takes the next head.
    pub fn take(&mut self, found: &Found<'_>, key: &ZoneKey) {
        if found.number > self.awaited {
            let last = found.number - 1;
            let which = if self.awaited == last {
                format!("head {last} is missing")
            } else {
                format!("heads {} to {last} are missing", self.awaited)
            };
            let what = format!("{which} before this one");
            self.findings.push(Finding::of_file(found.file, Damage::Missing, what));
            self.previous = None;
        }
        self.awaited = found.number + 1;
        let previous = self.previous.take();
        let head = match found.believe(key) {
            Ok(head) => head,
            Err(what) => {
                self.findings.push(Finding::of_file(found.file, Damage::Forged, what));
                return;
            }
        };
        self.previous = Some(digest(found.text));
        if previous.is_some_and(|previous| previous != head.previous) {
            let what =
                "does not continue the head before it: one of the two is not the one that was signed then";
            self.findings.push(Finding::of_file(found.file, Damage::Rewritten, what));
        }
        self.follow(&head, found.text);
    }

    fn follow(&mut self, head: &Head, text: &[u8]) {
        for sealed in &head.files {
            let Some(place) = sealed.place() else { continue };
            let seals = self.seals.entry(sealed.file.clone()).or_default();
            let seal = Seal { seq: place.seq, hash: place.hash, head: head.number };
            if seals.last().is_none_or(|last| (last.seq, last.hash) != (seal.seq, seal.hash)) {
                seals.push(seal);
            }
        }
        let incident =
            |broken: &Broken| Incident { head: head.number, time: head.time, broken: broken.clone() };
        let is_new = |broken: &&Broken| self.known.broken.get(&broken.file) != Some(&broken.what);
        self.incidents.extend(head.broken.iter().filter(is_new).map(incident));
        self.known.follow(head, text);
    }
}

#[cfg(test)]
mod tests {
    use ssh_key::PrivateKey;

    use super::super::chain::Place;
    use super::super::head::{Making, Walked, next};
    use super::super::path::Slug;
    use super::super::signature::tests::{private_key, signed};
    use super::*;

    type Kept = (u64, Vec<u8>, String);

    fn sign(head: &Head, key: &PrivateKey) -> Kept {
        let text = serde_json::to_vec(head).unwrap();
        (head.number, text.clone(), signed(key, Namespace::LogHead, &text))
    }

    fn heads(count: u64, key: &PrivateKey) -> Vec<Kept> {
        let (mut known, mut heads) = (Known::default(), Vec::new());
        for seq in 1..=count {
            let making = Making {
                time: Timestamp::from_second(1_795_262_400 + i64::try_from(seq).unwrap()).unwrap(),
                node: Slug::parse("n").unwrap(),
                keep_days: 31,
            };
            let outcome = Ok(Place { line: seq, seq, hash: [7; 32], bytes: seq });
            let walked = Walked { outcome, expired: Vec::new(), tells_of_heads: false };
            let name = LogName::parse("2026-11-21.serve.n.jsonl").unwrap();
            let head = next(&known, &making, [(name, walked)].into()).unwrap();
            known.follow(&head, &serde_json::to_vec(&head).unwrap());
            heads.push(sign(&head, key));
        }
        heads
    }

    fn trail(heads: &[Kept]) -> Trail {
        let key = ZoneKey::new(private_key(1).public_key().clone());
        let mut trail = Trail::from(1);
        for (number, text, signature) in heads {
            let file = format!("{number}");
            let signature = signature.as_bytes();
            trail.take(&Found { file: &file, number: *number, text, signature }, &key);
        }
        trail
    }

    fn edited(kept: &Kept, key: u8) -> Kept {
        let mut head: Head = serde_json::from_slice(&kept.1).unwrap();
        head.keep_days = 3;
        sign(&head, &private_key(key))
    }

    #[test]
    fn every_way_to_tamper_with_heads_is_named_at_its_head() {
        type Tampering = fn(&mut Vec<Kept>);
        let table: &[(&str, Tampering, &str, Damage)] = &[
            ("one is gone", |h| drop(h.remove(2)), "4", Damage::Missing),
            ("the first are gone", |h| drop(h.drain(..2)), "3", Damage::Missing),
            ("a byte", |h| h[2].1[40] ^= 1, "3", Damage::Forged),
            ("no signature", |h| h[2].2.clear(), "3", Damage::Forged),
            ("another's signature", |h| h[2].2 = h[3].2.clone(), "3", Damage::Forged),
            ("another's name", |h| h[2] = (3, h[3].1.clone(), h[3].2.clone()), "3", Damage::Forged),
            ("signed with another key", |h| h[2] = edited(&h[2], 2), "3", Damage::Forged),
            ("replaced, with the zone's key", |h| h[2] = edited(&h[2], 1), "4", Damage::Rewritten),
        ];
        assert_eq!(trail(&heads(5, &private_key(1))).findings, []);
        for (what, tamper, file, damage) in table {
            let mut heads = heads(5, &private_key(1));
            tamper(&mut heads);
            let findings = trail(&heads).findings;
            let [found] = findings.as_slice() else { panic!("{what}: {findings:?}") };
            assert_eq!((found.file.as_str(), found.damage), (*file, *damage), "{what}: {}", found.what);
        }
    }

    #[test]
    fn what_heads_say_of_a_file_is_kept_once_each() {
        let trail = trail(&heads(3, &private_key(1)));
        let seals: Vec<u64> = trail.seals.values().flatten().map(|seal| seal.seq).collect();
        assert_eq!(seals, [1, 2, 3]);
        assert_eq!(trail.known.last.map(|(number, ..)| number), Some(3));
    }
}

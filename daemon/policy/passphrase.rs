//! The passphrase of a result that is locked with one: how it is made of random bytes, what is kept beside it, and which of
//! those that are kept somebody means. Randomness, keeping and handing out are `work`'s business.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::arrival::ArrivalId;
use super::path::{Folder, Name, Slug};

/// 32 letters and digits that nobody takes for one another, read out loud or typed over: no 0 and o, no 1 and l.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters of a passphrase, each worth 5 bits: 125 bits.
pub const LENGTH: usize = 25;
/// Characters between two hyphens.
const GROUP: usize = 5;
/// Results that an unclear answer names.
const NAMED: usize = 5;

/// A passphrase; wiped when dropped, and never shown by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Of bytes that nobody can foresee. Of each, five bits count, so that every letter is as likely as the other.
    pub fn of(random: &[u8; LENGTH]) -> Self {
        // Never reallocated, for that would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(LENGTH + LENGTH / GROUP));
        for (at, byte) in random.iter().enumerate() {
            if at > 0 && at % GROUP == 0 {
                text.push('-');
            }
            let letter = ALPHABET.get(usize::from(byte % 32)).copied().unwrap_or(b'a');
            text.push(char::from(letter));
        }
        Self(text)
    }

    /// As its receiver types it, hyphens included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(not shown)")
    }
}

impl Serialize for Passphrase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Passphrase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// A result that a passphrase opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Locked {
    /// What it was made of.
    pub arrival: ArrivalId,
    /// Whose it is.
    pub to: Slug,
    /// Under which name it lies in the receiver's `out`, as long as nobody has removed it.
    pub name: Name,
    /// Lower-case hex of its SHA-256.
    pub sha256: String,
    /// When it was made, UTC.
    pub made: Timestamp,
}

impl Locked {
    /// Where its receiver finds it.
    pub fn path(&self) -> String {
        format!("/{}/{}/{}", self.arrival.exchange(), Folder::Out.as_str(), self.name)
    }
}

/// A passphrase and what it opens, as `work` keeps it, encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    /// What it opens.
    pub locked: Locked,
    /// The passphrase.
    pub passphrase: Passphrase,
}

/// A passphrase on its way to whoever hands it on, and whom to hand it to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Shown {
    /// What it opens.
    pub locked: Locked,
    /// What its receiver is called; none where the configuration has lost it.
    pub title: Option<String>,
    /// Whom to write to there.
    pub contact: Option<String>,
    /// Where a message can be sent.
    pub phone: Option<String>,
    /// The passphrase.
    pub passphrase: Passphrase,
}

/// Which result somebody means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Meant {
    /// The name or the path of the file in `out`, or the beginning of its arrival's id.
    pub delivery: String,
    /// Whose, where several have one of that name.
    #[serde(default)]
    pub to: Option<Slug>,
}

impl Meant {
    /// The one that is meant, by its place in the list; else what to write instead.
    pub fn among(&self, kept: &[&Locked]) -> Result<usize, String> {
        let is_of = |locked: &Locked| self.to.as_ref().is_none_or(|to| to == &locked.to);
        let begins = |locked: &Locked| {
            !self.delivery.is_empty() && locked.arrival.to_string().starts_with(&self.delivery)
        };
        let is_whole = |locked: &Locked| {
            [locked.name.as_str(), &locked.path(), &locked.arrival.to_string()].contains(&&*self.delivery)
        };
        let find = |takes: &dyn Fn(&Locked) -> bool| -> Vec<(usize, &Locked)> {
            let all = kept.iter().copied().enumerate();
            all.filter(|(_, locked)| is_of(locked) && takes(locked)).collect()
        };
        // An id may be the beginning of another: exchanges are called as they are.
        let whole = find(&is_whole);
        let found = if whole.is_empty() { find(&begins) } else { whole };
        match &found[..] {
            [(at, _)] => Ok(*at),
            [] => Err("no passphrase is kept for that: it was handed out, its time has passed, or the result is not \
                       delivered yet; `passphrase --list` shows what there is, by the whole names to write here"
                .to_owned()),
            several => Err(unclear(several)),
        }
    }
}

fn unclear(several: &[(usize, &Locked)]) -> String {
    let named = several
        .iter()
        .take(NAMED)
        .map(|(_, locked)| format!("\n  {} --to {}    ({})", locked.arrival, locked.to, locked.path()));
    let more = several.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    format!("several are meant by that; ask for one of them:{}{more}", named.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::arrival::tests::arrival_named;
    use super::*;

    #[test]
    fn a_passphrase_is_five_groups_of_five_letters_that_look_like_no_other() {
        let all: [u8; LENGTH] = std::array::from_fn(|at| at as u8);
        assert_eq!(Passphrase::of(&all).as_str(), "abcde-fghij-kmnpq-rstuv-wxyz2");
        let high: [u8; LENGTH] = std::array::from_fn(|at| 255 - at as u8);
        assert_eq!(Passphrase::of(&high).as_str(), "98765-432zy-xwvut-srqpn-mkjih");
        let letters: BTreeSet<u8> = ALPHABET.iter().copied().collect();
        assert_eq!(letters.len(), 32, "each five bits have a letter of their own");
        assert!(b"01lo".iter().all(|confusing| !letters.contains(confusing)));
        assert!(letters.iter().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit()));
    }

    #[test]
    fn a_passphrase_is_not_shown_by_accident_and_comes_back_from_where_it_is_kept() {
        let kept = Kept { locked: locked("a.csv.age", "city"), passphrase: Passphrase::of(&[7; LENGTH]) };
        assert!(!format!("{kept:?}").contains("hhhhh"));
        let text = serde_json::to_vec(&kept).unwrap();
        assert_eq!(serde_json::from_slice::<Kept>(&text).unwrap(), kept);
        assert_eq!(kept.passphrase.as_str(), "hhhhh-hhhhh-hhhhh-hhhhh-hhhhh");
    }

    fn locked(name: &str, to: &str) -> Locked {
        let arrival = arrival_named(name);
        Locked {
            arrival: arrival.id,
            to: Slug::parse(to).unwrap(),
            name: Name::parse(name).unwrap(),
            sha256: String::new(),
            made: arrival.received,
        }
    }

    #[test]
    fn what_is_meant_is_found_by_name_path_or_beginning_and_several_are_asked_about() {
        let all = [locked("a.csv.age", "city"), locked("b.csv.age", "city"), locked("a.csv.age", "fund")];
        let list: Vec<&Locked> = all.iter().collect();
        let ask = |delivery: &str, to: Option<&str>| {
            let to = to.map(|to| Slug::parse(to).unwrap());
            Meant { delivery: delivery.to_owned(), to }.among(&list)
        };
        assert_eq!(ask("b.csv.age", None), Ok(1));
        assert_eq!(ask("/pillar-3/out/b.csv.age", None), Ok(1));
        assert_eq!(ask(&all[1].arrival.to_string(), None), Ok(1));
        assert_eq!(ask("a.csv.age", Some("fund")), Ok(2));
        let beginning = &all[0].arrival.to_string()[..30];
        assert_eq!(ask(beginning, Some("city")), Ok(0), "the digest of the name tells them apart");
        let several = ask("a.csv.age", None).unwrap_err();
        assert!(several.contains("--to city") && several.contains("--to fund"), "{several}");
        assert!(ask("2026", None).unwrap_err().contains("several"), "all begin so");
        for nothing in ["", "c.csv.age", "csv", "/other/out/b.csv.age"] {
            assert!(ask(nothing, None).unwrap_err().contains("no passphrase is kept"), "{nothing:?}");
        }
        assert!(ask("b.csv.age", Some("fund")).is_err(), "another's is never taken for it");
    }
}

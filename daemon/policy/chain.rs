//! Whether the lines of an access log are one unbroken chain and what heads sealed is still there; if not, which record is
//! the first that is not as it was written. Lines come in one after the other; reading them is `host::evidence`'s business.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The SHA-256 of a line without its line end.
pub type Hash = [u8; 32];

/// What a file's first record continues from.
pub const START: Hash = [0; 32];

/// Records that are remembered, to find where an inserted run of them forks off.
const REMEMBERED: usize = 64;

/// What the chain needs of a line. Whatever else stands in it is under its hash.
#[derive(Debug, Deserialize)]
pub struct Link<'a> {
    /// UTC, as it stands there.
    pub time: &'a str,
    /// Counts from 1 within the file.
    pub seq: u64,
    /// The hash of the line before.
    prev: &'a str,
    /// What happened.
    pub event: &'a str,
    /// How it ended.
    pub outcome: &'a str,
    /// The path, where there is one.
    #[serde(borrow, default)]
    pub path: Option<Cow<'a, str>>,
}

/// A place that a head has sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The record.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// The head's number.
    pub head: u64,
}

/// What was done to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// A record is not as it was written.
    Altered,
    /// Records are missing between others, or at the beginning.
    Dropped,
    /// A record stands there that was not written there.
    Inserted,
    /// Records stand in another order.
    Reordered,
    /// Sealed records are missing at the end.
    CutOff,
    /// The chain holds, but is not the one that was sealed.
    Rewritten,
    /// A whole file or head is gone.
    Missing,
    /// Something is not signed by the zone, or nobody knows where it comes from.
    Forged,
}

/// The first place where a file is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// What was done.
    pub damage: Damage,
    /// The line, from 1.
    pub line: u64,
    /// The record that had to stand there; of an inserted one, what it calls itself.
    pub seq: u64,
    /// In words.
    pub what: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, record {}: {}", self.line, self.seq, self.what)
    }
}

/// How far a walk came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Lines up to and with the last record.
    pub line: u64,
    /// The last record.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Bytes up to and with its line end.
    pub bytes: u64,
}

impl Place {
    /// Before the first line.
    pub const START: Self = Self { line: 0, seq: 0, hash: START, bytes: 0 };
}

/// Reads lower-case hexadecimal.
pub fn hash(text: &str) -> Option<Hash> {
    let mut hash = START;
    if text.len() != 2 * hash.len() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for &digit in digits {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(hash)
}

/// A line as a record; `None` for what is none, as a crash leaves it.
fn link(line: &[u8]) -> Option<(Link<'_>, Hash)> {
    let link: Link<'_> = serde_json::from_slice(line).ok()?;
    let prev = hash(link.prev)?;
    Some((link, prev))
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    line: u64,
    seq: u64,
    prev: Hash,
    hash: Hash,
}

/// What the next record decides about a place that does not fit.
#[derive(Debug)]
enum Doubt {
    /// Either the last record was altered, or this one's link.
    Link { last: Seen, this: Seen },
    /// Records between are missing, unless the first of them stands further down.
    Gap { last: Seen, this: Seen },
    /// Two runs of records claim one place: one from this line on, and this one.
    Fork { first: Seen, this: Seen },
    /// The chain holds so far, and is not the sealed one: only this record, or those before it too.
    Seal { this: Seen, seal: Seal, from: Seen },
}

#[derive(Debug)]
enum State {
    Whole,
    Doubtful(Doubt),
    Broken(Break),
}

/// Follows a chain.
#[derive(Debug)]
pub struct Walker {
    state: State,
    place: Place,
    /// Lines and bytes that were fed.
    fed: (u64, u64),
    /// Records accepted last, the newest last.
    recent: VecDeque<Seen>,
    seals: VecDeque<Seal>,
    /// The last record of which a head says that it is as it was.
    sealed: Seen,
    /// The first line since the last record that is none.
    rubble: Option<u64>,
    torn: u64,
}

impl Walker {
    /// Goes on from a place that is known to be right. The seals are of later places, in order.
    pub fn new(from: Place, seals: impl IntoIterator<Item = Seal>) -> Self {
        let start = Seen { line: from.line, seq: from.seq, prev: START, hash: from.hash };
        Self {
            state: State::Whole,
            place: from,
            fed: (from.line, from.bytes),
            recent: VecDeque::from([start]),
            seals: seals.into_iter().filter(|seal| seal.seq > from.seq).collect(),
            sealed: start,
            rubble: None,
            torn: 0,
        }
    }

    /// Takes the next line, without its line end; gives it back if the chain holds up to and with it.
    pub fn feed<'a>(&mut self, line: &'a [u8]) -> Option<Link<'a>> {
        self.fed = (self.fed.0 + 1, self.fed.1 + line.len() as u64 + 1);
        let Some((link, prev)) = link(line) else {
            self.rubble.get_or_insert(self.fed.0);
            return None;
        };
        let this = Seen { line: self.fed.0, seq: link.seq, prev, hash: Sha256::digest(line).into() };
        self.state = match std::mem::replace(&mut self.state, State::Whole) {
            State::Whole => {
                if let Some(state) = self.judge(this) {
                    state
                } else {
                    self.accept(this);
                    return Some(link);
                }
            }
            State::Doubtful(doubt) => resolve(doubt, &this),
            State::Broken(found) => State::Broken(found),
        };
        None
    }

    /// The last record up to which the chain holds.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Lines so far that are no records and that the chain passes by: what a crash leaves of a line never acknowledged.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Whether a break was met, or may have been; what comes now matters for its name only.
    pub fn is_doubtful(&self) -> bool {
        !matches!(self.state, State::Whole)
    }

    /// There are no more lines.
    pub fn finish(self) -> Result<Place, Break> {
        match self.state {
            State::Broken(found) => Err(found),
            State::Doubtful(doubt) => Err(settle(doubt, &self.seals)),
            State::Whole => match self.seals.back() {
                Some(seal) => Err(self.cut_off(seal.seq)),
                None => Ok(self.place),
            },
        }
    }

    fn cut_off(&self, to: u64) -> Break {
        let (line, seq) = (self.place.line + 1, self.place.seq + 1);
        let head = self.seals.front().map_or(0, |seal| seal.head);
        let lost = records(seq, to);
        let what = match self.rubble {
            Some(_) => {
                format!("is no record any more; {lost}, sealed by head {head} and later ones, are missing")
            }
            None => {
                format!("the file ends here, and {lost}, sealed by head {head} and later ones, are missing")
            }
        };
        Break { damage: Damage::CutOff, line, seq, what }
    }

    /// What is wrong with the next record, if anything.
    fn judge(&self, this: Seen) -> Option<State> {
        let last = *self.recent.back().unwrap_or(&self.sealed);
        let awaited = last.seq + 1;
        let broken = |damage, line, what| Some(State::Broken(Break { damage, line, seq: awaited, what }));
        match (this.seq == awaited, this.prev == last.hash) {
            (true, true) => {
                let seal =
                    self.seals.front().filter(|seal| seal.seq == this.seq && seal.hash != this.hash)?;
                Some(State::Doubtful(Doubt::Seal { this, seal: *seal, from: self.sealed }))
            }
            (false, true) => broken(
                Damage::Altered,
                this.line,
                format!("the record calls itself {}, and continues record {}", this.seq, last.seq),
            ),
            (true, false) if last.seq == 0 => broken(
                Damage::Altered,
                this.line,
                "the first record claims that another came before it".to_owned(),
            ),
            // A head speaks for the last one.
            (true, false) if last.seq == self.sealed.seq => Some(State::Broken(altered(&this))),
            (true, false) => Some(State::Doubtful(Doubt::Link { last, this })),
            (false, false) if this.seq > awaited => match self.rubble {
                Some(line) => broken(Damage::Altered, line, "is no record any more".to_owned()),
                None => Some(State::Doubtful(Doubt::Gap { last, this })),
            },
            (false, false) => {
                let root =
                    self.recent.iter().position(|seen| seen.hash == this.prev && seen.seq + 1 == this.seq);
                match root.and_then(|at| self.recent.get(at + 1)) {
                    Some(first) if first.seq > self.sealed.seq && first.hash != this.hash => {
                        Some(State::Doubtful(Doubt::Fork { first: *first, this }))
                    }
                    Some(_) | None => Some(State::Broken(inserted(&this))),
                }
            }
        }
    }

    fn accept(&mut self, this: Seen) {
        if self.rubble.take().is_some() {
            self.torn += this.line - self.place.line - 1;
        }
        if self.seals.front().is_some_and(|seal| seal.seq == this.seq) {
            self.sealed = this;
            while self.seals.front().is_some_and(|seal| seal.seq == this.seq) {
                self.seals.pop_front();
            }
        }
        self.place = Place { line: this.line, seq: this.seq, hash: this.hash, bytes: self.fed.1 };
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(this);
    }
}

fn records(from: u64, to: u64) -> String {
    if from == to { format!("record {from}") } else { format!("records {from} to {to}") }
}

fn altered(seen: &Seen) -> Break {
    let what = "the record is not as it was written: it and its neighbours do not fit each other".to_owned();
    Break { damage: Damage::Altered, line: seen.line, seq: seen.seq, what }
}

fn inserted(seen: &Seen) -> Break {
    let what = format!("was inserted: it calls itself record {}, which stands elsewhere", seen.seq);
    Break { damage: Damage::Inserted, line: seen.line, seq: seen.seq, what }
}

fn rewritten(from: &Seen, seal: &Seal) -> Break {
    let (line, seq) = (from.line + 1, from.seq + 1);
    let what = match records(seq, seal.seq) {
        one if seq == seal.seq => format!("{one} is not the one that head {} sealed", seal.head),
        many => format!("{many} are not those that head {} sealed: at least the last was altered", seal.head),
    };
    Break { damage: Damage::Rewritten, line, seq, what }
}

/// What the next record says about a doubt.
fn resolve(doubt: Doubt, next: &Seen) -> State {
    State::Broken(match doubt {
        Doubt::Link { last, this } => altered(if next.prev == this.hash { &last } else { &this }),
        Doubt::Fork { first, this } => inserted(if next.prev == this.hash { &first } else { &this }),
        Doubt::Seal { this, seal, .. } if next.prev == seal.hash => altered(&this),
        Doubt::Seal { seal, from, .. } => rewritten(&from, &seal),
        Doubt::Gap { last, this } if next.seq != last.seq + 1 => {
            return State::Doubtful(Doubt::Gap { last, this });
        }
        Doubt::Gap { last, this } => {
            let stranger = this.seq == next.seq + 1 && this.prev != next.hash;
            if stranger && next.prev == last.hash {
                inserted(&this)
            } else {
                let (seq, line) = (next.seq, next.line);
                let what = format!("record {} stands before record {seq}, which is in line {line}", this.seq);
                Break { damage: Damage::Reordered, line: this.line, seq, what }
            }
        }
    })
}

/// No more records come: what the seals say about a doubt.
fn settle(doubt: Doubt, seals: &VecDeque<Seal>) -> Break {
    let seal_of = |seen: &Seen| seals.iter().find(|seal| seal.seq == seen.seq);
    match doubt {
        // Nothing follows that would speak against this record, unless a head does.
        Doubt::Link { this, .. } if seal_of(&this).is_some_and(|seal| seal.hash != this.hash) => {
            altered(&this)
        }
        Doubt::Link { last, .. } => altered(&last),
        Doubt::Fork { first, this } if seal_of(&this).is_some_and(|seal| seal.hash == this.hash) => {
            inserted(&first)
        }
        Doubt::Fork { this, .. } => inserted(&this),
        Doubt::Seal { seal, from, .. } => rewritten(&from, &seal),
        Doubt::Gap { last, this } => {
            let (seq, before) = (last.seq + 1, this.seq);
            let verb = if seq + 1 == before { "is" } else { "are" };
            let what = format!("{} {verb} missing before record {before}", records(seq, before - 1));
            Break { damage: Damage::Dropped, line: this.line, seq, what }
        }
    }
}

#[cfg(test)]
mod tests;

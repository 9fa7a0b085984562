//! What a report says, as plain values: the JSON is this, and the page shows nothing else. Where the values come from is the
//! business of the files beside this one.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

/// How many of a kind are told one by one; the counts are of all.
pub const LISTED: usize = 5_000;

/// One sentence in both languages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Words {
    /// Dutch.
    pub nl: String,
    /// English.
    pub en: String,
}

impl Words {
    /// Both.
    pub fn new(nl: impl Into<String>, en: impl Into<String>) -> Self {
        Self { nl: nl.into(), en: en.into() }
    }
}

/// How good or bad a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As agreed.
    Good,
    /// Somebody should look, or something is not known.
    Attention,
    /// Not as agreed.
    Bad,
}

/// One thing that can be said of the span, in plain words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Statement {
    /// For programs.
    pub about: &'static str,
    /// How good it is.
    pub level: Level,
    /// In words.
    #[serde(flatten)]
    pub words: Words,
}

/// The newest of many, in the order of time, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed<T> {
    /// Of all.
    pub count: u64,
    /// The newest of them.
    pub listed: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { count: 0, listed: Vec::new() }
    }
}

impl<T: Timed> Listed<T> {
    /// Takes one more; memory stays bounded whatever comes.
    pub fn take(&mut self, one: T) {
        self.count += 1;
        self.listed.push(one);
        if self.listed.len() >= 2 * LISTED {
            self.settle();
        }
    }

    /// Puts them in order.
    pub fn settle(&mut self) {
        self.listed.sort_by_key(Timed::time);
        let surplus = self.listed.len().saturating_sub(LISTED);
        drop(self.listed.drain(..surplus));
    }

    /// How many are not told one by one.
    pub fn left_out(&self) -> u64 {
        self.count.saturating_sub(self.listed.len() as u64)
    }
}

/// What has a time.
pub trait Timed {
    /// It.
    fn time(&self) -> Timestamp;
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The form of this document: 1.
    pub report: u32,
    /// The exchange.
    pub exchange: String,
    /// First day, Europe/Brussels.
    pub from: Date,
    /// Last day, Europe/Brussels.
    pub to: Date,
    /// When the report was made.
    pub made: Timestamp,
    /// On which machine.
    pub node: String,
    /// By which version of the program.
    pub version: &'static str,
    /// The fingerprint of the key that signed it; none for a report without signature.
    pub signed_with: Option<String>,
    /// In short.
    pub overall: Level,
    /// In plain words.
    pub statements: Vec<Statement>,
    /// What it rests on.
    pub agreement: super::setup::Agreement,
    /// Who takes part.
    pub parties: Vec<super::setup::Party>,
    /// What happens to files.
    pub flows: Vec<super::setup::Flow>,
    /// How long things are kept, and what was deleted.
    pub kept: Vec<Kept>,
    /// Counts over the span.
    pub figures: super::figures::Figures,
    /// What came in.
    pub arrivals: super::papers::Arrivals,
    /// What the access log says.
    pub log: super::tally::Tally,
    /// Whether the rhythm was kept.
    pub rhythm: Vec<Rhythm>,
    /// Reported incidents.
    pub incidents: Listed<Incident>,
    /// Whether the access log is as it was written.
    pub evidence: super::evidence::Evidence,
    /// With what things are protected.
    pub protection: Vec<Protection>,
    /// What this report cannot know.
    pub not_known: Vec<Words>,
}

/// How long one kind of thing is kept, and how that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kept {
    /// For programs.
    pub kind: &'static str,
    /// What.
    pub what: Words,
    /// How long, in days; none for what is kept for good.
    pub days: Option<u64>,
    /// Deleted in the span, because its time had passed.
    pub deleted: u64,
    /// Of what was deleted.
    pub deleted_bytes: u64,
    /// Still there now.
    pub left: Option<u64>,
    /// The day of the oldest that is still there.
    pub oldest: Option<Date>,
    /// The oldest is older than the period, by more than a day.
    pub overdue: bool,
}

/// Whether a flow's rhythm was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rhythm {
    /// The flow.
    pub flow: String,
    /// What was agreed.
    pub agreed: Words,
    /// How good it is.
    pub level: Level,
    /// What came of it.
    pub found: Words,
    /// By the end of this day the next one is due, as of today.
    pub due: Option<Date>,
    /// The first day on which one was missed that has not come since.
    pub missing_since: Option<Date>,
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Incident {
    /// When it was found.
    pub time: Timestamp,
    /// For programs.
    pub code: String,
    /// What it is.
    pub what: Words,
    /// Whose file or login, where it is known.
    pub institution: Option<String>,
    /// The arrival, where there is one.
    pub arrival: Option<String>,
    /// How it stands: reported, closed; none where that is not kept.
    pub standing: Option<Words>,
}

impl Timed for Incident {
    fn time(&self) -> Timestamp {
        self.time
    }
}

/// With what something is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Protection {
    /// What.
    pub what: Words,
    /// With what.
    pub with: Words,
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for i64 {
        fn time(&self) -> Timestamp {
            Timestamp::from_second(*self).unwrap()
        }
    }

    #[test]
    fn of_a_million_the_newest_stay_and_all_are_counted() {
        let mut listed = Listed::default();
        // Not in the order of time, as records of two processes are not.
        for number in 0..1_000_000_i64 {
            listed.take((number * 7_919) % 1_000_003);
            assert!(listed.listed.len() < 2 * LISTED);
        }
        listed.settle();
        assert_eq!((listed.count, listed.listed.len(), listed.left_out()), (1_000_000, LISTED, 995_000));
        assert!(listed.listed.is_sorted());
        assert_eq!(listed.listed.last(), Some(&1_000_002));
    }
}

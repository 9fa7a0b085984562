//! A case: what is kept of an incident from its first sign until an operator closes it. Signs of one kind, institution, exchange
//! and UTC day are one case; what comes after it was closed is another. Where a case lies, and that it lies there durably, is
//! `host::spool`'s business.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Incident, Sign};
use crate::policy::agreement::{Exchange, ReportBy};
use crate::policy::digest::sha256;
use crate::policy::path::Slug;
use crate::policy::retention::LogName;

/// By when an incident is reported where no agreement says it.
pub const REPORT_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Cases of one kind that a day may have before all further signs of that kind go into one.
pub const CASES_A_DAY: usize = 200;
/// Longest id, in bytes.
const ID_MAX: usize = 64;
/// Characters of a digest that tell the cases of a day apart.
const MARK: usize = 8;

/// Which case: `‹YYYYMMDD›-‹kind›-‹8 hex›`, and `-‹n›` from the second of the same signs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaseId(String);

impl CaseId {
    /// The one way in.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let (day, rest) = text.split_at_checked(8)?;
        let kind = rest.strip_prefix('-')?;
        let fits = text.len() <= ID_MAX
            && day.bytes().all(|b| b.is_ascii_digit())
            && text.bytes().all(is_plain)
            && Incident::ALL
                .iter()
                .any(|one| kind.strip_prefix(one.code()).is_some_and(|rest| rest.starts_with('-')));
        fits.then(|| Self(text.to_owned()))
    }

    /// What the ids of all cases of these signs on this day begin with; the first of them has no more.
    fn stem(day: Date, kind: Incident, whose: &str) -> String {
        let mark = sha256(whose.as_bytes());
        format!("{}-{}-{}", day.strftime("%Y%m%d"), kind.code(), mark.get(..MARK).unwrap_or_default())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CaseId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no id of an incident"))
    }
}

impl From<CaseId> for String {
    fn from(id: CaseId) -> Self {
        id.0
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which signs are one case, as long as it is open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    day: Date,
    kind: Incident,
    /// None in the collective case of a day that had too many.
    sign: Option<Sign>,
}

impl Series {
    /// Of these signs.
    pub fn of(day: Date, sign: &Sign) -> Self {
        Self { day, kind: sign.kind, sign: Some(sign.clone()) }
    }

    /// All signs of a day and kind for which there are too many cases.
    pub fn collective(day: Date, kind: Incident) -> Self {
        Self { day, kind, sign: None }
    }

    /// Whether it takes what there are too many cases for.
    pub fn is_collective(&self) -> bool {
        self.sign.is_none()
    }

    /// What the ids of all cases of this day and kind begin with.
    pub fn of_the_day(&self) -> String {
        format!("{}-{}-", self.day.strftime("%Y%m%d"), self.kind.code())
    }

    /// What the ids of its cases begin with.
    pub fn stem(&self) -> String {
        let text = |slug: &Option<Slug>| slug.as_ref().map_or(String::new(), Slug::to_string);
        let whose = self.sign.as_ref().map_or("all".to_owned(), |sign| {
            format!("{}\n{}", text(&sign.institution), text(&sign.exchange))
        });
        CaseId::stem(self.day, self.kind, &whose)
    }

    /// The id of its so-and-so-many-th case.
    pub fn id(&self, number: usize) -> CaseId {
        let stem = self.stem();
        CaseId(if number <= 1 { stem } else { format!("{stem}-{number}") })
    }

    /// The number of its newest case among those that are there; 0 where there is none.
    pub fn newest<'a>(&self, ids: impl IntoIterator<Item = &'a CaseId>) -> usize {
        let stem = self.stem();
        let number = |id: &CaseId| match id.as_str().strip_prefix(&stem)? {
            "" => Some(1),
            rest => rest.strip_prefix('-')?.parse().ok(),
        };
        ids.into_iter().filter_map(number).max().unwrap_or(0)
    }
}

/// Where in the log a record stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    /// The day file.
    pub file: LogName,
    /// The record's number in it, as it says itself.
    pub seq: u64,
    /// Where its line ends, in bytes. Unlike its number, nobody but the reader says this.
    pub end: u64,
}

/// How it was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closed {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub operator: String,
    /// Why, or what was done, in the operator's words.
    pub reason: String,
}

/// What is known of telling it to the configured program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Telling {
    /// When the program took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Timestamp>,
    /// Tries that failed.
    pub tries: u32,
    /// Not before this.
    pub next: Timestamp,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Case {
    /// Which.
    pub id: CaseId,
    /// Of what.
    pub kind: Incident,
    /// Whether it stands for the signs of several, because there were too many.
    #[serde(default)]
    pub collective: bool,
    /// Whose doing it was, or in whose name.
    pub institution: Option<Slug>,
    /// In which exchange.
    pub exchange: Option<Slug>,
    /// The agreement that says by when it is to be reported.
    pub agreement: Option<String>,
    /// The first sign.
    pub first: Timestamp,
    /// The last sign so far.
    pub last: Timestamp,
    /// How many signs.
    pub count: u64,
    /// By when it is to be reported.
    pub report_by: Timestamp,
    /// To whom.
    pub report_to: Option<String>,
    /// The record that was the first sign.
    pub place: Place,
    /// How far each day file is counted, in bytes: what is read again after a crash counts once.
    pub counted: BTreeMap<LogName, u64>,
    /// Whether log, metrics and program log have told that it was opened.
    #[serde(default)]
    pub announced: bool,
    /// Whether the program was told.
    #[serde(default)]
    pub telling: Telling,
    /// None as long as it is open.
    pub closed: Option<Closed>,
}

/// A sign as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What.
    pub sign: Sign,
    /// When, as far as the record is believed.
    pub time: Timestamp,
    /// Where.
    pub place: Place,
}

impl Case {
    /// Of a first sign. What an earlier case of the same series has counted is handed on.
    pub fn open(
        (series, number): (&Series, usize),
        found: &Found,
        duty: Option<(&Exchange, &ReportBy)>,
        counted: BTreeMap<LogName, u64>,
    ) -> Self {
        let within = duty.map_or(REPORT_WITHIN, |(_, report)| report.within);
        let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
        let whose = series.sign.as_ref();
        let mut case = Self {
            id: series.id(number),
            kind: series.kind,
            collective: whose.is_none(),
            institution: whose.and_then(|sign| sign.institution.clone()),
            exchange: whose.and_then(|sign| sign.exchange.clone()),
            agreement: duty.map(|(exchange, _)| exchange.agreement.reference.clone()),
            first: found.time,
            last: found.time,
            count: 0,
            report_by: found.time.checked_add(within).unwrap_or(Timestamp::MAX),
            report_to: duty.map(|(_, report)| report.to.clone()),
            place: found.place.clone(),
            counted,
            announced: false,
            telling: Telling::default(),
            closed: None,
        };
        case.count(found);
        case
    }

    /// Whether this sign was counted before, here or in an earlier case of the same series.
    pub fn has_counted(&self, place: &Place) -> bool {
        self.counted.get(&place.file).is_some_and(|end| place.end <= *end)
    }

    /// Counts one more.
    pub fn count(&mut self, found: &Found) {
        self.count = self.count.saturating_add(1);
        self.last = self.last.max(found.time);
        self.counted.insert(found.place.file.clone(), found.place.end);
    }

    /// Whether the time to report it has passed.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.closed.is_none() && now > self.report_by
    }
}

/// The time of a record, as far as its day file allows: who writes it may have been taken over, and a deadline counts from it.
pub fn believed(time: Timestamp, day: Date, now: Timestamp) -> Timestamp {
    let begins = |day: Date| day.to_zoned(TimeZone::UTC).map(|midnight| midnight.timestamp());
    let first = begins(day).unwrap_or(Timestamp::MIN);
    let next = day.tomorrow().ok().and_then(|next| begins(next).ok()).unwrap_or(Timestamp::MAX);
    time.max(first).min(next).min(now)
}

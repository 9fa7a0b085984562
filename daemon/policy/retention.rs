//! How long things are kept: which daily files of the access log have had their time, and what else in the spool has. Both are
//! asked only with a `Leave`, which a clock that is not to be believed does not give. Deleting, and recording that, is
//! `host::log`'s, `host::spool`'s and `work::retention`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::path::Slug;
use super::trust::Leave;

/// How long something is kept. `Never` deleted is the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// Deleted when it is older than this.
    After(Duration),
    /// Kept for good.
    Never,
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::After(length) = self else { return f.write_str("never deleted") };
        let hours = length.as_secs() / 3_600;
        let (count, unit) = if hours % 24 == 0 { (hours / 24, "day") } else { (hours, "hour") };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

/// What has a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An upload that nobody goes on with.
    Partial,
    /// What a refused upload left.
    Refused,
    /// A finished arrival, with its encrypted file.
    Done,
    /// A result that nobody collected.
    Result,
    /// A receipt, and its signature.
    Receipt,
    /// A copy of a head of the access log beside the receipts.
    HeadCopy,
    /// What is remembered of content that was seen, to know it again.
    Digest,
}

impl Kind {
    /// All, in the order in which they are looked at: a refusal goes before its receipt, which would be written anew.
    pub const ALL: [Self; 7] =
        [Self::Partial, Self::Refused, Self::Done, Self::Result, Self::Receipt, Self::HeadCopy, Self::Digest];

    /// Whether it tells what happened, and holds nothing of a list: it stays when an agreement ends.
    pub fn is_evidence(self) -> bool {
        match self {
            Self::Refused | Self::Receipt | Self::HeadCopy | Self::Digest => true,
            Self::Partial | Self::Done | Self::Result => false,
        }
    }

    /// As configuration and metrics call it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Partial => "partials",
            Self::Refused => "refused",
            Self::Done => "done",
            Self::Result => "results",
            Self::Receipt => "receipts",
            Self::HeadCopy => "head-copies",
            Self::Digest => "digests",
        }
    }

    /// As records of deletions call one of them.
    pub fn words(self) -> &'static str {
        match self {
            Self::Partial => "an unfinished upload",
            Self::Refused => "the description of a refused upload",
            Self::Done => "a finished arrival",
            Self::Result => "a result that was not collected",
            Self::Receipt => "a receipt",
            Self::HeadCopy => "a copy of a head of the access log",
            Self::Digest => "the marker of content that was seen",
        }
    }
}

/// How long things of one exchange are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// Unfinished uploads, from their last byte.
    pub partials: Period,
    /// Refused uploads' descriptions.
    pub refused: Period,
    /// Finished arrivals.
    pub done: Period,
    /// Results, from their delivery.
    pub results: Period,
    /// Receipts, from when they were last written.
    pub receipts: Period,
}

impl Default for Periods {
    fn default() -> Self {
        let days = |days: u64| Period::After(Duration::from_secs(days * 86_400));
        Self { partials: days(1), refused: days(31), done: days(31), results: days(90), receipts: days(400) }
    }
}

/// What an exchange says of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OfExchange {
    /// Its periods.
    pub periods: Periods,
    /// Nothing of it is deleted.
    pub legal_hold: bool,
}

/// How long everything of a zone is kept, but the log's days, which have one period of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What holds where an exchange says nothing, and for exchanges that are not described any more.
    pub periods: Periods,
    /// Digests, from when they were last seen.
    pub digests: Period,
    /// The exchanges.
    pub exchanges: BTreeMap<Slug, OfExchange>,
}

impl Default for Rules {
    fn default() -> Self {
        let digests = Period::After(Duration::from_secs(400 * 86_400));
        Self { periods: Periods::default(), digests, exchanges: BTreeMap::new() }
    }
}

/// Something that may have had its time.
#[derive(Debug, Clone, Copy)]
pub struct Thing<'a> {
    /// What.
    pub kind: Kind,
    /// Of which exchange, if of one.
    pub exchange: Option<&'a Slug>,
    /// From when its time counts.
    pub since: Timestamp,
}

impl Rules {
    /// Whether something has had its time. What lies ahead of the clock has not.
    pub fn has_had_its_time(&self, thing: Thing<'_>, leave: Leave) -> bool {
        match self.period(thing.kind, thing.exchange) {
            Period::Never => false,
            Period::After(length) => {
                let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
                leave.now().duration_since(thing.since) > length
            }
        }
    }

    /// How long it is kept; a legal hold makes that for good. What concerns no single exchange is under the hold of any.
    pub fn period(&self, kind: Kind, exchange: Option<&Slug>) -> Period {
        let of = exchange.and_then(|exchange| self.exchanges.get(exchange));
        let periods = of.map_or(self.periods, |of| of.periods);
        let is_held = match kind {
            Kind::HeadCopy | Kind::Digest => self.any_legal_hold(),
            Kind::Partial | Kind::Refused | Kind::Done | Kind::Result | Kind::Receipt => {
                of.is_some_and(|of| of.legal_hold)
            }
        };
        if is_held {
            return Period::Never;
        }
        match kind {
            Kind::Partial => periods.partials,
            Kind::Refused => periods.refused,
            Kind::Done => periods.done,
            Kind::Result => periods.results,
            Kind::Receipt | Kind::HeadCopy => periods.receipts,
            Kind::Digest => self.digests,
        }
    }

    /// Whether nothing of an exchange is deleted.
    pub fn is_under_legal_hold(&self, exchange: &Slug) -> bool {
        self.exchanges.get(exchange).is_some_and(|of| of.legal_hold)
    }

    /// Whether any exchange is under legal hold. The records of all exchanges stand in the same files, so that a log day can
    /// only be kept for all of them.
    pub fn any_legal_hold(&self) -> bool {
        self.exchanges.values().any(|of| of.legal_hold)
    }
}

/// The name of one day of one process's access log: `‹YYYY-MM-DD›.‹process›.‹node›.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogName {
    /// The UTC day of every record in it.
    pub day: Date,
    /// `serve`, `work` or `cli`.
    pub process: Slug,
    /// The machine.
    pub node: Slug,
}

impl LogName {
    /// `None` for a name that is no log file.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (day, process, node, ending) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if ending != "jsonl" || parts.next().is_some() {
            return None;
        }
        let name = Self {
            day: day.parse().ok()?,
            process: Slug::parse(process).ok()?,
            node: Slug::parse(node).ok()?,
        };
        // A day has other spellings too (20261121); no process of ours writes them.
        (name.to_string() == text).then_some(name)
    }
}

impl TryFrom<String> for LogName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no name of a log file"))
    }
}

impl From<LogName> for String {
    fn from(name: LogName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.jsonl", self.day, self.process, self.node)
    }
}

/// Whether `today` (UTC) lies more than `keep_days` behind the day of a log file.
pub fn is_expired(today: Date, keep_days: u16, name: &LogName) -> bool {
    today.since(name.day).is_ok_and(|age| age.get_days() > i32::from(keep_days))
}

/// Who deletes log days.
#[derive(Debug, Clone, Copy)]
pub struct Keeper<'a> {
    /// `serve`, `work` or `cli`.
    pub process: &'a Slug,
    /// The machine.
    pub node: &'a Slug,
}

impl Keeper<'_> {
    /// Whether a log is his to delete, and his record of that to be believed: his own; `work` also has those of operators'
    /// commands. Logs of other machines only where these are no more.
    fn has(&self, name: &LogName, gone: &BTreeSet<&Slug>) -> bool {
        may_delete(self.process, &name.process) && (name.node == *self.node || gone.contains(&name.node))
    }
}

/// Whether a process may delete, and tell that it did, the log days of another: each its own, and `work` those of commands.
pub fn may_delete(keeper: &Slug, process: &Slug) -> bool {
    keeper == process || (keeper.as_str() == "work" && process.as_str() == "cli")
}

/// The log days that lie more than `keep_days` back (UTC) and are this keeper's to delete, oldest first. A name that is no log
/// file is never listed, nor is a day still to come. A machine whose days have all passed is no more.
pub fn expired(leave: Leave, keep_days: u16, keeper: Keeper<'_>, names: &[String]) -> Vec<LogName> {
    let today = leave.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let names: Vec<LogName> = names.iter().filter_map(|name| LogName::parse(name)).collect();
    let is_old = |name: &&LogName| is_expired(today, keep_days, name);
    let alive: BTreeSet<&Slug> = names.iter().filter(|name| !is_old(name)).map(|name| &name.node).collect();
    let all: BTreeSet<&Slug> = names.iter().map(|name| &name.node).collect();
    let gone = all.difference(&alive).copied().collect();
    let mut old: Vec<LogName> =
        names.iter().filter(is_old).filter(|name| keeper.has(name, &gone)).cloned().collect();
    old.sort();
    old
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::super::trust::{Reading, Standing, Trust};
    use super::*;

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn expired_of(process: &str, node: &str, at: &str, keep_days: u16, texts: &[&str]) -> Vec<String> {
        let (process, node) = (slug(process), slug(node));
        let keeper = Keeper { process: &process, node: &node };
        expired(Leave::at(at), keep_days, keeper, &names(texts)).iter().map(LogName::to_string).collect()
    }

    #[test]
    fn a_day_is_kept_until_all_of_it_is_older_than_agreed() {
        let today = "2026-03-04T12:00:00Z";
        let kept = ["2026-02-01.serve.zone-1.jsonl", "2026-03-04.serve.zone-1.jsonl"];
        assert!(expired_of("serve", "zone-1", today, 31, &kept).is_empty());
        let gone = [
            "2026-01-31.serve.zone-1.jsonl",
            "2016-02-29.serve.zone-1.jsonl",
            "2026-01-30.serve.zone-1.jsonl",
        ];
        let sorted = [gone[1], gone[2], gone[0]];
        assert_eq!(expired_of("serve", "zone-1", today, 31, &gone), sorted);
        assert_eq!(expired_of("serve", "zone-1", today, 0, &kept), [kept[0]], "today is always kept");
    }

    #[test]
    fn each_deletes_its_own_days_work_those_of_commands_and_anybody_those_of_machines_that_are_no_more() {
        let all = [
            "2026-01-01.serve.zone-1.jsonl",
            "2026-01-01.work.zone-1.jsonl",
            "2026-01-01.cli.zone-1.jsonl",
            "2026-01-01.work.zone-2.jsonl",
            "2026-03-03.serve.zone-2.jsonl",
            "2026-01-01.work.old.jsonl",
            "2026-01-01.serve.old.jsonl",
            "2026-01-01.cli.old.jsonl",
        ];
        for (process, which) in [("serve", vec![0, 6]), ("work", vec![2, 7, 5, 1]), ("cli", vec![2, 7])] {
            let mut wanted: Vec<&str> = which.into_iter().map(|at| all[at]).collect();
            wanted.sort_unstable();
            let mut found = expired_of(process, "zone-1", "2026-03-04T12:00:00Z", 31, &all);
            found.sort_unstable();
            assert_eq!(found, wanted, "{process}");
        }
    }

    #[test]
    fn what_is_no_log_file_or_lies_ahead_is_never_listed() {
        for name in [
            "",
            "2026-01-01",
            "2026-01-01.serve.zone-1.jsonl.gz",
            "2026-01-01.serve.zone-1.jsonl~",
            "20260101.serve.zone-1.jsonl",
            "2026-1-1.serve.zone-1.jsonl",
            "2026-02-30.serve.zone-1.jsonl",
            "2026-01-01.Serve.zone-1.jsonl",
            "2026-01-01.serve.jsonl",
            "2026-01-01.serve.a.b.jsonl",
            "../2026-01-01.serve.zone-1.jsonl",
            "2036-01-01.serve.zone-1.jsonl",
        ] {
            assert!(
                expired_of("serve", "zone-1", "2026-12-31T12:00:00Z", 31, &[name]).is_empty(),
                "{name:?}"
            );
        }
        assert_eq!(LogName::parse("2026-01-01.serve.zone-1.jsonl").unwrap().day, date(2026, 1, 1));
    }

    /// Noon, after the clock was set by so much; none where deletions wait.
    fn leave_after(set_by: SignedDuration) -> Option<Leave> {
        let noon: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let trust = Trust::begin(None, Reading { now: noon, since_boot: Duration::ZERO });
        let now = noon.checked_add(set_by).unwrap();
        match trust.judge(Reading { now, since_boot: Duration::ZERO }) {
            Standing::Steady(leave) => Some(leave),
            Standing::Jumped(_) | Standing::Held(_) | Standing::CameBack => None,
        }
    }

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    /// How the clock was set, and whether something is deleted then that had half an hour left, or had its time half an hour ago.
    fn clocks() -> [(&'static str, SignedDuration, bool, bool); 5] {
        [
            ("not set", SignedDuration::ZERO, false, true),
            ("an hour back", SignedDuration::from_hours(-1), false, false),
            ("a day back", -DAY, false, false),
            ("a day ahead", DAY, true, true),
            ("ten years ahead", DAY * 3653, false, false),
        ]
    }

    #[test]
    fn whatever_the_clock_says_nothing_is_deleted_more_than_a_day_too_early() {
        let rules = Rules::default();
        let noon: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for kind in Kind::ALL {
            let Period::After(length) = rules.period(kind, None) else { panic!("{kind:?} has a period") };
            let born = |left: SignedDuration| {
                let length = SignedDuration::try_from(length).unwrap();
                noon.checked_sub(length).unwrap().checked_add(left).unwrap()
            };
            let half_an_hour = SignedDuration::from_mins(30);
            for (what, set_by, deletes_young, deletes_old) in clocks() {
                let gone = |since| {
                    let thing = Thing { kind, exchange: None, since };
                    leave_after(set_by).is_some_and(|leave| rules.has_had_its_time(thing, leave))
                };
                assert_eq!(gone(born(half_an_hour)), deletes_young, "{kind:?}, {what}, before its time");
                assert_eq!(gone(born(-half_an_hour)), deletes_old, "{kind:?}, {what}, after its time");
                // Two days early never.
                assert!(!gone(born(DAY * 2)), "{kind:?}, {what}");
            }
        }
    }

    #[test]
    fn whatever_the_clock_says_no_log_day_goes_more_than_a_day_too_early() {
        // Of noon on 21 November; with 31 days, that of 20 October has had its time, that of the 21st has a day left.
        for (what, set_by, gone) in [
            ("not set", SignedDuration::ZERO, vec!["2026-10-20"]),
            ("an hour back", SignedDuration::from_hours(-1), vec!["2026-10-20"]),
            ("a day back", -DAY, vec![]),
            ("a day ahead", DAY, vec!["2026-10-20", "2026-10-21"]),
            ("ten years ahead", DAY * 3653, vec![]),
        ] {
            let days = ["2026-10-20", "2026-10-21", "2026-10-22", "2026-11-21"];
            let names: Vec<String> = days.iter().map(|day| format!("{day}.serve.zone-1.jsonl")).collect();
            let (process, node) = (slug("serve"), slug("zone-1"));
            let keeper = Keeper { process: &process, node: &node };
            let found = leave_after(set_by).map_or(vec![], |leave| expired(leave, 31, keeper, &names));
            let found: Vec<String> = found.iter().map(|name| name.day.to_string()).collect();
            assert_eq!(found, gone, "{what}");
        }
    }

    #[test]
    fn an_exchange_has_its_own_periods_and_a_legal_hold_keeps_all_of_it() {
        let (mine, held) = (slug("mine"), slug("held"));
        let own = Periods { done: Period::After(Duration::from_secs(2 * 86_400)), ..Periods::default() };
        let exchanges = [
            (mine.clone(), OfExchange { periods: own, legal_hold: false }),
            (held.clone(), OfExchange { legal_hold: true, ..OfExchange::default() }),
        ];
        let rules = Rules { exchanges: exchanges.into(), ..Rules::default() };
        let leave = Leave::at("2036-11-21T12:00:00Z");
        let gone = |kind, exchange, since: &str| {
            rules.has_had_its_time(Thing { kind, exchange, since: since.parse().unwrap() }, leave)
        };
        assert!(gone(Kind::Done, Some(&mine), "2036-11-19T11:00:00Z"));
        assert!(!gone(Kind::Done, None, "2036-11-19T11:00:00Z"), "another has the zone's");
        let long_ago = "2000-01-01T00:00:00Z";
        for kind in Kind::ALL {
            assert!(!gone(kind, Some(&held), long_ago), "{kind:?} under legal hold");
            let concerns_all = matches!(kind, Kind::HeadCopy | Kind::Digest);
            assert_eq!(gone(kind, Some(&mine), long_ago), !concerns_all, "{kind:?} of another exchange");
        }
        assert!(rules.any_legal_hold() && !Rules::default().any_legal_hold());
        let never = Rules { digests: Period::Never, ..Rules::default() };
        let digest = Thing { kind: Kind::Digest, exchange: None, since: long_ago.parse().unwrap() };
        assert!(!never.has_had_its_time(digest, leave));
    }
}

//! How long the access log is kept: which of its daily files have had their time. Deleting them, and recording that, is
//! `host::log`'s business.

use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::path::Slug;

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

/// The log days that lie more than `keep_days` before `today` (UTC), oldest first. A name that is no log file is never
/// listed, nor is a day still to come.
pub fn expired(today: Date, keep_days: u16, names: &[String]) -> Vec<String> {
    let mut old: Vec<LogName> = names
        .iter()
        .filter_map(|name| LogName::parse(name))
        .filter(|name| is_expired(today, keep_days, name))
        .collect();
    old.sort_by_key(|name| name.day);
    old.iter().map(LogName::to_string).collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_day_is_kept_until_all_of_it_is_older_than_agreed() {
        let today = date(2026, 3, 4);
        let kept = names(&["2026-02-01.serve.zone-1.jsonl", "2026-03-04.serve.zone-1.jsonl"]);
        assert!(expired(today, 31, &kept).is_empty());
        let gone = names(&[
            "2026-01-31.serve.zone-1.jsonl",
            "2016-02-29.work.zone-2.jsonl",
            "2026-01-30.serve.zone-1.jsonl",
        ]);
        assert_eq!(
            expired(today, 31, &gone),
            [
                "2016-02-29.work.zone-2.jsonl",
                "2026-01-30.serve.zone-1.jsonl",
                "2026-01-31.serve.zone-1.jsonl"
            ]
        );
        assert_eq!(expired(today, 0, &kept), ["2026-02-01.serve.zone-1.jsonl"], "today is always kept");
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
            assert!(expired(date(2026, 12, 31), 31, &names(&[name])).is_empty(), "{name:?}");
        }
        assert_eq!(LogName::parse("2026-01-01.serve.zone-1.jsonl").unwrap().day, date(2026, 1, 1));
    }
}

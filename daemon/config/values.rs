//! Single values: text in, a checked type out. What is wrong goes to the findings with its place and remedy, and the
//! caller gets none.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::civil::Date;

use super::error::{Findings, Key};
use crate::policy::path::Slug;

/// Longest text of one line: titles, references, labels.
const LINE_MAX: usize = 400;
/// Seconds of a day.
const DAY: u64 = 86_400;

/// One file under examination.
pub struct Desk<'a> {
    /// Relative to the configuration folder.
    pub file: &'a str,
    /// What has been found.
    pub findings: &'a mut Findings,
}

impl Desk<'_> {
    /// Keeps an error.
    pub fn wrong(&mut self, key: &Key, problem: impl Into<String>, remedy: impl Into<String>) {
        self.findings.wrong(self.file, key, problem, remedy);
    }

    /// Keeps a note.
    pub fn note(&mut self, text: impl Into<String>) {
        self.findings.note(self.file, text);
    }

    /// A name.
    pub fn slug(&mut self, key: &Key, text: &str) -> Option<Slug> {
        Slug::parse(text).map_err(|problem| self.wrong(key, problem, "choose such a name")).ok()
    }

    /// Text of one line that shows something.
    pub fn line(&mut self, key: &Key, text: &str) -> Option<String> {
        let text = text.trim();
        let problem = if text.is_empty() {
            "is empty"
        } else if text.len() > LINE_MAX {
            "is longer than 400 bytes"
        } else if text.chars().any(is_invisible) {
            "has control or direction characters in it"
        } else {
            return Some(text.to_owned());
        };
        self.wrong(key, problem, "write one short line of text");
        None
    }

    /// A calendar day. jiff would also take a time with it, which would promise more than a day can hold.
    pub fn day(&mut self, key: &Key, text: &str) -> Option<Date> {
        let day = (text.len() == 10).then(|| text.parse::<Date>().ok()).flatten();
        if day.is_none() {
            self.wrong(key, format!("{text:?} is not a day"), "write it as in 2026-03-01");
        }
        day
    }

    /// A length of time.
    pub fn duration(&mut self, key: &Key, text: &str, allowed: RangeInclusive<Duration>) -> Option<Duration> {
        let Ok(duration) = humantime::parse_duration(text) else {
            self.wrong(
                key,
                format!("{text:?} is not a length of time"),
                "write a number and a unit, as in 15s or 5m",
            );
            return None;
        };
        // Its years are of 365.25 days, which nobody who counts in days would write.
        let shown = |duration: &Duration| match duration.as_secs() {
            seconds if seconds > 0 && seconds % DAY == 0 => format!("{}d", seconds / DAY),
            _ => humantime::format_duration(*duration).to_string(),
        };
        self.within(key, duration, &allowed, shown)
    }

    /// What may be left out: none if it is wrong, `Some(None)` if it is not there.
    pub fn optional<T>(
        &mut self,
        raw: Option<&str>,
        read: impl FnOnce(&mut Self, &str) -> Option<T>,
    ) -> Option<Option<T>> {
        match raw {
            Some(text) => read(self, text).map(Some),
            None => Some(None),
        }
    }

    /// A number of months, as in `6 months` or `1 year`: calendar months, which are not of equal length.
    pub fn months(&mut self, key: &Key, text: &str, allowed: RangeInclusive<u16>) -> Option<u16> {
        let (number, unit) = text.trim().split_once(' ').unwrap_or_default();
        let months = match unit.trim() {
            "month" | "months" => number.parse().ok(),
            "year" | "years" => number.parse::<u16>().ok().and_then(|years| years.checked_mul(12)),
            _ => None,
        };
        let Some(months) = months else {
            let problem = format!("{text:?} is not a number of months");
            self.wrong(key, problem, "write it as in 1 month, 6 months or 1 year");
            return None;
        };
        self.within(key, months, &allowed, |months| format!("{months} months"))
    }

    /// A size in bytes. `KiB`, `MiB`, `GiB` count in 1,024; `kB`, `MB`, `GB` in 1,000; bare letters are refused, because
    /// readers disagree on what they mean.
    pub fn size(&mut self, key: &Key, text: &str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
        let clear = unit.is_empty() || unit.ends_with(['b', 'B']);
        let number = text.starts_with(|c: char| c.is_ascii_digit());
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if clear && number => {
                let shown = |size: &u64| bytesize::ByteSize::b(*size).display().iec().to_string();
                self.within(key, size.as_u64(), &allowed, shown)
            }
            _ => {
                self.wrong(
                    key,
                    format!("{text:?} is not a size"),
                    "write a number and a unit, as in 8 MiB or 1 GiB",
                );
                None
            }
        }
    }

    /// A count.
    pub fn count(&mut self, key: &Key, number: u64, allowed: RangeInclusive<u64>) -> Option<u64> {
        self.within(key, number, &allowed, u64::to_string)
    }

    /// An IP address with a port.
    pub fn address(&mut self, key: &Key, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            let problem = format!("{text:?} is not an IP address with a port");
            self.wrong(key, problem, "write it as in 0.0.0.0:2222 or [::]:2222");
        }
        address
    }

    /// Refuses a list that is longer than anyone writes.
    pub fn at_most(&mut self, key: &Key, length: usize, limit: usize) -> bool {
        if length > limit {
            self.wrong(key, format!("has {length} entries, more than {limit}"), "split it, or remove some");
        }
        length <= limit
    }

    fn within<T: PartialOrd>(
        &mut self,
        key: &Key,
        value: T,
        allowed: &RangeInclusive<T>,
        shown: impl Fn(&T) -> String,
    ) -> Option<T> {
        if allowed.contains(&value) {
            return Some(value);
        }
        let range = format!("choose {} to {}", shown(allowed.start()), shown(allowed.end()));
        self.wrong(key, format!("{} is out of range", shown(&value)), range);
        None
    }
}

/// Characters that would break a log line or make it look like another.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}' | '\u{FFFD}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask<T>(question: impl Fn(&mut Desk<'_>, &Key) -> Option<T>) -> Option<T> {
        let mut findings = Findings::default();
        let answer = question(&mut Desk { file: "f", findings: &mut findings }, &Key::root());
        assert_eq!(answer.is_some(), findings.finish(|_, _| None).is_ok(), "a refusal is told");
        answer
    }

    #[test]
    fn sizes_say_what_they_count_in() {
        for (text, size) in [
            ("1 GiB", Some(1 << 30)),
            ("1GiB", Some(1 << 30)),
            ("1GB", Some(1_000_000_000)),
            ("512 KiB", Some(512 << 10)),
            ("1048576", Some(1 << 20)),
            ("1G", None),
            ("1 Gi", None),
            ("-1 GiB", None),
            ("1e99 GiB", None),
            ("99999999999999999999 EiB", None),
            (".", None),
            ("NaN", None),
            ("", None),
            ("0 B", None),
        ] {
            assert_eq!(ask(|desk, key| desk.size(key, text, 1..=1 << 40)), size, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_days_are_days() {
        let allowed = Duration::from_secs(1)..=Duration::from_secs(600);
        for (text, seconds) in [
            ("15s", Some(15)),
            ("5m", Some(300)),
            ("1m 1s", Some(61)),
            ("15", None),
            ("0s", None),
            ("1h", None),
        ] {
            let duration = ask(|desk, key| desk.duration(key, text, allowed.clone()));
            assert_eq!(duration.map(|d| d.as_secs()), seconds, "{text}");
        }
        for (text, fits) in [
            ("2026-03-01", true),
            ("2026-02-30", false),
            ("2026-3-1", false),
            ("2026-03-01T00:00:00", false),
            ("20260301", false),
            ("01/03/2026", false),
        ] {
            assert_eq!(ask(|desk, key| desk.day(key, text)).is_some(), fits, "{text}");
        }
    }
}

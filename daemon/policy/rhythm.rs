//! How often a list may come, and when the next one is due. Days are calendar days of Europe/Brussels. Keeping count is
//! `host::spool::ledger`'s business.

use std::time::Duration;

use jiff::civil::Date;
use jiff::{Span, Timestamp};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::agreement::{Agreement, Standing};
use super::arrival::ArrivalId;
use super::digest::hex;
use super::path::Name;
use super::reason::Reason;
use super::{rules, spelling};

/// Digits of a national number.
const NATIONAL_NUMBER: usize = 11;

/// The rhythm of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rhythm {
    /// So many in a period.
    pub quota: Option<Quota>,
    /// Once for each key.
    pub once_per: Option<ArrivalKey>,
}

/// So many in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The period.
    pub period: Period,
    /// Arrivals in it, at most.
    pub at_most: u16,
    /// One is expected in every period, and missed if it has not come.
    pub is_expected: bool,
    /// How long after the end of its period one is missed.
    pub grace: Duration,
}

/// A stretch of time that repeats itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// So many months, counted from the agreement's first day.
    Months(u16),
    /// January to December.
    CalendarYear,
}

/// What makes two arrivals the same delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrivalKey {
    /// The file's name.
    Name,
    /// What stands in these columns together: each combination once, in whichever arrival.
    Columns(Vec<String>),
}

/// The days of one period, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub first: Date,
    /// The last.
    pub last: Date,
}

/// An arrival that has taken its place, on the day on which it was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Use {
    /// Which arrival.
    pub arrival: ArrivalId,
    /// When it was received, in Brussels.
    pub day: Date,
    /// When it took its place, UTC.
    pub taken: Timestamp,
    /// Stands for its name, where each name comes once only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Mark>,
    /// An operator let it through although there was no place for it.
    #[serde(default)]
    pub is_allowed: bool,
    /// An operator discarded it: its place is free again.
    #[serde(default)]
    pub is_freed: bool,
}

/// Stands for a key that comes once only: nobody learns the key from it who has not the zone's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub [u8; Mark::LENGTH]);

/// How a flow stands with what was agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// The period of today.
    pub window: Window,
    /// Arrivals that have taken a place in it.
    pub used: usize,
    /// By the end of this day the next one is due, where one is expected; it may have passed.
    pub due: Option<Date>,
    /// The first day on which it was missed.
    pub missing_since: Option<Date>,
}

impl Mark {
    /// Half of a SHA-256: nobody looks for two keys with the same.
    pub const LENGTH: usize = 16;
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number =
            u128::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl Period {
    /// The period that a day falls in. Months are counted from the agreement's first day, and end with the month where that is
    /// too short: from 31 August, six months begin on 28 February and again on 31 August. A day before the first counts as
    /// that.
    pub fn window(self, from: Date, day: Date) -> Window {
        match self {
            Self::CalendarYear => Window { first: day.first_of_year(), last: day.last_of_year() },
            Self::Months(months) => {
                let (months, day) = (i32::from(months.max(1)), day.max(from));
                let passed = i32::from(day.year() - from.year()) * 12 + i32::from(day.month() - from.month());
                let number = passed / months;
                // The day of the month may not have come yet.
                let number = if months_after(from, number * months) > day { number - 1 } else { number };
                let first = months_after(from, number * months);
                Window { first, last: eve(months_after(from, (number + 1) * months)) }
            }
        }
    }
}

impl Rhythm {
    /// Whether there is a place for an arrival of this day beside those that have one.
    pub fn admit(&self, from: Date, arrival: &Use, uses: &[Use]) -> Result<(), Reason> {
        let others = || uses.iter().filter(|other| !other.is_freed && other.arrival != arrival.arrival);
        let by_name = |mark: &Mark| others().any(|other| other.name.as_ref() == Some(mark));
        if arrival.name.as_ref().is_some_and(by_name) {
            return Err(Reason::SurplusKey);
        }
        let Some(quota) = self.quota else { return Ok(()) };
        let window = quota.period.window(from, arrival.day);
        if others().filter(|other| window.holds(other.day)).count() < usize::from(quota.at_most) {
            return Ok(());
        }
        Err(Reason::Surplus { again: morrow(window.last) })
    }
}

impl Quota {
    /// How a flow stands today. `since` is the first day on which this zone kept count: what ended before is not missed.
    pub fn pace(&self, agreement: &Agreement, since: Date, today: Date, uses: &[Use]) -> Pace {
        let from = agreement.from;
        let window = self.period.window(from, today);
        let days = || uses.iter().filter(|one| !one.is_freed).map(|one| one.day);
        let used = days().filter(|day| window.holds(*day)).count();
        let pace = Pace { window, used, due: None, missing_since: None };
        if !self.is_expected || agreement.standing(today) != Standing::Open {
            return pace;
        }
        // What came later stands for what did not come in time.
        let has_come_since = |window: Window| days().any(|day| day >= window.first);
        let before = self.period.window(from, eve(window.first));
        let counts = before.last < window.first && before.last >= since && window.first > from;
        if counts && !has_come_since(before) {
            let missed = morrow(after(before.last, self.grace));
            return Pace {
                due: Some(before.last),
                missing_since: (today >= missed).then_some(missed),
                ..pace
            };
        }
        let open =
            if has_come_since(window) { self.period.window(from, morrow(window.last)) } else { window };
        let until = agreement.until.unwrap_or(Date::MAX);
        Pace { due: (open.first <= until).then_some(open.last.min(until)), ..pace }
    }
}

impl Window {
    /// Whether a day lies in it.
    pub fn holds(self, day: Date) -> bool {
        self.first <= day && day <= self.last
    }
}

/// What of a final name tells one delivery from another: the name without `.age` and the ending before it, as [`key`] has it.
pub fn name_key(name: &Name) -> String {
    let lower = name.as_str().to_lowercase();
    let stem = lower.strip_suffix(".age").unwrap_or(&lower);
    let stem = match stem.rsplit_once('.') {
        Some((stem, "csv" | "xlsx" | "txt" | "asc")) => stem,
        Some(_) | None => stem,
    };
    key(stem)
}

/// What of a value tells one from another: its words, whatever their case, their spelling and whatever stands between them.
/// Eleven digits are a national number, and a day is that day, however they are written.
pub fn key(value: &str) -> String {
    let plain = spelling::plain(value);
    if let Some(day) = rules::date(plain.trim()) {
        return format!("{:04} {:02} {:02}", day.year(), day.month(), day.day());
    }
    let lower = plain.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let joined = words.concat();
    if joined.len() == NATIONAL_NUMBER && joined.bytes().all(|b| b.is_ascii_digit()) {
        joined
    } else {
        words.join(" ")
    }
}

/// A date that no agreement reaches stands for one that lies beyond the calendar.
fn months_after(from: Date, months: i32) -> Date {
    from.checked_add(Span::new().months(months)).unwrap_or(Date::MAX)
}

fn after(day: Date, time: Duration) -> Date {
    let days = i64::try_from(time.as_secs().div_ceil(86_400)).unwrap_or(i64::MAX);
    Span::new().try_days(days).and_then(|days| day.checked_add(days)).unwrap_or(Date::MAX)
}

fn morrow(day: Date) -> Date {
    day.tomorrow().unwrap_or(day)
}

fn eve(day: Date) -> Date {
    day.yesterday().unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::super::arrival::tests::arrival_named;
    use super::*;

    fn used(name: &str, day: Date) -> Use {
        let (arrival, taken) = (arrival_named(name).id, Timestamp::UNIX_EPOCH);
        Use { arrival, day, taken, name: None, is_allowed: false, is_freed: false }
    }

    fn quota(period: Period, at_most: u16) -> Quota {
        Quota { period, at_most, is_expected: true, grace: Duration::from_secs(31 * 86_400) }
    }

    #[test]
    fn periods_of_months_are_counted_from_the_first_day_and_never_drift() {
        let half = Period::Months(6);
        for (from, day, first, last) in [
            (date(2023, 3, 3), date(2023, 3, 3), date(2023, 3, 3), date(2023, 9, 2)),
            (date(2023, 3, 3), date(2023, 9, 2), date(2023, 3, 3), date(2023, 9, 2)),
            (date(2023, 3, 3), date(2023, 9, 3), date(2023, 9, 3), date(2024, 3, 2)),
            (date(2023, 3, 3), date(2028, 3, 2), date(2027, 9, 3), date(2028, 3, 2)),
            // A day before the first counts as that.
            (date(2023, 3, 3), date(2020, 1, 1), date(2023, 3, 3), date(2023, 9, 2)),
            // February is too short, August is not.
            (date(2023, 8, 31), date(2024, 2, 28), date(2023, 8, 31), date(2024, 2, 28)),
            (date(2023, 8, 31), date(2024, 2, 29), date(2024, 2, 29), date(2024, 8, 30)),
            (date(2023, 8, 31), date(2024, 8, 30), date(2024, 2, 29), date(2024, 8, 30)),
            (date(2023, 8, 31), date(2024, 8, 31), date(2024, 8, 31), date(2025, 2, 27)),
            (date(2023, 8, 31), date(2025, 2, 28), date(2025, 2, 28), date(2025, 8, 30)),
        ] {
            assert_eq!(half.window(from, day), Window { first, last }, "{from} {day}");
        }
        let year = Period::CalendarYear.window(date(2021, 10, 1), date(2024, 12, 31));
        assert_eq!((year.first, year.last), (date(2024, 1, 1), date(2024, 12, 31)));
    }

    #[test]
    fn every_day_is_in_one_period_and_the_next_begins_the_day_after() {
        for (from, months) in [(date(2023, 8, 31), 1), (date(2024, 2, 29), 12), (date(2023, 1, 30), 7)] {
            let (mut day, mut expected) = (from, from);
            let period = Period::Months(months);
            while day < date(2032, 1, 1) {
                let window = period.window(from, day);
                assert!(window.holds(day), "{from} {months} {day} {window:?}");
                if day == expected {
                    assert_eq!(window.first, expected, "{from} {months}");
                    expected = morrow(window.last);
                }
                day = morrow(day);
            }
        }
    }

    #[test]
    fn a_second_one_in_a_period_is_surplus_until_the_next_begins() {
        let rhythm = Rhythm { quota: Some(quota(Period::CalendarYear, 1)), once_per: None };
        let from = date(2024, 2, 1);
        let uses = [used("a.age", date(2026, 3, 1))];
        let second = |day| rhythm.admit(from, &used("b.age", day), &uses);
        assert_eq!(second(date(2026, 12, 31)), Err(Reason::Surplus { again: date(2027, 1, 1) }));
        assert_eq!(second(date(2027, 1, 1)), Ok(()));
        assert_eq!(second(date(2025, 12, 31)), Ok(()));
        assert_eq!(rhythm.admit(from, &uses[0], &uses), Ok(()), "its own place");
        let freed = [Use { is_freed: true, ..uses[0].clone() }];
        assert_eq!(rhythm.admit(from, &used("b.age", date(2026, 4, 1)), &freed), Ok(()));
        let two = Rhythm { quota: Some(quota(Period::CalendarYear, 2)), once_per: None };
        assert_eq!(two.admit(from, &used("b.age", date(2026, 4, 1)), &uses), Ok(()));
    }

    #[test]
    fn a_name_comes_once_in_all_the_agreement() {
        let rhythm = Rhythm { quota: None, once_per: Some(ArrivalKey::Name) };
        let named = |name: &str, mark: u8, day| Use { name: Some(Mark([mark; 16])), ..used(name, day) };
        let uses = [named("a.age", 1, date(2024, 1, 1))];
        let from = date(2024, 1, 1);
        let again = named("b.age", 1, date(2027, 1, 1));
        assert_eq!(rhythm.admit(from, &again, &uses), Err(Reason::SurplusKey));
        assert_eq!(rhythm.admit(from, &named("b.age", 2, date(2024, 1, 1)), &uses), Ok(()));
    }

    #[test]
    fn what_is_expected_is_due_by_the_end_of_its_period_and_missed_after_its_grace() {
        let agreement =
            Agreement { from: date(2023, 3, 3), until: Some(date(2028, 3, 2)), ..Agreement::default() };
        let half = quota(Period::Months(6), 1);
        let since = agreement.from;
        let told = |today, days: &[Date]| {
            let uses: Vec<Use> = days.iter().map(|day| used("a.age", *day)).collect();
            let pace = half.pace(&agreement, since, today, &uses);
            (pace.used, pace.due, pace.missing_since)
        };
        let missed = Some(date(2023, 10, 4));
        for (today, days, used, due, missing) in [
            (date(2023, 3, 3), &[][..], 0, Some(date(2023, 9, 2)), None),
            (date(2023, 9, 2), &[], 0, Some(date(2023, 9, 2)), None),
            (date(2023, 9, 3), &[], 0, Some(date(2023, 9, 2)), None),
            (date(2023, 10, 3), &[], 0, Some(date(2023, 9, 2)), None),
            (date(2023, 10, 4), &[], 0, Some(date(2023, 9, 2)), missed),
            // What comes late is what was missed; it takes the place of the period it comes in.
            (date(2023, 10, 5), &[date(2023, 10, 4)], 1, Some(date(2024, 9, 2)), None),
            (date(2023, 9, 3), &[date(2023, 4, 1)], 0, Some(date(2024, 3, 2)), None),
            // Before its beginning and after its end nothing is due.
            (date(2023, 3, 2), &[], 0, None, None),
            (date(2028, 3, 3), &[], 0, None, None),
            // The last period has no next.
            (date(2028, 1, 1), &[date(2027, 12, 1)], 1, None, None),
        ] {
            assert_eq!(told(today, days), (used, due, missing), "{today} {days:?}");
        }
        let new_zone = half.pace(&agreement, date(2026, 9, 3), date(2026, 11, 1), &[]);
        assert_eq!(
            (new_zone.due, new_zone.missing_since),
            (Some(date(2027, 3, 2)), None),
            "it was elsewhere then"
        );
        let optional = Quota { is_expected: false, ..half };
        assert_eq!(optional.pace(&agreement, since, date(2026, 11, 1), &[]).due, None);
    }

    #[test]
    fn a_key_is_the_same_however_it_is_written() {
        for (one, other) in [
            ("85.07.30-033.28", "85073003328"),
            ("  Client  A-1 ", "client a 1"),
            ("K_17", "k/17"),
            ("2026-03-01", "1/3/2026"),
            ("01/03/2026 ", "1/3/2026"),
            ("Zo\u{eb} D\u{2019}Hondt", "ZOE\u{308} d'hondt"),
            ("Zo\u{eb}\u{200b} Peeters\u{200f}", "zo\u{eb} pee\u{ad}ters"),
            ("Ｎｏａ\u{a0}Peeters", "noa peeters"),
            ("٨٥٠٧٣٠٠٣٣٢٨", "85.07.30-033.28"),
        ] {
            assert_eq!(key(one), key(other), "{one}");
        }
        for (one, other) in [("A-1", "A1"), ("2026-1-11", "2026-11-1"), ("é", "e")] {
            assert_ne!(key(one), key(other), "{one}");
        }
        let name = |text| name_key(&Name::parse(text).unwrap());
        assert_eq!(name("Client-17.csv.age"), name("client_17.XLSX.age"));
        assert_eq!(name("client-17.age"), name("client-17.csv.age"));
        assert_ne!(name("client-17.age"), name("client-18.age"));
    }
}

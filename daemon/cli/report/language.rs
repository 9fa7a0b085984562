//! How days, times and numbers are written in Dutch and in English. What a page says in either language stands where the page
//! is made.

use clap::ValueEnum;
use jiff::civil::{Date, DateTime};

use super::facts::Words;

/// A language that a report can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Dutch.
    Nl,
    /// English.
    En,
}

const MAANDEN: [&str; 12] = [
    "januari",
    "februari",
    "maart",
    "april",
    "mei",
    "juni",
    "juli",
    "augustus",
    "september",
    "oktober",
    "november",
    "december",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Language {
    /// As an HTML `lang` attribute says it.
    pub fn code(self) -> &'static str {
        self.of("nl", "en")
    }

    /// The one of two texts.
    pub fn of<'a>(self, nl: &'a str, en: &'a str) -> &'a str {
        match self {
            Self::Nl => nl,
            Self::En => en,
        }
    }

    /// The words in this language.
    pub fn say(self, words: &Words) -> &str {
        self.of(&words.nl, &words.en)
    }

    /// `21 november 2026`.
    pub fn day(self, day: Date) -> String {
        format!("{} {} {}", day.day(), self.month_name(day), day.year())
    }

    /// `21/11/2026`, for tables.
    pub fn short_day(self, day: Date) -> String {
        match self {
            Self::Nl => format!("{:02}/{:02}/{}", day.day(), day.month(), day.year()),
            Self::En => day.to_string(),
        }
    }

    /// A short day and the time to the minute.
    pub fn time(self, at: DateTime) -> String {
        format!("{} {:02}:{:02}", self.short_day(at.date()), at.hour(), at.minute())
    }

    /// Thousands apart.
    pub fn number(self, number: u64) -> String {
        let digits = number.to_string();
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push_str(self.of(".", ","));
            }
            grouped.push(digit);
        }
        grouped
    }

    /// Bytes as people read them.
    pub fn bytes(self, bytes: u64) -> String {
        let units = ["kB", "MB", "GB", "TB", "PB"];
        if bytes < 1_000 {
            return format!("{bytes} B");
        }
        let (mut tenths, mut unit) = (u128::from(bytes) / 100, "kB");
        for larger in units.iter().skip(1) {
            if tenths < 10_000 {
                break;
            }
            (tenths, unit) = (tenths / 1_000, larger);
        }
        let whole = self.number(u64::try_from(tenths / 10).unwrap_or(u64::MAX));
        format!("{whole}{}{} {unit}", self.of(",", "."), tenths % 10)
    }

    fn month_name(self, day: Date) -> &'static str {
        let names = match self {
            Self::Nl => MAANDEN,
            Self::En => MONTHS,
        };
        let index = usize::try_from(day.month() - 1).unwrap_or(0);
        names.get(index).copied().unwrap_or_default()
    }
}

/// `1 bestand`, `2 bestanden`: the noun that goes with a number.
pub fn counted(count: u64, one: &str, more: &str, language: Language) -> String {
    format!("{} {}", language.number(count), if count == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::Language::{En, Nl};

    #[test]
    fn days_times_and_numbers_are_written_as_either_language_writes_them() {
        let day = date(2026, 3, 1);
        assert_eq!((Nl.day(day), En.day(day)), ("1 maart 2026".into(), "1 March 2026".into()));
        assert_eq!(Nl.time(day.at(9, 5, 59, 0)), "01/03/2026 09:05");
        assert_eq!(En.time(day.at(9, 5, 59, 0)), "2026-03-01 09:05");
        for (number, nl, en) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1_000, "1.000", "1,000"),
            (1_234_567, "1.234.567", "1,234,567"),
        ] {
            assert_eq!((Nl.number(number).as_str(), En.number(number).as_str()), (nl, en));
        }
        for (bytes, nl) in [
            (999, "999 B"),
            (1_000, "1,0 kB"),
            (999_999, "999,9 kB"),
            (1_000_000, "1,0 MB"),
            (1_500_000_000, "1,5 GB"),
            (u64::MAX, "18.446,7 PB"),
        ] {
            assert_eq!(Nl.bytes(bytes), nl);
        }
    }
}

//! Counts over the span, per day, week or month as fits its length. Drawing them is `chart`'s business.

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};
use serde::Serialize;

/// Spans of up to so many days are told by the day, by the week, otherwise by the month.
const BY_DAY: i32 = 35;
const BY_WEEK: i32 = 230;

/// What one bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A calendar month.
    Month,
}

/// The counts of one day, week or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figure {
    /// Its first day in the span.
    pub from: Date,
    /// Its last day in the span.
    pub to: Date,
    /// Files that were taken in.
    pub deliveries: u64,
    /// Files and requests that were refused.
    pub refusals: u64,
    /// Logins, uploads, downloads and removals.
    pub accesses: u64,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// A file that was taken in.
    Delivery,
    /// A file or a request that was refused.
    Refusal,
    /// A login, upload, download or removal.
    Access,
}

/// All of the span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figures {
    /// What one of them stands for.
    pub unit: Unit,
    /// In order.
    pub figures: Vec<Figure>,
}

impl Figures {
    /// Nothing counted yet. Both days belong to the span.
    pub fn over(from: Date, to: Date) -> Self {
        let days = to.since(from).map_or(0, |span| span.get_days()).saturating_add(1);
        let unit = match days {
            days if days <= BY_DAY => Unit::Day,
            days if days <= BY_WEEK => Unit::Week,
            _ => Unit::Month,
        };
        let mut figures = Vec::new();
        let mut begin = from;
        while begin <= to {
            let end = unit.last_day(begin).min(to);
            figures.push(Figure { from: begin, to: end, deliveries: 0, refusals: 0, accesses: 0 });
            match end.tomorrow() {
                Ok(next) => begin = next,
                Err(_) => break,
            }
        }
        Self { unit, figures }
    }

    /// Counts one; a day outside the span is not counted.
    pub fn count(&mut self, day: Date, what: Counted) {
        let at = self.figures.partition_point(|figure| figure.to < day);
        let Some(figure) = self.figures.get_mut(at).filter(|figure| figure.from <= day) else { return };
        match what {
            Counted::Delivery => figure.deliveries += 1,
            Counted::Refusal => figure.refusals += 1,
            Counted::Access => figure.accesses += 1,
        }
    }
}

impl Unit {
    fn last_day(self, day: Date) -> Date {
        match self {
            Self::Day => day,
            Self::Week => {
                let left = day.weekday().until(Weekday::Sunday);
                day.checked_add(i64::from(left).days()).unwrap_or(Date::MAX)
            }
            Self::Month => day.last_of_month(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_span_is_cut_into_days_weeks_or_months_without_gap_or_overlap() {
        for (from, to, unit, count) in [
            (date(2026, 11, 1), date(2026, 11, 1), Unit::Day, 1),
            (date(2026, 11, 1), date(2026, 12, 5), Unit::Day, 35),
            // From a Sunday: a week of one day comes first.
            (date(2026, 11, 1), date(2026, 12, 6), Unit::Week, 6),
            (date(2026, 1, 15), date(2026, 12, 31), Unit::Month, 12),
            (date(2023, 3, 3), date(2028, 3, 2), Unit::Month, 61),
        ] {
            let figures = Figures::over(from, to);
            assert_eq!((figures.unit, figures.figures.len()), (unit, count), "{from} to {to}");
            assert_eq!(figures.figures.first().unwrap().from, from);
            assert_eq!(figures.figures.last().unwrap().to, to);
            for pair in figures.figures.windows(2) {
                assert_eq!(pair[0].to.tomorrow().unwrap(), pair[1].from);
            }
        }
    }

    #[test]
    fn a_day_counts_where_it_belongs_and_outside_nowhere() {
        let mut figures = Figures::over(date(2026, 1, 15), date(2026, 12, 31));
        for day in [date(2026, 1, 14), date(2026, 2, 1), date(2026, 2, 28), date(2027, 1, 1)] {
            figures.count(day, Counted::Delivery);
        }
        let counts: Vec<u64> = figures.figures.iter().map(|figure| figure.deliveries).collect();
        assert_eq!(counts, [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

//! How often a list may come, and when the next one is due. Days are calendar days of Europe/Brussels.

use std::time::Duration;

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
    /// What stands in a column: each value once, in whichever arrival.
    Column(String),
}

//! Checks `rhythm` of a flow.

use std::time::Duration;

use super::super::error::Key;
use super::super::raw;
use super::super::values::Desk;
use super::job::columns_make_sense;
use crate::policy::agreement::{Accept, Collision};
use crate::policy::rhythm::{ArrivalKey, Period, Quota, Rhythm};
use crate::policy::rules::{Column, TableRules};

const DAY: Duration = Duration::from_secs(86_400);
const MONTHS_MAX: u16 = 120;
const GRACE: &str = "31d";

/// How often a list may come.
pub fn rhythm(desk: &mut Desk<'_>, key: &Key, raw: &raw::Rhythm) -> Option<Rhythm> {
    let quota = match raw.period.as_deref() {
        Some(period) => quota(desk, key, raw, period).map(Some),
        None => {
            for (name, is_there) in [
                ("at-most", raw.at_most.is_some()),
                ("expected", raw.expected),
                ("grace", raw.grace.is_some()),
            ] {
                if is_there {
                    let remedy = "add period: 6 months, or period: calendar-year";
                    desk.wrong(&key.at(name), "needs a period", remedy);
                }
            }
            Some(None)
        }
    };
    let once_per = match &raw.once_per {
        None => Some(None),
        Some(raw::KeyOf::Name) => Some(Some(ArrivalKey::Name)),
        Some(raw::KeyOf::Columns(raw)) => {
            let list = key.at("once-per").at("columns");
            columns_make_sense(desk, &list, raw);
            Some(Some(ArrivalKey::Columns(raw.clone())))
        }
    };
    let (quota, once_per) = (quota?, once_per?);
    if quota.is_none() && once_per.is_none() {
        desk.wrong(key, "says nothing", "write a period, once-per, or both; or remove the key");
        return None;
    }
    Some(Rhythm { quota, once_per })
}

/// What comes once only must be known for certain: a value that may be absent, or a name that is made different, would get by.
pub fn countable(
    desk: &mut Desk<'_>,
    key: &Key,
    rhythm: &Rhythm,
    (accept, input): (Option<&Accept>, Option<Option<&TableRules>>),
) {
    let key = key.at("rhythm").at("once-per");
    match (&rhythm.once_per, input) {
        // That nobody reads a relayed file was told already.
        (None, _) | (Some(ArrivalKey::Columns(_)), None) => {}
        (Some(ArrivalKey::Name), _) => {
            if accept.is_some_and(|accept| accept.collision == Collision::Version) {
                let remedy = "remove `version`, which gives a second file another name";
                desk.wrong(&key, "is the name, and another file under a name in use gets a new one", remedy);
            }
        }
        (Some(ArrivalKey::Columns(names)), Some(input)) => {
            let is_certain = |name: &String| {
                let is_it = |column: &Column| column.name == *name && column.is_required;
                input.is_some_and(|rules| rules.columns.iter().any(is_it))
            };
            for (index, name) in names.iter().enumerate().filter(|(_, name)| !is_certain(name)) {
                let remedy = "name columns that the flow's table has with required: true";
                let key = key.at("columns").item(index);
                desk.wrong(&key, format!("{name:?} need not be in the list"), remedy);
            }
        }
    }
}

fn quota(desk: &mut Desk<'_>, key: &Key, raw: &raw::Rhythm, period: &str) -> Option<Quota> {
    let period = match period {
        "calendar-year" => Some(Period::CalendarYear),
        text => desk.months(&key.at("period"), text, 1..=MONTHS_MAX).map(Period::Months),
    };
    let at_most = desk.count(&key.at("at-most"), raw.at_most.unwrap_or(1), 1..=1_000);
    let grace = raw.grace.as_deref().unwrap_or(GRACE);
    let grace = desk.duration(&key.at("grace"), grace, Duration::ZERO..=366 * DAY);
    Some(Quota {
        period: period?,
        at_most: u16::try_from(at_most?).ok()?,
        is_expected: raw.expected,
        grace: grace?,
    })
}

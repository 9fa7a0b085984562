//! Whether the rhythm of an exchange's flows was kept: what was delivered and what came too much in the span, from the receipts;
//! what is due or missing today, from the ledgers. What counts as missing is `policy::rhythm`'s question.

use jiff::civil::Date;

use super::columns;
use super::facts::{Level, Rhythm, Words};
use super::papers::{Arrivals, Row};
use crate::host::archive::Archive;
use crate::host::spool::SpoolError;
use crate::policy::agreement::{Exchange, Flow};
use crate::policy::path::{Name, Slug};
use crate::policy::reason::Reason;
use crate::policy::receipt::Verdict;
use crate::policy::rhythm::Pace;

/// For each flow that has a rhythm.
pub fn rhythm(
    exchange: &Exchange,
    arrivals: &Arrivals,
    archive: &Archive,
    today: Date,
) -> Result<Vec<Rhythm>, SpoolError> {
    let mut all = Vec::new();
    for flow in &exchange.flows {
        let Some(agreed) = &flow.rhythm else { continue };
        let kept = archive.kept(&exchange.name, &flow.name)?;
        let pace = agreed
            .quota
            .zip(kept)
            .map(|(quota, kept)| quota.pace(&exchange.agreement, kept.since, today, &kept.uses));
        let came = came(exchange, flow, arrivals);
        all.push(Rhythm {
            flow: flow.name.to_string(),
            agreed: columns::rhythm(agreed),
            level: level(came, pace.as_ref()),
            found: found(came, pace.as_ref()),
            due: pace.as_ref().and_then(|pace| pace.due),
            missing_since: pace.and_then(|pace| pace.missing_since),
        });
    }
    Ok(all)
}

#[derive(Clone, Copy)]
struct Came {
    delivered: usize,
    surplus: usize,
}

/// What came too much was held when it came, and its receipt says so.
fn came(exchange: &Exchange, flow: &Flow, arrivals: &Arrivals) -> Came {
    let too_much = [Reason::Surplus { again: Date::MIN }.code(), Reason::SurplusKey.code()];
    let is_surplus = |row: &&Row| row.reason_code.as_deref().is_some_and(|code| too_much.contains(&code));
    let is_of_flow = |row: &&Row| {
        let taken = Slug::parse(&row.institution).ok().zip(Name::parse(&row.name).ok());
        taken.is_some_and(|(sender, name)| {
            exchange.flow_for(&sender, &name).is_some_and(|taker| taker.name == flow.name)
        })
    };
    let rows = || arrivals.rows.listed.iter().filter(is_of_flow);
    Came {
        delivered: rows().filter(|row| row.verdict == Some(Verdict::Delivered)).count(),
        surplus: rows().filter(is_surplus).count(),
    }
}

fn level(came: Came, pace: Option<&Pace>) -> Level {
    if pace.is_some_and(|pace| pace.missing_since.is_some()) {
        Level::Bad
    } else if came.surplus > 0 {
        Level::Attention
    } else {
        Level::Good
    }
}

fn found(came: Came, pace: Option<&Pace>) -> Words {
    let (mut nl, mut en) = match came.delivered {
        0 => ("niets geleverd".to_owned(), "nothing delivered".to_owned()),
        delivered => (format!("{delivered} geleverd"), format!("{delivered} delivered")),
    };
    match came.surplus {
        0 if came.delivered == 0 => {}
        0 => {
            nl += ", niets te veel";
            en += ", none too many";
        }
        surplus => {
            nl += &format!(", {surplus} te veel en daarom aangehouden");
            en += &format!(", {surplus} too many and therefore held");
        }
    }
    match pace.map(|pace| (pace.missing_since, pace.due)) {
        Some((Some(since), _)) => {
            nl += &format!("; een verwachte levering ontbreekt sinds {since}");
            en += &format!("; one that was expected is missing since {since}");
        }
        Some((None, Some(due))) => {
            nl += &format!("; de volgende wordt verwacht tegen {due}");
            en += &format!("; the next is expected by {due}");
        }
        Some((None, None)) | None => {}
    }
    Words::new(nl, en)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rhythm::Window;

    #[test]
    fn a_missing_delivery_is_the_worst_that_is_told_and_the_next_one_is_named() {
        let day = |text: &str| text.parse::<Date>().unwrap();
        let window = Window { first: day("2026-07-01"), last: day("2026-12-31") };
        let pace = |due: Option<&str>, missing: Option<&str>| Pace {
            window,
            used: 0,
            due: due.map(day),
            missing_since: missing.map(day),
        };
        let (none, some) = (Came { delivered: 1, surplus: 0 }, Came { delivered: 1, surplus: 2 });
        for (came, pace, wanted, says) in [
            (none, None, Level::Good, "1 delivered, none too many"),
            (some, Some(pace(None, None)), Level::Attention, "2 too many and therefore held"),
            (none, Some(pace(Some("2026-12-31"), None)), Level::Good, "the next is expected by 2026-12-31"),
            (
                some,
                Some(pace(Some("2026-06-30"), Some("2026-08-01"))),
                Level::Bad,
                "is missing since 2026-08-01",
            ),
        ] {
            assert_eq!(level(came, pace.as_ref()), wanted, "{says}");
            assert!(found(came, pace.as_ref()).en.ends_with(says), "{says}");
        }
    }
}

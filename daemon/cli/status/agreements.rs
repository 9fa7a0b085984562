//! How the exchanges stand with their agreements: how long these last, what came last, how much of what is allowed in this period
//! has come, and what is due or missing.

use std::collections::BTreeMap;
use std::io::Write;

use comfy_table::Table;
use jiff::civil::Date;
use jiff::{SignedDuration, Span, Timestamp, Unit};
use serde::Serialize;

use super::{table, time};
use crate::config::Config;
use crate::host::clock::Clock;
use crate::host::spool::{Kept, Spool, SpoolError};
use crate::policy::agreement::{Agreement, Exchange, Flow, Standing};
use crate::policy::arrival::{ArrivalId, State};
use crate::policy::path::Slug;
use crate::policy::rhythm::ArrivalKey;

/// Finished arrivals of an exchange that are looked at for what was delivered last.
const LOOKED_AT: usize = 1_000;

/// An agreement.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct AgreementRow {
    exchange: String,
    reference: String,
    standing: &'static str,
    from: Date,
    until: Option<Date>,
    /// With today.
    days_left: Option<i32>,
    notice_months: Option<u16>,
    /// The last day on which notice can be given that takes effect before it ends anyway.
    notice_by: Option<Date>,
    /// When all but evidence of one that has ended goes; none where `work` has not noticed the end yet, or never under legal hold.
    emptied_from: Option<Timestamp>,
}

/// A flow.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FlowRow {
    exchange: String,
    flow: String,
    last_delivery: Option<Timestamp>,
    /// Where so many may come in a period.
    period: Option<PeriodRow>,
    /// What comes once only: name, or a column.
    once_per: Option<String>,
    /// By the end of this day (Brussels).
    due: Option<Date>,
    missing_since: Option<Date>,
}

/// The period of today.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PeriodRow {
    first: Date,
    last: Date,
    used: usize,
    allowed: u16,
}

pub(super) fn agreement_rows(
    spool: &Spool,
    config: &Config,
    clock: &Clock,
) -> Result<Vec<AgreementRow>, SpoolError> {
    let row = |exchange: &Exchange| agreement_row(spool, config, clock, exchange);
    config.exchanges.values().map(row).collect()
}

fn agreement_row(
    spool: &Spool,
    config: &Config,
    clock: &Clock,
    exchange: &Exchange,
) -> Result<AgreementRow, SpoolError> {
    let (agreement, today) = (&exchange.agreement, clock.today());
    let Agreement { from, until, notice, after_end, .. } = agreement.clone();
    let standing = agreement.standing(today);
    let noticed = match standing {
        Standing::Ended { on } if !config.retention.is_under_legal_hold(&exchange.name) => {
            spool.end_noticed(&exchange.name)?.filter(|noticed| noticed.until == on)
        }
        Standing::Ended { .. } | Standing::Ahead { .. } | Standing::Open => None,
    };
    let emptied = |on: Date, at: Timestamp| {
        let grace = SignedDuration::try_from(after_end).unwrap_or(SignedDuration::MAX);
        at.max(clock.end_of(on)).checked_add(grace).ok()
    };
    let is_open = standing == Standing::Open;
    let last_day = until.filter(|_| is_open);
    Ok(AgreementRow {
        exchange: exchange.name.to_string(),
        reference: agreement.reference.clone(),
        standing: match standing {
            Standing::Ahead { .. } => "not begun",
            Standing::Open => "open",
            Standing::Ended { .. } => "ended",
        },
        from,
        until,
        days_left: last_day.map(|until| days_left(today, until)),
        notice_months: notice,
        notice_by: last_day.and_then(|until| {
            until.checked_sub(Span::new().try_months(notice?).ok()?).ok().filter(|by| *by >= today)
        }),
        emptied_from: noticed.and_then(|noticed| emptied(noticed.until, noticed.at)),
    })
}

/// The last day counts.
fn days_left(today: Date, until: Date) -> i32 {
    today.until((Unit::Day, until)).map_or(0, |span| span.get_days().saturating_add(1))
}

pub(super) fn flow_rows(
    spool: &Spool,
    config: &Config,
    done: &[ArrivalId],
    today: Date,
) -> Result<Vec<FlowRow>, SpoolError> {
    let mut rows = Vec::new();
    for exchange in config.exchanges.values() {
        let last = last_deliveries(spool, exchange, done);
        for flow in &exchange.flows {
            let kept = spool.kept(&exchange.name, &flow.name)?;
            let last_delivery = last.get(&flow.name).copied();
            rows.push(FlowRow { last_delivery, ..flow_row(exchange, flow, kept, today) });
        }
    }
    Ok(rows)
}

fn flow_row(exchange: &Exchange, flow: &Flow, kept: Option<Kept>, today: Date) -> FlowRow {
    let kept = kept.unwrap_or(Kept { since: today, uses: Vec::new() });
    let quota = flow.rhythm.as_ref().and_then(|rhythm| rhythm.quota);
    let pace = quota.map(|quota| (quota, quota.pace(&exchange.agreement, kept.since, today, &kept.uses)));
    FlowRow {
        exchange: exchange.name.to_string(),
        flow: flow.name.to_string(),
        last_delivery: None,
        period: pace.as_ref().map(|(quota, pace)| PeriodRow {
            first: pace.window.first,
            last: pace.window.last,
            used: pace.used,
            allowed: quota.at_most,
        }),
        once_per: flow.rhythm.as_ref().and_then(|rhythm| rhythm.once_per.as_ref()).map(|key| match key {
            ArrivalKey::Name => "name".to_owned(),
            ArrivalKey::Columns(columns) => columns.join(" and "),
        }),
        due: pace.as_ref().and_then(|(_, pace)| pace.due),
        missing_since: pace.and_then(|(_, pace)| pace.missing_since),
    }
}

/// Of each flow, as far as what was delivered still lies there. `done` is oldest first.
fn last_deliveries(spool: &Spool, exchange: &Exchange, done: &[ArrivalId]) -> BTreeMap<Slug, Timestamp> {
    let mut last = BTreeMap::new();
    let of_exchange = done.iter().rev().filter(|id| *id.exchange() == exchange.name);
    for id in of_exchange.take(LOOKED_AT) {
        if last.len() == exchange.flows.len() {
            break;
        }
        let flow = spool.arrival(State::Done, id).ok().and_then(|arrival| arrival.flow);
        let Some(flow) = flow.filter(|flow| !last.contains_key(flow)) else { continue };
        // Nothing was delivered of one that is the same as an earlier arrival.
        if !spool.is_repetition(State::Done, id)
            && let Ok(at) = spool.since(State::Done, id)
        {
            last.insert(flow, at);
        }
    }
    last
}

pub(super) fn print(
    out: &mut impl Write,
    agreements: &[AgreementRow],
    flows: &[FlowRow],
) -> anyhow::Result<()> {
    if agreements.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}\n\n{}", agreement_table(agreements), flow_table(flows))?;
    for row in flows {
        if let Some(since) = row.missing_since {
            let due = row.due.map_or_else(String::new, |due| format!(", which was due by {due}"));
            writeln!(out, "\nMISSING since {since}: a list of {} {}{due}", row.exchange, row.flow)?;
        }
    }
    Ok(())
}

fn agreement_table(rows: &[AgreementRow]) -> Table {
    let mut agreements =
        table(["agreement", "exchange", "standing", "until", "days left", "notice by", "emptied from"]);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for row in rows {
        let months = row.notice_months.map(|months| format!("{months} months ahead"));
        agreements.add_row([
            row.reference.clone(),
            row.exchange.clone(),
            row.standing.to_owned(),
            or_none(row.until.map(|day| day.to_string())),
            or_none(row.days_left.map(|days| days.to_string())),
            or_none(row.notice_by.map(|day| day.to_string()).or(months.filter(|_| row.until.is_none()))),
            time(row.emptied_from),
        ]);
    }
    agreements
}

fn flow_table(rows: &[FlowRow]) -> Table {
    let mut flows = table(["exchange", "flow", "last delivery", "this period", "used", "due by"]);
    for row in rows {
        let period = row.period.as_ref().map(|of| format!("{} to {}", of.first, of.last));
        let once = row.once_per.as_ref().map(|key| format!("once per {key}"));
        let used = row.period.as_ref().map(|of| format!("{} of {}", of.used, of.allowed));
        flows.add_row([
            row.exchange.clone(),
            row.flow.clone(),
            time(row.last_delivery),
            [period, once].into_iter().flatten().collect::<Vec<_>>().join(", "),
            used.unwrap_or_else(|| "-".to_owned()),
            row.due.map_or_else(|| "-".to_owned(), |day| day.to_string()),
        ]);
    }
    flows
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn the_last_day_of_an_agreement_is_a_day_that_is_left() {
        assert_eq!(days_left(date(2028, 3, 2), date(2028, 3, 2)), 1);
        assert_eq!(days_left(date(2027, 3, 3), date(2028, 3, 2)), 366);
    }
}

//! Which incidents a report tells: those that records tell, with how each stands where a case is kept of it, and the cases that no
//! single record tells, such as a stranger's key.

use jiff::Timestamp;

use super::evidence::Span;
use super::facts::{Incident, Listed, Words};
use super::wording;
use crate::host::clock::Clock;
use crate::policy::agreement::Exchange;
use crate::policy::head::day;
use crate::policy::incident::Incident as Kind;
use crate::policy::incident::case::Case;

/// Puts both together, newest last.
pub fn merge(
    of_log: &Listed<Incident>,
    cases: Vec<Case>,
    about: (&Exchange, &Span),
    clock: &Clock,
) -> Listed<Incident> {
    let (exchange, span) = about;
    let mut all = of_log.clone();
    for case in cases.iter().filter(|case| span.holds(case.first) && concerns(case, exchange)) {
        let standing = standing(case, clock.now());
        let mut told = false;
        for incident in all.listed.iter_mut().filter(|incident| is_of(incident, case)) {
            incident.standing = Some(standing.clone());
            told = true;
        }
        if !told {
            all.take(Incident {
                time: case.first,
                what: wording::incident(case.kind.code()),
                code: case.kind.code().to_owned(),
                institution: case.institution.as_ref().map(ToString::to_string),
                arrival: None,
                standing: Some(standing),
            });
        }
    }
    all.settle();
    all
}

/// One without an exchange concerns those of its institution; one without either all, for it is the log.
fn concerns(case: &Case, exchange: &Exchange) -> bool {
    match (&case.exchange, &case.institution) {
        (Some(of), _) => of == &exchange.name,
        (None, Some(institution)) => exchange.parties.contains_key(institution),
        (None, None) => true,
    }
}

/// Of the same signs. A second case of them on one day stands for what the first one does not.
fn is_of(incident: &Incident, case: &Case) -> bool {
    let is_log = incident.code == wording::LOG_BROKEN && case.kind == Kind::LogTampered;
    let is_same = incident.code == case.kind.code()
        && incident.institution.as_deref()
            == case.institution.as_ref().map(|institution| institution.as_str());
    (is_log || is_same) && day(incident.time) == day(case.first) && incident.time >= case.first
}

fn standing(case: &Case, now: Timestamp) -> Words {
    let minute = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let by = minute(case.report_by);
    let to = case.report_to.as_ref();
    let (aan, whom) = (
        to.map_or(String::new(), |to| format!(" aan {to}")),
        to.map_or(String::new(), |to| format!(" to {to}")),
    );
    let signs = case.count;
    match &case.closed {
        Some(closed) => Words::new(
            format!("afgesloten op {}: {} ({signs} keer vastgesteld)", minute(closed.at), closed.reason),
            format!("closed on {}: {} (found {signs} times)", minute(closed.at), closed.reason),
        ),
        None if case.is_overdue(now) => Words::new(
            format!("open, en te melden{aan} tegen {by}: die tijd is voorbij ({signs} keer vastgesteld)"),
            format!("open, and to be reported{whom} by {by}: that time has passed (found {signs} times)"),
        ),
        None => Words::new(
            format!("open, te melden{aan} tegen {by} ({signs} keer vastgesteld)"),
            format!("open, to be reported{whom} by {by} (found {signs} times)"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::civil::date;

    use super::*;
    use crate::policy::agreement::{Agreement, Party};
    use crate::policy::incident::Sign;
    use crate::policy::incident::case::{Closed, Found, Place, Series};
    use crate::policy::path::Slug;
    use crate::policy::retention::LogName;

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn case(kind: Kind, institution: Option<&str>, exchange: Option<&str>) -> Case {
        let sign = Sign { kind, institution: institution.map(slug), exchange: exchange.map(slug) };
        let file = LogName::parse("2026-11-21.serve.n.jsonl").unwrap();
        let time = "2026-11-21T12:00:00Z".parse().unwrap();
        let found = Found { sign, time, place: Place { file, seq: 1, end: 1 } };
        let series = Series::of(date(2026, 11, 21), &found.sign);
        Case::open((&series, 1), &found, None, BTreeMap::new())
    }

    #[test]
    fn each_case_is_told_once_with_how_it_stands_and_those_of_others_not_at_all() {
        let parties = BTreeMap::from([(slug("agii"), Party::default())]);
        let exchange = Exchange::plain(slug("lists"), Agreement::default(), parties, Vec::new());
        let (from, to) = (date(2026, 11, 1), date(2026, 11, 30));
        let [begin, end] = ["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"].map(|time| time.parse().unwrap());
        let span = Span { from, to, begin, end };
        let mut of_log = Listed::default();
        of_log.take(Incident {
            time: "2026-11-21T12:00:00Z".parse().unwrap(),
            code: "substituted".into(),
            what: wording::incident("substituted"),
            institution: Some("agii".into()),
            arrival: Some("a".into()),
            standing: None,
        });
        let mut closed = case(Kind::Substituted, Some("agii"), Some("lists"));
        let at = "2026-11-22T08:00:00Z".parse().unwrap();
        closed.closed = Some(Closed { at, operator: "uid 0".into(), reason: "reported".into() });
        let cases = vec![
            closed,
            case(Kind::UnknownKey, Some("agii"), None),
            case(Kind::LogTampered, None, None),
            case(Kind::UnknownKey, Some("lommel"), None),
            case(Kind::ForeignPath, Some("lommel"), Some("other")),
        ];
        let clock = Clock::fixed("2026-11-23T12:00:00Z".parse().unwrap());
        let all = merge(&of_log, cases, (&exchange, &span), &clock);
        let told: Vec<(&str, bool)> = all
            .listed
            .iter()
            .map(|one| {
                (one.code.as_str(), one.standing.as_ref().is_some_and(|words| words.en.contains("closed")))
            })
            .collect();
        assert_eq!(told, [("substituted", true), ("unknown-key", false), ("log-tampered", false)]);
        let overdue = all.listed[1].standing.as_ref().unwrap();
        assert!(overdue.en.contains("time has passed") && overdue.nl.contains("voorbij"), "{overdue:?}");
    }
}

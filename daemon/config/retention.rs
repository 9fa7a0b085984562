//! Checks how long things are kept: `retention` of `dropzone.yaml`, and `retention` and `legal-hold` of the exchanges, which come
//! before it.

use std::time::Duration;

use super::error::{Findings, Key};
use super::load::Document;
use super::raw;
use super::values::Desk;
use crate::policy::retention::{OfExchange, Period, Periods, Rules};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
/// Ten years: more than any agreement asks for. Longer is `never`.
const LONGEST: Duration = Duration::from_secs(3_660 * 86_400);
const NEVER: &str = "never";

/// How long everything of a zone is kept.
pub fn rules(
    main: &str,
    machine: &raw::Retention,
    exchanges: &[Document<raw::Exchange>],
    findings: &mut Findings,
) -> Option<Rules> {
    let mut desk = Desk { file: main, findings: &mut *findings };
    let key = Key::root().at("retention");
    let default = Rules::default();
    let periods = periods(&mut desk, &key, &kept(machine), default.periods);
    let digests = period(&mut desk, &key.at("digests"), machine.digests.as_deref(), default.digests, DAY);
    let (of_zone, digests) = (periods?, digests?);
    let mut rules = Rules { periods: of_zone, digests, ..default };
    for document in exchanges {
        let Some(raw) = &document.raw else { continue };
        let mut desk = Desk { file: &document.file, findings: &mut *findings };
        let periods = self::periods(&mut desk, &Key::root().at("retention"), &raw.retention, of_zone);
        let Some(periods) = periods else { continue };
        let of = OfExchange { periods, legal_hold: raw.legal_hold };
        rules.exchanges.insert(document.stem.clone(), of);
    }
    Some(rules)
}

/// What both kinds of files can say. (`deny_unknown_fields` and `flatten` do not go together.)
fn kept(raw: &raw::Retention) -> raw::Kept {
    let raw::Retention { partials, done, refused, results, receipts, .. } = raw;
    raw::Kept {
        partials: partials.clone(),
        done: done.clone(),
        refused: refused.clone(),
        results: results.clone(),
        receipts: receipts.clone(),
    }
}

fn periods(desk: &mut Desk<'_>, key: &Key, raw: &raw::Kept, default: Periods) -> Option<Periods> {
    let mut of = |name: &str, text: Option<&str>, default, shortest| {
        period(desk, &key.at(name), text, default, shortest)
    };
    let partials = of("partials", raw.partials.as_deref(), default.partials, HOUR);
    // A client that lost the answer sends again within a day, and is recognised by what lies in `done`.
    let done = of("done", raw.done.as_deref(), default.done, DAY);
    let refused = of("refused", raw.refused.as_deref(), default.refused, DAY);
    let results = of("results", raw.results.as_deref(), default.results, DAY);
    let receipts = of("receipts", raw.receipts.as_deref(), default.receipts, DAY);
    let periods = Periods {
        partials: partials?,
        refused: refused?,
        done: done?,
        results: results?,
        receipts: receipts?,
    };
    if periods.receipts < periods.refused {
        let problem = format!("{} is shorter than refused, {}", periods.receipts, periods.refused);
        desk.wrong(
            &key.at("receipts"),
            problem,
            "keep receipts as long as refused, or longer: a refusal without its receipt gets a new one",
        );
        return None;
    }
    Some(periods)
}

fn period(
    desk: &mut Desk<'_>,
    key: &Key,
    raw: Option<&str>,
    default: Period,
    shortest: Duration,
) -> Option<Period> {
    match raw {
        None => Some(default),
        Some(NEVER) => Some(Period::Never),
        Some(text) => desk.duration(key, text, shortest..=LONGEST).map(Period::After),
    }
}

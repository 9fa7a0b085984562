//! Checks `agreement` and `collected` of an exchange.

use std::time::Duration;

use super::super::error::Key;
use super::super::raw;
use super::super::values::Desk;
use crate::policy::agreement::{Agreement, Collected, Collecting, ReportBy};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const NOTICE_MAX: u16 = 60;

/// What an exchange rests on.
pub fn agreement(desk: &mut Desk<'_>, raw: &raw::Agreement) -> Option<Agreement> {
    let key = Key::root().at("agreement");
    let reference = desk.line(&key.at("reference"), &raw.reference);
    let title = desk.line(&key.at("title"), &raw.title);
    let legal_basis = desk.line(&key.at("legal-basis"), &raw.legal_basis);
    let from = desk.day(&key.at("from"), &raw.from);
    let until = desk.optional(raw.until.as_deref(), |desk, text| desk.day(&key.at("until"), text));
    if let (Some(from), Some(Some(until))) = (from, until)
        && until < from
    {
        desk.wrong(
            &key.at("until"),
            format!("{until} lies before from, {from}"),
            "correct one of the two days",
        );
    }
    let notice = desk
        .optional(raw.notice.as_deref(), |desk, text| desk.months(&key.at("notice"), text, 1..=NOTICE_MAX));
    let contact = desk.optional(raw.contact.as_deref(), |desk, text| desk.line(&key.at("contact"), text));
    let keep =
        desk.optional(raw.parties_keep.as_deref(), |desk, text| desk.line(&key.at("parties-keep"), text));
    let after_end = desk.optional(raw.after_end.as_deref(), |desk, text| {
        desk.duration(&key.at("after-end"), text, DAY..=366 * DAY)
    });
    let incidents = match &raw.incidents {
        Some(raw) => report_by(desk, &key.at("incidents"), raw).map(Some),
        None => Some(None),
    };
    Some(Agreement {
        reference: reference?,
        title: title?,
        legal_basis: legal_basis?,
        from: from?,
        until: until?,
        notice: notice?,
        contact: contact?,
        incidents: incidents?,
        after_end: after_end?.unwrap_or(Agreement::default().after_end),
        parties_keep: keep?,
    })
}

fn report_by(desk: &mut Desk<'_>, key: &Key, raw: &raw::ReportBy) -> Option<ReportBy> {
    let within = desk.duration(&key.at("within"), &raw.within, HOUR..=31 * DAY);
    let to = desk.line(&key.at("to"), &raw.to);
    Some(ReportBy { within: within?, to: to? })
}

/// When results count as collected.
pub fn collected(desk: &mut Desk<'_>, raw: &raw::Collected) -> Option<Collected> {
    let key = Key::root().at("collected");
    let default = Collected::default();
    let by = match raw.by.as_deref() {
        None | Some("removal") => Some(Collecting::Removal),
        Some("download") => Some(Collecting::Download),
        Some(text) => {
            let remedy =
                "write removal (the receiver removes it) or download (a complete download counts too)";
            desk.wrong(&key.at("by"), format!("{text:?} is not a choice"), remedy);
            None
        }
    };
    let grace = desk.optional(raw.grace.as_deref(), |desk, text| {
        desk.duration(&key.at("grace"), text, Duration::from_secs(1)..=31 * DAY)
    });
    Some(Collected { by: by?, grace: grace?.unwrap_or(default.grace) })
}

//! Checks `to` and `deliver` of a flow.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::Key;
use super::super::raw;
use super::super::values::Desk;
use super::table::format;
use super::{COLUMNS_MAX, PARTIES_MAX, members};
use crate::policy::agreement::{Job, Party};
use crate::policy::outgoing::{Lock, OutColumn, Outgoing, Receivers};
use crate::policy::path::Slug;

const DELIVERIES_MAX: usize = 50;

/// What a delivery is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Who takes part.
    pub parties: &'a BTreeMap<Slug, Party>,
    /// What makes the result.
    pub job: Option<&'a Job>,
    /// The columns of the result, where they are known.
    pub columns: Option<&'a [String]>,
}

/// What leaves for whom.
pub fn deliveries(
    desk: &mut Desk<'_>,
    context: Context<'_>,
    key: &Key,
    raw: &raw::Flow,
) -> Option<Vec<Outgoing>> {
    let deliveries = match (&raw.to, &raw.deliver) {
        (Some(to), None) => vec![Outgoing::plain(collectors(desk, context.parties, &key.at("to"), to)?)],
        (None, Some(raw)) => listed(desk, context, &key.at("deliver"), raw)?,
        (Some(_), Some(_)) => {
            desk.wrong(&key.at("to"), "stands beside deliver", "move it into deliver as - to: [...]");
            return None;
        }
        (None, None) => {
            desk.wrong(&key.at("to"), "is missing: nobody would receive the result", "name who receives it");
            return None;
        }
    };
    only_once(desk, key, &deliveries);
    Some(deliveries)
}

fn listed(
    desk: &mut Desk<'_>,
    context: Context<'_>,
    list: &Key,
    raw: &[raw::Deliver],
) -> Option<Vec<Outgoing>> {
    if !desk.at_most(list, raw.len(), DELIVERIES_MAX) {
        return None;
    }
    if raw.is_empty() {
        desk.wrong(list, "is empty: nobody would receive the result", "add a delivery with to");
    }
    let all: Vec<_> =
        raw.iter().enumerate().map(|(index, raw)| delivery(desk, context, &list.item(index), raw)).collect();
    all.into_iter().collect()
}

fn delivery(desk: &mut Desk<'_>, context: Context<'_>, key: &Key, raw: &raw::Deliver) -> Option<Outgoing> {
    if matches!(context.job, Some(Job::Relay)) {
        for (name, is_there) in [
            ("split", raw.split.is_some()),
            ("columns", raw.columns.is_some()),
            ("format", raw.format.is_some()),
            ("lock", raw.lock.is_some()),
        ] {
            if is_there {
                let remedy = "remove it, or use job: shape and have the list encrypted to the zone";
                desk.wrong(&key.at(name), "needs to read the list, and a relayed file stays closed", remedy);
            }
        }
    }
    let receivers = receivers(desk, context, key, raw);
    let columns = match &raw.columns {
        Some(raw) => columns(desk, context, &key.at("columns"), raw).map(Some),
        None => Some(None),
    };
    let format = desk.optional(raw.format.as_deref(), |desk, text| format(desk, &key.at("format"), text));
    let lock = match raw.lock.as_deref() {
        None | Some("recipients") => Some(Lock::Recipients),
        Some("passphrase") => Some(Lock::Passphrase),
        Some(text) => {
            let remedy = "write recipients (the receiver's keys) or passphrase (a generated one that goes another way)";
            desk.wrong(&key.at("lock"), format!("{text:?} is not a lock"), remedy);
            None
        }
    };
    let (receivers, lock) = (receivers?, lock?);
    if lock == Lock::Passphrase && matches!(receivers, Receivers::People { .. }) {
        let remedy = "remove one of the two: a person's own recipients already keep others out";
        desk.wrong(&key.at("lock"), "does not go together with people-of", remedy);
    }
    Some(Outgoing { receivers, columns: columns?, format: format?, lock })
}

fn receivers(desk: &mut Desk<'_>, context: Context<'_>, key: &Key, raw: &raw::Deliver) -> Option<Receivers> {
    match (&raw.to, &raw.split) {
        (Some(to), None) => collectors(desk, context.parties, &key.at("to"), to).map(Receivers::All),
        (None, Some(raw)) => split(desk, context, &key.at("split"), raw),
        (Some(_), Some(_)) | (None, None) => {
            desk.wrong(key, "needs one of to and split", "write to: [...] for all rows, or split: {...}");
            None
        }
    }
}

fn split(desk: &mut Desk<'_>, context: Context<'_>, key: &Key, raw: &raw::Split) -> Option<Receivers> {
    let by = desk.line(&key.at("by"), &raw.by)?;
    is_column(desk, context, &key.at("by"), &by);
    match (&raw.among, &raw.people_of) {
        (Some(raw), None) => {
            let list = key.at("among");
            let names: Vec<String> = raw.0.iter().map(|(_, name)| name.clone()).collect();
            if names.is_empty() || !desk.at_most(&list, names.len(), 10 * PARTIES_MAX) {
                desk.wrong(
                    &list,
                    "needs at least one value and its receiver",
                    "write it as in {\"101\": fund-a}",
                );
                return None;
            }
            let mut among = BTreeMap::new();
            for (value, name) in &raw.0 {
                let of_one = std::slice::from_ref(name);
                let receiver = collectors(desk, context.parties, &list.at(value), of_one)?;
                among.extend(receiver.into_iter().map(|receiver| (value.clone(), receiver)));
            }
            Some(Receivers::Split { by, among })
        }
        (None, Some(raw)) => {
            let of = collectors(desk, context.parties, &key.at("people-of"), raw)?;
            Some(Receivers::People { by, of })
        }
        (Some(_), Some(_)) | (None, None) => {
            desk.wrong(key, "needs one of among and people-of", "say which value goes to whom");
            None
        }
    }
}

fn collectors(
    desk: &mut Desk<'_>,
    parties: &BTreeMap<Slug, Party>,
    list: &Key,
    raw: &[String],
) -> Option<Vec<Slug>> {
    members(desk, parties, list, raw, ("collect", |party| party.may_collect))
}

fn columns(
    desk: &mut Desk<'_>,
    context: Context<'_>,
    list: &Key,
    raw: &[raw::OutColumn],
) -> Option<Vec<OutColumn>> {
    if !desk.at_most(list, raw.len(), COLUMNS_MAX) {
        return None;
    }
    if raw.is_empty() {
        desk.wrong(
            list,
            "is empty: a list without columns says nothing",
            "name the columns, or remove the key",
        );
    }
    let mut seen = BTreeSet::new();
    let mut columns = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let key = list.item(index);
        let from = desk.line(&key.at("column"), &raw.column)?;
        is_column(desk, context, &key, &from);
        let name = desk.line(&key.at("as"), raw.name.as_ref().unwrap_or(&from))?;
        if !seen.insert(name.to_lowercase()) {
            desk.wrong(&key, format!("{name:?} is there twice"), "give one of them another name with as");
        }
        columns.push(OutColumn { from, name, is_pseudonym: raw.pseudonym });
    }
    Some(columns)
}

fn is_column(desk: &mut Desk<'_>, context: Context<'_>, key: &Key, name: &str) {
    if context.columns.is_some_and(|columns| !columns.iter().any(|column| column == name)) {
        let problem = format!("{name:?} is not a column of the result");
        desk.wrong(key, problem, "name a column that the job gives, spelled as it spells it");
    }
}

/// Names of results, notes and receipts tell receivers apart.
fn only_once(desk: &mut Desk<'_>, key: &Key, deliveries: &[Outgoing]) {
    let mut seen = BTreeSet::new();
    for name in deliveries.iter().flat_map(Outgoing::institutions) {
        if !seen.insert(name) {
            let problem = format!("{name} is in two deliveries of one flow");
            desk.wrong(&key.at("deliver"), problem, "make one delivery of the two, or a flow of its own");
        }
    }
}

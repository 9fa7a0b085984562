//! Checks one `exchanges/*.yaml` against the institutions and databases there are. Each part of the file has a module.

mod accept;
mod agreement;
mod job;
mod outgoing;
mod parties;
mod rhythm;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use self::accept::accept;
use self::agreement::{agreement, collected};
use self::job::job;
use self::outgoing::{Context, deliveries};
use self::parties::parties;
use self::rhythm::{countable, rhythm};
use self::table::tables;
use super::error::Key;
use super::load::Document;
use super::raw;
use super::values::Desk;
use crate::policy::agreement::{Exchange, Flow, Job, OnFault, Party};
use crate::policy::outgoing::{Lock, Outgoing, Receivers};
use crate::policy::path::Slug;
use crate::policy::rules::TableRules;

const PARTIES_MAX: usize = 200;
const FLOWS_MAX: usize = 100;
const COLUMNS_MAX: usize = 500;

/// What an exchange may name.
#[derive(Debug)]
pub struct Known {
    /// Each institution, and whether results can be encrypted to it: none if its file could not be understood. None at all
    /// if the folder could not be read.
    pub institutions: Option<BTreeMap<Slug, Option<bool>>>,
    /// Names of the databases; none if `dropzone.yaml` could not be understood.
    pub databases: Option<BTreeSet<String>>,
    /// Whether the zone has an age identity.
    pub has_identity: bool,
}

/// The exchange that a document describes.
pub fn exchange(desk: &mut Desk<'_>, known: &Known, document: &Document<raw::Exchange>) -> Option<Exchange> {
    let raw = document.raw.as_ref()?;
    if raw.exchange != document.stem.as_str() {
        desk.wrong(
            &Key::root().at("exchange"),
            format!("is {:?} in a file called {}.yaml", raw.exchange, document.stem),
            "give both the same name",
        );
    }
    let agreement = agreement(desk, &raw.agreement);
    let collected = collected(desk, &raw.collected);
    let parties = parties(desk, known, &raw.parties)?;
    let tables = tables(desk, &raw.tables);
    let list = Key::root().at("flows");
    if !desk.at_most(&list, raw.flows.len(), FLOWS_MAX) {
        return None;
    }
    let around = Around { known, parties: &parties.parts, tables: &tables, raw_tables: &raw.tables };
    let flows: Vec<_> =
        raw.flows.iter().enumerate().map(|(index, raw)| flow(desk, around, &list.item(index), raw)).collect();
    repeated_flows(desk, &raw.flows);
    unreachable_flows(desk, &raw.flows);
    let flows = flows.into_iter().collect::<Option<Vec<_>>>();
    idle_parties(desk, &parties.parts, flows.as_deref());
    Some(Exchange {
        name: document.stem.clone(),
        agreement: agreement?,
        parties: parties.parts,
        circles: parties.circles,
        handoff: parties.handoff,
        collected: collected?,
        flows: flows?,
    })
}

/// What a flow is checked against.
#[derive(Debug, Clone, Copy)]
struct Around<'a> {
    known: &'a Known,
    parties: &'a BTreeMap<Slug, Party>,
    tables: &'a BTreeMap<String, TableRules>,
    raw_tables: &'a raw::Mapping<raw::Table>,
}

fn flow(desk: &mut Desk<'_>, around: Around<'_>, key: &Key, raw: &raw::Flow) -> Option<Flow> {
    let name = desk.slug(&key.at("flow"), &raw.flow);
    let may_drop: (&str, fn(&Party) -> bool) = ("drop", |party| party.may_drop);
    let from = members(desk, around.parties, &key.at("from"), &raw.from, may_drop);
    let accept = accept(desk, &key.at("accept"), &raw.accept);
    let rhythm = match &raw.rhythm {
        Some(raw) => rhythm(desk, &key.at("rhythm"), raw).map(Some),
        None => Some(None),
    };
    let job = job(desk, around.known, &key.at("job"), &raw.job);
    let input = rules(desk, around, &key.at("table"), raw.table.as_deref());
    let output = rules(desk, around, &key.at("result"), raw.result.as_deref());
    if let (Some(Some(rhythm)), Some(input)) = (&rhythm, &input) {
        let reads = !matches!(raw.job, raw::Job::Relay);
        countable(desk, key, rhythm, (accept.as_ref(), reads.then_some(input.as_ref())));
    }
    if matches!(raw.job, raw::Job::Relay) {
        refuse_reading(desk, key, raw);
    }
    let on_fault = on_fault(desk, &key.at("faults"), raw);
    let columns = result_columns(job.as_ref(), input.as_ref(), output.as_ref());
    let context = Context { parties: around.parties, job: job.as_ref(), columns: columns.as_deref() };
    let deliveries = deliveries(desk, context, key, raw);
    let (name, job, deliveries) = (name?, job?, deliveries?);
    let unready = match job {
        Job::Relay => Vec::new(),
        Job::Shape | Job::Query(_) | Job::Command(_) => unready(around.known, &deliveries),
    };
    let to = deliveries.iter().flat_map(Outgoing::institutions).cloned().collect();
    Some(Flow {
        name,
        from: from?,
        accept: accept?,
        rhythm: rhythm?,
        input: input?,
        on_fault: on_fault?,
        job,
        output: output?,
        deliveries,
        to,
        unready,
    })
}

/// The rules of a table that a flow names.
fn rules(
    desk: &mut Desk<'_>,
    around: Around<'_>,
    key: &Key,
    name: Option<&str>,
) -> Option<Option<TableRules>> {
    let Some(name) = name else { return Some(None) };
    let found = around.tables.get(name);
    if found.is_none() && !around.raw_tables.0.iter().any(|(known, _)| known == name) {
        let problem = format!("unknown table {name:?}");
        desk.wrong(key, problem, format!("correct the name, or describe it in tables.{name}"));
    }
    found.cloned().map(Some)
}

fn refuse_reading(desk: &mut Desk<'_>, key: &Key, raw: &raw::Flow) {
    for (name, is_there) in [
        ("table", raw.table.is_some()),
        ("result", raw.result.is_some()),
        ("faults", raw.faults.is_some()),
        ("rhythm", matches!(&raw.rhythm, Some(raw::Rhythm { once_per: Some(raw::KeyOf::Columns(_)), .. }))),
    ] {
        if is_there {
            let remedy = "remove it, or use job: shape and have the list encrypted to the zone";
            desk.wrong(&key.at(name), "needs to read the list, and a relayed file stays closed", remedy);
        }
    }
}

fn on_fault(desk: &mut Desk<'_>, key: &Key, raw: &raw::Flow) -> Option<OnFault> {
    match raw.faults.as_deref() {
        None | Some("hold") => Some(OnFault::Hold),
        Some("report") if raw.table.is_some() => Some(OnFault::Report),
        Some("report") => {
            desk.wrong(
                key,
                "says what becomes of faulty rows, and nothing says which are",
                "add table: with its rules",
            );
            None
        }
        Some(text) => {
            let remedy = "write hold (one faulty row holds the list) or report (faulty rows are left out and reported)";
            desk.wrong(key, format!("{text:?} is not a choice"), remedy);
            None
        }
    }
}

/// What the job gives, where that is known before it runs.
fn result_columns(
    job: Option<&Job>,
    input: Option<&Option<TableRules>>,
    output: Option<&Option<TableRules>>,
) -> Option<Vec<String>> {
    let names = |rules: &TableRules| rules.names().map(str::to_owned).collect();
    if let Some(Some(rules)) = output {
        return Some(names(rules));
    }
    match job? {
        Job::Relay => None,
        Job::Shape => input?.as_ref().map(names),
        Job::Query(query) => query.columns.clone(),
        Job::Command(command) => command.columns.clone(),
    }
}

/// A result is encrypted to its receivers' recipients; until all of them have one, the flow takes nothing.
fn unready(known: &Known, deliveries: &[Outgoing]) -> Vec<Slug> {
    let to_recipients = |delivery: &&Outgoing| {
        delivery.lock == Lock::Recipients && !matches!(delivery.receivers, Receivers::People { .. })
    };
    let has_none = |receiver: &&Slug| {
        known.institutions.as_ref().and_then(|known| known.get(*receiver).copied().flatten()) == Some(false)
    };
    let institutions = deliveries.iter().filter(to_recipients).flat_map(Outgoing::institutions);
    institutions.filter(has_none).cloned().collect()
}

/// The parties that a flow names, each of which must be allowed its part in it.
fn members(
    desk: &mut Desk<'_>,
    parties: &BTreeMap<Slug, Party>,
    list: &Key,
    raw: &[String],
    (part, may): (&str, fn(&Party) -> bool),
) -> Option<Vec<Slug>> {
    if !desk.at_most(list, raw.len(), PARTIES_MAX) {
        return None;
    }
    if raw.is_empty() {
        desk.wrong(list, "is empty", format!("name a party that may {part}"));
    }
    let mut members = Vec::new();
    for (index, name) in raw.iter().enumerate() {
        let key = list.item(index);
        let Some(slug) = desk.slug(&key, name) else { continue };
        match parties.get(&slug) {
            None => desk.wrong(
                &key,
                format!("{name:?} is not a party of this exchange"),
                format!("correct the name, or add it to parties as {name}: [{part}]"),
            ),
            Some(party) if !may(party) => desk.wrong(
                &key,
                format!("{name} may not {part} in this exchange"),
                format!("add {part} to parties.{name}, if the agreement says so"),
            ),
            Some(_) if members.contains(&slug) => {
                desk.wrong(&key, format!("{name} is there twice"), "keep one of them");
            }
            Some(_) => {}
        }
        members.push(slug);
    }
    Some(members)
}

fn repeated_flows(desk: &mut Desk<'_>, flows: &[raw::Flow]) {
    let mut names = BTreeSet::new();
    for (index, flow) in flows.iter().enumerate() {
        if !names.insert(&flow.flow) {
            let key = Key::root().at("flows").item(index).at("flow");
            desk.wrong(&key, format!("two flows are called {:?}", flow.flow), "rename one of them");
        }
    }
}

/// The first flow that takes a name has it: after one that takes every name of an institution, none is reached.
fn unreachable_flows(desk: &mut Desk<'_>, flows: &[raw::Flow]) {
    let takes_all = |flow: &raw::Flow| {
        flow.accept.names.is_empty()
            || flow.accept.names.iter().any(|name| matches!(name.as_str(), "*" | "**"))
    };
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, flow) in flows.iter().enumerate() {
        for (at, institution) in flow.from.iter().enumerate() {
            if let Some(first) = taken.get(institution.as_str()) {
                let key = Key::root().at("flows").item(index).at("from").item(at);
                desk.wrong(
                    &key,
                    format!("is never reached: flow {first:?} takes everything that {institution} drops"),
                    format!("give {first:?} names of its own under accept, or put it last"),
                );
            }
        }
        if takes_all(flow) {
            for institution in &flow.from {
                taken.entry(institution).or_insert(&flow.flow);
            }
        }
    }
}

fn idle_parties(desk: &mut Desk<'_>, parties: &BTreeMap<Slug, Party>, flows: Option<&[Flow]>) {
    let Some(flows) = flows else { return };
    for (name, party) in parties {
        if party.may_drop && !flows.iter().any(|flow| flow.from.contains(name)) {
            desk.note(format!("{name} may drop, but no flow takes what it drops: every upload is refused"));
        }
        if party.may_collect && !flows.iter().any(|flow| flow.to.contains(name)) {
            desk.note(format!("{name} may collect, but no flow delivers to it"));
        }
    }
}

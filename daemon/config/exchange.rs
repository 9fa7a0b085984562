//! Checks one `exchanges/*.yaml` against the institutions and databases there are.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobMatcher};

use super::error::Key;
use super::load::Document;
use super::raw;
use super::sql::is_one_query;
use super::values::Desk;
use crate::policy::agreement::{Accept, Agreement, Collision, Exchange, Flow, Job, Party, Query};
use crate::policy::path::Slug;
use crate::policy::question::Unasked;

const PARTIES_MAX: usize = 200;
const FLOWS_MAX: usize = 100;
const PATTERNS_MAX: usize = 100;
const PATTERN_BYTES_MAX: usize = 255;
const COLUMNS_MAX: usize = 500;
const SQL_BYTES_MAX: usize = 64 << 10;
const SIZE_MAX: u64 = 1 << 44;

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
    let parties = parties(desk, known, &raw.parties)?;
    let list = Key::root().at("flows");
    if !desk.at_most(&list, raw.flows.len(), FLOWS_MAX) {
        return None;
    }
    let flows: Vec<_> = raw
        .flows
        .iter()
        .enumerate()
        .map(|(index, raw)| flow(desk, known, &parties, &list.item(index), raw))
        .collect();
    repeated_flows(desk, &raw.flows);
    unreachable_flows(desk, &raw.flows);
    idle_parties(desk, &parties, &raw.flows);
    Some(Exchange {
        name: document.stem.clone(),
        agreement: agreement?,
        parties,
        flows: flows.into_iter().collect::<Option<_>>()?,
    })
}

fn agreement(desk: &mut Desk<'_>, raw: &raw::Agreement) -> Option<Agreement> {
    let key = Key::root().at("agreement");
    let reference = desk.line(&key.at("reference"), &raw.reference);
    let title = desk.line(&key.at("title"), &raw.title);
    let legal_basis = desk.line(&key.at("legal-basis"), &raw.legal_basis);
    let from = desk.day(&key.at("from"), &raw.from);
    let until = match &raw.until {
        Some(text) => desk.day(&key.at("until"), text).map(Some),
        None => Some(None),
    };
    if let (Some(from), Some(Some(until))) = (from, until)
        && until < from
    {
        desk.wrong(
            &key.at("until"),
            format!("{until} lies before from, {from}"),
            "correct one of the two days",
        );
    }
    Some(Agreement {
        reference: reference?,
        title: title?,
        legal_basis: legal_basis?,
        from: from?,
        until: until?,
    })
}

fn parties(
    desk: &mut Desk<'_>,
    known: &Known,
    raw: &raw::Mapping<Vec<String>>,
) -> Option<BTreeMap<Slug, Party>> {
    let list = Key::root().at("parties");
    if !desk.at_most(&list, raw.0.len(), PARTIES_MAX) {
        return None;
    }
    if raw.0.is_empty() {
        desk.wrong(&list, "is empty: nobody takes part", "name the institutions that take part");
    }
    let mut parties = BTreeMap::new();
    for (name, parts) in &raw.0 {
        let key = list.at(name);
        let Some(slug) = desk.slug(&key, name) else { continue };
        if known.institutions.as_ref().is_some_and(|known| !known.contains_key(&slug)) {
            unknown_institution(desk, &key, name);
        }
        if parts.is_empty() {
            desk.wrong(&key, "may do nothing", "write [drop], [collect] or both, or remove the party");
        }
        let mut party = Party::default();
        for (index, part) in parts.iter().enumerate() {
            match part.as_str() {
                "drop" => party.may_drop = true,
                "collect" => party.may_collect = true,
                _ => desk.wrong(
                    &key.item(index),
                    format!("{part:?} is not a part"),
                    "write drop (may put files in) or collect (may fetch results)",
                ),
            }
        }
        parties.insert(slug, party);
    }
    Some(parties)
}

fn unknown_institution(desk: &mut Desk<'_>, key: &Key, name: &str) {
    desk.wrong(
        key,
        format!("unknown institution {name:?}"),
        format!("correct the name, or describe it in institutions/{name}.yaml"),
    );
}

fn flow(
    desk: &mut Desk<'_>,
    known: &Known,
    parties: &BTreeMap<Slug, Party>,
    key: &Key,
    raw: &raw::Flow,
) -> Option<Flow> {
    let name = desk.slug(&key.at("flow"), &raw.flow);
    let from = members(desk, parties, &key.at("from"), &raw.from, ("drop", |party| party.may_drop));
    let to = members(desk, parties, &key.at("to"), &raw.to, ("collect", |party| party.may_collect));
    let accept = accept(desk, &key.at("accept"), &raw.accept);
    let job = match &raw.job {
        raw::Job::Relay => Some(Job::Relay),
        raw::Job::Query(raw) => {
            refuse_unencryptable(desk, known, key, to.as_deref().unwrap_or_default());
            query(desk, known, &key.at("job").at("query"), raw).map(Job::Query)
        }
    };
    Some(Flow { name: name?, from: from?, accept: accept?, job: job?, to: to? })
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

fn accept(desk: &mut Desk<'_>, key: &Key, raw: &raw::Accept) -> Option<Accept> {
    let list = key.at("names");
    if !desk.at_most(&list, raw.names.len(), PATTERNS_MAX) {
        return None;
    }
    let mut names = Vec::new();
    for (index, text) in raw.names.iter().enumerate() {
        match pattern(text) {
            Ok(matcher) => names.push(matcher),
            Err(problem) => {
                let problem = format!("{text:?} is not a pattern for names: {problem}");
                desk.wrong(&list.item(index), problem, "write it as in \"*.csv.age\", with * and ?");
            }
        }
    }
    let max_size = desk.size(&key.at("max-size"), &raw.max_size, 1..=SIZE_MAX);
    let collision = collision(desk, &key.at("collision"), raw.collision.as_deref());
    let unasked = unasked(desk, &key.at("unasked"), raw.unasked.as_deref());
    Some(Accept {
        names,
        max_size: max_size?,
        armored: raw.armored,
        collision: collision?,
        unasked: unasked?,
    })
}

fn collision(desk: &mut Desk<'_>, key: &Key, raw: Option<&str>) -> Option<Collision> {
    match raw {
        None => Some(Collision::default()),
        Some("reject") => Some(Collision::Reject),
        Some("version") => Some(Collision::Version),
        Some(text) => {
            let remedy = "write reject (the second file is refused) or version (it gets a name of its own)";
            desk.wrong(key, format!("{text:?} is no rule for names that are in use"), remedy);
            None
        }
    }
}

fn unasked(desk: &mut Desk<'_>, key: &Key, raw: Option<&str>) -> Option<Unasked> {
    match raw {
        None | Some("accept") => Some(Unasked::Accept),
        Some("refuse") => Some(Unasked::Refuse),
        Some(text) => {
            let remedy = "write accept (the form decides, the job side finds out) or refuse (the sender tries again later)";
            desk.wrong(key, format!("{text:?} is not a choice"), remedy);
            None
        }
    }
}

fn pattern(text: &str) -> Result<GlobMatcher, String> {
    if text.is_empty() || text.len() > PATTERN_BYTES_MAX || text.contains('/') {
        return Err("1 to 255 bytes without / are expected".to_owned());
    }
    // An alternative of alternatives multiplies into an automaton of any size.
    if text.matches('{').count() > 4 {
        return Err("at most four alternatives in braces are expected".to_owned());
    }
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.kind().to_string())
}

fn query(desk: &mut Desk<'_>, known: &Known, key: &Key, raw: &raw::Query) -> Option<Query> {
    let database = desk.slug(&key.at("database"), &raw.database);
    if known.databases.as_ref().is_some_and(|databases| !databases.contains(&raw.database)) {
        let problem = format!("unknown database {:?}", raw.database);
        desk.wrong(&key.at("database"), problem, "correct the name, or add it to databases in dropzone.yaml");
    }
    if !known.has_identity {
        let remedy = "name the zone's identity under identities in dropzone.yaml";
        desk.wrong(key, "needs to decrypt, and the zone has no age identity", remedy);
    }
    if raw.sql.len() > SQL_BYTES_MAX {
        desk.wrong(
            &key.at("sql"),
            "is longer than 64 KiB",
            "put a view into the database and select from it",
        );
    } else if let Err(problem) = is_one_query(&raw.sql) {
        desk.wrong(&key.at("sql"), problem, "write one SELECT, or one WITH … SELECT");
    }
    if let Some(columns) = &raw.columns {
        columns_make_sense(desk, &key.at("columns"), columns);
    }
    Some(Query { database: database?, sql: raw.sql.trim().to_owned(), columns: raw.columns.clone() })
}

fn columns_make_sense(desk: &mut Desk<'_>, list: &Key, columns: &[String]) {
    if !desk.at_most(list, columns.len(), COLUMNS_MAX) {
        return;
    }
    if columns.is_empty() {
        let remedy = "name the agreed columns, or remove the key to leave them to the query";
        desk.wrong(list, "is empty: no result could have no columns", remedy);
    }
    let mut seen = BTreeSet::new();
    for (index, column) in columns.iter().enumerate() {
        if desk.line(&list.item(index), column).is_some() && !seen.insert(column) {
            desk.wrong(&list.item(index), format!("{column:?} is there twice"), "keep one of them");
        }
    }
}

/// A result is encrypted to its receiver; a relayed file is encrypted already.
fn refuse_unencryptable(desk: &mut Desk<'_>, known: &Known, key: &Key, to: &[Slug]) {
    for (index, receiver) in to.iter().enumerate() {
        let can_receive =
            known.institutions.as_ref().and_then(|known| known.get(receiver).copied().flatten());
        if can_receive == Some(false) {
            desk.wrong(
                &key.at("to").item(index),
                format!("{receiver} has no recipients, so no result can be encrypted to it"),
                format!("add its age recipient to institutions/{receiver}.yaml"),
            );
        }
    }
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

fn idle_parties(desk: &mut Desk<'_>, parties: &BTreeMap<Slug, Party>, flows: &[raw::Flow]) {
    let named = |list: fn(&raw::Flow) -> &Vec<String>, party: &Slug| {
        flows.iter().any(|flow| list(flow).iter().any(|name| name == party.as_str()))
    };
    for (name, party) in parties {
        if party.may_drop && !named(|flow| &flow.from, name) {
            desk.note(format!("{name} may drop, but no flow takes what it drops: every upload is refused"));
        }
        if party.may_collect && !named(|flow| &flow.to, name) {
            desk.note(format!("{name} may collect, but no flow delivers to it"));
        }
    }
}

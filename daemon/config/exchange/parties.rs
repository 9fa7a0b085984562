//! Checks `parties` of an exchange: who may drop and collect, which of their people, and whose are the files that are handed
//! in on this machine.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::Key;
use super::super::raw;
use super::super::values::Desk;
use super::{Known, PARTIES_MAX};
use crate::policy::agreement::{Circle, Party};
use crate::policy::path::Slug;

const PEOPLE_MAX: usize = 1_000;

/// Who takes part, and how.
#[derive(Debug, Default)]
pub struct Parties {
    /// Each institution's part.
    pub parts: BTreeMap<Slug, Party>,
    /// Which of its people.
    pub circles: BTreeMap<Slug, Circle>,
    /// Whose files are handed in on this machine.
    pub handoff: Option<Slug>,
}

/// The parties that an exchange names.
pub fn parties(desk: &mut Desk<'_>, known: &Known, raw: &raw::Mapping<raw::Party>) -> Option<Parties> {
    let list = Key::root().at("parties");
    if !desk.at_most(&list, raw.0.len(), PARTIES_MAX) {
        return None;
    }
    if raw.0.is_empty() {
        desk.wrong(&list, "is empty: nobody takes part", "name the institutions that take part");
    }
    let mut parties = Parties::default();
    for (name, raw) in &raw.0 {
        let key = list.at(name);
        let Some(slug) = desk.slug(&key, name) else { continue };
        if known.institutions.as_ref().is_some_and(|known| !known.contains_key(&slug)) {
            unknown_institution(desk, &key, name);
        }
        parties.parts.insert(slug.clone(), part(desk, &key, &raw.may));
        if let Some(circle) = raw.people.as_ref().and_then(|raw| circle(desk, &key.at("people"), raw)) {
            parties.circles.insert(slug.clone(), circle);
        }
        if raw.handoff && parties.handoff.replace(slug).is_some() {
            desk.wrong(
                &key.at("handoff"),
                "is set for two parties",
                "leave it at the one whose files are handed in on this machine",
            );
        }
    }
    Some(parties)
}

fn part(desk: &mut Desk<'_>, key: &Key, parts: &[String]) -> Party {
    if parts.is_empty() {
        desk.wrong(key, "may do nothing", "write [drop], [collect] or both, or remove the party");
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
    party
}

fn unknown_institution(desk: &mut Desk<'_>, key: &Key, name: &str) {
    desk.wrong(
        key,
        format!("unknown institution {name:?}"),
        format!("correct the name, or describe it in institutions/{name}.yaml"),
    );
}

fn circle(desk: &mut Desk<'_>, key: &Key, raw: &raw::Circle) -> Option<Circle> {
    let at_most = match raw.at_most {
        Some(number) => Some(desk.count(&key.at("at-most"), number, 1..=PEOPLE_MAX as u64)?),
        None => None,
    };
    let mut lines = |name: &str, raw: Option<&Vec<String>>| match raw {
        None => Some(None),
        Some(raw) => lines(desk, &key.at(name), raw).map(Some),
    };
    let only = lines("only", raw.only.as_ref());
    let functions = lines("functions", raw.functions.as_ref());
    let at_most = at_most.and_then(|number| usize::try_from(number).ok());
    Some(Circle { at_most, only: only?, functions: functions? })
}

fn lines(desk: &mut Desk<'_>, list: &Key, raw: &[String]) -> Option<BTreeSet<String>> {
    if !desk.at_most(list, raw.len(), PEOPLE_MAX) {
        return None;
    }
    if raw.is_empty() {
        desk.wrong(list, "is empty: nobody would take part", "name somebody, or remove the key");
    }
    raw.iter().enumerate().map(|(index, text)| desk.line(&list.item(index), text)).collect()
}

//! Checks `tables` of an exchange.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::Key;
use super::super::raw;
use super::super::values::Desk;
use super::COLUMNS_MAX;
use crate::policy::rules::{Alphabet, Column, Condition, Format, Kind, TableRules};

const TABLES_MAX: usize = 100;
const VALUES_MAX: usize = 1_000;
const TEXT_MAX: u64 = 100_000;
const TEXT_DEFAULT: u64 = 200;

/// The tables of an exchange by name. One that is wrong is missing, which has been told.
pub fn tables(desk: &mut Desk<'_>, raw: &raw::Mapping<raw::Table>) -> BTreeMap<String, TableRules> {
    let list = Key::root().at("tables");
    if !desk.at_most(&list, raw.0.len(), TABLES_MAX) {
        return BTreeMap::new();
    }
    let table = |(name, raw): &(String, raw::Table)| {
        let key = list.at(name);
        let slug = desk.slug(&key, name);
        let rules = table(desk, &key, name, raw);
        Some((slug?.to_string(), rules?))
    };
    raw.0.iter().filter_map(table).collect()
}

fn table(desk: &mut Desk<'_>, key: &Key, name: &str, raw: &raw::Table) -> Option<TableRules> {
    let list = key.at("columns");
    if !desk.at_most(&list, raw.columns.len(), COLUMNS_MAX) {
        return None;
    }
    if raw.columns.is_empty() {
        desk.wrong(&list, "is empty", "name the columns that the agreement allows");
    }
    let mut seen = BTreeSet::new();
    let mut columns = Vec::new();
    for (index, raw) in raw.columns.iter().enumerate() {
        let key = list.item(index);
        // The reader of lists does not tell case apart either.
        if !seen.insert(raw.column.to_lowercase()) {
            desk.wrong(&key.at("column"), format!("{:?} is there twice", raw.column), "keep one of them");
        }
        columns.push(column(desk, &key, raw));
    }
    let names: BTreeSet<&str> = raw.columns.iter().map(|column| column.column.as_str()).collect();
    let conditions = conditions(desk, &key.at("rows"), &names, &raw.rows);
    let formats = formats(desk, &key.at("formats"), &raw.formats);
    let forbids = forbids(desk, &key.at("forbid"), &raw.forbid);
    Some(TableRules {
        name: name.to_owned(),
        formats: formats?,
        columns: columns.into_iter().collect::<Option<_>>()?,
        is_template: raw.template,
        conditions: conditions?,
        forbids_insz: forbids?,
    })
}

fn column(desk: &mut Desk<'_>, key: &Key, raw: &raw::Column) -> Option<Column> {
    let name = desk.line(&key.at("column"), &raw.column);
    let misplaced = |desk: &mut Desk<'_>, name: &str, is_there: bool, kind: &str| {
        if is_there {
            let problem = format!("says nothing about a column of type {}", raw.kind);
            desk.wrong(&key.at(name), problem, format!("remove it, or make the type {kind}"));
        }
    };
    if raw.kind != "text" {
        misplaced(desk, "at-most", raw.at_most.is_some(), "text");
        misplaced(desk, "alphabet", raw.alphabet.is_some(), "text");
    }
    if raw.kind != "one-of" {
        misplaced(desk, "values", raw.values.is_some(), "one-of");
    }
    let kind = match raw.kind.as_str() {
        "insz" => Some(Kind::Insz),
        "date" => Some(Kind::Date),
        "yes-no" => Some(Kind::YesNo),
        "text" => text(desk, key, raw),
        "one-of" => {
            values(desk, &key.at("values"), raw.values.as_deref().unwrap_or_default()).map(Kind::OneOf)
        }
        other => {
            let remedy = "write insz, date, text, one-of or yes-no";
            desk.wrong(&key.at("type"), format!("{other:?} is not a type of column"), remedy);
            None
        }
    };
    Some(Column { name: name?, kind: kind?, is_required: raw.required })
}

fn text(desk: &mut Desk<'_>, key: &Key, raw: &raw::Column) -> Option<Kind> {
    let at_most = desk.count(&key.at("at-most"), raw.at_most.unwrap_or(TEXT_DEFAULT), 1..=TEXT_MAX);
    let alphabet = match raw.alphabet.as_deref() {
        None | Some("line") => Some(Alphabet::Line),
        Some("any") => Some(Alphabet::Any),
        Some("letters") => Some(Alphabet::Letters),
        Some("digits") => Some(Alphabet::Digits),
        Some(other) => {
            let remedy = "write any, line, letters or digits";
            desk.wrong(&key.at("alphabet"), format!("{other:?} is not an alphabet"), remedy);
            None
        }
    };
    Some(Kind::Text { at_most: usize::try_from(at_most?).ok()?, alphabet: alphabet? })
}

fn values(desk: &mut Desk<'_>, list: &Key, raw: &[String]) -> Option<Vec<String>> {
    if !desk.at_most(list, raw.len(), VALUES_MAX) {
        return None;
    }
    if raw.is_empty() {
        desk.wrong(list, "is empty", "name the values that may stand there");
        return None;
    }
    raw.iter().enumerate().map(|(index, text)| desk.line(&list.item(index), text)).collect()
}

fn conditions(
    desk: &mut Desk<'_>,
    list: &Key,
    names: &BTreeSet<&str>,
    raw: &[raw::Condition],
) -> Option<Vec<Condition>> {
    if !desk.at_most(list, raw.len(), COLUMNS_MAX) {
        return None;
    }
    let mut conditions = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let key = list.item(index);
        if !names.contains(raw.column.as_str()) {
            let problem = format!("{:?} is not a column of this table", raw.column);
            desk.wrong(&key.at("column"), problem, "name one that stands under columns");
        }
        let is = values(desk, &key.at("is"), &raw.is)?;
        conditions.push(Condition { column: raw.column.clone(), is });
    }
    Some(conditions)
}

fn formats(desk: &mut Desk<'_>, list: &Key, raw: &[String]) -> Option<Vec<Format>> {
    if raw.is_empty() {
        return Some(vec![Format::Csv]);
    }
    raw.iter().enumerate().map(|(index, text)| format(desk, &list.item(index), text)).collect()
}

/// How a list is written down.
pub fn format(desk: &mut Desk<'_>, key: &Key, text: &str) -> Option<Format> {
    match text {
        "csv" => Some(Format::Csv),
        "xlsx" => Some(Format::Xlsx),
        _ => {
            desk.wrong(key, format!("{text:?} is not a format"), "write csv or xlsx");
            None
        }
    }
}

fn forbids(desk: &mut Desk<'_>, list: &Key, raw: &[String]) -> Option<bool> {
    for (index, text) in raw.iter().enumerate() {
        if text != "insz" {
            desk.wrong(&list.item(index), format!("{text:?} cannot be forbidden"), "write insz");
            return None;
        }
    }
    Some(!raw.is_empty())
}

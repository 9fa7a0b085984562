//! Checks `job` of a flow.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::error::Key;
use super::super::raw;
use super::super::sql::is_one_query;
use super::super::values::Desk;
use super::{COLUMNS_MAX, Known};
use crate::policy::agreement::{Command, Job, Query};

const SQL_BYTES_MAX: usize = 64 << 10;
const WORDS_MAX: usize = 100;
const WORD_BYTES_MAX: usize = 4096;

/// What is done with an arrival.
pub fn job(desk: &mut Desk<'_>, known: &Known, key: &Key, raw: &raw::Job) -> Option<Job> {
    if !matches!(raw, raw::Job::Relay) && !known.has_identity {
        let remedy = "name the zone's identity under identities in dropzone.yaml";
        desk.wrong(key, "needs to decrypt, and the zone has no age identity", remedy);
    }
    match raw {
        raw::Job::Relay => Some(Job::Relay),
        raw::Job::Shape => Some(Job::Shape),
        raw::Job::Query(raw) => query(desk, known, &key.at("query"), raw).map(Job::Query),
        raw::Job::Command(raw) => command(desk, &key.at("command"), raw).map(Job::Command),
    }
}

fn command(desk: &mut Desk<'_>, key: &Key, raw: &raw::Command) -> Option<Command> {
    let argv = words(desk, &key.at("argv"), &raw.argv);
    if raw.argv.first().is_none_or(|program| !program.starts_with('/')) {
        let remedy = "begin with the program's absolute path: no shell and no search path stands between";
        desk.wrong(&key.at("argv"), "does not begin with an absolute path", remedy);
        return None;
    }
    let list = key.at("reads");
    for (index, path) in raw.reads.iter().enumerate() {
        if !path.starts_with('/') {
            desk.wrong(
                &list.item(index),
                format!("{path:?} is not an absolute path"),
                "write it with its beginning /",
            );
        }
    }
    let reads = words(desk, &list, &raw.reads)?.into_iter().map(PathBuf::from).collect();
    if let Some(columns) = &raw.columns {
        columns_make_sense(desk, &key.at("columns"), columns);
    }
    Some(Command { argv: argv?, network: raw.network, reads, columns: raw.columns.clone() })
}

/// A program and its arguments, or paths: no NUL, and no more than anyone writes.
fn words(desk: &mut Desk<'_>, list: &Key, raw: &[String]) -> Option<Vec<String>> {
    if !desk.at_most(list, raw.len(), WORDS_MAX) {
        return None;
    }
    for (index, word) in raw.iter().enumerate() {
        if word.len() > WORD_BYTES_MAX || word.contains('\0') {
            desk.wrong(&list.item(index), "is longer than 4096 bytes, or has a NUL in it", "shorten it");
            return None;
        }
    }
    Some(raw.to_vec())
}

fn query(desk: &mut Desk<'_>, known: &Known, key: &Key, raw: &raw::Query) -> Option<Query> {
    let database = desk.slug(&key.at("database"), &raw.database);
    if known.databases.as_ref().is_some_and(|databases| !databases.contains(&raw.database)) {
        let problem = format!("unknown database {:?}", raw.database);
        desk.wrong(&key.at("database"), problem, "correct the name, or add it to databases in dropzone.yaml");
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

/// Names of columns, each once.
pub fn columns_make_sense(desk: &mut Desk<'_>, list: &Key, columns: &[String]) {
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

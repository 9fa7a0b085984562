//! Turns the documents of a zone into checked values, and asks what no single file can answer: whose key a key is, and
//! who is named but not there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::{Findings, Key};
use super::exchange::{Known, exchange};
use super::institution::institution;
use super::load::Document;
use super::machine::machine;
use super::retention::rules;
use super::values::Desk;
use super::{Algorithms, Config, Files, raw};
use crate::policy::account::Institution;
use crate::policy::path::Slug;

const MAIN: &str = "dropzone.yaml";
/// What people sign with where the strict profile is in force.
const STRICT_KEY: &str = "ssh-ed25519";

/// All that was read; none for what could not be read or understood.
#[derive(Debug)]
pub struct Documents {
    /// `dropzone.yaml`.
    pub machine: Option<raw::Machine>,
    /// `institutions/*.yaml`.
    pub institutions: Option<Vec<Document<raw::Institution>>>,
    /// `exchanges/*.yaml`.
    pub exchanges: Option<Vec<Document<raw::Exchange>>>,
}

/// The zone that the documents describe, on a machine that calls itself `host`. What is wrong goes to the findings; the
/// zone is to be used only if there is nothing wrong.
pub fn zone(directory: &Path, host: &str, documents: &Documents, findings: &mut Findings) -> Option<Config> {
    let machine = documents
        .machine
        .as_ref()
        .and_then(|raw| machine(&mut Desk { file: MAIN, findings: &mut *findings }, directory, host, raw));
    let mut institutions = BTreeMap::new();
    for document in documents.institutions.iter().flatten() {
        let mut desk = Desk { file: &document.file, findings: &mut *findings };
        if let Some(found) = institution(&mut desk, document) {
            institutions.insert(found.name.clone(), found);
        }
    }
    shared_keys(&institutions, findings);
    if machine.as_ref().is_some_and(|machine| machine.algorithms == Algorithms::Strict) {
        keys_outside_strict(&institutions, findings);
    }
    let known = known(documents);
    let mut exchanges = BTreeMap::new();
    for document in documents.exchanges.iter().flatten() {
        let mut desk = Desk { file: &document.file, findings: &mut *findings };
        if let Some(found) = exchange(&mut desk, &known, document) {
            exchanges.insert(found.name.clone(), found);
        }
    }
    super::people::too_many(&institutions, &exchanges, findings);
    let described = documents.exchanges.as_deref().unwrap_or_default();
    let retention =
        documents.machine.as_ref().and_then(|raw| rules(MAIN, &raw.retention, described, findings));
    Some(Config {
        directory: directory.to_owned(),
        machine: machine?,
        institutions,
        exchanges,
        retention: retention?,
        files: Files::new(),
        main: String::new(),
    })
}

fn known(documents: &Documents) -> Known {
    let can_receive = |raw: &raw::Institution| !raw.recipients.is_empty();
    Known {
        institutions: documents.institutions.as_ref().map(|documents| {
            let known = |document: &Document<raw::Institution>| {
                (document.stem.clone(), document.raw.as_ref().map(can_receive))
            };
            documents.iter().map(known).collect()
        }),
        databases: documents
            .machine
            .as_ref()
            .map(|machine| machine.databases.0.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()),
        has_identity: documents.machine.as_ref().is_none_or(|machine| !machine.identities.is_empty()),
    }
}

/// A key that can never log in would look like access that somebody has.
fn keys_outside_strict(institutions: &BTreeMap<Slug, Institution>, findings: &mut Findings) {
    for (name, institution) in institutions {
        for (at, person) in institution.people.iter().enumerate() {
            for (index, key) in person.keys.iter().enumerate() {
                if key.algorithm != STRICT_KEY {
                    findings.wrong(
                        &format!("institutions/{name}.yaml"),
                        &Key::root().at("people").item(at).at("keys").item(index),
                        format!(
                            "{} is of type {}, and `algorithms: strict` takes {STRICT_KEY} only",
                            key.fingerprint, key.algorithm
                        ),
                        "have the person make one with `ssh-keygen -t ed25519`, or set `algorithms: compat`",
                    );
                }
            }
        }
    }
}

/// A key proves who somebody is, so it belongs to one person.
fn shared_keys(institutions: &BTreeMap<Slug, Institution>, findings: &mut Findings) {
    let mut owners: BTreeMap<&str, (&Slug, &str)> = BTreeMap::new();
    for (name, institution) in institutions {
        for (at, person) in institution.people.iter().enumerate() {
            for (index, key) in person.keys.iter().enumerate() {
                let place = Key::root().at("people").item(at).at("keys").item(index);
                match owners.get(key.fingerprint.as_str()) {
                    Some((institution, label)) => findings.wrong(
                        &format!("institutions/{name}.yaml"),
                        &place,
                        format!("{} is already the key of {label} of {institution}", key.fingerprint),
                        "have each person make a key of their own, one for each institution",
                    ),
                    None => {
                        owners.insert(&key.fingerprint, (name, &person.label));
                    }
                }
            }
        }
    }
}

//! The shape of an exchange file.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Mapping;

/// `exchanges/*.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exchange {
    pub exchange: String,
    pub agreement: Agreement,
    pub parties: Mapping<Party>,
    #[serde(default)]
    pub collected: Collected,
    #[serde(default)]
    pub tables: Mapping<Table>,
    pub flows: Vec<Flow>,
    #[serde(default)]
    pub retention: Kept,
    #[serde(default)]
    pub legal_hold: bool,
}

/// `retention` of an exchange.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Kept {
    pub partials: Option<String>,
    pub done: Option<String>,
    pub refused: Option<String>,
    pub results: Option<String>,
    pub receipts: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Agreement {
    pub reference: String,
    pub title: String,
    pub legal_basis: String,
    pub from: String,
    pub until: Option<String>,
    pub notice: Option<String>,
    pub contact: Option<String>,
    pub incidents: Option<ReportBy>,
    pub after_end: Option<String>,
    pub parties_keep: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReportBy {
    pub within: String,
    pub to: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Collected {
    pub by: Option<String>,
    pub grace: Option<String>,
}

/// Parts, alone or with more about the party.
#[derive(Debug)]
pub struct Party {
    pub may: Vec<String>,
    pub people: Option<Circle>,
    pub handoff: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Circle {
    pub at_most: Option<u64>,
    pub only: Option<Vec<String>>,
    pub functions: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    #[serde(default)]
    pub formats: Vec<String>,
    #[serde(default)]
    pub template: bool,
    pub columns: Vec<Column>,
    #[serde(default)]
    pub rows: Vec<Condition>,
    #[serde(default)]
    pub forbid: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Column {
    pub column: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub required: bool,
    pub at_most: Option<u64>,
    pub alphabet: Option<String>,
    pub values: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Condition {
    pub column: String,
    pub is: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rhythm {
    pub period: Option<String>,
    pub at_most: Option<u64>,
    #[serde(default)]
    pub expected: bool,
    pub grace: Option<String>,
    pub once_per: Option<KeyOf>,
}

/// `name`, or a mapping with `columns`.
#[derive(Debug)]
pub enum KeyOf {
    Name,
    Columns(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Deliver {
    pub to: Option<Vec<String>>,
    pub split: Option<Split>,
    pub columns: Option<Vec<OutColumn>>,
    pub format: Option<String>,
    pub lock: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Split {
    pub by: String,
    pub among: Option<Mapping<String>>,
    pub people_of: Option<Vec<String>>,
}

/// A column's name, alone or with what becomes of it.
#[derive(Debug)]
pub struct OutColumn {
    pub column: String,
    pub name: Option<String>,
    pub pseudonym: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Flow {
    pub flow: String,
    pub from: Vec<String>,
    pub accept: Accept,
    pub rhythm: Option<Rhythm>,
    pub table: Option<String>,
    pub faults: Option<String>,
    pub job: Job,
    pub result: Option<String>,
    pub to: Option<Vec<String>>,
    pub deliver: Option<Vec<Deliver>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Accept {
    #[serde(default)]
    pub names: Vec<String>,
    pub max_size: String,
    #[serde(default)]
    pub armored: bool,
    pub collision: Option<String>,
    pub unasked: Option<String>,
}

/// `relay`, `shape`, or a mapping with the one key `query` or `command`.
#[derive(Debug)]
pub enum Job {
    Relay,
    Shape,
    Query(Query),
    Command(Command),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Query {
    pub database: String,
    pub sql: String,
    pub columns: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Command {
    pub argv: Vec<String>,
    #[serde(default)]
    pub network: bool,
    #[serde(default)]
    pub reads: Vec<String>,
    pub columns: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JobVisitor)
    }
}

struct JobVisitor;

impl<'de> Visitor<'de> for JobVisitor {
    type Value = Job;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`relay`, `shape`, or a mapping with `query` or `command`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Job, E> {
        match text {
            "relay" => Ok(Job::Relay),
            "shape" => Ok(Job::Shape),
            _ => Err(E::custom(
                "unknown job, expected `relay`, `shape`, or a mapping with `query` or `command`",
            )),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Job, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Jobs {
            query: Option<Query>,
            command: Option<Command>,
        }
        match Jobs::deserialize(MapAccessDeserializer::new(map))? {
            Jobs { query: Some(query), command: None } => Ok(Job::Query(query)),
            Jobs { query: None, command: Some(command) } => Ok(Job::Command(command)),
            _ => Err(A::Error::custom("expected one of `query` and `command`")),
        }
    }
}

impl<'de> Deserialize<'de> for Party {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartyVisitor)
    }
}

struct PartyVisitor;

impl<'de> Visitor<'de> for PartyVisitor {
    type Value = Party;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list as in [drop, collect], or a mapping with may, people and handoff")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Party, A::Error> {
        let may = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
        Ok(Party { may, people: None, handoff: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Party, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct More {
            may: Vec<String>,
            people: Option<Circle>,
            #[serde(default)]
            handoff: bool,
        }
        let More { may, people, handoff } = More::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Party { may, people, handoff })
    }
}

impl<'de> Deserialize<'de> for KeyOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyOfVisitor)
    }
}

struct KeyOfVisitor;

impl<'de> Visitor<'de> for KeyOfVisitor {
    type Value = KeyOf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`name`, or a mapping with `columns`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<KeyOf, E> {
        match text {
            "name" => Ok(KeyOf::Name),
            _ => Err(E::custom("unknown key, expected `name` or a mapping with `columns`")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeyOf, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Of {
            columns: Vec<String>,
        }
        Of::deserialize(MapAccessDeserializer::new(map)).map(|Of { columns }| KeyOf::Columns(columns))
    }
}

impl<'de> Deserialize<'de> for OutColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OutColumnVisitor)
    }
}

struct OutColumnVisitor;

impl<'de> Visitor<'de> for OutColumnVisitor {
    type Value = OutColumn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column, or a mapping with column, as and pseudonym")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OutColumn, E> {
        Ok(OutColumn { column: text.to_owned(), name: None, pseudonym: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OutColumn, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct More {
            column: String,
            #[serde(rename = "as")]
            name: Option<String>,
            #[serde(default)]
            pseudonym: bool,
        }
        let More { column, name, pseudonym } = More::deserialize(MapAccessDeserializer::new(map))?;
        Ok(OutColumn { column, name, pseudonym })
    }
}

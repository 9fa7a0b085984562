//! The YAML's shape: which keys there are, and what kind of value each holds. Unknown keys and repeated keys are refused
//! here; whether a value makes sense is `check`'s question.

mod exchange;

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

pub use self::exchange::{
    Accept, Agreement, Circle, Collected, Column, Command, Condition, Deliver, Exchange, Flow, Job, Kept,
    KeyOf, OutColumn, Party, Query, ReportBy, Rhythm, Split, Table,
};

/// `dropzone.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machine {
    pub node: Option<String>,
    pub listen: Vec<String>,
    pub host_key: String,
    pub identities: Vec<String>,
    pub signing_key: String,
    pub spool: String,
    pub log: Log,
    pub metrics: Option<Metrics>,
    #[serde(default)]
    pub sockets: Sockets,
    #[serde(default)]
    pub databases: Mapping<Database>,
    #[serde(default)]
    pub work: Work,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub algorithms: Algorithms,
    #[serde(default)]
    pub penalties: Penalties,
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    #[serde(default)]
    pub retention: Retention,
    #[serde(default)]
    pub passphrases: Program,
    #[serde(default)]
    pub incidents: Program,
}

/// A program that is told something.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Program {
    #[serde(default)]
    pub program: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithms {
    #[default]
    Compat,
    Strict,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    pub directory: String,
    pub keep_days: Option<u64>,
    #[serde(default)]
    pub heads_to: HeadsTo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct HeadsTo {
    pub file: Option<String>,
    pub receipts: bool,
    pub syslog: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    pub serve: String,
    pub work: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sockets {
    pub serve: Option<String>,
    pub work: Option<String>,
    pub work_control: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Database {
    pub sqlite: Option<String>,
    pub postgres: Option<Postgres>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Postgres {
    pub host: String,
    pub port: Option<u16>,
    pub database: String,
    pub user: String,
    pub password: Option<String>,
    pub tls: Option<String>,
    pub ca: Option<String>,
    pub statement_timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Work {
    pub scan_every: Option<String>,
    pub jobs: Option<u64>,
    pub tries: Option<u64>,
    pub job_time: Option<String>,
    pub result_size: Option<String>,
    pub job_memory: Option<String>,
    pub lease: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    pub login_grace: Option<String>,
    pub connections: Option<u64>,
    pub auth_attempts: Option<u64>,
    pub key_probes: Option<u64>,
    pub channels: Option<u64>,
    pub handles: Option<u64>,
    pub outstanding_requests: Option<u64>,
    pub unwritten_bytes: Option<String>,
    pub idle: Option<String>,
    pub partials: Option<u64>,
    pub spool_reserve: Option<String>,
    pub refusals_per_session: Option<u64>,
    pub unauthenticated: Option<String>,
    pub unauthenticated_per_source: Option<u64>,
    pub sessions_per_source: Option<u64>,
    pub sessions_per_institution: Option<u64>,
    pub unwritten_bytes_in_all: Option<String>,
    pub keepalive: Option<String>,
    pub keepalive_tries: Option<u64>,
    pub rekey_bytes: Option<String>,
    pub rekey_after: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Penalties {
    pub enabled: Option<bool>,
    pub crash: Option<String>,
    pub authentication_failure: Option<String>,
    pub unknown_user: Option<String>,
    pub no_authentication: Option<String>,
    pub grace_exceeded: Option<String>,
    pub min: Option<String>,
    pub max: Option<String>,
    #[serde(default)]
    pub exempt: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProxyProtocol {
    pub from: Vec<String>,
}

/// `institutions/*.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Institution {
    pub institution: String,
    pub title: String,
    pub contact: Option<String>,
    pub phone: Option<String>,
    pub people: Vec<Person>,
    #[serde(default)]
    pub recipients: Vec<String>,
    #[serde(default)]
    pub networks: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Person {
    pub label: String,
    pub function: Option<String>,
    pub keys: Vec<PersonKey>,
    #[serde(default)]
    pub recipients: Vec<String>,
}

/// A public key line, alone or with dates.
#[derive(Debug)]
pub struct PersonKey {
    pub key: String,
    pub not_before: Option<String>,
    pub not_after: Option<String>,
}

/// `retention` of the machine.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Retention {
    pub partials: Option<String>,
    pub done: Option<String>,
    pub refused: Option<String>,
    pub results: Option<String>,
    pub receipts: Option<String>,
    pub digests: Option<String>,
}

/// A mapping whose keys the operator chooses, in the order of the file. A repeated key is an error, where a map type would
/// silently keep the last.
#[derive(Debug)]
pub struct Mapping<T>(pub Vec<(String, T)>);

impl<T> Default for Mapping<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Mapping<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MappingVisitor(PhantomData))
    }
}

/// More entries than anyone writes; also bounds the search for a repeated key.
const ENTRIES_MAX: usize = 1_000;

struct MappingVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MappingVisitor<T> {
    type Value = Mapping<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries: Vec<(String, T)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.iter().any(|(earlier, _)| *earlier == key) {
                return Err(A::Error::custom(format!("duplicate entry {key:?}")));
            }
            if entries.len() == ENTRIES_MAX {
                return Err(A::Error::custom(format!("more than {ENTRIES_MAX} entries")));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Mapping(entries))
    }
}

impl<'de> Deserialize<'de> for PersonKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PersonKeyVisitor)
    }
}

struct PersonKeyVisitor;

impl<'de> Visitor<'de> for PersonKeyVisitor {
    type Value = PersonKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a public key line, or a mapping with key, not-before and not-after")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PersonKey, E> {
        Ok(PersonKey { key: text.to_owned(), not_before: None, not_after: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PersonKey, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Dated {
            key: String,
            not_before: Option<String>,
            not_after: Option<String>,
        }
        let Dated { key, not_before, not_after } = Dated::deserialize(MapAccessDeserializer::new(map))?;
        Ok(PersonKey { key, not_before, not_after })
    }
}

//! The configuration of a zone: YAML in, checked values out. `raw` is the YAML's shape, `check` turns it into what stands
//! here, `error` says what is wrong, where, and what to do. Nobody else knows serde_yaml.

mod check;
mod databases;
mod error;
mod exchange;
mod institution;
mod keys;
mod limits;
mod load;
mod locate;
mod machine;
mod people;
mod raw;
mod reload;
mod retention;
mod sql;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use self::error::{Cause, ConfigError, Key, Note};
pub use self::load::{FILE_LIMIT, FILES_LIMIT, Loaded, check_texts, load, load_with_notes, worst};
pub use self::reload::{Files, Successor, digest, successor, taken_over, turned_down};
use crate::policy::account::{Institution, Person, Who};
use crate::policy::admission::{Bounds, EarlyDrop};
use crate::policy::agreement::{Exchange, Standing};
use crate::policy::job::JobLimits;
use crate::policy::path::Slug;
use crate::policy::penalties::PenaltyRules;
use crate::policy::retention::Rules;

/// A whole zone, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that `dropzone.yaml` lies in.
    pub directory: PathBuf,
    /// `dropzone.yaml`.
    pub machine: Machine,
    /// `institutions/*.yaml`.
    pub institutions: BTreeMap<Slug, Institution>,
    /// `exchanges/*.yaml`.
    pub exchanges: BTreeMap<Slug, Exchange>,
    /// How long things are kept.
    pub retention: Rules,
    /// What it was read from.
    pub files: Files,
    /// The text of `dropzone.yaml`.
    pub main: String,
}

/// What belongs to the machine and not to any agreement. Paths are absolute.
#[derive(Debug, Clone)]
pub struct Machine {
    /// This node's name in log lines and log file names.
    pub node: Slug,
    /// Where `serve` listens for SSH.
    pub listen: Vec<SocketAddr>,
    /// The SSH host key (OpenSSH format, ed25519, mode 0600).
    pub host_key: PathBuf,
    /// The zone's age identities (mode 0600), which only `work` reads.
    pub identities: Vec<PathBuf>,
    /// The key for log heads and receipts (OpenSSH format, ed25519, mode 0600). Only `work` reads it.
    pub signing_key: PathBuf,
    /// The spool's root: one mount.
    pub spool: PathBuf,
    /// The access log.
    pub log: Log,
    /// Loopback listeners for metrics and health.
    pub metrics: MetricsListen,
    /// Where the processes of this zone reach each other.
    pub sockets: Sockets,
    /// What queries may join with.
    pub databases: BTreeMap<Slug, Database>,
    /// How `work` works.
    pub work: Work,
    /// What one peer may take.
    pub limits: Limits,
    /// Which SSH algorithms are offered and accepted.
    pub algorithms: Algorithms,
    /// Who is refused for a while.
    pub penalties: PenaltyRules,
    /// Peers whose connections begin with a PROXY header, which is believed.
    pub proxies: Vec<IpNet>,
    /// The program that passphrases are handed to, with its arguments; empty: an operator asks for them.
    pub passphrase_program: Vec<String>,
    /// The program that is told of incidents, with its arguments; empty: none.
    pub incident_program: Vec<String>,
}

/// A profile of SSH algorithms. The lists themselves are `serve::algorithms`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithms {
    /// What every client of the last years can do.
    #[default]
    Compat,
    /// The strongest of each kind only, and ed25519 keys only.
    Strict,
}

/// Where and how long the access log is kept.
#[derive(Debug, Clone)]
pub struct Log {
    /// The folder of the daily files.
    pub directory: PathBuf,
    /// Whole days older than this are deleted.
    pub keep_days: u16,
    /// Where heads of the log go beside the log's folder.
    pub heads_to: HeadsTo,
}

/// Second places for heads of the log, so that rewriting history on this host is found out.
#[derive(Debug, Clone, Default)]
pub struct HeadsTo {
    /// A file that every head is appended to.
    pub file: Option<PathBuf>,
    /// Every institution's receipts, once a day.
    pub receipts: bool,
    /// The machine's syslog.
    pub syslog: bool,
}

/// Loopback addresses only.
#[derive(Debug, Clone, Copy)]
pub struct MetricsListen {
    /// `serve`'s.
    pub serve: SocketAddr,
    /// `work`'s.
    pub work: SocketAddr,
}

/// Unix sockets, which each process makes when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// Where `serve` is told what to do.
    pub serve: PathBuf,
    /// Where `work` is asked whether a file is for this zone.
    pub work: PathBuf,
    /// Where `work` is told what to do.
    pub work_control: PathBuf,
}

/// A database that queries may join with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file, opened read-only.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Postgres),
}

/// How a PostgreSQL server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Name or address, or the folder of a Unix socket.
    pub host: String,
    /// TCP port, and part of the socket's name.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The file of its password (mode 0600); none where the server asks for none.
    pub password: Option<PathBuf>,
    /// How the way to it is protected.
    pub tls: PostgresTls,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

/// How the way to a PostgreSQL server is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresTls {
    /// TLS; the server proves its name by a certificate under one of these authorities (PEM).
    Require {
        /// The file of the authorities' certificates.
        ca: PathBuf,
    },
    /// A Unix socket or loopback, without TLS.
    Local,
}

/// How `work` works.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// How often the spool is scanned, beside the events.
    pub scan_every: Duration,
    /// Jobs at a time.
    pub jobs: usize,
    /// Tries before an arrival is held.
    pub tries: u32,
    /// What one job may take.
    pub job: JobLimits,
    /// How long another node's worker may give no sign of life before what it claimed is taken over.
    pub lease: Duration,
}

/// What one peer may take, from LIMITS.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From accept to the end of authentication.
    pub login_grace: Duration,
    /// Connections at a time, authenticated or not.
    pub connections: usize,
    /// Connections at a time that have not logged in.
    pub unauthenticated: EarlyDrop,
    /// Of those, from one source.
    pub unauthenticated_per_source: usize,
    /// Sessions at a time from one source.
    pub sessions_per_source: usize,
    /// Sessions at a time of one institution.
    pub sessions_per_institution: usize,
    /// Rejected authentication requests per connection.
    pub auth_attempts: usize,
    /// Key probes per connection.
    pub key_probes: usize,
    /// Channels per connection.
    pub channels: usize,
    /// SFTP handles per session.
    pub handles: usize,
    /// Outstanding requests per channel.
    pub outstanding_requests: usize,
    /// Bytes held in memory per session until they can go to disk.
    pub unwritten_bytes: usize,
    /// The same over all sessions.
    pub unwritten_bytes_in_all: usize,
    /// Without SFTP progress.
    pub idle: Duration,
    /// Uploads of an institution in an exchange that are not complete.
    pub partials: usize,
    /// Bytes that uploads leave free in the spool, for results, receipts and what others write there.
    pub spool_reserve: u64,
    /// Requests of a session turned down within a minute.
    pub refusals_per_session: usize,
    /// A peer that says nothing is asked for a sign of life this often.
    pub keepalive: Duration,
    /// So many of those in a row may stay unanswered.
    pub keepalive_tries: usize,
    /// Bytes under one set of keys, in either direction.
    pub rekey_bytes: usize,
    /// Time under one set of keys.
    pub rekey_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_grace: Duration::from_secs(15),
            connections: 512,
            unauthenticated: EarlyDrop::default(),
            unauthenticated_per_source: 16,
            sessions_per_source: 64,
            sessions_per_institution: 32,
            auth_attempts: 6,
            key_probes: 10,
            channels: 2,
            handles: 64,
            outstanding_requests: 65_536,
            unwritten_bytes: 8 << 20,
            unwritten_bytes_in_all: 256 << 20,
            idle: Duration::from_secs(300),
            partials: 1_000,
            spool_reserve: 256 << 20,
            refusals_per_session: 1_000,
            keepalive: Duration::from_secs(30),
            keepalive_tries: 3,
            rekey_bytes: 1 << 30,
            rekey_after: Duration::from_secs(3_600),
        }
    }
}

impl Limits {
    /// Those on the number of connections and sessions.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            connections: self.connections,
            unauthenticated: self.unauthenticated,
            unauthenticated_per_source: self.unauthenticated_per_source,
            sessions_per_source: self.sessions_per_source,
            sessions_per_institution: self.sessions_per_institution,
        }
    }
}

impl Config {
    /// The exchanges an institution takes part in.
    pub fn exchanges_of<'a>(&'a self, institution: &'a Slug) -> impl Iterator<Item = &'a Exchange> {
        self.exchanges.values().filter(move |exchange| exchange.parties.contains_key(institution))
    }

    /// The exchanges that a person takes part in.
    pub fn exchanges_for<'a>(&'a self, who: &'a Who) -> impl Iterator<Item = &'a Exchange> {
        let function = self.function_of(who);
        self.exchanges
            .values()
            .filter(move |exchange| exchange.admits(&who.institution, &who.label, function))
    }

    /// Why a person has access, as far as it is said.
    pub fn function_of(&self, who: &Who) -> Option<&str> {
        self.institutions.get(&who.institution)?.person(&who.label)?.function.as_deref()
    }

    /// Whether any agreement that a person of an institution takes part in is in force today (Europe/Brussels).
    pub fn has_open_exchange(&self, institution: &Slug, person: &Person, today: jiff::civil::Date) -> bool {
        self.exchanges
            .values()
            .filter(|exchange| exchange.admits_person(institution, person))
            .any(|exchange| exchange.agreement.standing(today) == Standing::Open)
    }

    /// Every institution with every exchange it takes part in: the folders the spool must have.
    pub fn pairs(&self) -> Vec<(Slug, Slug)> {
        let pairs = |exchange: &Exchange| {
            let name = exchange.name.clone();
            exchange.parties.keys().map(move |party| (party.clone(), name.clone())).collect::<Vec<_>>()
        };
        self.exchanges.values().flat_map(pairs).collect()
    }
}

/// Where the configuration is looked for when no option says so.
pub const DEFAULT_DIRECTORY: &str = "/etc/dropzone";

/// The main file of a configuration folder.
pub fn main_file(directory: &Path) -> PathBuf {
    directory.join("dropzone.yaml")
}

//! The configuration of a zone: YAML in, checked values out. `raw` is the YAML's shape, `check` turns it into what stands
//! here, `error` says what is wrong, where, and what to do. Nobody else knows serde_yaml.

mod check;
mod error;
mod exchange;
mod institution;
mod keys;
mod load;
mod locate;
mod machine;
mod raw;
mod sql;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::error::{Cause, ConfigError, Key, Note};
pub use self::load::{FILE_LIMIT, FILES_LIMIT, Loaded, load, load_with_notes, worst};
use crate::policy::account::Institution;
use crate::policy::agreement::{Exchange, Standing};
use crate::policy::path::Slug;

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
    /// What queries may join with.
    pub databases: BTreeMap<Slug, Database>,
    /// How `work` works.
    pub work: Work,
    /// What one peer may take.
    pub limits: Limits,
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

/// A database that queries may join with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file, opened read-only.
    Sqlite(PathBuf),
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
}

/// What one peer may take, from LIMITS.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From accept to the end of authentication.
    pub login_grace: Duration,
    /// Connections at a time, authenticated or not.
    pub connections: usize,
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
    /// Without SFTP progress.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_grace: Duration::from_secs(15),
            connections: 512,
            auth_attempts: 6,
            key_probes: 10,
            channels: 2,
            handles: 64,
            outstanding_requests: 65_536,
            unwritten_bytes: 8 << 20,
            idle: Duration::from_secs(300),
        }
    }
}

impl Config {
    /// The exchanges an institution takes part in.
    pub fn exchanges_of<'a>(&'a self, institution: &'a Slug) -> impl Iterator<Item = &'a Exchange> {
        self.exchanges.values().filter(move |exchange| exchange.parties.contains_key(institution))
    }

    /// Whether any agreement of an institution is in force today (Europe/Brussels).
    pub fn has_open_exchange(&self, institution: &Slug, today: jiff::civil::Date) -> bool {
        self.exchanges_of(institution).any(|exchange| exchange.agreement.standing(today) == Standing::Open)
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

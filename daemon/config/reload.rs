//! What a running process may take over of a changed configuration: all of it, or nothing; or all but a `dropzone.yaml` that is out
//! of its reach. A process cannot move its sockets, folders and keys while it runs, so a change of those is refused as a whole, by
//! the name of the key.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::{Cause, Config, ConfigError};
use crate::policy::digest::hex;
use crate::policy::record::{Event, Outcome, Record};

const MAIN: &str = "dropzone.yaml";
/// Longest list of changed files in words; a zone may have thousands.
const CHANGES_MAX: usize = 4_000;

/// The digest of each file of a configuration: SHA-256 in lower-case hexadecimal, by its path in the folder.
pub type Files = BTreeMap<String, String>;

/// One digest for all files.
pub fn digest(files: &Files) -> String {
    use sha2::Digest;
    let mut digest = sha2::Sha256::new();
    for (name, sha256) in files {
        digest.update(format!("{sha256}  {name}\n"));
    }
    hex(&digest.finalize())
}

/// Which files changed, in words, each with its old and its new digest.
fn changes(old: &Files, new: &Files) -> String {
    let mut told = String::new();
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut untold = 0_usize;
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        if before == after {
            continue;
        }
        if told.len() > CHANGES_MAX {
            untold += 1;
            continue;
        }
        let shown = |sha256: Option<&String>| sha256.map_or("none", String::as_str).to_owned();
        let separator = if told.is_empty() { "" } else { "; " };
        // Writing into a text cannot fail.
        let _ = write!(told, "{separator}{name}: {} -> {}", shown(before), shown(after));
    }
    if untold > 0 {
        let _ = write!(told, "; and {untold} more");
    }
    told
}

/// The keys of `dropzone.yaml` whose values differ and count from the next start only.
fn fixed_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let (old, new) = (&old.machine, &new.machine);
    let is_same = |one: &Path, other: &Path| one == other;
    let keys = [
        ("node", old.node == new.node),
        ("listen", old.listen == new.listen),
        ("host-key", is_same(&old.host_key, &new.host_key)),
        ("identities", old.identities == new.identities),
        ("signing-key", is_same(&old.signing_key, &new.signing_key)),
        ("spool", is_same(&old.spool, &new.spool)),
        ("log.directory", is_same(&old.log.directory, &new.log.directory)),
        ("metrics", (old.metrics.serve, old.metrics.work) == (new.metrics.serve, new.metrics.work)),
        ("sockets", old.sockets == new.sockets),
        // SQLite's bound on memory is the process's, and can only be lowered.
        ("work.job-memory", old.work.job.memory == new.work.job.memory),
    ];
    keys.into_iter().filter(|(_, is_same)| !is_same).map(|(key, _)| key).collect()
}

/// The record of a configuration that a process takes over, instead of another or at its start.
pub fn taken_over(old: Option<&Config>, new: &Config, operator: String) -> Record {
    let before = old.map(|old| format!("before {}; {}", digest(&old.files), changes(&old.files, &new.files)));
    Record {
        sha256: Some(digest(&new.files)),
        operator: Some(operator),
        detail: Some(before.unwrap_or_else(|| changes(&Files::new(), &new.files))),
        ..Record::new(Event::Config, Outcome::Ok)
    }
}

/// The record of one that it does not take over; `current` stays.
pub fn turned_down(current: &Config, problems: &[String], operator: String) -> Record {
    let first = problems.first().map_or("", String::as_str);
    Record {
        sha256: Some(digest(&current.files)),
        operator: Some(operator),
        reason: Some("configuration-turned-down".to_owned()),
        detail: Some(format!("still in force; problems {}; the first: {first}", problems.len())),
        ..Record::new(Event::Config, Outcome::Failed)
    }
}

/// What can be taken over from the folder of the configuration in force.
pub struct Successor {
    /// The whole of it.
    pub config: Config,
    /// Why `dropzone.yaml` could not be read again, and what to do: `config` holds the one that was read at the start.
    pub unread: Option<String>,
}

impl Successor {
    /// What was done, or that something is left to do.
    pub fn told(unread: Option<String>, done: String) -> Result<String, Vec<String>> {
        unread.map_or(Ok(done), |unread| Err(vec![unread]))
    }
}

/// The configuration that lies in the folder of the one in force, if all of it can be taken over. Else all that is wrong with
/// it, one line each. A key that is taken away must not stay because `dropzone.yaml` is out of reach.
pub fn successor(current: &Config) -> Result<Successor, Vec<String>> {
    let told = |errors: Vec<ConfigError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let is_unread = |error: &ConfigError| error.cause == Cause::Unreadable && error.file == MAIN;
    let (config, unread) = match super::load(&current.directory) {
        Ok(new) => (new, None),
        Err(errors) if errors.iter().any(is_unread) => {
            let new = super::load::load_beside(&current.directory, &current.main).map_err(|others| {
                // What is wrong beside the old dropzone.yaml may be right beside the new one: a database added to both.
                let replaced = errors.iter().find(|error| is_unread(error)).map(|error| {
                    out_of_reach(
                        error,
                        "Nothing is taken over, because the rest does not fit dropzone.yaml as it was",
                    )
                });
                replaced.into_iter().chain(told(others)).collect::<Vec<_>>()
            })?;
            (
                new,
                errors.iter().find(|error| is_unread(error)).map(|error| {
                    out_of_reach(
                        error,
                        "institutions/ and exchanges/ are in force as they are now, dropzone.yaml as it was",
                    )
                }),
            )
        }
        Err(errors) => return Err(told(errors)),
    };
    let fixed = fixed_keys(current, &config);
    if fixed.is_empty() {
        return Ok(Successor { config, unread });
    }
    let tell = |key: &&str| {
        format!(
            "dropzone.yaml: {key}: cannot change while this process runs. Remedy: restart it, or take the change back."
        )
    };
    Err(fixed.iter().map(tell).collect())
}

/// `host::containment` holds a process to files, and not to their names.
fn out_of_reach(error: &ConfigError, effect: &str) -> String {
    format!(
        "dropzone.yaml was probably replaced, and secrets lie beside it: a running process reads only the file it started with. \
         {effect}. Remedy: restart the process, or from then on write into the file instead of putting another in its place. ({error})"
    )
}

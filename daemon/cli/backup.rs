//! `dropzone backup`: copies a zone while it runs, and says in a manifest what the copy holds. Which order makes it consistent
//! is `host::backup`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde_json::json;

use super::control::claimed_name;
use super::exit::EX_CANTCREAT;
use super::{check, secrets};
use crate::config::{self, Config};
use crate::host::backup::{Copied, Sources, Store, StoreError, checksum_of, names};
use crate::host::clock::Clock;
use crate::host::control::Operator;
use crate::host::files::Folder;
use crate::host::log::{AccessLog, LogError};
use crate::host::process;
use crate::policy::backup::{CHECKSUM, FORM, Facts, LastHead, MANIFEST, Manifest, Places};
use crate::policy::digest::sha256;
use crate::policy::path::Slug;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::signature::{ENDING, Namespace};
use crate::work::signer::Signer;

/// How often, and how long in between, the log is asked for where another command is writing.
const LOG_TRIES: u32 = 50;
const LOG_WAIT: Duration = Duration::from_millis(200);

/// Where to, and how to tell it.
#[derive(Debug, Args)]
pub struct Backup {
    /// The folder to make; one that is there must be empty.
    directory: PathBuf,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Makes a backup of the zone.
pub fn run(zone: &Path, backup: &Backup) -> anyhow::Result<ExitCode> {
    let config = match config::load(zone) {
        Ok(config) => config,
        Err(errors) => {
            check::tell(&mut std::io::stderr().lock(), zone, &errors)?;
            return Ok(check::exit_code(&errors));
        }
    };
    let to = backup.directory.as_path();
    let machine = &config.machine;
    let sources = Sources { spool: machine.spool.clone(), log: machine.log.directory.clone() };
    if sources.hold(to) {
        return occupied(&format!("{} lies in what is to be copied; name another folder", to.display()));
    }
    process::share_with_group_only();
    let mut store = match Store::begin(to) {
        Ok(store) => store,
        Err(StoreError::Occupied(problem)) => return occupied(&problem),
        Err(StoreError::Failed(error)) => return Err(error.into()),
    };
    let clock = Clock::system();
    let begun = clock.now();
    let record = |detail: &str| Record { detail: Some(detail.to_owned()), ..of_operator(to) };
    // No record, no copy: what is copied holds personal data.
    append(&config, &clock, &record("begun"))?;
    let mut teller = Teller::begin();
    keep_configuration(&config, &mut store)?;
    let copied = sources.copy_spool(&mut store, &mut |what, bytes| teller.tell(what, bytes))?;
    let last_head = sources.copy_log(&mut store, &mut |what, bytes| teller.tell(what, bytes))?;
    teller.tell("making it durable", store.bytes());
    store.settle()?;
    let manifest = manifest(&config, &mut store, (begun, clock.now()), (&copied, last_head));
    let mut text = serde_json::to_vec_pretty(&manifest).context("the manifest")?;
    text.push(b'\n');
    let digest = sha256(&text);
    let signature = Signer::read(&machine.signing_key)
        .and_then(|signer| Ok(signer.sign(Namespace::Backup, &text)?))
        .map_err(|error| error.to_string());
    if let Ok(signature) = &signature {
        store.seal(&format!("{MANIFEST}{ENDING}"), signature.as_bytes())?;
    }
    store.seal(CHECKSUM, checksum_of(&text).as_bytes())?;
    let complete = Record { sha256: Some(digest.clone()), bytes: Some(store.bytes()), ..record("complete") };
    append(&config, &clock, &complete)?;
    store.seal(MANIFEST, &text)?;
    teller.end();
    tell(backup, &manifest, &copied, (&digest, store.bytes(), signature.err()))?;
    Ok(ExitCode::SUCCESS)
}

fn manifest(
    config: &Config,
    store: &mut Store,
    (begun, ended): (Timestamp, Timestamp),
    (copied, last_head): (&Copied, Option<LastHead>),
) -> Manifest {
    let (folders, files) = (std::mem::take(&mut store.folders), std::mem::take(&mut store.files));
    let owners = |number: fn(&Facts) -> u32| -> BTreeSet<u32> {
        let all = folders.iter().map(|entry| &entry.facts).chain(files.iter().map(|entry| &entry.facts));
        all.map(number).collect()
    };
    let known = |names: BTreeMap<u32, String>, seen: BTreeSet<u32>| {
        names.into_iter().filter(|(number, _)| seen.contains(number)).collect()
    };
    Manifest {
        backup: FORM,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: config.machine.node.clone(),
        begun,
        ended,
        places: places(config),
        arrivals: copied.arrivals.clone(),
        last_head,
        keys: secrets::needed(config),
        users: known(names::users(), owners(|facts| facts.user)),
        groups: known(names::groups(), owners(|facts| facts.group)),
        left_out: copied.left_out.clone(),
        folders,
        files,
    }
}

/// Writes a record as a command does: another one may be writing just now, and what waits for it waits not for long.
pub fn append(config: &Config, clock: &Clock, record: &Record) -> anyhow::Result<()> {
    let log = open_log(&config.machine.log.directory, &config.machine.node, clock)?;
    log.append(record)?;
    // Who ran the commands of long ago may be the only one who can delete their log.
    if let Err(error) = super::clock::expire_log_days(config, clock, &log) {
        tracing::warn!(%error, "old log days of commands could not be deleted; the next command tries again");
    }
    Ok(())
}

/// The same, into the log in a folder.
pub fn append_to(log: &Path, node: &Slug, clock: &Clock, record: &Record) -> anyhow::Result<()> {
    Ok(open_log(log, node, clock)?.append(record)?)
}

fn open_log(log: &Path, node: &Slug, clock: &Clock) -> Result<AccessLog, LogError> {
    let mut tries = 0;
    loop {
        match AccessLog::open(log, node, "cli", clock.clone()) {
            Err(LogError::InUse { .. }) if tries < LOG_TRIES => {
                tries += 1;
                std::thread::sleep(LOG_WAIT);
            }
            opened => return opened,
        }
    }
}

/// A record of a backup by whoever runs this command.
pub fn of_operator(path: &Path) -> Record {
    let operator = Operator::new(process::user(), claimed_name().as_deref());
    Record {
        operator: Some(operator.to_string()),
        path: Some(path.display().to_string()),
        ..Record::new(Event::Backup, Outcome::Ok)
    }
}

fn occupied(problem: &str) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stderr().lock(), "dropzone: {problem}")?;
    Ok(ExitCode::from(EX_CANTCREAT))
}

fn places(config: &Config) -> Places {
    let shown = |path: &Path| path.display().to_string();
    Places {
        configuration: shown(&config.directory),
        spool: shown(&config.machine.spool),
        log: shown(&config.machine.log.directory),
    }
}

/// Exactly the files that were loaded: what lies beside them is not part of the configuration, and may be a secret.
fn keep_configuration(config: &Config, store: &mut Store) -> anyhow::Result<()> {
    let top = Folder::open(&config.directory)?;
    for folder in ["institutions", "exchanges"] {
        // Also an empty one is part of a zone.
        store.keep_folder(&config.directory, folder)?;
    }
    for (path, digest) in &config.files {
        let read = match path.split_once('/') {
            Some((folder, name)) => top.open_inside(folder)?.read(name.as_ref(), config::FILE_LIMIT)?,
            None => top.read(path.as_ref(), config::FILE_LIMIT)?,
        };
        anyhow::ensure!(sha256(&read) == *digest, "{path} was changed while it was copied; try again");
        store.keep(&config.directory, path, &read)?;
    }
    Ok(())
}

/// Tells how far it is: on a terminal in place, elsewhere a line for each part.
pub struct Teller {
    bar: Option<ProgressBar>,
    told: String,
}

impl Teller {
    /// Tells nothing yet.
    pub fn begin() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        Self { bar, told: String::new() }
    }

    /// Tells what is being done, and how many bytes of it are.
    pub fn tell(&mut self, what: &str, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{what}: {} MiB", bytes >> 20));
            bar.tick();
        } else if self.told != what {
            what.clone_into(&mut self.told);
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr().lock(), "dropzone: {what} …");
        }
    }

    /// There is no more to tell.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn tell(
    backup: &Backup,
    manifest: &Manifest,
    copied: &Copied,
    (digest, bytes, unsigned): (&str, u64, Option<String>),
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let (shown, files) = (backup.directory.display(), manifest.files.len());
    if backup.json {
        let told = json!({
            "directory": shown.to_string(), "begun": manifest.begun, "ended": manifest.ended,
            "files": files, "bytes": bytes, "arrivals": manifest.arrivals, "manifest-sha256": digest,
            "signed": unsigned.is_none(), "keys": manifest.keys, "left-out": copied.left_out,
        });
        serde_json::to_writer_pretty(&mut out, &told)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "{shown}: {files} files, {bytes} bytes")?;
    writeln!(out, "It holds all that was acknowledged before {}.", manifest.begun)?;
    for (state, count) in &manifest.arrivals {
        writeln!(out, "  {:<10}{count:>8} arrivals", state.as_str())?;
    }
    writeln!(out, "  manifest  sha256 {digest}")?;
    match unsigned {
        None => writeln!(out, "  manifest  signed by the zone's key")?,
        Some(why) => writeln!(out, "  manifest  NOT signed: {why}")?,
    }
    for left in &copied.left_out {
        writeln!(out, "Left out: {left}")?;
    }
    writeln!(out, "Keys are not copied; the zone needs these, so keep them elsewhere:")?;
    for key in &manifest.keys {
        let public = key.public.as_deref().unwrap_or("not readable by this user");
        writeln!(out, "  {:<12} {}  {public}", key.key, key.path)?;
    }
    writeln!(out, "Databases are not copied either. To check the backup: dropzone restore {shown} --verify")?;
    Ok(())
}

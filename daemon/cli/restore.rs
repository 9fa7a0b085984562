//! `dropzone restore`: checks a backup to its last byte and, where it is sound, makes a zone of it. What a manifest promises is
//! `host::backup`'s question; here the configuration and the log in it are asked too.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::backup::{Teller, append_to, of_operator};
use super::exit::{EX_CANTCREAT, EX_DATAERR, EX_NOINPUT};
use crate::config::{self, Config};
use crate::host::backup::{Fault, Layout, Opened, StoreError, names, restore};
use crate::host::clock::Clock;
use crate::host::evidence::examine::examine;
use crate::host::evidence::{LogFolder, heads::Heads, read_text};
use crate::host::{files, process};
use crate::policy::backup::{Inside, LOG, MANIFEST, SPOOL};
use crate::policy::record::Record;
use crate::policy::signature::ZoneKey;

/// The modes of folders that a zone needs and no backup holds: for keys, and for sockets.
const KEYS_MODE: u32 = 0o700;
const SHARED_MODE: u32 = 0o2770;
/// Findings that are told; a backup that was hit so badly is of no use.
const FAULTS_TOLD: usize = 1_000;

/// Which backup, and what to do with it.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["verify", "to"])))]
pub struct Restore {
    /// The backup.
    directory: PathBuf,
    /// Check it: every file, its configuration, its log, its arrivals. Exit code 0: sound; 65: damaged.
    #[arg(long)]
    verify: bool,
    /// Check it, and make a zone of it in a new folder.
    #[arg(long, value_name = "ZONE")]
    to: Option<PathBuf>,
    /// The zone's public key, as it was given to you (.pub or `allowed_signers`); the one in the backup if left out.
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Default)]
struct Findings {
    faults: Vec<Fault>,
    notes: Vec<String>,
    /// The configuration, where it could be loaded as it lies here.
    config: Option<Config>,
}

/// Checks a backup and, if asked, makes a zone of it.
pub fn run(asked: &Restore) -> anyhow::Result<ExitCode> {
    if !files::exists(&asked.directory) {
        let shown = asked.directory.display();
        writeln!(std::io::stderr().lock(), "dropzone: there is no backup {shown}; correct the path")?;
        return Ok(ExitCode::from(EX_NOINPUT));
    }
    let mut findings = Findings::default();
    let opened = match Opened::open(&asked.directory) {
        Ok(opened) => opened,
        Err(fault) => {
            findings.faults.push(fault);
            tell(asked, None, &findings)?;
            return Ok(ExitCode::from(EX_DATAERR));
        }
    };
    let mut teller = Teller::begin();
    findings.faults = opened.check(&mut |what, bytes| teller.tell(&format!("checking {what}"), bytes));
    let key = findings.key(asked, &opened)?;
    findings.configuration(&opened);
    if let Some(key) = &key {
        findings.log(&opened, key);
    }
    teller.end();
    if !findings.faults.is_empty() {
        tell(asked, Some(&opened), &findings)?;
        return Ok(ExitCode::from(EX_DATAERR));
    }
    let Some(to) = &asked.to else {
        tell(asked, Some(&opened), &findings)?;
        return Ok(ExitCode::SUCCESS);
    };
    match put_back(&opened, to, findings) {
        Ok(findings) => {
            tell(asked, Some(&opened), &findings)?;
            if !asked.json {
                tell_next(to, &opened)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => match error.downcast_ref() {
            Some(StoreError::Occupied(problem)) => {
                writeln!(std::io::stderr().lock(), "dropzone: {problem}")?;
                Ok(ExitCode::from(EX_CANTCREAT))
            }
            _ => Err(error),
        },
    }
}

impl Findings {
    /// The key to believe; and whether the manifest has its signature.
    fn key(&mut self, asked: &Restore, opened: &Opened) -> anyhow::Result<Option<ZoneKey>> {
        let key = match &asked.key {
            Some(path) => Some(ZoneKey::parse(&read_text(path)?).with_context(|| {
                format!("{} holds no ed25519 public key in OpenSSH form", path.display())
            })?),
            None => key_inside(opened),
        };
        let Some(key) = key else {
            self.notes.push(
                "there is no key in it, nor was one given (--key): nothing here proves who made it"
                    .to_owned(),
            );
            return Ok(None);
        };
        match opened.signed_by(&key) {
            Some(Ok(())) => {}
            Some(Err(fault)) => self.faults.push(fault),
            None if asked.key.is_some() => self.faults.push(Fault::of(MANIFEST, "is not signed")),
            None => self.notes.push(
                "the manifest is not signed: it speaks against accidents, not against forgers".to_owned(),
            ),
        }
        if asked.key.is_none() {
            let fingerprint = key.fingerprint();
            self.notes.push(format!(
                "the key was taken from the backup itself: compare {fingerprint} with what you were given"
            ));
        }
        Ok(Some(key))
    }

    /// The folders that `dropzone.yaml` names are another machine's: they need not be here.
    fn configuration(&mut self, opened: &Opened) {
        match config::load(opened.path()) {
            Ok(config) => self.config = Some(config),
            Err(errors) => {
                let is_place =
                    |key: &Option<String>| matches!(key.as_deref(), Some("spool" | "log.directory"));
                for error in errors.into_iter().filter(|error| !is_place(&error.key)) {
                    let (file, what) = (error.file.clone(), error.to_string());
                    let what = what
                        .strip_prefix(&file)
                        .map_or(what.as_str(), |rest| rest.trim_start_matches([':', ' ']));
                    self.faults.push(Fault::of(file.as_str(), what));
                }
            }
        }
    }

    fn log(&mut self, opened: &Opened, key: &ZoneKey) {
        match examine(&opened.path().join(LOG), key, Vec::new()) {
            Ok(examined) => {
                for finding in examined.findings {
                    let place = finding.line.map_or(String::new(), |line| format!("line {line}: "));
                    self.faults.push(Fault::of(
                        format!("{LOG}/{}", finding.file),
                        format!("{place}{}", finding.what),
                    ));
                }
                self.notes.extend(examined.notes.into_iter().map(|note| format!("{LOG}: {note}")));
            }
            Err(error) => self.faults.push(Fault::of(LOG, error.to_string())),
        }
    }
}

fn key_inside(opened: &Opened) -> Option<ZoneKey> {
    let folder = LogFolder::open(&opened.path().join(LOG)).ok()?;
    ZoneKey::parse(&Heads::open(&folder).ok()??.key()?)
}

fn put_back(opened: &Opened, to: &Path, mut findings: Findings) -> anyhow::Result<Findings> {
    process::share_with_group_only();
    let layout = layout(opened, &mut findings)?;
    let mut teller = Teller::begin();
    restore(opened, to, &layout, &mut |what, bytes| teller.tell(&format!("putting back {what}"), bytes))?;
    teller.end();
    let record = Record {
        sha256: Some(opened.sha256()),
        detail: Some(format!("came back from the backup begun {}", opened.manifest.begun)),
        ..of_operator(opened.path())
    };
    append_to(&to.join(layout.log.as_str()), &opened.manifest.node, &Clock::system(), &record)?;
    Ok(findings)
}

/// What lay outside of the zone's folder comes into it: nothing is written anywhere else.
fn layout(opened: &Opened, findings: &mut Findings) -> anyhow::Result<Layout> {
    let (manifest, fixed) = (&opened.manifest, |name: &str| Inside::parse(name).context("a folder's name"));
    let (spool, log) =
        (manifest.places.inside(&manifest.places.spool), manifest.places.inside(&manifest.places.log));
    for (key, place, name) in [
        ("spool", (&spool, &manifest.places.spool), SPOOL),
        ("log.directory", (&log, &manifest.places.log), LOG),
    ] {
        if place.0.is_none() {
            let was = place.1;
            findings.notes.push(format!(
                "`{key}` was {was}, outside of the zone's folder: it is in {name}/ now; move it to {was}, or change the key"
            ));
        }
    }
    let mut more = Vec::new();
    let folder_of = |path: &str| Inside::parse(path).and_then(|path| Inside::parse(path.split().0?));
    more.extend(manifest.keys.iter().filter_map(|key| Some((folder_of(&key.path)?, KEYS_MODE))));
    let sockets = findings.config.iter().flat_map(|config| {
        let sockets = &config.machine.sockets;
        [&sockets.serve, &sockets.work, &sockets.work_control]
    });
    let inside = |path: &PathBuf| folder_of(path.strip_prefix(opened.path()).ok()?.to_str()?);
    more.extend(sockets.filter_map(|path| Some((inside(path)?, SHARED_MODE))));
    let is_root = process::user() == 0;
    let users = is_root.then(|| names::translated(&manifest.users, &names::users()));
    let groups = is_root.then(|| names::translated(&manifest.groups, &names::groups()));
    if is_root {
        let unknown = |names: &std::collections::BTreeMap<u32, String>, known: &Option<_>| {
            let known: Option<&std::collections::BTreeMap<u32, u32>> = known.as_ref();
            let is_unknown = |number: &u32| known.is_none_or(|known| !known.contains_key(number));
            names
                .iter()
                .filter(|(number, _)| is_unknown(number))
                .map(|(_, name)| name.clone())
                .collect::<Vec<_>>()
        };
        for name in unknown(&manifest.users, &users).into_iter().chain(unknown(&manifest.groups, &groups)) {
            findings
                .notes
                .push(format!("this machine does not know {name}: what was {name}'s stays yours; chown it"));
        }
    } else {
        findings
            .notes
            .push("all files are yours: only root can give them to the users that ran the zone".to_owned());
    }
    Ok(Layout {
        spool: spool.map_or_else(|| fixed(SPOOL), Ok)?,
        log: log.map_or_else(|| fixed(LOG), Ok)?,
        more,
        users,
        groups,
    })
}

fn tell(asked: &Restore, opened: Option<&Opened>, findings: &Findings) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let faults = findings.faults.get(..FAULTS_TOLD).unwrap_or(&findings.faults);
    let manifest = opened.map(|opened| &opened.manifest);
    if asked.json {
        let told = json!({
            "sound": findings.faults.is_empty(), "faults": faults, "notes": findings.notes,
            "begun": manifest.map(|manifest| manifest.begun), "node": manifest.map(|manifest| &manifest.node),
            "arrivals": manifest.map(|manifest| &manifest.arrivals),
            "keys": manifest.map(|manifest| &manifest.keys), "manifest-sha256": opened.map(Opened::sha256),
            "restored-to": asked.to.as_ref().filter(|_| findings.faults.is_empty()),
        });
        serde_json::to_writer_pretty(&mut out, &told)?;
        writeln!(out)?;
        return Ok(());
    }
    if let (Some(manifest), Some(opened)) = (manifest, opened) {
        let (shown, node, begun, count) =
            (asked.directory.display(), &manifest.node, manifest.begun, manifest.files.len());
        writeln!(
            out,
            "{shown}: a backup of {node}, begun {begun}, {count} files, manifest sha256 {}",
            opened.sha256()
        )?;
        for (state, count) in &manifest.arrivals {
            writeln!(out, "  {:<10}{count:>8} arrivals", state.as_str())?;
        }
    }
    for note in &findings.notes {
        writeln!(out, "note: {note}")?;
    }
    for fault in faults {
        writeln!(out, "DAMAGED: {}: {}", fault.file, fault.what)?;
    }
    match findings.faults.len() {
        0 => writeln!(out, "The backup is sound.")?,
        1 => writeln!(out, "The backup is DAMAGED in one place; nothing was put back.")?,
        count => writeln!(out, "The backup is DAMAGED in {count} places; nothing was put back.")?,
    }
    Ok(())
}

fn tell_next(to: &Path, opened: &Opened) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let zone = to.display();
    writeln!(out, "\nThe zone is in {zone}. Before it is started, put its keys back (mode 0600):")?;
    for key in &opened.manifest.keys {
        let public =
            key.public.as_deref().unwrap_or("unknown: it could not be read when the backup was made");
        writeln!(out, "  {:<12} {}  {public}", key.key, to.join(&key.path).display())?;
    }
    writeln!(out, "and the databases that dropzone.yaml names. Then:")?;
    writeln!(out, "  dropzone --config {zone} check")?;
    writeln!(out, "  dropzone --config {zone} log verify")?;
    writeln!(out, "Never start it while the zone that it was copied from still runs.")?;
    writeln!(out, "Results that were collected after {} may be delivered again.", opened.manifest.begun)
}

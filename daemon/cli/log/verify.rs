//! `dropzone log verify`: tells whether a log is as it was written, from the public key alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::cli::exit::EX_NOINPUT;
use crate::host::evidence::examine::{Examination, examine};
use crate::host::evidence::heads::Heads;
use crate::host::evidence::{LogFolder, copies, read_text};
use crate::policy::signature::ZoneKey;

/// The log is not as it was written.
const BROKEN: u8 = 1;

/// What to check, and against what.
#[derive(Debug, Args)]
pub struct Verify {
    /// The folder of the log, or a copy of it; the zone's own if left out.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The zone's public key, as it was given to you (.pub or allowed_signers); the one in the folder if left out.
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// A file of heads that was kept elsewhere (log.heads-to.file).
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// For machines.
    #[arg(long)]
    json: bool,
}

/// Examines the log and tells what was found.
pub fn run(zone: &Path, verify: &Verify) -> anyhow::Result<ExitCode> {
    let folder = match super::folder(verify.folder.as_ref(), zone)? {
        Ok(folder) => folder,
        Err(code) => return Ok(code),
    };
    let Some(key) = key(verify, &folder)? else {
        writeln!(
            std::io::stderr().lock(),
            "dropzone: there is no public key to check with: give the zone's with --key (keys/signing_ed25519.pub)"
        )?;
        return Ok(ExitCode::from(EX_NOINPUT));
    };
    let copies = verify.heads.as_deref().map(copies::read).transpose()?.unwrap_or_default();
    let mut examination = examine(&folder, &key, copies)?;
    if verify.key.is_none() {
        let note = format!(
            "the key was taken from the folder itself: compare {} with what you were given",
            key.fingerprint()
        );
        examination.notes.push(note);
    }
    let mut out = std::io::stdout().lock();
    if verify.json {
        serde_json::to_writer_pretty(&mut out, &examination)?;
        writeln!(out)?;
    } else {
        print(&mut out, &folder, &examination)?;
    }
    Ok(if examination.intact { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

fn key(verify: &Verify, folder: &Path) -> anyhow::Result<Option<ZoneKey>> {
    let Some(path) = &verify.key else {
        let heads = Heads::open(&LogFolder::open(folder)?)?;
        return Ok(heads.and_then(|heads| ZoneKey::parse(&heads.key()?)));
    };
    let shown = path.display();
    let key = ZoneKey::parse(&read_text(path)?);
    key.map(Some).with_context(|| format!("{shown} holds no ed25519 public key in OpenSSH form"))
}

fn print(out: &mut impl Write, folder: &Path, found: &Examination) -> std::io::Result<()> {
    let records: u64 = found.files.iter().map(|file| file.records).sum();
    let unsealed: u64 = found.files.iter().map(|file| file.not_yet_sealed).sum();
    writeln!(
        out,
        "{}: {} log files, {records} records, {} heads",
        folder.display(),
        found.files.len(),
        found.heads
    )?;
    writeln!(out, "key {}", found.key)?;
    if let Some(last) = found.last_head {
        writeln!(out, "last head {last}; not yet sealed: {unsealed} records")?;
    }
    for file in found.files.iter().filter(|file| file.not_yet_sealed > 0) {
        writeln!(out, "  {}: the last {} of {} records", file.file, file.not_yet_sealed, file.records)?;
    }
    for note in &found.notes {
        writeln!(out, "note: {note}")?;
    }
    for finding in &found.findings {
        write!(out, "BROKEN: {}", finding.file)?;
        if let (Some(line), Some(seq)) = (finding.line, finding.seq) {
            write!(out, ", line {line}, record {seq}")?;
        }
        writeln!(out, ": {}", finding.what)?;
    }
    match found.findings.len() {
        0 => writeln!(out, "The log is intact."),
        1 => writeln!(out, "The log is BROKEN in one place."),
        count => writeln!(out, "The log is BROKEN in {count} places."),
    }
}

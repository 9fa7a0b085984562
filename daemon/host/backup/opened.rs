//! A finished backup: read, and held against its manifest. What the configuration and the log in it are worth is asked by
//! those who know them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;
use serde::Serialize;

use super::Progress;
use super::reach::Reach;
use crate::host::directory::Directory;
use crate::host::files;
use crate::policy::arrival::{Arrival, ArrivalId, State};
use crate::policy::backup::{CHECKSUM, FORM, FileEntry, MANIFEST, Manifest, SPOOL};
use crate::policy::digest::sha256;
use crate::policy::signature::{ENDING, Namespace, ZoneKey};

/// More than any manifest has, in bytes.
const MANIFEST_MAX: u64 = 4 << 30;
/// Descriptions and signatures are small.
const SMALL: u64 = 64 << 10;
/// Folders in each other.
const DEPTH: usize = 12;
/// Files that no manifest names, told one by one.
const STRANGERS_MAX: usize = 100;

/// Something in a backup that is not as it was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which file, relative to the backup.
    pub file: String,
    /// What is wrong, in words.
    pub what: String,
}

impl Fault {
    /// Of a file.
    pub fn of(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: file.into(), what: what.into() }
    }
}

/// A backup whose manifest has been read.
#[derive(Debug)]
pub struct Opened {
    pub(super) root: Directory,
    path: PathBuf,
    /// What it says it holds.
    pub manifest: Manifest,
    text: Vec<u8>,
}

impl Opened {
    /// Opens it, or says what is wrong with its manifest.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let folder =
            |error: Errno| Fault::of(path.display().to_string(), format!("cannot be opened: {error}"));
        let root = Directory::open(path).map_err(folder)?;
        let text = match read(&root, MANIFEST, MANIFEST_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let what = "is missing: this is no backup, or one that was cut short; take another";
                return Err(Fault::of(MANIFEST, what));
            }
            read => read.map_err(|error| Fault::of(MANIFEST, format!("cannot be read: {error}")))?,
        };
        let checksum = read(&root, CHECKSUM, SMALL).unwrap_or_default();
        if checksum != checksum_of(&text).as_bytes() {
            return Err(Fault::of(MANIFEST, format!("does not fit {CHECKSUM}: one of the two was altered")));
        }
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| Fault::of(MANIFEST, format!("cannot be understood: {error}")))?;
        if manifest.backup != FORM {
            let what = format!("has form {}, and this version knows {FORM}", manifest.backup);
            return Err(Fault::of(MANIFEST, what));
        }
        Ok(Self { root, path: path.to_owned(), manifest, text })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of the manifest, which stands for all of the backup.
    pub fn sha256(&self) -> String {
        sha256(&self.text)
    }

    /// Whether this key signed the manifest; `None` where nobody did.
    pub fn signed_by(&self, key: &ZoneKey) -> Option<Result<(), Fault>> {
        let name = format!("{MANIFEST}{ENDING}");
        let signature = match read(&self.root, &name, SMALL) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(Fault::of(name, format!("cannot be read: {error}")))),
            Ok(signature) => signature,
        };
        let verified = key.verify(Namespace::Backup, &self.text, &signature);
        Some(verified.map_err(|distrust| Fault::of(name, distrust.to_string())))
    }

    /// Holds every file against the manifest, and every arrival against its own description.
    pub fn check(&self, progress: Progress<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut reach = Reach::new(&self.root);
        let mut bytes = 0;
        for entry in &self.manifest.files {
            let checked = reach.file(&entry.path).map_err(shown).and_then(|file| {
                let (size, sha256) =
                    files::digest(file).map_err(|error| format!("cannot be read: {error}"))?;
                differs(entry, size, &sha256).map_or(Ok(()), Err)
            });
            faults.extend(checked.err().map(|what| Fault::of(entry.path.as_str(), what)));
            bytes += entry.size;
            progress("files", bytes);
        }
        self.arrivals(&mut reach, &mut faults);
        self.strangers(&mut faults);
        faults
    }

    /// What the manifest says of a file.
    fn entries(&self) -> BTreeMap<&str, &FileEntry> {
        self.manifest.files.iter().map(|entry| (entry.path.as_str(), entry)).collect()
    }

    fn arrivals(&self, reach: &mut Reach<'_>, faults: &mut Vec<Fault>) {
        let entries = self.entries();
        let mut counts: BTreeMap<State, u64> = BTreeMap::new();
        for folder in &self.manifest.folders {
            let mut names = folder.path.names();
            let (Some(SPOOL), Some(state), Some(id), None) =
                (names.next(), names.next(), names.next(), names.next())
            else {
                continue;
            };
            let Some(state) = State::ALL.into_iter().find(|known| known.as_str() == state) else { continue };
            *counts.entry(state).or_default() += 1;
            let path = folder.path.as_str();
            let found = match ArrivalId::parse(id) {
                Some(id) => arrival(reach, &entries, (path, state, &id)),
                None => Err((path.to_owned(), "is no arrival".to_owned())),
            };
            faults.extend(found.err().map(|(file, what)| Fault::of(file, what)));
        }
        if counts != self.manifest.arrivals {
            faults.push(Fault::of(MANIFEST, "counts other arrivals than it names"));
        }
    }

    fn strangers(&self, faults: &mut Vec<Fault>) {
        let files = self.manifest.files.iter().map(|entry| entry.path.as_str());
        let folders = self.manifest.folders.iter().map(|entry| entry.path.as_str());
        let known: BTreeSet<&str> = files.chain(folders).collect();
        let own = [MANIFEST.to_owned(), format!("{MANIFEST}{ENDING}"), CHECKSUM.to_owned()];
        let mut found = Vec::new();
        walk(&self.root, "", DEPTH, &mut |path| {
            let is_known = known.contains(path) || own.iter().any(|own| own == path);
            if !is_known && found.len() < STRANGERS_MAX {
                found.push(Fault::of(path, "is not in the manifest: it came here later"));
            }
            is_known
        });
        faults.extend(found);
    }
}

/// `sha256sum`'s line.
pub fn checksum_of(text: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", sha256(text))
}

pub(super) fn differs(entry: &FileEntry, size: u64, sha256: &str) -> Option<String> {
    if size != entry.size {
        return Some(format!("has {size} bytes instead of {}", entry.size));
    }
    (sha256 != entry.sha256)
        .then(|| format!("was altered: its SHA-256 is {sha256}, and was {}", entry.sha256))
}

/// Whether an arrival is what its description says; else the file, and what is wrong with it.
fn arrival(
    reach: &mut Reach<'_>,
    entries: &BTreeMap<&str, &FileEntry>,
    (path, state, id): (&str, State, &ArrivalId),
) -> Result<(), (String, String)> {
    let (described, payload) = (format!("{path}/arrival.json"), format!("{path}/payload.age"));
    let fault = |file: &str, what: String| Err((file.to_owned(), what));
    let Some(entry) = entries.get(described.as_str()) else {
        // An operator was told so when it was held.
        return if state == State::Hold { Ok(()) } else { fault(path, "has no arrival.json".to_owned()) };
    };
    let read = reach.file(&entry.path).map_err(shown).and_then(|file| {
        let mut text = Vec::new();
        file.take(SMALL).read_to_end(&mut text).map_err(|error| error.to_string())?;
        serde_json::from_slice::<Arrival>(&text).map_err(|error| error.to_string())
    });
    let arrival = match read {
        Ok(arrival) => arrival,
        Err(_) if state == State::Hold => return Ok(()),
        Err(error) => return fault(&described, format!("cannot be read as a description: {error}")),
    };
    if &arrival.id != id {
        return fault(&described, format!("describes {}", arrival.id));
    }
    match entries.get(payload.as_str()) {
        // Of what was done, the content may have been removed because its time had passed.
        None if matches!(state, State::Refused | State::Done | State::Hold) => Ok(()),
        None => fault(path, "has no payload.age".to_owned()),
        Some(entry) => match arrival.sha256.as_deref().and_then(|sha256| {
            let described = FileEntry { size: arrival.size, sha256: sha256.to_owned(), ..(*entry).clone() };
            differs(&described, entry.size, &entry.sha256)
        }) {
            Some(what) => fault(&payload, format!("is not what arrival.json says: {what}")),
            None => Ok(()),
        },
    }
}

fn shown(error: Errno) -> String {
    match error {
        Errno::NOENT => "is missing".to_owned(),
        error => format!("cannot be opened: {error}"),
    }
}

fn read(folder: &Directory, name: &str, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    folder.file(name)?.take(limit).read_to_end(&mut text)?;
    Ok(text)
}

/// Shows every path below a folder; goes into those that are `known`.
fn walk(folder: &Directory, path: &str, depth: usize, known: &mut impl FnMut(&str) -> bool) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in folder.entries().unwrap_or_default() {
        let path = if path.is_empty() { entry.name.clone() } else { format!("{path}/{}", entry.name) };
        if known(&path)
            && entry.kind != FileType::RegularFile
            && let Ok(inner) = folder.directory(&entry.name)
        {
            walk(&inner, &path, depth, known);
        }
    }
}

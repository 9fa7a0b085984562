//! What an institution sees of results and receipts: one folder per institution and exchange, flat. Names are checked by
//! `policy::path` before they get here, and are still only ever used one component at a time.

use std::fs::File;
use std::io::Read;

use rustix::fs::{FileType, Stat};

use super::{Attempt, Directory, Spool, SpoolError, is_unfinished, write_durably};
use crate::policy::arrival::{Arrival, State};
use crate::policy::path::{Folder, Name, Slug};

/// More than any of the small files beside the receipts holds, in bytes.
const SMALL: u64 = 1 << 20;

/// What a listing says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Its name in the tree.
    pub name: Name,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// An upload that is not complete.
    Unfinished,
    /// An arrival that is not done.
    InProgress(State),
    /// A result or a receipt.
    Ready,
}

impl FileFacts {
    pub(super) fn from_stat(name: Name, facts: &Stat, stage: Stage) -> Self {
        Self { name, size: u64::try_from(facts.st_size).unwrap_or(0), mtime: facts.st_mtime, stage }
    }

    /// Of an arrival: the time that the client gave it, else the time it came in.
    pub fn of(arrival: &Arrival) -> Self {
        let mtime = arrival.mtime.map_or_else(|| arrival.received.as_second(), i64::from);
        let stage = Stage::InProgress(State::Incoming);
        Self { name: arrival.name.clone(), size: arrival.size, mtime, stage }
    }
}

impl Spool {
    /// The files in an institution's `out` or `receipts` folder of an exchange; `in` has no folder of its own.
    pub fn files(
        &self,
        institution: &Slug,
        exchange: &Slug,
        folder: Folder,
    ) -> Result<Vec<FileFacts>, SpoolError> {
        let Some(directory) = self.folder(institution, exchange, folder)? else { return Ok(Vec::new()) };
        let entries = directory.entries().attempt("list", || folder.as_str().to_owned())?;
        let facts = |name: Name| {
            let facts = directory.stat(name.as_str()).ok()?;
            let is_file = FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile;
            is_file.then(|| FileFacts::from_stat(name, &facts, Stage::Ready))
        };
        Ok(entries
            .iter()
            .filter(|entry| !is_unfinished(&entry.name))
            .filter_map(|entry| Name::parse(&entry.name).ok().and_then(facts))
            .collect())
    }

    /// One file there; `None` where there is none.
    pub fn file_facts(
        &self,
        institution: &Slug,
        exchange: &Slug,
        folder: Folder,
        name: &Name,
    ) -> Result<Option<FileFacts>, SpoolError> {
        let Some(directory) = self.folder(institution, exchange, folder)? else { return Ok(None) };
        Ok(match directory.stat(name.as_str()) {
            Ok(facts) if FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile => {
                Some(FileFacts::from_stat(name.clone(), &facts, Stage::Ready))
            }
            Ok(_) | Err(_) => None,
        })
    }

    /// Opens a file there for reading.
    pub fn open_file(
        &self,
        institution: &Slug,
        exchange: &Slug,
        folder: Folder,
        name: &Name,
    ) -> Result<File, SpoolError> {
        self.folder(institution, exchange, folder)?
            .ok_or(rustix::io::Errno::NOENT)
            .and_then(|directory| directory.file(name.as_str()))
            .attempt("open", || format!("{}/{name}", folder.as_str()))
    }

    /// Removes a file from `out`, durably.
    pub fn collect(&self, institution: &Slug, exchange: &Slug, name: &Name) -> Result<(), SpoolError> {
        let outbox = self.outbox_of(institution, exchange)?;
        outbox.remove(name.as_str()).and_then(|()| outbox.sync()).attempt("remove", || format!("out/{name}"))
    }

    /// Writes a receipt and its signature in place of those that may be there: the signature first, so that no receipt is
    /// ever seen without one. Between the two, an old receipt has a signature that does not fit it yet.
    pub fn write_receipt(
        &self,
        institution: &Slug,
        exchange: &Slug,
        (name, json): (&Name, &[u8]),
        (signature_name, signature): (&Name, &str),
    ) -> Result<(), SpoolError> {
        let folder = self.receipts_of(institution, exchange)?;
        write_durably(&folder, signature_name.as_str(), signature.as_bytes())?;
        write_durably(&folder, name.as_str(), json)
    }

    /// Sees to it that a small file beside the receipts has this content. Whether it had to be written.
    pub fn keep_beside_receipts(
        &self,
        institution: &Slug,
        exchange: &Slug,
        (name, content): (&str, &[u8]),
    ) -> Result<bool, SpoolError> {
        let folder = self.receipts_of(institution, exchange)?;
        let mut there = Vec::new();
        let read = folder.file(name).map(|file| file.take(SMALL).read_to_end(&mut there));
        if read.is_ok_and(|read| read.is_ok()) && there == content {
            return Ok(false);
        }
        write_durably(&folder, name, content).map(|()| true)
    }

    /// Whether a receipt is there.
    pub fn has_receipt(&self, institution: &Slug, exchange: &Slug, name: &Name) -> Result<bool, SpoolError> {
        Ok(self.receipts_of(institution, exchange)?.stat(name.as_str()).is_ok())
    }

    fn folder(
        &self,
        institution: &Slug,
        exchange: &Slug,
        folder: Folder,
    ) -> Result<Option<Directory>, SpoolError> {
        match folder {
            Folder::In => Ok(None),
            Folder::Out => self.outbox_of(institution, exchange).map(Some),
            Folder::Receipts => self.receipts_of(institution, exchange).map(Some),
        }
    }

    pub(super) fn outbox_of(&self, institution: &Slug, exchange: &Slug) -> Result<Directory, SpoolError> {
        below(&self.outbox, institution, exchange)
    }

    pub(super) fn receipts_of(&self, institution: &Slug, exchange: &Slug) -> Result<Directory, SpoolError> {
        below(&self.receipts, institution, exchange)
    }
}

fn below(top: &Directory, institution: &Slug, exchange: &Slug) -> Result<Directory, SpoolError> {
    // Made on demand: an arrival may still be on its way to an exchange that the configuration has lost.
    top.make(institution.as_str())
        .and_then(|folder| folder.make(exchange.as_str()))
        .attempt("open", || format!("{institution}/{exchange}"))
}

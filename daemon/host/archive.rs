//! What lies in the spool of one exchange, for whoever only looks: receipts with their signatures, finished arrivals, results.
//! One at a time, so that memory stays bounded, and without a `Spool`, which makes folders. What they say is `policy`'s.

use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::directory::Directory;
use super::spool::{Cases, Kept, SpoolError, cases_in, kept_in};
use crate::policy::arrival::{ArrivalId, State, UNFINISHED};
use crate::policy::path::Slug;
use crate::policy::signature::ENDING;

/// More than any receipt holds, in bytes.
const RECEIPT_MAX: u64 = 4 << 20;
/// Of an arrival's stamp, in a receipt's name.
const STAMP: usize = 37;

/// Something in the spool cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {cause}; run this as the user `work` runs as, or as root", path = path.display())]
pub struct ArchiveError {
    path: PathBuf,
    #[source]
    cause: Errno,
}

/// A spool that is only looked at.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    directory: Directory,
}

/// A receipt as it lies there.
#[derive(Debug)]
pub struct Paper<'a> {
    folder: &'a Directory,
    /// Whose.
    pub institution: &'a Slug,
    /// Its file's name.
    pub name: &'a str,
    /// When it was last written.
    pub written: Timestamp,
}

impl Paper<'_> {
    /// When its arrival was received, as its name says.
    pub fn received(&self) -> Option<Timestamp> {
        let stem = self.name.strip_suffix(".json")?;
        let begin = stem.len().checked_sub(STAMP)?;
        ArrivalId::time_of(stem.get(begin..)?)
    }

    /// Its text, and its signature; none where it is gone meanwhile.
    pub fn read(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let read = |name: &str| {
            let mut text = Vec::new();
            self.folder.file(name).ok()?.take(RECEIPT_MAX).read_to_end(&mut text).ok()?;
            Some(text)
        };
        let text = read(self.name)?;
        Some((text, read(&format!("{}{ENDING}", self.name)).unwrap_or_default()))
    }
}

impl Archive {
    /// All cases of incidents.
    pub fn incidents(&self) -> Result<Cases, SpoolError> {
        cases_in(&self.directory, |_| false)
    }

    /// What is known of the rhythm of a flow; none where `work` has not begun to count.
    pub fn kept(&self, exchange: &Slug, flow: &Slug) -> Result<Option<Kept>, SpoolError> {
        kept_in(&self.directory, exchange, flow)
    }

    /// Opens the folder of a spool.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let directory =
            Directory::open(path).map_err(|cause| ArchiveError { path: path.to_owned(), cause })?;
        Ok(Self { path: path.to_owned(), directory })
    }

    /// Shows every receipt of an exchange, in no order.
    pub fn receipts(&self, exchange: &Slug, mut each: impl FnMut(&Paper<'_>)) -> Result<(), ArchiveError> {
        self.each_file("receipts", exchange, |folder, institution, name, facts| {
            let is_receipt = name.ends_with(".json");
            if is_receipt {
                each(&Paper { folder, institution, name, written: changed(facts) });
            }
        })
    }

    /// Shows when each result of an exchange was delivered that lies in an outbox.
    pub fn results(&self, exchange: &Slug, mut each: impl FnMut(Timestamp)) -> Result<(), ArchiveError> {
        self.each_file("outbox", exchange, |_, _, _, facts| each(changed(facts)))
    }

    /// Shows the arrivals of an exchange in a state, and since when they are in it.
    pub fn arrivals(
        &self,
        state: State,
        exchange: &Slug,
        mut each: impl FnMut(&ArrivalId, Timestamp),
    ) -> Result<(), ArchiveError> {
        let Some(folder) = self.below(&self.directory, state.as_str())? else { return Ok(()) };
        let shown = folder.each_name(|name| {
            // A claimed one has the owner behind its id.
            let id = name.splitn(4, '.').take(3).collect::<Vec<_>>().join(".");
            let Some(id) = ArrivalId::parse(&id).filter(|id| id.exchange() == exchange) else { return };
            if ArrivalId::begins(name)
                && let Ok(facts) = folder.stat(name)
            {
                each(&id, changed(&facts));
            }
        });
        shown.map_err(|cause| self.failed(state.as_str(), cause))
    }

    fn each_file(
        &self,
        top: &str,
        exchange: &Slug,
        mut each: impl FnMut(&Directory, &Slug, &str, &Stat),
    ) -> Result<(), ArchiveError> {
        let Some(top_folder) = self.below(&self.directory, top)? else { return Ok(()) };
        let entries = top_folder.entries().map_err(|cause| self.failed(top, cause))?;
        let mut institutions: Vec<Slug> =
            entries.iter().filter_map(|entry| Slug::parse(&entry.name).ok()).collect();
        institutions.sort();
        for institution in institutions {
            let shown = format!("{top}/{institution}/{exchange}");
            let Some(of_institution) = self.below(&top_folder, institution.as_str())? else { continue };
            let Some(folder) = self.below(&of_institution, exchange.as_str())? else { continue };
            let listed = folder.each_name(|name| {
                let is_whole = !name.ends_with(UNFINISHED);
                if let Some(facts) = folder.stat(name).ok().filter(|facts| is_whole && is_file(facts)) {
                    each(&folder, &institution, name, &facts);
                }
            });
            listed.map_err(|cause| self.failed(&shown, cause))?;
        }
        Ok(())
    }

    /// A folder; none where there is none.
    fn below(&self, folder: &Directory, name: &str) -> Result<Option<Directory>, ArchiveError> {
        match folder.directory(name) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(cause) => Err(self.failed(name, cause)),
        }
    }

    fn failed(&self, name: &str, cause: Errno) -> ArchiveError {
        ArchiveError { path: self.path.join(name), cause }
    }
}

fn is_file(facts: &Stat) -> bool {
    FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile
}

fn changed(facts: &Stat) -> Timestamp {
    Timestamp::from_second(facts.st_mtime).unwrap_or(Timestamp::MAX)
}

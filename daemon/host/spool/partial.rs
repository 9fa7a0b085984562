//! Where an upload grows: `partial/‹institution›.‹exchange›/‹name›/payload.age`. One session at a time holds it, by a lock
//! on the file, so that nobody writes into what another has just had inspected. Its content has passed the gate
//! before the first byte gets here; that is `serve`'s promise.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;

use super::{Attempt, Directory, FileFacts, PAYLOAD, Spool, SpoolError, Stage};
use crate::host::files::{digest, read_full_at};
use crate::policy::path::{Name, Slug};

pub(super) fn folder_name(institution: &Slug, exchange: &Slug) -> String {
    format!("{institution}.{exchange}")
}

/// An upload in progress, held by this session alone.
#[derive(Debug)]
pub struct Partial {
    pub(super) name: Name,
    /// `partial/‹institution›.‹exchange›`
    pub(super) parent: Directory,
    /// The folder of this upload.
    pub(super) folder: Directory,
    pub(super) file: File,
}

impl Spool {
    /// Begins an upload, or begins one of the same name anew.
    pub fn create_partial(
        &self,
        institution: &Slug,
        exchange: &Slug,
        name: &Name,
    ) -> Result<Partial, SpoolError> {
        let parent = self.partials(institution, exchange)?;
        let folder = parent.make(name.as_str()).attempt("make", || format!("partial/{name}"))?;
        let file = match folder.create(PAYLOAD) {
            Err(Errno::EXIST) => folder.file_to_write(PAYLOAD),
            other => other,
        }
        .attempt("make", || format!("partial/{name}/{PAYLOAD}"))?;
        let partial = lock_partial(name, parent, folder, file)?;
        partial.file.set_len(0).attempt("empty", || format!("partial/{name}"))?;
        Ok(partial)
    }

    /// Goes on with an upload; `None` where there is none of that name.
    pub fn open_partial(
        &self,
        institution: &Slug,
        exchange: &Slug,
        name: &Name,
    ) -> Result<Option<Partial>, SpoolError> {
        let parent = self.partials(institution, exchange)?;
        let opened = parent
            .directory(name.as_str())
            .and_then(|folder| folder.file_to_write(PAYLOAD).map(|file| (folder, file)));
        match opened {
            Ok((folder, file)) => lock_partial(name, parent, folder, file).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).attempt("open", || format!("partial/{name}")),
        }
    }

    fn partials(&self, institution: &Slug, exchange: &Slug) -> Result<Directory, SpoolError> {
        let name = folder_name(institution, exchange);
        self.partial.directory(&name).attempt("open", || format!("partial/{name}"))
    }

    /// How many uploads of an institution in an exchange are not complete.
    pub fn count_partials(&self, institution: &Slug, exchange: &Slug) -> Result<usize, SpoolError> {
        let entries = self.partials(institution, exchange)?.entries();
        entries.map(|entries| entries.len()).attempt("list", || "partial".to_owned())
    }

    /// Size and mtime of an upload in progress, whoever holds it.
    pub fn partial_facts(
        &self,
        institution: &Slug,
        exchange: &Slug,
        name: &Name,
    ) -> Result<Option<FileFacts>, SpoolError> {
        let parent = self.partials(institution, exchange)?;
        Ok(facts_in(&parent, name))
    }

    /// All uploads of an institution in an exchange that are in progress.
    pub fn partials_facts(&self, institution: &Slug, exchange: &Slug) -> Result<Vec<FileFacts>, SpoolError> {
        let parent = self.partials(institution, exchange)?;
        let entries = parent.entries().attempt("list", || "partial".to_owned())?;
        Ok(entries
            .iter()
            .filter_map(|entry| Name::parse(&entry.name).ok())
            .filter_map(|name| facts_in(&parent, &name))
            .collect())
    }

    /// Removes the uploads that nobody has written to for too long, each after `record` has recorded it, with the SHA-256 of what
    /// is there, and agreed.
    pub fn expire_partials(
        &self,
        is_due: impl Fn(&Slug, Timestamp) -> bool,
        record: impl Fn(&Slug, &Slug, &FileFacts, String) -> bool,
    ) -> Result<(), SpoolError> {
        for pair in self.partial.entries().attempt("list", || "partial".to_owned())? {
            let Some((institution, exchange)) = pair.name.split_once('.') else { continue };
            let (Ok(institution), Ok(exchange)) = (Slug::parse(institution), Slug::parse(exchange)) else {
                continue;
            };
            for facts in self.partials_facts(&institution, &exchange)? {
                let is_due = |facts: &FileFacts| {
                    is_due(&exchange, Timestamp::from_second(facts.mtime).unwrap_or(Timestamp::MAX))
                };
                if !is_due(&facts) {
                    continue;
                }
                let held = match self.open_partial(&institution, &exchange, &facts.name) {
                    Ok(Some(partial)) => partial,
                    Ok(None) | Err(SpoolError::Busy(_)) => continue,
                    Err(error) => return Err(error),
                };
                // Somebody may have gone on with it before it was held here.
                let facts = facts_in(&held.parent, &facts.name).filter(is_due);
                let digested = held.file.try_clone().and_then(digest).attempt("read", || pair.name.clone());
                let (Some(facts), (_, sha256)) = (facts, digested?) else { continue };
                if record(&institution, &exchange, &facts, sha256)
                    && let Err(error) = held.remove()
                {
                    // The others have their turn all the same.
                    tracing::error!(%error, "an expired upload could not be removed");
                }
            }
        }
        Ok(())
    }
}

/// Locks it for this session.
fn lock_partial(
    name: &Name,
    parent: Directory,
    folder: Directory,
    file: File,
) -> Result<Partial, SpoolError> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(SpoolError::Busy(name.to_string())),
        Err(error) => return Err(error).attempt("lock", || format!("partial/{name}")),
    }
    // Between opening and locking, the one who held it may have published or removed it.
    let ours = fstat(&file).attempt("examine", || name.to_string())?;
    let there = parent.directory(name.as_str()).and_then(|folder| folder.stat(PAYLOAD));
    if !there.is_ok_and(|facts| (facts.st_ino, facts.st_dev) == (ours.st_ino, ours.st_dev)) {
        return Err(SpoolError::Busy(name.to_string()));
    }
    Ok(Partial { name: name.clone(), parent, folder, file })
}

fn facts_in(parent: &Directory, name: &Name) -> Option<FileFacts> {
    let facts = parent.directory(name.as_str()).and_then(|folder| folder.stat(PAYLOAD)).ok()?;
    Some(FileFacts::from_stat(name.clone(), &facts, Stage::Unfinished))
}

impl Partial {
    /// Bytes so far.
    pub fn size(&self) -> Result<u64, SpoolError> {
        Ok(self.file.metadata().attempt("examine", || self.name.to_string())?.len())
    }

    /// Writes at an offset. What fails is not tried again: the caller gives this upload up.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), SpoolError> {
        self.file.write_all_at(bytes, offset).attempt("write", || self.name.to_string())
    }

    /// Hands on all of it, in order and in pieces, until the taker has enough.
    pub fn read_through(&self, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), SpoolError> {
        let mut buffer = vec![0; 256 * 1024];
        let mut offset = 0;
        loop {
            let count =
                read_full_at(&self.file, &mut buffer, offset).attempt("read", || self.name.to_string())?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            if take(bytes).is_break() {
                return Ok(());
            }
            offset += count as u64;
        }
    }

    /// Whether some of its bytes were never written, where the file system can tell.
    pub fn has_gaps(&self) -> Result<bool, SpoolError> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(0)) {
            Ok(end) => Ok(end < self.size()?),
            // It is empty.
            Err(Errno::NXIO) => Ok(false),
            Err(error) => Err(error).attempt("examine", || self.name.to_string()),
        }
    }

    /// Cuts it to a length.
    pub fn truncate(&self, length: u64) -> Result<(), SpoolError> {
        self.file.set_len(length).attempt("truncate", || self.name.to_string())
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> Result<(), SpoolError> {
        self.file.sync_all().attempt("sync", || self.name.to_string())
    }

    /// Removes it, with the description beside it where a crash came between that and its publication.
    pub fn remove(self) -> Result<(), SpoolError> {
        let entries = self.folder.entries().attempt("list", || self.name.to_string())?;
        entries
            .iter()
            .try_for_each(|entry| self.folder.remove_if_there(&entry.name))
            .and_then(|()| self.parent.remove_directory(self.name.as_str()))
            .attempt("remove", || self.name.to_string())
    }

    /// The name it lies under.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Lets it grow under another temporary name.
    pub fn rename(&mut self, new_name: &Name) -> Result<(), SpoolError> {
        self.take_name(new_name)?;
        self.parent.sync().attempt("sync", || new_name.to_string())
    }

    /// Moves it to another name, not yet durably; `Exists` where an upload has that name. Whoever has a name's place here is
    /// the only one, on any node, who can publish under it.
    pub fn take_name(&mut self, new_name: &Name) -> Result<(), SpoolError> {
        if &self.name != new_name {
            self.parent
                .move_to(self.name.as_str(), &self.parent, new_name.as_str())
                .map_err(|error| super::exists_or(error, || new_name.to_string(), "rename"))?;
            self.name = new_name.clone();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_beside_an_upload_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let slug = Slug::parse("a").unwrap();
        let spool = Spool::open(folder.path(), &[(slug.clone(), slug.clone())]).unwrap();
        let name = Name::parse("list.age").unwrap();
        let partial = spool.create_partial(&slug, &slug, &name).unwrap();
        partial.folder.create(super::super::ARRIVAL).unwrap();
        partial.remove().unwrap();
        assert_eq!(spool.partial.directory("a.a").unwrap().entries().unwrap().len(), 0);
    }
}

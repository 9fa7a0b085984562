//! Where an upload grows: `partial/‹institution›.‹exchange›/‹name›/payload.age`. One session at a time holds it, by a lock
//! on the file, so that nobody writes into what another has just had inspected. Its content has passed the gate
//! before the first byte gets here; that is `serve`'s promise. What the disk failed once is never gone on with, by nobody:
//! it is removed, and where that fails, or the process ends before, a mark beside the file says so.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;

use super::space::{Growth, Space};
use super::{Attempt, Directory, FileFacts, PAYLOAD, Spool, SpoolError, Stage};
use crate::host::files::{digest, read_full_at};
use crate::policy::path::{Name, Slug};

/// Beside a file whose bytes may not be what was written. The system tells of bytes that it could not put on the disk once:
/// who opens the file later would sync it with success.
pub(super) const UNSAFE: &str = "unsafe";
/// How often a folder that was swept away while it was being made is made again.
const TRIES: usize = 3;

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
    /// Device and inode of the file.
    identity: (u64, u64),
    /// Bytes so far.
    length: u64,
    space: Arc<Space>,
    growth: Growth,
}

/// What was set aside for it and not used is given back; another session may never go on with it.
impl Drop for Partial {
    fn drop(&mut self) {
        self.trim();
    }
}

impl Spool {
    /// Begins an upload, or begins one of the same name anew.
    pub fn create_partial(
        &self,
        institution: &Slug,
        exchange: &Slug,
        name: &Name,
    ) -> Result<Partial, SpoolError> {
        for _ in 0..TRIES {
            let parent = self.partials(institution, exchange)?;
            let (folder, file) = match make_payload(&parent, name) {
                Err(Errno::NOENT) => continue,
                made => made.attempt("make", || format!("partial/{name}/{PAYLOAD}"))?,
            };
            let mut partial = self.lock_partial(name, parent, folder, file)?;
            if partial.is_unsafe()? {
                partial.remove()?;
                continue;
            }
            if partial.length > 0 {
                partial.truncate(0)?;
            }
            return Ok(partial);
        }
        Err(SpoolError::Busy(name.to_string()))
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
            Ok((folder, file)) => {
                let partial = self.lock_partial(name, parent, folder, file)?;
                if partial.is_unsafe()? {
                    partial.remove()?;
                    return Ok(None);
                }
                Ok(Some(partial))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).attempt("open", || format!("partial/{name}")),
        }
    }

    pub(super) fn partials(&self, institution: &Slug, exchange: &Slug) -> Result<Directory, SpoolError> {
        let name = folder_name(institution, exchange);
        self.partial.directory(&name).attempt("open", || format!("partial/{name}"))
    }

    /// Whether an institution has so many uploads in an exchange that are not complete. What a crash left without content is
    /// none.
    pub fn has_partials(&self, institution: &Slug, exchange: &Slug, many: usize) -> Result<bool, SpoolError> {
        let parent = self.partials(institution, exchange)?;
        let entries = parent.entries().attempt("list", || "partial".to_owned())?;
        // Nearly always there are few, and none of them has to be looked at.
        Ok(entries.len() >= many
            && entries.iter().filter(|entry| has_content(&parent, &entry.name)).take(many).count() >= many)
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

impl Spool {
    /// Locks it for this session.
    fn lock_partial(
        &self,
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
        let length = u64::try_from(ours.st_size).unwrap_or(0);
        let (space, growth) = (Arc::clone(&self.space), Growth::from(&self.space, length));
        let identity = (ours.st_dev, ours.st_ino);
        Ok(Partial { name: name.clone(), parent, folder, file, identity, length, space, growth })
    }
}

/// Of what cannot be made, nothing stays.
fn make_payload(parent: &Directory, name: &Name) -> rustix::io::Result<(Directory, File)> {
    let made = parent.make(name.as_str()).and_then(|folder| match folder.create(PAYLOAD) {
        Err(Errno::EXIST) => folder.file_to_write(PAYLOAD).map(|file| (folder, file)),
        other => other.map(|file| (folder, file)),
    });
    made.inspect_err(|_| {
        let _ = parent.remove_directory(name.as_str());
    })
}

fn has_content(parent: &Directory, name: &str) -> bool {
    let facts = parent.directory(name).and_then(|folder| folder.stat(PAYLOAD));
    facts.is_ok_and(|facts| facts.st_size > 0)
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

    /// Writes at an offset. Where there is no room for it, the upload is what it was before; what fails otherwise is not tried
    /// again: the caller gives this upload up.
    pub fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<(), SpoolError> {
        let (length, end) = (bytes.len() as u64, offset.saturating_add(bytes.len() as u64));
        self.growth.assure(&self.file, offset, length).attempt("make room for", || self.name.to_string())?;
        match self.file.write_all_at(bytes, offset) {
            Ok(()) => {
                self.growth.has_written(end);
                self.length = self.length.max(end);
                Ok(())
            }
            Err(error) => Err(self.as_before(offset, error)),
        }
    }

    /// A write failed. Of one that found the disk full, what it wrote is cut off again; what was written before must be there,
    /// for some systems tell so late that it is not.
    fn as_before(&mut self, offset: u64, error: io::Error) -> SpoolError {
        let failed = SpoolError::Io { attempted: "write", what: self.name.to_string(), cause: error };
        if !failed.is_full() {
            return failed;
        }
        if offset < self.length {
            return self.lost(io::Error::other("it was full in the middle of a file"));
        }
        let cut = self.truncate(self.length);
        cut.and_then(|()| self.sync_bytes().map_err(|error| self.lost(error))).err().unwrap_or(failed)
    }

    fn lost(&self, cause: io::Error) -> SpoolError {
        SpoolError::Io { attempted: "sync", what: self.name.to_string(), cause }
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

    /// Cuts it to a length, not yet durably.
    pub fn truncate(&mut self, length: u64) -> Result<(), SpoolError> {
        self.file.set_len(length).attempt("truncate", || self.name.to_string())?;
        self.length = length;
        self.growth.settle(length);
        Ok(())
    }

    /// Gives back what was set aside behind its end.
    pub(super) fn trim(&mut self) {
        // What stays of it, the next who goes on with this upload uses up, or its removal.
        if self.growth.settle(self.length)
            && let Err(error) = self.file.set_len(self.length)
        {
            tracing::warn!(%error, name = %self.name, "room that was set aside could not be given back");
        }
    }

    /// Makes what was written durable, and that it is there. What fails must be given up.
    pub fn sync(&self) -> Result<(), SpoolError> {
        self.sync_bytes().map_err(|error| self.lost(error))?;
        self.folder.sync().and_then(|()| self.parent.sync()).map_err(|error| {
            self.mark();
            self.lost(error.into())
        })
    }

    /// While it is being made durable it is marked: should this process end between a failure and what it does about it, nobody
    /// could tell that there was one.
    pub(super) fn sync_bytes(&self) -> io::Result<()> {
        let is_marked = self.mark();
        self.file.sync_all()?;
        if is_marked {
            self.folder.remove(UNSAFE)?;
        }
        self.space.forget(self.identity);
        Ok(())
    }

    /// From now on nobody goes on with it. Where the disk takes no mark, at least nobody in this process does.
    fn mark(&self) -> bool {
        match self.folder.create(UNSAFE) {
            Ok(_) | Err(Errno::EXIST) => true,
            Err(_) => {
                self.space.condemn(self.identity);
                false
            }
        }
    }

    fn is_unsafe(&self) -> Result<bool, SpoolError> {
        match self.folder.stat(UNSAFE) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(self.space.is_condemned(self.identity)),
            Err(error) => Err(error).attempt("examine", || self.name.to_string()),
        }
    }

    /// Gives up what the disk failed: nobody goes on with it, also where it cannot be removed.
    pub fn discard(self) -> Result<(), SpoolError> {
        self.mark();
        self.remove()
    }

    /// Removes it durably, with what lies beside it where a crash came between that and its publication. The content goes first,
    /// and a mark last.
    pub fn remove(mut self) -> Result<(), SpoolError> {
        self.growth.settle(self.length);
        let entries = self.folder.entries().attempt("list", || self.name.to_string())?;
        let others = entries.iter().map(|entry| entry.name.as_str()).filter(|name| *name != UNSAFE);
        let mut all = std::iter::once(PAYLOAD).chain(others).chain([UNSAFE]);
        all.try_for_each(|name| self.folder.remove_if_there(name))
            .and_then(|()| self.parent.remove_directory(self.name.as_str()))
            .and_then(|()| self.parent.sync())
            .attempt("remove", || self.name.to_string())?;
        self.space.forget(self.identity);
        Ok(())
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

    fn spool() -> (tempfile::TempDir, Spool, Slug, Name) {
        let folder = tempfile::tempdir().unwrap();
        let slug = Slug::parse("a").unwrap();
        let spool = Spool::open(folder.path(), &[(slug.clone(), slug.clone())]).unwrap();
        (folder, spool, slug, Name::parse("list.age").unwrap())
    }

    fn begun(spool: &Spool, slug: &Slug, name: &Name) -> Partial {
        let mut partial = spool.create_partial(slug, slug, name).unwrap();
        partial.write_at(b"content", 0).unwrap();
        partial
    }

    #[test]
    fn nobody_goes_on_with_what_the_disk_failed() {
        let (_folder, spool, slug, name) = spool();
        // The process ended between the failure and what it does about it.
        let partial = begun(&spool, &slug, &name);
        assert!(partial.mark());
        drop(partial);
        assert!(spool.open_partial(&slug, &slug, &name).unwrap().is_none());
        assert!(spool.partial_facts(&slug, &slug, &name).unwrap().is_none(), "it is gone");
        // The disk takes no mark.
        let partial = begun(&spool, &slug, &name);
        partial.space.condemn(partial.identity);
        let before = partial.identity;
        drop(partial);
        let anew = spool.create_partial(&slug, &slug, &name).unwrap();
        assert_eq!(anew.length, 0);
        assert!(!spool.space.is_condemned(before), "its number may mean another file by now");
        anew.sync().unwrap();
        drop(anew);
        assert!(
            spool.open_partial(&slug, &slug, &name).unwrap().is_some(),
            "what is sound can be gone on with"
        );
    }

    #[test]
    fn what_is_synced_has_no_mark_and_what_is_given_up_leaves_nothing() {
        let (folder, spool, slug, name) = spool();
        let partial = begun(&spool, &slug, &name);
        partial.sync().unwrap();
        let beside = || std::fs::read_dir(folder.path().join("partial/a.a/list.age")).unwrap().count();
        assert_eq!(beside(), 1);
        partial.discard().unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("partial/a.a")).unwrap().count(), 0);
    }

    #[test]
    fn an_upload_that_finds_no_room_is_what_it_was_and_goes_on_when_there_is_some() {
        let (_folder, spool, slug, name) = spool();
        let partial = begun(&spool, &slug, &name);
        partial.sync().unwrap();
        drop(partial);
        spool.keep_free(u64::MAX);
        assert!(spool.require_room().unwrap_err().is_full());
        let mut partial = spool.open_partial(&slug, &slug, &name).unwrap().unwrap();
        assert!(partial.write_at(b" and more", 7).unwrap_err().is_full());
        assert_eq!(partial.size().unwrap(), 7);
        spool.keep_free(0);
        partial.write_at(b" and more", 7).unwrap();
        assert_eq!(partial.size().unwrap(), 16);
    }

    #[test]
    fn room_that_was_set_aside_is_given_back_when_a_session_ends() {
        use std::os::unix::fs::MetadataExt;
        let (_folder, spool, slug, name) = spool();
        let mut partial = spool.create_partial(&slug, &slug, &name).unwrap();
        for at in 0..40 {
            partial.write_at(&[7; 64 << 10], at * (64 << 10)).unwrap();
        }
        drop(partial);
        let partial = spool.open_partial(&slug, &slug, &name).unwrap().unwrap();
        let facts = partial.file.metadata().unwrap();
        assert_eq!(facts.len(), 40 * (64 << 10));
        assert!(facts.blocks() * 512 < 4 << 20, "{}", facts.blocks());
    }
}

//! One file being uploaded: what the gate lets through goes to the partial, in place. The partial comes into being with the
//! first byte that passed, so an upload that is refused at once never touches the disk.

use std::fs::File;
use std::ops::ControlFlow;

use jiff::Timestamp;
use tokio::task::block_in_place;

use super::opening::require_room;
use super::running_hash::{RunningHash, hash_of};
use crate::host::files::read_full_at;
use crate::host::spool::{FileFacts, Partial, Spool, SpoolError, Stage};
use crate::policy::envelope::Envelope;
use crate::policy::path::{Name, Slug};
use crate::policy::question::{Known, Unasked, judge};
use crate::policy::reason::Reason;
use crate::policy::upload::{Bounds, Gate, Pass};
use crate::serve::ask::JobSide;

/// An upload, from OPEN to CLOSE.
#[derive(Debug)]
pub struct Upload {
    /// Whose.
    pub institution: Slug,
    /// Where to.
    pub exchange: Slug,
    /// The name it was opened under.
    pub name: Name,
    /// When it was opened.
    pub opened: Timestamp,
    /// The modification time the client set.
    pub mtime: Option<u32>,
    /// Set once it is refused; every later request on it gets the same answer.
    pub refused: Option<Reason>,
    /// What holds until somebody says whether it is for this zone; none where that is not asked, or was.
    pub unasked: Option<Unasked>,
    /// So many unfinished uploads there may be when this one comes to lie on the disk; none where it has its place already.
    pub room: Option<usize>,
    known: Known,
    gate: Gate,
    partial: Option<Partial>,
    size: u64,
    /// Bytes that came, whether or not they passed.
    seen: u64,
    hash: RunningHash,
    /// The file of an arrival in progress that has this name, until the header is there to be compared.
    rival: Option<File>,
}

/// A complete upload that passed the gate.
#[derive(Debug)]
pub struct Sealed {
    /// The file.
    pub partial: Partial,
    /// The proof.
    pub envelope: Envelope,
    /// Lower-case hex of its SHA-256, where it could be computed on the way.
    pub sha256: Option<String>,
    /// Its header, unless somebody has said that it is for this zone.
    pub header: Option<Vec<u8>>,
    /// When it was opened.
    pub opened: Timestamp,
    /// The modification time the client set.
    pub mtime: Option<u32>,
}

impl Sealed {
    /// Its SHA-256. One that was not written in order, or by several sessions, is read for it once, when it is published
    /// and not before: closing a file costs its sender nothing.
    pub fn digest(&mut self) -> Result<&str, SpoolError> {
        let digest = match self.sha256.take() {
            Some(digest) => digest,
            None => hash_of(&self.partial)?,
        };
        Ok(self.sha256.insert(digest))
    }
}

/// Whose upload, where to, under which name.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Whose.
    pub institution: &'a Slug,
    /// Where to.
    pub exchange: &'a Slug,
    /// Under which name.
    pub name: &'a Name,
}

impl Upload {
    /// An upload from its first byte on.
    pub fn new(target: Target<'_>, bounds: Bounds, opened: Timestamp) -> Self {
        Self {
            institution: target.institution.clone(),
            exchange: target.exchange.clone(),
            name: target.name.clone(),
            opened,
            mtime: None,
            refused: None,
            unasked: None,
            room: None,
            known: Known::Unasked,
            gate: Gate::new(bounds),
            partial: None,
            size: 0,
            seen: 0,
            hash: RunningHash::default(),
            rival: None,
        }
    }

    /// Goes on with a partial; its header is inspected again, and of text armor all of it, for which so many bytes may be
    /// read. Says how many were.
    pub fn resume(
        target: Target<'_>,
        bounds: Bounds,
        opened: Timestamp,
        partial: Partial,
        readable: u64,
    ) -> Result<(Self, u64), Resume> {
        let mut upload = Self::new(target, bounds, opened);
        upload.size = partial.size()?;
        let (mut refused, mut read) = (None, 0);
        partial.read_through(|bytes| {
            if read > readable {
                refused = Some(Reason::Unavailable);
                return ControlFlow::Break(());
            }
            read += bytes.len() as u64;
            match upload.gate.resume(bytes) {
                Ok(()) if upload.gate.wants_more() => ControlFlow::Continue(()),
                Ok(()) => ControlFlow::Break(()),
                Err(reason) => {
                    refused = Some(reason);
                    ControlFlow::Break(())
                }
            }
        })?;
        match refused {
            Some(Reason::Unavailable) => return Err(Resume::TooMuch),
            Some(reason) => return Err(Resume::Refused(Box::new(partial), reason)),
            None => {}
        }
        if !upload.gate.is_open() {
            // What a crash left without a whole header was never worth resuming.
            partial.remove()?;
            return Ok((Self::new(target, bounds, opened), read));
        }
        upload.hash = RunningHash::lost();
        upload.partial = Some(partial);
        Ok((upload, read))
    }

    /// An arrival in progress has this name, and other content under it is not accepted: age never makes the same header
    /// twice, so the header tells, long before the end.
    pub fn compare_with(&mut self, rival: Option<File>) {
        self.rival = rival;
    }

    /// What a listing says of it.
    pub fn facts(&self) -> FileFacts {
        let mtime = self.mtime.map_or(self.opened.as_second(), i64::from);
        FileFacts { name: self.name.clone(), size: self.size, mtime, stage: Stage::Unfinished }
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that came, whether or not they passed.
    pub fn seen(&self) -> u64 {
        self.seen.max(self.size)
    }

    /// Bytes that are held in memory until those before them have come.
    pub fn held(&self) -> usize {
        self.gate.held()
    }

    /// Asks, as soon as the header is complete, whether the file is for this zone.
    pub async fn ask(&mut self, job_side: &JobSide) -> Result<(), WriteFault> {
        if let (Some(unasked), Some(header)) = (self.unasked, self.gate.header()) {
            self.unasked = None;
            self.known = judge(job_side.ask(&header).await, unasked)?;
        }
        Ok(())
    }

    /// Takes one write; nothing goes to disk before it is known, or not to be known, that the file is for this zone. A
    /// failure of the disk poisons the upload: what is on it can no longer be trusted.
    pub async fn write(
        &mut self,
        (spool, job_side): (&Spool, &JobSide),
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), WriteFault> {
        if let Some(reason) = &self.refused {
            return Err(WriteFault::Already(reason.clone()));
        }
        if bytes.is_empty() {
            // It would not make the file any longer, wherever it lies.
            return Ok(());
        }
        self.seen = self.seen.max(offset.saturating_add(bytes.len() as u64));
        let pass = self.gate.write(offset, bytes)?;
        if self.rival.is_some() && self.gate.is_open() {
            self.meet_rival()?;
        }
        if self.unasked.is_some() {
            self.ask(job_side).await?;
        }
        match pass {
            Pass::Nothing => {}
            Pass::AsGiven => self.put(spool, offset, bytes)?,
            Pass::These(all) => {
                for (offset, bytes) in all {
                    self.put(spool, offset, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// What cannot be compared now is, when the upload is published.
    fn meet_rival(&mut self) -> Result<(), Reason> {
        let (Some(rival), head) = (self.rival.take(), self.gate.head()) else { return Ok(()) };
        let mut there = vec![0; head.len()];
        match block_in_place(|| read_full_at(&rival, &mut there, 0)) {
            Ok(read) if there.get(..read) != Some(head) => Err(Reason::NameInUse),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn put(&mut self, spool: &Spool, offset: u64, bytes: &[u8]) -> Result<(), WriteFault> {
        block_in_place(|| {
            let partial = match &mut self.partial {
                Some(partial) => partial,
                none => {
                    // Many may have been opened while there was room for one.
                    require_room(spool, (&self.institution, &self.exchange), self.room)?;
                    none.insert(spool.create_partial(&self.institution, &self.exchange, &self.name)?)
                }
            };
            Ok::<_, WriteFault>(partial.write_at(bytes, offset)?)
        })
        .inspect_err(|fault| self.leave_nothing_of_a_beginning(fault))?;
        self.hash.update(offset, bytes);
        self.size = self.size.max(offset.saturating_add(bytes.len() as u64));
        Ok(())
    }

    /// An upload that found no room for its first bytes is not there.
    fn leave_nothing_of_a_beginning(&mut self, fault: &WriteFault) {
        if !matches!(fault, WriteFault::Later(_)) || self.size > 0 {
            return;
        }
        if let Some(Err(error)) = self.partial.take().map(|partial| block_in_place(|| partial.remove())) {
            tracing::warn!(%error, "an upload without content could not be removed; it will be swept away");
        }
    }

    /// Cuts it to a length, durably, or confirms the one it has. Cut to nothing, it begins anew, and so does its inspection.
    pub fn set_size(&mut self, size: u64) -> Result<(), WriteFault> {
        if size == self.size {
            return Ok(());
        }
        match &mut self.partial {
            Some(partial) if size == 0 => {
                block_in_place(|| partial.truncate(0).and_then(|()| partial.sync()))?;
                self.gate = Gate::new(self.gate.bounds());
                (self.size, self.seen, self.hash) = (0, 0, RunningHash::default());
                // Another header may come; it is asked about when the upload is published.
                self.known = Known::Unasked;
                Ok(())
            }
            Some(partial) if size < self.size && self.gate.may_truncate(size) => {
                block_in_place(|| partial.truncate(size).and_then(|()| partial.sync()))?;
                self.size = size;
                self.hash = RunningHash::lost();
                Ok(())
            }
            _ => Err(WriteFault::Already(Reason::Unsupported)),
        }
    }

    /// Makes what is there durable.
    pub fn sync(&self) -> Result<(), SpoolError> {
        self.partial.as_ref().map_or(Ok(()), |partial| block_in_place(|| partial.sync()))
    }

    /// The upload is complete, or gets its reason.
    pub fn seal(self) -> Result<Sealed, (Box<Self>, WriteFault)> {
        let envelope = match self.gate.seal(self.size) {
            Ok(envelope) => envelope,
            Err(reason) => return Err((Box::new(self), reason.into())),
        };
        let sha256 = self.hash.finish(self.size);
        // A file with gaps was not sent whole, and it costs its sender nothing to make it long.
        let whole = match (&self.partial, &sha256) {
            (None, _) => Err(Reason::Empty.into()),
            (Some(_), Some(_)) => Ok(()),
            (Some(partial), None) => match block_in_place(|| partial.has_gaps()) {
                Ok(false) => Ok(()),
                Ok(true) => Err(Reason::CutShort.into()),
                Err(error) => Err(error.into()),
            },
        };
        let header = self.gate.header().filter(|_| self.known == Known::Unasked);
        match (whole, self) {
            (Ok(()), Self { partial: Some(partial), opened, mtime, .. }) => {
                Ok(Sealed { partial, envelope, sha256, header, opened, mtime })
            }
            (Ok(()), this) => Err((Box::new(this), WriteFault::Refused(Reason::Empty))),
            (Err(fault), this) => Err((Box::new(this), fault)),
        }
    }

    /// Gives up what is held, and what is on disk, for its removal.
    pub fn take_partial(&mut self) -> Option<Partial> {
        self.gate.forget_held();
        self.partial.take()
    }
}

/// Why an upload cannot be resumed.
#[derive(Debug)]
pub enum Resume {
    /// What is there is not acceptable (the exchange's rules may have changed since).
    Refused(Box<Partial>, Reason),
    /// Inspecting it again would take more than may be read.
    TooMuch,
    /// The disk failed.
    Spool(SpoolError),
}

impl From<SpoolError> for Resume {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

/// Why a write is not taken.
#[derive(Debug)]
pub enum WriteFault {
    /// The gate refuses it: the upload is over.
    Refused(Reason),
    /// It cannot be taken now, and nothing is wrong with it: what is there stays, to be gone on with.
    Later(Reason),
    /// The upload was over before, or this one request is turned down.
    Already(Reason),
    /// The disk failed, or another session holds the name.
    Spool(SpoolError),
}

impl From<Reason> for WriteFault {
    fn from(reason: Reason) -> Self {
        if reason.is_passing() { Self::Later(reason) } else { Self::Refused(reason) }
    }
}

impl From<SpoolError> for WriteFault {
    fn from(error: SpoolError) -> Self {
        if error.is_full() {
            tracing::error!(%error, "the spool has no room for uploads");
            return Self::Later(Reason::SpoolFull);
        }
        Self::Spool(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_size: 1 << 30, armored: false, held: 1 << 20 };

    fn spool() -> (tempfile::TempDir, Spool, Slug, Name) {
        let folder = tempfile::tempdir().unwrap();
        let slug = Slug::parse("a").unwrap();
        let spool = Spool::open(folder.path(), &[(slug.clone(), slug.clone())]).unwrap();
        (folder, spool, slug, Name::parse("list.age").unwrap())
    }

    fn age_file() -> Vec<u8> {
        age::encrypt(&age::x25519::Identity::generate().to_public(), &[7; 1000]).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_with_gaps_is_not_complete_however_long_it_claims_to_be() {
        let (folder, spool, slug, name) = spool();
        let nobody = crate::serve::ask::tests::at(folder.path());
        let target = Target { institution: &slug, exchange: &slug, name: &name };
        let mut upload = Upload::new(target, BOUNDS, Timestamp::UNIX_EPOCH);
        upload.write((&spool, &nobody), 0, &age_file()).await.unwrap();
        upload.write((&spool, &nobody), 900 << 20, &[1; 100]).await.unwrap();
        let sealed = upload.seal();
        assert!(matches!(sealed, Err((_, WriteFault::Refused(Reason::CutShort)))), "{sealed:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn writing_nothing_makes_no_file_longer() {
        let (folder, spool, slug, name) = spool();
        let nobody = crate::serve::ask::tests::at(folder.path());
        let target = Target { institution: &slug, exchange: &slug, name: &name };
        let mut upload = Upload::new(target, BOUNDS, Timestamp::UNIX_EPOCH);
        let file = age_file();
        upload.write((&spool, &nobody), 0, &file).await.unwrap();
        upload.write((&spool, &nobody), 70_000, &[]).await.unwrap();
        assert_eq!(upload.size(), file.len() as u64);
        assert!(upload.seal().is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn writes_that_come_in_another_order_leave_no_gap() {
        let (folder, spool, slug, name) = spool();
        let nobody = crate::serve::ask::tests::at(folder.path());
        let target = Target { institution: &slug, exchange: &slug, name: &name };
        let mut upload = Upload::new(target, BOUNDS, Timestamp::UNIX_EPOCH);
        let file = age::encrypt(&age::x25519::Identity::generate().to_public(), &[7; 300_000]).unwrap();
        let (head, tail) = file.split_at(150_000);
        upload.write((&spool, &nobody), 150_000, tail).await.unwrap();
        upload.write((&spool, &nobody), 0, head).await.unwrap();
        assert!(upload.seal().is_ok());
    }

    #[test]
    fn armor_goes_on_only_as_far_as_it_may_be_read_again() {
        let (_folder, spool, slug, name) = spool();
        let target = Target { institution: &slug, exchange: &slug, name: &name };
        let mut armored = Vec::new();
        let mut writer =
            age::armor::ArmoredWriter::wrap_output(&mut armored, age::armor::Format::AsciiArmor).unwrap();
        std::io::Write::write_all(&mut writer, &age_file().repeat(1000)).unwrap();
        writer.finish().unwrap();
        let bounds = Bounds { armored: true, ..BOUNDS };
        let resume = |readable| {
            let mut partial = spool.create_partial(&slug, &slug, &name).unwrap();
            partial.write_at(&armored, 0).unwrap();
            Upload::resume(target, bounds, Timestamp::UNIX_EPOCH, partial, readable)
        };
        assert!(matches!(resume(1000), Err(Resume::TooMuch)));
        let (_, read) = resume(u64::MAX).unwrap();
        assert_eq!(read, armored.len() as u64);
        let binary = age::encrypt(&age::x25519::Identity::generate().to_public(), &vec![7; 2 << 20]).unwrap();
        let mut partial = spool.create_partial(&slug, &slug, &name).unwrap();
        partial.write_at(&binary, 0).unwrap();
        let (_, read) = Upload::resume(target, bounds, Timestamp::UNIX_EPOCH, partial, 0).unwrap();
        assert!(read < 1 << 20, "of a binary file the header is enough: {read}");
    }
}

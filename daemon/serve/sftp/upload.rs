//! One file being uploaded: what the gate lets through goes to the partial, in place. The partial comes into being with the
//! first byte that passed, so an upload that is refused at once never touches the disk.

use std::ops::ControlFlow;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::task::block_in_place;

use crate::host::spool::{Partial, Spool, SpoolError};
use crate::policy::digest::hex;
use crate::policy::envelope::{Envelope, Inspector};
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
    known: Known,
    gate: Gate,
    partial: Option<Partial>,
    size: u64,
    /// Bytes that came, whether or not they passed.
    seen: u64,
    hash: RunningHash,
}

/// A complete upload that passed the gate.
#[derive(Debug)]
pub struct Sealed {
    /// The file.
    pub partial: Partial,
    /// The proof.
    pub envelope: Envelope,
    /// Lower-case hex of its SHA-256.
    pub sha256: String,
    /// Its header, unless somebody has said that it is for this zone.
    pub header: Option<Vec<u8>>,
    /// When it was opened.
    pub opened: Timestamp,
    /// The modification time the client set.
    pub mtime: Option<u32>,
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
            known: Known::Unasked,
            gate: Gate::new(bounds),
            partial: None,
            size: 0,
            seen: 0,
            hash: RunningHash::default(),
        }
    }

    /// Goes on with a partial; its header is inspected again.
    pub fn resume(
        target: Target<'_>,
        bounds: Bounds,
        opened: Timestamp,
        partial: Partial,
    ) -> Result<Self, Resume> {
        let mut upload = Self::new(target, bounds, opened);
        upload.size = partial.size()?;
        let mut refused = None;
        partial.read_through(|bytes| match upload.gate.resume(bytes) {
            Ok(()) if upload.gate.wants_more() => ControlFlow::Continue(()),
            Ok(()) => ControlFlow::Break(()),
            Err(reason) => {
                refused = Some(reason);
                ControlFlow::Break(())
            }
        })?;
        if let Some(reason) = refused {
            return Err(Resume::Refused(partial, reason));
        }
        if !upload.gate.is_open() {
            // What a crash left without a whole header was never worth resuming.
            partial.remove()?;
            return Ok(Self::new(target, bounds, opened));
        }
        upload.hash = RunningHash::lost();
        upload.partial = Some(partial);
        Ok(upload)
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

    fn put(&mut self, spool: &Spool, offset: u64, bytes: &[u8]) -> Result<(), SpoolError> {
        block_in_place(|| {
            let partial = match &mut self.partial {
                Some(partial) => partial,
                none => none.insert(spool.create_partial(&self.institution, &self.exchange, &self.name)?),
            };
            partial.write_at(bytes, offset)
        })?;
        self.hash.update(offset, bytes);
        self.size = self.size.max(offset.saturating_add(bytes.len() as u64));
        Ok(())
    }

    /// Cuts it to a length, or confirms the one it has.
    pub fn set_size(&mut self, size: u64) -> Result<(), WriteFault> {
        if size == self.size {
            return Ok(());
        }
        match &self.partial {
            Some(partial) if size < self.size && self.gate.may_truncate(size) => {
                block_in_place(|| partial.truncate(size))?;
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
        let digest = match (&self.partial, self.hash.finish(self.size)) {
            (Some(_), Some(digest)) => Ok(digest),
            (Some(partial), None) => block_in_place(|| hash_of_whole(partial)),
            (None, _) => Err(WriteFault::Refused(Reason::Empty)),
        };
        let header = self.gate.header().filter(|_| self.known == Known::Unasked);
        match (digest, self) {
            (Ok(sha256), Self { partial: Some(partial), opened, mtime, .. }) => {
                Ok(Sealed { partial, envelope, sha256, header, opened, mtime })
            }
            (Ok(_), this) => Err((Box::new(this), WriteFault::Refused(Reason::Empty))),
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
    Refused(Partial, Reason),
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
        Self::Spool(error)
    }
}

/// SHA-256 along the way, as long as writes come in order.
#[derive(Debug)]
struct RunningHash {
    hasher: Option<Sha256>,
    taken: u64,
}

impl Default for RunningHash {
    fn default() -> Self {
        Self { hasher: Some(Sha256::new()), taken: 0 }
    }
}

impl RunningHash {
    fn lost() -> Self {
        Self { hasher: None, taken: 0 }
    }

    fn update(&mut self, offset: u64, bytes: &[u8]) {
        match &mut self.hasher {
            Some(hasher) if offset == self.taken => {
                hasher.update(bytes);
                self.taken += bytes.len() as u64;
            }
            _ => self.hasher = None,
        }
    }

    fn finish(&self, size: u64) -> Option<String> {
        self.hasher.as_ref().filter(|_| self.taken == size).map(|hasher| hex(&hasher.clone().finalize()))
    }
}

/// The hash of a file without gaps. One with gaps was not sent whole, and it costs its sender nothing to make it long.
fn hash_of_whole(partial: &Partial) -> Result<String, WriteFault> {
    if partial.has_gaps()? { Err(Reason::CutShort.into()) } else { Ok(hash_of(partial)?) }
}

fn hash_of(partial: &Partial) -> Result<String, SpoolError> {
    let mut hasher = Sha256::new();
    partial.read_through(|bytes| {
        hasher.update(bytes);
        ControlFlow::Continue(())
    })?;
    Ok(hex(&hasher.finalize()))
}

/// What an inspection from the disk finds.
#[derive(Debug)]
pub struct Inspected {
    /// The proof.
    pub envelope: Envelope,
    /// Lower-case hex of its SHA-256.
    pub sha256: String,
    /// The header in its binary form.
    pub header: Vec<u8>,
}

/// Inspects and hashes a file to its end, in one go.
pub fn inspect_and_hash(partial: &Partial) -> Result<Result<Inspected, Reason>, SpoolError> {
    let (mut inspector, mut hasher) = (Inspector::default(), Sha256::new());
    let (mut start, mut refused) = (Vec::new(), None);
    partial.read_through(|bytes| {
        hasher.update(bytes);
        if inspector.header().is_none() {
            start.extend_from_slice(bytes);
        }
        match inspector.feed(bytes) {
            Ok(_) => ControlFlow::Continue(()),
            Err(reason) => {
                refused = Some(reason);
                ControlFlow::Break(())
            }
        }
    })?;
    let sealed = refused.map_or_else(|| inspector.seal(), Err);
    let header = inspector.header().map(|header| header.binary(&start)).unwrap_or_default();
    Ok(sealed.map(|envelope| Inspected { envelope, sha256: hex(&hasher.finalize()), header }))
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
}

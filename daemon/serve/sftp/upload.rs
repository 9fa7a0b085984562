//! One file being uploaded: what the gate lets through goes to the partial, in place. The partial comes into being with the
//! first byte that passed, so an upload that is refused at once never touches the disk.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::task::block_in_place;

use crate::host::spool::{Partial, Spool, SpoolError};
use crate::policy::envelope::Envelope;
use crate::policy::path::{Name, Slug};
use crate::policy::reason::Reason;
use crate::policy::upload::{Bounds, Gate, Pass};

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
        let mut buffer = vec![0; 256 * 1024];
        let mut offset = 0;
        while upload.gate.wants_more() {
            let count = partial.read_at(&mut buffer, offset)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            if let Err(reason) = upload.gate.resume(bytes) {
                return Err(Resume::Refused(partial, reason));
            }
            offset += count as u64;
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

    /// Takes one write. A failure of the disk poisons the upload: what is on it can no longer be trusted.
    pub fn write(&mut self, spool: &Spool, offset: u64, bytes: &[u8]) -> Result<(), WriteFault> {
        if let Some(reason) = &self.refused {
            return Err(WriteFault::Already(reason.clone()));
        }
        self.seen = self.seen.max(offset.saturating_add(bytes.len() as u64));
        match self.gate.write(offset, bytes)? {
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
            (Some(partial), None) => block_in_place(|| hash_of(partial)).map_err(WriteFault::Spool),
            (None, _) => Err(WriteFault::Refused(Reason::Empty)),
        };
        match (digest, self) {
            (Ok(sha256), Self { partial: Some(partial), opened, mtime, .. }) => {
                Ok(Sealed { partial, envelope, sha256, opened, mtime })
            }
            (Ok(_), this) => Err((Box::new(this), WriteFault::Refused(Reason::Empty))),
            (Err(fault), this) => Err((Box::new(this), fault)),
        }
    }

    /// Gives up what is on disk, for its removal.
    pub fn take_partial(&mut self) -> Option<Partial> {
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
    /// The upload was over before, or this one request is turned down.
    Already(Reason),
    /// The disk failed, or another session holds the name.
    Spool(SpoolError),
}

impl From<Reason> for WriteFault {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
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

/// Reads a partial to its end.
pub fn hash_of(partial: &Partial) -> Result<String, SpoolError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut offset = 0;
    loop {
        let count = partial.read_at(&mut buffer, offset)?;
        match buffer.get(..count) {
            Some(bytes) if !bytes.is_empty() => hasher.update(bytes),
            _ => return Ok(hex(&hasher.finalize())),
        }
        offset += count as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Encrypts a result to its receivers while it is still being made: the maker fills buffers, a second thread encrypts and
//! writes them, or takes them through another stage first (`shape`). Where the results lie and when they become visible is `host::spool`'s business.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use age::stream::StreamWriter;
use age::{Encryptor, Recipient};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::query::Sink;
use crate::policy::digest::hex;

/// Bytes a buffer is handed over with.
pub const BUFFER: usize = 1 << 20;
/// What a buffer may hold beyond that before its owner hands it over.
const SLACK: usize = 64 << 10;
/// Buffers under way at a time.
const BUFFERS: usize = 4;

/// Plaintext on its way to encryption; wiped when dropped.
pub type Buffer = Zeroizing<Vec<u8>>;

/// One encrypted copy of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed<W> {
    /// Where it was written to, for syncing.
    pub output: W,
    /// Bytes written.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// A result cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum EncryptError {
    /// The configuration is at fault.
    #[error("{0:?} is no age recipient; put a line beginning with age1 under recipients of the institution")]
    Recipient(String),
    /// No recipient at all.
    #[error("the receiver has no recipients; put its age1… line under recipients of the institution")]
    NoRecipient,
    /// The disk is at fault.
    #[error("cannot write the result: {0}")]
    Io(#[from] io::Error),
    /// The job makes more than it may.
    #[error(
        "the results are larger than {limit} bytes together (work.result-size): look at how often the query gives a row of the \
         list, raise the limit, or have the list sent in parts"
    )]
    TooLarge {
        /// For all results of a job.
        limit: u64,
    },
}

/// Where the maker of a result puts its bytes.
pub struct Pipe {
    full: SyncSender<Option<Buffer>>,
    empty: Receiver<Buffer>,
    made: usize,
}

impl Sink for Pipe {
    /// Waits while too many are under way.
    fn buffer(&mut self) -> io::Result<Buffer> {
        if self.made < BUFFERS {
            self.made += 1;
            return Ok(new_buffer());
        }
        self.empty.recv().map_err(|_| closed())
    }

    /// Fails once encryption or writing has failed.
    fn send(&mut self, buffer: Buffer) -> io::Result<()> {
        self.full.send(Some(buffer)).map_err(|_| closed())
    }
}

/// An empty buffer with room for what is handed over at a time.
pub fn new_buffer() -> Buffer {
    Zeroizing::new(Vec::with_capacity(BUFFER + SLACK))
}

/// The other side's own error says why; this one never reaches anybody.
pub fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::BrokenPipe)
}

/// Begins an age file for these recipients (`age1…`).
pub fn begin(recipients: &[String]) -> Result<Encryptor, EncryptError> {
    let recipients = recipients
        .iter()
        .map(|text| text.parse::<age::x25519::Recipient>().map_err(|_| EncryptError::Recipient(text.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    Encryptor::with_recipients(recipients.iter().map(|recipient| recipient as &dyn Recipient))
        .map_err(|_| EncryptError::NoRecipient)
}

/// What is done with a result on its way out, in a thread of its own.
pub trait Stage {
    /// What it leaves.
    type Made: Send;
    /// What can go wrong.
    type Error: From<EncryptError> + Send;

    /// Takes the next buffer; rows end where buffers end.
    fn take(&mut self, buffer: &Buffer) -> Result<(), Self::Error>;

    /// The result is complete. Not called where its maker failed.
    fn finish(self) -> Result<Self::Made, Self::Error>;
}

/// Runs `make`, and what it puts into the pipe through the stage that `begin` gives. A failure of the stage comes before what
/// `make` says about it.
pub fn through<S: Stage, T, E: From<S::Error>>(
    begin: impl FnOnce() -> Result<S, S::Error> + Send,
    make: impl FnOnce(&mut Pipe) -> Result<T, E>,
) -> Result<(T, S::Made), E> {
    let (full, to_take) = sync_channel(BUFFERS);
    let (taken, empty) = sync_channel(BUFFERS);
    std::thread::scope(|scope| {
        let taker = scope.spawn(move || take_all(begin()?, &to_take, &taken));
        let mut pipe = Pipe { full, empty, made: 0 };
        let made = make(&mut pipe);
        if made.is_ok() {
            // The stage has failed where this does, and says why.
            let _ = pipe.full.send(None);
        }
        drop(pipe);
        let left = taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        match (made?, left) {
            (made, Some(left)) => Ok((made, left)),
            (_, None) => Err(S::Error::from(EncryptError::Io(closed())).into()),
        }
    })
}

/// Nothing where the maker ended before the result was complete.
fn take_all<S: Stage>(
    mut stage: S,
    full: &Receiver<Option<Buffer>>,
    empty: &SyncSender<Buffer>,
) -> Result<Option<S::Made>, S::Error> {
    while let Ok(next) = full.recv() {
        let Some(mut buffer) = next else { return stage.finish().map(Some) };
        stage.take(&buffer)?;
        buffer.clear();
        // The maker may have ended already.
        let _ = empty.try_send(buffer);
    }
    Ok(None)
}

/// Runs `make` and writes what it puts into the pipe to every output, each in its own encryption, `most` bytes to all of them
/// together.
pub fn encrypt<W: Write + Send, T, E: From<EncryptError>>(
    outputs: Vec<(Encryptor, W)>,
    most: u64,
    make: impl FnOnce(&mut Pipe) -> Result<T, E>,
) -> Result<(T, Vec<Sealed<W>>), E> {
    let begin = move || {
        let quota = Quota::of(most);
        let begin = |(encryptor, output)| Sealing::begin(encryptor, output, &quota, BUFFER);
        Ok(Copies(outputs.into_iter().map(begin).collect::<Result<_, EncryptError>>()?))
    };
    through(begin, make)
}

/// The same to everybody.
struct Copies<W: Write>(Vec<Sealing<W>>);

impl<W: Write + Send> Stage for Copies<W> {
    type Made = Vec<Sealed<W>>;
    type Error = EncryptError;

    fn take(&mut self, buffer: &Buffer) -> Result<(), EncryptError> {
        self.0.iter_mut().try_for_each(|sealing| sealing.write(buffer))
    }

    fn finish(self) -> Result<Vec<Sealed<W>>, EncryptError> {
        self.0.into_iter().map(Sealing::finish).collect()
    }
}

/// An encrypted file that is being written.
pub struct Sealing<W: Write> {
    writer: StreamWriter<Digested<W>>,
    quota: Rc<Quota>,
}

impl<W: Write> Sealing<W> {
    /// Writes the header. What goes out is gathered into pieces of about `piece` bytes.
    pub fn begin(
        encryptor: Encryptor,
        output: W,
        quota: &Rc<Quota>,
        piece: usize,
    ) -> Result<Self, EncryptError> {
        let digested = Digested::new(output, Rc::clone(quota), piece);
        let writer = encryptor.wrap_output(digested).map_err(|error| quota.explain(error))?;
        Ok(Self { writer, quota: Rc::clone(quota) })
    }

    /// Encrypts some more.
    pub fn write(&mut self, plaintext: &[u8]) -> Result<(), EncryptError> {
        self.writer.write_all(plaintext).map_err(|error| self.quota.explain(error))
    }

    /// Ends the file; it is not synced.
    pub fn finish(self) -> Result<Sealed<W>, EncryptError> {
        let Self { writer, quota } = self;
        writer.finish().and_then(Digested::finish).map_err(|error| quota.explain(error))
    }
}

/// What may be written to all outputs together; one thread writes them.
pub struct Quota {
    most: u64,
    left: Cell<u64>,
    is_passed: Cell<bool>,
}

impl Quota {
    /// So many bytes.
    pub fn of(most: u64) -> Rc<Self> {
        Rc::new(Self { most, left: Cell::new(most), is_passed: Cell::new(false) })
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        match self.left.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.is_passed.set(true);
                Err(io::ErrorKind::QuotaExceeded.into())
            }
        }
    }

    fn explain(&self, error: io::Error) -> EncryptError {
        if self.is_passed.get() {
            EncryptError::TooLarge { limit: self.most }
        } else {
            EncryptError::Io(error)
        }
    }
}

/// Counts and digests what goes through, in pieces larger than age's chunks.
struct Digested<W> {
    output: W,
    quota: Rc<Quota>,
    piece: usize,
    pending: Vec<u8>,
    size: u64,
    digest: Sha256,
}

impl<W: Write> Digested<W> {
    fn new(output: W, quota: Rc<Quota>, piece: usize) -> Self {
        let pending = Vec::with_capacity(piece + SLACK);
        Self { output, quota, piece, pending, size: 0, digest: Sha256::new() }
    }

    fn push(&mut self) -> io::Result<()> {
        self.quota.take(self.pending.len())?;
        self.digest.update(&self.pending);
        self.output.write_all(&self.pending)?;
        self.size += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<Sealed<W>> {
        self.flush()?;
        Ok(Sealed { output: self.output, size: self.size, sha256: hex(&self.digest.finalize()) })
    }
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= self.piece {
            self.push()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()?;
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use age::x25519;

    use super::*;

    fn opened(identity: &x25519::Identity, file: &[u8]) -> Vec<u8> {
        let mut plaintext = Vec::new();
        let decryptor = age::Decryptor::new(file).unwrap();
        let mut reader = decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).unwrap();
        reader.read_to_end(&mut plaintext).unwrap();
        plaintext
    }

    #[test]
    fn every_receiver_gets_the_whole_result_under_its_own_key() {
        let identities = [x25519::Identity::generate(), x25519::Identity::generate()];
        let outputs = identities
            .iter()
            .map(|identity| (begin(&[identity.to_public().to_string()]).unwrap(), Vec::new()))
            .collect();
        let (count, sealed) = encrypt(outputs, u64::MAX, |pipe| {
            for round in 0..12_u8 {
                let mut buffer = pipe.buffer()?;
                assert!(buffer.is_empty());
                buffer.extend(std::iter::repeat_n(round, BUFFER));
                pipe.send(buffer)?;
            }
            Ok::<_, EncryptError>(12)
        })
        .unwrap();
        assert_eq!(count, 12);
        for (identity, sealed) in identities.iter().zip(&sealed) {
            let plaintext = opened(identity, &sealed.output);
            assert_eq!(plaintext.len(), 12 * BUFFER);
            assert!(
                plaintext.chunks(BUFFER).enumerate().all(|(at, part)| part.iter().all(|b| *b == at as u8))
            );
            assert_eq!(sealed.size, sealed.output.len() as u64);
            assert_eq!(sealed.sha256, hex(&Sha256::digest(&sealed.output)));
        }
        assert!(begin(&["age1nonsense".into()]).is_err() && begin(&[]).is_err());
    }

    #[test]
    fn a_full_disk_ends_the_maker_and_is_what_is_reported() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let encryptor = begin(&[x25519::Identity::generate().to_public().to_string()]).unwrap();
        let failed = encrypt(vec![(encryptor, Full)], u64::MAX, |pipe| {
            loop {
                let mut buffer = pipe.buffer()?;
                buffer.resize(BUFFER, 0);
                pipe.send(buffer)?;
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok::<(), EncryptError>(())
        });
        assert!(
            matches!(&failed, Err(EncryptError::Io(error)) if error.kind() == io::ErrorKind::StorageFull),
            "{:?}",
            failed.map(|_| ())
        );
    }

    #[test]
    fn results_may_be_as_large_as_agreed_all_together_and_no_larger() {
        let sealed = |most: u64| {
            let recipient = x25519::Identity::generate().to_public().to_string();
            let output = || (begin(std::slice::from_ref(&recipient)).unwrap(), Vec::new());
            encrypt(vec![output(), output()], most, |pipe| {
                for _ in 0..3 {
                    let mut buffer = pipe.buffer()?;
                    buffer.resize(BUFFER, 0);
                    pipe.send(buffer)?;
                }
                Ok::<_, EncryptError>(())
            })
        };
        let (_, whole) = sealed(u64::MAX).unwrap();
        let size: u64 = whole.iter().map(|sealed| sealed.size).sum();
        // age puts a stanza of random length into every header.
        let grease = 4096;
        assert!(sealed(size + grease).is_ok());
        for most in [size - grease, size / 2, 1] {
            let error = sealed(most).map(|_| ()).unwrap_err();
            assert!(matches!(error, EncryptError::TooLarge { limit } if limit == most), "{error}");
        }
    }
}

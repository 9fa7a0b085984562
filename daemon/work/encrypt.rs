//! Encrypts a result to its receivers while it is still being made: the maker fills buffers, a second thread encrypts and
//! writes them. Where the results lie and when they become visible is `host::spool`'s business.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

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
    full: SyncSender<Buffer>,
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
        self.full.send(buffer).map_err(|_| closed())
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

/// Runs `make` and writes what it puts into the pipe to every output, each in its own encryption, `most` bytes to all of them
/// together. A failure to write comes before what `make` says about it.
pub fn encrypt<W: Write + Send, T, E: From<EncryptError>>(
    outputs: Vec<(Encryptor, W)>,
    most: u64,
    make: impl FnOnce(&mut Pipe) -> Result<T, E>,
) -> Result<(T, Vec<Sealed<W>>), E> {
    let (full, to_write) = sync_channel(BUFFERS);
    let (written, empty) = sync_channel(BUFFERS);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write_all(outputs, &Quota::of(most), &to_write, &written));
        let mut pipe = Pipe { full, empty, made: 0 };
        let made = make(&mut pipe);
        drop(pipe);
        let sealed = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let sealed = sealed?;
        Ok((made?, sealed))
    })
}

fn write_all<W: Write>(
    outputs: Vec<(Encryptor, W)>,
    quota: &Quota,
    full: &Receiver<Buffer>,
    empty: &SyncSender<Buffer>,
) -> Result<Vec<Sealed<W>>, EncryptError> {
    let write = || -> io::Result<Vec<Sealed<W>>> {
        let mut writers = outputs
            .into_iter()
            .map(|(encryptor, output)| encryptor.wrap_output(Digested::new(output, quota)))
            .collect::<io::Result<Vec<_>>>()?;
        while let Ok(mut buffer) = full.recv() {
            for writer in &mut writers {
                writer.write_all(&buffer)?;
            }
            buffer.clear();
            // The maker may have ended already.
            let _ = empty.try_send(buffer);
        }
        writers.into_iter().map(|writer| writer.finish()?.finish()).collect()
    };
    write().map_err(|error| {
        if quota.is_passed.get() {
            EncryptError::TooLarge { limit: quota.most }
        } else {
            EncryptError::Io(error)
        }
    })
}

/// What may be written to all outputs together; one thread writes them.
struct Quota {
    most: u64,
    left: Cell<u64>,
    is_passed: Cell<bool>,
}

impl Quota {
    fn of(most: u64) -> Self {
        Self { most, left: Cell::new(most), is_passed: Cell::new(false) }
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
}

/// Counts and digests what goes through, in pieces larger than age's chunks.
struct Digested<'a, W> {
    output: W,
    quota: &'a Quota,
    pending: Vec<u8>,
    size: u64,
    digest: Sha256,
}

impl<'a, W: Write> Digested<'a, W> {
    fn new(output: W, quota: &'a Quota) -> Self {
        let pending = Vec::with_capacity(BUFFER + SLACK);
        Self { output, quota, pending, size: 0, digest: Sha256::new() }
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

impl<W: Write> Write for Digested<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= BUFFER {
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

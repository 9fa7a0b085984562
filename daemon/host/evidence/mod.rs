//! The folder of the access log as evidence: its day files, walked along their chain, and its heads (`heads`). `examine` holds
//! the ones against the others. What a chain or a head means is `policy::chain`'s and `policy::head`'s question.
//!
//! ```text
//! ‹YYYY-MM-DD›.‹process›.‹node›.jsonl     the records of a day
//! heads/‹YYYY-MM›/‹number›.json, .json.sig  heads and their signatures
//! heads/allowed_signers                   the public key
//! ```

pub mod copies;
pub mod examine;
pub mod heads;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::directory::Directory;
use crate::policy::chain::{Break, Damage, Link, Place, Seal, Walker};
use crate::policy::head::{Sealed, Walked};
use crate::policy::retention::LogName;

/// No line of the log is as long; what is longer is no record.
const LINE_MAX: u64 = 1 << 20;
/// Read at a time.
const BUFFER: usize = 1 << 20;

// As `policy::record` writes them.
const OK: &str = "ok";
const EXPIRE: &str = "expire";
const SEAL: &str = "seal";

/// Why evidence cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {cause}", path = path.display())]
pub struct EvidenceError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// An open folder of the access log.
#[derive(Debug)]
pub struct LogFolder {
    path: PathBuf,
    directory: Directory,
}

impl LogFolder {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self, EvidenceError> {
        let directory = Directory::open(path).map_err(failed("open the folder", path))?;
        Ok(Self { path: path.to_owned(), directory })
    }

    /// The day files in it, sorted by day, process and node.
    pub fn names(&self) -> Result<Vec<LogName>, EvidenceError> {
        let entries = self.directory.entries().map_err(failed("list the folder", &self.path))?;
        let mut names: Vec<LogName> =
            entries.iter().filter_map(|entry| LogName::parse(&entry.name)).collect();
        names.sort();
        Ok(names)
    }

    /// A day file; none if it is gone.
    pub fn file(&self, name: &LogName) -> Result<Option<File>, EvidenceError> {
        match self.directory.file(&name.to_string()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("open", &self.path.join(name.to_string()))(error)),
        }
    }

    /// Follows a day file to its end; none if it is gone. Of what was sealed already, only the last line is looked at, unless
    /// `wholly`: then every record is read again.
    pub fn walk(
        &self,
        name: &LogName,
        (sealed, head): (Option<&Sealed>, u64),
        wholly: bool,
    ) -> Result<Option<Walked>, EvidenceError> {
        let Some(mut file) = self.file(name)? else { return Ok(None) };
        let place = sealed.and_then(Sealed::place).unwrap_or(Place::START);
        let seal = Seal { seq: place.seq, hash: place.hash, head };
        let mut walked = Walked { outcome: Ok(place), expired: Vec::new(), tells_of_heads: false };
        let mut note = |link: &Link<'_>| {
            if link.seq > place.seq && link.outcome == OK {
                walked.tells_of_heads |= link.event == SEAL;
                let expired = link.path.as_ref().filter(|_| link.event == EXPIRE);
                walked.expired.extend(expired.and_then(|path| LogName::parse(path)));
            }
        };
        let mut read = || -> io::Result<Result<Place, Break>> {
            if wholly || place.seq == 0 {
                let mut walker = Walker::new(Place::START, [seal]);
                feed(&mut file, &mut walker, &mut note)?;
                return Ok(walker.finish());
            }
            if let Some(found) = sealed_end(&mut file, &place)? {
                return Ok(Err(found));
            }
            file.seek(SeekFrom::Start(place.bytes))?;
            let mut walker = Walker::new(place, []);
            feed(&mut file, &mut walker, &mut note)?;
            Ok(walker.finish())
        };
        let outcome = read().map_err(|cause| self.unread(name, cause))?;
        Ok(Some(Walked { outcome, ..walked }))
    }

    /// Gives all whole lines of a day file, without their ends; none if it is gone.
    pub fn lines(&self, name: &LogName, each: impl FnMut(&[u8])) -> Result<(), EvidenceError> {
        let Some(mut file) = self.file(name)? else { return Ok(()) };
        for_each_line(&mut file, each).map(|_| ()).map_err(|cause| self.unread(name, cause))
    }

    /// Gives whole lines of a day file from an offset on, each with the offset of its end, until about `most` bytes are read. Gives
    /// the offset behind the last one; none if the file is gone. A line without an end is left for another time.
    pub fn lines_from(
        &self,
        name: &LogName,
        (from, most): (u64, u64),
        mut each: impl FnMut(&[u8], u64),
    ) -> Result<Option<u64>, EvidenceError> {
        let Some(mut file) = self.file(name)? else { return Ok(None) };
        let mut read = || -> io::Result<u64> {
            // One that was cut off since is for those who seal.
            let mut at = from.min(file.metadata()?.len());
            file.seek(SeekFrom::Start(at))?;
            let last = at.saturating_add(most);
            let mut reader = BufReader::with_capacity(BUFFER, &mut file);
            let mut line = Vec::new();
            while at < last {
                line.clear();
                let length = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line)? as u64;
                if !line.ends_with(b"\n") && length < LINE_MAX {
                    break;
                }
                at = at.saturating_add(length);
                each(line.strip_suffix(b"\n").unwrap_or(&line), at);
            }
            Ok(at)
        };
        read().map(Some).map_err(|cause| self.unread(name, cause))
    }

    fn unread(&self, name: &LogName, cause: io::Error) -> EvidenceError {
        EvidenceError { doing: "read", path: self.path.join(name.to_string()), cause }
    }
}

/// The text of a small file that an operator named, such as a public key.
pub fn read_text(path: &Path) -> Result<String, EvidenceError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::from(rustix::fs::open(path, flags, Mode::empty())?).take(LINE_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(failed("read", path))
}

/// Feeds all whole lines from where the file stands; says whether the last one has no end.
pub fn feed(file: &mut File, walker: &mut Walker, each: &mut impl FnMut(&Link<'_>)) -> io::Result<bool> {
    for_each_line(file, |line| {
        if let Some(link) = walker.feed(line) {
            each(&link);
        }
    })
}

/// Gives all whole lines from where the file stands, without their ends; says whether the last one has none.
fn for_each_line(file: &mut File, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        match line.strip_suffix(b"\n") {
            Some(whole) => each(whole),
            None if line.len() as u64 == LINE_MAX => each(&line),
            None => return Ok(true),
        }
    }
}

/// Whether a file no longer holds, where it stood, the last line that was sealed.
fn sealed_end(file: &mut File, place: &Place) -> io::Result<Option<Break>> {
    let broken = |damage, what: &str| {
        Ok(Some(Break { damage, line: place.line, seq: place.seq, what: what.to_owned() }))
    };
    if file.metadata()?.len() < place.bytes {
        return broken(Damage::CutOff, "the file is shorter than when this record was sealed");
    }
    let size = LINE_MAX.min(place.bytes);
    file.seek(SeekFrom::Start(place.bytes - size))?;
    let mut window = Vec::new();
    file.take(size).read_to_end(&mut window)?;
    let last = window.strip_suffix(b"\n").and_then(|text| text.rsplit(|byte| *byte == b'\n').next());
    if last.is_some_and(|line| Sha256::digest(line).as_slice() == place.hash) {
        return Ok(None);
    }
    broken(Damage::Rewritten, "what stands in its place is not the record that was sealed")
}

fn failed<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> EvidenceError {
    let path = path.to_owned();
    move |cause| EvidenceError { doing, path, cause: cause.into() }
}

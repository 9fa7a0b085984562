//! One day of one process's access log on disk: opening it where its chain ended, mending a line that a crash cut short,
//! and appending lines that are on the disk when `append` returns. Which records go in is `host::log`'s business.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{Access, FileType, FlockOperation, Mode, OFlags, Stat};

use super::LogError;
use crate::policy::digest::sha256;
use crate::policy::record::{Line, Record};
use crate::policy::retention::LogName;

/// Longest record, as JSON. Its parts are bounded on their own; this bounds what reading back must look at.
const RECORD_MAX: usize = 32 << 10;
/// How far from the end the last whole line is looked for, one after the other.
const WINDOWS: [u64; 3] = [128 << 10, 4 << 20, 64 << 20];

/// Puts bytes on the disk: written and synced when it returns `Ok`. Tests put a failing one in its place.
pub(super) type WriteThrough = Box<dyn FnMut(&File, &[u8]) -> io::Result<()> + Send>;

/// The place of the last line: what the next one continues from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub seq: u64,
    pub hash: String,
}

impl Chain {
    /// Before the first line of a file.
    pub fn start() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }

    /// Appends a record's line, without line end, to `text` and moves on.
    pub fn extend(
        &mut self,
        text: &mut Vec<u8>,
        at: Timestamp,
        name: &LogName,
        record: Record,
    ) -> Result<(), LogError> {
        let line = Line {
            time: at,
            node: name.node.to_string(),
            process: name.process.to_string(),
            seq: self.seq + 1,
            prev: self.hash.clone(),
            record,
        };
        let line = serde_json::to_vec(&line).map_err(|error| LogError::Record(error.to_string()))?;
        *self = Self { seq: self.seq + 1, hash: sha256(&line) };
        text.extend_from_slice(&line);
        text.push(b'\n');
        Ok(())
    }
}

/// Whether a record can become a line: one that cannot must not take those that share its write down with it.
pub(super) fn fits(record: &Record) -> Result<(), LogError> {
    match serde_json::to_vec(record) {
        Ok(text) if text.len() <= RECORD_MAX => Ok(()),
        Ok(text) => Err(LogError::Record(format!("{} bytes, the limit is {RECORD_MAX}", text.len()))),
        Err(error) => Err(LogError::Record(error.to_string())),
    }
}

/// An open day, locked against a second writer.
pub(super) struct DayFile {
    pub name: LogName,
    path: PathBuf,
    file: File,
    /// Device and inode, to notice when the name has come to mean another file.
    identity: (u64, u64),
    /// Bytes of it that are known to be on the disk.
    length: u64,
    /// Where the chain on disk ends.
    pub chain: Chain,
    /// Whether the last line was cut short and has been mended.
    pub was_torn: bool,
}

impl DayFile {
    /// Opens or creates the file of a day in `directory`.
    pub fn open(directory: &Path, name: LogName) -> Result<Self, LogError> {
        let path = directory.join(name.to_string());
        let failed = |doing| {
            let path = path.clone();
            move |error: io::Error| LogError::File { doing, path, cause: Arc::new(error) }
        };
        let mut file = open_or_create(directory, &name.to_string()).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("examine"))?;
        if !metadata.is_file() {
            return Err(LogError::NotAFile { path });
        }
        if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            return Err(match error {
                rustix::io::Errno::WOULDBLOCK => LogError::InUse { path },
                error => failed("lock")(error.into()),
            });
        }
        let was_torn = mend(&mut file).map_err(failed("mend the last line of"))?;
        let chain = last_link(&mut file).map_err(failed("read the end of"))?;
        let length = file.metadata().map_err(failed("examine"))?.len();
        let identity =
            (std::os::unix::fs::MetadataExt::dev(&metadata), std::os::unix::fs::MetadataExt::ino(&metadata));
        Ok(Self { name, path, file, identity, length, chain, was_torn })
    }

    /// Whether its name still leads to it: not removed, not replaced, not cut short, the folder not exchanged.
    pub fn is_in_place(&self) -> bool {
        let there = rustix::fs::lstat(&self.path);
        there.is_ok_and(|stat| {
            (stat.st_dev, stat.st_ino) == self.identity
                && u64::try_from(stat.st_size).is_ok_and(|length| length >= self.length)
        })
    }

    /// What can still be written where it lies, as far as that can be told; none where it may only be read.
    pub fn room(&self) -> Option<u64> {
        let Ok(facts) = rustix::fs::fstatvfs(&self.file) else { return Some(0) };
        let is_read_only = facts.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        (!is_read_only).then(|| facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    /// Puts lines on the disk and moves the chain on. After an error the file must be opened anew before the next try.
    pub fn append(
        &mut self,
        text: &[u8],
        chain: Chain,
        write_through: &mut WriteThrough,
    ) -> Result<(), LogError> {
        let failed =
            |error| LogError::File { doing: "append to", path: self.path.clone(), cause: Arc::new(error) };
        let length = self.file.metadata().map_err(failed)?.len();
        if let Err(error) = write_through(&self.file, text) {
            // These lines were promised to nobody. Left in place they would tell of accesses that were refused, and
            // pages that failed to sync once are never written again. Where the file system allows appending only,
            // they stay, and opening anew mends the last of them.
            if let Err(error) = self.file.set_len(length) {
                tracing::warn!(path = %self.path.display(), %error, "unacknowledged log lines stay in the file");
            }
            return Err(failed(error));
        }
        self.chain = chain;
        self.length = length.saturating_add(text.len() as u64);
        Ok(())
    }
}

/// Whether permission was denied although the system's permissions open the folder, and what has the file's name, to this
/// process: then it is containment, which was made for the folder before. Its inode need not tell: a number that was given up is
/// soon another folder's.
pub(super) fn is_out_of_reach(folder: &Path, error: &LogError) -> bool {
    let LogError::File { path, cause, .. } = error else { return false };
    let is_folder = |facts: Stat| FileType::from_raw_mode(facts.st_mode) == FileType::Directory;
    let (read, write) = (Access::READ_OK, Access::WRITE_OK);
    cause.kind() == io::ErrorKind::PermissionDenied
        && rustix::fs::lstat(folder).is_ok_and(is_folder)
        && rustix::fs::access(folder, read | write | Access::EXEC_OK).is_ok()
        && matches!(rustix::fs::access(path, read | write), Ok(()) | Err(rustix::io::Errno::NOENT))
}

/// One write, and the disk has it.
pub(super) fn write_and_sync(mut file: &File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_data()
}

fn open_or_create(directory: &Path, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o640);
    let directory_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, directory_flags, Mode::empty())?;
    match rustix::fs::openat(&directory, name, flags, mode) {
        Err(rustix::io::Errno::NOENT) => {
            rustix::fs::openat(&directory, name, flags | OFlags::CREATE | OFlags::EXCL, mode)
        }
        other => other,
    }
    // Also of one that was there: a crash may have come between its creation and this.
    .and_then(|file| rustix::fs::fsync(&directory).map(|()| file.into()))
    .map_err(Into::into)
}

/// Ends a line that a crash or a full disk cut short, so that every line after it can be read.
fn mend(file: &mut File) -> io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 || window(file, length, 1)?.ends_with(b"\n") {
        return Ok(false);
    }
    file.write_all(b"\n")?;
    file.sync_data()?;
    Ok(true)
}

/// The last line that is a record; what a crash left of a line is none.
fn last_link(file: &mut File) -> io::Result<Chain> {
    let length = file.seek(SeekFrom::End(0))?;
    for size in WINDOWS {
        let text = window(file, length, size)?;
        // Unless it holds everything, the window begins in the middle of a line.
        let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').skip(usize::from(size < length)).collect();
        let last =
            lines.iter().rev().find_map(|line| Some((serde_json::from_slice::<Line>(line).ok()?, line)));
        if let Some((parsed, line)) = last {
            return Ok(Chain { seq: parsed.seq, hash: sha256(line) });
        }
        if size >= length {
            return Ok(Chain::start());
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "its last 64 MiB hold no log line; move the file away"))
}

fn window(file: &mut File, length: u64, size: u64) -> io::Result<Vec<u8>> {
    let size = size.min(length);
    file.seek(SeekFrom::Start(length - size))?;
    let mut text = Vec::new();
    file.take(size).read_to_end(&mut text)?;
    Ok(text)
}

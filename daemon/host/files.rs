//! Reading and writing the files an operator keeps: configuration, keys, identities. A file that a stranger could have
//! written, a secret that a stranger could have read, a link, a pipe or an endless file is refused before its content is
//! used. What the content means is for others; the spool has its own ways.

pub mod program;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::policy::digest::hex;

/// Largest key or identity file, in bytes.
const SECRET_LIMIT: u64 = 64 << 10;
/// Largest file of authorities' certificates, in bytes: all that a system trusts has a quarter of that.
pub const CA_LIMIT: u64 = 1 << 20;

/// Why a file or folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {attempt}: {source}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A link, pipe, device, or file and folder confused.
    #[error("is not a regular {expected}")]
    WrongKind {
        /// Where.
        path: PathBuf,
        /// `file` or `folder`.
        expected: &'static str,
    },
    /// Others could have written what we would trust.
    #[error("can be written by others (mode {mode:04o}, owner {owner})")]
    WritableByOthers {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's number.
        owner: u32,
    },
    /// Others can read a secret.
    #[error("is a secret that others can read (mode {mode:04o})")]
    ReadableByOthers {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than such a file may be.
    #[error("is larger than {limit} bytes")]
    TooLarge {
        /// Where.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// More files than such a folder may hold.
    #[error("holds more than {limit} files")]
    TooMany {
        /// Where.
        path: PathBuf,
        /// The most that are listed.
        limit: usize,
    },
}

impl FileError {
    /// Whether there is nothing of that name.
    pub fn is_absent(&self) -> bool {
        self.kind() == Some(io::ErrorKind::NotFound)
    }

    /// Whether this user may not look.
    pub fn is_denied(&self) -> bool {
        self.kind() == Some(io::ErrorKind::PermissionDenied)
    }

    /// The operating system's word, where it had one.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// What it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::WrongKind { path, .. }
            | Self::WritableByOthers { path, .. }
            | Self::ReadableByOthers { path, .. }
            | Self::TooLarge { path, .. }
            | Self::TooMany { path, .. } => path,
        }
    }

    /// What the operator does next.
    pub fn remedy(&self) -> String {
        let path = self.path().display();
        match self {
            Self::Io { .. } if self.is_absent() => format!("create {path}, or correct the path"),
            Self::Io { .. } if self.is_denied() => {
                format!("let the user that runs dropzone read {path}, or run as that user")
            }
            Self::Io { .. } => format!("see that {path} can be reached, then try again"),
            Self::WrongKind { expected, .. } => {
                format!("put the {expected} itself there: links, pipes and devices are not followed")
            }
            Self::WritableByOthers { .. } => format!("chmod go-w {path}, and see who could have changed it"),
            Self::ReadableByOthers { .. } => format!("chmod 0600 {path}, and consider the secret known"),
            Self::TooLarge { .. } | Self::TooMany { .. } => {
                format!("see what {path} is: nobody writes that much by hand")
            }
        }
    }
}

/// An open folder whose content is trusted: no stranger can add, remove or rename anything in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    /// Opens a folder that the operator named; a link is followed, because the operator named it.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::trusted(path, rustix::fs::open(path, FOLDER, Mode::empty()))
    }

    /// Opens a folder inside this one; a link is refused.
    pub fn open_inside(&self, name: &str) -> Result<Self, FileError> {
        let path = self.path.join(name);
        Self::trusted(&path, rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()))
    }

    fn trusted(path: &Path, opened: rustix::io::Result<OwnedFd>) -> Result<Self, FileError> {
        let fd = opened.map_err(|error| not_opened(path, "folder", error))?;
        let file = File::from(fd);
        refuse_writable(path, &metadata(path, &file)?)?;
        Ok(Self { path: path.to_owned(), fd: file.into() })
    }

    /// The names in it, sorted; fails rather than list more than `limit`.
    pub fn names(&self, limit: usize) -> Result<Vec<OsString>, FileError> {
        let io = |error: rustix::io::Errno| failed(&self.path, "list the folder", error);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(io)? {
            let name = OsString::from_vec(entry.map_err(io)?.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == limit {
                return Err(FileError::TooMany { path: self.path.clone(), limit });
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// The content of a file in it that no stranger can write; fails unread beyond `limit` bytes.
    pub fn read(&self, name: &OsStr, limit: u64) -> Result<Vec<u8>, FileError> {
        let path = self.path.join(name);
        let mut file = opened(&path, rustix::fs::openat(&self.fd, name, REGULAR, Mode::empty()))?;
        refuse_writable(&path, &metadata(&path, &file)?)?;
        let mut content = Vec::new();
        read_bounded(&path, &mut file, limit, &mut content)?;
        Ok(content)
    }
}

/// The content of a key or identity file: at most 64 KiB, readable by its owner alone unless systemd handed it out as a
/// credential. Wiped from memory when dropped.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut file = opened(path, rustix::fs::open(path, REGULAR, Mode::empty()))?;
    let metadata = metadata(path, &file)?;
    refuse_writable(path, &metadata)?;
    if metadata.mode() & 0o077 != 0 && !is_credential(path) {
        return Err(FileError::ReadableByOthers { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    // Room for all at once: a vector that grows leaves copies of the secret behind.
    let room = usize::try_from(SECRET_LIMIT).unwrap_or(usize::MAX).saturating_add(1);
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    read_bounded(path, &mut file, SECRET_LIMIT, &mut content)?;
    Ok(content)
}

/// The content of a file that everybody may read and no stranger can write; fails unread beyond `limit` bytes.
pub fn read_public(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut file = opened(path, rustix::fs::open(path, REGULAR, Mode::empty()))?;
    refuse_writable(path, &metadata(path, &file)?)?;
    let mut content = Vec::new();
    read_bounded(path, &mut file, limit, &mut content)?;
    Ok(content)
}

/// Fails unless `path` is a folder that not everybody can write.
pub fn examine_folder(path: &Path) -> Result<(), FileError> {
    let fd = rustix::fs::open(path, FOLDER | OFlags::PATH, Mode::empty())
        .map_err(|error| not_opened(path, "folder", error))?;
    let metadata = metadata(path, &File::from(fd))?;
    if metadata.mode() & 0o002 != 0 {
        return Err(writable(path, &metadata));
    }
    Ok(())
}

/// Fails unless `path` is a regular file that not everybody can write. Does not open it.
pub fn examine_file(path: &Path) -> Result<(), FileError> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| not_opened(path, "file", error))?;
    let metadata = metadata(path, &File::from(fd))?;
    if !metadata.is_file() {
        return Err(FileError::WrongKind { path: path.to_owned(), expected: "file" });
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(writable(path, &metadata));
    }
    Ok(())
}

/// Makes a folder with exactly this mode, whatever the umask; fails if there is something of that name.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), FileError> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode & 0o700))
        .map_err(|error| failed(path, "make the folder", error))?;
    set_mode(path, mode)
}

/// Gives an existing folder exactly this mode.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    let fd =
        rustix::fs::open(path, FOLDER, Mode::empty()).map_err(|error| not_opened(path, "folder", error))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
        .map_err(|error| failed(path, "set the folder's mode", error))
}

/// Writes a new file with exactly this mode, synced; never overwrites and never follows a link.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let mut file = new_output(path)?;
    let io = |source| FileError::Io { attempt: "write the file", path: path.to_owned(), source };
    file.write_all(content).map_err(io)?;
    file.set_permissions(PermissionsExt::from_mode(mode)).map_err(io)?;
    file.sync_all().map_err(io)
}

/// A new file (0600) to write into, also for a program that is started.
pub fn new_output(path: &Path) -> Result<File, FileError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))
        .map_err(|error| failed(path, "create the file", error))?;
    Ok(File::from(fd))
}

/// The length and the SHA-256, in hex, of all that can be read; the first error ends it.
pub fn digest(mut input: impl Read) -> io::Result<(u64, String)> {
    let (mut hasher, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        let count = input.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        length += count as u64;
    }
    Ok((length, hex(&hasher.finalize())))
}

/// Reads at an offset until the buffer is full or the file ends; gives the number of bytes.
pub fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads at an offset what the system has in memory, without waiting for a disk; gives the number of bytes. They may be fewer
/// than there are, or none where the file system cannot tell, and nothing says why: whoever needs the rest reads it by
/// [`read_full_at`].
pub fn read_at_hand(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    let mut room = [io::IoSliceMut::new(buffer)];
    rustix::io::preadv2(file, &mut room, offset, rustix::io::ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// Whether anything, be it a dangling link, has this name.
pub fn exists(path: &Path) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// The machine's host name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
// Without NONBLOCK, opening a pipe would wait for its writer.
const REGULAR: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

fn opened(path: &Path, opened: rustix::io::Result<OwnedFd>) -> Result<File, FileError> {
    let file = File::from(opened.map_err(|error| not_opened(path, "file", error))?);
    if metadata(path, &file)?.is_file() {
        Ok(file)
    } else {
        Err(FileError::WrongKind { path: path.to_owned(), expected: "file" })
    }
}

fn not_opened(path: &Path, expected: &'static str, error: rustix::io::Errno) -> FileError {
    match error {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR | rustix::io::Errno::NXIO => {
            FileError::WrongKind { path: path.to_owned(), expected }
        }
        _ if expected == "folder" => failed(path, "open the folder", error),
        _ => failed(path, "open the file", error),
    }
}

fn failed(path: &Path, attempt: &'static str, error: rustix::io::Errno) -> FileError {
    FileError::Io { attempt, path: path.to_owned(), source: error.into() }
}

fn metadata(path: &Path, file: &File) -> Result<Metadata, FileError> {
    file.metadata().map_err(|source| FileError::Io { attempt: "examine it", path: path.to_owned(), source })
}

/// A group may write what belongs to us or to root: that is how several administrators share a zone.
fn refuse_writable(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    let ours = metadata.uid() == 0 || metadata.uid() == rustix::process::geteuid().as_raw();
    let refused = if ours { 0o002 } else { 0o022 };
    if metadata.mode() & refused == 0 { Ok(()) } else { Err(writable(path, metadata)) }
}

fn writable(path: &Path, metadata: &Metadata) -> FileError {
    FileError::WritableByOthers {
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
    }
}

fn read_bounded(path: &Path, file: &mut File, limit: u64, content: &mut Vec<u8>) -> Result<(), FileError> {
    let too_large = || FileError::TooLarge { path: path.to_owned(), limit };
    if metadata(path, file)?.len() > limit {
        return Err(too_large());
    }
    // It may grow while it is read.
    let read = file.take(limit.saturating_add(1)).read_to_end(content).map_err(|source| FileError::Io {
        attempt: "read the file",
        path: path.to_owned(),
        source,
    })?;
    if read as u64 > limit { Err(too_large()) } else { Ok(()) }
}

/// systemd shows a credential's access list as group permission; the folder itself lets nobody else in.
fn is_credential(path: &Path) -> bool {
    let plain = !path.components().any(|part| part == std::path::Component::ParentDir);
    let below = |folder: OsString| !folder.is_empty() && path.starts_with(folder);
    plain && std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(below)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn zone() -> tempfile::TempDir {
        let zone = tempfile::tempdir().unwrap();
        set_mode(zone.path(), 0o750).unwrap();
        zone
    }

    #[test]
    fn a_file_is_written_with_its_mode_and_never_twice() {
        let zone = zone();
        let path = zone.path().join("a");
        write_new(&path, b"text", 0o640).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
        assert_eq!(write_new(&path, b"other", 0o640).unwrap_err().kind(), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(Folder::open(zone.path()).unwrap().read(OsStr::new("a"), 4).unwrap(), b"text");
    }

    #[test]
    fn links_pipes_folders_large_and_writable_files_are_refused() {
        let zone = zone();
        let at = |name: &str| zone.path().join(name);
        write_new(&at("good"), b"12345", 0o640).unwrap();
        write_new(&at("writable"), b"1", 0o646).unwrap();
        symlink(at("good"), at("link")).unwrap();
        make_folder(&at("folder"), 0o700).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        let folder = Folder::open(zone.path()).unwrap();
        let read = |name: &str| folder.read(OsStr::new(name), 4).unwrap_err();
        assert!(matches!(read("good"), FileError::TooLarge { limit: 4, .. }));
        assert!(matches!(read("writable"), FileError::WritableByOthers { mode: 0o646, .. }));
        for name in ["link", "folder", "pipe"] {
            assert!(matches!(read(name), FileError::WrongKind { .. }), "{name}");
        }
        assert!(read("none").is_absent());
        assert!(matches!(folder.names(4), Err(FileError::TooMany { .. })));
        assert_eq!(folder.names(5).unwrap().len(), 5);
    }

    #[test]
    fn a_folder_that_everybody_can_write_is_refused() {
        let zone = zone();
        set_mode(zone.path(), 0o1777).unwrap();
        assert!(matches!(Folder::open(zone.path()), Err(FileError::WritableByOthers { .. })));
        assert!(matches!(examine_folder(zone.path()), Err(FileError::WritableByOthers { .. })));
        set_mode(zone.path(), 0o2770).unwrap();
        assert!(Folder::open(zone.path()).is_ok() && examine_folder(zone.path()).is_ok());
    }

    #[test]
    fn a_secret_is_read_only_when_its_owner_alone_can() {
        let zone = zone();
        for (mode, fits) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o610, false)] {
            let path = zone.path().join(format!("{mode:o}"));
            write_new(&path, b"secret", mode).unwrap();
            assert_eq!(read_secret(&path).is_ok(), fits, "{mode:o}");
        }
    }
}

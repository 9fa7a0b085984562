//! Keeps heads: one file each with its signature beside it, in a folder per month, never deleted by us. Only the process
//! that signs may write them, also where others of its group write logs.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, Mode, fstat};
use rustix::io::Errno;

use super::{EvidenceError, LogFolder, failed};
use crate::host::directory::Directory;
use crate::policy::head::Head;
use crate::policy::published::ALLOWED_SIGNERS;
use crate::policy::signature::ENDING;

/// The folder of heads in the folder of the log.
pub const HEADS: &str = "heads";
const LOCK: &str = ".lock";
const OWNER_WRITES: Mode = Mode::from_raw_mode(0o640);
const OWNER_ONLY: Mode = Mode::from_raw_mode(0o600);
const OWNER_MAKES: Mode = Mode::from_raw_mode(0o2750);
/// More than any head holds, in bytes.
const HEAD_MAX: u64 = 16 << 20;

/// A head as it lies there, believed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The number that its name says.
    pub number: u64,
    /// Its file, relative to the log folder.
    pub file: String,
    /// What was signed.
    pub text: Vec<u8>,
    /// The signature, PEM; empty where there is none.
    pub signature: Vec<u8>,
}

/// The heads of a log folder.
#[derive(Debug)]
pub struct Heads {
    path: PathBuf,
    directory: Directory,
}

/// While it lives, no other process seals here.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used: closing it unlocks")] File);

impl Heads {
    /// The heads in a folder; none where there is no such folder.
    pub fn open(folder: &LogFolder) -> Result<Option<Self>, EvidenceError> {
        let path = folder.path.join(HEADS);
        match folder.directory.directory(HEADS) {
            Ok(directory) => Ok(Some(Self { path, directory })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("open the folder", &path)(error)),
        }
    }

    /// The same, made if it is not there.
    pub fn make(folder: &LogFolder) -> Result<Self, EvidenceError> {
        let path = folder.path.join(HEADS);
        let directory = make(&folder.directory, HEADS).map_err(failed("make the folder", &path))?;
        Ok(Self { path, directory })
    }

    /// Takes the right to seal; none while another process has it.
    pub fn lock(&self) -> Result<Option<Lock>, EvidenceError> {
        let lock = || -> Result<File, Errno> {
            let file = match self.directory.file_to_write(LOCK) {
                Err(Errno::NOENT) => self.directory.create_private(LOCK),
                there => there,
            }?;
            // Whoever can open it can hold it, and then nothing is ever sealed again.
            if fstat(&file)?.st_mode & 0o077 != 0 {
                rustix::fs::fchmod(&file, OWNER_ONLY)?;
            }
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        match lock() {
            Ok(file) => Ok(Some(Lock(file))),
            Err(Errno::WOULDBLOCK | Errno::EXIST) => Ok(None),
            Err(error) => Err(failed("lock", &self.path.join(LOCK))(error)),
        }
    }

    /// The numbers of all heads, sorted, with the month that each lies in.
    pub fn numbers(&self) -> Result<Vec<(u64, String)>, EvidenceError> {
        let mut numbers = Vec::new();
        let months = self.directory.entries().map_err(failed("list the folder", &self.path))?;
        for month in months.into_iter().map(|entry| entry.name).filter(|name| is_month(name)) {
            let path = self.path.join(&month);
            let folder = self.directory.directory(&month).map_err(failed("open the folder", &path))?;
            for entry in folder.entries().map_err(failed("list the folder", &path))? {
                let number = entry.name.strip_suffix(".json").and_then(|stem| stem.parse().ok());
                let is_ours = |number: &u64| file_name(*number) == entry.name;
                numbers.extend(number.filter(is_ours).map(|number| (number, month.clone())));
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads a head.
    pub fn read(&self, number: u64, month: &str) -> Result<Kept, EvidenceError> {
        let name = file_name(number);
        let path = self.path.join(month).join(&name);
        let folder = self.directory.directory(month).map_err(failed("open the folder of", &path))?;
        let read = |name: &str| -> std::io::Result<Vec<u8>> {
            let mut text = Vec::new();
            folder.file(name)?.take(HEAD_MAX).read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read(&name).map_err(failed("read", &path))?;
        let signature = read(&format!("{name}{ENDING}")).unwrap_or_default();
        Ok(Kept { number, file: format!("{HEADS}/{month}/{name}"), text, signature })
    }

    /// Keeps a head durably: the signature first, so that no head is seen without one.
    pub fn keep(&self, head: &Head, text: &[u8], signature: &str) -> Result<(), EvidenceError> {
        let month = head.time.strftime("%Y-%m").to_string();
        let name = file_name(head.number);
        let path = self.path.join(&month).join(&name);
        let folder = make(&self.directory, &month).map_err(failed("make the folder of", &path))?;
        write(&folder, &format!("{name}{ENDING}"), signature.as_bytes())
            .and_then(|()| write(&folder, &name, text))
            .map_err(failed("write", &path))
    }

    /// Puts the public key beside the heads.
    pub fn keep_key(&self, allowed_signers: &str) -> Result<(), EvidenceError> {
        write(&self.directory, ALLOWED_SIGNERS, allowed_signers.as_bytes())
            .map_err(failed("write", &self.path.join(ALLOWED_SIGNERS)))
    }

    /// The public key that lies beside the heads.
    pub fn key(&self) -> Option<String> {
        let mut text = String::new();
        self.directory.file(ALLOWED_SIGNERS).ok()?.take(HEAD_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

fn file_name(number: u64) -> String {
    format!("{number:08}.json")
}

fn is_month(name: &str) -> bool {
    name.len() == 7
        && name.parse::<jiff::civil::Date>().is_err()
        && format!("{name}-01").parse::<jiff::civil::Date>().is_ok()
}

fn make(parent: &Directory, name: &str) -> Result<Directory, Errno> {
    match parent.directory(name) {
        Err(Errno::NOENT) => {
            let made = parent.make(name)?;
            rustix::fs::fchmod(&made, OWNER_MAKES)?;
            Ok(made)
        }
        other => other,
    }
}

fn write(folder: &Directory, name: &str, content: &[u8]) -> std::io::Result<()> {
    let temporary = format!(".{name}.new");
    let mut file = folder.create_anew(&temporary)?;
    rustix::fs::fchmod(&file, OWNER_WRITES)?;
    file.write_all(content)?;
    file.sync_all()?;
    folder.replace(&temporary, folder, name)?;
    Ok(folder.sync()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_else_can_hold_the_right_to_seal() {
        let folder = tempfile::tempdir().unwrap();
        let heads = Heads::make(&LogFolder::open(folder.path()).unwrap()).unwrap();
        let path = folder.path().join(HEADS).join(LOCK);
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(heads.lock().unwrap().unwrap());
        assert_eq!(mode(), 0o600);
        // As a version before this one left it.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o660)).unwrap();
        drop(heads.lock().unwrap().unwrap());
        assert_eq!(mode(), 0o600);
    }
}

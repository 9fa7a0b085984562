//! Whether a program that the configuration names may be trusted to be what its operator put there: a file that only root or
//! this user can change, in folders of which the same is true.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{FileError, failed};

/// Bits of a mode.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const EXECUTABLE: u32 = 0o111;
const STICKY: u32 = 0o1000;

/// A link is followed, because the operator named it, and what it leads to is judged with the folders on the way there.
pub fn trusted(path: &Path) -> Result<(), FileError> {
    let io = |error: io::Error| FileError::Io {
        attempt: "read the program",
        path: path.to_owned(),
        source: error,
    };
    let real = std::fs::canonicalize(path).map_err(io)?;
    let metadata = std::fs::metadata(&real).map_err(io)?;
    if !metadata.is_file() {
        return Err(FileError::WrongKind { path: path.to_owned(), expected: "file" });
    }
    refuse_strangers(&real, &metadata, false)?;
    for folder in real.ancestors().skip(1) {
        let metadata = std::fs::metadata(folder).map_err(io)?;
        refuse_strangers(folder, &metadata, true)?;
    }
    if metadata.mode() & EXECUTABLE == 0 {
        return Err(failed(path, "execute the program", rustix::io::Errno::ACCESS));
    }
    Ok(())
}

fn refuse_strangers(path: &Path, metadata: &std::fs::Metadata, is_folder: bool) -> Result<(), FileError> {
    let own = rustix::process::geteuid().as_raw();
    // In a sticky folder, nobody can take another's file away.
    let is_sticky = is_folder && metadata.mode() & STICKY != 0;
    let is_open = metadata.mode() & WRITABLE_BY_OTHERS != 0 && !is_sticky;
    if is_open || ![0, own].contains(&metadata.uid()) {
        let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
        return Err(FileError::WritableByOthers { path: path.to_owned(), mode, owner });
    }
    Ok(())
}

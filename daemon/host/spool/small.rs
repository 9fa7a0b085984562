//! Small files of the spool that are written as a whole or not at all, most of them JSON, and whose they must be for what they
//! say to count. What is in them, and what follows from it, is the other files' question.

use std::io::Read;

use super::{Attempt, Directory, SpoolError, random};
use crate::policy::arrival::UNFINISHED;

/// Descriptions larger than this were not written by us.
pub(super) const DESCRIPTION_MAX: u64 = 64 * 1024;

/// Of what only `work` may say, in a folder that `serve` can write too: its own, or root's, who can do everything anyway (what an
/// operator did, or a backup restored).
pub(super) fn is_ours(facts: &rustix::fs::Stat) -> bool {
    facts.st_uid == 0 || facts.st_uid == rustix::process::geteuid().as_raw()
}

/// The same, and nobody else can have written it since.
pub(super) fn is_ours_alone(facts: &rustix::fs::Stat) -> bool {
    is_ours(facts) && facts.st_mode & 0o022 == 0
}

/// A file that only `work` may have written, read by the descriptor that was judged; none if it is not this process's.
pub(super) fn read_own_json<T: serde::de::DeserializeOwned>(
    folder: &Directory,
    name: &str,
) -> Result<Option<T>, SpoolError> {
    let file = folder.file(name).attempt("open", || name.to_owned())?;
    let facts = rustix::fs::fstat(&file).attempt("examine", || name.to_owned())?;
    if is_ours_alone(&facts) { parse_json(file, name).map(Some) } else { Ok(None) }
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    folder: &Directory,
    name: &str,
) -> Result<T, SpoolError> {
    parse_json(folder.file(name).attempt("open", || name.to_owned())?, name)
}

pub(super) fn parse_json<T: serde::de::DeserializeOwned>(
    file: std::fs::File,
    name: &str,
) -> Result<T, SpoolError> {
    let mut text = Vec::new();
    file.take(DESCRIPTION_MAX).read_to_end(&mut text).attempt("read", || name.to_owned())?;
    serde_json::from_slice(&text)
        .map_err(|error| SpoolError::Unreadable { what: name.to_owned(), cause: error.to_string() })
}

/// Writes a small file durably; one that is there is replaced as a whole or not at all.
pub(super) fn write_durably(folder: &Directory, name: &str, bytes: &[u8]) -> Result<(), SpoolError> {
    use std::io::Write;
    let temporary = temporary_name();
    let write = || -> std::io::Result<()> {
        let mut file = folder.create_anew(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        folder.replace(&temporary, folder, name)?;
        Ok(folder.sync()?)
    };
    write().attempt("write", || name.to_owned()).inspect_err(|_| {
        let _ = folder.remove_if_there(&temporary);
    })
}

/// Of a file that is renamed when it is complete. Listings leave out names of this form; what a crash leaves of one is never read,
/// and is swept away by whoever looks after its folder.
pub(super) fn temporary_name() -> String {
    format!(".{:016x}{UNFINISHED}", random())
}

/// Whether a name has that form.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.len() == 21 && name.starts_with('.') && name.ends_with(UNFINISHED)
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, SpoolError> {
    let mut json = serde_json::to_vec_pretty(value).map_err(|error| SpoolError::Unreadable {
        what: "a description".to_owned(),
        cause: error.to_string(),
    })?;
    json.push(b'\n');
    Ok(json)
}

//! Copies the access log while it is written: heads first, then the day files up to their last whole line, so that no head
//! in the copy speaks of a record that is not in it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::spool::lasting;
use super::store::{Shelf, Store};
use super::{Attempt, BackupError, Progress};
use crate::host::directory::Directory;
use crate::host::evidence::heads::HEADS;
use crate::policy::backup::{LOG, LastHead};
use crate::policy::retention::LogName;

/// Read at a time when the last line end is looked for.
const WINDOW: u64 = 64 << 10;
/// Of the oldest days so many are held open while heads are copied: they are there to their end, even if their time passes in
/// between. More of them never expire at once.
const HELD: usize = 128;

/// Copies a log folder; says how far its heads had come.
pub(super) fn copy(
    log: &Directory,
    store: &mut Store,
    progress: Progress<'_>,
) -> Result<Option<LastHead>, BackupError> {
    let shelf = store.shelf(LOG, log)?;
    let first = days(log)?;
    let held: Vec<Option<File>> =
        first.iter().take(HELD).map(|name| open(log, name)).collect::<Result<_, _>>()?;
    heads(log, &shelf, store)?;
    let last = last_head(store);
    for (name, file) in first.iter().zip(held) {
        if let Some(file) = file {
            day(&shelf, store, name, file)?;
        }
    }
    let second = days(log)?;
    for name in second.iter().filter(|name| !first.iter().take(HELD).any(|held| held == *name)) {
        if let Some(file) = open(log, name)? {
            day(&shelf, store, name, file)?;
            progress("the access log", store.bytes());
        }
    }
    Ok(last)
}

/// The names of the day files, the oldest first.
fn days(log: &Directory) -> Result<Vec<String>, BackupError> {
    let entries = log.entries().attempt("list", || LOG.to_owned())?;
    let mut names: Vec<String> =
        entries.into_iter().map(|entry| entry.name).filter(|name| LogName::parse(name).is_some()).collect();
    names.sort();
    Ok(names)
}

fn open(log: &Directory, name: &str) -> Result<Option<File>, BackupError> {
    match log.file(name) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).attempt("open", || format!("{LOG}/{name}")),
    }
}

/// What of a line is written already is not acknowledged before all of it is.
fn day(shelf: &Shelf, store: &mut Store, name: &str, file: File) -> Result<(), BackupError> {
    let length = whole_lines(&file).attempt("read", || format!("{LOG}/{name}"))?;
    store.copy(shelf, name, file, length)
}

fn whole_lines(file: &File) -> std::io::Result<u64> {
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(WINDOW);
        let mut window = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(&mut window, start)?;
        if let Some(at) = window.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn heads(log: &Directory, shelf: &Shelf, store: &mut Store) -> Result<(), BackupError> {
    let shown = || HEADS.to_owned();
    let folder = match log.directory(HEADS) {
        Err(Errno::NOENT) => return Ok(()),
        folder => folder.attempt("open", shown)?,
    };
    let target = store.shelf_in(shelf, HEADS, &folder)?;
    for (name, kind) in lasting(&folder, HEADS)? {
        if kind == FileType::Directory {
            let month = folder.directory(&name).attempt("open", shown)?;
            let target = store.shelf_in(&target, &name, &month)?;
            for (name, _) in lasting(&month, &name)? {
                store.copy(&target, &name, month.file(&name).attempt("open", || name.clone())?, u64::MAX)?;
            }
        } else if name != ".lock" {
            store.copy(&target, &name, folder.file(&name).attempt("open", || name.clone())?, u64::MAX)?;
        }
    }
    Ok(())
}

/// By its file's name, which is its number.
fn last_head(store: &Store) -> Option<LastHead> {
    let number = |path: &str| -> Option<u64> {
        let path = path.strip_prefix(LOG)?.strip_prefix('/')?.strip_prefix(HEADS)?;
        path.rsplit_once('/')?.1.strip_suffix(".json")?.parse().ok()
    };
    let heads = store.files.iter().filter_map(|file| Some((number(file.path.as_str())?, &file.sha256)));
    heads.max().map(|(number, sha256)| LastHead { number, sha256: sha256.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_copied_to_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(200_000);
        for (text, length) in [
            (String::new(), 0),
            ("cut short".to_owned(), 0),
            ("a\nb\n".to_owned(), 4),
            ("a\nb\ncut".to_owned(), 4),
            (format!("a\n{long}"), 2),
            (format!("{long}\n{long}"), 200_001),
        ] {
            std::fs::write(folder.path().join("day"), &text).unwrap();
            let day = Directory::open(folder.path()).unwrap().file("day").unwrap();
            assert_eq!(whole_lines(&day).unwrap(), length);
        }
    }
}

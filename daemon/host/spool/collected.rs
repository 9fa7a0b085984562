//! Marks of results that their receivers have downloaded to the end, in exchanges where that counts as collected: who did, when,
//! and which file. `serve` makes them, on any node, and removes the files when their grace is over. They lie apart from
//! the results, where no institution sees them, and say of which file they speak: one that took its name since is another.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Attempt, Directory, Spool, SpoolError, is_ours_alone, parse_json, to_json, write_durably};
use crate::policy::account::Who;
use crate::policy::digest::sha256;
use crate::policy::path::{Folder, Name, Slug};

/// The folder, below the spool.
const COLLECTED: &str = "collected";
const ENDING: &str = ".json";

/// Which file, whatever it is called: its number, and when it was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity(u64, i64, i64);

impl FileIdentity {
    /// Of an open file.
    pub fn of(file: &File) -> std::io::Result<Self> {
        file.metadata().map(|facts| Self(facts.ino(), facts.mtime(), facts.mtime_nsec()))
    }
}

/// A result that was collected and lies there still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mark {
    /// The exchange.
    pub exchange: Slug,
    /// The file's name in the receiver's `out`.
    pub name: Name,
    /// Bytes.
    pub size: u64,
    /// Who collected it, of the institution whose `out` it lies in.
    pub by: Who,
    /// In which session.
    pub session: String,
    /// When, UTC.
    pub at: Timestamp,
    /// Which file.
    pub file: FileIdentity,
}

impl Mark {
    /// Where its receiver sees the file.
    pub fn path(&self) -> String {
        format!("/{}/{}/{}", self.exchange, Folder::Out.as_str(), self.name)
    }

    /// Names may be as long as a file system takes them.
    fn file_name(institution: &Slug, exchange: &Slug, name: &Name) -> String {
        format!("{institution}.{exchange}.{}{ENDING}", sha256(name.as_str().as_bytes()))
    }
}

impl Spool {
    /// Marks a result as collected, durably. The first to collect a file stays the one who did. Whether he is.
    pub fn mark_collected(&self, mark: &Mark) -> Result<bool, SpoolError> {
        let folder = self.top.make(COLLECTED).attempt("make", || COLLECTED.to_owned())?;
        let name = Mark::file_name(&mark.by.institution, &mark.exchange, &mark.name);
        match read(&folder, &name) {
            Ok((before, _)) if before.file == mark.file => return Ok(false),
            // Of another file of that name, or no mark.
            Ok(_) | Err(SpoolError::Unreadable { .. }) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        write_durably(&folder, &name, &to_json(mark)?).map(|()| true)
    }

    /// The receiver removed a result himself: nothing is left to be marked.
    pub fn unmark_collected(
        &self,
        institution: &Slug,
        exchange: &Slug,
        name: &Name,
    ) -> Result<(), SpoolError> {
        let Some(folder) = self.marks()? else { return Ok(()) };
        let file = Mark::file_name(institution, exchange, name);
        folder.remove_if_there(&file).attempt("remove", || format!("{COLLECTED}/{file}"))
    }

    /// All marks. What is none is left out.
    pub fn collected(&self) -> Result<Vec<Mark>, SpoolError> {
        let Some(folder) = self.marks()? else { return Ok(Vec::new()) };
        let entries = folder.entries().attempt("list", || COLLECTED.to_owned())?;
        let names = entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(ENDING));
        let mut marks: Vec<Mark> =
            names.filter_map(|name| read(&folder, &name).ok()).map(|(mark, _)| mark).collect();
        marks.sort_by(|one, other| (one.at, &one.name).cmp(&(other.at, &other.name)));
        Ok(marks)
    }

    /// Removes a collected result and its mark, after `record`, which has recorded that and agreed. Whether it was there: of
    /// another file, or one that is gone, only the mark goes. A mark that this process's user has not made removes nothing.
    pub fn remove_collected(&self, mark: &Mark, record: impl FnOnce() -> bool) -> Result<bool, SpoolError> {
        let Some(folder) = self.marks()? else { return Ok(false) };
        let (institution, exchange) = (&mark.by.institution, &mark.exchange);
        let name = Mark::file_name(institution, exchange, &mark.name);
        let (found, file) = match read(&folder, &name) {
            Err(error) if error.is_not_found() => return Ok(false),
            other => other?,
        };
        // Another node is at it; or it was marked anew since.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || &found != mark {
            return Ok(false);
        }
        if !is_ours_alone(&fstat(&file).attempt("examine", || name.clone())?) {
            let cause = "it is not this process's own".to_owned();
            return Err(SpoolError::Unreadable { what: format!("{COLLECTED}/{name}"), cause });
        }
        let is_there = match self.open_file(institution, exchange, Folder::Out, &mark.name) {
            Ok(result) => FileIdentity::of(&result).is_ok_and(|identity| identity == mark.file),
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error),
        };
        // Whoever had the lock before may have removed both.
        if folder.stat(&name).is_err() || (is_there && !record()) {
            return Ok(false);
        }
        if is_there {
            self.collect(institution, exchange, &mark.name)?;
        }
        folder.remove_if_there(&name).attempt("remove", || format!("{COLLECTED}/{name}"))?;
        Ok(is_there)
    }

    fn marks(&self) -> Result<Option<Directory>, SpoolError> {
        match self.top.directory(COLLECTED) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).attempt("open", || COLLECTED.to_owned()),
        }
    }
}

/// A mark that lies where it belongs.
fn read(folder: &Directory, name: &str) -> Result<(Mark, File), SpoolError> {
    let what = || format!("{COLLECTED}/{name}");
    let file = folder.file(name).attempt("open", what)?;
    let mark: Mark = parse_json(file.try_clone().attempt("open", what)?, name)?;
    if Mark::file_name(&mark.by.institution, &mark.exchange, &mark.name) == name {
        return Ok((mark, file));
    }
    Err(SpoolError::Unreadable { what: what(), cause: "it speaks of another file".to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn zone() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let pairs = ["agency", "city"].map(|institution| (slug(institution), slug("relay")));
        let spool = Spool::open(folder.path(), &pairs).unwrap();
        for institution in ["agency", "city"] {
            std::fs::write(result(folder.path(), institution), "encrypted").unwrap();
        }
        (folder, spool)
    }

    fn result(folder: &Path, institution: &str) -> std::path::PathBuf {
        folder.join("outbox").join(institution).join("relay/a.age")
    }

    fn mark(folder: &Path, institution: &str, label: &str) -> Mark {
        let by = Who { institution: slug(institution), label: label.into(), fingerprint: "SHA256:x".into() };
        Mark {
            exchange: slug("relay"),
            name: Name::parse("a.age").unwrap(),
            size: 9,
            by,
            session: "s1".into(),
            at: "2026-11-21T12:00:00Z".parse().unwrap(),
            file: FileIdentity::of(
                &std::fs::OpenOptions::new().read(true).open(result(folder, institution)).unwrap(),
            )
            .unwrap(),
        }
    }

    #[test]
    fn the_first_who_collected_a_file_stays_the_one_and_its_removal_takes_the_mark_along() {
        let (folder, spool) = zone();
        let (first, second) = (mark(folder.path(), "city", "bo"), mark(folder.path(), "city", "cis"));
        assert!(spool.mark_collected(&first).unwrap());
        assert!(!spool.mark_collected(&second).unwrap());
        assert_eq!(spool.collected().unwrap(), std::slice::from_ref(&first));
        assert!(!spool.remove_collected(&first, || false).unwrap(), "without a record nothing goes");
        assert!(result(folder.path(), "city").exists());
        assert!(spool.remove_collected(&first, || true).unwrap());
        assert!(!result(folder.path(), "city").exists());
        assert!(result(folder.path(), "agency").exists(), "another's file of that name is another file");
        assert!(spool.collected().unwrap().is_empty());
        assert!(!spool.remove_collected(&first, || panic!("recorded twice")).unwrap());
    }

    #[test]
    fn a_mark_removes_the_file_it_speaks_of_and_no_other() {
        let (folder, spool) = zone();
        let before = mark(folder.path(), "city", "bo");
        spool.mark_collected(&before).unwrap();
        std::fs::remove_file(result(folder.path(), "city")).unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "another").unwrap();
        std::fs::rename(other, result(folder.path(), "city")).unwrap();
        assert!(!spool.remove_collected(&before, || panic!("recorded")).unwrap());
        assert!(result(folder.path(), "city").exists());
        assert!(spool.collected().unwrap().is_empty(), "it speaks of nothing any more");
        let now = mark(folder.path(), "city", "cis");
        spool.mark_collected(&before).unwrap();
        assert!(spool.mark_collected(&now).unwrap(), "a mark of a file that is gone is in nobody's way");
        spool.unmark_collected(&slug("city"), &slug("relay"), &now.name).unwrap();
        assert!(spool.collected().unwrap().is_empty());
    }

    #[test]
    fn a_mark_under_anothers_name_is_none() {
        let (folder, spool) = zone();
        let of_agency = mark(folder.path(), "agency", "an");
        spool.mark_collected(&of_agency).unwrap();
        let at = |institution: &str| {
            let name = Mark::file_name(&slug(institution), &slug("relay"), &of_agency.name);
            folder.path().join(COLLECTED).join(name)
        };
        std::fs::rename(at("agency"), at("city")).unwrap();
        assert!(spool.collected().unwrap().is_empty());
        let of_city = mark(folder.path(), "city", "bo");
        assert!(spool.remove_collected(&of_city, || true).is_err());
        assert!(result(folder.path(), "city").exists() && result(folder.path(), "agency").exists());
    }

    #[test]
    fn a_mark_that_others_could_have_written_removes_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, spool) = zone();
        let mark = mark(folder.path(), "city", "bo");
        spool.mark_collected(&mark).unwrap();
        let name = Mark::file_name(&slug("city"), &slug("relay"), &mark.name);
        let path = folder.path().join(COLLECTED).join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
        assert!(spool.remove_collected(&mark, || panic!("recorded")).is_err());
        assert!(result(folder.path(), "city").exists());
    }
}

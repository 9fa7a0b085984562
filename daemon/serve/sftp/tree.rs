//! The tree as a session sees it: what STAT and READDIR say of a place. Whether the session may look is judged before.

use jiff::Timestamp;
use russh_sftp::protocol::{File, FileAttributes};

use super::Sftp;
use crate::host::spool::{FileFacts, SpoolError};
use crate::policy::agreement::Standing;
use crate::policy::path::{Folder, Name, Place, Slug};
use crate::policy::reason::Reason;

const DIRECTORY: u32 = 0o040_750;
const FILE: u32 = 0o100_640;

impl Sftp {
    /// The attributes of a place, or `NoSuchPath`.
    pub(super) fn attributes(&self, place: &Place) -> Result<FileAttributes, Reason> {
        match place {
            Place::Root | Place::Exchange(_) | Place::Folder(..) => Ok(self.directory_attributes()),
            Place::File(exchange, folder, name) => {
                let facts = self.facts(exchange, *folder, name).map_err(|error| unavailable(&error))?;
                facts.map(|facts| file_attributes(&facts)).ok_or(Reason::NoSuchPath)
            }
        }
    }

    /// Size and time of a file. What this session published stays visible to it when the worker has taken it already:
    /// clients read the size back after an upload.
    fn facts(&self, exchange: &Slug, folder: Folder, name: &Name) -> Result<Option<FileFacts>, SpoolError> {
        let (spool, institution) = (&self.server.spool, self.session.institution());
        if folder != Folder::In {
            return spool.file_facts(institution, exchange, folder, name);
        }
        let growing =
            self.handles.uploads().find(|upload| &upload.exchange == exchange && &upload.name == name);
        if let Some(upload) = growing {
            // One that was refused is gone for everybody, though its handle is still open.
            return Ok(upload.refused.is_none().then(|| FileFacts {
                name: name.clone(),
                size: upload.size(),
                mtime: upload.opened.as_second(),
            }));
        }
        if let Some(partial) = spool.partial_facts(institution, exchange, name)? {
            return Ok(Some(partial));
        }
        if let Some(facts) = self.published.get(&(exchange.clone(), name.clone())) {
            return Ok(Some(facts.clone()));
        }
        spool.in_progress(institution, exchange, name)
    }

    /// The entries of a folder, `.` and `..` included.
    pub(super) fn entries(&self, place: &Place) -> Result<Vec<File>, Reason> {
        let mut entries = vec![self.directory_entry("."), self.directory_entry("..")];
        match place {
            Place::Root => {
                let today = self.server.clock.today();
                let config = self.server.config();
                let open = config
                    .exchanges_of(self.session.institution())
                    .filter(|exchange| exchange.agreement.standing(today) == Standing::Open);
                entries.extend(open.map(|exchange| self.directory_entry(exchange.name.as_str())));
            }
            Place::Exchange(_) => {
                entries.extend(Folder::ALL.map(|folder| self.directory_entry(folder.as_str())));
            }
            Place::Folder(exchange, folder) => {
                let mut facts = self.list(exchange, *folder).map_err(|error| unavailable(&error))?;
                facts.sort_by(|a, b| a.name.cmp(&b.name));
                entries.extend(facts.iter().map(|facts| self.file_entry(facts)));
            }
            Place::File(..) => return Err(Reason::NoSuchPath),
        }
        Ok(entries)
    }

    fn list(&self, exchange: &Slug, folder: Folder) -> Result<Vec<FileFacts>, SpoolError> {
        let (spool, institution) = (&self.server.spool, self.session.institution());
        match folder {
            Folder::In => {
                let mut all = spool.all_in_progress(institution, exchange)?;
                all.extend(spool.partials_facts(institution, exchange)?);
                Ok(all)
            }
            Folder::Out | Folder::Receipts => spool.files(institution, exchange, folder),
        }
    }

    fn directory_attributes(&self) -> FileAttributes {
        let now = seconds(self.server.clock.now().as_second());
        FileAttributes {
            size: Some(4096),
            permissions: Some(DIRECTORY),
            atime: Some(now),
            mtime: Some(now),
            ..FileAttributes::default()
        }
    }

    fn directory_entry(&self, name: &str) -> File {
        let attrs = self.directory_attributes();
        File { filename: name.to_owned(), longname: self.long_name("drwxr-x---", &attrs, name), attrs }
    }

    fn file_entry(&self, facts: &FileFacts) -> File {
        let attrs = file_attributes(facts);
        let longname = self.long_name("-rw-r-----", &attrs, facts.name.as_str());
        File { filename: facts.name.to_string(), longname, attrs }
    }

    /// The form of `ls -l`, which clients show as it is and some old ones parse.
    fn long_name(&self, mode: &str, attributes: &FileAttributes, name: &str) -> String {
        let owner: String = self.session.institution().as_str().chars().take(8).collect();
        let mtime =
            Timestamp::from_second(i64::from(attributes.mtime.unwrap_or(0))).unwrap_or(Timestamp::UNIX_EPOCH);
        let half_a_year = 182 * 24 * 3600;
        let is_recent = (self.server.clock.now().as_second() - mtime.as_second()).abs() < half_a_year;
        let time = mtime.strftime(if is_recent { "%b %e %H:%M" } else { "%b %e  %Y" });
        let size = attributes.size.unwrap_or(0);
        format!("{mode}    1 {owner:<8} dropzone {size:>10} {time} {name}")
    }
}

/// How a file looks to a client.
pub(super) fn file_attributes(facts: &FileFacts) -> FileAttributes {
    let mtime = seconds(facts.mtime);
    FileAttributes {
        size: Some(facts.size),
        permissions: Some(FILE),
        atime: Some(mtime),
        mtime: Some(mtime),
        ..FileAttributes::default()
    }
}

/// The spool failed: the operator reads why in the program log, the peer only that it may come back.
pub(super) fn unavailable(error: &SpoolError) -> Reason {
    tracing::error!(%error, "the spool failed");
    Reason::Unavailable
}

fn seconds(at: i64) -> u32 {
    u32::try_from(at.max(0)).unwrap_or(u32::MAX)
}

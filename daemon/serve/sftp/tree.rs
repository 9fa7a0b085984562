//! The tree as a session sees it: what STAT and READDIR say of a place. Whether the session may look is judged before.

use jiff::Timestamp;
use russh_sftp::protocol::{File, FileAttributes};

use super::Sftp;
use super::handles::Entry;
use crate::host::spool::{FileFacts, SpoolError, Stage};
use crate::policy::agreement::{Exchange, Standing};
use crate::policy::arrival::is_of_another;
use crate::policy::path::{Folder, Name, Place, Slug};
use crate::policy::reason::Reason;

const DIRECTORY: u32 = 0o040_750;
const FILE: u32 = 0o100_640;
const COMPLETE: u32 = 0o100_440;

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
        if let Some(upload) = self.handles.upload(exchange, name) {
            // One that was refused is gone, though its handle is still open.
            return Ok(upload.refused.is_none().then(|| upload.facts()));
        }
        if self.refused.contains(&(exchange.clone(), name.clone())) {
            return Ok(None);
        }
        if let Some(partial) = spool.partial_facts(institution, exchange, name)? {
            return Ok(Some(partial));
        }
        if let Some(facts) = self.published.get(&(exchange.clone(), name.clone())) {
            return Ok(Some(facts.clone()));
        }
        let standing = spool.in_progress(institution, exchange, name)?.map(|standing| standing.facts);
        let now = self.server.clock.now();
        Ok(standing.or_else(|| spool.just_published(institution, exchange, name, now)))
    }

    /// The entries of a folder, `.` and `..` included.
    pub(super) fn entries(&self, place: &Place) -> Result<Vec<Entry>, Reason> {
        let folder = |name: &str| Entry::Folder(name.to_owned());
        let mut entries = vec![folder("."), folder("..")];
        match place {
            Place::Root => {
                let today = self.server.clock.today();
                let config = self.server.config();
                let open = config
                    .exchanges_for(self.session.who())
                    .filter(|exchange| exchange.agreement.standing(today) == Standing::Open);
                entries.extend(open.map(|exchange| folder(exchange.name.as_str())));
            }
            Place::Exchange(_) => {
                entries.extend(Folder::ALL.map(|place| folder(place.as_str())));
            }
            Place::Folder(exchange, place) => {
                let mut facts = self.list(exchange, *place).map_err(|error| unavailable(&error))?;
                // What is being sent again stands for what is held under the same name: it comes first, and the sort is stable.
                facts.sort_by(|a, b| a.name.cmp(&b.name));
                facts.dedup_by(|later, first| later.name == first.name);
                entries.extend(facts.into_iter().map(Entry::File));
            }
            Place::File(..) => return Err(Reason::NoSuchPath),
        }
        Ok(entries)
    }

    fn list(&self, exchange: &Slug, folder: Folder) -> Result<Vec<FileFacts>, SpoolError> {
        let (spool, institution) = (&self.server.spool, self.session.institution());
        match folder {
            Folder::In => {
                let mut all = spool.partials_facts(institution, exchange)?;
                all.extend(spool.all_in_progress(institution, exchange)?);
                Ok(all)
            }
            Folder::Receipts => spool.files(institution, exchange, folder),
            Folder::Out => {
                let mut all = spool.files(institution, exchange, folder)?;
                let (config, who) = (self.server.config(), self.session.who());
                let has_shares = |exchange: &Exchange| exchange.has_shares_of_people(institution);
                if config.exchanges.get(exchange).is_some_and(has_shares) {
                    all.retain(|file| !is_of_another(&file.name, &who.label));
                }
                Ok(all)
            }
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

    /// How an entry looks to a client.
    pub(super) fn shown(&self, entry: Entry) -> File {
        let (name, kind, state, attrs) = match entry {
            Entry::Folder(name) => (name, 'd', "dropzone", self.directory_attributes()),
            Entry::File(facts) => {
                (facts.name.to_string(), '-', state_of(facts.stage), file_attributes(&facts))
            }
        };
        File { longname: self.long_name((kind, state), &attrs, &name), filename: name, attrs }
    }

    /// The form of `ls -l`, which clients show as it is and some old ones parse. Where a group would stand, it says how far the
    /// file has come: clients show that in a column of its own.
    fn long_name(&self, (kind, group): (char, &str), attributes: &FileAttributes, name: &str) -> String {
        let owner: String = self.session.institution().as_str().chars().take(8).collect();
        let mtime =
            Timestamp::from_second(i64::from(attributes.mtime.unwrap_or(0))).unwrap_or(Timestamp::UNIX_EPOCH);
        let half_a_year = 182 * 24 * 3600;
        let is_recent = (self.server.clock.now().as_second() - mtime.as_second()).abs() < half_a_year;
        let time = mtime.strftime(if is_recent { "%b %e %H:%M" } else { "%b %e  %Y" });
        let size = attributes.size.unwrap_or(0);
        let mode = mode_text(attributes.permissions.unwrap_or(0));
        format!("{kind}{mode}    1 {owner:<8} {group:<8} {size:>10} {time} {name}")
    }
}

/// Nine letters as `ls -l` has them.
fn mode_text(permissions: u32) -> String {
    let letter = |at: u32| if permissions & (1 << (8 - at)) == 0 { '-' } else { letter_at(at) };
    (0..9).map(letter).collect()
}

fn letter_at(at: u32) -> char {
    match at % 3 {
        0 => 'r',
        1 => 'w',
        _ => 'x',
    }
}

fn state_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Unfinished => "partial",
        Stage::InProgress(state) => state.as_str(),
        Stage::Ready => "dropzone",
    }
}

/// How a file looks to a client. What is complete can no longer be written.
pub(super) fn file_attributes(facts: &FileFacts) -> FileAttributes {
    let mtime = seconds(facts.mtime);
    FileAttributes {
        size: Some(facts.size),
        permissions: Some(if matches!(facts.stage, Stage::InProgress(_)) { COMPLETE } else { FILE }),
        atime: Some(mtime),
        mtime: Some(mtime),
        ..FileAttributes::default()
    }
}

/// The spool failed: the operator reads why in the program log, the peer only that it may come back.
pub(super) fn unavailable(error: &SpoolError) -> Reason {
    tracing::error!(%error, "the spool failed");
    if error.is_full() { Reason::SpoolFull } else { Reason::Unavailable }
}

fn seconds(at: i64) -> u32 {
    u32::try_from(at.max(0)).unwrap_or(u32::MAX)
}

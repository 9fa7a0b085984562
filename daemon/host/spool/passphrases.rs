//! Passphrases of results, until they are handed out: `passphrases/‹arrival›.‹receiver›.age`, encrypted to the zone's own
//! identities. The folder is open to `work`'s user alone. What is in a file, and who is told, is `work`'s business.
//!
//! A passphrase must always be that of the very file that was delivered. So it is made beside its arrival and leaves by a rename
//! through the claim, as results do (`staging`), and before its result does: to `….pending`, in place of one that an
//! earlier try left. When the result has left, durably, `….pending` becomes `….age`, and only that is handed out:
//!
//! ```text
//! there                          what came between                 what it means
//! passphrase beside the arrival  crash before the rename           removed by whoever takes over
//! pending, result                crash before the result left      the next try puts its own in its place
//! pending, note without result   crash after the result left       delivered: becomes `age` before the next try does anything
//! age                            nothing                           delivered; no try makes another
//! ```
//!
//! A process that has lost its claim puts nothing there any more: either its rename finds no folder, or, where the kernel had
//! begun it, what it would move is gone since whoever took over settled the arrival.

use std::fs::File;
use std::io::{Read, Write};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode, flock, fstat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::claim::Claim;
use super::{
    Attempt, Directory, Spool, SpoolError, is_ours, is_ours_alone, read_own_json, to_json, write_durably,
};
use crate::policy::arrival::{ArrivalId, State};
use crate::policy::path::Slug;

/// The folder, below the spool.
pub(super) const PASSPHRASES: &str = "passphrases";
/// Nobody but its owner enters it.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);
/// Longer than any encrypted passphrase, in bytes.
const SEALED_MAX: u64 = 64 << 10;
/// What the name of one begins with while it lies beside its arrival.
pub(super) const STAGED: &str = "passphrase-";
/// Ends the name of one whose result is delivered.
const READY: &str = ".age";
/// Ends the name of one whose result has not left yet.
const PENDING: &str = ".pending";
/// Ends the name of what is known of handing it over.
const TRIES: &str = ".tries";

/// Which passphrase.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PassphraseKey {
    /// Of which arrival's result.
    pub arrival: ArrivalId,
    /// To whom.
    pub to: Slug,
}

impl PassphraseKey {
    fn parse(stem: &str) -> Option<Self> {
        let (arrival, to) = stem.rsplit_once('.')?;
        Some(Self { arrival: ArrivalId::parse(arrival)?, to: Slug::parse(to).ok()? })
    }

    fn file(&self, ending: &str) -> String {
        format!("{}.{}{ending}", self.arrival, self.to)
    }
}

/// One that lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassphraseEntry {
    /// Which.
    pub key: PassphraseKey,
    /// Whether its result is delivered.
    pub is_ready: bool,
    /// When it was made.
    pub made: Timestamp,
}

/// What is known of handing one over to a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HandingOver {
    /// Tries that failed.
    pub tries: u32,
    /// Not before this.
    pub next: Timestamp,
    /// Why the last one failed.
    pub why: String,
}

/// One that nobody else hands out or removes while this is held.
#[derive(Debug)]
pub struct HeldPassphrase<'a> {
    spool: &'a Spool,
    key: PassphraseKey,
    file: File,
}

impl Claim<'_> {
    /// Keeps the passphrase of a result that is staged for a receiver, durably, in place of one of an earlier try.
    pub fn keep_passphrase(&self, to: &Slug, sealed: &[u8]) -> Result<(), SpoolError> {
        let key = PassphraseKey { arrival: self.id().clone(), to: to.clone() };
        let staged = format!("{STAGED}{to}.{}{READY}", self.nonce());
        let folder = self.spool().passphrases_folder()?;
        // By the path through the claim, which is lost with it.
        let (active, at) = (self.spool().state(State::Active), format!("{}/{staged}", self.name()));
        let made = active.remove_if_there(&at).and_then(|()| active.create_private(&at));
        let mut file = self.fenced(made, "make", &staged)?;
        file.write_all(sealed).and_then(|()| file.sync_all()).attempt("write", || staged.clone())?;
        self.fenced(active.replace(&at, &folder, &key.file(PENDING)), "keep", &staged)?;
        folder.sync().attempt("sync", || PASSPHRASES.to_owned())
    }

    /// To be called when a receiver's result has left, by whichever try: from now on its passphrase is handed out. Most
    /// results have none.
    pub fn passphrase_is_due(&self, to: &Slug) -> Result<(), SpoolError> {
        let folder = match self.spool().top.directory(PASSPHRASES) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).attempt("open", || PASSPHRASES.to_owned()),
        };
        let key = PassphraseKey { arrival: self.id().clone(), to: to.clone() };
        match folder.replace(&key.file(PENDING), &folder, &key.file(READY)) {
            Err(Errno::NOENT) => Ok(()),
            moved => moved.and_then(|()| folder.sync()).attempt("keep", || PASSPHRASES.to_owned()),
        }
    }
}

impl Spool {
    /// At the start of `work`: makes the folder, and refuses one that is somebody else's or that others may enter.
    pub fn own_passphrases(&self) -> Result<(), SpoolError> {
        self.passphrases_folder().map(drop)
    }

    /// Those that are kept, oldest arrival first.
    pub fn passphrases(&self) -> Result<Vec<PassphraseEntry>, SpoolError> {
        let folder = match self.top.directory(PASSPHRASES) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(error).attempt("open", || PASSPHRASES.to_owned()),
        };
        let entries = folder.entries().attempt("list", || PASSPHRASES.to_owned())?;
        let mut kept: Vec<PassphraseEntry> = entries
            .iter()
            .filter_map(|entry| {
                let (stem, is_ready) = match entry.name.strip_suffix(READY) {
                    Some(stem) => (stem, true),
                    None => (entry.name.strip_suffix(PENDING)?, false),
                };
                let facts = folder.stat(&entry.name).ok()?;
                let made = Timestamp::from_second(facts.st_mtime).unwrap_or(Timestamp::MAX);
                Some(PassphraseEntry { key: PassphraseKey::parse(stem)?, is_ready, made })
            })
            .collect();
        kept.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(kept)
    }

    /// The encrypted file of one whose result is delivered; none where it is gone.
    pub fn sealed_passphrase(&self, key: &PassphraseKey) -> Result<Option<Vec<u8>>, SpoolError> {
        self.open_passphrase(key)?.map(|file| read(&file, key)).transpose()
    }

    /// One whose result is delivered, to be handed out; none where it is gone. `Busy` while somebody else has it.
    pub fn hold_passphrase(&self, key: &PassphraseKey) -> Result<Option<HeldPassphrase<'_>>, SpoolError> {
        let what = || format!("{PASSPHRASES}/{}", key.file(READY));
        let Some(file) = self.open_passphrase(key)? else { return Ok(None) };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(SpoolError::Busy(what())),
            locked => locked.attempt("lock", what)?,
        }
        // Whoever had it before may have handed it out and removed it.
        let held = fstat(&file).attempt("examine", what)?;
        let there = self.passphrases_folder()?.stat(&key.file(READY));
        let is_it = there.is_ok_and(|there| there.st_ino == held.st_ino);
        Ok(is_it.then(|| HeldPassphrase { spool: self, key: key.clone(), file }))
    }

    fn open_passphrase(&self, key: &PassphraseKey) -> Result<Option<File>, SpoolError> {
        let what = || format!("{PASSPHRASES}/{}", key.file(READY));
        let file = match self.passphrases_folder()?.file(&key.file(READY)) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.attempt("open", what)?,
        };
        let facts = fstat(&file).attempt("examine", what)?;
        // `serve` can write beside an arrival, and so put another file in the place of what leaves it.
        if is_ours_alone(&facts) {
            return Ok(Some(file));
        }
        let cause = format!("it belongs to user {} and not to the one that runs `work`", facts.st_uid);
        Err(SpoolError::Unreadable { what: what(), cause })
    }

    /// What is known of handing one over; nothing where it was not tried.
    pub fn handing_over(&self, key: &PassphraseKey) -> Option<HandingOver> {
        let folder = self.top.directory(PASSPHRASES).ok()?;
        read_own_json(&folder, &key.file(TRIES)).ok().flatten()
    }

    /// Whether one waits for its result to leave.
    pub fn is_passphrase_pending(&self, key: &PassphraseKey) -> bool {
        self.top.directory(PASSPHRASES).is_ok_and(|folder| folder.stat(&key.file(PENDING)).is_ok())
    }

    /// Removes one whose result will not leave.
    pub fn drop_pending_passphrase(&self, key: &PassphraseKey) -> Result<(), SpoolError> {
        let folder = self.passphrases_folder()?;
        folder.remove_if_there(&key.file(PENDING)).attempt("remove", || key.file(PENDING))?;
        folder.sync().attempt("sync", || PASSPHRASES.to_owned())
    }

    /// Removes one whatever became of its result. Whether it was there.
    pub fn drop_passphrase(&self, key: &PassphraseKey) -> Result<bool, SpoolError> {
        let folder = self.passphrases_folder()?;
        let mut was_there = false;
        for ending in [READY, PENDING, TRIES] {
            match folder.remove(&key.file(ending)) {
                Ok(()) => was_there |= ending != TRIES,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error).attempt("remove", || key.file(ending)),
            }
        }
        folder.sync().attempt("sync", || PASSPHRASES.to_owned())?;
        Ok(was_there)
    }

    fn passphrases_folder(&self) -> Result<Directory, SpoolError> {
        let folder = match self.top.directory(PASSPHRASES) {
            Err(Errno::NOENT) => self.top.make_with_mode(PASSPHRASES, FOLDER_MODE),
            other => other,
        };
        let folder = folder.attempt("open", || PASSPHRASES.to_owned())?;
        let facts = folder.stat_self().attempt("examine", || PASSPHRASES.to_owned())?;
        if is_ours(&facts) && facts.st_mode & 0o077 == 0 {
            return Ok(folder);
        }
        Err(SpoolError::Unfit(format!(
            "the folder {PASSPHRASES} of the spool {} belongs to user {} with mode {:04o}, and must be open to nobody but the user \
             that runs `work`: find out who made it so; then, with both sides stopped, chown it to that user and chmod it to 0700",
            self.path.display(),
            facts.st_uid,
            facts.st_mode & 0o7777
        )))
    }
}

impl HeldPassphrase<'_> {
    /// Which.
    pub fn key(&self) -> &PassphraseKey {
        &self.key
    }

    /// Its encrypted file.
    pub fn sealed(&self) -> Result<Vec<u8>, SpoolError> {
        read(&self.file, &self.key)
    }

    /// It was handed out: removes it, durably.
    pub fn remove(self) -> Result<(), SpoolError> {
        self.spool.drop_passphrase(&self.key).map(drop)
    }

    /// It could not be handed over.
    pub fn put_off(&self, handing_over: &HandingOver) -> Result<(), SpoolError> {
        write_durably(&self.spool.passphrases_folder()?, &self.key.file(TRIES), &to_json(handing_over)?)
    }
}

fn read(file: &File, key: &PassphraseKey) -> Result<Vec<u8>, SpoolError> {
    let mut bytes = Vec::new();
    file.take(SEALED_MAX).read_to_end(&mut bytes).attempt("read", || key.file(READY))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;

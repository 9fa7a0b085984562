//! What leaves a claimed arrival: results to the outboxes, receipts to their folder. The fence: everything is made in the
//! arrival's folder first and leaves it by one rename whose source path goes through the folder's name in `active`, which
//! carries the claim. Taking a claim over is a rename of that folder, so a process that was stopped and has lost its claim
//! meets `ENOENT`, whatever it was about to do. A descriptor of the folder would survive the rename: it serves for reading only.
//!
//! Exactly once, for each receiver: before a result leaves as `result-‹receiver›.‹claim›.age`, a note with its digest is written durably beside
//! it, under the same name with the ending `json`. The rename is the delivery. From then on, and after any crash:
//!
//! ```text
//! there                   what came between                    what it means
//! result                  crash before the note                 not delivered: the result is removed
//! note and result         crash before the rename               not delivered: the result becomes `void`, then the note goes
//! note                    the result has left                   delivered, also if the receiver has collected it since
//! note and void           crash while that was undone           not delivered: the note goes, then `void`
//! void                    crash while that was undone           not delivered
//! nothing, outbox has it  delivered by a version without notes  delivered: a note is written
//! ```
//!
//! Renaming the result to `void` decides it also against a rename that a process which lost its claim still has in the kernel
//! (or at a file server): of two renames of one file only one can succeed. `void` stays until the note is gone
//! durably, for a note alone means delivered. Who takes over settles this before anything else.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::claim::{BEGUN, Claim};
use super::{
    Attempt, Directory, PAYLOAD, SpoolError, is_unfinished, passphrases, read_own_json, temporary_name,
    to_json,
};
use crate::policy::arrival::ArrivalId;
use crate::policy::digest::sha256;
use crate::policy::path::Name;
use crate::policy::quality::Quality;
use crate::policy::receipt::{Content, Delivery, Receiver};

const RESULT: &str = "result-";
const RECEIPT: &str = "receipt-";
const NOW: Timestamps = Timestamps { last_access: NOW_SPEC, last_modification: NOW_SPEC };
const NOW_SPEC: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

/// A result that its receiver has, and what its receipt says of the job that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Delivered {
    /// Which arrival it was made of: a note can be moved beside another.
    pub arrival: ArrivalId,
    /// To whom, under which name, and what.
    pub delivery: Delivery,
    /// How far the arrival was looked into.
    pub content: Content,
    /// Rows of the list.
    pub rows_in: Option<u64>,
    /// Rows of the result.
    pub rows_out: Option<u64>,
    /// How many results the arrival has in all, where that shows only when its job has run; none elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
    /// The report on what the list holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

impl Claim<'_> {
    /// What was delivered by earlier tries, durably.
    pub fn deliveries(&self) -> Result<Vec<Delivered>, SpoolError> {
        let mut deliveries = Vec::new();
        for name in self.names()? {
            if base_of(&name, ".json").is_some() {
                // Somebody may have put it there since the claim was settled.
                let Some(note) = self.believed(&name)? else { continue };
                // The crash may have come before the rename was durable.
                let outbox = self.spool().outbox_of(&note.delivery.to, self.id().exchange())?;
                outbox.sync().attempt("sync", || self.id().to_string())?;
                deliveries.push(note);
            }
        }
        Ok(deliveries)
    }

    /// A new, empty file for a receiver's result, beside the arrival.
    pub fn stage(&self, receiver: &Receiver) -> Result<File, SpoolError> {
        self.make(&self.staged(receiver, ".age"))
    }

    /// The payload itself as a receiver's result.
    pub fn stage_payload(&self, receiver: &Receiver) -> Result<(), SpoolError> {
        let name = self.staged(receiver, ".age");
        self.remove(&name)?;
        let (active, at) = (self.active(), |file: &str| self.at(file));
        self.fenced(active.link(&at(PAYLOAD), active, &at(&name)), "link", &name)?;
        // How long a result is kept counts from its delivery, and the link still has the time of its upload.
        let file = self.fenced(active.file_to_write(&at(&name)), "open", &name)?;
        futimens(file, &NOW).attempt("set the time of", || name)
    }

    /// Puts a staged result into the receiver's outbox, durably; `Exists` where there is one of that name.
    pub fn deliver(&self, delivered: &Delivered) -> Result<(), SpoolError> {
        self.note(delivered)?;
        self.hand_over(&delivered.delivery)
    }

    fn note(&self, delivered: &Delivered) -> Result<(), SpoolError> {
        let staged = self.staged(&delivered.delivery.receiver(), ".age");
        let file = self.fenced(self.active().file(&self.at(&staged)), "open", &staged)?;
        file.sync_all().attempt("sync", || staged.clone())?;
        // Its sync makes the result's own name durable too.
        self.write(&self.staged(&delivered.delivery.receiver(), ".json"), &to_json(delivered)?)
    }

    fn hand_over(&self, delivery: &Delivery) -> Result<(), SpoolError> {
        let (Delivery { to, name, .. }, staged) = (delivery, self.staged(&delivery.receiver(), ".age"));
        let outbox = self.spool().outbox_of(to, self.id().exchange())?;
        match self.active().move_to(&self.at(&staged), &outbox, name.as_str()) {
            Err(Errno::EXIST) => return Err(SpoolError::Exists(format!("outbox/{to}/{name}"))),
            moved => self.fenced(moved, "deliver", &staged)?,
        }
        // In this order: a result that lies in both folders after a power cut is met in the outbox, one in none is lost.
        outbox.sync().and_then(|()| self.folder().sync()).attempt("sync", || staged)
    }

    /// Takes what lies in the receiver's outbox for the delivery, in place of what was staged.
    pub fn adopt(&self, delivered: &Delivered) -> Result<(), SpoolError> {
        let to = &delivered.delivery.receiver();
        // Before the note: beside a note, a result says that it has not left.
        self.remove(&self.staged(to, ".age"))?;
        self.write(&self.staged(to, ".json"), &to_json(delivered)?)
    }

    /// Puts a receipt and its signature in place of those that may be there: the signature first, so that no receipt is ever
    /// seen without one. Between the two, an old receipt has a signature that does not fit it yet.
    pub fn publish_receipt(
        &self,
        (name, json): (&Name, &[u8]),
        (signature_name, signature): (&Name, &str),
    ) -> Result<(), SpoolError> {
        for (ending, bytes) in [("sig", signature.as_bytes()), ("json", json)] {
            self.make_whole(&self.staged_paper(ending), bytes)?;
        }
        self.hand_over_paper("sig", signature_name)?;
        self.hand_over_paper("json", name)
    }

    /// Puts a quality report in place of the one that may be there. Its receipt names it, and comes after it.
    pub fn publish_quality(&self, (name, text): (&Name, &[u8])) -> Result<(), SpoolError> {
        self.make_whole(&self.staged_paper("quality"), text)?;
        self.hand_over_paper("quality", name)
    }

    fn hand_over_paper(&self, ending: &str, name: &Name) -> Result<(), SpoolError> {
        let folder = self.spool().receipts_of(self.id().institution(), self.id().exchange())?;
        let staged = self.staged_paper(ending);
        let moved = self.active().replace(&self.at(&staged), &folder, name.as_str());
        self.fenced(moved, "publish", &staged)?;
        folder.sync().attempt("sync", || name.to_string())
    }

    fn staged_paper(&self, ending: &str) -> String {
        format!("{RECEIPT}{}.{ending}", self.nonce())
    }

    /// Leaves nothing that a try has made but the notes of what was delivered.
    pub(super) fn settle(&self) -> Result<(), SpoolError> {
        let mut names = self.names()?;
        self.drop_foreign_notes(&mut names)?;
        let mut is_undone = false;
        for note in names.clone().iter().filter(|name| base_of(name, ".json").is_some()) {
            let base = note.trim_end_matches(".json");
            if self.has_left(base, &names)? {
                names.remove(note);
            } else {
                self.remove(note)?;
                names.insert(format!("{base}.void"));
                is_undone = true;
            }
        }
        if is_undone {
            self.folder().sync().attempt("sync", || self.id().to_string())?;
        }
        let is_made = |name: &&String| {
            let is_result = name.starts_with(RESULT) || name.starts_with(passphrases::STAGED);
            is_result || name.starts_with(RECEIPT) || is_unfinished(name) || *name == BEGUN
        };
        names.iter().filter(is_made).try_for_each(|name| self.remove(name))
    }

    /// A note says that its receiver has the result, and a receipt will say so too: only `work` may write one, and not `serve`,
    /// which can write into the folder.
    fn drop_foreign_notes(&self, names: &mut BTreeSet<String>) -> Result<(), SpoolError> {
        for note in names.clone().iter().filter(|name| base_of(name, ".json").is_some()) {
            if self.believed(note)?.is_none() {
                tracing::error!(arrival = %self.id(), note, "a note of a delivery is not this program's and is not believed");
                self.remove(note)?;
                names.remove(note);
            }
        }
        Ok(())
    }

    /// A note that only `work` can have written, and wrote of this arrival.
    fn believed(&self, note: &str) -> Result<Option<Delivered>, SpoolError> {
        match read_own_json::<Delivered>(self.folder(), note) {
            Ok(read) => Ok(read.filter(|read| &read.arrival == self.id())),
            Err(SpoolError::Unreadable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Of a result with a note: whether it is the receiver's. If it was not, it never will be.
    fn has_left(&self, base: &str, names: &BTreeSet<String>) -> Result<bool, SpoolError> {
        let (result, void) = (format!("{base}.age"), format!("{base}.void"));
        if names.contains(&void) {
            return Ok(false);
        }
        match self.active().move_to(&self.at(&result), self.active(), &self.at(&void)) {
            Err(Errno::NOENT) if !self.is_lost() => Ok(true),
            moved => self.fenced(moved, "withdraw", &result).map(|()| false),
        }
    }

    fn names(&self) -> Result<BTreeSet<String>, SpoolError> {
        let entries = self.folder().entries().attempt("list", || self.id().to_string())?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    /// A person's label may hold anything; its digest tells it from others, also from no person.
    fn staged(&self, Receiver { institution, person }: &Receiver, ending: &str) -> String {
        let person =
            person.as_deref().map_or_else(String::new, |label| format!(".{}", sha256(label.as_bytes())));
        format!("{RESULT}{institution}{person}.{}{ending}", self.nonce())
    }

    /// A file of the folder, by the path that goes through the claim.
    fn at(&self, file: &str) -> String {
        format!("{}/{file}", self.name())
    }

    fn active(&self) -> &Directory {
        self.spool().state(crate::policy::arrival::State::Active)
    }

    /// Makes an empty file, in place of one that may be there.
    pub(super) fn make(&self, name: &str) -> Result<File, SpoolError> {
        self.fenced(self.active().create_anew(&self.at(name)), "make", name)
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), SpoolError> {
        match self.active().remove(&self.at(name)) {
            Err(Errno::NOENT) if !self.is_lost() => Ok(()),
            removed => self.fenced(removed, "remove", name),
        }
    }

    fn make_whole(&self, name: &str, bytes: &[u8]) -> Result<(), SpoolError> {
        let mut file = self.make(name)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).attempt("write", || name.to_owned())
    }

    /// Writes a small file durably; one that is there is replaced as a whole or not at all.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SpoolError> {
        let temporary = temporary_name();
        self.make_whole(&temporary, bytes)?;
        self.rename(&temporary, name)?;
        self.folder().sync().attempt("sync", || name.to_owned())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), SpoolError> {
        self.fenced(self.active().replace(&self.at(from), self.active(), &self.at(to)), "write", to)
    }

    /// The time of a file that this process made: a time can only be set by its owner, and the folder is `serve`'s.
    pub(super) fn set_time(&self, name: &str, at: jiff::Timestamp) -> Result<(), SpoolError> {
        let stamp = Timespec { tv_sec: at.as_second(), tv_nsec: 0 };
        let times = Timestamps { last_access: stamp, last_modification: stamp };
        let set = self.active().file_to_write(&self.at(name)).and_then(|file| futimens(file, &times));
        self.fenced(set, "set the time of", name)
    }

    /// Names what was attempted; where the folder is gone from under its name, that is what happened.
    pub(super) fn fenced<T>(
        &self,
        done: rustix::io::Result<T>,
        attempted: &'static str,
        file: &str,
    ) -> Result<T, SpoolError> {
        match done {
            Err(Errno::NOENT) if self.is_lost() => Err(SpoolError::Lost(self.id().to_string())),
            other => other.attempt(attempted, || format!("{}/{file}", self.id())),
        }
    }

    /// Whether somebody else has taken the arrival over. That it was not is true only until somebody does.
    pub fn is_lost(&self) -> bool {
        matches!(self.active().stat(self.name()), Err(Errno::NOENT))
    }
}

/// Whether a file's name is that of a note about a result.
pub(super) fn is_note(name: &str) -> bool {
    base_of(name, ".json").is_some()
}

fn base_of<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    name.strip_prefix(RESULT)?.strip_suffix(ending)
}

#[cfg(test)]
mod tests;

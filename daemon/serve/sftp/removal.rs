//! What leaves the tree again: REMOVE of an own unfinished upload, or of a result, which says "I have it". Recorded before
//! it is done: a file that is gone without a record could not be explained.

use tokio::task::block_in_place;

use super::Sftp;
use super::reply::{Answer, Fault};
use super::transfer::fault_of;
use crate::host::spool::Partial;
use crate::policy::path::{Folder, Name, Place, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::request::Action;

/// What a removal removes.
enum Removable {
    /// An own upload that is not complete.
    Unfinished(Partial),
    /// A result, of so many bytes.
    Result(u64),
}

impl Sftp {
    pub(super) async fn remove(&mut self, path: &str) -> Result<Answer, Fault> {
        let (remote, place) = self.resolve_recorded(path, Action::Remove, Event::Remove).await?;
        let Place::File(exchange, folder, name) = place else { return Err(Reason::NoSuchPath.into()) };
        self.sealed.remove(&(exchange.clone(), name.clone()));
        let removable = match block_in_place(|| self.removable(&exchange, folder, &name)) {
            Ok(removable) => removable,
            Err(reason) => return Err(self.denied(path, Event::Remove, reason).await.into()),
        };
        let (bytes, detail) = match &removable {
            Removable::Unfinished(partial) => (partial.size().ok(), "unfinished upload"),
            Removable::Result(size) => (Some(*size), "collected"),
        };
        let record = self.session.record_at(Event::Remove, Outcome::Ok, &remote, Some(&exchange));
        self.record(Record { bytes, detail: Some(detail.to_owned()), ..record }).await?;
        if let Removable::Result(size) = removable {
            self.record_collected(&remote, &exchange, (size, "removed by its receiver")).await?;
        }
        let removed = block_in_place(|| match removable {
            Removable::Unfinished(partial) => partial.remove(),
            Removable::Result(_) => self.take_away(&exchange, &name),
        });
        match removed {
            Ok(()) => Ok(Answer::Done),
            Err(error) if error.is_not_found() => Err(Reason::NoSuchPath.into()),
            Err(error) => Err(self.denied(path, Event::Remove, fault_of(&error)).await.into()),
        }
    }

    fn removable(&self, exchange: &Slug, folder: Folder, name: &Name) -> Result<Removable, Reason> {
        let (spool, institution) = (&self.server.spool, self.session.institution());
        match folder {
            Folder::Receipts => Err(Reason::FolderIsReadOnly),
            Folder::Out => spool
                .file_facts(institution, exchange, Folder::Out, name)
                .map_err(|error| fault_of(&error))?
                .map(|facts| Removable::Result(facts.size))
                .ok_or(Reason::NoSuchPath),
            Folder::In => {
                let partial =
                    spool.open_partial(institution, exchange, name).map_err(|error| fault_of(&error))?;
                if let Some(partial) = partial {
                    return Ok(Removable::Unfinished(partial));
                }
                let is_known =
                    self.in_progress(exchange, name)?.is_some() || self.has_published(exchange, name);
                Err(if is_known { Reason::DropIsWriteOnly } else { Reason::NoSuchPath })
            }
        }
    }
}

//! RENAME: from a temporary name to a final one, which publishes an upload, or to another temporary one, which is all that happens
//! then. What publishing takes is `publish`'s business.

use tokio::task::block_in_place;

use super::Sftp;
use super::reply::{Answer, Fault};
use super::transfer::{fault_of, in_folder, path_of, reason_of};
use super::upload::{Sealed, WriteFault};
use crate::host::spool::{Partial, SpoolError};
use crate::policy::path::{Folder, Name, Place, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::request::Action;
use crate::policy::upload::is_temporary;

/// An upload that gets another temporary name.
enum Renamed {
    Sealed(Sealed),
    Unsealed(Partial),
}

impl Renamed {
    fn partial(&mut self) -> &mut Partial {
        match self {
            Self::Sealed(sealed) => &mut sealed.partial,
            Self::Unsealed(partial) => partial,
        }
    }

    fn into_partial(self) -> Partial {
        match self {
            Self::Sealed(sealed) => sealed.partial,
            Self::Unsealed(partial) => partial,
        }
    }
}

impl Sftp {
    /// RENAME and posix-rename@openssh.com: only uploads can be renamed, within their folder.
    pub(super) async fn rename(&mut self, old: &str, new: &str) -> Result<Answer, Fault> {
        let (old_path, old_place) = self.resolve_recorded(old, Action::Rename, Event::Rename).await?;
        let (new_path, new_place) = self.resolve_recorded(new, Action::Rename, Event::Rename).await?;
        let (Some((exchange, from)), Some((new_exchange, to))) = (in_folder(old_place), in_folder(new_place))
        else {
            return Err(self.denied(old, Event::Rename, Reason::Unsupported).await.into());
        };
        if exchange != new_exchange {
            return Err(self.denied(old, Event::Rename, Reason::Unsupported).await.into());
        }
        if from == to && block_in_place(|| self.is_there(&exchange, &from))? {
            return Ok(Answer::Done);
        }
        let record = self.session.record_at(Event::Rename, Outcome::Ok, &old_path, Some(&exchange));
        let record = Record { new_path: Some(new_path.to_string()), ..record };
        self.rename_upload(&exchange, &from, &to, record).await?;
        Ok(Answer::Done)
    }

    fn is_there(&self, exchange: &Slug, name: &Name) -> Result<bool, Reason> {
        let place = Place::File(exchange.clone(), Folder::In, name.clone());
        match self.attributes(&place) {
            Ok(_) => Ok(true),
            Err(Reason::NoSuchPath) => Ok(false),
            Err(reason) => Err(reason),
        }
    }

    /// Each way it can fail is recorded where it does.
    async fn rename_upload(
        &mut self,
        exchange: &Slug,
        from: &Name,
        to: &Name,
        record: Record,
    ) -> Result<(), Fault> {
        let is_open = |name: &Name| self.handles.upload(exchange, name).is_some();
        let free = if is_open(from) || is_open(to) {
            Err(Reason::NameInUse)
        } else if is_temporary(to) {
            Ok(())
        } else {
            self.require_taken_by_a_flow(exchange, to)
        };
        if let Err(reason) = free {
            return Err(self.denied(&path_of(exchange, from), Event::Rename, reason).await.into());
        }
        let sealed = self.sealed.remove(&(exchange.clone(), from.clone()));
        if is_temporary(to) {
            return self.rename_unfinished(exchange, (from, to), sealed, record).await;
        }
        let sealed = match sealed {
            Some(sealed) => sealed,
            None => self.seal_from_disk(exchange, from).await?,
        };
        self.refused.remove(&(exchange.clone(), to.clone()));
        self.publish(exchange, to, sealed).await?;
        Ok(self.record(record).await?)
    }

    /// From one temporary name to another: nothing is judged yet. Recorded before it is done, and undone by nothing.
    async fn rename_unfinished(
        &mut self,
        exchange: &Slug,
        (from, to): (&Name, &Name),
        sealed: Option<Sealed>,
        record: Record,
    ) -> Result<(), Fault> {
        let path = path_of(exchange, from);
        let mut renamed = match sealed {
            Some(sealed) => Renamed::Sealed(sealed),
            None => {
                let spool = &self.server.spool;
                match block_in_place(|| spool.open_partial(self.session.institution(), exchange, from)) {
                    Ok(Some(partial)) => Renamed::Unsealed(partial),
                    Ok(None) => {
                        return Err(self.denied(&path, Event::Rename, Reason::NoSuchPath).await.into());
                    }
                    Err(error) => {
                        return Err(self.denied(&path, Event::Rename, fault_of(&error)).await.into());
                    }
                }
            }
        };
        let done = match self.record(record).await {
            Ok(()) => block_in_place(|| renamed.partial().rename(to)).map_err(WriteFault::from),
            Err(reason) => Err(WriteFault::Already(reason)),
        };
        match (done, renamed) {
            (Err(fault @ WriteFault::Spool(SpoolError::Io { .. })), renamed) => {
                // Nobody knows under which name it would be found after a crash.
                let about = self.about(exchange, from, 0);
                Err(self.refuse(Some(renamed.into_partial()), about, fault).await.into())
            }
            (done, renamed) => {
                if let Renamed::Sealed(sealed) = renamed {
                    let name = sealed.partial.name().clone();
                    self.keep_sealed(exchange.clone(), name, sealed);
                }
                match done {
                    Ok(()) => Ok(()),
                    Err(WriteFault::Already(reason)) => Err(reason.into()),
                    Err(fault) => Err(self.denied(&path, Event::Rename, reason_of(&fault)).await.into()),
                }
            }
        }
    }
}

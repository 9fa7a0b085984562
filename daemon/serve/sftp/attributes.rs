//! STAT, FSTAT, SETSTAT and FSETSTAT. What clients set after an upload is acknowledged: times are kept, permissions and
//! owner mean nothing here, a size must be the present one or cut an own upload that is not complete.

use russh_sftp::protocol::FileAttributes;
use tokio::task::block_in_place;

use super::Sftp;
use super::handles::Open;
use super::opening::Unbegun;
use super::reply::{Answer, Fault};
use super::transfer::{answer_of, fault_of, in_folder, path_of};
use super::tree::file_attributes;
use super::upload::{Target, WriteFault};
use crate::policy::path::{Name, Place, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::request::Action;

impl Sftp {
    /// Questions about places that are not the asker's are recorded, a few of each connection. Exchanges of others and
    /// exchanges that do not exist make no difference, not even in the time that takes.
    pub(super) async fn stat(&self, path: &str) -> Result<Answer, Fault> {
        match self.resolve(path, Action::Stat) {
            Ok((_, place)) => Ok(Answer::Attributes(block_in_place(|| self.attributes(&place))?)),
            Err(reason) if self.connection.may_record_question() => {
                Err(self.denied(path, Event::Other, reason).await.into())
            }
            Err(reason) => Err(reason.into()),
        }
    }

    pub(super) fn fstat(&mut self, handle: &[u8]) -> Result<Answer, Fault> {
        match self.handles.find(handle) {
            None => Err(Fault::BadMessage),
            Some(Open::Download(download)) => Ok(Answer::Attributes(file_attributes(&download.facts))),
            Some(Open::Upload(upload)) => Ok(Answer::Attributes(file_attributes(&upload.facts()))),
            Some(Open::Listing(_)) => Ok(Answer::Attributes(self.attributes(&Place::Root)?)),
        }
    }

    pub(super) async fn set_stat(
        &mut self,
        path: &str,
        attributes: &FileAttributes,
    ) -> Result<Answer, Fault> {
        let (_, place) = self.resolve_recorded(path, Action::Write, Event::Other).await?;
        let present = block_in_place(|| self.attributes(&place))?;
        let file = in_folder(place);
        if let (Some(file), Some(mtime)) = (&file, attributes.mtime) {
            self.keep_time(file, mtime);
        }
        match (attributes.size.filter(|size| Some(*size) != present.size), file) {
            (None, _) => Ok(Answer::Done),
            (Some(size), Some((exchange, name))) => self.truncate(path, &exchange, &name, size).await,
            (Some(_), None) => Err(self.denied(path, Event::Other, Reason::Unsupported).await.into()),
        }
    }

    /// Of an upload that is not complete it becomes part of the arrival's description; of a published one this session
    /// remembers it.
    fn keep_time(&mut self, file: &(Slug, Name), mtime: u32) {
        if let Some(upload) = self.handles.upload_mut(&file.0, &file.1) {
            upload.mtime = Some(mtime);
        } else if let Some(sealed) = self.sealed.get_mut(file) {
            sealed.mtime = Some(mtime);
        } else if let Some(facts) = self.published.get_mut(file) {
            facts.mtime = i64::from(mtime);
        }
    }

    /// Cutting an upload by its path: one that is open here, or one that lies on the disk.
    async fn truncate(
        &mut self,
        path: &str,
        exchange: &Slug,
        name: &Name,
        size: u64,
    ) -> Result<Answer, Fault> {
        if self.handles.upload(exchange, name).is_some() {
            return self.cut(exchange, name, size).await;
        }
        let bounds = match self.bounds_for(exchange, name) {
            Ok(bounds) => bounds,
            Err(reason) => return Err(self.denied(path, Event::Other, reason).await.into()),
        };
        self.sealed.remove(&(exchange.clone(), name.clone()));
        let institution = self.session.institution().clone();
        let target = Target { institution: &institution, exchange, name };
        let resumed = block_in_place(|| {
            let partial = self.server.spool.open_partial(&institution, exchange, name);
            let partial = partial.map_err(|error| fault_of(&error))?.ok_or(Reason::Unsupported)?;
            self.resume(target, bounds, partial)
        });
        let reason = match resumed {
            Ok(mut upload) => {
                self.record(self.cutting(exchange, name, size)).await?;
                match upload.set_size(size) {
                    Ok(()) => return Ok(Answer::Done),
                    Err(fault @ WriteFault::Already(_)) => return Err(answer_of(fault)),
                    Err(fault) => return Err(self.give_up(&mut upload, fault).await.into()),
                }
            }
            Err(Unbegun::Denied(reason) | Unbegun::Refused(_, reason)) => reason,
        };
        Err(self.denied(path, Event::Other, reason).await.into())
    }

    pub(super) async fn fset_stat(
        &mut self,
        handle: &[u8],
        attributes: &FileAttributes,
    ) -> Result<Answer, Fault> {
        let upload = match self.handles.find(handle) {
            None => return Err(Fault::BadMessage),
            Some(Open::Download(_) | Open::Listing(_)) => return Err(Reason::FolderIsReadOnly.into()),
            Some(Open::Upload(upload)) => upload,
        };
        upload.mtime = attributes.mtime.or(upload.mtime);
        let Some(size) = attributes.size.filter(|size| *size != upload.size()) else {
            return Ok(Answer::Done);
        };
        let (exchange, name) = (upload.exchange.clone(), upload.name.clone());
        self.cut(&exchange, &name, size).await
    }

    /// Cutting an upload is recorded first; confirming its size and setting its time are not worth a record.
    async fn cut(&mut self, exchange: &Slug, name: &Name, size: u64) -> Result<Answer, Fault> {
        self.record(self.cutting(exchange, name, size)).await?;
        match self.handles.upload_mut(exchange, name).map(|upload| upload.set_size(size)) {
            Some(Ok(())) => Ok(Answer::Done),
            // What could not be cut is not what its sender takes it for.
            Some(Err(fault)) => Err(self.end_upload_of(exchange, name, fault).await),
            None => Err(Fault::BadMessage),
        }
    }

    fn cutting(&self, exchange: &Slug, name: &Name, size: u64) -> Record {
        Record {
            path: Some(path_of(exchange, name)),
            exchange: Some(exchange.clone()),
            bytes: Some(size),
            detail: Some("cut to this size".to_owned()),
            ..self.session.record(Event::Other, Outcome::Ok)
        }
    }
}

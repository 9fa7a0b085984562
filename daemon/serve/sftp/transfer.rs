//! Files going in and out: opening an upload, WRITE, READ, and the end of an upload: published, kept under its temporary
//! name, or refused.

use std::sync::Arc;

use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::block_in_place;

use super::Sftp;
use super::download::Read;
use super::framing::{Fields, Violation};
use super::handles::Open;
use super::reply::{Answer, Fault};
use super::tree::unavailable;
use super::upload::{Resume, Sealed, Target, Upload, WriteFault};
use crate::host::metrics::UploadOutcome;
use crate::host::spool::{Partial, SpoolError};
use crate::policy::agreement::Accept;
use crate::policy::path::{Folder, Name, Place, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::upload::{Bounds, is_temporary, meant_for};

impl Sftp {
    pub(super) async fn open_upload(
        &mut self,
        exchange: &Slug,
        name: &Name,
        flags: OpenFlags,
        attributes: &FileAttributes,
    ) -> Result<Answer, Fault> {
        let path = path_of(exchange, name);
        let bounds = match self.bounds_for(exchange, name) {
            Ok(bounds) => bounds,
            Err(reason) => return Err(self.denied(&path, Event::OpenWrite, reason).await.into()),
        };
        // A sealed upload of this name is begun anew or gone on with: either way it is no longer complete.
        self.sealed.remove(&(exchange.clone(), name.clone()));
        let begun = block_in_place(|| {
            self.begin_upload(
                Target { institution: self.session.institution(), exchange, name },
                bounds,
                flags,
            )
        });
        let mut upload = match begun {
            Ok(upload) => upload,
            Err(Unbegun::Denied(reason)) => {
                return Err(self.denied(&path, Event::OpenWrite, reason).await.into());
            }
            Err(Unbegun::Refused(partial, reason)) => {
                let about = self.about(exchange, name, partial.size().unwrap_or(0));
                return Err(self.refuse(Some(partial), about, reason.into()).await.into());
            }
        };
        upload.unasked = self.asked_early(exchange, name);
        if let Err(fault) = upload.ask(&self.server.job_side).await {
            return Err(self.give_up(&mut upload, fault).await.into());
        }
        upload.mtime = attributes.mtime;
        let record = Record {
            path: Some(path),
            exchange: Some(exchange.clone()),
            ..self.session.record(Event::OpenWrite, Outcome::Ok)
        };
        self.record(record).await?;
        Ok(Answer::Handle(self.handles.insert(Open::Upload(Box::new(upload)))))
    }

    fn begin_upload(&self, target: Target<'_>, bounds: Bounds, flags: OpenFlags) -> Result<Upload, Unbegun> {
        let spool = &self.server.spool;
        let Target { institution, exchange, name } = target;
        let opened = self.server.clock.now();
        let is_ours = |upload: &Upload| &upload.exchange == exchange && &upload.name == name;
        if self.handles.uploads().any(is_ours) {
            return Err(Reason::NameInUse.into());
        }
        if !is_temporary(name) {
            self.require_free(exchange, name)?;
        }
        match spool.open_partial(institution, exchange, name).map_err(|e| fault_of(&e))? {
            Some(_) if flags.contains(OpenFlags::EXCLUDE) => Err(Reason::NameInUse.into()),
            // What was there is emptied when the first byte passes, and not before.
            Some(_) if flags.contains(OpenFlags::TRUNCATE) => Ok(Upload::new(target, bounds, opened)),
            Some(partial) => match Upload::resume(target, bounds, opened, partial) {
                Ok(upload) => Ok(upload),
                Err(Resume::Spool(error)) => Err(unavailable(&error).into()),
                Err(Resume::Refused(partial, reason)) => Err(Unbegun::Refused(partial, reason)),
            },
            None if flags.contains(OpenFlags::CREATE) => Ok(Upload::new(target, bounds, opened)),
            None => Err(Reason::NoSuchPath.into()),
        }
    }

    /// What is known of an upload whose handle is not at hand.
    pub(super) fn about(&self, exchange: &Slug, name: &Name, size: u64) -> About {
        About {
            institution: self.session.institution().clone(),
            exchange: exchange.clone(),
            name: name.clone(),
            size,
            opened: self.server.clock.now(),
        }
    }

    /// What the flow of a name allows; for a temporary name, what the widest flow does that it may be meant for. The final
    /// name is judged when it is given.
    fn bounds_for(&self, exchange: &Slug, name: &Name) -> Result<Bounds, Reason> {
        let institution = self.session.institution();
        let config = self.server.config();
        let exchange = config.exchanges.get(exchange).ok_or(Reason::NoSuchPath)?;
        let bounds = |accept: &Accept| Bounds {
            max_size: accept.max_size,
            armored: accept.armored,
            held: config.machine.limits.unwritten_bytes,
        };
        if !is_temporary(name) {
            let flow = exchange.flow_for(institution, name).ok_or(Reason::NameNotAccepted)?;
            return Ok(bounds(&flow.accept));
        }
        if let Some(flow) = meant_for(name).iter().find_map(|meant| exchange.flow_for(institution, meant)) {
            return Ok(bounds(&flow.accept));
        }
        exchange
            .flows_from(institution)
            .map(|flow| bounds(&flow.accept))
            .reduce(|a, b| Bounds {
                max_size: a.max_size.max(b.max_size),
                armored: a.armored || b.armored,
                ..a
            })
            .ok_or(Reason::NotYourPart)
    }

    /// WRITE: handle, offset, data. The data are looked at where they lie.
    pub(super) async fn write(&mut self, mut fields: Fields<'_>) -> Result<(), Fault> {
        let (Some(handle), Some(offset), Some(data)) = (fields.string(), fields.u64(), fields.string())
        else {
            return Err(Fault::BadMessage);
        };
        let Some(Open::Upload(upload)) = self.handles.find(handle) else { return Err(Fault::BadMessage) };
        match upload.write((&self.server.spool, &self.server.job_side), offset, data).await {
            Ok(()) => {
                self.server.metrics.received(&upload.institution, data.len() as u64);
                // Each upload holds no more than that; all of them together do not either.
                let holds = upload.held() > 0;
                if holds && self.held() > self.server.config().machine.limits.unwritten_bytes {
                    return Err(self.end_upload(handle, Reason::WritesOutOfOrder.into()).await);
                }
                Ok(())
            }
            Err(fault) => Err(self.end_upload(handle, fault).await),
        }
    }

    /// Bytes of all uploads that wait in memory for what lies before them.
    fn held(&self) -> usize {
        self.handles.uploads().map(Upload::held).sum()
    }

    /// READ: handle, offset, length. The answer comes from the task that reads files.
    pub(super) fn read(
        &mut self,
        id: u32,
        mut fields: Fields<'_>,
    ) -> Result<Result<Answer, Fault>, Violation> {
        let (Some(handle), Some(offset), Some(length)) = (fields.string(), fields.u64(), fields.u32()) else {
            return Ok(Err(Fault::BadMessage));
        };
        let download = match self.handles.find(handle) {
            Some(Open::Download(download)) => download,
            Some(Open::Upload(_)) => return Ok(Err(Reason::DropIsWriteOnly.into())),
            Some(Open::Listing(_)) | None => return Ok(Err(Fault::BadMessage)),
        };
        let read =
            Read { id, file: Arc::clone(&download.file), offset, length, sent: Arc::clone(&download.sent) };
        match self.reads.try_send(read) {
            Ok(()) => Ok(Ok(Answer::Later)),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => Err(Violation::TooManyOutstanding),
        }
    }

    /// CLOSE of an upload: a final name publishes it, a temporary one keeps it for the rename.
    pub(super) async fn close_upload(&mut self, upload: Upload) -> Result<Answer, Fault> {
        if let Some(reason) = &upload.refused {
            return Err(reason.clone().into());
        }
        let (exchange, name, size) = (upload.exchange.clone(), upload.name.clone(), upload.size());
        let sealed = match upload.seal() {
            Ok(sealed) => sealed,
            Err((mut upload, fault)) => {
                let reason = self.give_up(&mut upload, fault).await;
                return Err(reason.into());
            }
        };
        if !is_temporary(&name) {
            self.publish(&exchange, &name, sealed).await?;
            return Ok(Answer::Done);
        }
        if let Err(error) = block_in_place(|| sealed.partial.sync()) {
            let about = self.about(&exchange, &name, size);
            return Err(self.refuse(Some(sealed.partial), about, error.into()).await.into());
        }
        let record = Record {
            path: Some(path_of(&exchange, &name)),
            exchange: Some(exchange.clone()),
            bytes: Some(size),
            sha256: Some(sealed.sha256.clone()),
            ..self.session.record(Event::Close, Outcome::Ok)
        };
        self.record(record).await?;
        self.keep_sealed(exchange, name, sealed);
        Ok(Answer::Done)
    }

    /// Holds a complete upload until it is renamed. Beyond the bound it is not forgotten, only closed, and inspected again
    /// from the disk when it is renamed.
    pub(super) fn keep_sealed(&mut self, exchange: Slug, name: Name, sealed: Sealed) {
        if self.sealed.len() < self.server.config().machine.limits.handles {
            self.sealed.insert((exchange, name), sealed);
        }
    }

    /// A write failed: what was there goes, and every later request on this handle gets the same answer.
    pub(super) async fn end_upload(&mut self, handle: &[u8], fault: WriteFault) -> Fault {
        let (partial, about) = match self.handles.find(handle) {
            Some(Open::Upload(upload)) => {
                if let WriteFault::Already(reason) = fault {
                    return reason.into();
                }
                let reason = reason_of(&fault);
                upload.refused = Some(reason);
                (upload.take_partial(), About::of(upload))
            }
            _ => return Fault::BadMessage,
        };
        self.refuse(partial, about, fault).await.into()
    }

    async fn give_up(&self, upload: &mut Upload, fault: WriteFault) -> Reason {
        let (partial, about) = (upload.take_partial(), About::of(upload));
        self.refuse(partial, about, fault).await
    }

    /// Ends an upload that is not accepted, with a trace for the receipt; one that the disk failed only goes.
    pub(super) async fn refuse(&self, partial: Option<Partial>, about: About, fault: WriteFault) -> Reason {
        let reason = reason_of(&fault);
        let outcome = match &fault {
            WriteFault::Refused(_) => {
                let arrival = self.refused_arrival(&about, &reason);
                let kept = block_in_place(|| self.server.spool.refuse(partial, &arrival));
                self.server.metrics.upload_refused(&reason);
                self.server.metrics.upload(&about.institution, UploadOutcome::Refused);
                // Without its description there will be no receipt; the record and the answer are the same.
                if let Err(error) = kept {
                    tracing::error!(%error, "a refusal could not be described for its receipt");
                }
                (Outcome::Denied, Some(arrival.id.to_string()))
            }
            // No trace for a receipt: it is not the file's fault, and the next try may do.
            WriteFault::Later(_) => {
                self.server.metrics.upload(&about.institution, UploadOutcome::Failed);
                (Outcome::Failed, None)
            }
            WriteFault::Already(_) | WriteFault::Spool(_) => {
                self.server.metrics.upload(&about.institution, UploadOutcome::Failed);
                drop_failed(partial);
                (Outcome::Failed, None)
            }
        };
        let record = Record {
            path: Some(path_of(&about.exchange, &about.name)),
            exchange: Some(about.exchange),
            arrival: outcome.1,
            bytes: Some(about.size),
            ..self.session.record(Event::Refuse, outcome.0).because(&reason)
        };
        self.record(record).await.err().unwrap_or(reason)
    }
}

/// Why an upload does not begin.
enum Unbegun {
    /// Nothing was touched.
    Denied(Reason),
    /// What is there is not acceptable.
    Refused(Partial, Reason),
}

impl From<Reason> for Unbegun {
    fn from(reason: Reason) -> Self {
        Self::Denied(reason)
    }
}

/// What is known of an upload that ends without being published.
#[derive(Debug)]
pub(super) struct About {
    pub institution: Slug,
    pub exchange: Slug,
    pub name: Name,
    pub size: u64,
    pub opened: jiff::Timestamp,
}

impl About {
    fn of(upload: &Upload) -> Self {
        Self {
            institution: upload.institution.clone(),
            exchange: upload.exchange.clone(),
            name: upload.name.clone(),
            size: upload.seen(),
            opened: upload.opened,
        }
    }
}

/// A write that the disk failed is never retried: the partial goes, as far as the disk lets it.
fn drop_failed(partial: Option<Partial>) {
    if let Some(Err(error)) = partial.map(|partial| block_in_place(|| partial.remove())) {
        tracing::warn!(%error, "a failed upload could not be removed; it will expire");
    }
}

fn reason_of(fault: &WriteFault) -> Reason {
    match fault {
        WriteFault::Refused(reason) | WriteFault::Later(reason) | WriteFault::Already(reason) => {
            reason.clone()
        }
        WriteFault::Spool(error) => fault_of(error),
    }
}

/// The answer to a request on an upload that goes on.
pub(super) fn answer_of(fault: WriteFault) -> Fault {
    reason_of(&fault).into()
}

/// Another session's hold on a name is the peer's business, everything else the operator's.
pub(super) fn fault_of(error: &SpoolError) -> Reason {
    match error {
        SpoolError::Busy(_) | SpoolError::Exists(_) => Reason::NameInUse,
        SpoolError::Unfit(_) | SpoolError::Io { .. } | SpoolError::Unreadable { .. } => unavailable(error),
    }
}

/// How a record and a message name a file in `in`.
pub(super) fn path_of(exchange: &Slug, name: &Name) -> String {
    format!("/{exchange}/{}/{name}", Folder::In.as_str())
}

/// A file in `in`, or nothing.
pub(super) fn in_folder(place: Place) -> Option<(Slug, Name)> {
    match place {
        Place::File(exchange, Folder::In, name) => Some((exchange, name)),
        Place::Root | Place::Exchange(_) | Place::Folder(..) | Place::File(..) => None,
    }
}

//! Files going in and out: WRITE, READ, and the end of an upload: published, kept under its temporary name, or refused. How
//! one begins is `opening`'s business.

use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::task::block_in_place;

use super::Sftp;
use super::download::Read;
use super::framing::{Fields, Violation};
use super::handles::Open;
use super::reply::{Answer, Fault};
use super::tree::unavailable;
use super::upload::{Sealed, Upload, WriteFault};
use crate::host::metrics::UploadOutcome;
use crate::host::spool::{Partial, SpoolError};
use crate::policy::path::{Folder, Name, Place, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::upload::is_temporary;

/// Names remembered per session because what came under them was refused.
const REFUSED_MAX: usize = 1_000;

impl Sftp {
    /// WRITE: handle, offset, data. The data are looked at where they lie.
    pub(super) async fn write(&mut self, mut fields: Fields<'_>) -> Result<(), Fault> {
        let (Some(handle), Some(offset), Some(data)) = (fields.string(), fields.u64(), fields.string())
        else {
            return Err(Fault::BadMessage);
        };
        let can_record = self.server.log.is_healthy();
        let Some(Open::Upload(upload)) = self.handles.find(handle) else { return Err(Fault::BadMessage) };
        if !can_record && upload.refused.is_none() {
            // Its end could not be recorded. What is there stays, to be gone on with.
            return Err(self.end_upload(handle, Reason::Unavailable.into()).await);
        }
        let held = upload.held();
        let written = upload.write((&self.server.spool, &self.server.job_side), offset, data).await;
        // Nearly always both are nothing.
        let holds_as_before = upload.held() == held;
        match written {
            Ok(()) => {
                self.server.metrics.received(&upload.institution, data.len() as u64);
                if holds_as_before {
                    return Ok(());
                }
                match self.share_memory() {
                    Ok(()) => Ok(()),
                    Err(reason) => Err(self.end_upload(handle, reason.into()).await),
                }
            }
            Err(fault) => Err(self.end_upload(handle, fault).await),
        }
    }

    /// Counts what all uploads of this session hold in memory. Each holds no more than a session may; all of them together
    /// do not either, nor all sessions more than the server has room for.
    fn share_memory(&mut self) -> Result<(), Reason> {
        let held = self.handles.uploads().map(Upload::held).sum();
        let fits_in_all = self.take_memory(held);
        if held > self.server.config().machine.limits.unwritten_bytes {
            Err(Reason::WritesOutOfOrder)
        } else if fits_in_all {
            Ok(())
        } else {
            Err(Reason::Unavailable)
        }
    }

    /// The same, where something was given up.
    pub(super) fn forget_memory(&mut self) {
        if self.memory.is_taken() {
            let held = self.handles.uploads().map(Upload::held).sum();
            self.take_memory(held);
        }
    }

    /// Whether it fits in what all sessions have together.
    pub(super) fn take_memory(&mut self, bytes: usize) -> bool {
        let fits = self.memory.set(bytes);
        self.server.metrics.unwritten(self.server.memory.taken());
        fits
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
        let can_record = self.server.log.is_healthy();
        let download = match self.handles.find(handle) {
            // How much of it was sent could not be recorded.
            Some(Open::Download(_)) if !can_record => return Ok(Err(Reason::Unavailable.into())),
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
        self.forget_memory();
        if let Some(reason) = &upload.refused {
            self.grace.understood();
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
            sha256: sealed.sha256.clone(),
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

    /// A write failed: every later request on this handle gets the same answer. What was there goes, or stays to be gone on with.
    pub(super) async fn end_upload(&mut self, handle: &[u8], fault: WriteFault) -> Fault {
        match self.handles.find(handle) {
            Some(Open::Upload(upload)) => {
                let (exchange, name) = (upload.exchange.clone(), upload.name.clone());
                self.end_upload_of(&exchange, &name, fault).await
            }
            _ => Fault::BadMessage,
        }
    }

    /// The same, of the open upload of this name.
    pub(super) async fn end_upload_of(&mut self, exchange: &Slug, name: &Name, fault: WriteFault) -> Fault {
        let Some(upload) = self.handles.upload_mut(exchange, name) else { return Fault::BadMessage };
        if let WriteFault::Already(reason) = fault {
            return reason.into();
        }
        upload.refused = Some(reason_of(&fault));
        let (partial, about) = (upload.take_partial(), About::of(upload));
        self.forget_memory();
        self.grace.begin();
        self.refuse(partial, about, fault).await.into()
    }

    /// Clients that do not look at the answer to CLOSE ask for the file afterwards. Beyond the bound they hear what the
    /// spool says.
    fn remember_refusal(&mut self, about: &About) {
        if self.refused.len() < REFUSED_MAX {
            self.refused.insert((about.exchange.clone(), about.name.clone()));
        }
    }

    pub(super) async fn give_up(&mut self, upload: &mut Upload, fault: WriteFault) -> Reason {
        let (partial, about) = (upload.take_partial(), About::of(upload));
        self.refuse(partial, about, fault).await
    }

    /// Ends an upload that is not accepted, with a trace for the receipt; one that the disk failed only goes.
    pub(super) async fn refuse(
        &mut self,
        partial: Option<Partial>,
        about: About,
        fault: WriteFault,
    ) -> Reason {
        let reason = reason_of(&fault);
        self.turned_down();
        if !reason.is_passing() {
            self.remember_refusal(&about);
        }
        self.server.metrics.met_full_spool(&reason);
        let (outcome, arrival) = match &fault {
            WriteFault::Refused(_) => {
                self.server.metrics.upload_refused(&reason);
                self.server.metrics.upload(&about.institution, UploadOutcome::Refused);
                (Outcome::Denied, Some(self.refused_arrival(&about, &reason)))
            }
            // No trace for a receipt: it is not the file's fault, and the next try may do.
            WriteFault::Later(_) => {
                self.server.metrics.upload(&about.institution, UploadOutcome::Failed);
                (Outcome::Failed, None)
            }
            WriteFault::Already(_) | WriteFault::Spool(_) => {
                self.server.metrics.upload(&about.institution, UploadOutcome::Failed);
                (Outcome::Failed, None)
            }
        };
        let record = Record {
            path: Some(path_of(&about.exchange, &about.name)),
            exchange: Some(about.exchange),
            arrival: arrival.as_ref().map(|arrival| arrival.id.to_string()),
            bytes: Some(about.size),
            ..self.session.record(Event::Refuse, outcome).because(&reason)
        };
        let recorded = self.record(record).await;
        match (&fault, arrival) {
            // A receipt for a refusal that the log does not know could not be explained: then the upload stays, unfinished.
            (WriteFault::Refused(_), Some(arrival)) if recorded.is_ok() => {
                let kept = block_in_place(|| self.server.spool.refuse(partial, &arrival));
                // Without its description there will be no receipt; the record and the answer are the same.
                if let Err(error) = kept {
                    tracing::error!(%error, "a refusal could not be described for its receipt");
                }
            }
            // What the disk failed goes, recorded or not.
            (WriteFault::Already(_) | WriteFault::Spool(_), _) => drop_failed(partial),
            (WriteFault::Refused(_) | WriteFault::Later(_), _) => {}
        }
        recorded.err().unwrap_or(reason)
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
    if let Some(Err(error)) = partial.map(|partial| block_in_place(|| partial.discard())) {
        tracing::warn!(%error, "a failed upload could not be removed; nobody goes on with it");
    }
}

pub(super) fn reason_of(fault: &WriteFault) -> Reason {
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
        SpoolError::Unfit(_)
        | SpoolError::Io { .. }
        | SpoolError::Lost(_)
        | SpoolError::Unreadable { .. } => unavailable(error),
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

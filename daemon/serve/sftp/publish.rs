//! How an upload becomes an arrival: by CLOSE of a final name or RENAME from a temporary one. And what leaves the tree
//! again: REMOVE of an own unfinished upload, or of a result, which says "I have it".

use tokio::task::block_in_place;

use super::Sftp;
use super::reply::{Answer, Fault};
use super::transfer::{About, fault_of, in_folder, path_of};
use super::tree::unavailable;
use super::upload::{Sealed, WriteFault, hash_of};
use crate::host::metrics::UploadOutcome;
use crate::host::spool::{FileFacts, Partial, SpoolError, random};
use crate::policy::arrival::{Arrival, ArrivalId};
use crate::policy::envelope::{Envelope, Inspector};
use crate::policy::path::{Folder, Name, Place, RemotePath, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::request::Action;
use crate::policy::upload::is_temporary;

impl Sftp {
    /// The one way in: a sealed upload gets its id, is recorded, and lies durably in `incoming`, before anybody hears OK.
    pub(super) async fn publish(
        &mut self,
        exchange: &Slug,
        name: &Name,
        sealed: Sealed,
    ) -> Result<(), Fault> {
        let institution = self.session.institution().clone();
        let about = About {
            institution: institution.clone(),
            exchange: exchange.clone(),
            name: name.clone(),
            size: sealed.envelope.length(),
            opened: sealed.opened,
        };
        let flow = self.flow_taking(exchange, name, &sealed.envelope);
        let flow = match flow.and_then(|flow| self.require_free(exchange, name).map(|()| flow)) {
            Ok(flow) => flow,
            Err(reason) => {
                return Err(self
                    .refuse(Some(sealed.partial), about, WriteFault::Refused(reason))
                    .await
                    .into());
            }
        };
        let arrival = Arrival {
            flow: Some(flow),
            sha256: Some(sealed.sha256.clone()),
            armored: sealed.envelope.is_armored(),
            mtime: sealed.mtime,
            refused: None,
            ..self.new_arrival(&about)
        };
        let record = Record {
            path: Some(path_of(exchange, name)),
            exchange: Some(exchange.clone()),
            arrival: Some(arrival.id.to_string()),
            bytes: Some(arrival.size),
            sha256: arrival.sha256.clone(),
            ..self.session.record(Event::Publish, Outcome::Ok)
        };
        // Recorded before it is done: an arrival that the log does not know would be worked on although its sender was
        // told that it failed. Without a record the upload stays what it was, to be gone on with.
        if let Err(reason) = self.record(record.clone()).await {
            self.server.metrics.upload(&institution, UploadOutcome::Failed);
            return Err(reason.into());
        }
        let published =
            block_in_place(|| self.server.spool.publish(sealed.partial, &sealed.envelope, &arrival));
        if let Err(error) = published {
            let reason = fault_of(&error);
            self.server.metrics.upload(&institution, UploadOutcome::Failed);
            let record = Record { outcome: Outcome::Failed, ..record.because(&reason) };
            self.record(record).await?;
            return Err(reason.into());
        }
        let took = arrival.received.duration_since(arrival.opened).unsigned_abs();
        self.server.metrics.upload_took(took);
        self.server.metrics.upload(&institution, UploadOutcome::Published);
        // What a session remembers of its own uploads is bounded; older ones are answered from the spool.
        if self.published.len() < 10_000 {
            self.published.insert((exchange.clone(), name.clone()), FileFacts::of(&arrival));
        }
        Ok(())
    }

    /// No arrival of this name is in progress. Asked again when an upload is published: another session may have been
    /// first.
    pub(super) fn require_free(&self, exchange: &Slug, name: &Name) -> Result<(), Reason> {
        let (spool, institution) = (&self.server.spool, self.session.institution());
        match block_in_place(|| spool.in_progress(institution, exchange, name)) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(Reason::NameInUse),
            Err(error) => Err(fault_of(&error)),
        }
    }

    /// The flow that takes a file under its final name; a temporary one was judged by the widest flow only.
    fn flow_taking(&self, exchange: &Slug, name: &Name, envelope: &Envelope) -> Result<Slug, Reason> {
        let exchange = self.server.config.exchanges.get(exchange).ok_or(Reason::NoSuchPath)?;
        exchange.require_open(self.server.clock.today())?;
        let flow = exchange.flow_for(self.session.institution(), name).ok_or(Reason::NameNotAccepted)?;
        if envelope.length() > flow.accept.max_size {
            return Err(Reason::TooLarge { limit: flow.accept.max_size });
        }
        if envelope.is_armored() && !flow.accept.armored {
            return Err(Reason::ArmorNotAccepted);
        }
        Ok(flow.name.clone())
    }

    fn new_arrival(&self, about: &About) -> Arrival {
        let received = self.server.clock.now();
        // Half of the bits are enough: the id holds the time and the name's digest as well.
        let salt = u32::try_from(random() >> 32).unwrap_or_default();
        Arrival {
            id: ArrivalId::new(received, &about.name, salt, &about.institution, &about.exchange),
            name: about.name.clone(),
            flow: None,
            size: about.size,
            sha256: None,
            armored: false,
            by: self.session.who().clone(),
            session: self.session.id.clone(),
            opened: about.opened,
            received,
            mtime: None,
            refused: None,
        }
    }

    /// The description of a refusal.
    pub(super) fn refused_arrival(&self, about: &About, reason: &Reason) -> Arrival {
        Arrival { refused: Some(reason.clone()), ..self.new_arrival(about) }
    }

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
        if from == to && self.published.contains_key(&(exchange.clone(), from.clone())) {
            return Ok(Answer::Done);
        }
        match self.rename_upload(&exchange, &from, &to).await {
            Ok(()) => {}
            Err(Fault::Reason(reason)) => return Err(self.denied(old, Event::Rename, reason).await.into()),
            Err(fault) => return Err(fault),
        }
        let record = self.session.record_at(Event::Rename, Outcome::Ok, &old_path, Some(&exchange));
        self.record(Record { new_path: Some(new_path.to_string()), ..record }).await?;
        Ok(Answer::Done)
    }

    async fn rename_upload(&mut self, exchange: &Slug, from: &Name, to: &Name) -> Result<(), Fault> {
        let is_open = |name: &Name| {
            self.handles.uploads().any(|upload| &upload.exchange == exchange && &upload.name == name)
        };
        if is_open(from) || is_open(to) {
            return Err(Reason::NameInUse.into());
        }
        if !is_temporary(to) {
            self.require_free(exchange, to)?;
        }
        let sealed = match self.sealed.remove(&(exchange.clone(), from.clone())) {
            Some(sealed) => sealed,
            None => self.seal_from_disk(exchange, from).await?,
        };
        if !is_temporary(to) {
            return self.publish(exchange, to, sealed).await;
        }
        let mut sealed = sealed;
        block_in_place(|| sealed.partial.rename(to)).map_err(|error| fault_of(&error))?;
        self.keep_sealed(exchange.clone(), to.clone(), sealed);
        Ok(())
    }

    /// An upload that an earlier session completed is inspected again, to its last byte.
    async fn seal_from_disk(&self, exchange: &Slug, name: &Name) -> Result<Sealed, Fault> {
        let institution = self.session.institution();
        let inspected = block_in_place(|| {
            let Some(partial) = self.server.spool.open_partial(institution, exchange, name)? else {
                return Ok(None);
            };
            if partial.has_gaps()? {
                return Ok(Some((partial, Err(Reason::CutShort), String::new())));
            }
            let envelope = inspect(&partial)?;
            let sha256 = hash_of(&partial)?;
            Ok::<_, SpoolError>(Some((partial, envelope, sha256)))
        });
        let opened = self.server.clock.now();
        match inspected.map_err(|error| fault_of(&error))? {
            Some((partial, Ok(envelope), sha256)) => {
                Ok(Sealed { partial, envelope, sha256, opened, mtime: None })
            }
            Some((partial, Err(reason), _)) => {
                let about = About {
                    institution: institution.clone(),
                    exchange: exchange.clone(),
                    name: name.clone(),
                    size: partial.size().unwrap_or(0),
                    opened,
                };
                Err(self.refuse(Some(partial), about, WriteFault::Refused(reason)).await.into())
            }
            None if self.published.contains_key(&(exchange.clone(), name.clone())) => {
                Err(Reason::DropIsWriteOnly.into())
            }
            None => Err(Reason::NoSuchPath.into()),
        }
    }

    pub(super) async fn remove(&mut self, path: &str) -> Result<Answer, Fault> {
        let (remote, place) = self.resolve_recorded(path, Action::Remove, Event::Remove).await?;
        let Place::File(exchange, folder, name) = place else { return Err(Reason::NoSuchPath.into()) };
        let facts = match folder {
            Folder::In => self.remove_unfinished(&exchange, &name),
            Folder::Out => self.collected(&exchange, &name),
            Folder::Receipts => Err(Reason::FolderIsReadOnly),
        };
        let facts = match facts {
            Ok(facts) => facts,
            Err(reason) => return Err(self.denied(path, Event::Remove, reason).await.into()),
        };
        self.record_removal(&remote, &exchange, folder, &facts).await?;
        if folder == Folder::Out {
            let (spool, institution) = (&self.server.spool, self.session.institution());
            match block_in_place(|| spool.collect(institution, &exchange, &name)) {
                Ok(()) => {}
                Err(error) if error.is_not_found() => return Err(Reason::NoSuchPath.into()),
                Err(error) => return Err(unavailable(&error).into()),
            }
        }
        Ok(Answer::Done)
    }

    /// Recorded before it is done: a result that is gone without a record could not be explained.
    async fn record_removal(
        &self,
        path: &RemotePath,
        exchange: &Slug,
        folder: Folder,
        facts: &FileFacts,
    ) -> Result<(), Reason> {
        let detail = (folder == Folder::Out).then(|| "collected".to_owned());
        let record = self.session.record_at(Event::Remove, Outcome::Ok, path, Some(exchange));
        self.record(Record { bytes: Some(facts.size), detail, ..record }).await
    }

    fn collected(&self, exchange: &Slug, name: &Name) -> Result<FileFacts, Reason> {
        let (spool, institution) = (&self.server.spool, self.session.institution());
        block_in_place(|| spool.file_facts(institution, exchange, Folder::Out, name))
            .map_err(|error| unavailable(&error))?
            .ok_or(Reason::NoSuchPath)
    }

    fn remove_unfinished(&mut self, exchange: &Slug, name: &Name) -> Result<FileFacts, Reason> {
        let key = (exchange.clone(), name.clone());
        let institution = self.session.institution().clone();
        self.sealed.remove(&key);
        let spool = &self.server.spool;
        let partial =
            block_in_place(|| spool.open_partial(&institution, exchange, name)).map_err(|e| fault_of(&e))?;
        if let Some(partial) = partial {
            let size = partial.size().map_err(|error| unavailable(&error))?;
            block_in_place(|| partial.remove()).map_err(|error| unavailable(&error))?;
            return Ok(FileFacts { name: name.clone(), size, mtime: 0 });
        }
        let in_progress =
            block_in_place(|| spool.in_progress(&institution, exchange, name)).map_err(|e| fault_of(&e))?;
        if in_progress.is_some() || self.published.contains_key(&key) {
            return Err(Reason::DropIsWriteOnly);
        }
        Err(Reason::NoSuchPath)
    }
}

/// Reads a partial to its end through the inspector.
fn inspect(partial: &Partial) -> Result<Result<Envelope, Reason>, SpoolError> {
    let mut inspector = Inspector::default();
    let mut buffer = vec![0; 256 * 1024];
    let mut offset = 0;
    loop {
        let count = partial.read_at(&mut buffer, offset)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if let Err(reason) = inspector.feed(bytes) {
            return Ok(Err(reason));
        }
        offset += count as u64;
    }
    Ok(inspector.seal())
}

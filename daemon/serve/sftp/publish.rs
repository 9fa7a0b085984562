//! How an upload becomes an arrival: by CLOSE of a final name or RENAME from a temporary one.

use tokio::task::block_in_place;

use super::Sftp;
use super::reply::{Answer, Fault};
use super::transfer::{About, fault_of, in_folder, path_of};
use super::upload::{Inspected, Sealed, WriteFault, inspect_and_hash};
use crate::host::metrics::UploadOutcome;
use crate::host::spool::{FileFacts, SpoolError, random};
use crate::policy::arrival::{Arrival, ArrivalId};
use crate::policy::path::{Name, Slug};
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
        if let Err(reason) = self.require_free(exchange, name) {
            // It stays an unfinished upload, which can be renamed to another name.
            return Err(self.denied(&path_of(exchange, name), Event::Publish, reason).await.into());
        }
        let (flow, detail) = match self.flow_taking(exchange, name, &sealed).await {
            Ok(taken) => taken,
            Err(fault) => return Err(self.refuse(Some(sealed.partial), about, fault).await.into()),
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
            detail,
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
        if self.connection.ended().is_some() {
            // Revoked since its CLOSE or RENAME came in. The peer hears of it no more.
            return Err(Reason::Unavailable);
        }
        let (spool, institution) = (&self.server.spool, self.session.institution());
        match block_in_place(|| spool.in_progress(institution, exchange, name)) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(Reason::NameInUse),
            Err(error) => Err(fault_of(&error)),
        }
    }

    fn require_taken_by_a_flow(&self, exchange: &Slug, name: &Name) -> Result<(), Reason> {
        let config = self.server.config();
        let exchange = config.exchanges.get(exchange).ok_or(Reason::NoSuchPath)?;
        exchange.flow_for(self.session.institution(), name).map(|_| ()).ok_or(Reason::NameNotAccepted)
    }

    /// The flow that takes a file under its final name, and a detail for the record; a temporary name was judged by the
    /// widest flow only.
    async fn flow_taking(
        &self,
        exchange: &Slug,
        name: &Name,
        sealed: &Sealed,
    ) -> Result<(Slug, Option<String>), WriteFault> {
        let (config, envelope) = (self.server.config(), &sealed.envelope);
        let exchange = config.exchanges.get(exchange).ok_or(Reason::NoSuchPath)?;
        exchange.require_open(self.server.clock.today())?;
        let flow = exchange.flow_for(self.session.institution(), name).ok_or(Reason::NameNotAccepted)?;
        if envelope.length() > flow.accept.max_size {
            return Err(Reason::TooLarge { limit: flow.accept.max_size }.into());
        }
        if envelope.is_armored() && !flow.accept.armored {
            return Err(Reason::ArmorNotAccepted.into());
        }
        let detail = self.require_for_us(flow, sealed).await?;
        Ok((flow.name.clone(), detail))
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
        self.rename_upload(&exchange, &from, &to).await?;
        let record = self.session.record_at(Event::Rename, Outcome::Ok, &old_path, Some(&exchange));
        self.record(Record { new_path: Some(new_path.to_string()), ..record }).await?;
        Ok(Answer::Done)
    }

    /// Each way it can fail is recorded where it does.
    async fn rename_upload(&mut self, exchange: &Slug, from: &Name, to: &Name) -> Result<(), Fault> {
        let is_open = |name: &Name| {
            self.handles.uploads().any(|upload| &upload.exchange == exchange && &upload.name == name)
        };
        let free = if is_open(from) || is_open(to) {
            Err(Reason::NameInUse)
        } else if is_temporary(to) {
            Ok(())
        } else {
            self.require_taken_by_a_flow(exchange, to).and_then(|()| self.require_free(exchange, to))
        };
        if let Err(reason) = free {
            return Err(self.denied(&path_of(exchange, from), Event::Rename, reason).await.into());
        }
        let sealed = match self.sealed.remove(&(exchange.clone(), from.clone())) {
            Some(sealed) => sealed,
            None => self.seal_from_disk(exchange, from).await?,
        };
        if !is_temporary(to) {
            return self.publish(exchange, to, sealed).await;
        }
        let mut sealed = sealed;
        if let Err(error) = block_in_place(|| sealed.partial.rename(to)) {
            let reason = fault_of(&error);
            return Err(self.denied(&path_of(exchange, from), Event::Rename, reason).await.into());
        }
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
                return Ok(Some((partial, Err(Reason::CutShort))));
            }
            let inspected = inspect_and_hash(&partial)?;
            Ok::<_, SpoolError>(Some((partial, inspected)))
        });
        let reason = match inspected {
            Ok(Some((partial, Ok(Inspected { envelope, sha256, header })))) => {
                let (header, opened) = (Some(header), self.server.clock.now());
                return Ok(Sealed { partial, envelope, sha256, header, opened, mtime: None });
            }
            Ok(Some((partial, Err(reason)))) => {
                let about = self.about(exchange, name, partial.size().unwrap_or(0));
                return Err(self.refuse(Some(partial), about, WriteFault::Refused(reason)).await.into());
            }
            Ok(None) if self.published.contains_key(&(exchange.clone(), name.clone())) => {
                Reason::DropIsWriteOnly
            }
            Ok(None) => Reason::NoSuchPath,
            Err(error) => fault_of(&error),
        };
        Err(self.denied(&path_of(exchange, name), Event::Rename, reason).await.into())
    }
}

//! How an upload becomes an arrival: by CLOSE of a final name or RENAME from a temporary one.

use tokio::task::block_in_place;

use super::Sftp;
use super::collision::{Settled, give_back};
use super::opening::Unbegun;
use super::reply::Fault;
use super::transfer::{About, fault_of, path_of};
use super::upload::{Sealed, Target, WriteFault};
use crate::config::Config;
use crate::host::metrics::UploadOutcome;
use crate::host::spool::{FileFacts, Stage, Unpublished, random};
use crate::policy::agreement::{Exchange, Flow};
use crate::policy::arrival::{Arrival, ArrivalId, State};
use crate::policy::envelope::Envelope;
use crate::policy::path::{Name, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::upload::is_temporary;

/// Published uploads remembered per session.
const PUBLISHED_MAX: usize = 10_000;

/// What is decided about a complete upload before it becomes an arrival.
struct Decided {
    /// Its name, which may not be the one asked for.
    name: Name,
    flow: Slug,
    /// For the record, where nobody could say whether it is for this zone.
    unasked: Option<String>,
}

impl Sftp {
    /// The one way in: a sealed upload gets its id, is recorded, and lies durably in `incoming`, before anybody hears OK.
    pub(super) async fn publish(
        &mut self,
        exchange: &Slug,
        name: &Name,
        mut sealed: Sealed,
    ) -> Result<(), Fault> {
        let (institution, was) = (self.session.institution().clone(), sealed.partial.name().clone());
        let about = About {
            institution: institution.clone(),
            exchange: exchange.clone(),
            name: name.clone(),
            size: sealed.envelope.length(),
            opened: sealed.opened,
        };
        let config = self.server.config();
        let taken = self.flow_taking(&config, (&institution, exchange), name, &sealed.envelope);
        let (exchange, flow) = match taken {
            Ok(taken) => taken,
            Err(reason) => return Err(self.refuse(Some(sealed.partial), about, reason.into()).await.into()),
        };
        let unasked = match self.require_for_us(flow, &sealed).await {
            Ok(detail) => detail,
            Err(fault) => return Err(self.refuse(Some(sealed.partial), about, fault).await.into()),
        };
        // For its digest it is read to its end, if it was not written in order. That its peer could have again and again, for a
        // name that is in use.
        let is_read = is_temporary(&was) && sealed.sha256.is_none();
        let settled = if is_read && self.connection.hashed_in_vain(0) > flow.accept.max_size.saturating_mul(2)
        {
            Err(Reason::Unavailable)
        } else {
            block_in_place(|| self.settle(exchange, flow, name, &mut sealed))
        };
        let settled = match settled {
            Ok(settled) => settled,
            Err(reason) if is_temporary(&was) => {
                if is_read && sealed.sha256.is_some() {
                    self.connection.hashed_in_vain(sealed.envelope.length());
                }
                // It stays an unfinished upload, which can be renamed to another name.
                self.keep_sealed(exchange.name.clone(), was, sealed);
                let path = path_of(&exchange.name, name);
                return Err(self.denied(&path, Event::Publish, reason).await.into());
            }
            Err(reason) => return Err(self.refuse(Some(sealed.partial), about, reason.into()).await.into()),
        };
        if self.connection.ended().is_some() {
            // Revoked since its CLOSE or RENAME came in: it stays unfinished. The peer hears of it no more.
            give_back(&mut sealed.partial, &was);
            return Err(Reason::Unavailable.into());
        }
        match settled {
            Settled::As(name) => {
                let decided = Decided { name, flow: flow.name.clone(), unasked };
                self.become_an_arrival(about, decided, sealed, &was).await
            }
            Settled::Same(id) => self.repeat(about, &id, sealed, &was).await,
        }
    }

    async fn become_an_arrival(
        &mut self,
        about: About,
        decided: Decided,
        mut sealed: Sealed,
        was: &Name,
    ) -> Result<(), Fault> {
        let (exchange, asked) = (about.exchange.clone(), about.name.clone());
        let about = About { name: decided.name, ..about };
        let renamed = (asked != about.name).then(|| format!("sent as {asked}, which is in use"));
        let details: Vec<String> = renamed.into_iter().chain(decided.unasked).collect();
        let digest = match block_in_place(|| sealed.digest().map(str::to_owned)) {
            Ok(digest) => digest,
            Err(error) => return Err(self.refuse(Some(sealed.partial), about, error.into()).await.into()),
        };
        let arrival = Arrival {
            flow: Some(decided.flow),
            sha256: Some(digest),
            armored: sealed.envelope.is_armored(),
            mtime: sealed.mtime,
            refused: None,
            ..self.new_arrival(&about)
        };
        let record = Record {
            path: Some(path_of(&exchange, &arrival.name)),
            exchange: Some(exchange.clone()),
            arrival: Some(arrival.id.to_string()),
            bytes: Some(arrival.size),
            sha256: arrival.sha256.clone(),
            detail: (!details.is_empty()).then(|| details.join("; ")),
            ..self.session.record(Event::Publish, Outcome::Ok)
        };
        // Recorded before it is done: an arrival that the log does not know would be worked on although its sender was
        // told that it failed. Without a record the upload stays what it was, to be gone on with.
        if let Err(reason) = self.record(record.clone()).await {
            give_back(&mut sealed.partial, was);
            self.server.metrics.upload(&about.institution, UploadOutcome::Failed);
            return Err(reason.into());
        }
        let published =
            block_in_place(|| self.server.spool.publish(sealed.partial, &sealed.envelope, &arrival));
        if let Err(unpublished) = published {
            let Unpublished { partial, error } = *unpublished;
            // Where nothing is wrong with it, its CLOSE or RENAME can be repeated.
            if let Some(mut partial) = partial {
                give_back(&mut partial, was);
            }
            let reason = fault_of(&error);
            self.server.metrics.met_full_spool(&reason);
            self.server.metrics.upload(&about.institution, UploadOutcome::Failed);
            let record = Record { outcome: Outcome::Failed, ..record.because(&reason) };
            self.record(record).await?;
            return Err(reason.into());
        }
        let took = arrival.received.duration_since(arrival.opened).unsigned_abs();
        self.server.metrics.upload_took(took);
        self.server.metrics.upload(&about.institution, UploadOutcome::Published);
        self.remember(exchange, asked, FileFacts::of(&arrival));
        Ok(())
    }

    /// The same content came again, most likely because an answer was lost: a success, and no second arrival.
    async fn repeat(
        &mut self,
        about: About,
        id: &ArrivalId,
        mut sealed: Sealed,
        was: &Name,
    ) -> Result<(), Fault> {
        let record = Record {
            path: Some(path_of(&about.exchange, &about.name)),
            exchange: Some(about.exchange.clone()),
            arrival: Some(id.to_string()),
            bytes: Some(about.size),
            sha256: sealed.sha256.clone(),
            detail: Some("the same as this arrival".to_owned()),
            ..self.session.record(Event::Close, Outcome::Ok)
        };
        if let Err(reason) = self.record(record).await {
            give_back(&mut sealed.partial, was);
            self.server.metrics.upload(&about.institution, UploadOutcome::Failed);
            return Err(reason.into());
        }
        if let Err(error) = block_in_place(|| sealed.partial.remove()) {
            tracing::warn!(%error, "a repeated upload could not be removed; it will expire");
        }
        self.server.metrics.upload(&about.institution, UploadOutcome::Repeated);
        let received = id.received().unwrap_or(about.opened).as_second();
        let facts = FileFacts {
            name: about.name.clone(),
            size: about.size,
            mtime: sealed.mtime.map_or(received, i64::from),
            stage: Stage::InProgress(State::Incoming),
        };
        self.remember(about.exchange, about.name, facts);
        Ok(())
    }

    /// What a session remembers of its own uploads is bounded; older ones are answered from the spool.
    fn remember(&mut self, exchange: Slug, name: Name, facts: FileFacts) {
        if self.published.len() < PUBLISHED_MAX {
            self.published.insert((exchange, name), facts);
        }
    }

    pub(super) fn require_taken_by_a_flow(&self, exchange: &Slug, name: &Name) -> Result<(), Reason> {
        let config = self.server.config();
        let exchange = config.exchanges.get(exchange).ok_or(Reason::NoSuchPath)?;
        exchange.flow_taking(self.session.institution(), name).map(|_| ())
    }

    /// The flow that takes a file under its final name; a temporary one was judged by the widest flow only.
    fn flow_taking<'a>(
        &self,
        config: &'a Config,
        (institution, exchange): (&'a Slug, &Slug),
        name: &Name,
        envelope: &Envelope,
    ) -> Result<(&'a Exchange, &'a Flow), Reason> {
        let exchange = config.exchanges.get(exchange).ok_or(Reason::NoSuchPath)?;
        exchange.require_open(self.server.clock.today())?;
        let flow = exchange.flow_taking(institution, name)?;
        if envelope.length() > flow.accept.max_size {
            return Err(Reason::TooLarge { limit: flow.accept.max_size });
        }
        if envelope.is_armored() && !flow.accept.armored {
            return Err(Reason::ArmorNotAccepted);
        }
        Ok((exchange, flow))
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

    /// An upload that an earlier session completed is inspected again.
    pub(super) async fn seal_from_disk(&mut self, exchange: &Slug, name: &Name) -> Result<Sealed, Fault> {
        let institution = self.session.institution().clone();
        let target = Target { institution: &institution, exchange, name };
        let inspected = block_in_place(|| {
            let bounds = self.widest_bounds(exchange)?;
            let partial = self.server.spool.open_partial(&institution, exchange, name);
            match partial.map_err(|error| fault_of(&error))? {
                Some(partial) => self.resume(target, bounds, partial).map(|upload| Some(upload.seal())),
                None => Ok(None),
            }
        });
        let reason = match inspected {
            Ok(Some(Ok(sealed))) => return Ok(sealed),
            Ok(Some(Err((mut upload, fault)))) => return Err(self.give_up(&mut upload, fault).await.into()),
            Err(Unbegun::Refused(partial, reason)) => {
                let about = self.about(exchange, name, partial.size().unwrap_or(0));
                return Err(self.refuse(Some(*partial), about, WriteFault::Refused(reason)).await.into());
            }
            Err(Unbegun::Denied(reason)) => reason,
            Ok(None) if self.has_published(exchange, name) => Reason::DropIsWriteOnly,
            Ok(None) => Reason::NoSuchPath,
        };
        Err(self.denied(&path_of(exchange, name), Event::Rename, reason).await.into())
    }
}

//! How an upload begins or goes on: OPEN for writing, and what must be known of a name before its first byte: which flow
//! takes it, what lies under it, and whether there is room for one more.

use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::task::block_in_place;

use super::Sftp;
use super::handles::Open;
use super::reply::{Answer, Fault};
use super::transfer::{About, fault_of, path_of, reason_of};
use super::tree::unavailable;
use super::upload::{Resume, Target, Upload, WriteFault};
use crate::host::spool::{Partial, Spool, Standing};
use crate::policy::agreement::{Accept, Collision};
use crate::policy::path::{Name, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::upload::{Bounds, is_temporary, meant_for};

/// Why an upload does not begin.
pub(super) enum Unbegun {
    /// Nothing was touched.
    Denied(Reason),
    /// What is there is not acceptable.
    Refused(Box<Partial>, Reason),
}

impl From<Reason> for Unbegun {
    fn from(reason: Reason) -> Self {
        Self::Denied(reason)
    }
}

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
        self.refused.remove(&(exchange.clone(), name.clone()));
        let mut upload = match block_in_place(|| self.begin_upload(exchange, name, bounds, flags)) {
            Ok(upload) => upload,
            Err(Unbegun::Denied(reason)) => {
                return Err(self.denied(&path, Event::OpenWrite, reason).await.into());
            }
            Err(Unbegun::Refused(partial, reason)) => {
                let about = self.about(exchange, name, partial.size().unwrap_or(0));
                return Err(self.refuse(Some(*partial), about, reason.into()).await.into());
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

    fn begin_upload(
        &mut self,
        exchange: &Slug,
        name: &Name,
        bounds: Bounds,
        flags: OpenFlags,
    ) -> Result<Upload, Unbegun> {
        if self.handles.upload(exchange, name).is_some() {
            return Err(Reason::NameInUse.into());
        }
        let there = if is_temporary(name) { None } else { self.in_progress(exchange, name)? };
        let is_there = there.is_some() || self.has_published(exchange, name);
        if is_there && flags.contains(OpenFlags::EXCLUDE) {
            return Err(Reason::NameInUse.into());
        }
        let spool = &self.server.spool;
        let institution = self.session.institution().clone();
        let target = Target { institution: &institution, exchange, name };
        let opened = self.server.clock.now();
        let partial = spool.open_partial(&institution, exchange, name).map_err(|e| fault_of(&e))?;
        let mut upload = match partial {
            Some(_) if flags.contains(OpenFlags::EXCLUDE) => return Err(Reason::NameInUse.into()),
            // What was there is emptied when the first byte passes, and not before; that makes room.
            Some(_) if flags.contains(OpenFlags::TRUNCATE) => Upload::new(target, bounds, opened),
            Some(partial) => {
                spool.require_room().map_err(|error| fault_of(&error))?;
                self.resume(target, bounds, partial)?
            }
            None if flags.contains(OpenFlags::CREATE) => {
                let room = Some(self.server.config().machine.limits.partials);
                require_room(spool, (&institution, exchange), room).map_err(|fault| reason_of(&fault))?;
                let mut upload = Upload::new(target, bounds, opened);
                upload.room = room;
                upload
            }
            // An arrival cannot be written into; a file of the same content can be sent again.
            None if is_there => return Err(Reason::DropIsWriteOnly.into()),
            None => return Err(Reason::NoSuchPath.into()),
        };
        if let Some(there) = there.filter(Standing::is_in_the_way)
            && self.rejects_collisions(exchange, name)
        {
            upload.compare_with(self.server.spool.payload_of(&there));
        }
        Ok(upload)
    }

    /// Goes on with a partial. What a connection may have inspected again is bounded: it costs its peer next to nothing.
    pub(super) fn resume(
        &mut self,
        target: Target<'_>,
        bounds: Bounds,
        partial: Partial,
    ) -> Result<Upload, Unbegun> {
        let readable = (bounds.max_size.saturating_mul(2)).saturating_sub(self.connection.inspected_again(0));
        match Upload::resume(target, bounds, self.server.clock.now(), partial, readable) {
            Ok((upload, read)) => {
                self.connection.inspected_again(read);
                Ok(upload)
            }
            Err(Resume::Spool(error)) => Err(unavailable(&error).into()),
            Err(Resume::TooMuch) => Err(Reason::Unavailable.into()),
            Err(Resume::Refused(partial, reason)) => Err(Unbegun::Refused(partial, reason)),
        }
    }

    /// An own arrival of this name that is in progress.
    pub(super) fn in_progress(&self, exchange: &Slug, name: &Name) -> Result<Option<Standing>, Reason> {
        let found = self.server.spool.in_progress(self.session.institution(), exchange, name);
        found.map_err(|error| unavailable(&error))
    }

    pub(super) fn has_published(&self, exchange: &Slug, name: &Name) -> bool {
        self.published.contains_key(&(exchange.clone(), name.clone()))
    }

    fn rejects_collisions(&self, exchange: &Slug, name: &Name) -> bool {
        let config = self.server.config();
        let flow = config
            .exchanges
            .get(exchange)
            .and_then(|exchange| exchange.flow_for(self.session.institution(), name));
        flow.is_some_and(|flow| flow.accept.collision == Collision::Reject)
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
    pub(super) fn bounds_for(&self, exchange: &Slug, name: &Name) -> Result<Bounds, Reason> {
        let institution = self.session.institution();
        let config = self.server.config();
        let exchange = config.exchanges.get(exchange).ok_or(Reason::NoSuchPath)?;
        let bounds = |accept: &Accept| Bounds::of(accept, config.machine.limits.unwritten_bytes);
        if !is_temporary(name) {
            let flow = exchange.flow_taking(institution, name)?;
            return Ok(bounds(&flow.accept));
        }
        if let Some(flow) = meant_for(name).iter().find_map(|meant| exchange.flow_for(institution, meant)) {
            return Ok(bounds(&flow.accept));
        }
        self.widest_bounds(&exchange.name)
    }

    /// What any flow allows.
    pub(super) fn widest_bounds(&self, exchange: &Slug) -> Result<Bounds, Reason> {
        let config = self.server.config();
        let exchange = config.exchanges.get(exchange).ok_or(Reason::NoSuchPath)?;
        exchange
            .flows_from(self.session.institution())
            .map(|flow| Bounds::of(&flow.accept, config.machine.limits.unwritten_bytes))
            .reduce(|a, b| Bounds {
                max_size: a.max_size.max(b.max_size),
                armored: a.armored || b.armored,
                ..a
            })
            .ok_or(Reason::NotYourPart)
    }
}

/// Unfinished uploads are bounded in number, for each lies on the disk for a day; and there must be room on it.
pub(super) fn require_room(
    spool: &Spool,
    (institution, exchange): (&Slug, &Slug),
    room: Option<usize>,
) -> Result<(), WriteFault> {
    spool.require_room()?;
    match room {
        Some(room) if spool.has_partials(institution, exchange, room)? => {
            Err(WriteFault::Later(Reason::TooManyUnfinished))
        }
        Some(_) | None => Ok(()),
    }
}

//! Makes the results of one arrival and delivers them: all of them lie complete beside the arrival before the first goes
//! out. What happens when a step fails is `worker`'s question.

use std::io::Read;

use super::encrypt::{self, EncryptError};
use super::join::{List, Source};
use super::memory::Share;
use super::open::{self, OpenError};
use super::query::QueryError;
use super::replay::Digesting;
use super::stop::{Interrupted, Stop};
use super::{Workshop, record_of};
use crate::config::{Config, Database};
use crate::host::files::digest;
use crate::host::log::LogError;
use crate::host::spool::{Claim, Delivered, Spool, SpoolError};
use crate::policy::agreement::{Exchange, Flow, Job, Query};
use crate::policy::arrival::{Arrival, ArrivalId, delivery_name};
use crate::policy::incident::Incident;
use crate::policy::job::Failure;
use crate::policy::path::{Folder, Name, Slug};
use crate::policy::reason::Reason;
use crate::policy::receipt::{Content, Delivery};
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::table::Table;

/// What is known of a job so far; receipts tell it, also of one that failed.
#[derive(Debug, Clone)]
pub struct Progress {
    /// `relay` or `query`; none before the flow is known.
    pub kind: Option<&'static str>,
    /// Tries, with this one.
    pub tries: u32,
    /// How far the file was looked into.
    pub content: Content,
    /// Rows of the list.
    pub rows_in: Option<u64>,
    /// Rows of the result.
    pub rows_out: Option<u64>,
    /// What was delivered.
    pub deliveries: Vec<Delivery>,
}

impl Progress {
    /// Goes on from what earlier tries have delivered.
    pub fn take_up(&mut self, delivered: Vec<Delivered>) {
        for Delivered { delivery, content, rows_in, rows_out, .. } in delivered {
            (self.content, self.rows_in, self.rows_out) = (content, rows_in, rows_out);
            self.deliveries.push(delivery);
        }
    }

    /// Whether a receiver has its result.
    pub fn has_delivered(&self, to: &Slug) -> bool {
        self.deliveries.iter().any(|delivery| &delivery.to == to)
    }
}

/// What is to be done with an arrival.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The configuration that says so.
    pub config: &'a Config,
    /// Its exchange, which is open today.
    pub exchange: &'a Exchange,
    /// Its flow.
    pub flow: &'a Flow,
}

/// Why a job came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The configuration or the agreement does not have it.
    #[error("refused: {}", .0.code())]
    Refused(Reason),
    /// The file does not belong here, or is not what was published.
    #[error("incident {}: {detail}", incident.code())]
    Incident {
        /// Which kind.
        incident: Incident,
        /// What its sender hears.
        reason: Reason,
        /// What the operator hears beyond it.
        detail: String,
    },
    /// It is the same as this earlier arrival; there is nothing to do.
    #[error("the same as {0}")]
    Repeated(ArrivalId),
    /// The file stays closed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The disk failed.
    #[error("cannot write or read the result: {0}")]
    Io(#[from] std::io::Error),
    /// No record, no move.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The configuration is incomplete.
    #[error("{0}")]
    Setup(String),
    /// Earlier tries ended the whole process.
    #[error(
        "{tries} tries ended with the process; look in its log and the kernel's for why (memory, disk, register) before \
         moving the arrival back to incoming"
    )]
    Exhausted {
        /// How many.
        tries: u32,
    },
    /// A defect of this program.
    #[error("the job panicked; the program log holds the place")]
    Panicked,
}

impl JobError {
    /// Whether another try may help.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Refused(reason)
            | Self::Incident { reason, .. }
            | Self::Open(OpenError::Content(reason)) => Failure::Lasting(reason.clone()),
            Self::Query(error) => error.failure(),
            Self::Open(OpenError::Io(_)) | Self::Spool(_) | Self::Io(_) | Self::Log(_) => Failure::Passing,
            Self::Exhausted { .. } => Failure::Lasting(Reason::TriesExhausted),
            Self::Open(OpenError::Memory { .. } | OpenError::TooLarge { .. }) => {
                Failure::Lasting(Reason::JobMemory)
            }
            Self::Setup(_) | Self::Panicked | Self::Repeated(_) => Failure::Lasting(Reason::JobFailed),
        }
    }
}

/// A result that lies beside the arrival.
struct Staged {
    to: Slug,
    size: u64,
    sha256: String,
}

impl Workshop {
    /// The whole job of a claimed arrival, from its payload to the outboxes.
    pub(super) fn perform(
        &self,
        claim: &Claim<'_>,
        arrival: &Arrival,
        order: Order<'_>,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        let stop = Stop::after(&self.stop, order.config.machine.work.job.time);
        // Who has a result gets no second one, also where it has been collected since.
        let to: Vec<&Slug> = order.flow.to.iter().filter(|to| !progress.has_delivered(to)).collect();
        let staged = match &order.flow.job {
            Job::Relay => self.relay((claim, &stop), arrival, order, &to)?,
            Job::Shape | Job::Command(_) => {
                return Err(JobError::Setup("this kind of job cannot be run yet".to_owned()));
            }
            Job::Query(query) => self.query((claim, &stop), arrival, order, (query, &to), progress)?,
        };
        let name = delivery_name(arrival);
        for result in staged {
            let delivery = self.deliver((claim, &stop), arrival, (&name, result), progress)?;
            progress.deliveries.push(delivery);
        }
        // In the order of the flow, whichever try delivered them.
        progress.deliveries.sort_by_key(|delivery| order.flow.to.iter().position(|to| *to == delivery.to));
        Ok(())
    }

    fn relay(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        arrival: &Arrival,
        order: Order<'_>,
        to: &[&Slug],
    ) -> Result<Vec<Staged>, JobError> {
        // Nobody here can open it, so its digest is the only proof that it is still what was dropped.
        let found = Digesting::new(stop.reading(claim.payload()?), arrival.size).finish();
        // A file that was not read to its end because the job is over is not damaged.
        stop.go_on()?;
        let found = found?;
        self.admit(arrival, &found)?;
        self.take_place(arrival, order, None, stop)?;
        let stage = |to: &&Slug| {
            claim.stage_payload(to)?;
            Ok(Staged { to: (*to).clone(), size: found.size, sha256: found.sha256.clone() })
        };
        to.iter().map(stage).collect()
    }

    fn query(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        arrival: &Arrival,
        order: Order<'_>,
        (query, to): (&Query, &[&Slug]),
        progress: &mut Progress,
    ) -> Result<Vec<Staged>, JobError> {
        let config = order.config;
        let payload = claim.payload()?;
        let size = payload.metadata()?.len().min(arrival.size);
        let limits = config.machine.work.job;
        open::fits(size, arrival.armored, limits.memory)?;
        // Read once: what is decrypted is what was digested, whatever `serve` writes into the file meanwhile.
        let mut payload = Digesting::new(stop.reading(payload), arrival.size);
        let opened = open::open(&mut payload, size, arrival.armored, &self.identities);
        // A file that was not read to its end because the job is over is not damaged.
        stop.go_on()?;
        let found = payload.finish();
        stop.go_on()?;
        self.admit(arrival, &found?)?;
        let plaintext = opened?;
        progress.content = Content::Verified;
        let table = Table::parse(&plaintext).map_err(QueryError::List)?;
        let list = List::measure(&table, stop)?;
        progress.rows_in = Some(list.rows());
        let Some(Database::Sqlite(register)) = config.machine.databases.get(&query.database) else {
            return Err(JobError::Setup(format!("database {} is not in dropzone.yaml", query.database)));
        };
        self.take_place(arrival, order, Some(&table), stop)?;
        let memory = self.memory.share();
        let source = Source { query, register, mapped: memory.bytes(), stop: stop.clone() };
        let outputs = to.iter().map(|to| {
            let recipients =
                config.institutions.get(*to).map(|institution| institution.recipients.as_slice());
            let encryptor = encrypt::begin(recipients.unwrap_or_default()).map_err(QueryError::Encrypt)?;
            Ok((encryptor, claim.stage(to)?))
        });
        let outputs = outputs.collect::<Result<Vec<_>, JobError>>()?;
        let (rows, sealed) = encrypt::encrypt(outputs, limits.result_size, |pipe| list.join(&source, pipe))
            .map_err(|error| blame(error, &memory, limits.memory))?;
        progress.rows_out = Some(rows);
        let staged = to.iter().zip(sealed).map(|(to, sealed)| {
            sealed.output.sync_all()?;
            Ok(Staged { to: (*to).clone(), size: sealed.size, sha256: sealed.sha256 })
        });
        staged.collect()
    }

    fn deliver(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        arrival: &Arrival,
        (name, result): (&Name, Staged),
        progress: &Progress,
    ) -> Result<Delivery, JobError> {
        let exchange = arrival.id.exchange();
        let delivery =
            Delivery { to: result.to, name: name.clone(), size: result.size, sha256: result.sha256 };
        let (content, rows_in, rows_out) = (progress.content, progress.rows_in, progress.rows_out);
        let mut delivered = Delivered { arrival: arrival.id.clone(), delivery, content, rows_in, rows_out };
        // A version of this program that left no notes delivered it, and what lies there is under another file key.
        let there = self.delivered_before((claim, stop), name, &delivered.delivery)?;
        if let Some((size, sha256)) = &there {
            (delivered.delivery.size, delivered.delivery.sha256) = (*size, sha256.clone());
        }
        // Only the move itself is safe from a claim that is lost now; this spares the log a record of what will not be.
        if claim.is_lost() {
            return Err(SpoolError::Lost(arrival.id.to_string()).into());
        }
        self.log.append(&Record {
            path: Some(format!("/{exchange}/{}/{name}", Folder::Out.as_str())),
            bytes: Some(delivered.delivery.size),
            sha256: Some(delivered.delivery.sha256.clone()),
            detail: Some(format!("to {}", delivered.delivery.to)),
            ..record_of(Event::Deliver, Outcome::Ok, arrival)
        })?;
        if there.is_some() {
            claim.adopt(&delivered)?
        } else {
            claim.deliver(&delivered)?
        }
        self.metrics.delivered(exchange, &delivered.delivery.to, self.clock.now());
        Ok(delivered.delivery)
    }

    /// What lies in a receiver's outbox under the name of a result, which may be what an earlier try delivered: then it is
    /// `work`'s own, or the very file that was handed in. Anything else somebody put there, and no receipt is to speak of it.
    fn delivered_before(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        name: &Name,
        delivery: &Delivery,
    ) -> Result<Option<(u64, String)>, JobError> {
        let exchange = claim.id().exchange();
        let file = match self.spool.open_file(&delivery.to, exchange, Folder::Out, name) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (is_own, size) = (Spool::is_own(&file)?, file.metadata()?.len());
        if is_own || size == delivery.size {
            let found = digest(stop.reading(file.take(size)));
            stop.go_on()?;
            let found = found?;
            if is_own || found.1 == delivery.sha256 {
                return Ok(Some(found));
            }
        }
        tracing::error!(arrival = %claim.id(), to = %delivery.to, "another's file lies in the outbox under the name of the result");
        Err(SpoolError::Exists(format!("outbox/{}/{exchange}/{name}", delivery.to)).into())
    }
}

/// The bound on memory is the process's. Who meets it while other jobs ran may have met what they took, and is tried again.
fn blame(error: QueryError, memory: &Share<'_>, limit: u64) -> QueryError {
    if error.is_out_of_memory() && memory.was_alone() { QueryError::Memory { limit } } else { error }
}

impl From<Interrupted> for JobError {
    fn from(why: Interrupted) -> Self {
        Self::Query(why.into())
    }
}

impl From<EncryptError> for JobError {
    fn from(error: EncryptError) -> Self {
        Self::Query(QueryError::Encrypt(error))
    }
}

//! The job of one arrival, as a whole: `make` makes the results, and this delivers them; all of them lie complete beside the
//! arrival before the first goes out. What happens when a step fails is `worker`'s question.

use std::io::Read;

use super::command::CommandError;
use super::encrypt::EncryptError;
use super::open::OpenError;
use super::query::QueryError;
use super::sheet::SheetError;
use super::stop::{Interrupted, Stop};
use super::{Workshop, record_of};
use crate::config::Config;
use crate::host::files::digest;
use crate::host::log::LogError;
use crate::host::spool::{Claim, Delivered, Spool, SpoolError};
use crate::policy::agreement::{Exchange, Flow, Job};
use crate::policy::arrival::{Arrival, ArrivalId};
use crate::policy::incident::Incident;
use crate::policy::job::Failure;
use crate::policy::outgoing::Outgoing;
use crate::policy::path::{Folder, Name};
use crate::policy::quality::{Quality, QualityReport};
use crate::policy::reason::Reason;
use crate::policy::receipt::{Content, Delivery, Receiver};
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::shape::Misfit;

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
    /// The report on what the list holds.
    pub quality: Option<Quality>,
    /// The same, while it may be gone on with.
    pub report: Option<QualityReport>,
    /// What was delivered.
    pub deliveries: Vec<Delivery>,
    /// How many results there are in all, where that shows only when the job has run.
    pub of: Option<usize>,
}

impl Progress {
    /// Goes on from what earlier tries have delivered.
    pub fn take_up(&mut self, delivered: Vec<Delivered>) {
        for Delivered { delivery, content, rows_in, rows_out, quality, of, .. } in delivered {
            (self.content, self.rows_in, self.rows_out) = (content, rows_in, rows_out);
            // A later try may have found more.
            self.of = self.of.max(of);
            self.quality = quality;
            self.deliveries.push(delivery);
        }
    }

    /// Whether a receiver has its result.
    pub fn has_delivered(&self, to: &Receiver) -> bool {
        self.deliveries
            .iter()
            .any(|delivery| (&delivery.to, &delivery.person) == (&to.institution, &to.person))
    }

    /// Whether all receivers of a flow have theirs. Which people have one shows only when the job has run.
    pub fn is_complete(&self, flow: &Flow) -> bool {
        let is_fixed = |outgoing: &&Outgoing| !outgoing.receivers.are_people();
        let mut fixed = flow.deliveries.iter().filter(is_fixed).flat_map(Outgoing::institutions);
        let people = !flow.has_personal() || self.of.is_some_and(|of| self.deliveries.len() >= of);
        people && fixed.all(|to| self.has_delivered(&Receiver::from(to.clone())))
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
    /// The list is a workbook that cannot be read, or the result makes none.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The result lacks what a delivery is made of.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The result is no table.
    #[error("the result is no table of UTF-8 text, and its deliveries cannot be made of it: correct the job")]
    Unwritable,
    /// The result is not what the agreement lets out.
    #[error(
        "the result breaks the rules of its flow's `result`, and none of it was delivered: {first}; correct the job, or the rules"
    )]
    Breach {
        /// The first place, without its value.
        first: String,
        /// What its sender hears.
        reason: Reason,
    },
    /// Rows of the result are nobody's.
    #[error(
        "{count} rows of the result are nobody's, the first is row {row} by its column {column:?}: correct the list or the \
         `split` of the flow; with `faults: report` such rows are left out and reported"
    )]
    Strays {
        /// How many.
        count: u64,
        /// The first, from 1 below the header line.
        row: u64,
        /// The column that should have said whose it is.
        column: String,
    },
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
    /// The list breaks the rules of its flow.
    #[error(
        "{faulty_rows} of {rows} rows break the rules of table {table} ({findings} findings in all), which its sender reads in {report}"
    )]
    ContentRules {
        /// Which rules.
        table: String,
        /// In all.
        findings: u64,
        /// Rows with findings.
        faulty_rows: u64,
        /// Rows.
        rows: u64,
        /// The name of the quality report.
        report: Name,
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
            Self::ContentRules { .. } => Failure::Lasting(Reason::ContentRules),
            Self::Query(error) => error.failure(),
            Self::Command(error) => error.failure(),
            Self::Sheet(error) => error.failure(),
            Self::Open(OpenError::Io(_)) | Self::Spool(_) | Self::Io(_) | Self::Log(_) => Failure::Passing,
            Self::Exhausted { .. } => Failure::Lasting(Reason::TriesExhausted),
            Self::Open(OpenError::Memory { .. } | OpenError::TooLarge { .. }) => {
                Failure::Lasting(Reason::JobMemory)
            }
            Self::Breach { reason, .. } => Failure::Lasting(reason.clone()),
            Self::Misfit(_) => Failure::Lasting(Reason::ColumnsNotAgreed),
            Self::Strays { .. } => Failure::Lasting(Reason::ContentRules),
            Self::Unwritable => Failure::Lasting(Reason::JobFailed),
            Self::Setup(_) | Self::Panicked | Self::Repeated(_) => Failure::Lasting(Reason::JobFailed),
        }
    }
}

/// A result that lies beside the arrival.
pub(super) struct Staged {
    pub(super) receiver: Receiver,
    pub(super) name: Name,
    pub(super) rows: Option<u64>,
    pub(super) size: u64,
    pub(super) sha256: String,
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
        let staged = match &order.flow.job {
            Job::Relay => self.relay((claim, &stop), arrival, order, progress)?,
            Job::Shape | Job::Query(_) | Job::Command(_) => {
                self.make((claim, &stop), arrival, order, progress)?
            }
        };
        // Behind a crash, only this says whether all of them have left.
        let all = progress.deliveries.len() + staged.len();
        progress.of = order.flow.has_personal().then_some(all);
        for result in staged {
            let delivery = self.deliver((claim, &stop), arrival, result, progress)?;
            progress.deliveries.push(delivery);
        }
        // In the order of the flow, whichever try delivered them.
        progress.deliveries.sort_by(|one, other| {
            let place = |delivery: &Delivery| order.flow.to.iter().position(|to| *to == delivery.to);
            (place(one), &one.person).cmp(&(place(other), &other.person))
        });
        Ok(())
    }

    fn deliver(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        arrival: &Arrival,
        Staged { receiver, name, rows, size, sha256 }: Staged,
        progress: &Progress,
    ) -> Result<Delivery, JobError> {
        let (exchange, name) = (arrival.id.exchange(), &name);
        let delivery = Delivery {
            to: receiver.institution.clone(),
            person: receiver.person.clone(),
            name: name.clone(),
            size,
            sha256,
            rows,
        };
        let mut delivered = Delivered {
            arrival: arrival.id.clone(),
            delivery,
            content: progress.content,
            rows_in: progress.rows_in,
            rows_out: progress.rows_out,
            quality: progress.quality.clone(),
            of: progress.of,
        };
        // A version of this program that left no notes delivered it, and what lies there is under another file key.
        let there = self.delivered_before((claim, stop), name, &delivered.delivery)?;
        if let Some((size, sha256)) = &there {
            self.require_its_passphrase(claim, (&receiver, name), sha256)?;
            (delivered.delivery.size, delivered.delivery.sha256) = (*size, sha256.clone());
            delivered.delivery.rows = None;
        }
        // Only the move itself is safe from a claim that is lost now; this spares the log a record of what will not be.
        if claim.is_lost() {
            return Err(SpoolError::Lost(arrival.id.to_string()).into());
        }
        self.log.append(&Record {
            path: Some(format!("/{exchange}/{}/{name}", Folder::Out.as_str())),
            bytes: Some(delivered.delivery.size),
            sha256: Some(delivered.delivery.sha256.clone()),
            detail: Some(format!("to {receiver}")),
            ..record_of(Event::Deliver, Outcome::Ok, arrival)
        })?;
        if there.is_some() {
            claim.adopt(&delivered)?
        } else {
            claim.deliver(&delivered)?
        }
        self.passphrase_is_due(claim, &delivered.delivery)?;
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

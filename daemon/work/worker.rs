//! The life of one arrival from its claim to `done`, `deferred` or `hold`. Every step is recorded before it is taken: no
//! record, no move.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::deliver::{JobError, Order, Progress};
use super::receipts::{Standing, receipt};
use super::turns::Waiting;
use super::{Unfinished, Workshop, record_of};
use crate::host::spool::{Claim, SpoolError};
use crate::policy::arrival::Arrival;
use crate::policy::job::{Next, after_failure};
use crate::policy::path::Slug;
use crate::policy::reason::Reason;
use crate::policy::receipt::{Content, Verdict};
use crate::policy::record::{Event, Outcome, Record};

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Delivered to all receivers.
    Done,
    /// Will be tried again.
    Deferred,
    /// An operator must look.
    Held(Reason),
    /// Another worker was first.
    Gone,
    /// The process is stopping; back in `incoming`.
    Stopped,
}

/// The labels of a try in metrics and logs.
#[derive(Debug, Clone)]
pub struct Tried {
    /// How it ended.
    pub end: End,
    /// `relay`, `query`, or `none` where no flow was found.
    pub kind: &'static str,
}

impl Workshop {
    /// Claims an arrival and works on it. An error left it in `active`, or put it back into `incoming`.
    pub fn work_on(&self, waiting: &Waiting) -> Result<Tried, Unfinished> {
        let Some(claim) = self.spool.claim(waiting.state, &waiting.id)? else {
            return Ok(Tried { end: End::Gone, kind: "none" });
        };
        let arrival = match claim.arrival() {
            Ok(arrival) => arrival,
            Err(error @ SpoolError::Unreadable { .. }) => return self.hold_unreadable(claim, &error),
            Err(error) => return put_back(claim, error.into()),
        };
        if let Err(error) = self.log.append(&record_of(Event::Claim, Outcome::Ok, &arrival)) {
            return put_back(claim, error.into());
        }
        let mut progress = Progress {
            kind: None,
            tries: claim.tries().saturating_add(1),
            content: Content::StructureOnly,
            rows_in: None,
            rows_out: None,
            deliveries: Vec::new(),
        };
        let outcome = self.attempt(&claim, &arrival, &mut progress);
        let kind = progress.kind.unwrap_or("none");
        let end = match outcome {
            Ok(()) => self.finish(claim, &arrival, &progress),
            Err(error) if self.is_stopping() => {
                tracing::info!(arrival = %arrival.id, %error, "job put back because the process stops");
                claim.release().map(|()| End::Stopped).map_err(Unfinished::from)
            }
            Err(JobError::Log(error)) => return put_back(claim, error.into()),
            Err(error) => self.give_up(claim, &arrival, &progress, &error),
        };
        Ok(Tried { end: end?, kind })
    }

    fn attempt(&self, claim: &Claim<'_>, arrival: &Arrival, progress: &mut Progress) -> Result<(), JobError> {
        let order = self.order(arrival).map_err(JobError::Refused)?;
        progress.kind = Some(order.flow.job.kind());
        let first = receipt(arrival, &order.exchange.agreement.reference, &Standing::IN_PROGRESS, progress);
        self.write_receipt(arrival, &first).map_err(|error| match error {
            Unfinished::Log(error) => JobError::Log(error),
            Unfinished::Spool(error) => JobError::Spool(error),
            Unfinished::Json(error) => JobError::Setup(error),
        })?;
        // A defect that one list brings to light must not keep the others waiting. What the job had is dropped with it.
        catch_unwind(AssertUnwindSafe(|| self.perform(claim, arrival, order, progress)))
            .unwrap_or(Err(JobError::Panicked))
    }

    /// What the configuration says is to be done with an arrival today.
    fn order(&self, arrival: &Arrival) -> Result<Order<'_>, Reason> {
        let institution: &Slug = arrival.id.institution();
        let known = |exchange: &&crate::policy::agreement::Exchange| {
            exchange.parties.contains_key(institution) && self.config.institutions.contains_key(institution)
        };
        let exchange = self
            .config
            .exchanges
            .get(arrival.id.exchange())
            .filter(known)
            .ok_or(Reason::NoLongerConfigured)?;
        let flow = arrival.flow.as_ref().and_then(|name| exchange.flow(name));
        let flow = flow.filter(|flow| flow.from.contains(institution)).ok_or(Reason::NoLongerConfigured)?;
        exchange.require_open(self.clock.today())?;
        Ok(Order { exchange, flow })
    }

    fn finish(&self, claim: Claim<'_>, arrival: &Arrival, progress: &Progress) -> Result<End, Unfinished> {
        let finished = Some(self.clock.now());
        let standing = Standing { verdict: Verdict::Delivered, reason: None, finished };
        let last = receipt(arrival, self.agreement(arrival), &standing, progress);
        let written = self.write_receipt(arrival, &last).and_then(|()| {
            let record = Record { detail: rows(progress), ..record_of(Event::Job, Outcome::Ok, arrival) };
            Ok(self.log.append(&record)?)
        });
        match written {
            Ok(()) => claim.finish().map(|()| End::Done).map_err(Unfinished::from),
            // The next try finds the delivery in place and only ends the job.
            Err(error) => put_back(claim, error),
        }
    }

    fn give_up(
        &self,
        claim: Claim<'_>,
        arrival: &Arrival,
        progress: &Progress,
        error: &JobError,
    ) -> Result<End, Unfinished> {
        let next = after_failure(progress.tries, self.config.machine.work.tries, error.failure());
        let now = self.clock.now();
        let (verdict, reason, finished) = match &next {
            Next::Retry { .. } => (Verdict::InProgress, Reason::JobDeferred, None),
            Next::Hold(reason) => (Verdict::Held, reason.clone(), Some(now)),
        };
        tracing::warn!(arrival = %arrival.id, tries = progress.tries, reason = reason.code(), %error, "job failed");
        let standing = Standing { verdict, reason: Some(&reason), finished };
        let told = receipt(arrival, self.agreement(arrival), &standing, progress);
        let written = self.write_receipt(arrival, &told).and_then(|()| {
            let record = Record { detail: rows(progress), ..record_of(Event::Job, Outcome::Failed, arrival) };
            Ok(self.log.append(&record.because(&reason))?)
        });
        if let Err(error) = written {
            return put_back(claim, error);
        }
        match next {
            Next::Retry { after } => {
                let wait = jiff::SignedDuration::try_from(after).unwrap_or(jiff::SignedDuration::MAX);
                let until = now.checked_add(wait).unwrap_or(now);
                claim.defer(until, progress.tries)?;
                Ok(End::Deferred)
            }
            Next::Hold(reason) => {
                claim.hold(&reason, &error.to_string())?;
                Ok(End::Held(reason))
            }
        }
    }

    /// Without its description nobody knows its name, so there is no receipt.
    fn hold_unreadable(&self, claim: Claim<'_>, error: &SpoolError) -> Result<Tried, Unfinished> {
        let reason = Reason::ArrivalUnreadable;
        tracing::warn!(arrival = %claim.id(), %error, "arrival held");
        let record = Record {
            institution: Some(claim.id().institution().to_string()),
            exchange: Some(claim.id().exchange().clone()),
            arrival: Some(claim.id().to_string()),
            ..Record::new(Event::Job, Outcome::Failed)
        };
        if let Err(error) = self.log.append(&record.because(&reason)) {
            return put_back(claim, error.into());
        }
        claim.hold(&reason, &error.to_string())?;
        Ok(Tried { end: End::Held(reason), kind: "none" })
    }
}

/// Nothing that could not be recorded has happened: back to where it came from.
fn put_back<T>(claim: Claim<'_>, error: Unfinished) -> Result<T, Unfinished> {
    let id = claim.id().clone();
    if let Err(again) = claim.release() {
        tracing::error!(arrival = %id, error = %again, "the arrival stays in active until the next start");
    }
    Err(error)
}

fn rows(progress: &Progress) -> Option<String> {
    Some(format!("rows in {}, rows out {}, tries {}", progress.rows_in?, progress.rows_out?, progress.tries))
}

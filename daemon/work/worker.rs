//! The life of one arrival from its claim to `done`, `deferred` or `hold`. Its claim is recorded as soon as it is had, every
//! later step before it is taken: what cannot be recorded does not happen, and the arrival goes back to `incoming`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

use super::deliver::{JobError, Order, Progress};
use super::receipts::{Standing, receipt};
use super::turns::Waiting;
use super::{Unfinished, Workshop, record_about, record_of};
use crate::config::Config;
use crate::host::spool::{Claim, SpoolError, random};
use crate::policy::arrival::Arrival;
use crate::policy::job::{Next, Tries, after_failure};
use crate::policy::path::Slug;
use crate::policy::reason::Reason;
use crate::policy::receipt::{Content, Verdict};
use crate::policy::record::{Event, Outcome, Record};

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Delivered to all receivers.
    Done,
    /// The same as an earlier arrival; there was no job.
    Repeated,
    /// Will be tried again.
    Deferred,
    /// An operator must look.
    Held(Reason),
    /// Another worker was first.
    Gone,
    /// The process is stopping; back in `incoming`.
    Stopped,
    /// Another process has taken it over, and does what is left to do.
    Lost,
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
    /// Claims an arrival and works on it. After an error it is in `incoming` again, or will be after the next scan.
    pub fn work_on(&self, waiting: &Waiting) -> Result<Tried, Unfinished> {
        let Some(claim) = self.spool.claim(waiting.state, &waiting.id)? else {
            return Ok(Tried { end: End::Gone, kind: "none" });
        };
        match claim.has_ended_before() {
            Ok(false) => {}
            Ok(true) => return self.set_aside(&claim),
            Err(error) => return self.put_back(&claim, error.into()),
        }
        let arrival = match claim.arrival() {
            Ok(arrival) => arrival,
            Err(error) if is_lasting(&error) => return self.hold_unreadable(&claim, &error),
            Err(error) => return self.put_back(&claim, error.into()),
        };
        if let Err(error) = self.log.append(&record_of(Event::Claim, Outcome::Ok, &arrival)) {
            return self.put_back(&claim, error.into());
        }
        // Others that are to have a place beside it wait until it has ended.
        let (_alone, _beside) = if claim.is_suspect() {
            (Some(self.room.write().unwrap_or_else(PoisonError::into_inner)), None)
        } else {
            (None, Some(self.room.read().unwrap_or_else(PoisonError::into_inner)))
        };
        let mut progress = Progress {
            kind: None,
            tries: claim.tries().saturating_add(1),
            content: Content::StructureOnly,
            rows_in: None,
            rows_out: None,
            quality: None,
            report: None,
            deliveries: Vec::new(),
            of: None,
        };
        let outcome = self.attempt(&claim, &arrival, &mut progress);
        let kind = progress.kind.unwrap_or("none");
        let end = match outcome {
            Ok(()) => self.finish(&claim, &arrival, &progress),
            Err(JobError::Spool(error @ SpoolError::Lost(_))) => Err(error.into()),
            Err(error) if self.is_stopping() => {
                tracing::info!(arrival = %arrival.id, %error, "job put back because the process stops");
                claim.release().map(|()| End::Stopped).map_err(Unfinished::from)
            }
            Err(JobError::Log(error)) => Err(error.into()),
            Err(JobError::Repeated(first)) => self.end_repetition(&claim, &arrival, first),
            Err(error) => self.give_up(&claim, &arrival, &progress, &error),
        };
        match end {
            Ok(end) => Ok(Tried { end, kind }),
            Err(Unfinished::Spool(SpoolError::Lost(_))) => {
                self.record_loss(&arrival)?;
                Ok(Tried { end: End::Lost, kind })
            }
            // Where a delivery is in place, the next try finds it and only ends the job.
            Err(error) => self.put_back(&claim, error),
        }
    }

    fn attempt(&self, claim: &Claim<'_>, arrival: &Arrival, progress: &mut Progress) -> Result<(), JobError> {
        let config = self.config();
        let delivered = claim.deliveries()?;
        delivered.iter().try_for_each(|before| self.passphrase_is_due(claim, &before.delivery))?;
        progress.take_up(delivered);
        let order = self.order(&config, arrival).map_err(JobError::Refused)?;
        progress.kind = Some(order.flow.job.kind());
        // An earlier try came to its end, and only the end was not noted. That its receipt may be the last one already, and
        // whether the agreement has ended since, does not matter.
        if progress.is_complete(order.flow) {
            return Ok(());
        }
        order.exchange.require_open(self.clock.today()).map_err(JobError::Refused)?;
        // Tries that ended in an error never come to this: those that ended the process are counted by the next start.
        if claim.tries() >= config.machine.work.tries {
            progress.tries = claim.tries();
            return Err(JobError::Exhausted { tries: claim.tries() });
        }
        let first = receipt(arrival, &order.exchange.agreement.reference, &Standing::IN_PROGRESS, progress);
        self.write_receipt(claim, arrival, &first).map_err(|error| match error {
            Unfinished::Log(error) => JobError::Log(error),
            Unfinished::Spool(error) => JobError::Spool(error),
            Unfinished::Json(error) => JobError::Setup(error),
            Unfinished::Sign(error) => JobError::Setup(error.to_string()),
        })?;
        claim.begin()?;
        caught(|| self.perform(claim, arrival, order, progress))
    }

    /// What the configuration says is to be done with an arrival, on a day on which its exchange is open.
    fn order<'a>(&self, config: &'a Config, arrival: &Arrival) -> Result<Order<'a>, Reason> {
        let institution: &Slug = arrival.id.institution();
        let known = |exchange: &&crate::policy::agreement::Exchange| {
            exchange.parties.contains_key(institution) && config.institutions.contains_key(institution)
        };
        let exchange =
            config.exchanges.get(arrival.id.exchange()).filter(known).ok_or(Reason::NoLongerConfigured)?;
        let flow = arrival.flow.as_ref().and_then(|name| exchange.flow(name));
        let flow = flow.filter(|flow| flow.from.contains(institution)).ok_or(Reason::NoLongerConfigured)?;
        Ok(Order { config, exchange, flow })
    }

    fn finish(&self, claim: &Claim<'_>, arrival: &Arrival, progress: &Progress) -> Result<End, Unfinished> {
        let finished = Some(self.clock.now());
        let standing = Standing { verdict: Verdict::Delivered, reason: None, finished };
        let last = receipt(arrival, &self.agreement(arrival), &standing, progress);
        self.write_receipt(claim, arrival, &last)?;
        self.log.append(&Record { detail: rows(progress), ..record_of(Event::Job, Outcome::Ok, arrival) })?;
        claim.finish()?;
        Ok(End::Done)
    }

    fn give_up(
        &self,
        claim: &Claim<'_>,
        arrival: &Arrival,
        progress: &Progress,
        error: &JobError,
    ) -> Result<End, Unfinished> {
        let tries = Tries { made: progress.tries, limit: self.config().machine.work.tries };
        let next = after_failure(tries, error.failure(), random());
        let now = self.clock.now();
        let (verdict, reason, finished) = match &next {
            Next::Retry { .. } => (Verdict::InProgress, Reason::JobDeferred, None),
            Next::Hold(reason) => (Verdict::Held, reason.clone(), Some(now)),
        };
        tracing::warn!(arrival = %arrival.id, tries = progress.tries, reason = reason.code(), %error, "job failed");
        let standing = Standing { verdict, reason: Some(&reason), finished };
        let told = receipt(arrival, &self.agreement(arrival), &standing, progress);
        self.write_receipt(claim, arrival, &told)?;
        let record = Record { detail: rows(progress), ..record_of(Event::Job, Outcome::Failed, arrival) };
        self.log.append(&record.because(&reason))?;
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

    /// It has no receipt, for whoever has the arrival now writes it.
    fn record_loss(&self, arrival: &Arrival) -> Result<(), Unfinished> {
        tracing::warn!(arrival = %arrival.id, "the claim was lost to another process; nothing was delivered by this one");
        let record = record_of(Event::Job, Outcome::Failed, arrival);
        Ok(self.log.append(&Record { detail: Some("claim lost".to_owned()), ..record })?)
    }

    /// What has its last receipt already gets no job.
    fn set_aside(&self, claim: &Claim<'_>) -> Result<Tried, Unfinished> {
        let record = Record {
            institution: Some(claim.id().institution().to_string()),
            exchange: Some(claim.id().exchange().clone()),
            arrival: Some(claim.id().to_string()),
            detail: Some("had come to its end before; set aside".to_owned()),
            ..Record::new(Event::Job, Outcome::Ok)
        };
        let recorded = self.log.append(&record).map_err(Unfinished::from);
        match recorded.and_then(|_| Ok(claim.set_aside()?)) {
            Ok(()) => Ok(Tried { end: End::Repeated, kind: "none" }),
            // The third of its kind: only an operator can know how.
            Err(Unfinished::Spool(error @ SpoolError::Exists(_))) => self.hold_unreadable(claim, &error),
            Err(error) => self.put_back(claim, error),
        }
    }

    /// Without its description nobody knows its name, so there is no receipt.
    fn hold_unreadable(&self, claim: &Claim<'_>, error: &SpoolError) -> Result<Tried, Unfinished> {
        let reason = Reason::ArrivalUnreadable;
        tracing::warn!(arrival = %claim.id(), %error, "arrival held");
        let record = record_about(Event::Job, Outcome::Failed, claim.id());
        let recorded = self.log.append(&record.because(&reason)).map_err(Unfinished::from);
        let held = recorded.and_then(|()| Ok(claim.hold(&reason, &error.to_string())?));
        match held {
            Ok(()) => Ok(Tried { end: End::Held(reason), kind: "none" }),
            Err(Unfinished::Spool(SpoolError::Lost(_))) => Ok(Tried { end: End::Lost, kind: "none" }),
            Err(error) => self.put_back(claim, error),
        }
    }

    /// What could not be done has not happened: to `incoming`, also where it was deferred before.
    fn put_back<T>(&self, claim: &Claim<'_>, error: Unfinished) -> Result<T, Unfinished> {
        match claim.release() {
            // The move itself went well, and only making it durable failed; or somebody else has it.
            Err(SpoolError::Lost(_)) => {}
            Err(again) => {
                tracing::error!(arrival = %claim.id(), error = %again, "cannot be put back now; trying again at the next scan");
                self.strand(claim.id().clone());
            }
            Ok(()) => {}
        }
        Err(error)
    }
}

/// A defect that one list brings to light must not keep the others waiting. What the job had is dropped with it.
fn caught(job: impl FnOnce() -> Result<(), JobError>) -> Result<(), JobError> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or(Err(JobError::Panicked))
}

/// Whether reading a description again would fail again.
pub(super) fn is_lasting(error: &SpoolError) -> bool {
    error.is_not_found() || matches!(error, SpoolError::Unreadable { .. })
}

fn rows(progress: &Progress) -> Option<String> {
    Some(format!("rows in {}, rows out {}, tries {}", progress.rows_in?, progress.rows_out?, progress.tries))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Zone;
    use super::*;
    use crate::policy::arrival::State;
    use crate::policy::job::Failure;

    fn copy(zone: &Zone, from: &str, to: &str) {
        let at = |state: &str| zone.folder.path().join("spool").join(state);
        std::fs::create_dir(at(to)).unwrap();
        for entry in std::fs::read_dir(at(from)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), at(to).join(entry.file_name())).unwrap();
        }
    }

    #[test]
    fn an_arrival_that_lies_in_two_states_is_delivered_once_and_comes_to_an_end() {
        for twin in ["incoming", "deferred", "hold"] {
            let zone = Zone::new();
            let arrival = zone.drop_list(b"insz\n1\n");
            let id = arrival.id.to_string();
            let from_incoming = Waiting { state: State::Incoming, id: arrival.id.clone() };
            copy(&zone, &format!("incoming/{id}"), &format!("incoming/{id}.copy"));
            assert_eq!(zone.workshop.work_on(&from_incoming).unwrap().end, End::Done, "{twin}");
            copy(&zone, &format!("incoming/{id}.copy"), &format!("{twin}/{id}"));
            let delivered =
                |zone: &Zone| zone.events().iter().filter(|(event, ..)| *event == Event::Deliver).count();
            let before = delivered(&zone);
            if twin == "hold" {
                assert!(zone.workshop.spool.release(&arrival.id).unwrap());
            }
            let state = if twin == "deferred" { State::Deferred } else { State::Incoming };
            let again = Waiting { state, id: arrival.id.clone() };
            assert_eq!(zone.workshop.work_on(&again).unwrap().end, End::Repeated, "{twin}");
            assert_eq!(delivered(&zone), before, "{twin}");
            assert_eq!(zone.receipt(&arrival).verdict, Verdict::Delivered);
            assert_eq!(zone.state_of(&arrival), State::Done);
            assert!(
                zone.workshop.waiting().unwrap().is_empty()
                    && zone.workshop.spool.claims().unwrap().is_empty()
            );
        }
    }

    #[test]
    fn a_claim_whose_arrival_lies_where_it_has_to_go_takes_its_place() {
        let zone = Zone::new();
        let arrival = zone.drop_list(b"insz\n1\n");
        let id = arrival.id.to_string();
        copy(&zone, &format!("incoming/{id}"), &format!("hold/{id}"));
        let claim = zone.workshop.spool.claim(State::Incoming, &arrival.id).unwrap().unwrap();
        claim.hold(&Reason::JobFailed, "x").unwrap();
        assert_eq!(zone.workshop.spool.hold_note(&arrival.id).unwrap().reason, Reason::JobFailed);
        assert!(zone.workshop.spool.claims().unwrap().is_empty());
    }

    #[test]
    fn a_claim_that_a_power_cut_left_in_incoming_too_is_put_back_once() {
        let zone = Zone::new();
        let arrival = zone.drop_list(b"insz\n1\n");
        let id = arrival.id.to_string();
        copy(&zone, &format!("incoming/{id}"), &format!("active/{id}.gone.00000001"));
        zone.workshop.look_after_neighbours().unwrap();
        assert!(zone.workshop.spool.claims().unwrap().is_empty(), "it is no claim any more");
        assert_eq!(zone.work(&arrival), End::Done);
        assert!(zone.workshop.waiting().unwrap().is_empty());
    }

    #[test]
    fn a_job_that_panics_is_held_and_says_where_to_look() {
        let error = caught(|| panic!("a defect that a list brings to light")).unwrap_err();
        assert_eq!(error.failure(), Failure::Lasting(Reason::JobFailed));
        assert!(error.to_string().contains("program log"), "{error}");
    }
}

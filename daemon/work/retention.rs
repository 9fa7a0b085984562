//! Deletes what has had its time: log days, refusals, finished arrivals, results that nobody collected, receipts, copies of heads,
//! digests. Every hour, when the configuration changes, and when an operator has confirmed the clock; a bounded number at a
//! time, beside the jobs. What has had its time is `policy::retention`'s question, whether the clock may be believed
//! `host::guard`'s; without its leave nothing is deleted here.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::civil::Date;

use super::end::{Closed, ended};
use super::{Workshop, record_about};
use crate::host::log::LogError;
use crate::host::spool::{Resting, SpoolError};
use crate::policy::path::Slug;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::replay::Marker;
use crate::policy::retention::{Kind, Period, Thing};
use crate::policy::trust::Leave;

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_secs(60);
/// Between two rounds.
const ROUND: Duration = Duration::from_secs(3600);
/// Between two rounds while there is more than one of them takes.
const NEXT: Duration = Duration::from_secs(2);
/// Deleted in one round, at most.
const BATCH: usize = 500;
/// Read in one round, for the digests of what is deleted, in bytes; the last one may pass it.
const BYTES: u64 = 4 << 30;
/// Failures that may be passed by in one round.
const STUCK_MAX: usize = 10_000;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Undone {
    /// No record, no deletion.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What one round did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    /// Deleted, of each kind.
    pub deleted: BTreeMap<Kind, usize>,
    /// Tried in vain; the next round passes as many by.
    pub stuck: usize,
    /// Whether there is more to do.
    pub has_more: bool,
    bytes: u64,
}

impl Round {
    fn count(&self) -> usize {
        self.deleted.values().sum()
    }

    fn is_full(&self) -> bool {
        self.count() >= BATCH || self.bytes >= BYTES
    }
}

/// Looks at the clock and deletes, until it is dropped.
pub(super) async fn keep_up(workshop: &Arc<Workshop>) {
    let mut changes = workshop.config.subscribe();
    let (mut next_round, mut stuck) = (Instant::now(), 0);
    loop {
        let (of, due, passed_by) = (Arc::clone(workshop), Instant::now() >= next_round, stuck);
        let looked = tokio::task::spawn_blocking(move || {
            of.tell_rhythm();
            let leave = of.upkeep.look(&of.log)?;
            due.then(|| of.round(leave, passed_by))
        });
        match looked.await {
            Ok(Some(round)) => {
                stuck = round.stuck.min(STUCK_MAX);
                next_round = Instant::now() + if round.has_more { NEXT } else { ROUND };
            }
            // Not due yet, or no leave: the next look asks again.
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "looking for what has had its time ended in a defect of this program");
                next_round = Instant::now() + ROUND;
            }
        }
        let wait = next_round.saturating_duration_since(Instant::now()).clamp(NEXT, LOOK);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = workshop.upkeep.confirmed() => {}
            changed = changes.changed() => match changed {
                Ok(()) => next_round = Instant::now(),
                Err(_) => return,
            },
        }
    }
}

impl Workshop {
    /// Deletes what has had its time, but no more than a batch. Blocks.
    pub(super) fn round(&self, leave: Leave, passed_by: usize) -> Round {
        let mut round = Round::default();
        self.expire_log_days(leave, &mut round);
        let closed = self.closed(leave);
        let ended = self.close(&closed, leave);
        if ended > 0 {
            tracing::info!(things = ended, "removed because their agreement has ended");
        }
        match self.expire_passphrases(leave, &closed, BATCH) {
            Ok(removed) => round.has_more = removed >= BATCH,
            Err(error) => {
                tracing::error!(%error, "passphrases whose time has passed could not be deleted; trying again");
            }
        }
        match self.expire_incidents(leave, BATCH) {
            Ok(removed) => round.has_more |= removed >= BATCH,
            Err(error) => {
                tracing::error!(%error, "closed incidents whose time has passed could not be deleted; trying again");
            }
        }
        for kind in Kind::ALL {
            match self.expire_kind((kind, &closed), leave, passed_by, &mut round) {
                // What comes after may rest on this kind being done: a receipt outlives its refusal.
                Ok(()) if round.is_full() => {
                    round.has_more = true;
                    break;
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, kind = kind.code(), "what has had its time could not be deleted; trying again");
                    break;
                }
            }
        }
        if round.count() > 0 {
            tracing::info!(deleted = ?round.deleted, stuck = round.stuck, "deleted because their time has passed");
        }
        round
    }

    fn expire_log_days(&self, leave: Leave, round: &mut Round) {
        let config = self.config();
        if config.retention.any_legal_hold() {
            return;
        }
        match self.log.expire(leave, config.machine.log.keep_days) {
            Ok(days) if days.is_empty() => {}
            Ok(days) => tracing::info!(days = days.len(), "log days deleted because their time has passed"),
            Err(error) => {
                round.stuck += 1;
                tracing::error!(%error, "old log days could not be deleted; trying again in an hour");
            }
        }
    }

    fn expire_kind(
        &self,
        (kind, closed): (Kind, &Closed),
        leave: Leave,
        passed_by: usize,
        round: &mut Round,
    ) -> Result<(), Undone> {
        if kind == Kind::Digest {
            return Ok(self.expire_digests(leave, round)?);
        }
        let most = BATCH.saturating_add(passed_by).saturating_sub(round.count());
        // Of an agreement that has ended only evidence stays.
        let end = |exchange: Option<&Slug>| closed.get(exchange?).filter(|_| !kind.is_evidence());
        let is_due = |exchange: Option<&Slug>, since| {
            let thing = Thing { kind, exchange, since };
            end(exchange).is_some() || self.config().retention.has_had_its_time(thing, leave)
        };
        for resting in self.spool.find_due(kind, &is_due, most)? {
            if round.is_full() || self.is_stopping() {
                return Ok(());
            }
            // An operator may have put it under legal hold since it was found.
            let exchange = resting.exchange.as_ref();
            let end = end(exchange);
            let is_held = exchange.is_some_and(|name| self.config().retention.is_under_legal_hold(name));
            if is_held || end.is_none() && self.config().retention.period(kind, exchange) == Period::Never {
                continue;
            }
            match self.expire(&resting, end, round) {
                Ok(()) => *round.deleted.entry(kind).or_default() += 1,
                Err(Undone::Spool(error)) => {
                    // The others have their turn all the same.
                    round.stuck += 1;
                    tracing::error!(%error, kind = kind.code(), "this could not be deleted; trying again in an hour");
                }
                Err(error @ Undone::Log(_)) => return Err(error),
            }
        }
        Ok(())
    }

    /// The digest in a marker's record is that of the content that it stands for.
    fn expire_digests(&self, leave: Leave, round: &mut Round) -> Result<(), SpoolError> {
        let Period::After(kept) = self.config().retention.period(Kind::Digest, None) else { return Ok(()) };
        let room = BATCH.saturating_sub(round.count());
        let deleted = Cell::new(0);
        let record = |sha256: &str, marker: &Marker| {
            let Marker { arrival, .. } = marker;
            let may =
                deleted.get() < room && !self.is_stopping() && !self.config().retention.any_legal_hold();
            let record = || Record {
                path: Some(format!("seen/{}/{sha256}.json", sha256.get(..2).unwrap_or_default())),
                sha256: Some(sha256.to_owned()),
                detail: Some(format!("{}: kept for {}", Kind::Digest.words(), Period::After(kept))),
                ..record_about(Event::Expire, Outcome::Ok, arrival)
            };
            let is_recorded = may && self.log.append(&record()).is_ok();
            if is_recorded {
                deleted.set(deleted.get() + 1);
                self.upkeep.deleted(Kind::Digest);
            }
            is_recorded
        };
        self.spool.expire_seen(leave.now(), kept, record)?;
        if deleted.get() > 0 {
            round.deleted.insert(Kind::Digest, deleted.get());
        }
        Ok(())
    }

    /// Each is recorded before it is removed: what is cut off between the two is done again, and recorded again.
    fn expire(&self, resting: &Resting, end: Option<&Date>, round: &mut Round) -> Result<(), Undone> {
        let Resting { kind, institution, exchange, arrival, .. } = resting;
        for weight in self.spool.weigh(resting)? {
            round.bytes = round.bytes.saturating_add(weight.bytes);
            let period = self.config().retention.period(*kind, exchange.as_ref());
            let why = end.map_or_else(|| format!("kept for {period}"), |on| ended(*on));
            self.log.append(&Record {
                institution: institution.as_ref().map(ToString::to_string),
                exchange: exchange.clone(),
                arrival: arrival.as_ref().map(ToString::to_string),
                path: Some(weight.path),
                bytes: Some(weight.bytes),
                sha256: weight.sha256,
                detail: Some(format!("{}: {why}", kind.words())),
                ..Record::new(Event::Expire, Outcome::Ok)
            })?;
        }
        self.spool.remove(resting)?;
        self.upkeep.deleted(*kind);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

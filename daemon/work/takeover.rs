//! What becomes of the arrivals that a process claimed and does not go on with: this process's own that could not be moved on,
//! and those of a process that is gone or does not move any more. When that is so, `policy::lease` says; that nothing is
//! delivered twice all the same is `host::spool::staging`'s doing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Unfinished, Workshop, record_about};
use crate::host::spool::Heartbeat;
use crate::policy::arrival::ArrivalId;
use crate::policy::lease::{Claimed, LONGEST, Leases, Owner, Sign};
use crate::policy::record::{Event, Outcome, Record};

/// Looks in a lease.
const LOOKS: u32 = 4;
/// A sign of life is removed when nothing has come from its process for so many leases.
const FORGOTTEN: u32 = 10;

/// Whose what lies in `active` is, as this process sees it.
#[derive(Debug)]
pub(super) struct Claims {
    /// Shows the others that this process lives.
    heartbeat: Heartbeat,
    neighbours: Mutex<Neighbours>,
    /// What this process claimed, and left in `active` because it could move it nowhere; with what it is yet to record, where
    /// it took it over.
    stranded: Mutex<BTreeMap<ArrivalId, Option<Claimed>>>,
}

impl Claims {
    /// Nothing is known yet.
    pub(super) fn new(heartbeat: Heartbeat) -> Self {
        Self { heartbeat, neighbours: Mutex::default(), stranded: Mutex::default() }
    }
}

/// What this process knows of the others.
#[derive(Debug)]
struct Neighbours {
    leases: Leases,
    began: Instant,
    looked: Option<Duration>,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self { leases: Leases::default(), began: Instant::now(), looked: None }
    }
}

impl Workshop {
    /// Takes over what others have lost, if it is time to look again; at the first time also what a version of this program
    /// left that did not say whose it was.
    pub(super) fn look_after_neighbours(&self) -> Result<(), Unfinished> {
        let lease = self.config().machine.work.lease;
        self.claims.heartbeat.set_lease(lease);
        let mut neighbours = self.claims.neighbours.lock().unwrap_or_else(PoisonError::into_inner);
        let now = neighbours.began.elapsed();
        if neighbours.looked.is_some_and(|at| now.saturating_sub(at) < lease / LOOKS) {
            return Ok(());
        }
        let claims = self.spool.claims()?;
        let lost = self.lost(&claims, &mut neighbours.leases, (now, lease))?;
        let is_first = neighbours.looked.is_none();
        for claimed in claims {
            let is_over = claimed.owner.as_ref().map_or(is_first, |owner| lost.contains(owner));
            if is_over && let Err(error) = self.take_from(&claimed) {
                // The others have their turn all the same.
                tracing::error!(arrival = %claimed.id, %error, "could not be taken over; trying again");
            }
        }
        neighbours.looked = Some(now);
        Ok(())
    }

    /// The processes whose claims are over. Signs that nobody needs any more are removed.
    fn lost(
        &self,
        claims: &[Claimed],
        leases: &mut Leases,
        (now, lease): (Duration, Duration),
    ) -> Result<BTreeSet<Owner>, Unfinished> {
        let signs: BTreeSet<Owner> = self.spool.owners()?.into_iter().collect();
        let claiming: BTreeSet<&Owner> = claims.iter().filter_map(|claimed| claimed.owner.as_ref()).collect();
        let mut lost = BTreeSet::new();
        for owner in claiming.iter().copied().chain(&signs) {
            if owner == self.spool.me() || lost.contains(owner) {
                continue;
            }
            let sign = self.spool.sign_of(owner)?;
            let is_over = leases.is_over(owner, sign, now, lease);
            let forgotten = (lease * FORGOTTEN).max(LONGEST);
            let is_swept = sign == Sign::Dead || leases.silence(owner, now) >= forgotten;
            if is_over && is_swept && !claiming.contains(owner) {
                self.spool.sweep_owner(owner)?;
            }
            if is_over {
                lost.insert(owner.clone());
            }
        }
        leases.keep(|owner| signs.contains(owner));
        Ok(lost)
    }

    /// Recorded as soon as it is had, like a claim. What cannot be recorded waits, and is this process's.
    fn take_from(&self, claimed: &Claimed) -> Result<(), Unfinished> {
        if !self.spool.take_over(claimed)? {
            return Ok(());
        }
        self.metrics.taken_over();
        self.strand_with(claimed.id.clone(), Some(claimed.clone()));
        self.put_back_stranded();
        Ok(())
    }

    fn record_takeover(&self, claimed: &Claimed) -> Result<(), Unfinished> {
        let from = claimed.owner.as_ref().map_or("a process that left no name".to_owned(), Owner::to_string);
        tracing::warn!(arrival = %claimed.id, from, "taken over");
        self.log.append(&Record {
            detail: Some(format!("from {from}")),
            ..record_about(Event::Takeover, Outcome::Ok, &claimed.id)
        })?;
        Ok(())
    }

    /// Remembers an arrival that this process has in `active` with nobody working on it.
    pub(super) fn strand(&self, id: ArrivalId) {
        self.strand_with(id, None);
    }

    fn strand_with(&self, id: ArrivalId, to_record: Option<Claimed>) {
        self.claims.stranded.lock().unwrap_or_else(PoisonError::into_inner).insert(id, to_record);
    }

    /// Puts back what was remembered so. What cannot be put back now stays remembered.
    pub(super) fn put_back_stranded(&self) {
        let mut stranded = self.claims.stranded.lock().unwrap_or_else(PoisonError::into_inner);
        stranded.retain(|id, to_record| {
            if let Some(claimed) = to_record {
                if let Err(error) = self.record_takeover(claimed) {
                    tracing::error!(arrival = %id, %error, "a takeover cannot be recorded; the arrival waits");
                    return true;
                }
                *to_record = None;
            }
            match self.spool.put_back(id) {
                Ok(()) => {
                    tracing::info!(arrival = %id, "put back after a job that could not be ended");
                    false
                }
                Err(error) => {
                    let is_left = self.spool.has_claimed(id);
                    tracing::error!(arrival = %id, %error, is_left, "not put back as it should be; look into the spool");
                    is_left
                }
            }
        });
    }
}

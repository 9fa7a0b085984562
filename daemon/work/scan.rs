//! The loop of `work`: scan the spool, start jobs, write the receipts of refusals, and sleep until an event, the end of a
//! job, or the next scan is due. The scan is the truth; events only end the sleep early.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;

use super::turns::{Turns, Waiting};
use super::watch::watch;
use super::worker::{End, Tried};
use super::{Unfinished, Workshop};
use crate::host::metrics::JobResult;
use crate::policy::arrival::{ArrivalId, State};

/// Between two scans while arrivals wait anyway: so many times what the last listing took, at least and at most. A listing of
/// many thousands is not free, and no job is started meanwhile.
const PAUSE_SHARE: u32 = 10;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between two counts of what lies in the spool, where `done` may hold very much: likewise.
const MEASURE: Duration = Duration::from_secs(1);
const MEASURE_SHARE: u32 = 50;
/// Refusals that one scan writes receipts of; the next goes on.
const REFUSALS: usize = 1_000;
/// How long jobs may take to put their arrivals back when the process stops.
/// Less than `run` and the units give a daemon.
const STOP_WAIT: Duration = Duration::from_secs(8);
/// Between two looks whether the log is to be sealed, and between two tries.
const SEAL_LOOK: Duration = Duration::from_secs(30);

/// Works until `shutdown`, then waits for the jobs that run.
pub(super) async fn run(workshop: &Arc<Workshop>, shutdown: impl Future<Output = ()>) {
    let wake = Arc::new(Notify::new());
    let (incoming, refused) = (workshop.spool.incoming_path(), workshop.spool.refused_path());
    let _watcher = watch(&[&incoming, &refused], Arc::clone(&wake));
    let mut floor = Floor::new(Arc::clone(workshop));
    tokio::pin!(shutdown);
    loop {
        floor.look_round().await;
        tokio::select! {
            () = &mut shutdown => break,
            () = wake.notified() => floor.is_woken = true,
            () = tokio::time::sleep_until(floor.next_scan()) => floor.is_woken = true,
            Some(ended) = floor.jobs.join_next_with_id() => floor.job_ended(ended),
        }
    }
    workshop.stop();
    let all_ended = async { while floor.jobs.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WAIT, all_ended).await.is_err() {
        tracing::warn!("jobs did not stop in time; their arrivals are put back at the next start");
    }
}

type Ended = (Result<Tried, Unfinished>, Duration);

struct Floor {
    workshop: Arc<Workshop>,
    turns: Turns,
    running: BTreeSet<ArrivalId>,
    jobs: JoinSet<Ended>,
    /// Whose job each task is: one that panics tells nothing but its number.
    arrivals: HashMap<task::Id, ArrivalId>,
    /// Refusals that have their receipt.
    told: BTreeSet<ArrivalId>,
    scanned: Option<Instant>,
    /// How long the last listing of what waits took.
    scan_took: Duration,
    measured: Option<Instant>,
    /// How long the last count took.
    measure_took: Duration,
    sealed: Option<Instant>,
    /// After a failure of log or spool, nothing is started before this.
    paused_until: Option<Instant>,
    is_woken: bool,
}

impl Floor {
    fn new(workshop: Arc<Workshop>) -> Self {
        Self {
            workshop,
            turns: Turns::default(),
            running: BTreeSet::new(),
            jobs: JoinSet::new(),
            arrivals: HashMap::new(),
            told: BTreeSet::new(),
            scanned: None,
            scan_took: Duration::ZERO,
            measured: None,
            measure_took: Duration::ZERO,
            sealed: None,
            paused_until: None,
            is_woken: true,
        }
    }

    async fn look_round(&mut self) {
        let since_scan = self.scanned.map(|at| at.elapsed());
        let may_scan = since_scan.is_none_or(|since| since >= self.pause_between());
        if self.is_woken && may_scan && !self.is_paused() {
            self.is_woken = false;
            self.scan().await;
            self.seal_log();
        }
        let jobs = self.workshop.config().machine.work.jobs;
        while self.running.len() < jobs && !self.is_paused() {
            let Some(next) = self.turns.next(&self.running, jobs) else { break };
            self.start(next);
        }
    }

    /// When the loop looks round again without an event.
    fn next_scan(&self) -> Instant {
        let now = Instant::now();
        let every = self.workshop.config().machine.work.scan_every;
        let pause = self.pause_between();
        let due = self.scanned.map_or(now, |at| at + if self.is_woken { pause } else { every.max(pause) });
        self.paused_until.map_or(due, |until| due.max(until))
    }

    fn pause_between(&self) -> Duration {
        // Where nothing waits there is nothing that a scan could hold up but the next one.
        let long = if self.turns.is_empty() {
            self.scan_took
        } else {
            SHORTEST_PAUSE.max(self.scan_took.saturating_mul(PAUSE_SHARE))
        };
        long.min(LONGEST_PAUSE)
    }

    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| Instant::now() < until)
    }

    fn pause(&mut self) {
        self.workshop.is_stuck.store(true, Ordering::Relaxed);
        self.paused_until = Some(Instant::now() + self.workshop.config().machine.work.scan_every);
    }

    async fn scan(&mut self) {
        let (workshop, told) = (Arc::clone(&self.workshop), std::mem::take(&mut self.told));
        let every = MEASURE.max(self.measure_took.saturating_mul(MEASURE_SHARE));
        let measure = self.measured.is_none_or(|at| at.elapsed() >= every);
        if measure {
            self.measured = Some(Instant::now());
        }
        let scanned = tokio::task::spawn_blocking(move || {
            let measured = measure.then(|| workshop.measure());
            workshop.put_back_stranded();
            workshop.finish_discards();
            let neighbours = workshop.look_after_neighbours();
            let begin = Instant::now();
            let waiting = neighbours.and_then(|()| workshop.waiting());
            let took = (measured, begin.elapsed());
            let (told, refusals) = workshop.tell_refusals(told);
            (waiting.and_then(|waiting| refusals.map(|more| (waiting, more))), told, took)
        });
        let scanned = scanned.await;
        self.scanned = Some(Instant::now());
        match scanned {
            Ok((result, told, (measured, took))) => {
                self.told = told;
                self.measure_took = measured.unwrap_or(self.measure_took);
                self.scan_took = took;
                match result {
                    Ok((found, more)) => {
                        self.is_woken |= more;
                        self.workshop.is_stuck.store(false, Ordering::Relaxed);
                        self.turns.refill(found, &self.running);
                    }
                    Err(error) => {
                        tracing::error!(%error, "the spool could not be scanned; trying again at the next scan");
                        self.pause();
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the scan ended in a defect of this program");
                self.pause();
            }
        }
    }

    fn start(&mut self, next: Waiting) {
        self.running.insert(next.id.clone());
        let workshop = Arc::clone(&self.workshop);
        self.spawn(next.id.clone(), move || workshop.work_on(&next));
    }

    fn spawn(&mut self, id: ArrivalId, job: impl FnOnce() -> Result<Tried, Unfinished> + Send + 'static) {
        let task = self.jobs.spawn_blocking(move || {
            let start = std::time::Instant::now();
            (job(), start.elapsed())
        });
        self.arrivals.insert(task.id(), id);
    }

    fn job_ended(&mut self, ended: Result<(task::Id, Ended), JoinError>) {
        let task = ended.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let Some(id) = self.arrivals.remove(&task) else { return };
        self.running.remove(&id);
        match ended {
            Ok((_, (Ok(Tried { end: End::Gone, .. }), _))) => {}
            Ok((_, (Ok(Tried { end, kind }), took))) => {
                self.workshop.count(&id, kind, &end, took);
                tracing::info!(arrival = %id, kind, ?end, seconds = took.as_secs_f64(), "job ended");
            }
            Ok((_, (Err(error), _))) => {
                tracing::error!(arrival = %id, %error, "the arrival could not be moved on; trying again");
                self.pause();
            }
            // Panics of a job are caught within it, so this one was outside.
            Err(error) => {
                tracing::error!(arrival = %id, %error, "a worker ended in a defect of this program; trying again");
                self.workshop.strand(id);
                self.pause();
            }
        }
    }

    fn seal_log(&mut self) {
        if self.sealed.is_some_and(|at| at.elapsed() < SEAL_LOOK) {
            return;
        }
        self.sealed = Some(Instant::now());
        let workshop = Arc::clone(&self.workshop);
        tokio::task::spawn_blocking(move || workshop.seal_when_due());
    }
}

impl Workshop {
    /// Shows monitoring what lies in the spool; says how long that took. What cannot be read now stays as it was shown.
    fn measure(&self) -> Duration {
        let (begin, mut oldest) = (Instant::now(), None);
        for state in State::ALL {
            let Ok((count, first)) = self.spool.census(state) else { continue };
            self.metrics.arrivals(state, count);
            if matches!(state, State::Incoming | State::Active | State::Deferred) {
                oldest = oldest.into_iter().chain(first).min();
            }
        }
        let age = oldest.map_or(jiff::SignedDuration::ZERO, |oldest| self.clock.now().duration_since(oldest));
        self.metrics.oldest_waiting(age.unsigned_abs());
        if let Ok(bytes) = self.spool.free_bytes() {
            self.metrics.spool_free(bytes);
        }
        begin.elapsed()
    }

    fn count(&self, id: &ArrivalId, kind: &'static str, end: &End, took: Duration) {
        let result = match end {
            End::Done => JobResult::Done,
            End::Repeated => JobResult::Repeated,
            End::Deferred => JobResult::Deferred,
            End::Held(reason) => {
                self.metrics.held(reason);
                JobResult::Held
            }
            End::Lost => JobResult::Lost,
            End::Gone | End::Stopped => return,
        };
        self.metrics.job(id.exchange(), kind, result, took);
    }

    /// What may be claimed, oldest first.
    pub(super) fn waiting(&self) -> Result<Vec<Waiting>, Unfinished> {
        let of = |state: State| move |id: ArrivalId| Waiting { state, id };
        let incoming = self.spool.list(State::Incoming)?.into_iter().map(of(State::Incoming));
        let due = self.spool.due(self.clock.now())?.into_iter().map(of(State::Deferred));
        let mut waiting: Vec<Waiting> = incoming.chain(due).collect();
        waiting.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Ok(waiting)
    }

    /// Writes the receipts that refused uploads lack, so many at a time. Gives back those that have theirs, and says whether
    /// there are more.
    fn tell_refusals(&self, told: BTreeSet<ArrivalId>) -> (BTreeSet<ArrivalId>, Result<bool, Unfinished>) {
        let refused = match self.spool.list(State::Refused) {
            Ok(refused) => refused,
            Err(error) => return (told, Err(error.into())),
        };
        let (mut now_told, mut left) = (BTreeSet::new(), REFUSALS);
        for id in refused {
            if !told.contains(&id) {
                let Some(fewer) = left.checked_sub(1) else {
                    now_told.extend(told);
                    return (now_told, Ok(true));
                };
                left = fewer;
                let written = match self.spool.arrival(State::Refused, &id) {
                    Ok(arrival) => self.write_refusal(&arrival),
                    Err(error) => {
                        // Nothing can be said about it, now or later.
                        tracing::warn!(arrival = %id, %error, "a refused upload has no readable description");
                        Ok(())
                    }
                };
                if let Err(error) = written {
                    return (now_told, Err(error));
                }
            }
            now_told.insert(id);
        }
        (now_told, Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Zone;
    use super::*;

    #[tokio::test]
    async fn an_arrival_whose_worker_panics_is_put_back_after_a_pause() {
        let zone = Zone::new();
        let arrival = zone.drop_list(b"insz\n1\n");
        let mut floor = Floor::new(Arc::new(zone.workshop));
        drop(floor.workshop.spool.claim(State::Incoming, &arrival.id).unwrap().unwrap());
        floor.running.insert(arrival.id.clone());
        floor.spawn(arrival.id.clone(), || panic!("outside of the job"));
        let ended = floor.jobs.join_next_with_id().await.unwrap();
        floor.job_ended(ended);
        assert!(floor.running.is_empty() && floor.arrivals.is_empty() && floor.is_paused());
        assert!(floor.workshop.is_stuck.load(Ordering::Relaxed), "monitoring sees it");
        floor.scan().await;
        assert_eq!(floor.workshop.spool.list(State::Incoming).unwrap(), [arrival.id]);
    }
}

//! Watches the access log for signs of incidents, and keeps a case for each until an operator closes it. All processes' day files are
//! followed, each from where it was left, by one process at a time; what a record means is `policy::incident`'s, and that nothing
//! counts twice or is lost rests on the order in which `host::spool::incidents` keeps things.
//!
//! `telling` hands cases to a program, `closing` does what operators decide, and removes what has had its time.

mod closing;
mod telling;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use prometheus::Registry;
use serde::Deserialize;
use tokio::task::spawn_blocking;

pub(super) use self::closing::perform;
use super::Workshop;
use crate::config::Config;
use crate::host::evidence::{EvidenceError, LogFolder};
use crate::host::log::LogError;
use crate::host::metrics::{IncidentMetrics, MetricsError, NO_EXCHANGE};
use crate::host::spool::{Casebook, SpoolError};
use crate::policy::head::day;
use crate::policy::incident::case::{CASES_A_DAY, Case, CaseId, Found, Place, Series, believed};
use crate::policy::incident::{Knowledge, sign_of};
use crate::policy::path::Slug;
use crate::policy::record::{Event, Line, Outcome, Record};
use crate::policy::retention::LogName;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Read of a day file in one look, in bytes.
const BYTES: u64 = 8 << 20;
/// Day files followed at a time.
const FILES: usize = 4096;
/// Unreadable cases that are told one by one.
const TOLD: usize = 5;

/// Why the log could not be watched, or a case not be kept; it is tried again at the next look.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwatched {
    /// The log could not be read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The cases could not be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No record, no change.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What the watching keeps in mind.
pub(super) struct Watch {
    pub(super) metrics: IncidentMetrics,
    /// Cases that were found closed: they do not change any more, and are not read again.
    closed: Mutex<BTreeSet<CaseId>>,
    /// What the last failure was, to tell it once.
    failure: Mutex<Option<String>>,
}

impl Watch {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            metrics: IncidentMetrics::new(registry)?,
            closed: Mutex::default(),
            failure: Mutex::default(),
        })
    }

    /// A failure that lasts is told when it begins.
    fn tell(&self, failure: Option<String>) {
        let mut told = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = failure.as_ref().filter(|_| *told != failure) {
            tracing::error!(error, "the access log cannot be watched for incidents; trying again");
        }
        *told = failure;
    }
}

/// Goes on until it is dropped.
pub(super) async fn go_on(workshop: &Arc<Workshop>) {
    tokio::join!(follow(workshop), telling::go_on(workshop));
}

async fn follow(workshop: &Arc<Workshop>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let of = Arc::clone(workshop);
        match spawn_blocking(move || of.watch_for_incidents()).await {
            Ok(watched) => workshop.watch.tell(watched.err().map(|error| error.to_string())),
            Err(_) => {
                tracing::error!("watching for incidents ended in a defect of this program; trying again")
            }
        }
    }
}

impl Workshop {
    /// One look. Blocks.
    pub(super) fn watch_for_incidents(&self) -> Result<(), Unwatched> {
        let config = self.config();
        // Where another node does it, the metrics are shown here too.
        if let Some(book) = self.spool.casebook()? {
            let mut taking = Taking::new(&book, &config, self.clock.now())?;
            let followed = self.follow_files(&mut taking);
            // What was read before a failure is kept: it is not behind the position.
            taking.keep()?;
            if let Some(position) = followed? {
                book.keep_position(&position)?;
            }
            for mut case in self.open_cases()? {
                self.announce(&book, &mut case)?;
            }
        }
        self.show(&config)
    }

    /// Reads on in all files, and gives how far it has come, where that is further than before.
    fn follow_files(&self, taking: &mut Taking<'_>) -> Result<Option<BTreeMap<LogName, u64>>, Unwatched> {
        let folder = LogFolder::open(&taking.config.machine.log.directory)?;
        let before = taking.book.position()?;
        let mut position = before.clone();
        let (today, followed) = (day(taking.now), before.keys().map(|name| name.day).max());
        // All that came since it was read last, however long this process was down.
        let since = followed.map_or(today, |last| last.min(today)).yesterday().unwrap_or(Date::MIN);
        let until = today.tomorrow().unwrap_or(Date::MAX);
        let mut names: Vec<LogName> =
            folder.names()?.into_iter().filter(|name| (since..=until).contains(&name.day)).collect();
        // What this side wrote comes first: of the other, somebody else may have made more than can be followed.
        names.sort_by_key(|name| name.process.as_str() != "work");
        names.truncate(FILES);
        position.retain(|name, _| name.day >= since);
        for name in &names {
            let from = position.get(name).copied().unwrap_or(0);
            let end = folder.lines_from(name, (from, BYTES), |line, end| taking.read(name, line, end))?;
            if let Some(failed) = taking.failure.take() {
                return Err(failed);
            }
            position.extend(end.map(|end| (name.clone(), end)));
        }
        Ok((position != before).then_some(position))
    }

    /// The cases that nobody has closed.
    fn open_cases(&self) -> Result<Vec<Case>, SpoolError> {
        let known = self.watch.closed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cases = self.spool.incidents(|id| known.contains(id))?;
        for error in cases.unreadable.iter().take(TOLD) {
            tracing::error!(%error, "an incident's case cannot be read; find out who changed it");
        }
        let (closed, open): (Vec<Case>, Vec<Case>) =
            cases.read.into_iter().partition(|case| case.closed.is_some());
        let mut known = self.watch.closed.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(closed.into_iter().map(|case| case.id));
        Ok(open)
    }

    /// Tells once that a case was opened: a crash in between tells it twice.
    fn announce(&self, book: &Casebook, case: &mut Case) -> Result<(), Unwatched> {
        if case.announced {
            return Ok(());
        }
        if !case.kind.is_met_by_jobs() {
            self.log.append(&Record {
                institution: case.institution.as_ref().map(ToString::to_string),
                exchange: case.exchange.clone(),
                path: Some(format!("incidents/{}.json", case.id)),
                detail: Some(case.kind.code().to_owned()),
                ..Record::new(Event::Incident, Outcome::Denied)
            })?;
            self.metrics.incident(case.kind);
        }
        let text = |slug: &Option<Slug>| slug.as_ref().map_or("none".to_owned(), ToString::to_string);
        tracing::error!(
            incident = %case.id, institution = text(&case.institution), exchange = text(&case.exchange),
            report_by = %case.report_by, report_to = case.report_to.as_deref().unwrap_or("nobody that an agreement names"),
            "INCIDENT: {}; `dropzone incidents show` has what is known", case.kind.words()
        );
        case.announced = true;
        Ok(book.keep(case)?)
    }

    fn show(&self, config: &Config) -> Result<(), Unwatched> {
        let (mut counts, mut deadlines) = (BTreeMap::new(), BTreeMap::<String, Timestamp>::new());
        for case in self.open_cases()? {
            *counts.entry(case.kind).or_default() += 1;
            let known = case.exchange.filter(|exchange| config.exchanges.contains_key(exchange));
            let label = known.map_or(NO_EXCHANGE.to_owned(), String::from);
            deadlines
                .entry(label)
                .and_modify(|first| *first = case.report_by.min(*first))
                .or_insert(case.report_by);
        }
        self.watch.metrics.open(&counts, &deadlines, self.clock.now());
        Ok(())
    }
}

/// What every line has, as far as it tells whether more of it need be read.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
}

/// One look's cases, as far as something was found for them.
struct Taking<'a> {
    book: &'a Casebook,
    config: &'a Config,
    now: Timestamp,
    ids: BTreeSet<CaseId>,
    /// The newest case of each series; none where there is none.
    cases: BTreeMap<Series, Option<Case>>,
    changed: BTreeSet<Series>,
    failure: Option<Unwatched>,
}

impl<'a> Taking<'a> {
    fn new(book: &'a Casebook, config: &'a Config, now: Timestamp) -> Result<Self, SpoolError> {
        let (cases, changed) = Default::default();
        let ids = book.ids()?.into_iter().collect();
        Ok(Self { book, config, now, ids, cases, changed, failure: None })
    }

    /// A line of a day file. What is no record is for those who verify.
    fn read(&mut self, name: &LogName, line: &[u8], end: u64) {
        let Ok(glance) = serde_json::from_slice::<Glance<'_>>(line) else { return };
        if self.failure.is_some() || glance.outcome == "ok" && glance.event != "incident" {
            return;
        }
        let Ok(line) = serde_json::from_slice::<Line>(line) else { return };
        let Config { institutions, exchanges, .. } = self.config;
        let Some(sign) = sign_of(&line.record, Knowledge { institutions, exchanges }) else { return };
        let time = believed(line.time, name.day, self.now);
        let place = Place { file: name.clone(), seq: line.seq, end };
        self.failure = self.take(&Found { sign, time, place }).err().map(Unwatched::from);
    }

    /// Counts a sign where it belongs; opens a case where there is none that is open.
    fn take(&mut self, found: &Found) -> Result<(), SpoolError> {
        let day = found.place.file.day;
        for series in [Series::of(day, &found.sign), Series::collective(day, found.sign.kind)] {
            self.load(&series)?;
            let is_full = self.is_full(&series);
            match self.cases.get_mut(&series).and_then(Option::as_mut) {
                Some(case) if case.has_counted(&found.place) => return Ok(()),
                Some(case) if case.closed.is_none() => {
                    case.count(found);
                    self.changed.insert(series);
                    return Ok(());
                }
                _ if is_full => {}
                closed => {
                    let counted = closed.map(|case| case.counted.clone()).unwrap_or_default();
                    let Config { institutions, exchanges, .. } = self.config;
                    let zone = Knowledge { institutions, exchanges };
                    let duty = zone.duty(&found.sign, day);
                    let number = series.newest(&self.ids).saturating_add(1);
                    let case = Case::open((&series, number), found, duty, counted);
                    self.ids.insert(case.id.clone());
                    self.cases.insert(series.clone(), Some(case));
                    self.changed.insert(series);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether there are too many cases of this day and kind for another one; there is always room for the collective one.
    fn is_full(&self, series: &Series) -> bool {
        let of_the_day = series.of_the_day();
        let same = self.ids.iter().filter(|id| id.as_str().starts_with(&of_the_day)).count();
        !series.is_collective() && same >= CASES_A_DAY
    }

    /// Sees to it that the newest case of a series is at hand.
    fn load(&mut self, series: &Series) -> Result<(), SpoolError> {
        if !self.cases.contains_key(series) {
            let case = match series.newest(&self.ids) {
                0 => None,
                number => self.read_case(&series.id(number))?,
            };
            self.cases.insert(series.clone(), case);
        }
        Ok(())
    }

    /// One that was damaged is as good as closed: what comes next is a new case, and nobody can hide it in an old one.
    fn read_case(&self, id: &CaseId) -> Result<Option<Case>, SpoolError> {
        match self.book.case(id) {
            Err(error @ SpoolError::Unreadable { .. }) => {
                tracing::error!(%error, "an incident's case cannot be read; find out who changed it");
                Ok(None)
            }
            read => read,
        }
    }

    fn keep(&mut self) -> Result<(), SpoolError> {
        for series in std::mem::take(&mut self.changed) {
            if let Some(case) = self.cases.get(&series).and_then(Option::as_ref) {
                self.book.keep(case)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Tells the configured program of each case that was opened: one line of JSON on its standard input, again and again with growing
//! waits until it takes it, or the case is closed. How the program is run is `host::program`'s business. Whoever is to tell one
//! notes first that it is being told, so that no other node does too; the casebook is not held meanwhile.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{EVERY, Unwatched};
use crate::host::program;
use crate::host::spool::random;
use crate::policy::incident::case::{Case, CaseId, Telling};
use crate::policy::job::{Failure, Next, Tries, after_failure};
use crate::policy::path::Slug;
use crate::work::Workshop;

/// How long a program may take for one.
const PATIENCE: Duration = Duration::from_secs(30);
/// For so long a case is whoever's who began to tell it. Longer than a program may take.
const TURN: SignedDuration = SignedDuration::from_secs(60);
/// Told in one look.
const MOST: usize = 20;

/// What the program reads.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Message<'a> {
    /// The same whenever the same incident is told again.
    incident: &'a CaseId,
    kind: &'static str,
    what: &'static str,
    institution: Option<&'a str>,
    exchange: Option<&'a str>,
    agreement: Option<&'a str>,
    first: Timestamp,
    count: u64,
    report_by: Timestamp,
    report_to: Option<&'a str>,
}

/// Goes on until it is dropped.
pub(super) async fn go_on(workshop: &Arc<Workshop>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let of = Arc::clone(workshop);
        match spawn_blocking(move || of.tell_program()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "an incident cannot be handed to the program now; trying again")
            }
            Err(_) => tracing::error!("telling incidents ended in a defect of this program; trying again"),
        }
    }
}

impl Workshop {
    /// Tells what is due, until one is not taken: the next look goes on with the next. Blocks.
    pub(super) fn tell_program(&self) -> Result<(), Unwatched> {
        let argv = self.config().machine.incident_program.clone();
        if argv.is_empty() {
            return Ok(());
        }
        for _ in 0..MOST {
            let Some(case) = self.next_to_tell()? else { return Ok(()) };
            let told = program::hand_over(&argv, &message(&case), PATIENCE, &|| self.is_stopping());
            self.watch.metrics.told(told.is_ok());
            let was_taken = told.is_ok();
            self.note_telling(&case.id, told.err().map(|error| error.to_string()))?;
            if !was_taken || self.is_stopping() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes on the first that is due.
    fn next_to_tell(&self) -> Result<Option<Case>, Unwatched> {
        let now = self.clock.now();
        let is_due = |case: &Case| {
            case.announced
                && case.closed.is_none()
                && case.telling.taken.is_none()
                && case.telling.next <= now
        };
        let Some(id) = self.open_cases()?.into_iter().find(is_due).map(|case| case.id) else {
            return Ok(None);
        };
        let Some(book) = self.spool.casebook()? else { return Ok(None) };
        // Another node may have been faster.
        let Some(mut case) = book.case(&id)?.filter(is_due) else { return Ok(None) };
        case.telling.next = now.checked_add(TURN).unwrap_or(now);
        book.keep(&case)?;
        Ok(Some(case))
    }

    fn note_telling(&self, id: &CaseId, failed: Option<String>) -> Result<(), Unwatched> {
        let book = self.wait_for_casebook()?;
        let Some(mut case) = book.case(id)? else { return Ok(()) };
        let now = self.clock.now();
        case.telling = match failed {
            None => {
                tracing::info!(incident = %id, "an incident was handed to the program");
                Telling { taken: Some(now), ..Telling::default() }
            }
            Some(why) => {
                let made = case.telling.tries.saturating_add(1);
                let next = now.checked_add(wait_after(made)).unwrap_or(now);
                tracing::error!(incident = %id, tries = made, why, %next, "the program did not take an incident; trying again");
                Telling { taken: None, tries: made, next, why }
            }
        };
        Ok(book.keep(&case)?)
    }
}

fn wait_after(made: u32) -> SignedDuration {
    let hour = SignedDuration::from_hours(1);
    match after_failure(Tries { made, limit: u32::MAX }, Failure::Passing, random()) {
        Next::Retry { after } => SignedDuration::try_from(after).unwrap_or(hour),
        Next::Hold(_) => hour,
    }
}

fn message(case: &Case) -> Vec<u8> {
    let message = Message {
        incident: &case.id,
        kind: case.kind.code(),
        what: case.kind.words(),
        institution: case.institution.as_ref().map(Slug::as_str),
        exchange: case.exchange.as_ref().map(Slug::as_str),
        agreement: case.agreement.as_deref(),
        first: case.first,
        count: case.count,
        report_by: case.report_by,
        report_to: case.report_to.as_deref(),
    };
    // It has a form in JSON: texts, numbers and times.
    let mut line = serde_json::to_vec(&message).unwrap_or_default();
    line.push(b'\n');
    line
}

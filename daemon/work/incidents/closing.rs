//! Closes incidents, as operators decide, recorded with who asked and why before it takes effect; and removes those that were closed
//! long ago. An open one is never removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Unwatched;
use crate::host::control::{Answer, Closing, Operator};
use crate::host::process;
use crate::host::spool::{Casebook, SpoolError};
use crate::policy::incident::case::{Case, Closed};
use crate::policy::record::{Event, Outcome, Record, operator_reason};
use crate::policy::retention::{Kind, Thing};
use crate::policy::trust::Leave;
use crate::work::Workshop;

/// How long an operator waits for whoever changes cases now: a look takes much less.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(50);

/// Does what an operator asked at the control socket.
pub(in crate::work) async fn perform(
    workshop: Arc<Workshop>,
    closing: Closing,
    operator: Operator,
) -> Answer {
    Answer::of(tokio::task::spawn_blocking(move || workshop.close_incident(&closing, &operator))).await
}

impl Workshop {
    /// Closes one; what was done, or why not. Blocks.
    pub(super) fn close_incident(&self, closing: &Closing, operator: &Operator) -> Result<String, String> {
        let id = &closing.incident;
        let reason = operator_reason(&closing.reason).ok_or("closing needs a reason, which the log keeps")?;
        // `serve`, which the network could take over, may ask here too, and what it did may be the incident.
        if operator.user() != 0 && operator.user() != process::user() {
            tracing::error!(incident = %id, %operator, "refused: incidents are closed by root and the user of `work` only");
            return Err(
                "incidents are closed by root and the user of `work` only: run the command as one of them"
                    .to_owned(),
            );
        }
        let failed = |error: Unwatched| format!("{id}: {error}");
        let book = self.wait_for_casebook().map_err(failed)?;
        let case = book.case(id).map_err(|error| failed(error.into()))?;
        let Some(mut case) = case else { return Err(format!("there is no incident {id}")) };
        if let Some(Closed { at, operator, .. }) = &case.closed {
            return Err(format!("{id} was closed at {at} by {operator}"));
        }
        let record = |outcome| Record {
            operator: Some(operator.to_string()),
            detail: Some(reason.clone()),
            ..about(&case, Event::IncidentClose, outcome)
        };
        self.log.append(&record(Outcome::Ok)).map_err(|error| failed(error.into()))?;
        let undone = record(Outcome::Failed);
        let (at, operator) = (self.clock.now(), operator.to_string());
        tracing::info!(incident = %id, operator, "an operator closes an incident");
        case.closed = Some(Closed { at, operator, reason });
        if let Err(error) = book.keep(&case) {
            let _ = self.log.append(&undone);
            return Err(failed(error.into()));
        }
        Ok(format!("{id} is closed, after {} signs", case.count))
    }

    pub(super) fn wait_for_casebook(&self) -> Result<Casebook, Unwatched> {
        let begin = Instant::now();
        loop {
            match self.spool.casebook()? {
                Some(book) => return Ok(book),
                None if begin.elapsed() < PATIENCE => std::thread::sleep(AGAIN),
                None => return Err(SpoolError::Busy("the folder of the incidents".to_owned()).into()),
            }
        }
    }

    /// Removes those that were closed as long ago as receipts are kept, at most so many. Gives how many. Blocks.
    pub(in crate::work) fn expire_incidents(&self, leave: Leave, most: usize) -> Result<usize, Unwatched> {
        let rules = &self.config().retention;
        let due = |case: &Case| {
            case.closed.as_ref().is_some_and(|closed| {
                let thing = Thing { kind: Kind::Receipt, exchange: case.exchange.as_ref(), since: closed.at };
                rules.has_had_its_time(thing, leave)
            })
        };
        let cases: Vec<Case> =
            self.spool.incidents(|_| false)?.read.into_iter().filter(due).take(most).collect();
        if cases.is_empty() {
            return Ok(0);
        }
        let book = self.wait_for_casebook()?;
        for case in &cases {
            let detail = Some("a closed incident, which is kept as long as receipts".to_owned());
            self.log.append(&Record { detail, ..about(case, Event::Expire, Outcome::Ok) })?;
            book.remove(&case.id)?;
        }
        Ok(cases.len())
    }
}

fn about(case: &Case, event: Event, outcome: Outcome) -> Record {
    Record {
        institution: case.institution.as_ref().map(ToString::to_string),
        exchange: case.exchange.clone(),
        path: Some(format!("incidents/{}.json", case.id)),
        ..Record::new(event, outcome)
    }
}

//! What operators decide about arrivals that wait: to release or to discard a held one, to try a deferred one now. Each is
//! recorded, with the operator and the reason, before it takes effect. It is done here and not by the command, because here
//! the kernel says who asks, one process writes the log, and the receipt of what is discarded can be signed.
//!
//! The moves themselves are `host::spool::held`'s.

use std::io::Read;
use std::sync::{Arc, PoisonError};

use super::worker::is_lasting;
use super::{Unfinished, Workshop, record_about, record_of};
use crate::host::control::{Answer, Change, Course, Operator};
use crate::host::spool::{DiscardNote, Discarding, SpoolError};
use crate::policy::arrival::{Arrival, ArrivalId, State, receipt_name};
use crate::policy::path::{Folder, Name};
use crate::policy::published::signature_name;
use crate::policy::reason::Reason;
use crate::policy::receipt::{Explanation, Receipt, Verdict};
use crate::policy::record::{Event, Outcome, Record, operator_reason};
use crate::policy::signature::Namespace;

/// Longer than any receipt or signature, in bytes.
const RECEIPT_MAX: u64 = 1 << 20;

/// What an operator decided about an arrival.
struct Decision<'a> {
    id: &'a ArrivalId,
    operator: String,
    reason: String,
}

/// Does what an operator asked at the control socket.
pub(super) async fn perform(workshop: Arc<Workshop>, change: Change, operator: Operator) -> Answer {
    Answer::of(tokio::task::spawn_blocking(move || workshop.change(&change, &operator))).await
}

impl Workshop {
    /// Changes the course of an arrival; what was done, or why not.
    pub(super) fn change(&self, change: &Change, operator: &Operator) -> Result<String, String> {
        let Change { course, arrival: id, reason } = change;
        let reason = operator_reason(reason).ok_or("a change needs a reason, which the log keeps")?;
        let decision = Decision { id, operator: operator.to_string(), reason };
        let (is_held, is_deferred) =
            (self.spool.is_in(State::Hold, id), self.spool.is_in(State::Deferred, id));
        let state = if is_held { State::Hold } else { State::Deferred };
        if self.spool.is_handed_in_by(state, id, operator.user()) {
            tracing::error!(arrival = %id, %operator, ?course, "refused: the user that hands arrivals in does not decide about them");
            return Err(format!(
                "{id} was handed in by this very user: run the command as root or as the user of `work`"
            ));
        }
        let done = match course {
            Course::Release | Course::Retry if is_held => self.release(&decision),
            Course::Retry if is_deferred => self.retry(&decision),
            Course::Discard if is_held => self.discard(&decision),
            Course::Release | Course::Discard => {
                return Err(format!("{id} is not held; see `dropzone hold list`"));
            }
            Course::Retry => return Err(format!("{id} is neither deferred nor held; see `dropzone status`")),
        };
        let done = done.map_err(|error| format!("{id}: {error}"))?;
        tracing::info!(arrival = %id, operator = decision.operator, done, "an operator changed an arrival's course");
        Ok(format!("{id}: {done}"))
    }

    fn release(&self, decision: &Decision<'_>) -> Result<&'static str, Unfinished> {
        self.decide(Event::Release, State::Hold, decision)?;
        // Otherwise these would only be held again.
        match self.spool.hold_note(decision.id).ok().map(|note| note.reason) {
            Some(Reason::SameContentElsewhere) => {
                self.spool.allow_seen(&self.spool.arrival(State::Hold, decision.id)?, self.clock.now())?;
            }
            Some(Reason::Surplus { .. } | Reason::SurplusKey) => {
                self.allow_surplus(&self.spool.arrival(State::Hold, decision.id)?)?;
            }
            Some(_) | None => {}
        }
        let released = self.spool.release(decision.id);
        self.settle(Event::Release, decision, released.map(|was_held| was_held.then_some(())))?;
        Ok("released; it is worked on next, and its tries count anew")
    }

    fn retry(&self, decision: &Decision<'_>) -> Result<&'static str, Unfinished> {
        self.decide(Event::Retry, State::Deferred, decision)?;
        let moved = self.spool.retry(decision.id);
        self.settle(Event::Retry, decision, moved.map(|was_deferred| was_deferred.then_some(())))?;
        Ok("it is tried next")
    }

    fn discard(&self, decision: &Decision<'_>) -> Result<&'static str, Unfinished> {
        let _turn = self.discarding.lock().unwrap_or_else(PoisonError::into_inner);
        self.decide(Event::Discard, State::Hold, decision)?;
        let note = DiscardNote {
            arrival: decision.id.clone(),
            operator: decision.operator.clone(),
            reason: decision.reason.clone(),
            at: self.clock.now(),
            because: None,
        };
        let begun = self.spool.begin_discard(decision.id, &note);
        let discarding = self.settle(Event::Discard, decision, begun)?;
        match self.carry_through(&discarding) {
            Ok(()) => Ok("discarded; its payload is removed, and its receipt says so"),
            Err(error) => {
                tracing::error!(arrival = %decision.id, %error, "a discard is not carried through yet; trying again at the next scan");
                Ok(
                    "to be discarded: that is decided, but not carried through yet; it is tried again every few seconds, and the program log says why",
                )
            }
        }
    }

    /// Records what an operator decided, before it takes effect.
    fn decide(&self, event: Event, state: State, decision: &Decision<'_>) -> Result<(), Unfinished> {
        let arrival = self.spool.arrival(state, decision.id).ok();
        Ok(self.log.append(&record(event, Outcome::Ok, decision, arrival.as_ref()))?)
    }

    /// Records it if a decision came to nothing: somebody else moved the arrival first, or the spool failed.
    fn settle<T>(
        &self,
        event: Event,
        decision: &Decision<'_>,
        done: Result<Option<T>, SpoolError>,
    ) -> Result<T, Unfinished> {
        if let Ok(Some(done)) = done {
            return Ok(done);
        }
        self.log.append(&record(event, Outcome::Failed, decision, None))?;
        let moved = || SpoolError::Busy(format!("{}, which somebody else has just moved,", decision.id));
        Err(done.err().unwrap_or_else(moved).into())
    }

    /// Carries through what was decided before, perhaps before a crash or on a node that is no more. What cannot be done now is
    /// tried again at the next scan.
    pub(super) fn finish_discards(&self) {
        let Ok(_turn) = self.discarding.try_lock() else { return };
        let decided = self.spool.discarding().unwrap_or_else(|error| {
            tracing::error!(%error, "held arrivals cannot be listed");
            Vec::new()
        });
        for id in decided {
            match self.resume_discard(&id) {
                Ok(()) => {}
                Err(error) => tracing::error!(arrival = %id, %error, "a discard cannot be carried through"),
            }
        }
    }

    fn resume_discard(&self, id: &ArrivalId) -> Result<(), Unfinished> {
        let Some(found) = self.spool.resume_discard(id)? else { return Ok(()) };
        if found.note()?.is_none() {
            tracing::error!(arrival = %id, "its folder was renamed as if it were to be discarded, which no operator decided; it stays held");
            return Ok(found.undo()?);
        }
        self.carry_through(&found)?;
        tracing::info!(arrival = %id, "a discard that was decided before is carried through");
        Ok(())
    }

    /// Receipt first: while the payload is there, the sender has not been told that it is gone.
    pub(super) fn carry_through(&self, discarding: &Discarding<'_>) -> Result<(), Unfinished> {
        match discarding.arrival() {
            Ok(arrival) => {
                self.write_discarded(&arrival, discarding)?;
                self.spool.forget_seen(&arrival)?;
                self.spool.free_place(&arrival.id)?;
            }
            // Without its description nobody knows its name, so there is no receipt.
            Err(error) if is_lasting(&error) => {
                tracing::warn!(arrival = %discarding.id(), %error, "discarded without a receipt");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(discarding.finish()?)
    }

    fn write_discarded(&self, arrival: &Arrival, discarding: &Discarding<'_>) -> Result<(), Unfinished> {
        let before = self.receipt_before(arrival);
        // As decided and not as of now, so that the same receipt comes out however often this is tried.
        let note = discarding.note()?;
        let finished = note.as_ref().map_or_else(|| self.clock.now(), |note| note.at);
        let because = note.and_then(|note| note.because).unwrap_or(Reason::Discarded);
        let receipt = Receipt {
            finished: Some(finished),
            reason: Some(Explanation::from(&because)),
            job: before.as_ref().and_then(|receipt| receipt.job.clone()),
            quality: before.as_ref().and_then(|receipt| receipt.quality.clone()),
            // What one receiver got before another's failed stays true.
            deliveries: before.map(|receipt| receipt.deliveries).unwrap_or_default(),
            ..Receipt::of(arrival, &self.agreement(arrival), Verdict::Discarded)
        };
        self.write_unclaimed(arrival, &receipt)
    }

    /// What its receipt says so far, if it is this zone's own.
    fn receipt_before(&self, arrival: &Arrival) -> Option<Receipt> {
        let name = receipt_name(arrival);
        let text = self.beside_receipts(arrival, &name)?;
        let signature = self.beside_receipts(arrival, &signature_name(&name)?)?;
        self.signer.public().verify(Namespace::Receipt, &text, &signature).ok()?;
        // Another's could have been put in its place.
        serde_json::from_slice(&text).ok().filter(|receipt: &Receipt| receipt.arrival == arrival.id)
    }

    fn beside_receipts(&self, arrival: &Arrival, name: &Name) -> Option<Vec<u8>> {
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        let file = self.spool.open_file(institution, exchange, Folder::Receipts, name).ok()?;
        let mut text = Vec::new();
        file.take(RECEIPT_MAX).read_to_end(&mut text).ok()?;
        Some(text)
    }
}

fn record(event: Event, outcome: Outcome, decision: &Decision<'_>, arrival: Option<&Arrival>) -> Record {
    let bare = || record_about(event, outcome, decision.id);
    Record {
        operator: Some(decision.operator.clone()),
        detail: Some(decision.reason.clone()),
        ..arrival.map_or_else(bare, |arrival| record_of(event, outcome, arrival))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Zone;
    use super::super::turns::Waiting;
    use super::super::worker::End;
    use super::*;
    use crate::policy::receipt::Content;

    fn asked(course: Course, arrival: &Arrival) -> Change {
        Change { course, arrival: arrival.id.clone(), reason: " it was a test\n".into() }
    }

    fn operator() -> Operator {
        Operator::new(0, Some("alice"))
    }

    /// A list that cannot be joined, held.
    fn held(zone: &Zone) -> Arrival {
        let arrival = zone.drop_list(b"name\nx\n");
        zone.work(&arrival);
        assert_eq!(zone.state_of(&arrival), State::Hold);
        arrival
    }

    #[test]
    fn a_released_arrival_is_worked_on_again_with_all_its_tries() {
        let zone = Zone::new();
        let arrival = held(&zone);
        let told = zone.workshop.change(&asked(Course::Release, &arrival), &operator()).unwrap();
        assert!(told.contains("released"), "{told}");
        assert_eq!(zone.state_of(&arrival), State::Incoming);
        zone.work(&arrival);
        assert_eq!(zone.receipt(&arrival).job.unwrap().tries, 1);
        let again = zone.workshop.change(&asked(Course::Release, &arrival), &operator());
        assert!(again.is_ok(), "it is held again");
        let gone = zone.workshop.change(&asked(Course::Release, &arrival), &operator()).unwrap_err();
        assert!(gone.contains("is not held"), "{gone}");
    }

    #[test]
    fn a_discarded_arrival_leaves_a_signed_receipt_and_no_payload() {
        let zone = Zone::new();
        let arrival = held(&zone);
        zone.workshop.change(&asked(Course::Discard, &arrival), &operator()).unwrap();
        assert_eq!(zone.state_of(&arrival), State::Refused);
        let receipt = zone.receipt(&arrival);
        assert_eq!((receipt.verdict, receipt.content), (Verdict::Discarded, Content::NotKept));
        assert_eq!(receipt.reason.unwrap().code, "discarded");
        assert_eq!(receipt.job.unwrap().rows_in, Some(1), "what the receipt before said of the job stays");
        assert!(zone.workshop.receipt_before(&arrival).is_some(), "its signature fits");
        let folder = zone.workshop.spool.refused_path().join(arrival.id.to_string());
        assert!(folder.join("discard.json").exists() && !folder.join("payload.age").exists());
        let written = zone.events().iter().filter(|event| event.0 == Event::Receipt).count();
        zone.workshop.write_refusal(&arrival).unwrap();
        let now = zone.events().iter().filter(|event| event.0 == Event::Receipt).count();
        assert_eq!(written, now, "no refusal is told of it");
    }

    #[test]
    fn the_same_file_may_be_sent_again_once_it_is_discarded() {
        let zone = Zone::new();
        let payload = zone.encrypted(b"insz\n1\n");
        let first = zone.publish("pillar-3", Some("enrich"), "a.age", &payload);
        let register = zone.path().join("register.db");
        let away = zone.path().join("away");
        std::fs::rename(&register, &away).unwrap();
        zone.work(&first);
        zone.work_from(State::Deferred, &first);
        assert_eq!(zone.state_of(&first), State::Hold);
        std::fs::rename(&away, &register).unwrap();
        zone.workshop.change(&asked(Course::Discard, &first), &operator()).unwrap();
        let second = zone.publish("pillar-3", Some("enrich"), "b.age", &payload);
        assert_eq!(zone.work(&second), End::Done);
    }

    #[test]
    fn a_file_that_was_seen_elsewhere_is_worked_on_when_its_operator_releases_it() {
        let zone = Zone::new();
        let payload = zone.encrypted(b"insz\n1\n");
        let mut stolen = zone.arrival("pillar-3", Some("enrich"), "stolen.age", &payload);
        stolen.id = ArrivalId::parse(&stolen.id.to_string().replace(".agii.", ".atlas.")).unwrap();
        stolen.by.institution = stolen.id.institution().clone();
        let stolen = zone.publish_as(stolen, &payload);
        assert_eq!(zone.work(&stolen), End::Done, "nobody was before it");
        let ours = zone.publish("pillar-3", Some("enrich"), "ours.age", &payload);
        assert_eq!(zone.work(&ours), End::Held(Reason::SameContentElsewhere));
        zone.workshop.change(&asked(Course::Release, &ours), &operator()).unwrap();
        assert_eq!(zone.work(&ours), End::Done);
    }

    #[test]
    fn a_discard_that_a_crash_cut_short_is_carried_through_by_the_next_scan_with_the_same_receipt() {
        let zone = Zone::new();
        let arrival = held(&zone);
        let at = "2026-11-20T12:00:00Z".parse().unwrap();
        let (arrival_id, reason) = (arrival.id.clone(), "x".into());
        let note = DiscardNote { arrival: arrival_id, operator: "uid 0".into(), reason, at, because: None };
        let discarding = zone.workshop.spool.begin_discard(&arrival.id, &note).unwrap().unwrap();
        zone.workshop.write_discarded(&arrival, &discarding).unwrap();
        let before = zone.receipt(&arrival);
        drop(discarding);
        zone.workshop.finish_discards();
        assert_eq!(zone.state_of(&arrival), State::Refused);
        assert_eq!(zone.receipt(&arrival), before);
        assert_eq!(before.finished, Some(at));
    }

    #[test]
    fn what_an_operator_decides_is_recorded_first_and_otherwise_not_done() {
        let zone = Zone::new();
        let arrival = held(&zone);
        zone.workshop.change(&asked(Course::Release, &arrival), &operator()).unwrap();
        let last = zone.events().pop().unwrap();
        assert_eq!((last.0, last.1), (Event::Release, Outcome::Ok));
        zone.work(&arrival);
        let before = zone.events().len();
        for reason in ["", " \n\u{7}"] {
            let change = Change { reason: reason.into(), ..asked(Course::Discard, &arrival) };
            zone.workshop.change(&change, &operator()).unwrap_err();
        }
        assert_eq!((zone.state_of(&arrival), zone.events().len()), (State::Hold, before));
        let (folder, workshop) = zone.into_parts();
        // A folder in the file's place: nothing can be recorded any more.
        std::fs::rename(folder.path().join("log"), folder.path().join("gone")).unwrap();
        for course in [Course::Release, Course::Discard, Course::Retry] {
            workshop.change(&asked(course, &arrival), &operator()).unwrap_err();
        }
        assert_eq!(workshop.spool.list(State::Hold).unwrap(), [arrival.id]);
    }

    #[test]
    fn a_deferred_arrival_is_tried_at_once_with_the_tries_it_had() {
        let zone = Zone::new();
        let arrival = zone.drop_list(b"insz\n1\n");
        let claim = zone.workshop.spool.claim(State::Incoming, &arrival.id).unwrap().unwrap();
        claim.defer("2100-01-01T00:00:00Z".parse().unwrap(), 1).unwrap();
        drop(claim);
        assert_eq!(zone.workshop.spool.due(zone.workshop.clock.now()).unwrap(), []);
        zone.workshop.change(&asked(Course::Discard, &arrival), &operator()).unwrap_err();
        zone.workshop.change(&asked(Course::Retry, &arrival), &operator()).unwrap();
        let waiting = Waiting { state: State::Incoming, id: arrival.id.clone() };
        assert_eq!(zone.workshop.waiting().unwrap(), [waiting]);
        zone.work(&arrival);
        assert_eq!(zone.receipt(&arrival).job.unwrap().tries, 2);
        zone.workshop.change(&asked(Course::Retry, &arrival), &operator()).unwrap_err();
    }

    #[test]
    fn an_arrival_without_a_description_can_be_discarded_too() {
        let zone = Zone::new();
        let arrival = zone.drop_list(b"insz\n1\n");
        let path = zone.workshop.spool.incoming_path().join(arrival.id.to_string()).join("arrival.json");
        std::fs::write(path, "{").unwrap();
        zone.work(&arrival);
        zone.workshop.change(&asked(Course::Discard, &arrival), &operator()).unwrap();
        assert_eq!(zone.state_of(&arrival), State::Refused);
    }
}

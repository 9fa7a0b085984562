//! What becomes of an exchange whose agreement has ended: after its grace only evidence stays. Finished arrivals and results
//! that nobody collected go the way of what has had its time (`retention` asks here which exchanges are closed); held
//! arrivals are discarded, with a last receipt; and what its marks and pseudonyms were made with is destroyed. What waits in
//! `incoming` or `deferred` is held by its next try, for nothing moves any more, and goes with the held ones.
//!
//! The grace counts from when `work` noticed the end, too: a date that was mistyped in the configuration must not destroy
//! at once what nobody can bring back.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::{Unfinished, Workshop, record_about};
use crate::host::spool::{DiscardNote, Noticed, PassphraseKey, SpoolError};
use crate::policy::agreement::{Agreement, Exchange, Standing};
use crate::policy::arrival::{ArrivalId, State};
use crate::policy::path::Slug;
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::retention::Period;
use crate::policy::trust::Leave;

/// Who decides, in the note beside what is discarded.
const OPERATOR: &str = "the end of the agreement";

/// The exchanges of which only evidence stays, each with its agreement's last day.
pub(super) type Closed = BTreeMap<Slug, Date>;

impl Workshop {
    /// Looks which agreements have ended, and of which of them the grace is over. None under legal hold.
    pub(super) fn closed(&self, leave: Leave) -> Closed {
        let config = self.config();
        let mut closed = Closed::new();
        for exchange in config.exchanges.values() {
            match self.look_at_end(exchange, leave.now()) {
                Ok(Some(on)) if !config.retention.is_under_legal_hold(&exchange.name) => {
                    closed.insert(exchange.name.clone(), on);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, exchange = %exchange.name, "its agreement's end cannot be looked at");
                }
            }
        }
        closed
    }

    fn look_at_end(&self, exchange: &Exchange, now: Timestamp) -> Result<Option<Date>, SpoolError> {
        let Agreement { after_end, .. } = exchange.agreement;
        let Standing::Ended { on } = exchange.agreement.standing(self.clock.day_of(now)) else {
            return self.spool.forget_end(&exchange.name).map(|()| None);
        };
        let noticed = self.spool.notice_end(&exchange.name, Noticed { until: on, at: now })?;
        let since = noticed.at.max(self.clock.end_of(on));
        let grace = SignedDuration::try_from(after_end).unwrap_or(SignedDuration::MAX);
        Ok((now.duration_since(since) >= grace).then_some(on))
    }

    /// Does what retention does not. Once more is no harm, and finds nothing. Gives how many things went.
    pub(super) fn close(&self, closed: &Closed, leave: Leave) -> usize {
        let held = self.spool.list(State::Hold).unwrap_or_else(|error| {
            tracing::error!(%error, "held arrivals cannot be listed");
            Vec::new()
        });
        let mut gone = 0;
        let mut count = |exchange: &Slug, done: Result<usize, Unfinished>| match done {
            Ok(count) => gone += count,
            Err(error) => {
                tracing::error!(%error, %exchange, "what is left of an ended agreement cannot be removed; trying again in an hour");
            }
        };
        for (exchange, on) in closed {
            for id in held.iter().filter(|id| id.exchange() == exchange) {
                if self.is_stopping() {
                    return gone;
                }
                count(exchange, self.discard_ended(id, *on).map(usize::from));
            }
            count(exchange, self.destroy_keys(exchange, *on));
            count(exchange, self.drop_passphrases(exchange, *on));
            count(exchange, self.drop_ledgers(exchange, *on, leave));
        }
        gone
    }

    fn discard_ended(&self, id: &ArrivalId, on: Date) -> Result<bool, Unfinished> {
        let _turn = self.discarding.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(weight) = self.spool.weigh_held(id)? else { return Ok(false) };
        self.log.append(&Record {
            path: Some(weight.path),
            bytes: Some(weight.bytes),
            sha256: weight.sha256,
            detail: Some(format!("a held arrival: {}", ended(on))),
            ..record_about(Event::Expire, Outcome::Ok, id)
        })?;
        let note = DiscardNote {
            arrival: id.clone(),
            operator: OPERATOR.to_owned(),
            reason: ended(on),
            at: self.clock.now(),
            because: Some(Reason::AgreementEnded { on }),
        };
        let Some(discarding) = self.spool.begin_discard(id, &note)? else { return Ok(false) };
        self.carry_through(&discarding)?;
        Ok(true)
    }

    /// What makes pseudonyms and marks: without it, nobody can tell whose they are.
    fn destroy_keys(&self, exchange: &Slug, on: Date) -> Result<usize, Unfinished> {
        let record = |path: &str, bytes, sha256| Record {
            exchange: Some(exchange.clone()),
            path: Some(path.to_owned()),
            bytes: Some(bytes),
            sha256: Some(sha256),
            detail: Some(ended(on)),
            ..Record::new(Event::Destroy, Outcome::Ok)
        };
        let secret = self.spool.destroy_rhythm_secret(exchange, |path, bytes, sha256| {
            self.log.append(&record(path, bytes, sha256)).is_ok()
        })?;
        Ok(usize::from(secret) + usize::from(self.destroy_pseudonyms(exchange)?))
    }

    /// Also where the exchange keeps results, and so what opens them, for good.
    fn drop_passphrases(&self, exchange: &Slug, on: Date) -> Result<usize, Unfinished> {
        let mut gone = 0;
        for entry in self.spool.passphrases()?.iter().filter(|entry| entry.key.arrival.exchange() == exchange)
        {
            let PassphraseKey { arrival, to } = &entry.key;
            self.log.append(&Record {
                path: Some(format!("passphrases/{arrival}.{to}")),
                detail: Some(format!("the passphrase of a result: {}", ended(on))),
                ..record_about(Event::Expire, Outcome::Ok, arrival)
            })?;
            self.spool.drop_passphrase(&entry.key)?;
            gone += 1;
        }
        Ok(gone)
    }

    /// The count of what came is evidence, as receipts are, and kept as long.
    fn drop_ledgers(&self, exchange: &Slug, on: Date, leave: Leave) -> Result<usize, Unfinished> {
        let config = self.config();
        let kept = config.retention.exchanges.get(exchange).map_or(config.retention.periods, |of| of.periods);
        let Period::After(kept) = kept.receipts else { return Ok(0) };
        let kept = SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX);
        if leave.now().duration_since(self.clock.end_of(on)) <= kept {
            return Ok(0);
        }
        let record = |path: &str, bytes, sha256| {
            let record = Record {
                exchange: Some(exchange.clone()),
                path: Some(path.to_owned()),
                bytes: Some(bytes),
                sha256: Some(sha256),
                detail: Some(format!("a place in the rhythm: {}", ended(on))),
                ..Record::new(Event::Expire, Outcome::Ok)
            };
            !self.is_stopping() && self.log.append(&record).is_ok()
        };
        Ok(self.spool.drop_ledgers(exchange, record)?)
    }
}

/// For records.
pub(super) fn ended(on: Date) -> String {
    format!("the agreement ended on {on}")
}

#[cfg(test)]
mod tests;

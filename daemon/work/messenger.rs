//! Sees to the passphrases that are kept: hands them to the configured program, one after the other, again and again with
//! growing waits until it takes them, and removes those whose time has passed. What a program gets is one line of JSON on its
//! standard input; how it is run is `host::program`'s business.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::Workshop;
use super::end::Closed;
use super::passphrase::{JSON_ROOM, Locksmith, handing_out};
use crate::host::metrics::HandOver;
use crate::host::program;
use crate::host::spool::{HandingOver, HeldPassphrase, PassphraseEntry, PassphraseKey, random};
use crate::policy::job::{Failure, Next, Tries, after_failure};
use crate::policy::passphrase::{Kept, Passphrase};
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::retention::{Kind, Thing};
use crate::policy::trust::Leave;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// How long a program may take for one.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the program reads.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Message<'a> {
    /// The same whenever the same passphrase is handed over again.
    delivery: String,
    exchange: &'a str,
    to: &'a str,
    /// Where the receiver finds the file.
    path: String,
    title: Option<&'a str>,
    phone: Option<&'a str>,
    contact: Option<&'a str>,
    passphrase: &'a Passphrase,
}

/// Goes on until it is dropped.
pub(super) async fn go_on(workshop: &Arc<Workshop>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let of = Arc::clone(workshop);
        if spawn_blocking(move || of.hand_over_passphrases()).await.is_err() {
            tracing::error!("handing passphrases over ended in a defect of this program; trying again");
        }
    }
}

impl Workshop {
    /// Hands over what is due, until one is not taken: the next look goes on with the next. Blocks.
    pub(super) fn hand_over_passphrases(&self) {
        let ready = match self.ready_passphrases() {
            Ok(ready) => ready,
            Err(error) => return tracing::error!(%error, "the passphrases that are kept cannot be listed"),
        };
        let now = self.clock.now();
        let oldest = ready.iter().map(|entry| now.duration_since(entry.made)).max();
        self.passphrases.waiting(ready.len(), oldest.unwrap_or(SignedDuration::ZERO).unsigned_abs());
        let argv = self.config().machine.passphrase_program.clone();
        if argv.is_empty() {
            return;
        }
        let is_due = |entry: &&PassphraseEntry| {
            self.spool.handing_over(&entry.key).is_none_or(|handing_over| handing_over.next <= now)
        };
        for PassphraseEntry { key, .. } in ready.iter().filter(is_due) {
            if self.is_stopping() {
                return;
            }
            match self.hand_over(key, &argv, now) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(arrival = %key.arrival, to = %key.to, %error, "a passphrase cannot be handed over now");
                    return;
                }
            }
        }
    }

    /// Whether it was taken, or need not be.
    fn hand_over(&self, key: &PassphraseKey, argv: &[String], now: Timestamp) -> Result<bool, Locksmith> {
        let Some(held) = self.spool.hold_passphrase(key)? else { return Ok(true) };
        let kept = self.unseal(key, &held.sealed()?)?;
        // Before: what the program does with it cannot be taken back.
        self.log.append(&handing_out(&kept.locked, Outcome::Ok, "handed to the program"))?;
        match program::hand_over(argv, &self.message(&kept)?, PATIENCE, &|| self.is_stopping()) {
            Ok(()) => {
                tracing::info!(arrival = %key.arrival, to = %key.to, "a passphrase was handed to the program");
                self.passphrases.handed_over(HandOver::Program);
                held.remove()?;
                Ok(true)
            }
            Err(error) => self.put_off(&held, &kept, (&error.to_string(), now)).map(|()| false),
        }
    }

    fn put_off(
        &self,
        held: &HeldPassphrase<'_>,
        kept: &Kept,
        (why, now): (&str, Timestamp),
    ) -> Result<(), Locksmith> {
        let made = self.spool.handing_over(held.key()).map_or(0, |before| before.tries).saturating_add(1);
        let tries = Tries { made, limit: u32::MAX };
        let wait = match after_failure(tries, Failure::Passing, random()) {
            Next::Retry { after } => SignedDuration::try_from(after).unwrap_or(SignedDuration::from_hours(1)),
            Next::Hold(_) => SignedDuration::from_hours(1),
        };
        let next = now.checked_add(wait).unwrap_or(now);
        tracing::error!(arrival = %kept.locked.arrival, to = %kept.locked.to, tries = made, why, %next, "the program did not take a passphrase; trying again");
        self.passphrases.handed_over(HandOver::Failed);
        // Even where the log fails: without it there would be no wait.
        held.put_off(&HandingOver { tries: made, next, why: why.to_owned() })?;
        self.log.append(&handing_out(
            &kept.locked,
            Outcome::Failed,
            &format!("not handed to the program: {why}"),
        ))?;
        Ok(())
    }

    fn message(&self, Kept { locked, passphrase }: &Kept) -> Result<Zeroizing<Vec<u8>>, Locksmith> {
        let config = self.config();
        let institution = config.institutions.get(&locked.to);
        let message = Message {
            delivery: format!("{}.{}", locked.arrival, locked.to),
            exchange: locked.arrival.exchange().as_str(),
            to: locked.to.as_str(),
            path: locked.path(),
            title: institution.map(|institution| institution.title.as_str()),
            phone: institution.and_then(|institution| institution.phone.as_deref()),
            contact: institution.and_then(|institution| institution.contact.as_deref()),
            passphrase,
        };
        let mut line = Zeroizing::new(Vec::with_capacity(JSON_ROOM));
        serde_json::to_writer(&mut *line, &message).map_err(|_| Locksmith::Damaged)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Removes those that have outlived their results, and those of exchanges that are closed, at most so many. Gives how many.
    /// Blocks.
    pub(super) fn expire_passphrases(
        &self,
        leave: Leave,
        closed: &Closed,
        most: usize,
    ) -> Result<usize, Locksmith> {
        let due = |entry: &PassphraseEntry| {
            closed.contains_key(entry.key.arrival.exchange()) || self.has_outlived_its_result(entry, leave)
        };
        let mut removed = 0;
        for entry in self.spool.passphrases()?.into_iter().filter(due).take(most) {
            let PassphraseKey { arrival, to } = &entry.key;
            self.log.append(&Record {
                path: Some(format!("passphrases/{arrival}.{to}")),
                detail: Some("the passphrase of a result, which goes with it".to_owned()),
                ..super::record_about(Event::Expire, Outcome::Ok, arrival)
            })?;
            self.spool.drop_passphrase(&entry.key)?;
            removed += 1;
        }
        Ok(removed)
    }

    fn has_outlived_its_result(&self, entry: &PassphraseEntry, leave: Leave) -> bool {
        let (config, exchange) = (self.config(), entry.key.arrival.exchange());
        let thing = Thing { kind: Kind::Result, exchange: Some(exchange), since: entry.made };
        config.retention.has_had_its_time(thing, leave)
    }
}

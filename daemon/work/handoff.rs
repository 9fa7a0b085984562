//! Takes in what tools of this machine hand in under `handoff/‹exchange›/`, for the party that the exchange says: gated as an
//! upload is, copied, and published as one. A file is taken when it has looked the same for a moment; what cannot be taken for
//! a reason that passes stays where it is, what is refused leaves a receipt and goes. The source is removed last: after a
//! crash it is met again, with the arrival that it became.

mod reading;

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use self::reading::{copy, inspect};
use super::watch::watch;
use super::{Unfinished, Workshop, open, record_of};
use crate::host::backup::names::users;
use crate::host::spool::{Handed, Look, Partial, SpoolError};
use crate::policy::account::Who;
use crate::policy::agreement::{Collision, Exchange, Flow};
use crate::policy::arrival::{Arrival, ArrivalId, State, versioned_name};
use crate::policy::envelope::Envelope;
use crate::policy::path::{Folder, Name, Slug};
use crate::policy::question::{judge, when_published};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::upload::is_temporary;

/// How long a file looks the same before it is taken: longer than any tool pauses between two writes.
const QUIET: Duration = Duration::from_secs(2);
/// The same for one that has no whole end: a tool may be waiting for its source.
const LONG_QUIET: Duration = Duration::from_secs(120);
/// Between two looks that events ask for.
const PAUSE: Duration = Duration::from_millis(100);
/// Files looked at in one exchange at a time.
const FILES: usize = 1_000;
/// Uploads of one name in progress at a time, under names made different.
const VERSIONS: u32 = 1_000;
/// In place of a session and of a key in records and receipts.
const SESSION: &str = "handoff";

/// The files that are watched: how each looks, and since when.
#[derive(Debug, Default)]
pub(super) struct Watched(HashMap<(Slug, Name), Waiting>);

#[derive(Debug, Clone)]
struct Waiting {
    look: Look,
    since: Instant,
    told: Option<&'static str>,
}

/// What becomes of a file.
enum Fate {
    /// It is gone from the folder.
    Settled,
    /// It stays, for this.
    Stays(&'static str),
}

/// Looks after the folders, until it is dropped.
pub(super) async fn keep_up(workshop: &Arc<Workshop>) {
    let (wake, watched) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Watched::default())));
    let (_, exchanges) = workshop.handing();
    let folders: Vec<_> =
        exchanges.iter().filter_map(|(exchange, _)| workshop.spool.own_handoff(exchange).ok()).collect();
    let folders: Vec<_> = folders.iter().map(std::path::PathBuf::as_path).collect();
    let _watcher = watch(&folders, Arc::clone(&wake));
    loop {
        let (of, watched) = (Arc::clone(workshop), Arc::clone(&watched));
        let done = spawn_blocking(move || {
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            of.take_handed(&mut watched, Instant::now());
        });
        if done.await.is_err() {
            tracing::error!("looking for what was handed in ended in a defect of this program");
        }
        tokio::select! {
            () = wake.notified() => tokio::time::sleep(PAUSE).await,
            () = tokio::time::sleep(workshop.config().machine.work.scan_every) => {}
        }
    }
}

impl Workshop {
    /// The exchanges that files are handed in for, and whose they are.
    fn handing(&self) -> (Arc<crate::config::Config>, Vec<(Slug, Slug)>) {
        let config = self.config();
        let handing = config.exchanges.values();
        let handing = handing.filter_map(|exchange| Some((exchange.name.clone(), exchange.handoff.clone()?)));
        let handing = handing.collect();
        (config, handing)
    }

    /// Takes what has looked the same for long enough before `now`.
    pub(super) fn take_handed(&self, watched: &mut Watched, now: Instant) {
        let (config, handing) = self.handing();
        let mut there = HashMap::new();
        for (exchange, party) in handing {
            let Some(exchange) = config.exchanges.get(&exchange) else { continue };
            let found = self.spool.own_handoff(&exchange.name);
            let found = match found.and_then(|_| self.spool.handed_in(&exchange.name, FILES)) {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(%error, exchange = %exchange.name, "what was handed in cannot be looked for");
                    continue;
                }
            };
            for handed in found {
                if self.is_stopping() {
                    return;
                }
                let key = (exchange.name.clone(), handed.name.clone());
                let before = watched.0.get(&key).filter(|waiting| waiting.look == handed.look).cloned();
                let mut waiting = before.unwrap_or(Waiting { look: handed.look, since: now, told: None });
                let quiet = now.saturating_duration_since(waiting.since);
                if quiet >= QUIET && !is_temporary(&handed.name) {
                    match self.take((exchange, &party), &handed, quiet) {
                        Ok(Fate::Settled) => continue,
                        Ok(Fate::Stays(why)) => tell(exchange, &handed, &mut waiting, why),
                        Err(error) => {
                            tracing::error!(%error, exchange = %exchange.name, file = %handed.name, "what was handed in could not be taken; trying again");
                        }
                    }
                }
                there.insert(key, waiting);
            }
        }
        watched.0 = there;
    }

    fn take(
        &self,
        (exchange, party): (&Exchange, &Slug),
        handed: &Handed,
        quiet: Duration,
    ) -> Result<Fate, Unfinished> {
        if !handed.look.is_plain() {
            return Ok(Fate::Stays("it is no file, or a link: put a file of its own there"));
        }
        let file = match self.spool.open_handed(&exchange.name, handed) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Fate::Stays("it changed while it was looked at")),
            Err(error) if is_forbidden(&error) => {
                return Ok(Fate::Stays(
                    "work may not read it: let the folder's group read its files, and put work into that group",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        let arrival = self.described(exchange, party, handed);
        let (flow, envelope, sha256) = match self.gate((exchange, party), handed, &file)? {
            Ok(passed) => passed,
            Err(Reason::FlowNotReady) => {
                return Ok(Fate::Stays("a receiver of its flow has no recipient yet"));
            }
            Err(Reason::CutShort | Reason::Empty) if quiet < LONG_QUIET => {
                return Ok(Fate::Stays("it has no whole end yet"));
            }
            Err(reason) => {
                return self.refuse_handed(exchange, handed, Arrival { refused: Some(reason), ..arrival });
            }
        };
        let (flow_name, armored) = (Some(flow.name.clone()), envelope.is_armored());
        let arrival = Arrival { flow: flow_name, sha256: Some(sha256), armored, ..arrival };
        self.publish_handed((exchange, flow), handed, (&file, &envelope), arrival)
    }

    /// What an upload's gate and its last step ask, asked at once. Its outer error is the disk's.
    fn gate<'e>(
        &self,
        (exchange, party): (&'e Exchange, &'e Slug),
        handed: &Handed,
        file: &File,
    ) -> Result<Result<(&'e Flow, Envelope, String), Reason>, SpoolError> {
        let flow = match exchange
            .require_open(self.clock.today())
            .and_then(|()| exchange.flow_taking(party, &handed.name))
        {
            Ok(flow) => flow,
            Err(reason) => return Ok(Err(reason)),
        };
        if handed.look.size() > flow.accept.max_size {
            return Ok(Err(Reason::TooLarge { limit: flow.accept.max_size }));
        }
        let (inspected, sha256) = inspect(file, flow, handed)?;
        Ok(inspected.and_then(|(envelope, header)| {
            if let Some(unasked) = when_published(flow) {
                // Nobody has to be asked: the identities are here.
                let _known = judge(Some(open::opens(&header, &self.identities)), unasked)?;
            }
            Ok((flow, envelope, sha256))
        }))
    }

    fn publish_handed(
        &self,
        (exchange, flow): (&Exchange, &Flow),
        handed: &Handed,
        (file, envelope): (&File, &Envelope),
        arrival: Arrival,
    ) -> Result<Fate, Unfinished> {
        let party = arrival.id.institution().clone();
        if let Err(error) = self.spool.require_room() {
            tracing::warn!(%error, "no room for what was handed in");
            return Ok(Fate::Stays("the spool has no room for it"));
        }
        for name in names(&handed.name, flow.accept.collision) {
            if exchange.flow_for(&party, &name).map(|flow| &flow.name) != Some(&flow.name) {
                break;
            }
            // Whoever has a name's place is the only one who can publish under it, here and in `serve`.
            let partial = match self.spool.create_partial(&party, &exchange.name, &name) {
                Ok(partial) => partial,
                Err(SpoolError::Busy(_)) => return Ok(Fate::Stays("an upload of its name is under way")),
                Err(error) => return Err(error.into()),
            };
            let there = self.spool.in_progress(&party, &exchange.name, &name)?;
            let digest = arrival.sha256.as_deref().unwrap_or_default();
            let is_same = |sha256: &Option<String>| sha256.as_deref() == Some(digest);
            let same = match &there {
                Some(there) if is_same(&there.sha256) => Some(there.id.clone()),
                Some(there) if there.is_in_the_way() => {
                    partial.remove()?;
                    continue;
                }
                Some(_) | None => {
                    self.spool.finished(&party, &exchange.name, &name, digest, self.clock.now())
                }
            };
            if let Some(same) = same {
                partial.remove()?;
                return self.repeat_handed(exchange, handed, &arrival, &same);
            }
            return self.publish_copy(
                exchange,
                handed,
                (file, envelope),
                (partial, Arrival { name, ..arrival }),
            );
        }
        Ok(Fate::Stays("an arrival of its name is still in progress"))
    }

    fn publish_copy(
        &self,
        exchange: &Exchange,
        handed: &Handed,
        (file, envelope): (&File, &Envelope),
        (mut partial, arrival): (Partial, Arrival),
    ) -> Result<Fate, Unfinished> {
        let copied = copy(file, &mut partial, arrival.size)?;
        let is_what_was_inspected = arrival.sha256.as_ref() == Some(&copied);
        if !is_what_was_inspected || self.is_stopping() {
            partial.remove()?;
            return Ok(Fate::Stays("it changed while it was looked at"));
        }
        let from =
            (handed.name != arrival.name).then(|| format!("handed in as {}, which is in use", handed.name));
        // Recorded before it is done, as an upload is.
        self.log.append(&Record {
            path: Some(format!("/{}/{}/{}", exchange.name, Folder::In.as_str(), arrival.name)),
            detail: Some(from.unwrap_or_else(|| "handed in on this machine".to_owned())),
            ..record_of(Event::Publish, Outcome::Ok, &arrival)
        })?;
        self.spool.publish(partial, envelope, &arrival).map_err(|unpublished| unpublished.error)?;
        self.spool.remove_handed(&exchange.name, handed)?;
        tracing::info!(arrival = %arrival.id, by = arrival.by.label, "a file that was handed in became an arrival");
        Ok(Fate::Settled)
    }

    /// The same content is here already, most likely because this process ended before it removed the source.
    fn repeat_handed(
        &self,
        exchange: &Exchange,
        handed: &Handed,
        arrival: &Arrival,
        same: &ArrivalId,
    ) -> Result<Fate, Unfinished> {
        self.log.append(&Record {
            path: Some(format!("/{}/{}/{}", exchange.name, Folder::In.as_str(), arrival.name)),
            arrival: Some(same.to_string()),
            detail: Some("handed in on this machine; the same as this arrival".to_owned()),
            ..record_of(Event::Close, Outcome::Ok, arrival)
        })?;
        self.spool.remove_handed(&exchange.name, handed)?;
        Ok(Fate::Settled)
    }

    fn refuse_handed(
        &self,
        exchange: &Exchange,
        handed: &Handed,
        arrival: Arrival,
    ) -> Result<Fate, Unfinished> {
        // After a crash the description may be there already: the same file has the same id.
        if self.spool.arrival(State::Refused, &arrival.id).is_err() {
            let record = Record {
                path: Some(format!("/{}/{}/{}", exchange.name, Folder::In.as_str(), arrival.name)),
                detail: Some("handed in on this machine".to_owned()),
                ..record_of(Event::Refuse, Outcome::Denied, &arrival)
            };
            let record = arrival.refused.iter().fold(record, Record::because);
            self.log.append(&record)?;
            self.spool.refuse(None, &arrival)?;
        }
        self.spool.remove_handed(&exchange.name, handed)?;
        tracing::warn!(arrival = %arrival.id, by = arrival.by.label, reason = arrival.refused.as_ref().map(Reason::code), "a file that was handed in was refused");
        Ok(Fate::Settled)
    }

    /// Its description, refused or not.
    fn described(&self, exchange: &Exchange, party: &Slug, handed: &Handed) -> Arrival {
        let (look, now) = (&handed.look, self.clock.now());
        let received = look.changed().min(now);
        let owner = users().remove(&look.owner()).unwrap_or_else(|| format!("uid {}", look.owner()));
        Arrival {
            id: ArrivalId::new(received, &handed.name, look.number(), party, &exchange.name),
            name: handed.name.clone(),
            flow: None,
            size: look.size(),
            sha256: None,
            armored: false,
            by: Who { institution: party.clone(), label: owner, fingerprint: SESSION.to_owned() },
            session: SESSION.to_owned(),
            opened: received,
            received,
            mtime: look.modified(),
            refused: None,
        }
    }
}

/// The names that a file may be published under, its own first.
fn names(name: &Name, collision: Collision) -> impl Iterator<Item = Name> {
    let most = match collision {
        Collision::Reject => 1,
        Collision::Version => VERSIONS,
    };
    let versions = 2..=most;
    std::iter::once(name.clone()).chain(versions.map_while(|number| versioned_name(name, number)))
}

fn is_forbidden(error: &SpoolError) -> bool {
    matches!(error, SpoolError::Io { cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied)
}

/// Once for each reason.
fn tell(exchange: &Exchange, handed: &Handed, waiting: &mut Waiting, why: &'static str) {
    if waiting.told != Some(why) {
        waiting.told = Some(why);
        tracing::warn!(exchange = %exchange.name, file = %handed.name, why, "what was handed in stays where it is for now");
    }
}

#[cfg(test)]
mod tests;

//! What lies in the spool until its time has passed: finding it, weighing it for its record, and removing it. When its time
//! has passed is `policy::retention`'s question; recording comes between weighing and removing, and is `work::retention`'s.
//!
//! An arrival leaves its state by a rename, to `‹id›.expired`, before its files go: what a crash leaves of it is no arrival
//! any more, and is found and finished by the next look.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::publish::remove_arrival;
use super::{ARRIVAL, Attempt, Directory, PAYLOAD, Spool, SpoolError, read_arrival};
use crate::host::files::digest;
use crate::policy::arrival::{ArrivalId, EXPIRED, State, receipt_name};
use crate::policy::path::{Folder, Slug};
use crate::policy::published::{ALLOWED_SIGNERS, README};
use crate::policy::retention::Kind;
use crate::policy::signature;

/// Something whose time has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resting {
    /// What it is.
    pub kind: Kind,
    /// Whose.
    pub institution: Option<Slug>,
    /// Of which exchange.
    pub exchange: Option<Slug>,
    /// Of which arrival.
    pub arrival: Option<ArrivalId>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A folder of a state.
    Arrival(State, String),
    /// Files that go together, in this order.
    Files(Where, Vec<(String, Identity)>),
}

/// A folder that an institution sees of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Where(Slug, Slug, Folder);

/// Which file a name means, and when it was last written: a receipt may be replaced while it is looked at.
type Identity = (u64, i64, u64);

/// What a record says of something that is about to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// As the institution knows it, or, what no institution sees, the operator.
    pub path: String,
    /// How much.
    pub bytes: u64,
    /// Of an arrival, its encrypted file's, or, without one, its description's.
    pub sha256: Option<String>,
}

/// Whether something of an exchange whose time counts from then has had it.
pub type IsDue<'a> = &'a dyn Fn(Option<&Slug>, Timestamp) -> bool;

impl Spool {
    /// What has had its time, oldest first as far as its names tell, and no more than so much at once.
    pub fn find_due(&self, kind: Kind, is_due: IsDue<'_>, most: usize) -> Result<Vec<Resting>, SpoolError> {
        match kind {
            // `serve` sees to the ones, which may have a session that goes on with them; `seen` has its own way with the others.
            Kind::Partial | Kind::Digest => Ok(Vec::new()),
            Kind::Refused => self.due_arrivals(State::Refused, is_due, most),
            Kind::Done => self.due_arrivals(State::Done, is_due, most),
            Kind::Result => self.due_files((&self.outbox, Folder::Out), kind, is_due, most),
            Kind::Receipt | Kind::HeadCopy => {
                self.due_files((&self.receipts, Folder::Receipts), kind, is_due, most)
            }
        }
    }

    /// Its names, lengths and digests; reads it all. None if it is gone, or was written anew since it was found.
    pub fn weigh(&self, resting: &Resting) -> Result<Vec<Weight>, SpoolError> {
        match &resting.place {
            Place::Arrival(state, name) => {
                let folder = match self.state(*state).directory(name) {
                    Err(Errno::NOENT) => return Ok(Vec::new()),
                    other => other.attempt("open", || name.clone())?,
                };
                weigh_arrival(&folder, *state, name, resting.arrival.as_ref()).map(|weight| vec![weight])
            }
            Place::Files(place, files) => {
                let folder = self.folder_at(place)?;
                let mut weights = Vec::new();
                for (name, identity) in files {
                    if !is_same(&folder, name, *identity) {
                        return Ok(Vec::new());
                    }
                    let file = folder.file(name).attempt("open", || place.shown(name))?;
                    let (bytes, sha256) = digest(file).attempt("read", || place.shown(name))?;
                    weights.push(Weight { path: place.shown(name), bytes, sha256: Some(sha256) });
                }
                Ok(weights)
            }
        }
    }

    /// The same of a held arrival; none if it is not held any more.
    pub fn weigh_held(&self, id: &ArrivalId) -> Result<Option<Weight>, SpoolError> {
        let name = id.to_string();
        match self.state(State::Hold).directory(&name) {
            Ok(folder) => weigh_arrival(&folder, State::Hold, &name, Some(id)).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).attempt("open", || name),
        }
    }

    /// Removes it for good. What is gone already is removed; what was written anew stays.
    pub fn remove(&self, resting: &Resting) -> Result<(), SpoolError> {
        match &resting.place {
            Place::Arrival(state, name) => self.remove_whole(*state, name),
            Place::Files(place, files) => {
                let folder = self.folder_at(place)?;
                for (name, identity) in files {
                    if is_same(&folder, name, *identity) {
                        folder.remove_if_there(name).attempt("remove", || place.shown(name))?;
                    }
                }
                folder.sync().attempt("sync", || place.shown(""))
            }
        }
    }

    fn remove_whole(&self, state: State, name: &str) -> Result<(), SpoolError> {
        let folder = self.state(state);
        let mut going = name.to_owned();
        if !name.ends_with(EXPIRED) {
            going.push_str(EXPIRED);
            match folder.move_to(name, folder, &going) {
                Ok(()) => folder.sync().attempt("sync", || going.clone())?,
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(super::exists_or(error, || going, "set aside")),
            }
        }
        match remove_arrival(folder, &going) {
            // Another node was at it too.
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }?;
        folder.sync().attempt("sync", || going)
    }

    fn due_arrivals(&self, state: State, is_due: IsDue<'_>, most: usize) -> Result<Vec<Resting>, SpoolError> {
        let folder = self.state(state);
        let entries = folder.entries().attempt("list", || state.as_str().to_owned())?;
        let mut old: Vec<(ArrivalId, String)> = entries
            .into_iter()
            .filter_map(|entry| {
                let id = ArrivalId::parse(entry.name.strip_suffix(EXPIRED).unwrap_or(&entry.name))?;
                // Nothing is older than its id says, so most need no further look.
                is_due(Some(id.exchange()), id.received()?).then_some((id, entry.name))
            })
            .collect();
        old.sort_unstable();
        let resting = |(id, name): (ArrivalId, String)| {
            if !name.ends_with(EXPIRED) && !self.has_had_its_time(state, &id, is_due) {
                return None;
            }
            Some(Resting {
                kind: if state == State::Refused { Kind::Refused } else { Kind::Done },
                institution: Some(id.institution().clone()),
                exchange: Some(id.exchange().clone()),
                arrival: Some(id),
                place: Place::Arrival(state, name),
            })
        };
        Ok(old.into_iter().filter_map(resting).take(most).collect())
    }

    /// From when it came into its state. A refusal waits until its receipt has been written.
    fn has_had_its_time(&self, state: State, id: &ArrivalId, is_due: IsDue<'_>) -> bool {
        let Ok(since) = self.since(state, id) else { return false };
        if !is_due(Some(id.exchange()), since) {
            return false;
        }
        let Ok(arrival) = self.arrival(state, id) else { return true };
        let has_receipt =
            || self.has_receipt(id.institution(), id.exchange(), &receipt_name(&arrival)).unwrap_or(true);
        state != State::Refused || has_receipt()
    }

    /// In `outbox` or `receipts`, folder by folder.
    fn due_files(
        &self,
        (top, of): (&Directory, Folder),
        kind: Kind,
        is_due: IsDue<'_>,
        most: usize,
    ) -> Result<Vec<Resting>, SpoolError> {
        let mut due = Vec::new();
        for (institution, folder) in folders(top)? {
            for (exchange, folder) in folders(&folder)? {
                let names = names(&folder)?;
                for name in names.iter().filter(|name| kind_of(of, name) == Some(kind)) {
                    let base = name.strip_suffix(signature::ENDING);
                    if of == Folder::Receipts && base.is_some_and(|base| names.contains(base)) {
                        // It goes with what it signs.
                        continue;
                    }
                    let Some(facts) = file_facts(&folder, name) else { continue };
                    if !is_due(Some(&exchange), written(&facts)) {
                        continue;
                    }
                    if due.len() >= most {
                        return Ok(due);
                    }
                    let signed = format!("{name}{}", signature::ENDING);
                    let signed = names.get(&signed).filter(|_| of == Folder::Receipts);
                    let signed = signed.and_then(|name| Some((name.clone(), file_facts(&folder, name)?)));
                    let files = [(name.clone(), facts)].into_iter().chain(signed);
                    due.push(Resting {
                        kind,
                        institution: Some(institution.clone()),
                        exchange: Some(exchange.clone()),
                        arrival: None,
                        place: Place::Files(
                            Where(institution.clone(), exchange.clone(), of),
                            files.map(|(name, facts)| (name, identity(&facts))).collect(),
                        ),
                    });
                }
            }
        }
        Ok(due)
    }

    fn folder_at(&self, place: &Where) -> Result<Directory, SpoolError> {
        let Where(institution, exchange, folder) = place;
        match folder {
            Folder::Out => self.outbox_of(institution, exchange),
            Folder::In | Folder::Receipts => self.receipts_of(institution, exchange),
        }
    }
}

impl Where {
    fn shown(&self, name: &str) -> String {
        format!("/{}/{}/{name}", self.1, self.2.as_str())
    }
}

/// What a file in a folder of an institution is; none for what stays there.
fn kind_of(of: Folder, name: &str) -> Option<Kind> {
    let signed = name.strip_suffix(signature::ENDING).unwrap_or(name);
    match of {
        Folder::Out => Some(Kind::Result),
        Folder::In | Folder::Receipts if [ALLOWED_SIGNERS, README].contains(&name) => None,
        Folder::In | Folder::Receipts if signed.starts_with("log-") && signed.ends_with(".head") => {
            Some(Kind::HeadCopy)
        }
        Folder::In | Folder::Receipts => Some(Kind::Receipt),
    }
}

/// Of an arrival: its name as its institution gave it, and its encrypted file.
fn weigh_arrival(
    folder: &Directory,
    state: State,
    name: &str,
    id: Option<&ArrivalId>,
) -> Result<Weight, SpoolError> {
    let arrival = id.and_then(|id| read_arrival(folder, id).ok());
    let path = match &arrival {
        Some(arrival) => format!("/{}/{}/{}", arrival.id.exchange(), Folder::In.as_str(), arrival.name),
        None => format!("{}/{name}", state.as_str()),
    };
    for file in [PAYLOAD, ARRIVAL] {
        match folder.file(file) {
            Ok(file) => {
                let (bytes, sha256) = digest(file).attempt("read", || name.to_owned())?;
                return Ok(Weight { path, bytes, sha256: Some(sha256) });
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).attempt("open", || format!("{name}/{file}")),
        }
    }
    Ok(Weight { path, bytes: 0, sha256: None })
}

/// The folders in a folder whose names are names of ours.
fn folders(top: &Directory) -> Result<Vec<(Slug, Directory)>, SpoolError> {
    let names = names(top)?.into_iter().filter_map(|name| Slug::parse(&name).ok());
    Ok(names.filter_map(|name| top.directory(name.as_str()).ok().map(|folder| (name, folder))).collect())
}

fn names(folder: &Directory) -> Result<BTreeSet<String>, SpoolError> {
    let entries = folder.entries().attempt("list", || "a folder of what is kept".to_owned())?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

/// None for what is no regular file.
fn file_facts(folder: &Directory, name: &str) -> Option<Stat> {
    let facts = folder.stat(name).ok()?;
    (FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile).then_some(facts)
}

fn written(facts: &Stat) -> Timestamp {
    Timestamp::from_second(facts.st_mtime).unwrap_or(Timestamp::MAX)
}

fn identity(facts: &Stat) -> Identity {
    (facts.st_ino, facts.st_mtime, facts.st_mtime_nsec)
}

fn is_same(folder: &Directory, name: &str, found: Identity) -> bool {
    file_facts(folder, name).is_some_and(|facts| identity(&facts) == found)
}

#[cfg(test)]
mod tests;

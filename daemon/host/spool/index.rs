//! Which arrivals of an institution are in progress, without reading the spool anew for every question: clients ask before
//! each upload, and folders may be large. The spool stays the truth, for several nodes share it: a listing is kept only
//! as long as its folder says that nothing has changed; the description of an arrival, which never changes, for longer.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Attempt, Directory, FileFacts, PAYLOAD, Spool, SpoolError, Stage};
use crate::policy::arrival::{Arrival, ArrivalId, State, name_digest};
use crate::policy::lease::arrival_in;
use crate::policy::path::{Name, Slug};

/// File systems tell times in steps, the coarsest of them of two seconds: a folder that is listed so soon after its last
/// change may change once more without showing it.
const STEP: Duration = Duration::from_secs(2);
/// Descriptions kept in memory, about 300 bytes each.
const DESCRIBED_MAX: usize = 150_000;
/// Arrivals remembered beyond their end, of all institutions together, and for how long: a client that lost the answer tries
/// again within a day.
const RECENT_MAX: usize = 10_000;
const RECENT: Duration = Duration::from_secs(24 * 3600);
/// How long a finished arrival's name still answers as a file. Longer would be in the way of who sends a new file under an
/// old name every few minutes: clients ask first what is there, and then want to overwrite it.
const A_MOMENT: Duration = Duration::from_secs(60);
/// An arrival that moves on while its folders are read one after the other can escape; then they are read again.
const LOOKS: usize = 3;

/// Arrivals by whose they are, and by what their ids hold of their names.
type Arrivals = HashMap<(Slug, Slug), HashMap<String, Vec<ArrivalId>>>;

/// An arrival in progress.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Which.
    pub id: ArrivalId,
    /// Where it was found; it may have moved on.
    pub state: State,
    /// What a listing says of it.
    pub facts: FileFacts,
    /// Lower-case hex of the encrypted file's SHA-256.
    pub sha256: Option<String>,
}

impl Standing {
    /// Whether other content has to take another name. Who sent what is held was told to mend it and to send it again.
    pub fn is_in_the_way(&self) -> bool {
        self.state != State::Hold
    }
}

/// What is kept in memory. Everything in it can be had again from the spool.
#[derive(Debug, Default)]
pub(super) struct Index {
    listings: [Mutex<Listing>; State::IN_PROGRESS.len()],
    described: Mutex<HashMap<ArrivalId, (FileFacts, Option<String>)>>,
    recent: Mutex<Recent>,
}

/// The arrivals in one state.
#[derive(Debug, Default)]
struct Listing {
    arrivals: Arc<Arrivals>,
    change: Option<Change>,
    /// When this change was first seen, and when the folder was last read.
    seen: Option<(Instant, Instant)>,
}

/// When a folder last changed, as the file system tells it: modification and change time, seconds and nanoseconds.
type Change = [(i64, u64); 2];

/// Institution, exchange and name.
type Key = (Slug, Slug, Name);

/// What is remembered of an arrival.
#[derive(Debug, Clone)]
struct Published {
    id: ArrivalId,
    sha256: String,
    size: u64,
    mtime: i64,
}

/// Where there is room for no more, the institution that has most of it forgets its oldest: nobody's are pushed out by
/// another's.
#[derive(Debug, Default)]
struct Recent {
    by_name: HashMap<Key, Published>,
    order: HashMap<Slug, VecDeque<(Key, ArrivalId)>>,
    count: usize,
}

impl Recent {
    fn add(&mut self, key: Key, published: Published, most: usize) {
        let id = published.id.clone();
        self.by_name.insert(key.clone(), published);
        self.order.entry(key.0.clone()).or_default().push_back((key, id));
        self.count += 1;
        while self.count > most {
            let Some(longest) = self.order.values_mut().max_by_key(|order| order.len()) else { break };
            let Some((key, id)) = longest.pop_front() else { break };
            self.count -= 1;
            if self.by_name.get(&key).is_some_and(|newest| newest.id == id) {
                self.by_name.remove(&key);
            }
        }
    }
}

/// The newest of each institution in turn, as many as there is room for, oldest first. `ids` are sorted.
fn fairly<'a>(ids: impl DoubleEndedIterator<Item = &'a ArrivalId>, most: usize) -> Vec<&'a ArrivalId> {
    let mut ranked: Vec<(usize, &ArrivalId)> = Vec::new();
    let mut counts: HashMap<&Slug, usize> = HashMap::new();
    for id in ids.rev() {
        let rank = counts.entry(id.institution()).or_default();
        ranked.push((*rank, id));
        *rank += 1;
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut taken: Vec<_> = ranked.into_iter().take(most).map(|(_, id)| id).collect();
    taken.sort_unstable();
    taken
}

impl Spool {
    /// The newest own arrival of this name that is in progress.
    pub fn in_progress(
        &self,
        institution: &Slug,
        exchange: &Slug,
        name: &Name,
    ) -> Result<Option<Standing>, SpoolError> {
        let (pair, digest) = ((institution.clone(), exchange.clone()), name_digest(name));
        for _ in 0..LOOKS {
            let before = self.changes()?;
            let mut found: Option<Standing> = None;
            for (state, arrivals) in self.listings()? {
                for id in arrivals.get(&pair).and_then(|own| own.get(&digest)).into_iter().flatten() {
                    let is_newer = found.as_ref().is_none_or(|found| found.id < *id);
                    if is_newer
                        && let Some(standing) = self.standing(state, id)
                        && &standing.facts.name == name
                    {
                        found = Some(standing);
                    }
                }
            }
            if found.is_some() || self.changes()? == before {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// All own arrivals that are in progress.
    pub fn all_in_progress(&self, institution: &Slug, exchange: &Slug) -> Result<Vec<FileFacts>, SpoolError> {
        let pair = (institution.clone(), exchange.clone());
        let mut all = Vec::new();
        for (state, arrivals) in self.listings()? {
            let own = arrivals.get(&pair).into_iter().flat_map(|own| own.values().flatten());
            all.extend(own.filter_map(|id| self.standing(state, id)).map(|standing| standing.facts));
        }
        Ok(all)
    }

    /// The encrypted file of an arrival in progress, to compare another with it. `None` where it has moved on.
    pub fn payload_of(&self, standing: &Standing) -> Option<File> {
        let folder = self.folder_of(standing.state, &standing.id).ok()?;
        folder.file(PAYLOAD).ok()
    }

    /// A finished arrival of the last day with this name and this SHA-256.
    pub fn finished(
        &self,
        institution: &Slug,
        exchange: &Slug,
        name: &Name,
        sha256: &str,
        now: Timestamp,
    ) -> Option<ArrivalId> {
        let key = (institution.clone(), exchange.clone(), name.clone());
        let Published { id, sha256: there, .. } = lock(&self.index.recent).by_name.get(&key).cloned()?;
        if there != sha256 || !is_within(RECENT, &id, now) {
            return None;
        }
        // What an operator took away is not there any more.
        self.state(State::Done).stat(&id.to_string()).ok().map(|_| id)
    }

    /// What was published under this name a moment ago, however far it has come by now. Clients with several connections
    /// upload on one and ask, or set the time, on another.
    pub fn just_published(
        &self,
        institution: &Slug,
        exchange: &Slug,
        name: &Name,
        now: Timestamp,
    ) -> Option<FileFacts> {
        let key = (institution.clone(), exchange.clone(), name.clone());
        let Published { id, size, mtime, .. } = lock(&self.index.recent).by_name.get(&key).cloned()?;
        let stage = Stage::InProgress(State::Incoming);
        is_within(A_MOMENT, &id, now).then(|| FileFacts { name: name.clone(), size, mtime, stage })
    }

    /// At start: what was finished within the last day.
    pub fn recall(&self, now: Timestamp) -> Result<(), SpoolError> {
        let done = self.list(State::Done)?;
        for id in fairly(done.iter().filter(|id| is_within(RECENT, id, now)), RECENT_MAX) {
            if let Ok(arrival) = self.arrival(State::Done, id) {
                self.remember(&arrival);
            }
        }
        Ok(())
    }

    /// An arrival was published.
    pub(super) fn remember(&self, arrival: &Arrival) {
        let Some(sha256) = arrival.sha256.clone() else { return };
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        let key = (institution.clone(), exchange.clone(), arrival.name.clone());
        let FileFacts { size, mtime, .. } = FileFacts::of(arrival);
        let published = Published { id: arrival.id.clone(), sha256, size, mtime };
        lock(&self.index.recent).add(key, published, RECENT_MAX);
    }

    fn listings(&self) -> Result<Vec<(State, Arc<Arrivals>)>, SpoolError> {
        let list = |(state, listing): (State, &Mutex<Listing>)| {
            let arrivals = listed((state, self.state(state)), &mut lock(listing));
            Ok((state, arrivals.attempt("list", || state.as_str().to_owned())?))
        };
        State::IN_PROGRESS.into_iter().zip(&self.index.listings).map(list).collect()
    }

    fn changes(&self) -> Result<[Change; State::IN_PROGRESS.len()], SpoolError> {
        let mut changes = [[(0, 0); 2]; State::IN_PROGRESS.len()];
        for (state, change) in State::IN_PROGRESS.into_iter().zip(&mut changes) {
            *change = last_change(self.state(state)).attempt("examine", || state.as_str().to_owned())?;
        }
        Ok(changes)
    }

    /// `None` where it moved on while we looked, or cannot be read.
    fn standing(&self, state: State, id: &ArrivalId) -> Option<Standing> {
        let known = lock(&self.index.described).get(id).cloned();
        let (mut facts, sha256) = match known {
            Some(known) => known,
            None => {
                let arrival = self.arrival(state, id).ok()?;
                let described = (FileFacts::of(&arrival), arrival.sha256);
                let mut all = lock(&self.index.described);
                if all.len() >= DESCRIBED_MAX {
                    all.clear();
                }
                all.insert(id.clone(), described.clone());
                described
            }
        };
        facts.stage = Stage::InProgress(state);
        Some(Standing { id: id.clone(), state, facts, sha256 })
    }
}

fn listed((state, folder): (State, &Directory), listing: &mut Listing) -> rustix::io::Result<Arc<Arrivals>> {
    let (now, change) = (Instant::now(), last_change(folder)?);
    let is_known = listing.change == Some(change);
    let first_seen = match listing.seen {
        Some((first, last)) if is_known => {
            if last.duration_since(first) > STEP {
                return Ok(Arc::clone(&listing.arrivals));
            }
            first
        }
        _ => now,
    };
    let mut arrivals = Arrivals::new();
    for id in folder.entries()?.iter().filter_map(|entry| arrival_in(state, &entry.name)) {
        let pair = (id.institution().clone(), id.exchange().clone());
        arrivals.entry(pair).or_default().entry(id.name_digest().to_owned()).or_default().push(id);
    }
    *listing = Listing { arrivals: Arc::new(arrivals), change: Some(change), seen: Some((first_seen, now)) };
    Ok(Arc::clone(&listing.arrivals))
}

fn last_change(folder: &Directory) -> rustix::io::Result<Change> {
    let facts = folder.stat_self()?;
    Ok([(facts.st_mtime, facts.st_mtime_nsec), (facts.st_ctime, facts.st_ctime_nsec)])
}

fn is_within(age: Duration, id: &ArrivalId, now: Timestamp) -> bool {
    id.received().is_some_and(|received| now.duration_since(received).unsigned_abs() < age)
}

/// What a panic left behind is a listing like any other, or one that its folder contradicts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::arrival::tests::arrival_named;

    fn spool() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let arrival = arrival_named("x");
        let pair = (arrival.id.institution().clone(), arrival.id.exchange().clone());
        let spool = Spool::open(folder.path(), &[pair]).unwrap();
        (folder, spool)
    }

    fn put(folder: &tempfile::TempDir, state: State, arrival: &Arrival) {
        let at = folder.path().join(state.as_str()).join(arrival.id.to_string());
        std::fs::create_dir(&at).unwrap();
        std::fs::write(at.join(super::super::ARRIVAL), serde_json::to_vec(arrival).unwrap()).unwrap();
    }

    fn found(spool: &Spool, arrival: &Arrival) -> Option<State> {
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        spool.in_progress(institution, exchange, &arrival.name).unwrap().map(|standing| standing.state)
    }

    #[test]
    fn every_move_shows_at_once_however_quickly_it_follows_on_a_look() {
        let (folder, spool) = spool();
        let arrival = arrival_named("list.age");
        assert_eq!(found(&spool, &arrival), None);
        put(&folder, State::Incoming, &arrival);
        for (from, to) in [
            (State::Incoming, State::Active),
            (State::Active, State::Deferred),
            (State::Deferred, State::Incoming),
            (State::Incoming, State::Hold),
            (State::Hold, State::Done),
        ] {
            assert_eq!(found(&spool, &arrival), Some(from));
            let at = |state: State| folder.path().join(state.as_str()).join(arrival.id.to_string());
            std::fs::rename(at(from), at(to)).unwrap();
        }
        assert_eq!(found(&spool, &arrival), None);
    }

    #[test]
    fn a_listing_is_kept_only_when_it_was_read_well_after_the_last_change() {
        let (folder, spool) = spool();
        let incoming = Directory::open(&folder.path().join("incoming")).unwrap();
        let mut listing = Listing::default();
        let read = |listing: &mut Listing| listed((State::Incoming, &incoming), listing).unwrap();
        let first = read(&mut listing);
        assert!(!Arc::ptr_eq(&first, &read(&mut listing)), "too soon to be sure");
        let (seen, last) = listing.seen.unwrap();
        listing.seen = Some((seen.checked_sub(STEP * 2).unwrap(), last));
        let kept = read(&mut listing);
        assert!(Arc::ptr_eq(&kept, &read(&mut listing)), "nothing has changed since");
        put(&folder, State::Incoming, &arrival_named("list.age"));
        assert_eq!(read(&mut listing).len(), 1, "something has");
        drop(spool);
    }

    fn published(second: i64, institution: &str) -> (Key, Published) {
        let slug = |text| Slug::parse(text).unwrap();
        let (name, exchange) = (Name::parse(&format!("{second}.age")).unwrap(), slug("x"));
        let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
        let id = ArrivalId::new(at, &name, 0, &slug(institution), &exchange);
        ((slug(institution), exchange, name), Published { id, sha256: String::new(), size: 0, mtime: 0 })
    }

    #[test]
    fn an_institution_with_many_files_does_not_push_anothers_out_of_memory() {
        let mut recent = Recent::default();
        let mut all = Vec::new();
        for (second, institution) in
            [(0, "few"), (1, "few")].into_iter().chain((2..100).map(|second| (second, "many")))
        {
            let (key, published) = published(second, institution);
            all.push(published.id.clone());
            recent.add(key, published, 10);
        }
        let mut kept: Vec<&ArrivalId> = recent.by_name.values().map(|published| &published.id).collect();
        kept.sort_unstable();
        let expected: Vec<&ArrivalId> = all.iter().take(2).chain(all.iter().skip(92)).collect();
        assert_eq!(kept, expected);
        assert_eq!(fairly(all.iter(), 10), expected, "after a restart too");
        assert_eq!(recent.order.values().map(VecDeque::len).sum::<usize>(), 10);
    }

    #[test]
    fn what_was_finished_is_recognised_for_a_day_and_while_it_is_there() {
        let (folder, spool) = spool();
        let arrival = Arrival { sha256: Some("ab".into()), ..arrival_named("list.age") };
        put(&folder, State::Done, &arrival);
        let (now, later) = (arrival.received, arrival.received + jiff::SignedDuration::from_hours(25));
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        let ask = |sha256, at| spool.finished(institution, exchange, &arrival.name, sha256, at);
        assert_eq!(ask("ab", now), None, "not known yet");
        spool.recall(now).unwrap();
        assert_eq!(ask("ab", now), Some(arrival.id.clone()));
        assert_eq!(ask("cd", now), None, "other content");
        assert_eq!(ask("ab", later), None, "long ago");
        std::fs::remove_dir_all(folder.path().join("done").join(arrival.id.to_string())).unwrap();
        assert_eq!(ask("ab", now), None, "an operator removed it");
    }
}

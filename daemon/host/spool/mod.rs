//! The spool: the one interface between `serve` and `work`. One arrival is one folder, the folder it lies in is its state,
//! and `rename(2)` of that folder is the only transition. `partial` is where an upload grows, `publish` how it becomes
//! an arrival, `claim` what a worker does with one, `staging` what leaves it, `nodes` who claims, `held` what an operator does,
//! `folders` what an institution sees of the results, `collected` which of them somebody has, `index` what it still has in progress, `seen` what was here before,
//! `handoff` what tools of this machine hand in, `passphrases` what opens some results, `incidents` what may have to be reported,
//! `ledger` which arrivals have a place in the rhythm of their flow, `terms` what is kept of an exchange beside that,
//! `small` how small files are written and whose they must be, `space` whether there is room, `orphans` what a crash left, `expire` what lies there until its time has passed.
//!
//! ```text
//! partial/‹institution›.‹exchange›/‹name›/payload.age     growing, seen by its own institution only
//! incoming | deferred | hold | done/‹id›/                 payload.age, arrival.json (+ tries.json, hold.json, result-….json)
//! active/‹id›.‹node›.‹token›/                             the same, and what its job makes; the name says who has claimed it
//! hold/‹id›.discard/                                      a held arrival on its way to refused
//! refused/‹id›/                                           arrival.json, no payload (+ hold.json, discard.json, result-….json)
//! outbox/‹institution›/‹exchange›/‹name›                  results to collect
//! receipts/‹institution›/‹exchange›/‹name›                one JSON per arrival, and its signature
//! collected/‹institution›.‹exchange›.‹digest›.json          results that were downloaded to the end and go after their grace
//! seen/‹first two hex›/‹sha256›.json                      which encrypted files were here before; `work`'s own
//! incidents/‹UTC day›-‹kind›-‹mark›.json               what may have to be reported, until an operator closes it; `work`'s own
//! rhythm/‹exchange›/‹flow›/‹number›                       which arrivals took a place in its rhythm; `work`'s own
//! handoff/‹exchange›/‹name›                           what tools of this machine hand in; `work`'s own
//! passphrases/‹id›.‹receiver›.age                         what opens a result that is locked with it; `work`'s alone
//! pseudonyms/‹exchange›.key                               what pseudonyms are made with; `work`'s own, never in a backup
//! nodes/‹node›.‹token›                                    locked, and counting, as long as that process claims
//! ```

mod claim;
mod collected;
mod error;
mod expire;
mod folders;
mod handoff;
mod held;
mod incidents;
mod index;
mod ledger;
mod nodes;
mod orphans;
mod partial;
mod passphrases;
mod pseudonyms;
mod publish;
mod seen;
mod small;
mod space;
mod staging;
mod terms;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;

pub use self::claim::{Claim, HoldNote};
pub use self::collected::{FileIdentity, Mark};
use self::error::Attempt;
pub use self::error::SpoolError;
pub use self::expire::{Resting, Weight};
pub use self::folders::{FileFacts, Stage};
pub use self::handoff::{Handed, Look};
pub use self::held::{DiscardNote, Discarding};
pub use self::incidents::{Casebook, Cases, cases_in};
pub use self::index::Standing;
pub use self::ledger::{Entered, Kept, Ledger, kept_in};
pub use self::nodes::Heartbeat;
pub use self::orphans::{Orphans, Swept};
pub use self::partial::Partial;
pub use self::passphrases::{HandingOver, HeldPassphrase, PassphraseEntry, PassphraseKey};
pub use self::publish::Unpublished;
pub use self::seen::Seen;
use self::small::{
    is_ours, is_ours_alone, is_unfinished, parse_json, read_json, read_own_json, temporary_name, to_json,
    write_durably,
};
pub use self::space::Room;
pub use self::staging::Delivered;
pub use self::terms::Noticed;
use super::directory::Directory;
use crate::policy::arrival::{Arrival, ArrivalId, State};
use crate::policy::lease::{Claimed, Owner, arrival_in};
use crate::policy::path::Slug;

/// The encrypted file of an arrival.
const PAYLOAD: &str = "payload.age";
/// `policy::arrival::Arrival` of an arrival.
const ARRIVAL: &str = "arrival.json";
/// What `serve` uses beside the states.
const SHARED: [&str; 5] = ["partial", "outbox", "receipts", "nodes", "collected"];

/// An open spool. All its calls block.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    top: Directory,
    partial: Directory,
    states: [Directory; State::ALL.len()],
    outbox: Directory,
    receipts: Directory,
    nodes: Arc<Directory>,
    index: index::Index,
    /// Under which name this process claims.
    me: OnceLock<Owner>,
    /// The arrivals that threads of this process have in hand.
    in_hand: Mutex<BTreeSet<ArrivalId>>,
    space: Arc<space::Space>,
}

impl Spool {
    /// Opens a spool, makes the folders it lacks, and refuses one that is spread over several mounts. `pairs` are the
    /// institutions with the exchanges they take part in.
    pub fn open(root: &Path, pairs: &[(Slug, Slug)]) -> Result<Self, SpoolError> {
        let top = Directory::open(root).map_err(|errno| {
            SpoolError::Unfit(format!(
                "the spool {} cannot be opened ({errno}): make the folder, or correct `spool` in dropzone.yaml",
                root.display()
            ))
        })?;
        let make = |name: &str| top.make(name).attempt("make", || name.to_owned());
        let [incoming, active, deferred, hold, done, refused] = State::ALL.map(|state| make(state.as_str()));
        let (partial, outbox, receipts) = (make("partial")?, make("outbox")?, make("receipts")?);
        let nodes = Arc::new(make("nodes")?);
        let spool = Self {
            path: root.to_owned(),
            top,
            partial,
            states: [incoming?, active?, deferred?, hold?, done?, refused?],
            outbox,
            receipts,
            nodes,
            index: index::Index::default(),
            me: OnceLock::new(),
            in_hand: Mutex::default(),
            space: Arc::default(),
        };
        spool.prepare(pairs)?;
        spool.require_one_mount()?;
        Ok(spool)
    }

    /// The folders of the spool that `serve` uses; the others are `work`'s own. They are made, as far as they can be, so that `serve`
    /// can be held to them.
    pub fn shared_folders(root: &Path) -> Vec<PathBuf> {
        let states = State::ALL.map(State::as_str);
        let names: Vec<&str> = states.into_iter().chain(SHARED).collect();
        if let Ok(top) = Directory::open(root) {
            // What cannot be made is reported by who needs it.
            names.iter().for_each(|name| drop(top.make(name)));
        }
        names.iter().map(|name| root.join(name)).collect()
    }

    /// Makes the folders that these institutions and exchanges lack.
    pub fn prepare(&self, pairs: &[(Slug, Slug)]) -> Result<(), SpoolError> {
        pairs.iter().try_for_each(|(institution, exchange)| self.make_folders(institution, exchange))
    }

    fn make_folders(&self, institution: &Slug, exchange: &Slug) -> Result<(), SpoolError> {
        for kind in [&self.outbox, &self.receipts] {
            kind.make(institution.as_str())
                .and_then(|folder| folder.make(exchange.as_str()))
                .attempt("make", || format!("{institution}/{exchange}"))?;
        }
        self.partial
            .make(&partial::folder_name(institution, exchange))
            .attempt("make", || partial::folder_name(institution, exchange))?;
        Ok(())
    }

    /// `rename(2)` and `link(2)` do not cross mounts, not even bind mounts of one file system.
    fn require_one_mount(&self) -> Result<(), SpoolError> {
        let mount_of = |folder: &Directory| {
            statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
                .map(|facts| facts.stx_mnt_id)
                .attempt("examine the mount of", || self.path.display().to_string())
        };
        let mount = mount_of(&self.top)?;
        // Not there before `work` ran once.
        let seen = self.top.directory(seen::SEEN).ok();
        let rhythm = self.top.directory(ledger::RHYTHM).ok();
        let passphrases = self.top.directory(passphrases::PASSPHRASES).ok();
        let folders = [&self.partial, &self.outbox, &self.receipts, &self.nodes];
        for folder in self.states.iter().chain(folders).chain(&seen).chain(&passphrases).chain(&rhythm) {
            if mount_of(folder)? != mount {
                return Err(SpoolError::Unfit(format!(
                    "the spool {} spans several mounts: mount the whole folder as one volume, because arrivals move by rename",
                    self.path.display()
                )));
            }
        }
        Ok(())
    }

    fn state(&self, state: State) -> &Directory {
        let [incoming, active, deferred, hold, done, refused] = &self.states;
        match state {
            State::Incoming => incoming,
            State::Active => active,
            State::Deferred => deferred,
            State::Hold => hold,
            State::Done => done,
            State::Refused => refused,
        }
    }

    /// The arrivals in a state, oldest first. Folders that are no arrivals are left out.
    pub fn list(&self, state: State) -> Result<Vec<ArrivalId>, SpoolError> {
        let entries = self.state(state).entries().attempt("list", || state.as_str().to_owned())?;
        let mut ids: Vec<_> = entries.iter().filter_map(|entry| arrival_in(state, &entry.name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// How many arrivals are in a state, and when the oldest of them was received. Cheaper than a list.
    pub fn census(&self, state: State) -> Result<(usize, Option<Timestamp>), SpoolError> {
        let (mut count, mut oldest) = (0, None::<String>);
        let look = |name: &str| {
            if ArrivalId::begins(name) {
                count += 1;
                // Names sort by time.
                if oldest.as_deref().is_none_or(|oldest| name < oldest) {
                    oldest = Some(name.to_owned());
                }
            }
        };
        self.state(state).each_name(look).attempt("list", || state.as_str().to_owned())?;
        Ok((count, oldest.and_then(|name| ArrivalId::time_of(&name))))
    }

    /// The deferred arrivals whose next try, the mtime of their `tries.json`, has come; also those that lost the file.
    pub fn due(&self, now: Timestamp) -> Result<Vec<ArrivalId>, SpoolError> {
        let is_due = |id: &ArrivalId| self.next_try(id).is_none_or(|next| next <= now);
        Ok(self.list(State::Deferred)?.into_iter().filter(is_due).collect())
    }

    /// When a deferred arrival is tried again.
    pub fn next_try(&self, id: &ArrivalId) -> Option<Timestamp> {
        // One system call, because it is asked of every deferred arrival at every scan.
        let facts = self.state(State::Deferred).stat_within(&id.to_string(), claim::TRIES);
        Timestamp::from_second(facts.ok()?.st_mtime).ok()
    }

    /// The description of an arrival.
    pub fn arrival(&self, state: State, id: &ArrivalId) -> Result<Arrival, SpoolError> {
        let folder = self.folder_of(state, id).attempt("open", || format!("{}/{id}", state.as_str()))?;
        read_arrival(&folder, id)
    }

    fn folder_of(&self, state: State, id: &ArrivalId) -> rustix::io::Result<Directory> {
        self.state(state).directory(&self.name_of(state, id)?)
    }

    /// The name of an arrival's folder: in `active`, whoever has it.
    fn name_of(&self, state: State, id: &ArrivalId) -> rustix::io::Result<String> {
        if state != State::Active {
            return Ok(id.to_string());
        }
        // Few are active at a time.
        let mut entries = self.state(state).entries()?.into_iter().map(|entry| entry.name);
        let is_it = |name: &String| Claimed::parse(name).is_some_and(|claimed| &claimed.id == id);
        entries.find(is_it).ok_or(Errno::NOENT)
    }

    /// When an arrival came into its state.
    pub fn since(&self, state: State, id: &ArrivalId) -> Result<Timestamp, SpoolError> {
        let facts = self.name_of(state, id).and_then(|name| self.state(state).stat(&name));
        let facts = facts.attempt("examine", || id.to_string())?;
        Ok(Timestamp::from_second(facts.st_mtime).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Why an arrival is held.
    pub fn hold_note(&self, id: &ArrivalId) -> Result<HoldNote, SpoolError> {
        let folder = self.state(State::Hold).directory(&id.to_string()).attempt("open", || id.to_string())?;
        read_json(&folder, claim::HOLD)
    }

    /// Where `work` watches for arrivals.
    pub fn incoming_path(&self) -> PathBuf {
        self.path.join(State::Incoming.as_str())
    }

    /// Where `work` watches for refusals.
    pub fn refused_path(&self) -> PathBuf {
        self.path.join(State::Refused.as_str())
    }

    /// Whether an open file is this process's user's.
    pub fn is_own(file: &std::fs::File) -> std::io::Result<bool> {
        Ok(is_ours(&rustix::fs::fstat(file)?))
    }

    /// From now on uploads leave so many bytes free, for what others write here.
    pub fn keep_free(&self, bytes: u64) {
        self.space.keep(bytes);
    }

    /// What is left for uploads.
    pub fn room(&self) -> Result<Room, SpoolError> {
        self.space.room(&self.partial).attempt("measure", || self.path.display().to_string())
    }

    /// Fails as a full disk does where an upload should not even begin.
    pub fn require_room(&self) -> Result<(), SpoolError> {
        let full = || Err(Errno::NOSPC).attempt("make room in", || self.path.display().to_string());
        if self.room()?.is_enough() { Ok(()) } else { full() }
    }

    /// Bytes that an unprivileged process can still write.
    pub fn free_bytes(&self) -> Result<u64, SpoolError> {
        let facts =
            rustix::fs::fstatvfs(&self.partial).attempt("measure", || self.path.display().to_string())?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
}

fn read_arrival(folder: &Directory, id: &ArrivalId) -> Result<Arrival, SpoolError> {
    let arrival: Arrival = read_json(folder, ARRIVAL)?;
    if &arrival.id == id {
        Ok(arrival)
    } else {
        Err(SpoolError::Unreadable {
            what: format!("{id}/{ARRIVAL}"),
            cause: format!("it describes {}", arrival.id),
        })
    }
}

/// Random bits for names; the kernel's generator does not fail once the machine is up.
pub fn random() -> u64 {
    let mut bytes = [0_u8; 8];
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        Ok(_) | Err(_) => u64::from_ne_bytes(bytes),
    }
}

fn exists_or(error: Errno, what: impl FnOnce() -> String, attempted: &'static str) -> SpoolError {
    match error {
        Errno::EXIST | Errno::NOTEMPTY => SpoolError::Exists(what()),
        other => SpoolError::Io { attempted, what: what(), cause: other.into() },
    }
}

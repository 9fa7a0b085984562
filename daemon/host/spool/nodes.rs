//! Which processes work on this spool, and how each shows that it lives: `nodes/‹node›.‹token›` is locked as long as its
//! process runs, and holds a count that it raises. Who has lost its claims by that is `policy::lease`'s question.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;

use super::{Attempt, Directory, Spool, SpoolError, is_ours_alone, random};
use crate::policy::lease::{Owner, Sign};
use crate::policy::path::Slug;

/// Counts in a lease, so that one that comes late is not the end.
const BEATS: u32 = 4;
/// Names that are tried at the start: one may be swept away by a neighbour before it is locked.
const TRIES: usize = 10;

/// Shows the others that this process lives, until it is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    owner: Owner,
    lease: Arc<AtomicU64>,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Spool {
    /// Makes this process one of those that may claim, under a name that no other ever has.
    pub fn join(&self, node: &Slug, lease: Duration) -> Result<Heartbeat, SpoolError> {
        let lease = Arc::new(AtomicU64::new(milliseconds(lease)));
        let pulse = Pulse::begin(&self.nodes, node, &lease)?;
        let owner = pulse.owner.clone();
        self.me.set(owner.clone()).map_err(|_| SpoolError::Busy("this process's name".to_owned()))?;
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::Builder::new().name("heartbeat".into());
        let thread = thread
            .spawn(move || pulse.run(&stopped))
            .attempt("begin the heartbeat of", || owner.to_string())?;
        Ok(Heartbeat { owner, lease, stop: Some(stop), thread: Some(thread) })
    }

    /// Under which name this process claims. One that has not joined has a name too, but shows no sign of life: what it
    /// claims may be taken over at once.
    pub fn me(&self) -> &Owner {
        self.me.get_or_init(|| Owner::unnamed(token()))
    }

    /// The processes that show or have shown that they live.
    pub fn owners(&self) -> Result<Vec<Owner>, SpoolError> {
        let entries = self.nodes.entries().attempt("list", || "nodes".to_owned())?;
        Ok(entries.iter().filter_map(|entry| Owner::parse(&entry.name)).collect())
    }

    /// Whether another process lives, as far as can be seen from here.
    pub fn sign_of(&self, owner: &Owner) -> Result<Sign, SpoolError> {
        let what = || format!("nodes/{owner}");
        let mut file = match self.nodes.file(&owner.to_string()) {
            Ok(file) => file,
            // No process of ours makes anything there but a file that can be read.
            Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS | Errno::PERM) => return Ok(Sign::Missing),
            Err(error) => return Err(error).attempt("open", what),
        };
        // Who is not `work` shows nobody's life: it would keep the arrivals of a process that is gone.
        if !is_ours_alone(&fstat(&file).attempt("examine", what)?) {
            return Ok(Sign::Missing);
        }
        // A lock tells of the processes of one machine; whether it crosses to others depends on the file system.
        let is_neighbour = owner.node == self.me().node;
        if is_neighbour && flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(Sign::Dead);
        }
        let mut text = Vec::new();
        (&mut file).take(64).read_to_end(&mut text).attempt("read", what)?;
        Ok(told(&String::from_utf8_lossy(&text)))
    }

    /// Removes the sign of a process that is gone.
    pub fn sweep_owner(&self, owner: &Owner) -> Result<(), SpoolError> {
        self.nodes.remove_if_there(&owner.to_string()).attempt("remove", || format!("nodes/{owner}"))
    }
}

/// What is not written to its end yet is a count that has not changed.
fn told(text: &str) -> Sign {
    let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
    let (count, lease) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Sign::Beat { count, lease: Duration::from_millis(lease) }
}

impl Heartbeat {
    /// Under which name this process claims.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// From the next count on, others wait for this long.
    pub fn set_lease(&self, lease: Duration) {
        self.lease.store(milliseconds(lease), Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The file, and the count in it.
struct Pulse {
    nodes: Arc<Directory>,
    owner: Owner,
    file: File,
    count: u64,
    lease: Arc<AtomicU64>,
}

impl Pulse {
    fn begin(nodes: &Arc<Directory>, node: &Slug, lease: &Arc<AtomicU64>) -> Result<Self, SpoolError> {
        let mut last = None;
        for _ in 0..TRIES {
            let owner = Owner { node: node.clone(), token: token() };
            match locked(nodes, &owner) {
                Ok(file) => {
                    let (nodes, lease) = (Arc::clone(nodes), Arc::clone(lease));
                    let mut pulse = Self { nodes, owner, file, count: 0, lease };
                    pulse.beat()?;
                    return Ok(pulse);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(Errno::BUSY)).attempt("make a heartbeat in", || "nodes".to_owned())
    }

    fn run(mut self, stopped: &Receiver<()>) {
        let mut is_well = true;
        loop {
            let every = Duration::from_millis(self.lease.load(Ordering::Relaxed)) / BEATS;
            match stopped.recv_timeout(every) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
            match self.beat() {
                Ok(()) => is_well = true,
                Err(error) => {
                    if is_well {
                        tracing::error!(%error, "cannot show that this process lives; others may take its arrivals over");
                    }
                    is_well = false;
                }
            }
        }
        let _ = self.nodes.remove_if_there(&self.owner.to_string());
    }

    /// In place, so that a full disk does not stop it.
    fn beat(&mut self) -> Result<(), SpoolError> {
        let what = || format!("nodes/{}", self.owner);
        // Others swept it away while this process was stopped for long.
        if !is_there(&self.nodes, &self.owner, &self.file).attempt("examine", what)? {
            self.file = locked(&self.nodes, &self.owner).attempt("make", what)?;
        }
        self.count += 1;
        let text = format!("{:020} {:010}\n", self.count, self.lease.load(Ordering::Relaxed));
        self.file.write_all_at(text.as_bytes(), 0).attempt("write", what)?;
        // Some network file systems show others what was written only then.
        self.file.sync_data().attempt("sync", what)
    }
}

fn locked(nodes: &Directory, owner: &Owner) -> rustix::io::Result<File> {
    let name = owner.to_string();
    let file = nodes.create_own(&name)?;
    let lock = flock(&file, FlockOperation::NonBlockingLockExclusive);
    // A neighbour who came between the two took it for a dead process's: it has it locked, or has removed it.
    match lock.and_then(|()| is_there(nodes, owner, &file)) {
        Ok(true) => Ok(file),
        Ok(false) => Err(Errno::AGAIN),
        Err(error) => {
            // In the way of the next try otherwise.
            let _ = nodes.remove_if_there(&name);
            Err(error)
        }
    }
}

fn is_there(nodes: &Directory, owner: &Owner, file: &File) -> rustix::io::Result<bool> {
    let ours = fstat(file)?;
    match nodes.stat(&owner.to_string()) {
        Ok(there) => Ok((there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn token() -> u32 {
    let [a, b, c, d, ..] = random().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn milliseconds(lease: Duration) -> u64 {
    u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn spools() -> (tempfile::TempDir, Spool, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let open = || Spool::open(folder.path(), &[]).unwrap();
        let (one, other) = (open(), open());
        (folder, one, other)
    }

    #[test]
    fn who_lives_is_seen_counting_and_who_ended_in_order_is_gone() {
        let (_folder, one, other) = spools();
        let heartbeat = one.join(&slug("a"), Duration::from_millis(40)).unwrap();
        let _watching = other.join(&slug("b"), LONG).unwrap();
        let count = || match other.sign_of(heartbeat.owner()).unwrap() {
            Sign::Beat { count, lease } => {
                assert_eq!(lease, Duration::from_millis(40));
                count
            }
            sign => panic!("{sign:?}"),
        };
        let first = count();
        assert!(first >= 1);
        let has_gone_on = |_| {
            std::thread::sleep(Duration::from_millis(5));
            count() > first
        };
        assert!((0..2000).any(has_gone_on), "it goes on counting");
        let owner = heartbeat.owner().clone();
        assert!(other.owners().unwrap().contains(&owner));
        drop(heartbeat);
        assert_eq!(other.sign_of(&owner).unwrap(), Sign::Missing);
    }

    #[test]
    fn a_neighbour_whose_lock_is_free_is_dead_and_one_elsewhere_may_live() {
        let (folder, one, other) = spools();
        let _watching = one.join(&slug("a"), LONG).unwrap();
        let living = other.join(&slug("a"), LONG).unwrap();
        assert!(matches!(one.sign_of(living.owner()).unwrap(), Sign::Beat { .. }));
        for (name, sign) in [("a.00000001", Sign::Dead), ("b.00000001", Sign::Beat { count: 7, lease: LONG })]
        {
            std::fs::write(folder.path().join("nodes").join(name), "00000000000000000007 0003600000\n")
                .unwrap();
            assert_eq!(one.sign_of(&Owner::parse(name).unwrap()).unwrap(), sign, "{name}");
        }
    }

    #[test]
    fn a_heartbeat_that_was_swept_away_is_made_again() {
        let (_folder, one, other) = spools();
        let heartbeat = one.join(&slug("a"), Duration::from_millis(40)).unwrap();
        let _watching = other.join(&slug("b"), LONG).unwrap();
        other.sweep_owner(heartbeat.owner()).unwrap();
        let is_back = |_| {
            std::thread::sleep(Duration::from_millis(5));
            matches!(other.sign_of(heartbeat.owner()).unwrap(), Sign::Beat { count: 1.., .. })
        };
        assert!((0..2000).any(is_back));
    }
}

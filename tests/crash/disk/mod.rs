//! A disk for tests: a file system in memory, mounted through FUSE, that can lose power, kill who uses it, fail and fill up
//! at any operation. `tree` says what is on it and what of that is safe, `rules` what is to happen, `mount` speaks with the
//! kernel. Here is what a test holds in its hand.
//!
//! Every system call that changes something is a point by itself, so that none can be forgotten in the program under test.

mod mount;
pub mod rules;
mod tests;
pub mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, kill_process};

use self::rules::{Action, Room, Rule};
use self::tree::{Body, Call, Ino, Loss, Op, ROOT, Renames, Tree};
use crate::harness::{Daemon, pid, skip};

/// An operation that was performed.
#[derive(Debug, Clone)]
pub struct Step {
    pub who: Option<Daemon>,
    pub call: Call,
    pub op: Op,
}

/// What happened on the disk while it was recorded: where it began, each step, and what was noted in between.
#[derive(Debug, Clone)]
pub struct Recording {
    pub start: Tree,
    pub steps: Vec<Step>,
    /// What the test saw, and how many steps there were by then.
    pub notes: Vec<(usize, String)>,
}

impl Recording {
    /// What the disk looked like after so many steps, if the syncs that `lies` names made nothing safe.
    pub fn replayed(&self, steps: usize, lies: impl Fn(&Step) -> bool) -> Tree {
        let mut tree = self.start.clone();
        for step in &self.steps[..steps] {
            if !(step.call.is_sync() && lies(step)) {
                tree.apply(&step.op).unwrap();
            }
        }
        tree
    }

    /// How many steps there were when this was noted first.
    pub fn noted(&self, note: &str) -> Option<usize> {
        self.notes.iter().find(|(_, noted)| noted == note).map(|(steps, _)| *steps)
    }
}

struct Core {
    tree: Tree,
    /// Without power every operation fails.
    has_power: bool,
    processes: Vec<(Daemon, u32)>,
    rules: Vec<Rule>,
    rooms: BTreeMap<String, Room>,
    recording: Option<Recording>,
    performed: u64,
}

/// Shared by the test and the threads that answer the kernel.
#[derive(Clone)]
struct Shared(Arc<Mutex<Core>>);

/// A mounted disk. Dropping it unmounts it.
pub struct Disk {
    shared: Shared,
    folder: tempfile::TempDir,
    session: Option<fuser::BackgroundSession>,
}

impl Disk {
    /// `None`, and said, where there is no FUSE.
    pub fn mounted() -> Option<Self> {
        let fuse = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
        if let Err(error) = fuse {
            skip(&format!("/dev/fuse cannot be opened here ({error}): a container needs --device /dev/fuse"));
            return None;
        }
        let folder = tempfile::Builder::new().prefix("dropzone-disk-").tempdir().unwrap();
        let core = Core {
            tree: Tree::new(Renames::Whole),
            has_power: true,
            processes: Vec::new(),
            rules: Vec::new(),
            rooms: BTreeMap::new(),
            recording: None,
            performed: 0,
        };
        let shared = Shared(Arc::new(Mutex::new(core)));
        match mount::mount(shared.clone(), folder.path()) {
            Ok(session) => Some(Self { shared, folder, session: Some(session) }),
            Err(error) => {
                skip(&format!("a FUSE file system cannot be mounted here: {error}"));
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// From here on, operations of this process are known as this daemon's.
    pub fn started(&self, daemon: Daemon, process: u32) {
        let mut core = self.shared.lock();
        core.processes.retain(|(known, _)| *known != daemon);
        core.processes.push((daemon, process));
    }

    pub fn ended(&self, daemon: Daemon) {
        self.shared.lock().processes.retain(|(known, _)| *known != daemon);
    }

    /// All that is there now is safe.
    pub fn settle(&self) {
        self.shared.lock().tree.settle();
    }

    pub fn renames(&self, renames: Renames) {
        self.shared.lock().tree.renames(renames);
    }

    /// Begins to record; what was recorded before is forgotten.
    pub fn record(&self) {
        let mut core = self.shared.lock();
        let start = core.tree.clone();
        core.recording = Some(Recording { start, steps: Vec::new(), notes: Vec::new() });
    }

    pub fn note(&self, note: &str) {
        if let Some(recording) = &mut self.shared.lock().recording {
            recording.notes.push((recording.steps.len(), note.to_owned()));
        }
    }

    pub fn recorded(&self) -> Recording {
        self.shared.lock().recording.take().unwrap()
    }

    /// How many operations there have been.
    pub fn performed(&self) -> u64 {
        self.shared.lock().performed
    }

    /// What is to happen from now on.
    pub fn rule(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// How often the rules have struck.
    pub fn struck(&self) -> u64 {
        self.shared.lock().rules.iter().map(|rule| rule.fired).sum()
    }

    pub fn room(&self, top: &str, room: Room) {
        self.shared.lock().rooms.insert(top.to_owned(), room);
    }

    /// Bytes and inodes in use under a top folder.
    pub fn used(&self, top: &str) -> (u64, u64) {
        self.shared.lock().tree.used(top)
    }

    /// Nothing goes wrong from now on.
    pub fn heal(&self) {
        let mut core = self.shared.lock();
        core.rules.clear();
        core.rooms.clear();
    }

    pub fn has_power(&self) -> bool {
        self.shared.lock().has_power
    }

    /// The power goes now: all processes are killed, and what was not safe is lost.
    pub fn cut(&self, loss: Loss) {
        self.shared.lock().cut(loss);
    }

    /// The power is back, with what the cut left.
    pub fn power_on(&self) {
        self.shared.lock().has_power = true;
    }

    pub fn tree(&self) -> Tree {
        self.shared.lock().tree.clone()
    }

    /// Puts another tree in place, as if the disk were exchanged, while no process of the zone runs.
    pub fn exchange(&self, tree: Tree) {
        let mut core = self.shared.lock();
        assert!(core.processes.is_empty(), "somebody uses the disk");
        // The kernel knows the old inodes; those of a tree that comes back from earlier must not be mistaken for them.
        core.tree = tree.renumbered(&core.tree);
        core.has_power = true;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("the test's disk was not unmounted: {error}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a sync is to take.
    fn delay(&self, thread: u32, op: &Op) -> Option<Duration> {
        let mut core = self.lock();
        let (who, call) = (core.who(thread), core.tree.call(op));
        core.rules.iter_mut().find_map(|rule| match rule.action {
            Action::Slow(time) => rule.strikes(who, &call).then_some(time),
            Action::KillBefore
            | Action::KillAfter
            | Action::CutBefore(_)
            | Action::CutAfter(_)
            | Action::Fail(_)
            | Action::Lie => None,
        })
    }

    /// Performs an operation, with whatever is to happen at it. A write may be cut to what there is room for.
    fn perform(&self, thread: u32, op: &mut Op) -> Result<Ino, Errno> {
        self.lock().perform(thread, op)
    }
}

impl Core {
    fn who(&self, thread: u32) -> Option<Daemon> {
        let has = |process: u32| Path::new(&format!("/proc/{process}/task/{thread}")).exists();
        self.processes.iter().find(|(_, process)| has(*process)).map(|(daemon, _)| *daemon)
    }

    fn perform(&mut self, thread: u32, op: &mut Op) -> Result<Ino, Errno> {
        if !self.has_power {
            return Err(Errno::IO);
        }
        let (who, call) = (self.who(thread), self.tree.call(op));
        self.performed += 1;
        let strikes: Vec<Action> = self
            .rules
            .iter_mut()
            .filter(|rule| !matches!(rule.action, Action::Slow(_)))
            .filter_map(|rule| rule.strikes(who, &call).then_some(rule.action))
            .collect();
        for action in &strikes {
            match action {
                Action::Fail(error) => return Err(*error),
                Action::KillBefore => {
                    self.kill(who);
                    return Err(Errno::IO);
                }
                Action::CutBefore(loss) => {
                    self.cut(*loss);
                    return Err(Errno::IO);
                }
                Action::KillAfter | Action::CutAfter(_) | Action::Lie | Action::Slow(_) => {}
            }
        }
        self.take_room(op, &call)?;
        let lies = strikes.contains(&Action::Lie);
        let answer = if lies { Ok(ROOT) } else { self.tree.apply(op) };
        if let (Some(recording), Ok(_), false) = (&mut self.recording, &answer, lies) {
            recording.steps.push(Step { who, call, op: op.clone() });
        }
        for action in &strikes {
            match action {
                Action::KillAfter => self.kill(who),
                Action::CutAfter(loss) => self.cut(*loss),
                Action::Fail(_)
                | Action::KillBefore
                | Action::CutBefore(_)
                | Action::Lie
                | Action::Slow(_) => {}
            }
        }
        answer
    }

    fn kill(&mut self, who: Option<Daemon>) {
        for (daemon, process) in &self.processes {
            if who == Some(*daemon) {
                let _ = kill_process(pid(*process), Signal::KILL);
            }
        }
    }

    fn cut(&mut self, loss: Loss) {
        for (_, process) in &self.processes {
            let _ = kill_process(pid(*process), Signal::KILL);
        }
        self.tree = self.tree.after_cut(loss);
        self.has_power = false;
    }

    /// Refuses what there is no room for; of a write that fits in part, that part is let through.
    fn take_room(&self, op: &mut Op, call: &Call) -> Result<(), Errno> {
        let top = call.path.split('/').next().unwrap_or_default();
        let Some(room) = self.rooms.get(top) else { return Ok(()) };
        let (bytes, inodes) = self.tree.used(top);
        let left = room.bytes.saturating_sub(bytes);
        match op {
            Op::Mkdir { .. } | Op::Create { .. } if inodes >= room.inodes || left == 0 => Err(Errno::NOSPC),
            Op::Write { ino, offset, bytes } => {
                let fits = (self.held(*ino) + left).saturating_sub(*offset);
                if fits == 0 {
                    return Err(Errno::NOSPC);
                }
                if (bytes.len() as u64) > fits {
                    *bytes = bytes[..usize::try_from(fits).unwrap()].into();
                }
                Ok(())
            }
            Op::Reserve { ino, until, .. } | Op::Resize { ino, size: until }
                if *until > self.held(*ino) + left =>
            {
                Err(Errno::NOSPC)
            }
            _ => Ok(()),
        }
    }

    /// Bytes that a file has, or that are kept free for it.
    fn held(&self, ino: Ino) -> u64 {
        match self.tree.node(ino).map(|node| &node.body) {
            Ok(Body::File { now, reserved, .. }) => (now.len() as u64).max(*reserved),
            Ok(Body::Folder { .. }) | Err(_) => 0,
        }
    }
}

//! What is on a disk, twice: as programs see it now, and as it would be found after a power cut. Bytes of a file are safe
//! once that file was synced, names of a folder once that folder was; nothing else makes anything safe. Pure: who asked,
//! and what is to go wrong, are for others. Modes and times count as safe at once: nothing here rests on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;

pub type Ino = u64;
pub const ROOT: Ino = 1;

/// What a rename from one folder to another is once one of the two was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renames {
    /// One change, safe as a whole: what the journals of ext4, XFS and Btrfs make of it.
    Whole,
    /// Two changes, each safe when its own folder was synced: all that POSIX promises.
    Torn,
}

/// What becomes of the names that no sync made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// All is as it was at the last sync.
    Forgotten,
    /// All changes happened to get there in time.
    Kept,
    /// New names got there, and old ones did not go: what was moved is in both places.
    Doubled,
    /// Old names went, and new ones did not get there: what was moved is in neither place.
    Gone,
}

/// What becomes of the bytes that no sync made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    Lost,
    /// The length got there and the content did not.
    Zeroed,
    Kept,
}

/// What a power cut does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    pub names: Names,
    pub bytes: Bytes,
}

impl Loss {
    /// What POSIX allows at most.
    pub const ALL: Self = Self { names: Names::Forgotten, bytes: Bytes::Lost };
    /// Names travel ahead of the bytes they lead to: the empty files that a missing sync leaves on many a disk.
    pub const BYTES: Self = Self { names: Names::Kept, bytes: Bytes::Lost };
    pub const ZEROED: Self = Self { names: Names::Kept, bytes: Bytes::Zeroed };
}

#[derive(Debug, Clone)]
pub enum Body {
    File { now: Arc<Vec<u8>>, safe: Arc<Vec<u8>>, reserved: u64 },
    Folder { now: BTreeMap<String, Ino>, safe: BTreeMap<String, Ino> },
}

#[derive(Debug, Clone)]
pub struct Node {
    pub body: Body,
    pub mode: u32,
    pub modified: SystemTime,
    /// Names that lead to it now.
    pub links: u32,
    /// The last name it was given, for telling where something happens.
    at: (Ino, String),
}

/// A change, or a sync. Reading changes nothing and is none.
#[derive(Debug, Clone)]
pub enum Op {
    Mkdir { parent: Ino, name: String, mode: u32 },
    Create { parent: Ino, name: String, mode: u32 },
    Write { ino: Ino, offset: u64, bytes: Arc<[u8]> },
    Resize { ino: Ino, size: u64 },
    Reserve { ino: Ino, until: u64, grow: bool },
    Mode { ino: Ino, mode: u32 },
    Time { ino: Ino, modified: SystemTime },
    Rename { from: (Ino, String), to: (Ino, String), replace: bool },
    Link { ino: Ino, to: (Ino, String) },
    Unlink { parent: Ino, name: String },
    Rmdir { parent: Ino, name: String },
    Sync { ino: Ino },
    SyncFolder { ino: Ino },
}

/// What an operation is called in traces and filters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub kind: &'static str,
    pub path: String,
    /// Where to, of renames and links.
    pub to: Option<String>,
}

impl std::fmt::Display for Call {
    fn fmt(&self, form: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(form, "{} {}", self.kind, self.path)?;
        self.to.iter().try_for_each(|to| write!(form, " → {to}"))
    }
}

impl Call {
    pub fn is_sync(&self) -> bool {
        self.kind == "fsync"
    }

    /// Whether it happens somewhere under this path, or moves something there.
    pub fn touches(&self, prefix: &str) -> bool {
        let under = |path: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        under(&self.path) || self.to.as_deref().is_some_and(under)
    }
}

#[derive(Debug, Clone)]
struct Moved {
    ino: Ino,
    from: (Ino, String),
    to: (Ino, String),
}

#[derive(Debug, Clone)]
pub struct Tree {
    nodes: HashMap<Ino, Node>,
    next: Ino,
    renames: Renames,
    /// Moves between folders of which no half is safe yet.
    moved: Vec<Moved>,
}

impl Tree {
    pub fn new(renames: Renames) -> Self {
        let body = Body::Folder { now: BTreeMap::new(), safe: BTreeMap::new() };
        let mut tree = Self { nodes: HashMap::new(), next: ROOT, renames, moved: Vec::new() };
        tree.add(body, 0o755, (ROOT, String::new()));
        tree
    }

    pub fn renames(&mut self, renames: Renames) {
        self.renames = renames;
    }

    pub fn node(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::STALE)
    }

    pub fn find(&self, parent: Ino, name: &str) -> Result<Ino, Errno> {
        self.folder(parent)?.get(name).copied().ok_or(Errno::NOENT)
    }

    pub fn folder(&self, ino: Ino) -> Result<&BTreeMap<String, Ino>, Errno> {
        match &self.node(ino)?.body {
            Body::Folder { now, .. } => Ok(now),
            Body::File { .. } => Err(Errno::NOTDIR),
        }
    }

    pub fn content(&self, ino: Ino) -> Result<&Arc<Vec<u8>>, Errno> {
        match &self.node(ino)?.body {
            Body::File { now, .. } => Ok(now),
            Body::Folder { .. } => Err(Errno::ISDIR),
        }
    }

    /// Every file by its path, and every folder, which has no content.
    pub fn files(&self) -> BTreeMap<String, Option<Arc<Vec<u8>>>> {
        let mut found = BTreeMap::new();
        let mut left = vec![(ROOT, String::new())];
        while let Some((folder, path)) = left.pop() {
            for (name, ino) in self.folder(folder).unwrap() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                let content = self.content(*ino).ok().cloned();
                if content.is_none() {
                    left.push((*ino, path.clone()));
                }
                found.insert(path, content);
            }
        }
        found
    }

    /// Bytes and inodes in use under a top folder, as they are now.
    pub fn used(&self, top: &str) -> (u64, u64) {
        let Ok(start) = self.find(ROOT, top) else { return (0, 0) };
        let (mut left, mut seen, mut bytes) = (vec![start], BTreeSet::new(), 0);
        while let Some(ino) = left.pop() {
            if !seen.insert(ino) {
                continue;
            }
            match &self.nodes[&ino].body {
                Body::File { now, reserved, .. } => bytes += (now.len() as u64).max(*reserved),
                Body::Folder { now, .. } => left.extend(now.values()),
            }
        }
        (bytes, seen.len() as u64)
    }

    pub fn path(&self, ino: Ino) -> String {
        if ino == ROOT {
            return String::new();
        }
        let Some(node) = self.nodes.get(&ino) else { return format!("#{ino}") };
        self.join(node.at.0, &node.at.1)
    }

    fn join(&self, parent: Ino, name: &str) -> String {
        let parent = self.path(parent);
        if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
    }

    pub fn call(&self, op: &Op) -> Call {
        let (kind, path, to) = match op {
            Op::Mkdir { parent, name, .. } => ("mkdir", self.join(*parent, name), None),
            Op::Create { parent, name, .. } => ("create", self.join(*parent, name), None),
            Op::Write { ino, .. } => ("write", self.path(*ino), None),
            Op::Resize { ino, .. } => ("truncate", self.path(*ino), None),
            Op::Reserve { ino, .. } => ("reserve", self.path(*ino), None),
            Op::Mode { ino, .. } => ("chmod", self.path(*ino), None),
            Op::Time { ino, .. } => ("utimes", self.path(*ino), None),
            Op::Rename { from, to, .. } => {
                ("rename", self.join(from.0, &from.1), Some(self.join(to.0, &to.1)))
            }
            Op::Link { ino, to } => ("link", self.path(*ino), Some(self.join(to.0, &to.1))),
            Op::Unlink { parent, name } => ("unlink", self.join(*parent, name), None),
            Op::Rmdir { parent, name } => ("rmdir", self.join(*parent, name), None),
            // A folder's ends with a slash: what is made safe is its names.
            Op::SyncFolder { ino } => ("fsync", self.path(*ino) + "/", None),
            Op::Sync { ino } => ("fsync", self.path(*ino), None),
        };
        Call { kind, path, to }
    }

    /// Does it; the answer is the inode it is about.
    pub fn apply(&mut self, op: &Op) -> Result<Ino, Errno> {
        match op {
            Op::Mkdir { parent, name, mode } => {
                let body = Body::Folder { now: BTreeMap::new(), safe: BTreeMap::new() };
                self.make(body, *mode, (*parent, name.clone()))
            }
            Op::Create { parent, name, mode } => {
                let body = Body::File { now: Arc::default(), safe: Arc::default(), reserved: 0 };
                self.make(body, *mode, (*parent, name.clone()))
            }
            Op::Write { ino, offset, bytes } => self.change(*ino, |content| {
                let from = usize::try_from(*offset).unwrap();
                content.resize(content.len().max(from + bytes.len()), 0);
                content[from..from + bytes.len()].copy_from_slice(bytes);
            }),
            Op::Resize { ino, size } => {
                self.change(*ino, |content| content.resize(usize::try_from(*size).unwrap(), 0))
            }
            Op::Reserve { ino, until, grow } => {
                let size = self.content(*ino)?.len() as u64;
                if *grow && size < *until {
                    self.change(*ino, |content| content.resize(usize::try_from(*until).unwrap(), 0))?;
                }
                if let Body::File { reserved, .. } = &mut self.node_mut(*ino)?.body {
                    *reserved = (*reserved).max(*until);
                }
                Ok(*ino)
            }
            Op::Mode { ino, mode } => {
                self.node_mut(*ino)?.mode = mode & 0o7777;
                Ok(*ino)
            }
            Op::Time { ino, modified } => {
                self.node_mut(*ino)?.modified = *modified;
                Ok(*ino)
            }
            Op::Rename { from, to, replace } => self.rename(from, to, *replace),
            Op::Link { ino, to } => {
                if self.folder(to.0)?.contains_key(&to.1) {
                    return Err(Errno::EXIST);
                }
                self.node_mut(*ino)?.links += 1;
                self.enter(to, *ino)
            }
            Op::Unlink { parent, name } => {
                let ino = self.find(*parent, name)?;
                self.content(ino)?;
                self.leave(&(*parent, name.clone()), ino)
            }
            Op::Rmdir { parent, name } => {
                let ino = self.find(*parent, name)?;
                if !self.folder(ino)?.is_empty() {
                    return Err(Errno::NOTEMPTY);
                }
                self.leave(&(*parent, name.clone()), ino)
            }
            Op::Sync { ino } | Op::SyncFolder { ino } => self.sync(*ino),
        }
    }

    /// Everything is on the disk: where a test begins.
    pub fn settle(&mut self) {
        self.moved.clear();
        for node in self.nodes.values_mut() {
            match &mut node.body {
                Body::File { now, safe, .. } => *safe = Arc::clone(now),
                Body::Folder { now, safe } => safe.clone_from(now),
            }
        }
    }

    /// What is found after a power cut: under new inode numbers, so that nobody takes it for what was there before.
    pub fn after_cut(&self, loss: Loss) -> Self {
        let mut after = Self::new(self.renames);
        after.next = self.next;
        let (mut left, mut files) = (vec![(ROOT, ROOT)], HashMap::new());
        while let Some((old, new)) = left.pop() {
            let Body::Folder { now, safe } = &self.nodes[&old].body else { continue };
            for (name, ino) in survivors(now, safe, loss.names) {
                let node = &self.nodes[&ino];
                let at = (new, name);
                match &node.body {
                    Body::Folder { .. } => {
                        let body = Body::Folder { now: BTreeMap::new(), safe: BTreeMap::new() };
                        let made = after.make(body, node.mode, at).unwrap();
                        left.push((ino, made));
                    }
                    Body::File { now, safe, .. } => match files.get(&ino) {
                        Some(made) => drop(after.apply(&Op::Link { ino: *made, to: at }).unwrap()),
                        None => {
                            let content = surviving_bytes(now, safe, loss.bytes);
                            let body = Body::File { now: content, safe: Arc::default(), reserved: 0 };
                            files.insert(ino, after.make(body, node.mode, at).unwrap());
                        }
                    },
                }
            }
        }
        for (old, new) in &files {
            after.nodes.get_mut(new).unwrap().modified = self.nodes[old].modified;
        }
        after.settle();
        after
    }

    /// The same under inode numbers that the other tree has not used.
    pub fn renumbered(&self, other: &Self) -> Self {
        let settled = Self { next: self.next.max(other.next), ..self.clone() };
        settled.after_cut(Loss { names: Names::Kept, bytes: Bytes::Kept })
    }

    fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::STALE)
    }

    fn add(&mut self, body: Body, mode: u32, at: (Ino, String)) -> Ino {
        let ino = self.next;
        self.next += 1;
        let node = Node { body, mode: mode & 0o7777, modified: SystemTime::now(), links: 1, at };
        self.nodes.insert(ino, node);
        ino
    }

    fn make(&mut self, body: Body, mode: u32, at: (Ino, String)) -> Result<Ino, Errno> {
        if self.folder(at.0)?.contains_key(&at.1) {
            return Err(Errno::EXIST);
        }
        let ino = self.add(body, mode, at.clone());
        self.enter(&at, ino)
    }

    fn change(&mut self, ino: Ino, change: impl FnOnce(&mut Vec<u8>)) -> Result<Ino, Errno> {
        let node = self.node_mut(ino)?;
        let Body::File { now, .. } = &mut node.body else { return Err(Errno::ISDIR) };
        change(Arc::make_mut(now));
        node.modified = SystemTime::now();
        Ok(ino)
    }

    /// Puts a name into a folder.
    fn enter(&mut self, at: &(Ino, String), ino: Ino) -> Result<Ino, Errno> {
        self.names_mut(at.0)?.insert(at.1.clone(), ino);
        Ok(ino)
    }

    fn leave(&mut self, at: &(Ino, String), ino: Ino) -> Result<Ino, Errno> {
        self.names_mut(at.0)?.remove(&at.1);
        self.node_mut(ino)?.links -= 1;
        Ok(ino)
    }

    fn names_mut(&mut self, ino: Ino) -> Result<&mut BTreeMap<String, Ino>, Errno> {
        let node = self.node_mut(ino)?;
        node.modified = SystemTime::now();
        match &mut node.body {
            Body::Folder { now, .. } => Ok(now),
            Body::File { .. } => Err(Errno::NOTDIR),
        }
    }

    fn rename(&mut self, from: &(Ino, String), to: &(Ino, String), replace: bool) -> Result<Ino, Errno> {
        let ino = self.find(from.0, &from.1)?;
        if let Ok(there) = self.find(to.0, &to.1) {
            if !replace {
                return Err(Errno::EXIST);
            }
            if there == ino {
                return Ok(ino);
            }
            if self.folder(there).is_ok_and(|names| !names.is_empty()) {
                return Err(Errno::NOTEMPTY);
            }
            self.leave(to, there)?;
        }
        self.names_mut(from.0)?.remove(&from.1);
        self.enter(to, ino)?;
        self.node_mut(ino)?.at = to.clone();
        if from.0 != to.0 {
            self.moved.push(Moved { ino, from: from.clone(), to: to.clone() });
        }
        Ok(ino)
    }

    fn sync(&mut self, ino: Ino) -> Result<Ino, Errno> {
        if self.renames == Renames::Whole {
            self.settle_moves_of(ino);
        }
        match &mut self.node_mut(ino)?.body {
            Body::File { now, safe, .. } => *safe = Arc::clone(now),
            Body::Folder { now, safe } => safe.clone_from(now),
        }
        Ok(ino)
    }

    /// Whatever moved into or out of this folder is safe at both ends, with all the moves it made before.
    fn settle_moves_of(&mut self, folder: Ino) {
        let inos: BTreeSet<Ino> = self
            .moved
            .iter()
            .filter(|moved| moved.from.0 == folder || moved.to.0 == folder)
            .map(|moved| moved.ino)
            .collect();
        let (settled, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.moved).into_iter().partition(|moved| inos.contains(&moved.ino));
        self.moved = left;
        for Moved { ino, from, to } in settled {
            if let Some(Node { body: Body::Folder { safe, .. }, .. }) = self.nodes.get_mut(&from.0)
                && safe.get(&from.1) == Some(&ino)
            {
                safe.remove(&from.1);
            }
            if let Some(Node { body: Body::Folder { safe, .. }, .. }) = self.nodes.get_mut(&to.0) {
                safe.insert(to.1, ino);
            }
        }
    }
}

fn survivors(
    now: &BTreeMap<String, Ino>,
    safe: &BTreeMap<String, Ino>,
    names: Names,
) -> BTreeMap<String, Ino> {
    match names {
        Names::Forgotten => safe.clone(),
        Names::Kept => now.clone(),
        Names::Doubled => safe.iter().chain(now).map(|(name, ino)| (name.clone(), *ino)).collect(),
        Names::Gone => {
            let stays = |(name, ino): &(&String, &Ino)| now.get(*name) == Some(*ino);
            safe.iter().filter(stays).map(|(name, ino)| (name.clone(), *ino)).collect()
        }
    }
}

fn surviving_bytes(now: &Arc<Vec<u8>>, safe: &Arc<Vec<u8>>, bytes: Bytes) -> Arc<Vec<u8>> {
    match bytes {
        Bytes::Lost => Arc::clone(safe),
        Bytes::Kept => Arc::clone(now),
        Bytes::Zeroed => {
            let mut content = safe.to_vec();
            content.resize(now.len().max(safe.len()), 0);
            Arc::new(content)
        }
    }
}

//! Speaks with the kernel: turns its requests into operations of `tree`. Nothing is cached, so that every system call gets
//! here: no writing back, no page cache, no lifetime of names and attributes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};

use super::Shared;
use super::rules::Room;
use super::tree::{Body, Ino, Op, ROOT, Tree};

const NEVER: Duration = Duration::ZERO;
const NEW: Generation = Generation(0);
const BLOCK: u64 = 4096;
const APPEND: i32 = 0o2000;
const KEEP_SIZE: i32 = 1;
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

type Listing = Vec<(INodeNo, FileType, String)>;

struct Mounted {
    shared: Shared,
    /// What a folder held when it was opened, by the handle's number.
    listings: Mutex<HashMap<u64, Listing>>,
    handles: AtomicU64,
}

pub(super) fn mount(shared: Shared, path: &Path) -> std::io::Result<BackgroundSession> {
    let mounted = Mounted { shared, listings: Mutex::default(), handles: AtomicU64::new(1) };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("dropzone-test-disk".to_owned()), MountOption::NoDev];
    fuser::spawn_mount(mounted, path, &config)
}

fn told(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

fn text(name: &OsStr) -> Result<String, rustix::io::Errno> {
    name.to_str().map(str::to_owned).ok_or(rustix::io::Errno::ILSEQ)
}

fn facts(tree: &Tree, ino: Ino) -> Result<FileAttr, rustix::io::Errno> {
    let node = tree.node(ino)?;
    let (kind, size) = match &node.body {
        Body::File { now, .. } => (FileType::RegularFile, now.len() as u64),
        Body::Folder { .. } => (FileType::Directory, BLOCK),
    };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: UNIX_EPOCH,
        kind,
        perm: u16::try_from(node.mode).unwrap(),
        nlink: node.links,
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

impl Mounted {
    fn facts(&self, ino: Ino) -> Result<FileAttr, rustix::io::Errno> {
        facts(&self.shared.lock().tree, ino)
    }

    fn enter(&self, request: &Request, mut op: Op, reply: ReplyEntry) {
        let made = self.shared.perform(request.pid(), &mut op).and_then(|ino| self.facts(ino));
        match made {
            Ok(facts) => reply.entry(&NEVER, &facts, NEW),
            Err(error) => reply.error(told(error)),
        }
    }

    fn do_it(&self, request: &Request, op: Result<Op, rustix::io::Errno>, reply: ReplyEmpty) {
        match op.and_then(|mut op| self.shared.perform(request.pid(), &mut op)) {
            Ok(_) => reply.ok(),
            Err(error) => reply.error(told(error)),
        }
    }

    /// A slow one keeps neither this thread nor other files waiting.
    fn sync(&self, request: &Request, mut op: Op, reply: ReplyEmpty) {
        let (shared, thread) = (self.shared.clone(), request.pid());
        let Some(delay) = shared.delay(thread, &op) else { return self.do_it(request, Ok(op), reply) };
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            match shared.perform(thread, &mut op) {
                Ok(_) => reply.ok(),
                Err(error) => reply.error(told(error)),
            }
        });
    }

    fn attributes_changed(&self, request: &Request, ops: Vec<Op>, ino: Ino, reply: ReplyAttr) {
        let changed = ops
            .into_iter()
            .try_for_each(|mut op| self.shared.perform(request.pid(), &mut op).map(drop))
            .and_then(|()| self.facts(ino));
        match changed {
            Ok(facts) => reply.attr(&NEVER, &facts),
            Err(error) => reply.error(told(error)),
        }
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = text(name).and_then(|name| {
            let core = self.shared.lock();
            facts(&core.tree, core.tree.find(parent.0, &name)?)
        });
        match found {
            Ok(facts) => reply.entry(&NEVER, &facts, NEW),
            Err(error) => reply.error(told(error)),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.facts(ino.0) {
            Ok(facts) => reply.attr(&NEVER, &facts),
            Err(error) => reply.error(told(error)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let ino = ino.0;
        let mut ops = Vec::new();
        ops.extend(mode.map(|mode| Op::Mode { ino, mode }));
        ops.extend(size.map(|size| Op::Resize { ino, size }));
        // With a size, the time is the kernel's own doing.
        ops.extend(mtime.filter(|_| size.is_none()).map(|time| match time {
            TimeOrNow::SpecificTime(modified) => Op::Time { ino, modified },
            TimeOrNow::Now => Op::Time { ino, modified: SystemTime::now() },
        }));
        self.attributes_changed(request, ops, ino, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        match text(name) {
            Ok(name) => {
                self.enter(request, Op::Mkdir { parent: parent.0, name, mode: mode & !umask }, reply);
            }
            Err(error) => reply.error(told(error)),
        }
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.do_it(request, text(name).map(|name| Op::Unlink { parent: parent.0, name }), reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.do_it(request, text(name).map(|name| Op::Rmdir { parent: parent.0, name }), reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let replace = flags.is_empty();
        let op = text(name).and_then(|name| {
            Ok(Op::Rename { from: (parent.0, name), to: (new_parent.0, text(new_name)?), replace })
        });
        self.do_it(request, op, reply);
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match text(name) {
            Ok(name) => self.enter(request, Op::Link { ino: ino.0, to: (parent.0, name) }, reply),
            Err(error) => reply.error(told(error)),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = text(name)
            .and_then(|name| {
                let mut op = Op::Create { parent: parent.0, name, mode: mode & !umask };
                self.shared.perform(request.pid(), &mut op)
            })
            .and_then(|ino| self.facts(ino));
        match made {
            Ok(facts) => reply.created(&NEVER, &facts, NEW, FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(told(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = self.shared.lock().tree.content(ino.0).cloned();
        match content {
            Ok(content) => {
                let from = usize::try_from(offset).unwrap().min(content.len());
                reply.data(&content[from..content.len().min(from + size as usize)]);
            }
            Err(error) => reply.error(told(error)),
        }
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let end = self.shared.lock().tree.content(ino.0).map_or(0, |content| content.len() as u64);
        let offset = if flags.0 & APPEND == 0 { offset } else { end };
        let mut op = Op::Write { ino: ino.0, offset, bytes: data.into() };
        match (self.shared.perform(request.pid(), &mut op), op) {
            (Ok(_), Op::Write { bytes, .. }) => reply.written(u32::try_from(bytes.len()).unwrap()),
            (Ok(_), _) => reply.error(Errno::EIO),
            (Err(error), _) => reply.error(told(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(request, Op::Sync { ino: ino.0 }, reply);
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(request, Op::SyncFolder { ino: ino.0 }, reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let core = self.shared.lock();
        let names = match core.tree.folder(ino.0) {
            Ok(names) => names,
            Err(error) => return reply.error(told(error)),
        };
        let mut listing: Listing = vec![
            (ino, FileType::Directory, ".".to_owned()),
            (INodeNo(ROOT), FileType::Directory, "..".to_owned()),
        ];
        for (name, ino) in names {
            let kind = facts(&core.tree, *ino).map_or(FileType::RegularFile, |facts| facts.kind);
            listing.push((INodeNo(*ino), kind, name.clone()));
        }
        drop(core);
        let handle = self.handles.fetch_add(1, Ordering::Relaxed);
        self.listings.lock().unwrap().insert(handle, listing);
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listings = self.listings.lock().unwrap();
        let Some(listing) = listings.get(&handle.0) else { return reply.error(Errno::EBADF) };
        for (at, (ino, kind, name)) in listing.iter().enumerate().skip(usize::try_from(offset).unwrap()) {
            if reply.add(*ino, at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.lock().unwrap().remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let core = self.shared.lock();
        let path = core.tree.path(ino.0);
        let top = path.split('/').next().unwrap_or_default();
        let room = core.rooms.get(top).copied().unwrap_or(Room::PLENTY);
        let (bytes, inodes) = core.tree.used(top);
        let free = room.bytes.saturating_sub(bytes) / BLOCK;
        let free_inodes = room.inodes.saturating_sub(inodes);
        drop(core);
        let block = u32::try_from(BLOCK).unwrap();
        reply.statfs(room.bytes / BLOCK, free, free, room.inodes, free_inodes, block, 255, block);
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & !KEEP_SIZE != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let grow = mode & KEEP_SIZE == 0;
        self.do_it(request, Ok(Op::Reserve { ino: ino.0, until: offset + length, grow }), reply);
    }

    /// There are no holes here.
    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let size = self.shared.lock().tree.content(ino.0).map_or(0, |content| content.len() as i64);
        match whence {
            SEEK_DATA | SEEK_HOLE if offset >= size => reply.error(Errno::ENXIO),
            SEEK_DATA => reply.offset(offset),
            SEEK_HOLE => reply.offset(size),
            _ => reply.error(Errno::EINVAL),
        }
    }
}

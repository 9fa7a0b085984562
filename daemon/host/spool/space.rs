//! Room in the spool: what uploads must leave free, and what they have been promised that the file system does not show as
//! taken yet. All uploads of a process share one account, so that many of them together do not take what each alone might.
//! An upload gets its room in steps ahead of its bytes; where the file system can set it aside (fallocate), it does.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::{Errno, Result};

/// What a small upload gets at once. Setting so little aside would cost more than it is worth.
const FIRST: u64 = 1 << 20;
/// What a large one gets at a time.
const STEP: u64 = 8 << 20;
/// What must be left for an upload to begin: its first block, its folder and its description.
const BEGINNING: u64 = 64 << 10;
/// Files and folders that uploads leave for what others make, where the file system counts them.
const FILES_KEPT: u64 = 128;
/// Files of uploads that failed and could be neither removed nor marked, remembered at a time.
const CONDEMNED_MAX: usize = 10_000;

/// What is left for uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the file system has left for a process without privileges.
    pub free: u64,
    /// What of them uploads may still take.
    pub bytes: u64,
    /// How many files and folders uploads may still make.
    pub files: u64,
}

impl Room {
    /// Whether one more upload can begin.
    pub fn is_enough(self) -> bool {
        self.bytes >= BEGINNING && self.files > 0
    }
}

/// What all uploads of a process have in common.
#[derive(Debug, Default)]
pub(super) struct Space {
    kept: AtomicU64,
    promised: AtomicU64,
    /// The file system cannot set room aside: what was promised counts until it is written.
    by_promise: AtomicBool,
    /// By device and inode: uploads that failed on a disk which did not even take a mark.
    condemned: Mutex<HashSet<(u64, u64)>>,
}

impl Space {
    /// From now on uploads leave so many bytes free.
    pub fn keep(&self, bytes: u64) {
        self.kept.store(bytes, Ordering::Relaxed);
    }

    /// What is left on the file system of `at`.
    pub fn room(&self, at: impl AsFd) -> Result<Room> {
        let facts = fstatvfs(at)?;
        let free = facts.f_bavail.saturating_mul(facts.f_frsize);
        let taken = self.kept.load(Ordering::Relaxed).saturating_add(self.promised.load(Ordering::SeqCst));
        // Some file systems count none.
        let files = if facts.f_files == 0 { u64::MAX } else { facts.f_favail.saturating_sub(FILES_KEPT) };
        Ok(Room { free, bytes: free.saturating_sub(taken), files })
    }

    /// Promises so many bytes; `NOSPC` where there is no room for them. Promised first and then looked: whoever does so at
    /// the same time counts this one too.
    fn promise(&self, at: impl AsFd, bytes: u64) -> Result<()> {
        let others = self.promised.fetch_add(bytes, Ordering::SeqCst);
        let fits = fstatvfs(at).map(|facts| {
            let taken = self.kept.load(Ordering::Relaxed).saturating_add(others).saturating_add(bytes);
            facts.f_bavail.saturating_mul(facts.f_frsize) >= taken
        });
        if matches!(fits, Ok(true)) {
            return Ok(());
        }
        self.release(bytes);
        fits.and(Err(Errno::NOSPC))
    }

    fn release(&self, bytes: u64) {
        self.promised.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// An upload failed, and its disk takes no mark of that.
    pub fn condemn(&self, file: (u64, u64)) {
        let mut condemned = self.condemned.lock().unwrap_or_else(PoisonError::into_inner);
        if condemned.len() < CONDEMNED_MAX {
            condemned.insert(file);
        }
    }

    /// Whether a file is one of those.
    pub fn is_condemned(&self, file: (u64, u64)) -> bool {
        self.condemned.lock().unwrap_or_else(PoisonError::into_inner).contains(&file)
    }

    /// It is gone; its number may come to mean another file.
    pub fn forget(&self, file: (u64, u64)) {
        self.condemned.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
    }
}

/// What one upload has of it.
#[derive(Debug)]
pub(super) struct Growth {
    space: Arc<Space>,
    /// There is room up to here.
    until: u64,
    /// Bytes from here on are not written yet.
    written: u64,
    /// What was there at first, and all that was sent since: who sends little is set little aside.
    sent: u64,
    /// What was promised and not set aside.
    promised: u64,
    /// Whether blocks behind the end of the file were set aside.
    is_ahead: bool,
}

impl Growth {
    /// Of a file of this size.
    pub fn from(space: &Arc<Space>, size: u64) -> Self {
        Self {
            space: Arc::clone(space),
            until: size,
            written: size,
            sent: size,
            promised: 0,
            is_ahead: false,
        }
    }

    /// Sees to it that there is room for a write; `NOSPC` or `DQUOT` where there is none.
    pub fn assure(&mut self, file: &File, offset: u64, length: u64) -> Result<()> {
        let end = offset.saturating_add(length);
        self.sent = self.sent.saturating_add(length);
        if end <= self.until {
            return Ok(());
        }
        if end > self.sent.saturating_add(STEP) {
            // Far beyond what came before: nothing is set aside for a gap, which may never be filled. One byte every few MiB
            // would otherwise take the whole disk.
            return self.space.promise(file, length).map(|()| self.space.release(length));
        }
        let step = if end <= FIRST { FIRST } else { end.next_multiple_of(STEP) };
        match self.reach(file, step) {
            // The last of it goes to whoever needs no more.
            Err(Errno::NOSPC | Errno::DQUOT) if step > end => self.reach(file, end),
            other => other,
        }
    }

    fn reach(&mut self, file: &File, until: u64) -> Result<()> {
        let bytes = until.saturating_sub(self.until);
        self.space.promise(file, bytes)?;
        if until > FIRST && !self.space.by_promise.load(Ordering::Relaxed) {
            match fallocate(file, FallocateFlags::KEEP_SIZE, self.until, bytes) {
                Ok(()) => {
                    // From now on the file system counts it.
                    self.space.release(bytes);
                    self.until = until;
                    self.is_ahead = true;
                    return Ok(());
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.space.by_promise.store(true, Ordering::Relaxed);
                }
                // Interrupted: this step is by promise.
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.space.release(bytes);
                    return Err(error);
                }
            }
        }
        self.promised += bytes;
        self.until = until;
        Ok(())
    }

    /// So far it is written now: what was promised for that, the file system counts.
    pub fn has_written(&mut self, end: u64) {
        if end > self.until {
            return;
        }
        let more = end.saturating_sub(self.written).min(self.promised);
        self.written = self.written.max(end);
        self.promised -= more;
        self.space.release(more);
    }

    /// Gives back what was promised, and says whether blocks behind the end were set aside, which the caller cuts off.
    pub fn settle(&mut self, size: u64) -> bool {
        self.space.release(std::mem::take(&mut self.promised));
        (self.until, self.written, self.sent) = (size, size, size);
        std::mem::take(&mut self.is_ahead)
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.space.release(self.promised);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    /// What the file system has left now, less what the test wants to have left.
    fn leaving(file: &File, space: &Space, bytes: u64) {
        let facts = fstatvfs(file).unwrap();
        space.keep(facts.f_bavail * facts.f_frsize - bytes);
    }

    #[test]
    fn many_uploads_together_never_pass_what_must_be_left() {
        let file = tempfile::tempfile().unwrap();
        let space = Arc::new(Space::default());
        space.by_promise.store(true, Ordering::Relaxed);
        // Others use the same disk: what counts is that about half of them get room, and not all.
        leaving(&file, &space, 50 * FIRST);
        let growths: Vec<_> = (0..100)
            .map(|_| {
                let mut growth = Growth::from(&space, 0);
                let got = growth.assure(&file, 0, 1000);
                (got, growth)
            })
            .collect();
        let got = growths.iter().filter(|(got, _)| got.is_ok()).count();
        assert!((20..80).contains(&got), "{got} of 100");
        assert_eq!(growths.iter().find_map(|(got, _)| got.err()), Some(Errno::NOSPC));
        drop(growths);
        assert_eq!(space.promised.load(Ordering::SeqCst), 0, "what is over gives its room back");
    }

    #[test]
    fn what_is_set_aside_is_counted_by_the_file_system_and_cut_off_again() {
        let file = tempfile::tempfile().unwrap();
        let space = Arc::new(Space::default());
        let mut growth = Growth::from(&space, 0);
        growth.assure(&file, 0, 2 * FIRST).unwrap();
        if !growth.is_ahead {
            return;
        }
        assert_eq!(space.promised.load(Ordering::SeqCst), 0);
        assert_eq!(growth.until, STEP);
        assert_eq!(file.metadata().unwrap().len(), 0, "it is no part of the file");
        file.write_all_at(&[1; 5000], 0).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= STEP);
        assert!(growth.settle(5000));
        file.set_len(5000).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 < FIRST);
    }

    #[test]
    fn what_is_written_is_promised_no_more_and_a_gap_is_not_promised_at_all() {
        let file = tempfile::tempfile().unwrap();
        let space = Arc::new(Space::default());
        space.by_promise.store(true, Ordering::Relaxed);
        let promised = || space.promised.load(Ordering::SeqCst);
        let mut growth = Growth::from(&space, 0);
        growth.assure(&file, 0, 1000).unwrap();
        assert_eq!(promised(), FIRST);
        growth.has_written(1000);
        assert_eq!(promised(), FIRST - 1000);
        growth.assure(&file, 900 << 20, 1000).unwrap();
        growth.has_written((900 << 20) + 1000);
        assert_eq!(promised(), FIRST - 1000, "what lies beyond a gap was not promised");
        assert!(!growth.settle(1000));
        assert_eq!(promised(), 0);
    }

    #[test]
    fn who_sends_a_byte_now_and_then_gets_no_more_room_than_who_sends_none() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().unwrap();
        let space = Arc::new(Space::default());
        let mut growth = Growth::from(&space, 0);
        for step in 0..64 {
            let offset = step * STEP;
            growth.assure(&file, offset, 1).unwrap();
            file.write_all_at(b"x", offset).unwrap();
            growth.has_written(offset + 1);
        }
        let taken = file.metadata().unwrap().blocks() * 512;
        assert!(taken <= 3 * STEP, "{taken} bytes for 64");
        assert!(space.promised.load(Ordering::SeqCst) <= STEP);
    }

    #[test]
    fn the_last_room_goes_to_who_needs_no_more() {
        let file = tempfile::tempfile().unwrap();
        let space = Arc::new(Space::default());
        space.by_promise.store(true, Ordering::Relaxed);
        leaving(&file, &space, FIRST / 2);
        let mut growth = Growth::from(&space, 0);
        growth.assure(&file, 0, 1000).unwrap();
        assert_eq!(growth.until, 1000);
        assert_eq!(Growth::from(&space, 0).assure(&file, 0, FIRST), Err(Errno::NOSPC));
    }
}

//! The access log: JSON lines, one file per process and UTC day, each line carrying the hash of the one before. A record
//! that `append` has answered with `Ok` is on the disk. **No record, no reply**: after an `Err` the caller refuses the
//! request. What a record says is `policy::record`'s business, how long days are kept `policy::retention`'s.
//!
//! One thread writes. Whatever waits when it comes round becomes one write and one fdatasync, so that many sessions
//! share the price of the disk. After a failure the log is not healthy, which turns readiness red, until a write
//! succeeds; the thread keeps trying by itself, because with readiness red nobody may come to try for it.

mod day_file;
mod expire;
mod jump;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::civil::Date;
use prometheus::core::Collector;
use prometheus::{IntCounter, IntGauge};

use self::day_file::{Chain, DayFile, WriteThrough};
use self::jump::JumpWatch;
use super::clock::{Clock, utc_day};
use crate::policy::path::Slug;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::retention::{self, Keeper, LogName};
use crate::policy::trust::Leave;

/// Records that may wait for the writer; whoever comes then waits for room.
const QUEUE: usize = 1024;
/// Records in one write.
const BATCH: usize = 512;
/// How often a log that cannot be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a log to which nothing is written is looked at: readiness must not wait for somebody to come and be refused.
const LOOK: Duration = Duration::from_secs(5);

/// Why a record is not on the disk. Cheap to clone: all who shared a failed write get it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// A system call failed.
    #[error("cannot {doing} the access log {path}: {cause}; requests are refused until that is mended", path = path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// The file or the folder.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        cause: Arc<io::Error>,
    },
    /// The name is taken by something that is no file.
    #[error("{path} is not a regular file: move it away, the access log is written there", path = path.display())]
    NotAFile {
        /// The name.
        path: PathBuf,
    },
    /// A second process would break the chain.
    #[error("another process writes the access log {path}: stop it, or give each its own `node` in dropzone.yaml", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The record cannot become a line.
    #[error("the access record cannot be written as a line: {0}")]
    Record(String),
    /// The process name is none.
    #[error("{0}")]
    Name(String),
    /// The log's own metrics could not be made.
    #[error("the access log's metrics cannot be made: {0}")]
    Metrics(#[source] Arc<prometheus::Error>),
    /// The writer thread has ended or could not begin.
    #[error("the writer of the access log does not run; restart the daemon")]
    Stopped,
}

/// The access log of one process. Shared by `Arc`; dropping it waits until everything queued is on the disk.
pub struct AccessLog {
    queue: Option<SyncSender<Entry>>,
    writer: Option<JoinHandle<()>>,
    health: Health,
    directory: PathBuf,
    process: Slug,
    node: Slug,
}

impl AccessLog {
    /// Opens today's file, continues its chain, and begins to write. `process` is `serve`, `work` or `cli`.
    pub fn open(
        directory: &Path,
        node: &Slug,
        process: &'static str,
        clock: Clock,
    ) -> Result<Self, LogError> {
        Self::open_with(directory, node, process, clock, (Box::new(day_file::write_and_sync), RETRY))
    }

    fn open_with(
        directory: &Path,
        node: &Slug,
        process: &str,
        clock: Clock,
        (write_through, retry): (WriteThrough, Duration),
    ) -> Result<Self, LogError> {
        let process = Slug::parse(process).map_err(LogError::Name)?;
        let health = Health::new().map_err(|error| LogError::Metrics(Arc::new(error)))?;
        let mut writer = Writer {
            directory: directory.to_owned(),
            process: process.clone(),
            node: node.clone(),
            clock: clock.clone(),
            write_through,
            current: None,
            last: None,
            health: health.clone(),
            refused: 0,
            jumps: JumpWatch::default(),
        };
        writer.day_file(clock.today_utc())?;
        writer.is_in_order();
        let (queue, entries) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("access-log".into());
        let thread = thread.spawn(move || writer.run(&entries, retry)).map_err(|_| LogError::Stopped)?;
        let directory = directory.to_owned();
        Ok(Self { queue: Some(queue), writer: Some(thread), health, directory, process, node: node.clone() })
    }

    /// Puts a record on the disk. Blocks the thread; an async task uses [`Self::append_async`].
    pub fn append(&self, record: &Record) -> Result<(), LogError> {
        let queue = self.queue.as_ref().ok_or(LogError::Stopped)?;
        let (answer, answered) = sync_channel(1);
        let answer = Box::new(move |result| drop(answer.send(result)));
        queue.send(Entry { record: record.clone(), answer }).map_err(|_| LogError::Stopped)?;
        answered.recv().map_err(|_| LogError::Stopped)?
    }

    /// Puts a record on the disk. Once polled, the record is written even if the future is dropped.
    pub async fn append_async(&self, record: Record) -> Result<(), LogError> {
        let queue = self.queue.as_ref().ok_or(LogError::Stopped)?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let answer = Box::new(move |result| drop(answer.send(result)));
        match queue.try_send(Entry { record, answer }) {
            Ok(()) => {}
            Err(TrySendError::Full(entry)) => {
                let queue = queue.clone();
                let sent = tokio::task::spawn_blocking(move || queue.send(entry).is_ok()).await;
                sent.is_ok_and(|sent| sent).then_some(()).ok_or(LogError::Stopped)?;
            }
            Err(TrySendError::Disconnected(_)) => return Err(LogError::Stopped),
        }
        answered.await.map_err(|_| LogError::Stopped)?
    }

    /// Deletes the days that lie more than `keep_days` back, as far as they are this process's to delete, and returns their
    /// names. Each deletion is recorded before it is done: what is cut off between the two is done again the next time,
    /// whereas a deletion without record could never be explained. Blocks: reads every file that it deletes.
    pub fn expire(&self, leave: Leave, keep_days: u16) -> Result<Vec<LogName>, LogError> {
        let names = expire::names(&self.directory)?;
        let keeper = Keeper { process: &self.process, node: &self.node };
        let mut deleted = Vec::new();
        let mut failed = None;
        for name in retention::expired(leave, keep_days, keeper, &names) {
            if !expire::may_remove(&self.directory, &name) {
                continue;
            }
            match self.expire_day(&name) {
                Ok(()) => deleted.push(name),
                // The others have their turn all the same.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(deleted), Err)
    }

    fn expire_day(&self, name: &LogName) -> Result<(), LogError> {
        let Some((bytes, sha256)) = expire::digest(&self.directory, name)? else { return Ok(()) };
        self.append(&Record {
            path: Some(name.to_string()),
            sha256: Some(sha256),
            bytes: Some(bytes),
            ..Record::new(Event::Expire, Outcome::Ok)
        })?;
        expire::remove(&self.directory, name)
    }

    /// Whether the last write succeeded.
    pub fn is_healthy(&self) -> bool {
        self.health.healthy.get() == 1 && self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
    }

    /// Whether its folder was replaced by one that this process is kept from: it must be started again to reach it.
    pub fn is_out_of_reach(&self) -> bool {
        self.health.out_of_reach.load(Ordering::Relaxed)
    }

    /// What metrics show of it.
    pub fn collectors(&self) -> [Box<dyn Collector>; 4] {
        let Health { healthy, errors, torn, free, out_of_reach: _ } = self.health.clone();
        [Box::new(healthy), Box::new(errors), Box::new(torn), Box::new(free)]
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// A record, and whom to tell when it is on the disk.
struct Entry {
    record: Record,
    answer: Answer,
}

type Answer = Box<dyn FnOnce(Result<(), LogError>) + Send>;

#[derive(Clone)]
struct Health {
    healthy: IntGauge,
    errors: IntCounter,
    torn: IntCounter,
    free: IntGauge,
    out_of_reach: Arc<AtomicBool>,
}

impl Health {
    fn new() -> Result<Self, prometheus::Error> {
        let healthy = IntGauge::new("dropzone_access_log_healthy", "1 while the access log can be written")?;
        healthy.set(1);
        let errors =
            IntCounter::new("dropzone_access_log_errors_total", "Records that could not be written")?;
        let torn =
            IntCounter::new("dropzone_access_log_torn_lines_total", "Lines that were found cut short")?;
        let free =
            IntGauge::new("dropzone_access_log_free_bytes", "What can still be written beside the log")?;
        Ok(Self { healthy, errors, torn, free, out_of_reach: Arc::default() })
    }
}

/// What the thread owns.
struct Writer {
    directory: PathBuf,
    process: Slug,
    node: Slug,
    clock: Clock,
    write_through: WriteThrough,
    current: Option<DayFile>,
    /// The last line of which this process knows that it is on the disk.
    last: Option<(Date, Chain)>,
    health: Health,
    /// Records lost since the last success.
    refused: u64,
    jumps: JumpWatch,
}

impl Writer {
    fn run(&mut self, entries: &Receiver<Entry>, retry: Duration) {
        loop {
            let is_healthy = self.health.healthy.get() == 1;
            let mut batch = Vec::new();
            match entries.recv_timeout(if is_healthy { LOOK.min(retry) } else { retry }) {
                Ok(entry) => batch.push(entry),
                Err(RecvTimeoutError::Timeout) if is_healthy && self.is_in_order() => continue,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            batch.extend(entries.try_iter().take(BATCH - 1));
            self.commit(batch);
        }
    }

    /// Whether the next record will find the file where it was, on a disk that takes it. What only a write can tell, the next
    /// write tells.
    fn is_in_order(&mut self) -> bool {
        let room = self.current.as_ref().filter(|file| file.is_in_place()).and_then(DayFile::room);
        self.health.free.set(i64::try_from(room.unwrap_or(0)).unwrap_or(i64::MAX));
        room.is_some()
    }

    /// All of a batch is on the disk, or none of it is acknowledged.
    fn commit(&mut self, batch: Vec<Entry>) {
        let mut waiting = Vec::with_capacity(batch.len());
        let result = self.write(batch, &mut waiting);
        match &result {
            Ok(()) => {
                self.health.healthy.set(1);
                self.refused = 0;
            }
            Err(error) => {
                if self.health.healthy.get() == 1 {
                    tracing::error!("{error}");
                }
                self.health.healthy.set(0);
                let lost = waiting.len() as u64;
                self.health.errors.inc_by(lost);
                self.refused = self.refused.saturating_add(lost);
                self.current = None;
                let out_of_reach = day_file::is_out_of_reach(&self.directory, error);
                self.health.out_of_reach.store(out_of_reach, Ordering::Relaxed);
            }
        }
        for answer in waiting {
            answer(result.clone());
        }
    }

    fn write(&mut self, batch: Vec<Entry>, waiting: &mut Vec<Answer>) -> Result<(), LogError> {
        let mut records = Vec::with_capacity(batch.len() + 3);
        if self.health.healthy.get() != 1 {
            records.push(resumed(self.refused));
        }
        let now = self.clock.now();
        records.extend(self.jumps.notice(now, self.clock.since_boot()));
        for Entry { record, answer } in batch {
            match day_file::fits(&record) {
                Ok(()) => {
                    records.push(record);
                    waiting.push(answer);
                }
                Err(error) => answer(Err(error)),
            }
        }
        let day = utc_day(now);
        if self.day_file(day)? {
            records.insert(0, moved());
        }
        if records.is_empty() {
            if self.current.as_ref().is_some_and(|file| file.room().is_some()) {
                return Ok(());
            }
            // Its disk seems to take no writing: only a write can tell.
            records.push(resumed(0));
        }
        let Some(file) = self.current.as_mut() else { return Err(LogError::Stopped) };
        let (mut text, mut chain) = (Vec::new(), file.chain.clone());
        for record in records {
            chain.extend(&mut text, now, &file.name, record)?;
        }
        file.append(&text, chain.clone(), &mut self.write_through)?;
        self.last = Some((day, chain));
        Ok(())
    }

    /// Sees to it that `current` is the file of `day` and still where its name says. Whether it was not, although it was the one
    /// that was written to.
    fn day_file(&mut self, day: Date) -> Result<bool, LogError> {
        let current = self.current.take().filter(|file| file.name.day == day);
        if let Some(file) = &current {
            if file.is_in_place() {
                self.current = current;
                return Ok(false);
            }
            tracing::error!(file = %file.name, "the access log was removed, replaced or cut short; its chain goes on in what is there now");
        }
        let was_moved = current.is_some();
        drop(current);
        let name = LogName { day, process: self.process.clone(), node: self.node.clone() };
        let mut file = DayFile::open(&self.directory, name)?;
        if file.was_torn {
            tracing::warn!(file = %file.name, "a line of the access log was cut short; it was never acknowledged");
            self.health.torn.inc();
        }
        // A file that was removed, emptied or replaced while this process ran must not look like a new day: the chain
        // goes on from what is known, and shows the gap.
        if let Some((_, known)) =
            self.last.as_ref().filter(|(on, known)| *on == day && known.seq > file.chain.seq)
        {
            file.chain = known.clone();
        }
        self.current = Some(file);
        Ok(was_moved)
    }
}

/// What stands in the log where its file was taken away from under the process.
fn moved() -> Record {
    let detail = "the log's file was removed, replaced or cut short; what was written to it before is not in front of this";
    Record { detail: Some(detail.to_owned()), ..Record::new(Event::Start, Outcome::Ok) }
}

/// What stands in the log where it could not be written for a while.
fn resumed(refused: u64) -> Record {
    let detail = format!("the log could not be written for a while; records refused meanwhile: {refused}");
    Record { detail: Some(detail), ..Record::new(Event::Start, Outcome::Ok) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::policy::record::Line;

    /// A log folder, a clock that is set by hand, and a disk that can be told to fail.
    struct Fixture {
        directory: tempfile::TempDir,
        disk: Arc<Mutex<Disk>>,
    }

    #[derive(Default)]
    struct Disk {
        full: bool,
        syncs: usize,
        slow: bool,
    }

    const DAY: &str = "2026-11-21T23:59:58Z";
    const TODAY: &str = "2026-11-21.serve.zone-1.jsonl";

    impl Fixture {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), disk: Arc::default() }
        }

        fn open_at(&self, at: &str, retry: Duration) -> Result<AccessLog, LogError> {
            let disk = Arc::clone(&self.disk);
            let write_through: WriteThrough = Box::new(move |file, text| {
                let (full, slow) = {
                    let mut disk = disk.lock().unwrap();
                    disk.syncs += 1;
                    (disk.full, disk.slow)
                };
                if slow {
                    std::thread::sleep(Duration::from_millis(20));
                }
                if full {
                    // The disk takes half of it, then says what a full one says.
                    (&mut &*file).write_all(&text[..text.len() / 2])?;
                    return std::fs::OpenOptions::new().write(true).open("/dev/full")?.write_all(text);
                }
                day_file::write_and_sync(file, text)
            });
            let clock = Clock::fixed(at.parse().unwrap());
            let node = Slug::parse("zone-1").unwrap();
            AccessLog::open_with(self.directory.path(), &node, "serve", clock, (write_through, retry))
        }

        fn open(&self) -> AccessLog {
            self.open_at(DAY, Duration::from_secs(3600)).unwrap()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.path(name)).unwrap()
        }

        /// The lines of a file, after checking that they form one chain.
        fn chain(&self, name: &str) -> Vec<Line> {
            let text = self.text(name);
            assert!(text.is_empty() || text.ends_with('\n'));
            let (mut prev, mut lines) = ("0".repeat(64), Vec::new());
            for text in text.lines() {
                let Ok(line) = serde_json::from_str::<Line>(text) else { continue };
                assert_eq!((line.seq, &line.prev), (lines.len() as u64 + 1, &prev), "{text}");
                prev = crate::policy::digest::hex(&Sha256::digest(text.as_bytes()));
                lines.push(line);
            }
            lines
        }
    }

    fn record(detail: &str) -> Record {
        Record { detail: Some(detail.into()), ..Record::new(Event::OpenRead, Outcome::Ok) }
    }

    #[test]
    fn the_chain_goes_on_when_the_log_is_opened_again() {
        let fixture = Fixture::new();
        for _ in 0..3 {
            let log = fixture.open();
            log.append(&record("a")).unwrap();
            log.append(&record("b")).unwrap();
        }
        let lines = fixture.chain(TODAY);
        assert_eq!(lines.len(), 6);
        assert_eq!((lines[5].node.as_str(), lines[5].process.as_str()), ("zone-1", "serve"));
        assert_eq!(lines[5].time.to_string(), DAY);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(fixture.path(TODAY)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    }

    #[test]
    fn a_new_utc_day_is_a_new_file_with_a_new_chain() {
        let fixture = Fixture::new();
        fixture.open().append(&record("before midnight")).unwrap();
        let log = fixture.open_at("2026-11-22T00:00:00Z", RETRY).unwrap();
        log.append(&record("after midnight")).unwrap();
        assert_eq!(fixture.chain(TODAY).len(), 1);
        assert_eq!(fixture.chain("2026-11-22.serve.zone-1.jsonl").len(), 1);
    }

    #[test]
    fn the_day_changes_while_the_log_is_open() {
        let fixture = Fixture::new();
        let log = fixture.open();
        log.append(&record("a")).unwrap();
        let mut writer = Writer {
            directory: fixture.directory.path().to_owned(),
            process: Slug::parse("work").unwrap(),
            node: Slug::parse("zone-1").unwrap(),
            clock: Clock::fixed(DAY.parse().unwrap()),
            write_through: Box::new(day_file::write_and_sync),
            current: None,
            last: None,
            health: Health::new().unwrap(),
            refused: 0,
            jumps: JumpWatch::default(),
        };
        for at in [DAY, "2026-11-22T00:00:01Z", DAY] {
            writer.clock = Clock::fixed(at.parse().unwrap());
            let entry = Entry { record: record(at), answer: Box::new(|result| result.unwrap()) };
            writer.commit(vec![entry]);
        }
        assert_eq!(
            fixture.chain("2026-11-21.work.zone-1.jsonl").len(),
            2,
            "a clock set back continues its day"
        );
        assert_eq!(fixture.chain("2026-11-22.work.zone-1.jsonl").len(), 1);
    }

    #[test]
    fn whatever_the_clock_says_each_day_is_a_whole_chain_and_no_record_is_lost() {
        let jumps = [
            ("an hour back", "2026-11-21T22:59:58Z", 1),
            ("a day back", "2026-11-20T23:59:58Z", 2),
            ("a day ahead", "2026-11-22T23:59:58Z", 2),
            ("ten years ahead", "2036-11-21T23:59:58Z", 2),
        ];
        for (what, set_to, days) in jumps {
            let fixture = Fixture::new();
            let clock = Clock::fixed(DAY.parse().unwrap());
            let node = Slug::parse("zone-1").unwrap();
            let open = || AccessLog::open(fixture.directory.path(), &node, "serve", clock.clone()).unwrap();
            let log = open();
            log.append(&record("before")).unwrap();
            clock.set(set_to.parse().unwrap());
            log.append(&record("while it is wrong")).unwrap();
            drop(log);
            let log = open();
            log.append(&record("after a start")).unwrap();
            clock.set(DAY.parse().unwrap());
            log.append(&record("put right")).unwrap();
            drop(log);
            let names = std::fs::read_dir(fixture.directory.path()).unwrap();
            let names: Vec<String> =
                names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(names.len(), days, "{what}: {names:?}");
            let lines: Vec<Line> = names.iter().flat_map(|name| fixture.chain(name)).collect();
            let told = |detail: &str| {
                lines.iter().filter(|line| line.record.detail.as_deref() == Some(detail)).count()
            };
            for detail in ["before", "while it is wrong", "after a start", "put right"] {
                assert_eq!(told(detail), 1, "{what}: {detail}");
            }
            let jumps = lines.iter().filter(|line| line.record.event == Event::ClockJump).count();
            assert_eq!(jumps, 2, "{what}: there and back are told");
        }
    }

    #[test]
    fn a_line_cut_short_by_a_crash_is_ended_and_the_chain_goes_on_from_the_last_whole_one() {
        let fixture = Fixture::new();
        fixture.open().append(&record("whole")).unwrap();
        let whole = fixture.text(TODAY);
        std::fs::write(fixture.path(TODAY), format!("{whole}{}", &whole[..whole.len() / 2])).unwrap();
        let log = fixture.open();
        log.append(&record("after the crash")).unwrap();
        assert_eq!(fixture.text(TODAY).lines().count(), 3);
        assert_eq!(fixture.chain(TODAY).len(), 2);
        assert_eq!(log.health.torn.get(), 1);
    }

    #[test]
    fn the_last_line_is_found_behind_a_heap_of_rubble() {
        let fixture = Fixture::new();
        fixture.open().append(&record("whole")).unwrap();
        let rubble = "{\"time\":\n".repeat(40_000);
        std::fs::write(fixture.path(TODAY), fixture.text(TODAY) + &rubble).unwrap();
        fixture.open().append(&record("after")).unwrap();
        assert_eq!(fixture.chain(TODAY).len(), 2);
    }

    #[test]
    fn a_file_removed_or_replaced_underneath_is_noticed_and_the_gap_shows() {
        let fixture = Fixture::new();
        let log = fixture.open();
        log.append(&record("1")).unwrap();
        std::fs::remove_file(fixture.path(TODAY)).unwrap();
        log.append(&record("2")).unwrap();
        std::fs::rename(fixture.path(TODAY), fixture.path("elsewhere")).unwrap();
        std::fs::write(fixture.path(TODAY), "").unwrap();
        log.append(&record("3")).unwrap();
        std::fs::rename(fixture.path(TODAY), fixture.path("elsewhere too")).unwrap();
        log.append(&record("4")).unwrap();
        for (name, seq) in [("elsewhere", 2), ("elsewhere too", 4), (TODAY, 6)] {
            let text = fixture.text(name);
            let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let numbers: Vec<u64> = lines.iter().map(|line| line.seq).collect();
            assert_eq!(numbers, [seq, seq + 1], "a new file must not look like a new day");
            assert_ne!(lines[0].prev, "0".repeat(64));
            let told = lines[0].record.detail.as_deref().unwrap();
            assert!(told.contains("removed, replaced or cut short"), "{told}");
        }
    }

    #[test]
    fn a_file_cut_short_underneath_is_noticed_and_its_chain_goes_on() {
        let fixture = Fixture::new();
        let log = fixture.open();
        for detail in ["1", "2", "3"] {
            log.append(&record(detail)).unwrap();
        }
        let text = fixture.text(TODAY);
        std::fs::write(fixture.path(TODAY), &text[..text.find('\n').unwrap() + 1]).unwrap();
        log.append(&record("after")).unwrap();
        let text = fixture.text(TODAY);
        let seqs = text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap().seq);
        assert_eq!(seqs.collect::<Vec<_>>(), [1, 4, 5], "the gap shows, and the record of it");
    }

    #[test]
    fn a_log_taken_away_from_a_quiet_process_is_noticed_without_a_record() {
        let fixture = Fixture::new();
        let log = fixture.open_at(DAY, Duration::from_millis(10)).unwrap();
        log.append(&record("before")).unwrap();
        let aside = fixture.directory.path().with_extension("aside");
        let until = |healthy: bool| {
            (0..500).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                log.is_healthy() == healthy
            })
        };
        std::fs::rename(fixture.directory.path(), &aside).unwrap();
        assert!(until(false), "readiness turns red though nobody came");
        std::fs::create_dir(fixture.directory.path()).unwrap();
        assert!(until(true), "and green in the folder made anew");
        let text = fixture.text(TODAY);
        let line: Line = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line.seq, 2, "the chain goes on");
        std::fs::remove_dir_all(aside).unwrap();
    }

    #[test]
    fn a_full_disk_refuses_every_record_leaves_no_trace_and_recovers() {
        let fixture = Fixture::new();
        let log = fixture.open();
        log.append(&record("before")).unwrap();
        fixture.disk.lock().unwrap().full = true;
        for _ in 0..2 {
            let error = log.append(&record("lost")).unwrap_err().to_string();
            assert!(error.contains("No space left") && error.contains(TODAY), "{error}");
            assert!(!log.is_healthy());
        }
        assert_eq!(log.health.errors.get(), 2);
        assert_eq!(fixture.text(TODAY).lines().count(), 1);
        fixture.disk.lock().unwrap().full = false;
        log.append(&record("after")).unwrap();
        assert!(log.is_healthy());
        let lines = fixture.chain(TODAY);
        let details: Vec<&str> = lines.iter().filter_map(|line| line.record.detail.as_deref()).collect();
        let resumed = "the log could not be written for a while; records refused meanwhile: 2";
        assert_eq!(details, ["before", resumed, "after"]);
    }

    #[test]
    fn a_log_that_nobody_writes_to_recovers_by_itself() {
        let fixture = Fixture::new();
        let log = fixture.open_at(DAY, Duration::from_millis(10)).unwrap();
        fixture.disk.lock().unwrap().full = true;
        log.append(&record("lost")).unwrap_err();
        fixture.disk.lock().unwrap().full = false;
        let recovered = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            log.is_healthy()
        });
        assert!(recovered);
        assert_eq!(fixture.chain(TODAY).len(), 1);
    }

    #[tokio::test]
    async fn records_that_come_together_share_a_sync_and_keep_one_chain() {
        let fixture = Fixture::new();
        let log = Arc::new(fixture.open());
        fixture.disk.lock().unwrap().slow = true;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..2000 {
            let log = Arc::clone(&log);
            tasks.spawn(async move { log.append_async(record(&n.to_string())).await.unwrap() });
        }
        tasks.join_all().await;
        assert_eq!(fixture.chain(TODAY).len(), 2000);
        let syncs = fixture.disk.lock().unwrap().syncs;
        assert!(syncs < 100, "{syncs}");
    }

    #[test]
    fn a_record_that_fits_no_line_is_refused_alone() {
        let fixture = Fixture::new();
        let log = fixture.open();
        let error = log.append(&record(&"x".repeat(70_000))).unwrap_err();
        assert!(matches!(error, LogError::Record(_)), "{error}");
        assert!(log.is_healthy());
        log.append(&record("small")).unwrap();
        assert_eq!(fixture.chain(TODAY).len(), 1);
    }

    #[test]
    fn a_second_writer_a_symlink_and_a_missing_folder_are_refused() {
        let fixture = Fixture::new();
        let log = fixture.open();
        let second = fixture.open_at(DAY, RETRY).err().unwrap();
        assert!(matches!(second, LogError::InUse { .. }), "{second}");
        drop(log);
        std::fs::rename(fixture.path(TODAY), fixture.path("target")).unwrap();
        std::os::unix::fs::symlink("target", fixture.path(TODAY)).unwrap();
        assert!(fixture.open_at(DAY, RETRY).is_err());
        std::fs::remove_file(fixture.path(TODAY)).unwrap();
        std::fs::create_dir(fixture.path(TODAY)).unwrap();
        assert!(fixture.open_at(DAY, RETRY).is_err());
        std::fs::remove_dir_all(fixture.directory.path()).unwrap();
        assert!(fixture.open_at(DAY, RETRY).is_err());
    }

    #[test]
    fn expiry_records_and_removes_own_old_days_and_touches_nothing_else() {
        let fixture = Fixture::new();
        let (old, kept) = ("2026-10-20.serve.zone-1.jsonl", "2026-10-21.serve.zone-1.jsonl");
        let others = [
            "2026-10-20.work.zone-1.jsonl",
            "2026-10-20.serve.zone-2.jsonl",
            "2026-11-20.work.zone-2.jsonl",
            "2026-10-20.txt",
        ];
        for name in others.iter().chain([&old, &kept]) {
            std::fs::write(fixture.path(name), "abc").unwrap();
        }
        let log = fixture.open();
        let leave = Leave::at(DAY);
        assert_eq!(log.expire(leave, 31).unwrap(), [LogName::parse(old).unwrap()]);
        assert!(!fixture.path(old).exists());
        assert!(others.iter().chain([&kept]).all(|name| fixture.path(name).exists()));
        let [line] = fixture.chain(TODAY).try_into().unwrap();
        assert_eq!((line.record.event, line.record.path.as_deref()), (Event::Expire, Some(old)));
        assert_eq!(line.record.bytes, Some(3));
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(line.record.sha256.as_deref(), Some(sha256));
        assert!(log.expire(leave, 31).unwrap().is_empty());
    }

    #[test]
    fn a_machine_that_is_no_more_loses_its_old_days_too() {
        let fixture = Fixture::new();
        let old = ["2026-09-01.serve.zone-2.jsonl", "2026-09-02.serve.zone-2.jsonl"];
        let others = ["2026-09-01.work.zone-2.jsonl", "2026-09-01.cli.zone-2.jsonl"];
        for name in old.iter().chain(&others) {
            std::fs::write(fixture.path(name), "abc").unwrap();
        }
        let log = fixture.open();
        assert_eq!(log.expire(Leave::at(DAY), 31).unwrap().len(), 2);
        assert!(old.iter().all(|name| !fixture.path(name).exists()));
        assert!(others.iter().all(|name| fixture.path(name).exists()), "those are `work`'s");
        assert_eq!(fixture.chain(TODAY).len(), 2);
    }

    #[test]
    fn nothing_is_deleted_that_cannot_be_recorded() {
        let fixture = Fixture::new();
        let old = "2026-10-20.serve.zone-1.jsonl";
        std::fs::write(fixture.path(old), "abc").unwrap();
        let log = fixture.open();
        fixture.disk.lock().unwrap().full = true;
        log.expire(Leave::at(DAY), 31).unwrap_err();
        assert!(fixture.path(old).exists());
    }
}

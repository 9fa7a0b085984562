//! The guard at fixed times, over restarts, and with a log that cannot be written.

use std::time::Duration;

use super::*;

const NOON: &str = "2026-11-21T12:00:00Z";

struct Fixture {
    folder: tempfile::TempDir,
    clock: Clock,
}

impl Fixture {
    fn at(time: &str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Clock::fixed(time.parse().unwrap()) }
    }

    /// A process that starts now.
    fn start(&self) -> (Guard, AccessLog) {
        let (folder, node) = (self.folder.path(), Slug::parse("zone-1").unwrap());
        let guard = Guard::open(folder, &node, "work", self.clock.clone()).unwrap();
        (guard, AccessLog::open(folder, &node, "work", self.clock.clone()).unwrap())
    }

    fn set(&self, time: &str) {
        self.clock.set(time.parse().unwrap());
    }

    /// What the log says that the guard said, and whether deletions waited after it.
    fn events(&self) -> Vec<(Event, Outcome)> {
        let mut lines: Vec<Line> = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "jsonl") {
                let text = std::fs::read_to_string(path).unwrap();
                lines.extend(text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap()));
            }
        }
        let is_guards = |line: &Line| {
            let detail = line.record.detail.as_deref().unwrap_or_default();
            !detail.contains("since the record before")
        };
        lines.retain(is_guards);
        lines.into_iter().map(|line| (line.record.event, line.record.outcome)).collect()
    }
}

#[test]
fn a_jump_while_running_holds_deletions_back_until_it_is_confirmed_and_the_log_says_both() {
    let zone = Fixture::at(NOON);
    let (guard, log) = zone.start();
    assert!(guard.look(&log).is_some());
    zone.set("2036-11-21T12:00:00Z");
    for _ in 0..3 {
        assert_eq!(guard.look(&log), None);
    }
    assert!(guard.is_held());
    let told = guard.confirm(&log, "uid 0", "NTP was away\n").unwrap();
    assert!(told.contains("2036-11-21T12:00:00Z is right"), "{told}");
    assert_eq!(guard.look(&log).unwrap().now(), "2036-11-21T12:00:00Z".parse().unwrap());
    let held = (Event::ClockJump, Outcome::Denied);
    assert_eq!(zone.events(), [held, (Event::Confirm, Outcome::Ok)]);
    let again = guard.confirm(&log, "uid 0", "once more").unwrap();
    assert!(again.contains("nothing to confirm"), "{again}");
    assert_eq!(zone.events().len(), 2);
}

#[test]
fn a_clock_that_comes_back_by_itself_lets_deletions_go_on_and_the_log_says_so() {
    let zone = Fixture::at(NOON);
    let (guard, log) = zone.start();
    assert!(guard.look(&log).is_some());
    zone.set("2016-11-21T12:00:00Z");
    assert_eq!(guard.look(&log), None);
    zone.set("2026-11-21T12:30:00Z");
    assert!(guard.look(&log).is_some());
    assert!(!guard.is_held());
    let jump = |outcome| (Event::ClockJump, outcome);
    let mut events = zone.events();
    events.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(events, [jump(Outcome::Denied), jump(Outcome::Ok)]);
}

#[test]
fn a_stop_of_more_than_a_day_and_a_jump_over_a_restart_wait_too() {
    for (time, goes_on) in [
        ("2026-11-21T11:00:00Z", true),
        ("2026-11-20T12:00:00Z", true),
        ("2026-11-22T12:00:00Z", true),
        ("2026-11-24T12:00:00Z", false),
        ("2026-11-19T12:00:00Z", false),
        ("2036-11-21T12:00:00Z", false),
    ] {
        let zone = Fixture::at(NOON);
        let (guard, log) = zone.start();
        assert!(guard.look(&log).is_some());
        drop((guard, log));
        zone.set(time);
        let (guard, log) = zone.start();
        assert_eq!(guard.look(&log).is_some(), goes_on, "{time}");
        drop((guard, log));
        // Waiting outlasts another restart, however long it took, and so does being confirmed.
        zone.clock.pass(Duration::from_secs(3600));
        let (guard, log) = zone.start();
        assert_eq!(guard.look(&log).is_some(), goes_on, "{time}, once more");
        guard.confirm(&log, "uid 0", "right").unwrap();
        drop((guard, log));
        let (guard, log) = zone.start();
        assert!(guard.look(&log).is_some(), "{time}, confirmed");
    }
}

#[test]
fn what_is_known_is_written_down_while_time_passes() {
    let zone = Fixture::at(NOON);
    let (guard, log) = zone.start();
    assert!(guard.look(&log).is_some());
    let known = || told(zone.folder.path()).unwrap().remove(0).known;
    assert_eq!(known(), Known { time: NOON.parse().unwrap(), held: false });
    for _ in 0..10 {
        zone.clock.pass(Duration::from_secs(600));
        assert!(guard.look(&log).is_some());
    }
    assert_eq!(known().time, "2026-11-21T13:40:00Z".parse().unwrap());
    zone.set("2036-11-21T12:00:00Z");
    assert_eq!(guard.look(&log), None);
    let told = told(zone.folder.path()).unwrap().remove(0);
    assert_eq!((told.process.as_str(), told.node.as_str()), ("work", "zone-1"));
    assert_eq!(told.known, Known { time: "2026-11-21T13:40:00Z".parse().unwrap(), held: true });
    let node = Slug::parse("zone-1").unwrap();
    assert_eq!(leave_of_work(zone.folder.path(), &node, &zone.clock).unwrap(), None);
    guard.confirm(&log, "uid 0", "right").unwrap();
    assert!(leave_of_work(zone.folder.path(), &node, &zone.clock).unwrap().is_some());
}

#[test]
fn the_newest_record_tells_the_time_where_nothing_was_written_down() {
    for (time, goes_on) in [("2026-11-22T11:00:00Z", true), ("2036-11-21T12:00:00Z", false)] {
        let zone = Fixture::at(NOON);
        let (_, log) = zone.start();
        log.append(&Record::new(Event::Start, Outcome::Ok)).unwrap();
        drop(log);
        zone.set(time);
        let (guard, log) = zone.start();
        assert_eq!(guard.look(&log).is_some(), goes_on, "{time}");
    }
}

#[test]
fn what_cannot_be_recorded_lets_nothing_go_on() {
    let zone = Fixture::at(NOON);
    let (guard, log) = zone.start();
    assert!(guard.look(&log).is_some());
    zone.set("2036-11-21T12:00:00Z");
    assert_eq!(guard.look(&log), None);
    // A folder in the place of the day's file: no record can be written.
    let today = zone.folder.path().join("2036-11-21.work.zone-1.jsonl");
    std::fs::remove_file(&today).unwrap();
    std::fs::create_dir(&today).unwrap();
    guard.confirm(&log, "uid 0", "right").unwrap_err();
    assert_eq!(guard.look(&log), None);
    let day = zone.folder.path().join("2026-11-21.work.zone-1.jsonl");
    let _ = std::fs::remove_file(&day);
    std::fs::create_dir(&day).unwrap();
    zone.set(NOON);
    assert_eq!(guard.look(&log), None, "that the clock came back cannot be recorded");
    std::fs::remove_dir(&day).unwrap();
    assert!(guard.look(&log).is_some());
}

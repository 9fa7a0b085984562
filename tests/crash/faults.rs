//! A disk that is full, broken or read-only, for the spool and for the log by itself: the client hears of it, nothing half-made
//! stays, and when the cause is gone the zone goes on by itself.

use rustix::io::Errno;

use crate::disk::Disk;
use crate::disk::rules::{Action, Filter, Room, Rule};
use crate::harness::Daemon;
use crate::model::{self, EXCHANGE, Lists};
use crate::zone::Site;

fn failing(kind: &'static str, prefix: &'static str, error: Errno) -> Rule {
    Rule::new(Filter::kind(kind, prefix), Action::Fail(error))
}

fn full(disk: &Disk, top: &str) {
    disk.room(top, Room { bytes: disk.used(top).0, inodes: 1 << 20 });
}

fn without_inodes(disk: &Disk, top: &str) {
    disk.room(top, Room { bytes: 1 << 40, inodes: disk.used(top).1 });
}

type Break = fn(&Disk);

/// What breaks, how, and whether `serve` says that it is not ready.
const FAULTS: &[(&str, Break, bool)] = &[
    ("the spool is full", |disk| full(disk, "spool"), false),
    ("the spool has no inodes", |disk| without_inodes(disk, "spool"), false),
    (
        "the spool is read-only",
        |disk| disk.rule(Rule::new(Filter::under("spool"), Action::Fail(Errno::ROFS))),
        false,
    ),
    ("a sync of an upload fails", |disk| disk.rule(failing("fsync", "spool/partial", Errno::IO)), false),
    (
        "the incoming folder cannot be synced",
        |disk| disk.rule(failing("fsync", "spool/incoming/", Errno::IO)),
        false,
    ),
    ("the log is full", |disk| full(disk, "log"), true),
    (
        "the log is read-only",
        |disk| disk.rule(Rule::new(Filter::under("log"), Action::Fail(Errno::ROFS))),
        true,
    ),
    ("the log cannot be synced", |disk| disk.rule(failing("fsync", "log", Errno::IO)), true),
];

#[test]
fn a_failing_disk_is_told_and_overcome() {
    let Some(mut site) = Site::new() else { return };
    let mut lists = Lists::of(&site);
    let mut taken = Vec::new();
    for (what, break_disk, is_log) in FAULTS {
        let list = lists.next();
        break_disk(&site.disk);
        assert!(!site.put(EXCHANGE, &list.name, &list.sent), "{what}, and the upload was acknowledged");
        assert!(!is_log || !site.is_ready(Daemon::Serve), "{what}, and serve says that it is ready");
        site.disk.heal();
        site.zone.wait_for(&format!("readiness after {what}"), || {
            [Daemon::Serve, Daemon::Work].into_iter().all(|daemon| site.is_ready(daemon)).then_some(())
        });
        assert!(
            site.put(EXCHANGE, &list.name, &list.sent),
            "{what}, healed, and the upload is still refused"
        );
        taken.push(list);
        model::check(&site, &taken, true).unwrap_or_else(|why| panic!("after {what}: {why}"));
    }
    model::check_all(&mut site, &taken).unwrap();
}

fn of_work(kind: &'static str, prefix: &'static str, error: Errno) -> Rule {
    Rule::new(Filter::kind(kind, prefix).by(Daemon::Work), Action::Fail(error))
}

/// What fails for `work` only, after the upload was acknowledged.
const JOB_FAULTS: &[(&str, &str, &str, Errno)] = &[
    ("a result cannot be made", "create", "spool/active", Errno::NOSPC),
    ("a result cannot be written", "write", "spool/active", Errno::NOSPC),
    ("a result cannot be synced", "fsync", "spool/active", Errno::IO),
    ("an outbox is full", "rename", "spool/outbox", Errno::NOSPC),
    ("an outbox cannot be synced", "fsync", "spool/outbox", Errno::IO),
    ("a receipt finds no room", "rename", "spool/receipts", Errno::NOSPC),
    ("receipts cannot be synced", "fsync", "spool/receipts", Errno::IO),
    ("a marker cannot be made", "create", "spool/seen", Errno::NOSPC),
    ("nothing can be finished", "rename", "spool/done", Errno::IO),
    ("what is finished cannot be synced", "fsync", "spool/done", Errno::IO),
];

#[test]
fn a_job_on_a_failing_disk_delivers_once_when_the_disk_is_well_again() {
    let Some(mut site) = Site::new() else { return };
    let mut lists = Lists::of(&site);
    let mut sent = Vec::new();
    for (what, kind, prefix, error) in JOB_FAULTS {
        let list = lists.next();
        site.disk.rule(of_work(kind, prefix, *error));
        assert!(site.put(EXCHANGE, &list.name, &list.sent), "{what}, and the upload was refused");
        site.zone.wait_for(&format!("a try at which {what}"), || (site.disk.struck() > 0).then_some(()));
        // Long enough for what follows from it, also for the next try to meet it again.
        std::thread::sleep(std::time::Duration::from_millis(300));
        site.disk.heal();
        sent.push(list);
        // Its next try would come in half a minute.
        site.zone.wait_for(&format!("the end of the job after {what}"), || {
            for id in site.zone.arrivals("deferred") {
                site.operator(&["retry", &id, "--reason", "the disk is well again"]);
            }
            let is_empty = |state: &str| site.zone.arrivals(state).is_empty();
            ["incoming", "active", "deferred"].into_iter().all(is_empty).then_some(())
        });
        model::check(&site, &sent, true).unwrap_or_else(|why| panic!("after {what}: {why}"));
    }
    model::check_all(&mut site, &sent).unwrap();
}

#[test]
fn a_slow_sync_of_one_upload_keeps_no_other_session_waiting() {
    let Some(site) = Site::new() else { return };
    let mut lists = Lists::of(&site);
    let (slow, quick) = (lists.next(), lists.next());
    let long = std::time::Duration::from_secs(8);
    let slow_name = slow.name.clone();
    let of_slow = move |call: &crate::disk::tree::Call| {
        call.path.starts_with("spool/partial")
            && call.path.contains(&slow_name)
            && call.path.ends_with("payload.age")
    };
    site.disk.rule(Rule::new(Filter::new(of_slow), Action::Slow(long)));
    std::thread::scope(|scope| {
        let one = scope.spawn(|| site.put(EXCHANGE, &slow.name, &slow.sent));
        site.zone.wait_for("the slow sync to begin", || (site.disk.struck() > 0).then_some(()));
        assert!(site.put(EXCHANGE, &quick.name, &quick.sent));
        assert!(!one.is_finished(), "the one waits for its disk, and nobody else does");
        model::check(&site, std::slice::from_ref(&quick), false).unwrap();
        assert!(one.join().unwrap());
    });
    model::check(&site, &[slow, quick], true).unwrap();
}

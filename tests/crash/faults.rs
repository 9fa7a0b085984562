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

//! What a crash or a failing disk leaves of uploads: nothing that counts, nothing that stays, nothing that is published.

use std::fs;

use rustix::process::Signal;

use crate::harness::disk::SmallDisk;
use crate::harness::observe::names;
use crate::harness::{AN, Daemon, Zone};

const LIST: &str = "insz\n85073003328\n";

#[test]
fn what_a_crash_left_is_swept_away_within_a_minute_and_never_counted() {
    let mut zone = Zone::lay_out();
    zone.configure("limits: {partials: 1}");
    zone.start();
    zone.end_with(Signal::KILL);
    let partial = zone.spool().join("partial/agency.pillar-3");
    for name in ["empty.csv.age", "described.csv.age", "failed.csv.age"] {
        fs::create_dir(partial.join(name)).unwrap();
    }
    fs::write(partial.join("described.csv.age/arrival.json"), "{}").unwrap();
    fs::write(partial.join("failed.csv.age/.0123456789abcdef.new"), "{").unwrap();
    fs::write(partial.join("failed.csv.age/payload.age"), "bytes that may not be on the disk").unwrap();
    fs::write(partial.join("failed.csv.age/unsafe"), "").unwrap();
    let refused = zone.spool().join("refused/half.new");
    fs::create_dir(&refused).unwrap();
    fs::write(refused.join(".0123456789abcdef.new"), "{").unwrap();
    let receipts = zone.folder_of("receipts", "agency", "pillar-3");
    fs::write(receipts.join(".0123456789abcdef.new"), "{").unwrap();
    zone.wait_for("the end of the children", || {
        let gone = |daemon| !fs::exists(format!("/proc/{}", zone.pids(daemon).last().unwrap())).unwrap();
        (gone(Daemon::Serve) && gone(Daemon::Work)).then_some(())
    });
    zone.start();
    // One has content, and is the one that may be there.
    zone.put_here("list", zone.encrypt(LIST));
    zone.sftp(AN, "put list /pillar-3/in/failed.csv.age").must_succeed();
    zone.receipt("pillar-3", "failed.csv.age", "delivered");
    zone.sftp(AN, "put list /pillar-3/in/other.csv.age").must_succeed();
    zone.wait_for("a clean spool", || {
        let all = [&partial, &zone.spool().join("refused"), &receipts];
        let rubble = |name: &String| name.ends_with(".new") || name.ends_with(".csv.age");
        all.iter().all(|folder| !names(folder).iter().any(rubble)).then_some(())
    });
}

#[test]
fn a_file_that_the_disk_failed_is_never_gone_on_with() {
    let zone = Zone::new();
    let list = zone.encrypt(vec![b'x'; 300_000]);
    zone.put_here("whole", &list);
    // A temporary name: it stays until it is renamed.
    let folder = zone.spool().join("partial/agency.pillar-3/list.csv.age.part");
    let script = r#"
client = sftp()
content = read("whole")
file = client.open("/pillar-3/in/list.csv.age.part", "wb")
file.write(content)
file.close()
"#;
    let Some(told) = zone.python(AN, script) else { return };
    told.must_succeed();
    assert_eq!(names(&folder), ["payload.age"], "a sound upload has no mark");
    // As a process leaves it that ended between a failed sync and what it does about it.
    fs::write(folder.join("unsafe"), "").unwrap();
    zone.sftp(AN, "rename /pillar-3/in/list.csv.age.part /pillar-3/in/list.csv.age").must_fail();
    assert_eq!(zone.accepted(), 0);
    assert!(!folder.exists(), "nothing of it is left to be gone on with");
    zone.sftp(AN, "put whole /pillar-3/in/list.csv.age").must_succeed();
    assert_eq!(zone.logged(&[("event", "publish"), ("outcome", "ok")]).len(), 1);
}

#[test]
fn a_spool_that_takes_no_writing_refuses_cleanly_and_recovers_by_itself() {
    let mut zone = Zone::lay_out();
    let Some(disk) = SmallDisk::mount(&zone.spool(), "size=64m") else { return };
    zone.configure("limits: {spool-reserve: 1 MiB}");
    zone.start();
    zone.put_here("list", zone.encrypt(LIST));
    let waiting = zone.folder_of("outbox", "agency", "pillar-3").join("waiting.age");
    fs::write(&waiting, "a result").unwrap();
    zone.wait_for("a disk that nobody writes to", || {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(zone.spool());
        crate::harness::programs::run(&mut mount).succeeded().then_some(())
    });
    zone.sftp(AN, "put list /pillar-3/in/list.csv.age").must_fail();
    zone.sftp(AN, "rm /pillar-3/out/waiting.age").must_fail();
    assert!(waiting.exists());
    zone.sftp(AN, "get /pillar-3/out/waiting.age").must_succeed();
    let [line] = zone.logged(&[("event", "refuse")]).try_into().unwrap();
    assert_eq!((&line["reason"], &line["outcome"]), (&"unavailable".into(), &"failed".into()));
    disk.remount("rw");
    zone.sftp(AN, "put list /pillar-3/in/list.csv.age").must_succeed();
    zone.receipt("pillar-3", "list.csv.age", "delivered");
    zone.sftp(AN, "rm /pillar-3/out/waiting.age").must_succeed();
}

//! What a crash or a failing disk leaves of uploads: nothing that counts, nothing that stays, nothing that is published.

use std::fs;

use rustix::process::Signal;

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

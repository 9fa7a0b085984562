//! What a tool of this machine hands in becomes an arrival as an upload does: once, gated, receipted.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::observe::names;
use crate::harness::{Daemon, Zone, pid, skip};

/// A zone in which the agency's files for pillar-3 are handed in on this machine.
fn lay_out() -> Zone {
    let zone = Zone::lay_out();
    let file = zone.directory().join("exchanges/pillar-3.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replace("agency: [drop, collect]", "agency: {may: [drop, collect], handoff: true}");
    assert_ne!(text, changed);
    fs::write(file, changed).unwrap();
    zone
}

/// As a careful tool does: under another name first.
fn hand_in(zone: &Zone, name: &str, content: &[u8]) {
    let folder = zone.spool().join("handoff/pillar-3");
    fs::write(folder.join(format!("{name}.part")), content).unwrap();
    fs::rename(folder.join(format!("{name}.part")), folder.join(name)).unwrap();
}

fn left(zone: &Zone) -> Vec<String> {
    names(&zone.spool().join("handoff/pillar-3"))
}

#[test]
fn what_is_handed_in_is_worked_on_and_receipted_and_what_is_no_age_file_is_refused_with_a_receipt() {
    let mut zone = lay_out();
    zone.start();
    hand_in(&zone, "list.csv.age", &zone.encrypt("insz\n85073003328\n"));
    let receipt = zone.receipt("pillar-3", "list.csv.age", "delivered");
    assert!(receipt.to_string().contains("handoff"), "{receipt}");
    let result = zone.result("agency", "pillar-3");
    let encrypted = fs::read(zone.folder_of("outbox", "agency", "pillar-3").join(result)).unwrap();
    let text = String::from_utf8(zone.decrypt("agency", &encrypted)).unwrap();
    assert_eq!(text, "insz,category,registered\n85073003328,werkzoekend,2021-04-01\n");
    let published = zone.logged(&[("event", "publish"), ("session", "handoff")]);
    assert!(published.len() == 1 && published[0]["institution"] == "agency", "{published:?}");
    hand_in(&zone, "plain.csv.age", b"insz\n85073003328 canary\n");
    let receipt = zone.receipt("pillar-3", "plain.csv.age", "refused");
    assert_eq!(receipt["reason"]["code"], "not-encrypted");
    assert!(left(&zone).is_empty());
    assert_eq!(zone.search_tree("canary"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn links_are_never_followed() {
    let mut zone = lay_out();
    zone.start();
    let list = zone.put_here("secret.csv.age", zone.encrypt("insz\n1\n"));
    let folder = zone.spool().join("handoff/pillar-3");
    symlink(&list, folder.join("soft.csv.age")).unwrap();
    fs::hard_link(&list, folder.join("hard.csv.age")).unwrap();
    hand_in(&zone, "list.csv.age", &zone.encrypt("insz\n2\n"));
    zone.receipt("pillar-3", "list.csv.age", "delivered");
    zone.wait_for("the word on both links", || {
        (zone.program_log().matches("put a file of its own there").count() >= 2).then_some(())
    });
    assert_eq!((zone.accepted(), left(&zone).len()), (1, 2));
}

#[test]
fn each_file_becomes_one_arrival_however_often_the_process_is_killed() {
    let mut zone = lay_out();
    zone.start();
    const FILES: usize = 12;
    for at in 0..FILES {
        hand_in(&zone, &format!("list{at}.csv.age"), &zone.encrypt(format!("insz\n{at}\n")));
        if at % 3 == 2 {
            // At whatever it is doing now.
            zone.wait_for("some of them to be taken", || (left(&zone).len() <= at).then_some(()));
            kill_process(pid(zone.pids(Daemon::Work).pop().unwrap()), Signal::KILL).unwrap();
            zone.wait_until_ready();
        }
    }
    zone.wait_for("the last to be done", || {
        (left(&zone).is_empty() && zone.arrivals("done").len() >= FILES && zone.arrivals("active").is_empty())
            .then_some(())
    });
    assert_eq!(zone.results("agency", "pillar-3").len(), FILES);
    let delivered = |receipt: &&Value| receipt["verdict"] == "delivered";
    assert_eq!(zone.receipts("agency", "pillar-3").iter().filter(delivered).count(), FILES);
    assert_eq!(zone.arrivals("refused").len(), 0);
}

#[test]
fn serve_has_no_way_to_what_is_handed_in() {
    let zone = lay_out();
    let needs = dropzone::serve::needs(&dropzone::config::load(&zone.directory()).unwrap());
    let handoff = zone.spool().join("handoff");
    fs::create_dir_all(handoff.join("pillar-3")).unwrap();
    fs::write(handoff.join("pillar-3/list.age"), "x").unwrap();
    if !dropzone::host::containment::offered().files {
        skip("this kernel has no Landlock for files");
        return;
    }
    // A thread of its own, which alone is held to what serve needs.
    let tried = std::thread::spawn(move || {
        dropzone::host::containment::contain(&needs);
        (
            fs::read(handoff.join("pillar-3/list.age")).is_err(),
            fs::remove_file(handoff.join("pillar-3/list.age")).is_err(),
        )
    });
    assert_eq!(tried.join().unwrap(), (true, true));
}

//! Jobs that fail on the way: nothing is lost, nothing is delivered twice.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rustix::process::{Signal, kill_process};

use crate::harness::programs::run;
use crate::harness::{AN, Daemon, Zone, config, pid};

/// Makes every deferred arrival due: its next try is the time of the file that counts its tries.
pub fn make_due(zone: &Zone) {
    for arrival in zone.arrivals("deferred") {
        let tries = zone.spool().join("deferred").join(arrival).join("tries.json");
        // It may be taken between the look and the touch.
        run(Command::new("touch").args(["--no-create", "-d", "1 minute ago"]).arg(tries));
    }
}

#[test]
fn a_database_that_is_away_defers_the_list_and_it_is_delivered_when_it_is_back() {
    let mut zone = Zone::lay_out();
    fs::remove_file(zone.register()).unwrap();
    zone.start();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n85073003328\n"));
    let receipt = zone.wait_for("the receipt of a deferred list", || {
        let receipt = zone.receipt("pillar-3", "a.csv.age", "in-progress");
        (receipt["reason"]["code"] == "job-deferred").then_some(receipt)
    });
    assert!(receipt["reason"]["nl"].as_str().unwrap().contains("later opnieuw"));
    assert_eq!(receipt["job"]["tries"], 1);
    zone.wait_for("it in deferred", || (zone.arrivals("deferred").len() == 1).then_some(()));
    let listing = zone.sftp(AN, "ls /pillar-3/in").must_succeed().text();
    assert!(listing.contains("a.csv.age"), "its sender still sees it: {listing}");
    make_due(&zone);
    zone.wait_for("the second try", || {
        let receipt = zone.receipt("pillar-3", "a.csv.age", "in-progress");
        (receipt["job"]["tries"] == 2 && receipt["reason"]["code"] == "job-deferred").then_some(())
    });
    config::make_register(&zone);
    let receipt = zone.wait_for("delivery", || {
        make_due(&zone);
        let receipts = zone.receipts("agency", "pillar-3");
        receipts.into_iter().find(|receipt| receipt["verdict"] == "delivered")
    });
    assert!(receipt["job"]["tries"].as_u64().unwrap() >= 3);
    assert!(receipt.get("reason").is_none(), "{receipt:#}");
    assert_eq!(zone.results("agency", "pillar-3").len(), 1);
    let jobs = zone.logged(&[("event", "job"), ("reason", "job-deferred")]);
    assert!(jobs.len() >= 2, "every try is in the log");
}

#[test]
fn a_database_that_stays_away_holds_the_list_after_the_tries_agreed() {
    let mut zone = Zone::lay_out();
    fs::remove_file(zone.register()).unwrap();
    let file = zone.directory().join("dropzone.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("tries: 10", "tries: 2")).unwrap();
    zone.start();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n85073003328\n"));
    let receipt = zone.wait_for("the hold", || {
        make_due(&zone);
        zone.receipts("agency", "pillar-3").into_iter().find(|receipt| receipt["verdict"] == "held")
    });
    assert_eq!(receipt["reason"]["code"], "tries-exhausted");
    assert_eq!(receipt["job"]["tries"], 2);
}

#[test]
fn a_list_whose_worker_is_killed_is_done_after_the_restart_exactly_once() {
    let mut zone = Zone::lay_out();
    // The worker waits up to ten seconds for a register that somebody writes: long enough to be killed in the job.
    let lock = zone.put_here("lock.sql", "BEGIN EXCLUSIVE;\n.shell touch locked\n.shell sleep 600\n");
    zone.start();
    let mut locking = Command::new("sqlite3")
        .arg(zone.register())
        .arg(format!(".read {}", lock.display()))
        .current_dir(zone.here())
        .process_group_of_its_own()
        .spawn()
        .unwrap();
    zone.wait_for("the lock", || zone.here().join("locked").exists().then_some(()));
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n85073003328\n"));
    zone.wait_for("the claim", || (!zone.arrivals("active").is_empty()).then_some(()));
    let worker = zone.pids(Daemon::Work);
    kill_process(pid(*worker.last().unwrap()), Signal::KILL).unwrap();
    assert_eq!(zone.arrivals("active").len(), 1, "it was killed in the middle of the job");
    rustix::process::kill_process_group(pid(locking.id()), Signal::KILL).unwrap();
    locking.wait().unwrap();
    let receipt = zone.receipt("pillar-3", "a.csv.age", "delivered");
    assert_eq!(receipt["job"]["rows-out"], 1);
    zone.wait_for("the end of the job", || (zone.arrivals("done").len() == 1).then_some(()));
    assert_eq!(zone.accepted(), 1);
    assert_eq!(zone.results("agency", "pillar-3").len(), 1);
    assert_eq!(zone.logged(&[("event", "deliver")]).len(), 1);
    assert_eq!(zone.receipts("agency", "pillar-3").len(), 1, "one receipt, the last one");
}

#[test]
fn what_was_not_claimed_when_everything_was_killed_is_done_after_the_next_start() {
    let mut zone = Zone::new();
    let names: Vec<String> = (0..20).map(|at| format!("{at:02}.csv.age")).collect();
    let mut batch = String::new();
    for name in &names {
        zone.put_here(name, zone.encrypt("insz\n85073003328\n"));
        batch += &format!("put {name} /pillar-3/in/\n");
    }
    zone.sftp(AN, &batch).must_succeed();
    zone.end_with(Signal::KILL);
    zone.start();
    zone.wait_for("all to be done", || (zone.arrivals("done").len() == names.len()).then_some(()));
    let results: BTreeSet<String> =
        zone.results("agency", "pillar-3").iter().map(|name| name[..2].to_owned()).collect();
    assert_eq!(results.len(), names.len());
    assert_eq!(zone.results("agency", "pillar-3").len(), names.len(), "none twice");
}

#[test]
fn a_second_list_under_the_same_name_waits_until_the_first_is_done() {
    let mut zone = Zone::lay_out();
    fs::remove_file(zone.register()).unwrap();
    zone.start();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n85073003328\n"));
    zone.put_here("other.csv.age", zone.encrypt("insz\n1\n"));
    zone.sftp(AN, "put other.csv.age /pillar-3/in/a.csv.age").must_fail();
    assert_eq!(zone.accepted(), 1);
    config::make_register(&zone);
    zone.wait_for("the first to be done", || {
        make_due(&zone);
        (zone.arrivals("done").len() == 1).then_some(())
    });
    zone.sftp(AN, "put other.csv.age /pillar-3/in/a.csv.age").must_succeed();
    zone.wait_for("the second to be done", || (zone.arrivals("done").len() == 2).then_some(()));
    assert_eq!(zone.results("agency", "pillar-3").len(), 2, "the first result was not overwritten");
}

/// So that what it starts can be ended with it.
trait InItsOwnGroup {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl InItsOwnGroup for Command {
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}

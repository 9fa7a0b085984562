//! A worker that is stopped, or killed, while it has claimed something.

use rustix::process::Signal;

use crate::harness::{Daemon, Zone};
use crate::node::{LEASE, Node, RegisterLock};

const LIST: &str = "insz\n85073003328\n";

/// A list that node `a` has in hand, and node `b` beside it. The register is locked, so the job is in its middle.
fn in_hand<'a>(zone: &'a Zone) -> (Node<'a>, Node<'a>, RegisterLock) {
    let (mut a, b) = (Node::new(zone, "a", 1), Node::new(zone, "b", 2));
    a.start(Daemon::Serve);
    a.start(Daemon::Work);
    let lock = RegisterLock::new(zone);
    zone.put_here("list.csv.age", zone.encrypt(LIST));
    a.sftp("put list.csv.age /pillar-3/in/").must_succeed();
    zone.wait_for("the claim", || a.is_at_work().then_some(()));
    zone.wait_for("the beginning of the job", || {
        let active = zone.arrivals("active");
        active
            .first()
            .is_some_and(|name| zone.spool().join("active").join(name).join("begun").exists())
            .then_some(())
    });
    (a, b, lock)
}

#[test]
fn who_was_stopped_in_a_job_and_goes_on_after_it_was_taken_over_delivers_nothing() {
    let zone = Zone::lay_out();
    let (a, mut b, lock) = in_hand(&zone);
    a.signal(Daemon::Work, Signal::STOP);
    drop(lock);
    b.start(Daemon::Serve);
    b.start(Daemon::Work);
    let receipt = zone.receipt("pillar-3", "list.csv.age", "delivered");
    zone.wait_for("the end of the job", || (zone.arrivals("done").len() == 1).then_some(()));
    let takeovers = b.logged(&[("event", "takeover"), ("outcome", "ok")]);
    assert_eq!(takeovers.len(), 1);
    assert!(takeovers[0]["detail"].as_str().unwrap().starts_with("from a."), "{takeovers:?}");
    b.sftp("get /pillar-3/out/* collected\nrm /pillar-3/out/*").must_succeed();
    let collected = zone.read_here("collected");
    assert_eq!(receipt["deliveries"][0]["sha256"], crate::harness::programs::sha256(&collected));
    let last = zone.receipts("agency", "pillar-3");

    a.signal(Daemon::Work, Signal::CONT);
    zone.wait_for("the end of the stopped job", || {
        (!a.logged(&[("event", "job"), ("outcome", "failed"), ("detail", "claim lost")]).is_empty())
            .then_some(())
    });
    assert!(a.logged(&[("event", "deliver")]).is_empty(), "it knew before it was about to deliver");
    assert_eq!(b.logged(&[("event", "deliver")]).len(), 1);
    assert_eq!(zone.results("agency", "pillar-3").len(), 0, "nothing came a second time");
    assert_eq!(zone.receipts("agency", "pillar-3"), last, "the last word stays the last");
    assert_eq!(zone.arrivals("done").len(), 1);
    assert_eq!(zone.accepted(), 1);
    // It is not only quiet, it works.
    drop(b);
    zone.put_here("next.csv.age", zone.encrypt(LIST));
    a.sftp("put next.csv.age /pillar-3/in/").must_succeed();
    zone.receipt("pillar-3", "next.csv.age", "delivered");
}

#[test]
fn who_is_stopped_for_less_than_its_lease_keeps_its_claim() {
    let zone = Zone::lay_out();
    let (a, mut b, lock) = in_hand(&zone);
    b.start(Daemon::Work);
    a.signal(Daemon::Work, Signal::STOP);
    std::thread::sleep(LEASE / 4);
    a.signal(Daemon::Work, Signal::CONT);
    std::thread::sleep(LEASE);
    assert!(a.is_at_work(), "it counts on while its job waits");
    drop(lock);
    zone.receipt("pillar-3", "list.csv.age", "delivered");
    assert!(b.logged(&[("event", "takeover")]).is_empty());
    assert_eq!(a.logged(&[("event", "deliver")]).len(), 1);
}

#[test]
fn what_a_killed_node_had_claimed_is_done_by_another_after_its_lease_and_by_itself_at_once() {
    let zone = Zone::lay_out();
    let (mut a, mut b, lock) = in_hand(&zone);
    a.kill(Daemon::Work);
    drop(lock);
    b.start(Daemon::Work);
    zone.receipt("pillar-3", "list.csv.age", "delivered");
    assert_eq!(b.logged(&[("event", "takeover")]).len(), 1);
    drop(b);
    // The same, but this time the killed one comes back first: its lock is free, so nobody has to wait.
    let lock = RegisterLock::new(&zone);
    a.start(Daemon::Work);
    zone.put_here("next.csv.age", zone.encrypt(LIST));
    a.sftp("put next.csv.age /pillar-3/in/").must_succeed();
    zone.wait_for("the claim", || a.is_at_work().then_some(()));
    a.kill(Daemon::Work);
    drop(lock);
    a.start(Daemon::Work);
    zone.receipt("pillar-3", "next.csv.age", "delivered");
    assert_eq!(a.logged(&[("event", "takeover")]).len(), 1);
    zone.wait_for("the signs of the dead to be swept", || {
        let left = crate::harness::observe::names(&zone.spool().join("nodes"));
        (left.iter().filter(|name| name.starts_with("a.")).count() == 1).then_some(())
    });
}

//! Two nodes under load, with their clocks apart, while their workers are killed and stopped by turns.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::observe::names;
use crate::harness::programs::{run, sha256};
use crate::harness::{Daemon, Zone};
use crate::node::{LEASE, Node, within_patience};

/// Lists that each of the nodes takes in.
const LISTS: usize = 40;

#[test]
fn every_list_is_delivered_exactly_once_whatever_happens_to_the_workers() {
    let zone = Zone::lay_out();
    let mut nodes = [Node::new(&zone, "a", 1), Node::new(&zone, "b", 2).with_clock("+1h")];
    for node in &mut nodes {
        node.start(Daemon::Serve);
        node.start(Daemon::Work);
    }
    let is_over = AtomicBool::new(false);
    let collected = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        scope.spawn(|| collect(&zone, &is_over, &collected));
        for (at, door) in nodes.each_ref().map(Node::door).into_iter().enumerate() {
            let batch = batch(&zone, at);
            scope.spawn(move || door.sftp(&batch).must_succeed());
        }
        for _ in 0..rounds() {
            trouble(&mut nodes);
        }
        let is_done = within_patience(|| zone.arrivals("done").len() == 2 * LISTS);
        // Whatever a worker does late, it does now.
        std::thread::sleep(Duration::from_secs(1));
        is_over.store(true, Ordering::Relaxed);
        assert!(is_done, "{} of {} done", zone.arrivals("done").len(), 2 * LISTS);
    });
    let collected = collected.into_inner().unwrap();
    let receipts = zone.receipts("agency", "pillar-3");
    assert_eq!((collected.len(), receipts.len(), zone.accepted()), (2 * LISTS, 2 * LISTS, 2 * LISTS));
    for receipt in receipts {
        assert_eq!(receipt["verdict"], "delivered");
        let delivery = &receipt["deliveries"][0];
        assert_eq!(collected[delivery["name"].as_str().unwrap()], delivery["sha256"], "{receipt:#}");
    }
    let mut verify = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    run(verify.arg("--config").arg(zone.directory()).args(["log", "verify"])).must_succeed();
    let time_of = |line: &serde_json::Value| line["time"].as_str().unwrap().to_owned();
    let starts = ["a", "b"].map(|node| time_of(&zone.logged(&[("node", node), ("event", "start")])[0]));
    assert!(starts[0][11..13] != starts[1][11..13], "their clocks were apart: {starts:?}");
}

fn rounds() -> usize {
    if std::env::var_os("DROPZONE_LONG").is_some() { 20 } else { 2 }
}

fn batch(zone: &Zone, node: usize) -> String {
    let list = |at: usize| {
        let name = format!("{node}-{at:02}.csv.age");
        zone.put_here(&name, zone.encrypt(format!("insz\n85073003328\n{at}\n")));
        format!("put {name} /pillar-3/in/\n")
    };
    (0..LISTS).map(list).collect()
}

/// Kills one worker, and stops the other until what it has was taken over; then the other way round.
fn trouble(nodes: &mut [Node<'_>; 2]) {
    for (killed, stopped) in [(0, 1), (1, 0)] {
        nodes[killed].kill(Daemon::Work);
        nodes[killed].start(Daemon::Work);
        nodes[stopped].signal(Daemon::Work, Signal::STOP);
        std::thread::sleep(LEASE * 3 / 2);
        nodes[stopped].signal(Daemon::Work, Signal::CONT);
    }
}

/// Takes every result away as soon as it is there, as a quick receiver does, so that a second delivery finds no first.
fn collect(zone: &Zone, is_over: &AtomicBool, collected: &Mutex<BTreeMap<String, String>>) {
    let outbox = zone.folder_of("outbox", "agency", "pillar-3");
    while !is_over.load(Ordering::Relaxed) {
        for name in names(&outbox) {
            let content = fs::read(outbox.join(&name)).unwrap();
            fs::remove_file(outbox.join(&name)).unwrap();
            let twice = collected.lock().unwrap().insert(name.clone(), sha256(&content));
            assert!(twice.is_none(), "{name} was delivered twice");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

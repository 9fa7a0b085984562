//! What is found, what a record says of it, and what is left.

use std::cell::Cell;
use std::path::Path;

use rustix::fs::{CWD, Timespec, Timestamps, utimensat};

use super::*;
use crate::policy::arrival::tests::arrival_named;
use crate::policy::arrival::{Arrival, receipt_name};
use crate::policy::digest::sha256;

const NOW: &str = "2026-11-21T12:00:00Z";

struct Zone {
    folder: tempfile::TempDir,
    spool: Spool,
}

impl Zone {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arrival = arrival_named("x");
        let pair = (arrival.id.institution().clone(), arrival.id.exchange().clone());
        let spool = Spool::open(folder.path(), &[pair]).unwrap();
        Self { folder, spool }
    }

    /// An arrival that was received and came into its state then.
    fn arrival(&self, state: State, name: &str, received: &str, payload: Option<&[u8]>) -> Arrival {
        let mut arrival = arrival_named(name);
        arrival.received = received.parse().unwrap();
        let (institution, exchange) = (arrival.id.institution().clone(), arrival.id.exchange().clone());
        arrival.id = ArrivalId::new(arrival.received, &arrival.name, 7, &institution, &exchange);
        let at = self.folder.path().join(state.as_str()).join(arrival.id.to_string());
        std::fs::create_dir(&at).unwrap();
        std::fs::write(at.join(ARRIVAL), serde_json::to_vec(&arrival).unwrap()).unwrap();
        if let Some(payload) = payload {
            std::fs::write(at.join(PAYLOAD), payload).unwrap();
        }
        touch(&at, received);
        arrival
    }

    fn file(&self, path: &str, written: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
        touch(&path, written);
    }

    /// What is older than so many days.
    fn due(&self, kind: Kind, days: i64) -> Vec<Resting> {
        let now: Timestamp = NOW.parse().unwrap();
        let is_due = |_: Option<&Slug>, since: Timestamp| now.duration_since(since).as_hours() > days * 24;
        self.spool.find_due(kind, &is_due, 100).unwrap()
    }

    fn paths(&self, kind: Kind, days: i64) -> Vec<String> {
        let weigh = |resting: Resting| self.spool.weigh(&resting).unwrap();
        let mut paths: Vec<String> =
            self.due(kind, days).into_iter().flat_map(weigh).map(|weight| weight.path).collect();
        paths.sort();
        paths
    }

    fn has(&self, path: &str) -> bool {
        self.folder.path().join(path).exists()
    }
}

fn touch(path: &Path, at: &str) {
    let at = Timespec { tv_sec: at.parse::<Timestamp>().unwrap().as_second(), tv_nsec: 0 };
    let times = Timestamps { last_access: at, last_modification: at };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
}

#[test]
fn a_finished_arrival_goes_whole_and_is_told_by_its_own_name_and_digest() {
    let zone = Zone::new();
    let old = zone.arrival(State::Done, "old.csv.age", "2026-10-01T00:00:00Z", Some(b"payload"));
    let young = zone.arrival(State::Done, "young.csv.age", "2026-11-20T00:00:00Z", Some(b"payload"));
    let late = zone.arrival(State::Done, "late.csv.age", "2026-10-01T00:00:00Z", Some(b"payload"));
    // Received long ago, held, and finished yesterday: its time in `done` has only begun.
    touch(&zone.folder.path().join("done").join(late.id.to_string()), "2026-11-20T00:00:00Z");
    let due = zone.due(Kind::Done, 31);
    assert_eq!(due.iter().map(|resting| resting.arrival.clone()).collect::<Vec<_>>(), [Some(old.id.clone())]);
    let weights = zone.spool.weigh(&due[0]).unwrap();
    let weight =
        Weight { path: "/pillar-3/in/old.csv.age".into(), bytes: 7, sha256: Some(sha256(b"payload")) };
    assert_eq!(weights, [weight]);
    zone.spool.remove(&due[0]).unwrap();
    assert_eq!(zone.spool.list(State::Done).unwrap(), [late.id, young.id]);
    assert_eq!(std::fs::read_dir(zone.folder.path().join("done")).unwrap().count(), 2);
    zone.spool.remove(&due[0]).unwrap();
    assert_eq!(zone.spool.weigh(&due[0]).unwrap(), [], "it is gone already");
}

#[test]
fn what_a_crash_left_of_an_arrival_is_found_and_finished() {
    let zone = Zone::new();
    let old = zone.arrival(State::Done, "old.csv.age", "2026-10-01T00:00:00Z", None);
    let at = zone.folder.path().join("done");
    std::fs::rename(at.join(old.id.to_string()), at.join(format!("{}.expired", old.id))).unwrap();
    touch(&at.join(format!("{}.expired", old.id)), NOW);
    assert_eq!(zone.spool.list(State::Done).unwrap(), [], "it is no arrival any more");
    let due = zone.due(Kind::Done, 31);
    assert_eq!(zone.spool.weigh(&due[0]).unwrap()[0].path, "/pillar-3/in/old.csv.age");
    zone.spool.remove(&due[0]).unwrap();
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 0);
}

#[test]
fn a_refusal_waits_for_its_receipt() {
    let zone = Zone::new();
    let old = zone.arrival(State::Refused, "old.csv.age", "2026-10-01T00:00:00Z", None);
    assert_eq!(zone.due(Kind::Refused, 31), []);
    zone.file(&format!("receipts/agency/pillar-3/{}", receipt_name(&old)), NOW);
    let due = zone.due(Kind::Refused, 31);
    let told = zone.spool.weigh(&due[0]).unwrap().remove(0);
    let description = serde_json::to_vec(&old).unwrap();
    assert_eq!((told.path.as_str(), told.sha256), ("/pillar-3/in/old.csv.age", Some(sha256(&description))));
    zone.spool.remove(&due[0]).unwrap();
    assert_eq!(zone.spool.list(State::Refused).unwrap(), []);
}

#[test]
fn results_receipts_and_copies_of_heads_are_told_apart_and_what_explains_them_stays() {
    let (zone, old, young) = (Zone::new(), "2025-01-01T00:00:00Z", "2026-11-20T00:00:00Z");
    let receipts = "receipts/agency/pillar-3";
    for (name, written) in [
        ("old.json", old),
        ("old.json.sig", young),
        ("young.json", young),
        ("young.json.sig", old),
        ("orphan.json.sig", old),
        ("log-2025-01-01.head", old),
        ("log-2025-01-01.head.sig", old),
        ("log-2026-11-20.head", young),
        (ALLOWED_SIGNERS, old),
        (README, old),
    ] {
        zone.file(&format!("{receipts}/{name}"), written);
    }
    zone.file("outbox/agency/pillar-3/old.age", old);
    zone.file("outbox/agency/pillar-3/young.age", young);
    assert_eq!(zone.paths(Kind::Result, 90), ["/pillar-3/out/old.age"]);
    let told = [
        "/pillar-3/receipts/old.json",
        "/pillar-3/receipts/old.json.sig",
        "/pillar-3/receipts/orphan.json.sig",
    ];
    assert_eq!(zone.paths(Kind::Receipt, 400), told, "a signature goes with what it signs");
    let heads = ["/pillar-3/receipts/log-2025-01-01.head", "/pillar-3/receipts/log-2025-01-01.head.sig"];
    assert_eq!(zone.paths(Kind::HeadCopy, 400), heads);
    for kind in Kind::ALL {
        for resting in zone.due(kind, 400) {
            zone.spool.remove(&resting).unwrap();
        }
        assert_eq!(zone.due(kind, 400), []);
    }
    for left in ["young.json", "young.json.sig", "log-2026-11-20.head", ALLOWED_SIGNERS, README] {
        assert!(zone.has(&format!("{receipts}/{left}")), "{left}");
    }
    assert!(zone.has("outbox/agency/pillar-3/young.age"));
}

#[test]
fn a_receipt_that_was_written_anew_since_it_was_found_stays() {
    let zone = Zone::new();
    zone.file("receipts/agency/pillar-3/a.json", "2025-01-01T00:00:00Z");
    let due = zone.due(Kind::Receipt, 400);
    zone.file("receipts/agency/pillar-3/a.json", NOW);
    assert_eq!(zone.spool.weigh(&due[0]).unwrap(), []);
    zone.spool.remove(&due[0]).unwrap();
    assert!(zone.has("receipts/agency/pillar-3/a.json"));
}

#[test]
fn no_more_are_found_than_asked_for_and_those_that_are_too_young_are_not_looked_at() {
    let zone = Zone::new();
    for n in 0..20 {
        zone.arrival(State::Done, &format!("{n}.age"), "2026-10-01T00:00:00Z", None);
        zone.arrival(State::Done, &format!("young-{n}.age"), "2026-11-20T00:00:00Z", None);
    }
    let looks = Cell::new(0);
    let now: Timestamp = NOW.parse().unwrap();
    let is_due = |_: Option<&Slug>, since: Timestamp| {
        looks.set(looks.get() + 1);
        now.duration_since(since).as_hours() > 31 * 24
    };
    assert_eq!(zone.spool.find_due(Kind::Done, &is_due, 5).unwrap().len(), 5);
    assert_eq!(looks.get(), 40 + 5, "each by its id, and five by their folder");
}

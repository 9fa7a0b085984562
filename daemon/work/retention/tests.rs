//! Rounds of deletions at fixed times, in a whole zone.

use std::sync::Arc;

use super::super::tests::Zone;
use super::*;
use crate::policy::arrival::State;
use crate::policy::record::Line;
use crate::policy::retention::{OfExchange, Rules};

impl Zone {
    fn say(&self, rules: impl FnOnce(&mut Rules)) {
        let mut config = self.workshop.config().as_ref().clone();
        rules(&mut config.retention);
        // The rounds of the far future are not to delete the log of the zone's own day.
        config.machine.log.keep_days = 60_000;
        self.workshop.config.send_replace(Arc::new(config));
    }

    /// Expiries by path, in the order of the log.
    fn expired(&self) -> Vec<Record> {
        let mut lines: Vec<Line> = Vec::new();
        for entry in std::fs::read_dir(&self.workshop.config().machine.log.directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "jsonl") {
                let text = std::fs::read_to_string(path).unwrap();
                lines.extend(text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap()));
            }
        }
        let records = lines.into_iter().map(|line| line.record);
        records.filter(|record| record.event == Event::Expire).collect()
    }
}

/// A finished arrival of the zone's time, and leave to delete two months later.
fn finished() -> (Zone, Leave) {
    let zone = Zone::new();
    zone.finish_one();
    (zone, Leave::at("2027-01-21T12:00:00Z"))
}

#[test]
fn what_has_had_its_time_is_recorded_and_removed() {
    let (zone, leave) = finished();
    assert_eq!(zone.workshop.round(Leave::at("2026-11-22T12:00:00Z"), 0), Round::default());
    let round = zone.workshop.round(leave, 0);
    assert_eq!(round.deleted, [(Kind::Done, 1)].into());
    assert_eq!(zone.workshop.spool.list(State::Done).unwrap(), []);
    let records = zone.expired();
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(record.path.as_deref(), Some("/pillar-3/in/list.csv.age"));
    assert!(record.arrival.is_some() && record.sha256.is_some() && record.bytes.is_some(), "{record:?}");
    assert_eq!(record.detail.as_deref(), Some("a finished arrival: kept for 31 days"));
    assert_eq!(zone.workshop.round(leave, 0), Round::default(), "once");
}

#[test]
fn nothing_of_an_exchange_under_legal_hold_is_deleted() {
    let (zone, leave) = finished();
    let hold = OfExchange { legal_hold: true, ..OfExchange::default() };
    let exchange = Slug::parse("pillar-3").unwrap();
    zone.say(|rules| rules.exchanges.extend([(exchange, hold)]));
    assert_eq!(zone.workshop.round(leave, 0), Round::default());
    zone.say(|rules| rules.exchanges.clear());
    assert_eq!(zone.workshop.round(leave, 0).count(), 1);
}

#[test]
fn nothing_is_deleted_that_cannot_be_recorded_and_the_next_round_does_it() {
    let (zone, leave) = finished();
    let today = zone.workshop.config().machine.log.directory.join("2026-11-21.work.test.jsonl");
    let aside = today.with_extension("aside");
    std::fs::rename(&today, &aside).unwrap();
    std::fs::create_dir(&today).unwrap();
    assert_eq!(zone.workshop.round(leave, 0).count(), 0);
    assert_eq!(zone.workshop.spool.list(State::Done).unwrap().len(), 1);
    std::fs::remove_dir(&today).unwrap();
    std::fs::rename(&aside, &today).unwrap();
    assert_eq!(zone.workshop.round(leave, 0).count(), 1);
}

#[test]
fn a_round_is_bounded_and_says_that_there_is_more() {
    let zone = Zone::new();
    let out = zone.workshop.config().machine.spool.join("outbox/agii/pillar-3");
    for n in 0..BATCH + 10 {
        std::fs::write(out.join(format!("{n:04}.age")), "x").unwrap();
    }
    zone.say(|_| ());
    // The files are of today, whatever the zone's clock says.
    let leave = Leave::at("2100-01-01T00:00:00Z");
    let first = zone.workshop.round(leave, 0);
    assert_eq!((first.count(), first.has_more), (BATCH, true));
    let second = zone.workshop.round(leave, 0);
    assert_eq!((second.count(), second.has_more), (10, false));
    assert_eq!(zone.expired().len(), BATCH + 10);
}

#[test]
fn what_cannot_be_deleted_does_not_keep_the_rest_from_it() {
    let zone = Zone::new();
    let spool = zone.workshop.config().machine.spool.clone();
    // The folder of an arrival in which another lies cannot be emptied.
    let id = "20260101T000000000Z-0a1b2c3d-00000abc.agii.pillar-3";
    std::fs::create_dir_all(spool.join("done").join(id).join("folder/in/it")).unwrap();
    let leave = Leave::at("2100-01-01T00:00:00Z");
    std::fs::write(spool.join("outbox/agii/pillar-3/a.age"), "x").unwrap();
    let round = zone.workshop.round(leave, 0);
    assert_eq!((round.deleted, round.stuck), ([(Kind::Result, 1)].into(), 1));
}

#[test]
fn a_legal_hold_of_any_exchange_keeps_all_log_days() {
    let zone = Zone::new();
    let day = zone.workshop.config().machine.log.directory.join("2026-01-01.work.test.jsonl");
    std::fs::write(&day, "").unwrap();
    let leave = Leave::at("2026-11-21T12:00:00Z");
    let mut config = zone.workshop.config().as_ref().clone();
    let hold = OfExchange { legal_hold: true, ..OfExchange::default() };
    config.retention.exchanges.extend([(Slug::parse("another").unwrap(), hold)]);
    zone.workshop.config.send_replace(Arc::new(config.clone()));
    assert_eq!((zone.workshop.round(leave, 0), day.exists()), (Round::default(), true));
    config.retention.exchanges.clear();
    zone.workshop.config.send_replace(Arc::new(config));
    assert_eq!((zone.workshop.round(leave, 0), day.exists()), (Round::default(), false));
    let told = zone.expired();
    assert_eq!(told[0].path.as_deref(), Some("2026-01-01.work.test.jsonl"));
}

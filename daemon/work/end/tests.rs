//! The end of an agreement at fixed times, in a whole zone. Its exchanges end on 20 November 2028.

use std::sync::Arc;

use jiff::civil::date;

use super::super::tests::Zone;
use super::super::worker::End;
use super::*;
use crate::config::Config;
use crate::policy::arrival::Arrival;
use crate::policy::receipt::Verdict;
use crate::policy::retention::{Kind, OfExchange, Periods};
use crate::policy::rhythm::{ArrivalKey, Rhythm};

const NOTICED: &str = "2028-11-21T00:30:00Z";
const OVER: &str = "2028-12-05T00:30:00Z";

impl Zone {
    fn reconfigure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.workshop.config().as_ref().clone();
        change(&mut config);
        self.workshop.config.send_replace(Arc::new(config));
    }

    /// Rounds at these times; gives what the last one deleted.
    fn rounds(&self, times: &[&str]) -> Vec<(Kind, usize)> {
        let mut deleted = Vec::new();
        for at in times {
            self.workshop.clock.set(at.parse().unwrap());
            deleted = self.workshop.round(Leave::at(at), 0).deleted.into_iter().collect();
        }
        deleted
    }

    fn records_of(&self, event: Event) -> Vec<Record> {
        self.records().into_iter().filter(|record| record.event == event).collect()
    }

    fn files(&self, folder: &str) -> usize {
        std::fs::read_dir(self.path().join("spool").join(folder)).map_or(0, Iterator::count)
    }
}

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn everything_for(period: Period) -> Periods {
    Periods { partials: period, refused: period, done: period, results: period, receipts: period }
}

/// A zone with a list that was delivered and one that is held, which keeps everything for good but for the end.
fn used() -> (Zone, Arrival) {
    let zone = Zone::new();
    zone.reconfigure(|config| {
        config.retention.periods = everything_for(Period::Never);
        config.retention.digests = Period::Never;
        config.machine.log.keep_days = 60_000;
        for flow in config.exchanges.values_mut().flat_map(|exchange| &mut exchange.flows) {
            flow.rhythm = Some(Rhythm { quota: None, once_per: Some(ArrivalKey::Name) });
        }
    });
    zone.finish_one();
    zone.workshop.pseudonym_key(&slug("pillar-3")).unwrap();
    let held = zone.publish("pillar-3", Some("enrich"), "b.csv.age", &zone.encrypted(b"name\n1\n"));
    assert!(matches!(zone.work(&held), End::Held(_)));
    (zone, held)
}

#[test]
fn after_its_grace_only_evidence_of_an_agreement_stays_and_each_thing_goes_once() {
    let (zone, held) = used();
    assert_eq!(
        zone.rounds(&["2028-11-20T22:30:00Z", NOTICED, "2028-12-05T00:29:59Z"]),
        [],
        "not in its grace"
    );
    assert_eq!((zone.files("done"), zone.files("outbox/agii/pillar-3"), zone.files("hold")), (1, 1, 1));
    assert_eq!(zone.rounds(&[OVER]), [(Kind::Done, 1), (Kind::Result, 2)]);
    for folder in ["done", "hold", "deferred", "incoming", "outbox/agii/pillar-3", "outbox/atlas/pillar-3"] {
        assert_eq!(zone.files(folder), 0, "{folder}");
    }
    let receipt = zone.receipt(&held);
    assert_eq!(receipt.verdict, Verdict::Discarded);
    assert_eq!(receipt.reason.unwrap().code, "agreement-ended");
    assert_eq!(zone.state_of(&held), State::Refused, "without its payload");
    assert!(!zone.path().join("spool/refused").join(held.id.to_string()).join("payload.age").exists());
    assert!(zone.files("receipts/agii/pillar-3") >= 4);
    let told = zone.records_of(Event::Expire);
    let paths: Vec<&str> = told.iter().filter_map(|record| record.path.as_deref()).collect();
    assert_eq!(paths.len(), 4, "{told:#?}");
    assert!(paths.contains(&"/pillar-3/in/b.csv.age"));
    for record in &told {
        assert!(record.sha256.is_some() && record.bytes.is_some(), "{record:?}");
        assert!(
            record.detail.as_deref().unwrap().contains("the agreement ended on 2028-11-20"),
            "{record:?}"
        );
    }
    let destroyed = zone.records_of(Event::Destroy);
    assert_eq!(destroyed.len(), 2, "{destroyed:?}");
    assert!(!zone.path().join("spool/pseudonyms/pillar-3.key").exists());
    assert!(!zone.path().join("spool/rhythm/pillar-3/secret.age").exists());
    let records = zone.records().len();
    assert_eq!(zone.rounds(&["2028-12-05T01:30:00Z", "2028-12-06T01:30:00Z"]), []);
    assert_eq!(zone.records().len(), records, "once");
    // The count is evidence, and goes as receipts do.
    assert!(zone.path().join("spool/rhythm/pillar-3/enrich").exists());
    let year = Period::After(std::time::Duration::from_secs(400 * 86_400));
    zone.reconfigure(|config| config.retention.periods = everything_for(year));
    zone.rounds(&["2029-12-25T00:00:00Z"]);
    assert!(zone.path().join("spool/rhythm/pillar-3/enrich").exists());
    zone.rounds(&["2029-12-26T00:00:00Z"]);
    assert!(!zone.path().join("spool/rhythm/pillar-3/enrich").exists());
}

#[test]
fn a_date_that_was_mistyped_destroys_nothing_before_the_grace_has_passed_again() {
    let (zone, _) = used();
    zone.rounds(&["2028-01-01T00:00:00Z"]);
    let until = |day| {
        zone.reconfigure(|config| {
            config.exchanges.get_mut(&slug("pillar-3")).unwrap().agreement.until = Some(day);
        });
    };
    until(date(2027, 11, 20));
    assert_eq!(zone.rounds(&["2028-01-02T00:00:00Z", "2028-01-15T00:00:00Z"]), []);
    until(date(2028, 11, 20));
    assert_eq!(zone.rounds(&["2028-01-15T12:00:00Z"]), [], "corrected in time");
    until(date(2027, 11, 20));
    assert_eq!(zone.rounds(&["2028-01-16T00:00:01Z", "2028-01-29T00:00:00Z"]), [], "and counted anew");
    assert_eq!(zone.rounds(&["2028-01-30T00:00:01Z"]), [(Kind::Done, 1), (Kind::Result, 2)]);
}

#[test]
fn a_legal_hold_keeps_all_of_an_ended_agreement_until_it_is_lifted() {
    let (zone, held) = used();
    let hold = OfExchange { legal_hold: true, ..OfExchange::default() };
    zone.reconfigure(|config| config.retention.exchanges.extend([(slug("pillar-3"), hold)]));
    assert_eq!(zone.rounds(&[NOTICED, OVER, "2029-12-05T00:30:00Z"]), []);
    assert_eq!(zone.state_of(&held), State::Hold);
    zone.reconfigure(|config| config.retention.exchanges.clear());
    assert_eq!(zone.rounds(&["2029-12-05T00:30:00Z"]), [(Kind::Done, 1), (Kind::Result, 2)]);
}

#[test]
fn what_a_crash_left_of_the_end_is_gone_on_with() {
    let (zone, held) = used();
    zone.rounds(&[NOTICED]);
    zone.workshop.clock.set(OVER.parse().unwrap());
    // Decided, and cut off before anything was removed.
    let because = Some(Reason::AgreementEnded { on: date(2028, 11, 20) });
    let (operator, reason, at) = (OPERATOR.to_owned(), "x".to_owned(), OVER.parse().unwrap());
    let note = DiscardNote { arrival: held.id.clone(), operator, reason, at, because };
    drop(zone.workshop.spool.begin_discard(&held.id, &note).unwrap().unwrap());
    zone.workshop.finish_discards();
    assert_eq!(zone.receipt(&held).reason.unwrap().code, "agreement-ended");
    assert_eq!(zone.rounds(&[OVER]), [(Kind::Done, 1), (Kind::Result, 2)]);
    assert_eq!(zone.rounds(&[OVER]), []);
}

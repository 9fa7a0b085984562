//! Lists at fixed dates, in a whole zone.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::date;

use super::super::tests::Zone;
use super::super::worker::End;
use super::*;
use crate::host::control::{Change, Course, Operator};
use crate::policy::arrival::{ArrivalId, State};
use crate::policy::reason::Reason;
use crate::policy::rhythm::{Period, Rhythm};

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn yearly() -> Rhythm {
    let grace = Duration::from_secs(31 * 86_400);
    let quota = Quota { period: Period::CalendarYear, at_most: 1, is_expected: true, grace };
    Rhythm { quota: Some(quota), once_per: None }
}

fn once_per(key: ArrivalKey) -> Rhythm {
    Rhythm { quota: None, once_per: Some(key) }
}

impl Zone {
    fn with_rhythm(rhythm: &Rhythm) -> Self {
        let zone = Self::new();
        let mut config = zone.workshop.config().as_ref().clone();
        for exchange in config.exchanges.values_mut() {
            exchange.flows.iter_mut().for_each(|flow| flow.rhythm = Some(rhythm.clone()));
        }
        zone.workshop.config.send_replace(Arc::new(config));
        zone
    }

    /// At that time, somebody drops a list, and it is worked on.
    fn drop_at(&self, at: &str, name: &str, list: &str) -> (Arrival, End) {
        let at: Timestamp = at.parse().unwrap();
        self.workshop.clock.set(at);
        let payload = self.encrypted(list.as_bytes());
        let arrival = self.arrival("pillar-3", Some("enrich"), name, &payload);
        let id = ArrivalId::new(at, &arrival.name, 1, arrival.id.institution(), arrival.id.exchange());
        let arrival = self.publish_as(Arrival { id, received: at, ..arrival }, &payload);
        let end = self.work(&arrival);
        (arrival, end)
    }

    fn uses(&self) -> Vec<Use> {
        self.workshop.spool.kept(&slug("pillar-3"), &slug("enrich")).unwrap().map_or(vec![], |kept| kept.uses)
    }

    fn decide_on(&self, course: Course, arrival: &Arrival) {
        let change = Change { course, arrival: arrival.id.clone(), reason: "a test".into() };
        self.workshop.change(&change, &Operator::new(0, Some("alice"))).unwrap();
    }

    fn metric(&self, name: &str) -> f64 {
        let found =
            self.workshop.metrics.registry().gather().into_iter().find(|family| family.name() == name);
        let family = found.unwrap();
        let of_flow = |metric: &&prometheus::proto::Metric| {
            metric.get_label().iter().any(|label| label.value() == "pillar-3")
                && metric.get_label().iter().any(|label| label.value() == "enrich")
        };
        family.get_metric().iter().find(of_flow).unwrap().get_gauge().get_value()
    }
}

#[test]
fn a_second_list_in_a_calendar_year_is_held_until_the_year_ends_in_brussels() {
    let zone = Zone::with_rhythm(&yearly());
    assert_eq!(zone.drop_at("2026-03-01T12:00:00Z", "a.csv.age", "insz\n1\n").1, End::Done);
    let surplus = Reason::Surplus { again: date(2027, 1, 1) };
    let (held, end) = zone.drop_at("2026-12-31T22:59:59Z", "b.csv.age", "insz\n2\n");
    assert_eq!(end, End::Held(surplus.clone()));
    assert_eq!(zone.receipt(&held).reason.unwrap().code, surplus.code());
    assert_eq!(zone.drop_at("2026-12-31T23:00:00Z", "c.csv.age", "insz\n2\n").1, End::Done);
    assert_eq!(
        zone.uses().iter().map(|one| one.day).collect::<Vec<_>>(),
        [date(2026, 3, 1), date(2027, 1, 1)]
    );
    assert_eq!(zone.drop_at("2028-11-20T22:00:00Z", "d.csv.age", "insz\n2\n").1, End::Done);
    let over = Reason::AgreementEnded { on: date(2028, 11, 20) };
    assert_eq!(zone.drop_at("2028-11-20T23:00:00Z", "e.csv.age", "insz\n2\n").1, End::Held(over));
    assert_eq!(zone.uses().len(), 3);
}

#[test]
fn an_arrival_keeps_its_place_through_tries_and_a_discard_frees_it() {
    let zone = Zone::with_rhythm(&yearly());
    // Its job fails after it has its place.
    let (first, end) = zone.drop_at("2026-03-01T12:00:00Z", "a.csv.age", "name\n1\n");
    assert_eq!(end, End::Held(Reason::JobFailed));
    zone.decide_on(Course::Release, &first);
    assert_eq!(zone.work(&first), End::Held(Reason::JobFailed), "not as its own surplus");
    let surplus = Reason::Surplus { again: date(2027, 1, 1) };
    assert_eq!(zone.drop_at("2026-03-02T12:00:00Z", "b.csv.age", "insz\n1\n").1, End::Held(surplus));
    zone.decide_on(Course::Discard, &first);
    assert_eq!(zone.drop_at("2026-03-03T12:00:00Z", "c.csv.age", "insz\n1\n").1, End::Done);
    assert_eq!(zone.uses().iter().map(|one| one.is_freed).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn an_operator_lets_a_surplus_list_through_and_what_is_sent_again_takes_no_place() {
    let zone = Zone::with_rhythm(&yearly());
    zone.drop_at("2026-03-01T12:00:00Z", "a.csv.age", "insz\n1\n");
    let (second, _) = zone.drop_at("2026-03-02T12:00:00Z", "b.csv.age", "insz\n2\n");
    zone.decide_on(Course::Release, &second);
    assert_eq!(zone.work(&second), End::Done);
    let taken = zone.uses();
    assert_eq!(taken.iter().map(|one| one.is_allowed).collect::<Vec<_>>(), [false, true]);
    zone.workshop.clock.set("2027-03-01T12:00:00Z".parse().unwrap());
    let payload = zone.encrypted(b"insz\n3\n");
    let one = zone.publish("pillar-3", Some("enrich"), "x.csv.age", &payload);
    let other = zone.publish("pillar-3", Some("enrich"), "y.csv.age", &payload);
    assert!(matches!(zone.work(&one), End::Held(_)), "dated 2026");
    assert_eq!(zone.work(&other), End::Repeated);
    assert_eq!(zone.uses(), taken);
}

#[test]
fn each_name_and_each_key_of_a_column_comes_once_and_no_value_lies_in_the_spool() {
    let zone = Zone::with_rhythm(&once_per(ArrivalKey::Name));
    assert_eq!(zone.drop_at("2026-03-01T12:00:00Z", "client-17.csv.age", "insz\n1\n").1, End::Done);
    let again = zone.drop_at("2027-03-01T12:00:00Z", "Client_17.csv.age", "insz\n2\n");
    assert_eq!(again.1, End::Held(Reason::SurplusKey));
    assert_eq!(zone.drop_at("2027-03-01T12:00:00Z", "client-18.csv.age", "insz\n2\n").1, End::Done);

    let zone = Zone::with_rhythm(&once_per(ArrivalKey::Columns(vec!["insz".into()])));
    let list = "insz\n85.07.30-033.28\n2\n2\n";
    assert_eq!(zone.drop_at("2026-03-01T12:00:00Z", "a.csv.age", list).1, End::Done);
    let again = zone.drop_at("2027-03-01T12:00:00Z", "b.csv.age", "insz\n9\n85073003328\n");
    assert_eq!(again.1, End::Held(Reason::SurplusKey));
    assert_eq!(
        zone.drop_at("2027-03-01T12:00:00Z", "c.csv.age", "insz\n9\n").1,
        End::Done,
        "what was held took none"
    );
    let folder = zone.path().join("spool/rhythm/pillar-3");
    let mut read = 0;
    for file in std::fs::read_dir(folder.join("enrich")).unwrap().chain(std::fs::read_dir(&folder).unwrap()) {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            let bytes = std::fs::read(file.path()).unwrap();
            for value in ["85073003328", "85.07.30-033.28"] {
                assert!(!bytes.windows(value.len()).any(|found| found == value.as_bytes()), "{file:?}");
            }
            read += 1;
        }
    }
    assert_eq!(read, 4, "since, two entries and the secret");
    let key = zone.path().join("spool/rhythm/pillar-3/secret.age");
    assert!(std::fs::read(key).unwrap().starts_with(b"age-encryption.org/v1\n"));
}

#[test]
fn a_list_that_does_not_come_is_missing_until_one_comes() {
    let zone = Zone::with_rhythm(&yearly());
    let told = |at: &str| {
        zone.workshop.clock.set(at.parse().unwrap());
        zone.workshop.tell_rhythm();
        let due = zone.metric("dropzone_rhythm_due_timestamp_seconds");
        (
            Timestamp::from_second(due as i64).unwrap().to_string(),
            zone.metric("dropzone_rhythm_missing") > 0.5,
        )
    };
    let end_of_2026 = "2026-12-31T23:00:00Z";
    assert_eq!(told("2026-11-21T12:00:00Z"), (end_of_2026.into(), false));
    assert_eq!(told("2027-01-31T22:59:59Z"), (end_of_2026.into(), false), "in its grace");
    assert_eq!(told("2027-01-31T23:00:00Z"), (end_of_2026.into(), true));
    assert_eq!(zone.drop_at("2027-02-10T12:00:00Z", "a.csv.age", "insz\n1\n").1, End::Done);
    assert_eq!(
        told("2027-02-10T12:00:00Z"),
        ("2028-11-20T23:00:00Z".into(), false),
        "by the agreement's end"
    );
    assert_eq!(
        told("2029-01-01T12:00:00Z"),
        ("1970-01-01T00:00:00Z".into(), false),
        "nothing is due any more"
    );
    assert_eq!(zone.state_of(&zone.drop_at("2027-03-01T12:00:00Z", "b.csv.age", "insz\n1\n").0), State::Hold);
}

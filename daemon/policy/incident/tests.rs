use jiff::civil::date;

use super::super::agreement::{Agreement, Party};
use super::super::retention::LogName;
use super::case::*;
use super::*;

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

struct Zone {
    institutions: BTreeMap<Slug, Institution>,
    exchanges: BTreeMap<Slug, Exchange>,
}

impl Zone {
    fn new() -> Self {
        let institution = |name: &str| Institution {
            name: slug(name),
            title: name.to_owned(),
            contact: None,
            phone: None,
            people: Vec::new(),
            recipients: Vec::new(),
            networks: Vec::new(),
        };
        let exchange = |name: &str, parties: &[&str], hours: Option<u64>, until| {
            let report = |hours| ReportBy {
                within: std::time::Duration::from_secs(3600 * hours),
                to: format!("dpo@{name}.example"),
            };
            let agreement = Agreement {
                reference: format!("ref-{name}"),
                from: date(2020, 1, 1),
                until,
                incidents: hours.map(report),
                ..Agreement::default()
            };
            let parties = parties.iter().map(|party| (slug(party), Party::default())).collect();
            (slug(name), Exchange::plain(slug(name), agreement, parties, Vec::new()))
        };
        let over = Some(date(2022, 1, 1));
        Self {
            institutions: ["agii", "lommel"].map(|name| (slug(name), institution(name))).into(),
            exchanges: [
                exchange("pillar-3", &["agii"], Some(48), None),
                exchange("lists", &["agii", "lommel"], Some(36), None),
                exchange("silent", &["agii"], None, None),
                exchange("over", &["agii"], Some(1), over),
            ]
            .into(),
        }
    }

    fn knowledge(&self) -> Knowledge<'_> {
        Knowledge { institutions: &self.institutions, exchanges: &self.exchanges }
    }
}

fn denied(event: Event, institution: &str, reason: &str) -> Record {
    let mut record = Record::new(event, Outcome::Denied);
    (record.institution, record.reason) = (Some(institution.into()), Some(reason.into()));
    record
}

fn sign(kind: Incident, institution: Option<&str>, exchange: Option<&str>) -> Option<Sign> {
    Some(Sign { kind, institution: institution.map(slug), exchange: exchange.map(slug) })
}

#[test]
fn signs_are_what_they_are_and_nothing_else_is_one() {
    let zone = Zone::new();
    let at = |record: Record, path: &str| Record { path: Some(path.into()), ..record };
    let of = |record: Record, exchange: &str| Record { exchange: Some(slug(exchange)), ..record };
    let telling = |record: Record, detail: &str| Record { detail: Some(detail.into()), ..record };
    let plain = || denied(Event::Refuse, "agii", "not-encrypted");
    let nowhere = |institution: &str| denied(Event::OpenRead, institution, "no-such-path");
    let stranger = || denied(Event::Login, "agii", "unknown-key");
    let incident = |code: &str| telling(denied(Event::Incident, "agii", "damaged"), code);
    let foreign = || sign(Incident::ForeignPath, Some("lommel"), Some("pillar-3"));
    let rename = Record { new_path: Some("/pillar-3/in/b".into()), ..at(nowhere("lommel"), "/lists/in/a") };
    let failed = |event| Record::new(event, Outcome::Failed);
    for (record, expected) in [
        (of(plain(), "lists"), sign(Incident::PlaintextRefused, Some("agii"), Some("lists"))),
        (of(plain(), "unheard-of"), sign(Incident::PlaintextRefused, Some("agii"), None)),
        (Record { outcome: Outcome::Failed, ..plain() }, None),
        (denied(Event::Refuse, "agii", "too-large"), None),
        (denied(Event::Refuse, "nobody", "not-encrypted"), None),
        (at(nowhere("lommel"), "/pillar-3/out/x"), foreign()),
        (at(denied(Event::Other, "lommel", "no-such-path"), "/pillar-3"), foreign()),
        (at(denied(Event::List, "lommel", "no-such-path"), "lists/../pillar-3/./in"), foreign()),
        (rename, foreign()),
        (at(nowhere("lommel"), "/lists/out/x"), None),
        (at(nowhere("agii"), "/pillar-3/out/x"), None),
        (at(nowhere("lommel"), "/nothing-here/out"), None),
        (at(nowhere("lommel"), "/"), None),
        (at(denied(Event::OpenRead, "lommel", "not-your-part"), "/pillar-3/out/x"), None),
        (stranger(), sign(Incident::UnknownKey, Some("agii"), None)),
        (telling(stranger(), CAME_IN_OTHERWISE), None),
        (denied(Event::Login, "root", "unknown-key"), None),
        (denied(Event::Login, "agii", "key-expired"), None),
        (at(failed(Event::Seal), "2026-11-21.serve.n.jsonl"), sign(Incident::LogTampered, None, None)),
        (failed(Event::Seal), None),
        (at(Record::new(Event::Seal, Outcome::Ok), "x"), None),
        (of(incident("substituted"), "lists"), sign(Incident::Substituted, Some("agii"), Some("lists"))),
        (incident("plaintext-refused"), None),
        (incident("log-tampered"), None),
        (incident("unheard-of"), None),
        (Record::new(Event::Incident, Outcome::Denied), None),
    ] {
        assert_eq!(sign_of(&record, zone.knowledge()), expected, "{record:?}");
    }
}

#[test]
fn the_exchange_says_by_when_and_else_the_strictest_in_force() {
    let zone = Zone::new();
    let today = date(2026, 11, 21);
    for (institution, exchange, expected) in [
        (Some("agii"), Some("pillar-3"), "pillar-3"),
        (Some("lommel"), Some("pillar-3"), "pillar-3"),
        // Its shorter time is over with it.
        (Some("agii"), None, "lists"),
        (Some("agii"), Some("silent"), "lists"),
        (Some("agii"), Some("over"), "over"),
        (None, None, "lists"),
    ] {
        let sign = sign(Incident::UnknownKey, institution, exchange).unwrap();
        let found = zone.knowledge().duty(&sign, today).map(|(exchange, _)| exchange.name.as_str());
        assert_eq!(found, Some(expected), "{sign:?}");
    }
    let nobody = sign(Incident::UnknownKey, Some("stranger"), None).unwrap();
    assert!(zone.knowledge().duty(&nobody, today).is_none());
}

fn found(end: u64) -> Found {
    let file = LogName::parse("2026-11-21.serve.n.jsonl").unwrap();
    Found {
        sign: sign(Incident::PlaintextRefused, Some("agii"), Some("lists")).unwrap(),
        time: "2026-11-21T12:00:00Z".parse().unwrap(),
        place: Place { file, seq: 7, end },
    }
}

#[test]
fn a_case_counts_each_line_once_and_hands_on_what_it_has_counted() {
    let zone = Zone::new();
    let series = Series::of(date(2026, 11, 21), &found(0).sign);
    let duty = zone.knowledge().duty(&found(0).sign, date(2026, 11, 21));
    let mut case = Case::open((&series, 1), &found(100), duty, BTreeMap::new());
    assert_eq!(case.report_by.to_string(), "2026-11-23T00:00:00Z");
    assert_eq!(
        (case.report_to.as_deref(), case.agreement.as_deref()),
        (Some("dpo@lists.example"), Some("ref-lists"))
    );
    assert!(case.has_counted(&found(100).place) && case.has_counted(&found(50).place));
    assert!(!case.has_counted(&found(101).place));
    case.count(&found(200));
    assert_eq!((case.count, case.has_counted(&found(200).place)), (2, true));
    let next = Case::open((&series, 2), &found(300), None, case.counted);
    assert!(next.has_counted(&found(150).place), "the case before it counted that");
    assert_eq!((next.count, next.id.as_str()), (1, format!("{}-2", case.id).as_str()));
    assert_eq!(next.report_by.to_string(), "2026-11-22T12:00:00Z", "a day where no agreement says it");
}

#[test]
fn ids_tell_cases_apart_and_come_back_as_themselves() {
    let day = date(2026, 11, 21);
    let one = Series::of(day, &found(0).sign);
    let other = Series::of(day, &Sign { exchange: None, ..found(0).sign });
    let all = Series::collective(day, Incident::PlaintextRefused);
    assert_ne!(one.stem(), other.stem());
    assert_ne!(one.stem(), all.stem());
    assert!(one.stem().starts_with("20261121-plaintext-refused-"));
    for number in [1, 2, 17] {
        let id = one.id(number);
        assert_eq!(CaseId::parse(id.as_str()).as_ref(), Some(&id));
        assert_eq!((one.newest([&id]), other.newest([&id])), (number, 0));
    }
    for text in [
        "",
        "20261121",
        "20261121-other-00000000",
        "../20261121-substituted-00",
        "position",
        "2026112x-substituted-1",
    ] {
        assert_eq!(CaseId::parse(text), None, "{text}");
    }
}

#[test]
fn a_forged_time_moves_no_deadline_out_of_its_day() {
    let (day, now) = (date(2026, 11, 21), "2026-11-21T12:00:00Z".parse().unwrap());
    for (said, expected) in [
        ("2026-11-21T11:00:00Z", "2026-11-21T11:00:00Z"),
        ("2099-01-01T00:00:00Z", "2026-11-21T12:00:00Z"),
        ("1999-01-01T00:00:00Z", "2026-11-21T00:00:00Z"),
    ] {
        assert_eq!(believed(said.parse().unwrap(), day, now).to_string(), expected, "{said}");
    }
}

#[test]
fn each_code_is_the_one_that_is_written() {
    for incident in Incident::ALL {
        assert_eq!(serde_json::to_string(&incident).unwrap(), format!("{:?}", incident.code()));
        assert_eq!(Incident::of_code(incident.code()), Some(incident));
    }
}

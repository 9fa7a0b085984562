//! The log of a whole zone, watched: what `serve` wrote there, what was there already, what a crash left half done.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::super::tests::Zone;
use super::*;
use crate::host::clock::Clock;
use crate::host::control::{Closing, Operator};
use crate::host::log::AccessLog;
use crate::host::process;
use crate::policy::agreement::ReportBy;
use crate::policy::incident::Incident;
use crate::policy::trust::Leave;

const NOW: &str = "2026-11-21T12:00:00Z";

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

struct Watched {
    zone: Zone,
    serve: AccessLog,
}

impl Watched {
    fn new() -> Self {
        let zone = Zone::new();
        zone.workshop.config.send_modify(|config| {
            let mut changed = config.as_ref().clone();
            let within = Duration::from_secs(48 * 3600);
            for exchange in changed.exchanges.values_mut() {
                exchange.agreement.incidents = Some(ReportBy { within, to: "dpo@agii.example".into() });
            }
            *config = Arc::new(changed);
        });
        let directory = zone.workshop.config().machine.log.directory.clone();
        let clock = Clock::fixed(NOW.parse().unwrap());
        let serve = AccessLog::open(&directory, &slug("test"), "serve", clock).unwrap();
        Self { zone, serve }
    }

    fn plaintext(&self, exchange: &str) {
        self.serve
            .append(&Record {
                institution: Some("agii".into()),
                exchange: Some(slug(exchange)),
                reason: Some("not-encrypted".into()),
                ..Record::new(Event::Refuse, Outcome::Denied)
            })
            .unwrap();
    }

    fn look(&self) {
        self.zone.workshop.watch_for_incidents().unwrap();
    }

    fn cases(&self) -> Vec<Case> {
        let cases = self.zone.workshop.spool.incidents(|_| false).unwrap();
        assert!(cases.unreadable.is_empty(), "{:?}", cases.unreadable);
        cases.read
    }

    fn case(&self) -> Case {
        let [case] = self.cases().try_into().unwrap();
        case
    }

    fn position(&self) -> std::path::PathBuf {
        self.zone.folder.path().join("spool/incidents/position.json")
    }

    fn told(&self, kind: Incident) -> usize {
        let is_it = |record: &Record| {
            record.event == Event::Incident && record.detail.as_deref() == Some(kind.code())
        };
        self.zone.records().iter().filter(|record| is_it(record)).count()
    }

    fn metrics(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.zone.workshop.metrics.registry().gather())
            .unwrap()
    }

    fn close(&self, id: &CaseId, user: u32) -> Result<String, String> {
        let closing = Closing { incident: id.clone(), reason: " reported\n".into() };
        self.zone.workshop.close_incident(&closing, &Operator::new(user, Some("alice")))
    }
}

#[test]
fn signs_of_a_day_are_one_case_with_the_agreements_deadline_and_told_once() {
    let watched = Watched::new();
    watched.plaintext("pillar-3");
    watched.plaintext("pillar-3");
    watched.look();
    let case = watched.case();
    assert_eq!((case.kind, case.count), (Incident::PlaintextRefused, 2));
    assert_eq!(case.report_by.to_string(), "2026-11-23T12:00:00Z");
    assert_eq!(
        (case.report_to.as_deref(), case.agreement.as_deref()),
        (Some("dpo@agii.example"), Some("P-3"))
    );
    assert_eq!(case.place.file.to_string(), "2026-11-21.serve.test.jsonl");
    watched.plaintext("pillar-3");
    watched.look();
    // Its own record is no sign.
    watched.look();
    assert_eq!(watched.case().count, 3);
    assert_eq!(watched.told(Incident::PlaintextRefused), 1);
    let metrics = watched.metrics();
    for line in [
        "dropzone_incidents_total{kind=\"plaintext-refused\"} 1",
        "dropzone_incidents_open{kind=\"plaintext-refused\"} 1",
        "dropzone_incidents_open{kind=\"foreign-path\"} 0",
        "dropzone_incident_report_seconds_left{exchange=\"pillar-3\"} 172800",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    watched.plaintext("pillar-4");
    watched.look();
    assert_eq!(watched.cases().len(), 2, "another exchange is another case");
}

#[test]
fn what_a_crash_has_read_again_counts_once_whatever_became_of_its_case() {
    let watched = Watched::new();
    watched.plaintext("pillar-3");
    watched.look();
    let before = std::fs::read(watched.position()).unwrap();
    watched.plaintext("pillar-3");
    watched.look();
    // Between the case and the position.
    std::fs::write(watched.position(), &before).unwrap();
    watched.look();
    assert_eq!(watched.case().count, 2);
    watched.close(&watched.case().id, 0).unwrap();
    for lost in [Some(&before), None] {
        match lost {
            Some(before) => std::fs::write(watched.position(), before).unwrap(),
            None => std::fs::remove_file(watched.position()).unwrap(),
        }
        watched.look();
        assert_eq!(watched.case().count, 2, "a closed case is not opened anew by what it has counted");
    }
    watched.plaintext("pillar-3");
    watched.look();
    std::fs::remove_file(watched.position()).unwrap();
    watched.look();
    let cases = watched.cases();
    assert_eq!(cases.iter().map(|case| case.count).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(cases[1].id.as_str(), format!("{}-2", cases[0].id));
    assert_eq!(watched.told(Incident::PlaintextRefused), 2);
}

#[test]
fn what_jobs_record_as_an_incident_opens_a_case_and_is_not_recorded_twice() {
    let watched = Watched::new();
    let record = Record {
        institution: Some("agii".into()),
        exchange: Some(slug("pillar-3")),
        detail: Some(Incident::Substituted.code().into()),
        ..Record::new(Event::Incident, Outcome::Denied)
    };
    watched.zone.workshop.log.append(&record).unwrap();
    watched.zone.workshop.metrics.incident(Incident::Substituted);
    watched.look();
    assert_eq!((watched.case().kind, watched.told(Incident::Substituted)), (Incident::Substituted, 1));
    assert!(watched.metrics().contains("dropzone_incidents_total{kind=\"substituted\"} 1"));
}

#[test]
fn no_flood_of_cases_fills_the_spool() {
    let watched = Watched::new();
    let names: Vec<String> = (0..CASES_A_DAY + 20).map(|number| format!("x-{number}")).collect();
    watched.zone.workshop.config.send_modify(|config| {
        let mut changed = config.as_ref().clone();
        let like = changed.exchanges[&slug("pillar-3")].clone();
        for name in &names {
            let mut exchange = like.clone();
            exchange.name = slug(name);
            changed.exchanges.insert(slug(name), exchange);
        }
        *config = Arc::new(changed);
    });
    names.iter().for_each(|name| watched.plaintext(name));
    watched.look();
    std::fs::remove_file(watched.position()).unwrap();
    watched.look();
    let cases = watched.cases();
    assert_eq!(cases.len(), CASES_A_DAY + 1);
    let [collective] = cases.iter().filter(|case| case.collective).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((collective.count, &collective.exchange), (20, &None));
    assert_eq!(cases.iter().map(|case| case.count).sum::<u64>(), names.len() as u64, "each counts once");
}

#[test]
fn what_is_no_record_is_passed_by_and_what_has_no_end_yet_is_waited_for() {
    let watched = Watched::new();
    watched.plaintext("pillar-3");
    let log = watched.zone.folder.path().join("log");
    let line = std::fs::read_to_string(log.join("2026-11-21.serve.test.jsonl")).unwrap();
    let other = log.join("2026-11-21.serve.other.jsonl");
    let mut file = std::fs::File::create(&other).unwrap();
    file.write_all(b"\xff\xfe{\n[]\n{\"event\":\"refuse\"}\n").unwrap();
    file.write_all(&vec![b'x'; 3 << 20]).unwrap();
    file.write_all(b"\n").unwrap();
    file.write_all(line.trim_end().as_bytes()).unwrap();
    watched.look();
    assert_eq!(watched.case().count, 1, "the line has no end");
    file.write_all(b"\n").unwrap();
    watched.look();
    assert_eq!(watched.case().count, 2);
    std::fs::write(log.join("2026-11-15.serve.other.jsonl"), &line).unwrap();
    watched.look();
    assert_eq!(watched.cases().len(), 1, "days before yesterday were read long ago");
}

#[test]
fn one_process_watches_at_a_time() {
    let watched = Watched::new();
    watched.plaintext("pillar-3");
    let book = watched.zone.workshop.spool.casebook().unwrap().unwrap();
    watched.look();
    assert_eq!(watched.cases(), []);
    drop(book);
    watched.look();
    assert_eq!(watched.cases().len(), 1);
}

#[test]
fn only_trusted_operators_close_and_only_closed_ones_go_when_receipts_do() {
    let watched = Watched::new();
    watched.plaintext("pillar-3");
    watched.plaintext("pillar-4");
    watched.look();
    let ids: BTreeSet<CaseId> = watched.cases().into_iter().map(|case| case.id).collect();
    let (id, open) = (ids.first().unwrap(), ids.last().unwrap());
    let stranger = process::user().wrapping_add(4711).max(1);
    assert!(watched.close(id, stranger).unwrap_err().contains("root and the user of `work` only"));
    assert!(watched.close(id, 0).unwrap().contains("closed"));
    assert!(watched.close(id, 0).unwrap_err().contains("was closed at"), "once");
    let records = watched.zone.records();
    let [record] = records
        .iter()
        .filter(|record| record.event == Event::IncidentClose)
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    assert_eq!(record.operator.as_deref(), Some("uid 0, by own account alice"));
    assert_eq!(record.detail.as_deref(), Some("reported"));
    watched.look();
    assert!(watched.metrics().contains("dropzone_incidents_open{kind=\"plaintext-refused\"} 1"));
    let expire = |at: &str| watched.zone.workshop.expire_incidents(Leave::at(at), 10).unwrap();
    assert_eq!(expire("2027-12-01T12:00:00Z"), 0, "receipts are kept for 400 days");
    assert_eq!(expire("2036-12-31T12:00:00Z"), 1);
    assert_eq!(&watched.case().id, open, "an open one is never removed");
}

#[test]
fn a_program_is_told_once_after_it_took_it_and_not_of_what_was_closed() {
    let watched = Watched::new();
    let (script, got) = (watched.zone.folder.path().join("tell"), watched.zone.folder.path().join("got"));
    let program = |ending: &str| {
        std::fs::write(&script, format!("#!/bin/sh\ncat >> {}\n{ending}\n", got.display())).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    };
    program("exit 3");
    watched.zone.workshop.config.send_modify(|config| {
        let mut changed = config.as_ref().clone();
        changed.machine.incident_program = vec!["/bin/sh".into(), script.to_str().unwrap().into()];
        *config = Arc::new(changed);
    });
    let lines = || std::fs::read_to_string(&got).unwrap_or_default().lines().count();
    let tell = || watched.zone.workshop.tell_program().unwrap();
    watched.plaintext("pillar-3");
    watched.look();
    tell();
    tell();
    let telling = watched.case().telling;
    assert_eq!((lines(), telling.tries, telling.taken), (1, 1, None), "{telling:?}");
    assert!(telling.why.contains("exit status: 3"));
    program("");
    watched.zone.workshop.clock.pass(Duration::from_secs(2 * 3600));
    tell();
    tell();
    assert_eq!((lines(), watched.case().telling.tries), (2, 0));
    let text = std::fs::read_to_string(&got).unwrap();
    let message: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(message["kind"], "plaintext-refused");
    assert_eq!(message["report-by"], "2026-11-23T12:00:00Z");
    watched.plaintext("pillar-4");
    watched.look();
    let other = watched.cases().into_iter().find(|case| case.telling.taken.is_none()).unwrap();
    watched.close(&other.id, 0).unwrap();
    tell();
    assert_eq!(lines(), 2, "closed, it needs no telling");
}

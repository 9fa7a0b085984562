//! Several deliveries of one arrival: who gets which rows and columns, and that each gets them once.

use std::os::unix::fs::chown;

use super::*;
use crate::policy::account::Person;
use crate::policy::agreement::OnFault;
use crate::policy::arrival::personal_name;
use crate::policy::outgoing::{Lock, OutColumn, Outgoing, Receivers};
use crate::policy::pseudonym::Pseudonyms;
use crate::policy::rules::{Alphabet, Column, Format, Kind, TableRules};

const LIST: &str = "insz;fund;counsellor\n85.07.30-033.28;101;an\n;102;bo\n85073003328;101;an\n";

/// A zone whose flow shapes lists, and the keys of two people of agii.
struct Shaping {
    zone: Zone,
    an: Identity,
    bo: Identity,
}

fn column(from: &str, name: &str, is_pseudonym: bool) -> OutColumn {
    OutColumn { from: from.into(), name: name.into(), is_pseudonym }
}

fn outgoing(receivers: Receivers, columns: Option<Vec<OutColumn>>) -> Outgoing {
    Outgoing { receivers, columns, format: None, lock: Lock::Recipients }
}

fn by_fund(columns: Option<Vec<OutColumn>>) -> Outgoing {
    let among = [("101", "agii"), ("102", "atlas"), ("103", "amal")];
    let among = among.map(|(value, to)| (value.to_owned(), slug(to))).into();
    outgoing(Receivers::Split { by: "fund".into(), among }, columns)
}

fn by_counsellor() -> Outgoing {
    let receivers = Receivers::People { by: "counsellor".into(), of: vec![slug("agii")] };
    outgoing(receivers, Some(vec![column("insz", "INSZ", false)]))
}

impl Shaping {
    fn new(job: Job, on_fault: OnFault, deliveries: Vec<Outgoing>) -> Self {
        let (zone, an, bo) = (Zone::new(), Identity::generate(), Identity::generate());
        let person = |label: &str, recipients: Vec<String>| Person {
            label: label.into(),
            function: None,
            keys: Vec::new(),
            recipients,
        };
        let own = |key: &Identity| vec![key.to_public().to_string()];
        let people = vec![
            person("an", own(&an)),
            person("bo", own(&bo)),
            person("cas", own(&bo)),
            person("without", Vec::new()),
        ];
        zone.workshop.config.send_modify(|config| {
            let mut changed = Config::clone(config);
            let mut amal = changed.institutions[&slug("atlas")].clone();
            amal.name = slug("amal");
            changed.institutions.insert(slug("amal"), amal);
            changed.institutions.get_mut(&slug("agii")).unwrap().people = people.clone();
            for flow in changed.exchanges.values_mut().flat_map(|exchange| &mut exchange.flows) {
                if flow.name.as_str() == "enrich" {
                    (flow.job, flow.on_fault) = (job.clone(), on_fault);
                    flow.to = deliveries.iter().flat_map(Outgoing::institutions).cloned().collect();
                    flow.deliveries = deliveries.clone();
                }
            }
            *config = Arc::new(changed);
        });
        Self { zone, an, bo }
    }

    fn shape(on_fault: OnFault, deliveries: Vec<Outgoing>) -> Self {
        Self::new(Job::Shape, on_fault, deliveries)
    }

    fn change(&self, change: impl Fn(&mut Exchange)) {
        self.zone.workshop.config.send_modify(|config| {
            let mut changed = Config::clone(config);
            changed.exchanges.values_mut().for_each(&change);
            *config = Arc::new(changed);
        });
    }

    fn file(&self, to: &str, name: &Name) -> std::path::PathBuf {
        self.zone.path().join("spool/outbox").join(to).join("pillar-3").join(name.as_str())
    }

    fn opened(&self, to: &str, arrival: &Arrival) -> String {
        let result = age::decrypt(&self.zone.receiver_key, &self.zone.result(to, arrival)).unwrap();
        String::from_utf8(result).unwrap()
    }

    fn personal(&self, person: &str, key: &Identity, arrival: &Arrival) -> String {
        let file = std::fs::read(self.file("agii", &personal_name(arrival, person))).unwrap();
        String::from_utf8(age::decrypt(key, &file).unwrap()).unwrap()
    }

    fn outbox(&self, of: &str) -> Vec<String> {
        let folder = self.zone.path().join("spool/outbox").join(of).join("pillar-3");
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn delivered(&self) -> Vec<String> {
        let records = self.zone.records();
        let deliveries = records.into_iter().filter(|record| record.event == Event::Deliver);
        deliveries.map(|record| record.detail.unwrap()).collect()
    }

    fn report(&self, arrival: &Arrival) -> String {
        let name = self.zone.receipt(arrival).quality.unwrap().report;
        let receipts = self.zone.path().join("spool/receipts/agii/pillar-3");
        std::fs::read_to_string(receipts.join(name.as_str())).unwrap()
    }
}

#[test]
fn every_receiver_gets_its_own_columns_and_rows_and_nothing_of_others() {
    let pseudonym = vec![column("fund", "fonds", false), column("insz", "pseudoniem", true)];
    let case = Shaping::shape(OnFault::Hold, vec![by_fund(Some(pseudonym))]);
    let arrival = case.zone.drop_list(LIST.as_bytes());
    assert_eq!(case.zone.work(&arrival), End::Done);
    let key = case.zone.workshop.spool.pseudonym_key(&slug("pillar-3")).unwrap().unwrap();
    let mut one = String::new();
    Pseudonyms::of(&key, &slug("pillar-3"), "insz").write("85073003328", &mut one);
    let header = "fonds;pseudoniem\n";
    assert_eq!(case.opened("agii", &arrival), format!("{header}101;{one}\n101;{one}\n"));
    assert_eq!(case.opened("atlas", &arrival), format!("{header}102;\n"));
    assert_eq!(case.opened("amal", &arrival), header, "an institution without rows is told so");
    let receipt = case.zone.receipt(&arrival);
    let told: Vec<_> =
        receipt.deliveries.iter().map(|delivery| (delivery.to.as_str(), delivery.rows.unwrap())).collect();
    assert_eq!(told, [("agii", 2), ("atlas", 1), ("amal", 0)]);
    let job = receipt.job.unwrap();
    assert_eq!((job.kind.as_str(), job.rows_in, job.rows_out), ("shape", Some(3), Some(3)));
}

#[test]
fn each_person_gets_the_rows_with_her_label_and_only_she_can_open_them() {
    let case = Shaping::shape(OnFault::Hold, vec![by_counsellor()]);
    let arrival = case.zone.drop_list(LIST.as_bytes());
    assert_eq!(case.zone.work(&arrival), End::Done);
    assert_eq!(case.personal("an", &case.an, &arrival), "INSZ\n85.07.30-033.28\n85073003328\n");
    assert_eq!(case.personal("bo", &case.bo, &arrival), "INSZ\n\"\"\n");
    let of_an = std::fs::read(case.file("agii", &personal_name(&arrival, "an"))).unwrap();
    for other in [&case.bo, &case.zone.receiver_key] {
        assert!(age::decrypt(other, &of_an).is_err(), "not her colleague, not her institution");
    }
    assert_eq!(case.outbox("agii").len(), 2, "cas has no rows, and no file");
    assert_eq!(case.delivered(), ["to agii, an", "to agii, bo"]);
    let told = case.zone.receipt(&arrival).deliveries;
    let people: Vec<_> = told.iter().map(|delivery| delivery.person.as_deref().unwrap()).collect();
    assert_eq!(people, ["an", "bo"]);
}

#[test]
fn a_row_that_is_nobodys_holds_the_list_or_is_left_out_and_reported_and_goes_to_nobody() {
    let list = "insz;fund;counsellor\n1;101;an\n2;104;an\n3; 101;an\n4;;an\n5;102;nobody\n6;102;without\n";
    for (deliveries, faulty) in [(by_fund(None), 3), (by_counsellor(), 2)] {
        let case = Shaping::shape(OnFault::Hold, vec![deliveries.clone()]);
        let arrival = case.zone.drop_list(list.as_bytes());
        assert_eq!(case.zone.work(&arrival), End::Held(Reason::ContentRules));
        assert!(case.delivered().is_empty() && case.outbox("agii").is_empty());
        assert!(case.report(&arrival).contains(";nobodys-row;"), "{}", case.report(&arrival));

        let case = Shaping::shape(OnFault::Report, vec![deliveries]);
        let arrival = case.zone.drop_list(list.as_bytes());
        assert_eq!(case.zone.work(&arrival), End::Done);
        let receipt = case.zone.receipt(&arrival);
        assert_eq!(receipt.quality.unwrap().counts.faulty_rows, faulty);
        let rows: u64 = receipt.deliveries.iter().map(|delivery| delivery.rows.unwrap()).sum();
        assert_eq!((rows, receipt.job.unwrap().rows_in), (6 - faulty, Some(6)), "each row is somewhere");
    }
    let one_column = outgoing(by_fund(None).receivers, Some(vec![column("counsellor", "c", false)]));
    let case = Shaping::shape(OnFault::Hold, vec![one_column]);
    let arrival = case.zone.drop_list(b"fund;counsellor\n101;a,b\n101;\"c;d\"\n");
    assert_eq!(case.zone.work(&arrival), End::Done);
    assert_eq!(case.opened("agii", &arrival), "c\n\"a,b\"\nc;d\n", "one column is comma separated");

    let case = Shaping::shape(OnFault::Report, vec![by_fund(None)]);
    let arrival = case.zone.drop_list(list.as_bytes());
    assert_eq!(case.zone.work(&arrival), End::Done);
    assert_eq!(case.opened("agii", &arrival), "insz;fund;counsellor\n1;101;an\n");
    for row in ["\n3;fund;", "\n4;fund;", "\n5;fund;"] {
        assert!(case.report(&arrival).contains(row), "{}", case.report(&arrival));
    }
    assert!(!case.report(&arrival).contains("104"), "never a value");
}

#[test]
fn a_row_of_the_result_that_is_nobodys_is_reported_too() {
    let query = |sql: &str| Job::Query(Query { database: slug("register"), sql: sql.into(), columns: None });
    let job = query("SELECT insz, '10' || insz AS fund FROM arrival ORDER BY rowid");
    let case = Shaping::new(job.clone(), OnFault::Hold, vec![by_fund(None)]);
    let arrival = case.zone.drop_list(b"insz\n1\n9\n2\n");
    assert_eq!(case.zone.work(&arrival), End::Held(Reason::ContentRules));
    assert!(case.delivered().is_empty());
    let note = case.zone.workshop.spool.hold_note(&arrival.id).unwrap();
    let quality = case.zone.receipt(&arrival).quality.unwrap();
    assert_eq!((quality.counts.rows, quality.counts.findings, quality.left_out), (3, 1, false));
    assert!(note.detail.contains("1 rows of the result are nobody's, the first is row 2"), "{}", note.detail);

    let case = Shaping::new(job, OnFault::Report, vec![by_fund(None)]);
    let arrival = case.zone.drop_list(b"insz\n1\n9\n2\n");
    assert_eq!(case.zone.work(&arrival), End::Done);
    assert_eq!(case.opened("agii", &arrival), "insz,fund\n1,101\n");
    assert_eq!(case.opened("atlas", &arrival), "insz,fund\n2,102\n");
    assert!(case.report(&arrival).contains("\n3;fund;nobodys-row-in-result;"), "{}", case.report(&arrival));
    assert!(case.zone.receipt(&arrival).quality.unwrap().left_out);
}

#[test]
fn somebody_who_does_not_take_part_or_whose_label_another_has_too_gets_no_rows() {
    let receivers = Receivers::People { by: "counsellor".into(), of: vec![slug("agii"), slug("atlas")] };
    let case = Shaping::shape(OnFault::Report, vec![outgoing(receivers, None)]);
    case.zone.workshop.config.send_modify(|config| {
        let mut changed = Config::clone(config);
        let an = changed.institutions[&slug("agii")].people[0].clone();
        changed.institutions.get_mut(&slug("atlas")).unwrap().people = vec![an];
        *config = Arc::new(changed);
    });
    case.change(|exchange| {
        let only = Some(["an".to_owned(), "bo".to_owned()].into());
        let circle = crate::policy::agreement::Circle { only, ..Default::default() };
        exchange.circles.insert(slug("agii"), circle);
    });
    let arrival = case.zone.drop_list(b"counsellor\nan\nbo\ncas\n");
    assert_eq!(case.zone.work(&arrival), End::Done);
    assert_eq!(case.delivered(), ["to agii, bo"]);
    assert_eq!(case.zone.receipt(&arrival).quality.unwrap().counts.faulty_rows, 2);
}

#[test]
fn pseudonyms_are_the_same_in_every_measurement_of_an_exchange_and_others_in_another() {
    let wanted = vec![column("insz", "pseudoniem", true)];
    let all = Receivers::All(vec![slug("agii")]);
    let case = Shaping::shape(OnFault::Hold, vec![outgoing(all, Some(wanted))]);
    let measured = |exchange: &str, name: &str, list: &[u8]| {
        let payload = case.zone.encrypted(list);
        let arrival = case.zone.publish(exchange, Some("enrich"), name, &payload);
        assert_eq!(case.zone.work(&arrival), End::Done);
        case.opened("agii", &arrival)
    };
    let first = measured("pillar-3", "one.csv.age", b"insz\n85073003328\n");
    assert_eq!(measured("pillar-3", "two.csv.age", b"insz\n85.07.30-033.28\n"), first);
    assert_ne!(measured("pillar-4", "one.csv.age", b"insz\n85073003328\n\n"), first);
    let zone = &case.zone;
    assert!(zone.workshop.destroy_pseudonyms(&slug("pillar-3")).unwrap());
    assert!(!zone.workshop.destroy_pseudonyms(&slug("pillar-3")).unwrap());
    let destroyed = zone.records().into_iter().filter(|record| record.event == Event::Destroy);
    let exchanges: Vec<_> = destroyed.map(|record| record.exchange.unwrap()).collect();
    assert_eq!(exchanges, [slug("pillar-3")]);
    let late = zone.publish("pillar-3", Some("enrich"), "late.csv.age", &zone.encrypted(b"insz\n1\n"));
    assert_eq!(zone.work(&late), End::Held(Reason::JobFailed), "no new key takes its place");
}

/// The second of two people's results cannot leave; afterwards it can.
fn cut_short(case: &Shaping, arrival: &Arrival) {
    let second = case.file("agii", &personal_name(arrival, "bo"));
    std::fs::write(&second, "in the way").unwrap();
    chown(&second, Some(12_345), None).unwrap();
    assert_eq!(case.zone.work(arrival), End::Deferred);
    std::fs::remove_file(second).unwrap();
}

#[test]
fn a_person_who_has_her_rows_gets_no_second_copy_whatever_becomes_of_the_others() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let case = Shaping::shape(OnFault::Hold, vec![by_counsellor()]);
    let arrival = case.zone.drop_list(LIST.as_bytes());
    cut_short(&case, &arrival);
    let first = case.file("agii", &personal_name(&arrival, "an"));
    std::fs::remove_file(&first).unwrap();
    assert_eq!(case.zone.work_from(State::Deferred, &arrival), End::Done);
    assert!(!first.exists(), "she has collected it");
    assert_eq!(case.personal("bo", &case.bo, &arrival), "INSZ\n\"\"\n");
    // The refused one was recorded before it was tried.
    assert_eq!(case.delivered(), ["to agii, an", "to agii, bo"]);
    assert_eq!(case.zone.receipt(&arrival).deliveries.len(), 2);
}

#[test]
fn an_arrival_all_of_whose_people_have_their_rows_is_done_also_after_the_agreement() {
    let case = Shaping::shape(OnFault::Hold, vec![by_counsellor()]);
    let arrival = case.zone.drop_list(LIST.as_bytes());
    assert_eq!(case.zone.work(&arrival), End::Done);
    // The crash came before the last step.
    let at = |state: &str| case.zone.path().join("spool").join(state).join(arrival.id.to_string());
    std::fs::rename(at("done"), at("incoming")).unwrap();
    case.change(|exchange| exchange.agreement.until = Some(date(2026, 11, 20)));
    assert_eq!(case.zone.work(&arrival), End::Done);
    assert_eq!(case.delivered().len(), 2);
}

#[test]
fn a_long_list_comes_out_whole_whatever_it_is_cut_into() {
    let rows: Vec<String> =
        (0..60_000).map(|at| format!("{at:011};{};\"x\"\"{at}\"\r\n", ["101", "102"][at % 2])).collect();
    let list = format!("insz;fund;counsellor\r\n{}", rows.concat());
    let whole = outgoing(Receivers::All(vec![slug("amal")]), None);
    let mut split = by_fund(Some(vec![column("counsellor", "c", false), column("insz", "i", false)]));
    if let Receivers::Split { among, .. } = &mut split.receivers {
        among.remove("103");
    }
    let case = Shaping::shape(OnFault::Hold, vec![whole, split]);
    let arrival = case.zone.drop_list(list.as_bytes());
    assert_eq!(case.zone.work(&arrival), End::Done);
    assert_eq!(case.opened("amal", &arrival), list, "byte for byte");
    for (to, odd) in [("agii", 0), ("atlas", 1)] {
        let expected: String =
            (0..60_000).filter(|at| at % 2 == odd).map(|at| format!("\"x\"\"{at}\";{at:011}\r\n")).collect();
        assert_eq!(case.opened(to, &arrival), format!("c;i\r\n{expected}"), "{to}");
    }
}

#[test]
fn a_result_that_breaks_its_rules_or_lacks_a_column_is_not_delivered_to_anybody() {
    let text = Kind::Text { at_most: 11, alphabet: Alphabet::Digits };
    let rules = |columns: &[&str]| TableRules {
        name: "out".into(),
        formats: vec![Format::Csv],
        columns: columns
            .iter()
            .map(|name| Column { name: (*name).into(), kind: text.clone(), is_required: false })
            .collect(),
        is_template: false,
        conditions: Vec::new(),
        forbids_insz: true,
    };
    let whole = || outgoing(Receivers::All(vec![slug("agii")]), None);
    let missing = outgoing(Receivers::All(vec![slug("agii")]), Some(vec![column("name", "name", false)]));
    for (output, delivery, list, reason) in [
        (Some(rules(&["insz"])), whole(), "insz,name\n1,x\n", Reason::ColumnsNotAgreed),
        (Some(rules(&["insz"])), whole(), "insz\n1\n850730-033 28\n", Reason::JobFailed),
        (None, missing, "insz\n1\n", Reason::ColumnsNotAgreed),
    ] {
        let case = Shaping::shape(OnFault::Report, vec![delivery]);
        case.change(|exchange| {
            exchange.flows.iter_mut().for_each(|flow| flow.output.clone_from(&output));
        });
        let arrival = case.zone.drop_list(list.as_bytes());
        assert_eq!(case.zone.work(&arrival), End::Held(reason), "{list}");
        assert!(case.delivered().is_empty() && case.outbox("agii").is_empty());
        let note = case.zone.workshop.spool.hold_note(&arrival.id).unwrap();
        assert!(!note.detail.contains("850730"), "{}", note.detail);
    }
}

#[test]
fn a_list_of_nothing_but_a_header_gives_institutions_a_header_and_people_nothing() {
    let all = outgoing(Receivers::All(vec![slug("atlas")]), Some(vec![column("fund", "f", false)]));
    let case = Shaping::shape(OnFault::Hold, vec![all, by_counsellor()]);
    let arrival = case.zone.drop_list(b"insz;fund;counsellor\n");
    assert_eq!(case.zone.work(&arrival), End::Done);
    assert_eq!(case.opened("atlas", &arrival), "f\n");
    assert_eq!(case.delivered(), ["to atlas"]);
}

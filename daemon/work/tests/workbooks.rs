//! Lists that come as workbooks, through the whole job.

use std::sync::Arc;

use super::*;
use crate::policy::rules::{Column, Format, Kind, TableRules};
use crate::work::sheet::{Workbook, book_with_row};

fn zone_taking(formats: &[Format]) -> Zone {
    let zone = Zone::new();
    let mut config = (*zone.workshop.config()).clone();
    let rules = TableRules {
        name: "list".into(),
        formats: formats.to_vec(),
        columns: vec![Column { name: "insz".into(), kind: Kind::Insz, is_required: false }],
        is_template: false,
        conditions: Vec::new(),
        forbids_insz: false,
    };
    for flow in &mut config.exchanges.get_mut(&slug("pillar-3")).unwrap().flows {
        flow.input = Some(rules.clone());
        flow.job = match &flow.job {
            Job::Query(query) => Job::Query(Query {
                sql: JOIN.replace("j.insz = ", "'0507300332' || j.insz = "),
                ..query.clone()
            }),
            other => other.clone(),
        };
    }
    zone.workshop.config.send_replace(Arc::new(config));
    zone
}

fn workbook(rows: &[&str]) -> Vec<u8> {
    let mut workbook = Workbook::begin(Vec::new(), &["insz".to_owned()]).unwrap();
    for row in rows {
        workbook.row([*row]).unwrap();
    }
    workbook.finish().unwrap()
}

fn hand_in(zone: &Zone, name: &str, list: &[u8]) -> Arrival {
    zone.publish("pillar-3", Some("enrich"), name, &zone.encrypted(list))
}

#[test]
fn a_workbook_goes_in_and_what_the_join_makes_of_its_rows_comes_out() {
    let zone = zone_taking(&[Format::Csv, Format::Xlsx]);
    let arrival = hand_in(&zone, "list.xlsx.age", &workbook(&["85073003328", "05073003321"]));
    assert_eq!(zone.work(&arrival), End::Done);
    let receipt = zone.receipt(&arrival);
    let job = receipt.job.unwrap();
    assert_eq!((receipt.content, job.rows_in, job.rows_out), (Content::Verified, Some(2), Some(2)));
    // A number that lost its zero is the same national number.
    let arrival = hand_in(&zone, "numbers.xlsx.age", &book_with_row(r#"<c r="A2"><v>5073003321</v></c>"#));
    assert_eq!(zone.work(&arrival), End::Done);
    let text = age::decrypt(&zone.receiver_key, &zone.result("atlas", &arrival)).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("05073003321") && text.contains("sought"), "{text}");
    // And a list as text goes through as ever.
    assert_eq!(zone.work(&hand_in(&zone, "list.csv.age", b"insz\n85073003328\n")), End::Done);
}

#[test]
fn a_workbook_that_cannot_be_read_is_held_and_its_sender_hears_where() {
    let zone = zone_taking(&[Format::Csv, Format::Xlsx]);
    let broken = book_with_row(r##"<c r="A2" t="e"><v>#REF!</v></c>"##);
    let arrival = hand_in(&zone, "list.xlsx.age", &broken);
    let reason = Reason::SheetUnreadable { row: Some(2) };
    assert_eq!(zone.work(&arrival), End::Held(reason.clone()));
    let told = zone.receipt(&arrival).reason.unwrap();
    assert_eq!((told.code.as_str(), told.row), ("sheet-unreadable", Some(2)));
    let note = zone.workshop.spool.hold_note(&arrival.id).unwrap();
    assert!(note.reason == reason && note.detail.contains("row 2, column 1"), "{note:?}");
}

#[test]
fn a_flow_takes_the_forms_that_it_names() {
    let zone = zone_taking(&[Format::Csv]);
    let arrival = hand_in(&zone, "list.xlsx.age", &workbook(&["85073003328"]));
    assert!(matches!(zone.work(&arrival), End::Held(Reason::NotATable { .. })));
    let zone = zone_taking(&[Format::Xlsx]);
    let arrival = hand_in(&zone, "list.csv.age", b"insz\n85073003328\n");
    assert_eq!(zone.work(&arrival), End::Held(Reason::SheetUnreadable { row: None }));
}

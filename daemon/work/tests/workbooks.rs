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
                sql: JOIN.replace("j.insz = ", "'0507300085' || j.insz = "),
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
    let arrival = hand_in(&zone, "list.xlsx.age", &workbook(&["85073003328", "05073000851"]));
    assert_eq!(zone.work(&arrival), End::Done);
    let receipt = zone.receipt(&arrival);
    let job = receipt.job.unwrap();
    assert_eq!((receipt.content, job.rows_in, job.rows_out), (Content::Verified, Some(2), Some(2)));
    // A number that lost its zero is the same national number.
    let arrival = hand_in(&zone, "numbers.xlsx.age", &book_with_row(r#"<c r="A2"><v>5073000851</v></c>"#));
    assert_eq!(zone.work(&arrival), End::Done);
    let decrypted =
        |to: &str, arrival: &Arrival| age::decrypt(&zone.receiver_key, &zone.result(to, arrival)).unwrap();
    // As it was sent: the result is a workbook too.
    let (text, form) = as_text(decrypted("atlas", &arrival));
    assert_eq!(form, Format::Xlsx);
    assert_eq!(text, "\u{feff}insz;category\r\n05073000851;sought\r\n");
    // And a list as text goes through as ever.
    let arrival = hand_in(&zone, "list.csv.age", b"insz\n85073003328\n");
    assert_eq!(zone.work(&arrival), End::Done);
    assert_eq!(
        as_text(decrypted("atlas", &arrival)),
        ("insz,category\n85073003328,\n".to_owned(), Format::Csv)
    );
}

#[test]
fn a_result_has_the_form_that_its_delivery_asks_for() {
    for (asked, sent) in [(Format::Xlsx, Format::Csv), (Format::Csv, Format::Xlsx)] {
        let zone = zone_taking(&[Format::Csv, Format::Xlsx]);
        let mut config = (*zone.workshop.config()).clone();
        for flow in &mut config.exchanges.get_mut(&slug("pillar-3")).unwrap().flows {
            flow.deliveries[0].format = Some(asked);
        }
        zone.workshop.config.send_replace(Arc::new(config));
        let list = match sent {
            Format::Csv => b"insz\r\n05073000851\r\n05073000752\r\n".to_vec(),
            Format::Xlsx => workbook(&["05073000851", "05073000752"]),
        };
        let arrival = hand_in(&zone, "list.age", &list);
        assert_eq!(zone.work(&arrival), End::Done);
        let out = zone.path().join("spool/outbox/atlas/pillar-3");
        let name = std::fs::read_dir(out).unwrap().next().unwrap().unwrap();
        let result = age::decrypt(&zone.receiver_key, &std::fs::read(name.path()).unwrap()).unwrap();
        let ending = if asked == Format::Csv { ".csv.age" } else { ".xlsx.age" };
        assert!(name.file_name().to_str().unwrap().ends_with(ending), "{name:?}");
        assert_eq!(as_text(result).1, asked);
    }
}

/// A result as text, whichever form it has.
fn as_text(result: Vec<u8>) -> (String, Format) {
    let rules = TableRules {
        name: "any".into(),
        formats: vec![Format::Csv, Format::Xlsx],
        columns: Vec::new(),
        is_template: false,
        conditions: Vec::new(),
        forbids_insz: false,
    };
    let stop = crate::work::stop::Stop::default();
    let (text, form) = crate::work::sheet::list_of(result.into(), Some(&rules), 1 << 20, &stop).unwrap();
    (String::from_utf8(text.to_vec()).unwrap(), form)
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

//! What a list may hold: a client sends one that breaks its agreement, and reads over SFTP what is wrong with it.

use std::fs;

use serde_json::json;

use crate::harness::programs::sha256;
use crate::harness::{AN, Zone};

/// A right national number as somebody types it into a note.
const DOTTED: &str = "85.07.30-033.28";

/// Without national numbers: one flow that holds a list with a faulty row, and one that leaves such rows out.
const EXCHANGE: &str = r#"
exchange: feedback
agreement: {reference: P-4, title: Feedback per client, legal-basis: decreet van 18 juli 2008, from: 2025-04-01}
parties: {agency: [drop, collect]}
tables:
  list:
    template: true
    columns:
      - {column: category, type: text, at-most: 40, required: true}
      - {column: next, type: date}
      - {column: consent, type: yes-no}
      - {column: note, type: text, at-most: 80}
    rows: [{column: consent, is: [ja]}]
    forbid: [insz]
flows:
  - flow: leave-out
    from: [agency]
    accept: {names: ["part-*.csv.age"], max-size: 1 MiB}
    table: list
    faults: report
    job:
      query:
        database: register
        sql: |
          SELECT arrival.category, arrival.note, count(j.insz) AS known
          FROM arrival LEFT JOIN jobseekers j ON j.category = arrival.category
          GROUP BY arrival.rowid ORDER BY arrival.rowid
    to: [agency]
  - flow: hold
    from: [agency]
    accept: {names: ["*.csv.age"], max-size: 1 MiB}
    table: list
    job:
      query:
        database: register
        sql: |
          SELECT arrival.category, arrival.note, count(j.insz) AS known
          FROM arrival LEFT JOIN jobseekers j ON j.category = arrival.category
          GROUP BY arrival.rowid ORDER BY arrival.rowid
    to: [agency]
"#;

const HEADER: &str = "category;next;consent;note\r\n";

fn zone() -> Zone {
    let mut zone = Zone::lay_out();
    fs::write(zone.directory().join("exchanges/feedback.yaml"), EXCHANGE).unwrap();
    zone.start();
    zone
}

/// The quality report of a file, as its sender fetches it.
fn fetch_report(zone: &Zone, name: &str) -> String {
    zone.sftp(AN, &format!("get /feedback/receipts/{name}.*.quality.csv report.csv")).must_succeed();
    String::from_utf8(zone.read_here("report.csv")).unwrap()
}

#[test]
fn a_list_that_breaks_its_agreement_is_held_and_its_sender_fetches_what_is_wrong_with_it() {
    let zone = zone();
    let list = format!(
        "{HEADER}werkzoekend;2026-03-01;ja;belt terug\r\nin opleiding;31/02/2026;nee;\r\n;;ja;zie {DOTTED} aub\r\n"
    );
    zone.upload(AN, "/feedback/in/mei.csv.age", &zone.encrypt(list));
    let receipt = zone.receipt("feedback", "mei.csv.age", "held");
    assert_eq!(receipt["reason"]["code"], "content-rules", "{receipt:#}");
    let report = fetch_report(&zone, "mei.csv.age");
    let found: Vec<String> =
        report.lines().map(|line| line.split(';').take(3).collect::<Vec<_>>().join(";")).collect();
    assert_eq!(
        found,
        [
            "\u{feff}row;column;code",
            "3;next;not-a-date",
            "3;consent;row-not-agreed",
            "4;category;empty",
            "4;note;insz-forbidden",
            ";;total"
        ]
    );
    let quality = &receipt["quality"];
    assert_eq!(quality["sha256"], sha256(report.as_bytes()), "the signed receipt vouches for the report");
    let counts = json!([quality["rows"], quality["faulty-rows"], quality["findings"], quality["left-out"]]);
    assert_eq!(counts, json!([3, 2, 4, false]));
    assert!(zone.results("agency", "feedback").is_empty());
    let listed = zone.sftp(AN, "ls -1 /feedback/receipts").must_succeed().text();
    assert!(listed.contains(quality["report"].as_str().unwrap()), "{listed}");
    for value in [DOTTED, "belt terug", "werkzoekend"] {
        assert_eq!(zone.search_tree(value), Vec::<std::path::PathBuf>::new(), "{value}");
    }
}

#[test]
fn a_flow_that_reports_delivers_the_rows_that_are_right() {
    let zone = zone();
    let list = format!(
        "{HEADER}werkzoekend;;ja;een\r\nwerkzoekend;;nee;twee\r\nonbekend;;JA;\"drie\r\n\"\r\nonbekend;;ja;vier"
    );
    zone.upload(AN, "/feedback/in/part-1.csv.age", &zone.encrypt(list));
    let receipt = zone.receipt("feedback", "part-1.csv.age", "delivered");
    assert_eq!(receipt["job"]["rows-in"], 4, "{receipt:#}");
    assert_eq!(
        (&receipt["quality"]["faulty-rows"], &receipt["quality"]["left-out"]),
        (&json!(2), &json!(true))
    );
    let report = fetch_report(&zone, "part-1.csv.age");
    assert!(
        report.contains("\r\n3;consent;row-not-agreed;") && report.contains("\r\n4;note;characters;"),
        "{report}"
    );
    let result = zone.result("agency", "feedback");
    let got = zone.download(AN, &format!("/feedback/out/{result}"));
    let text = zone.decrypt("agency", &got);
    assert_eq!(text, b"category;note;known\r\nwerkzoekend;een;1\r\nonbekend;vier;0\r\n");
}

#[test]
fn a_name_that_holds_a_national_number_is_refused_where_none_is_allowed() {
    let zone = zone();
    zone.put_here("list", zone.encrypt(format!("{HEADER}werkzoekend;;ja;\r\n")));
    for name in ["85073003328.csv.age", "part-85.07.30-033.28.csv.age"] {
        zone.sftp(AN, &format!("put list /feedback/in/{name}")).must_fail();
        zone.sftp(
            AN,
            &format!("put list /feedback/in/x.filepart\nrename /feedback/in/x.filepart /feedback/in/{name}"),
        )
        .must_fail();
    }
    assert_eq!(zone.accepted(), 0);
    zone.sftp(AN, "put list /feedback/in/8507300332.csv.age").must_succeed();
    zone.receipt("feedback", "8507300332.csv.age", "delivered");
}

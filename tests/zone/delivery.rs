//! An encrypted list goes in, the right result comes out, byte for byte what a join made here gives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::harness::config::KNOWN;
use crate::harness::programs::{run, sqlite};
use crate::harness::{AN, BO, Zone, skip};

/// How a list is written.
#[derive(Debug, Clone, Copy)]
struct Dialect {
    delimiter: &'static str,
    line_end: &'static str,
    bom: &'static str,
}

const PLAIN: Dialect = Dialect { delimiter: ",", line_end: "\n", bom: "" };

impl Dialect {
    fn write(self, rows: &[Vec<String>]) -> String {
        let field = |text: &String| {
            let special = [self.delimiter, "\"", "\n", "\r"].iter().any(|mark| text.contains(mark));
            if special { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
        };
        let line = |row: &Vec<String>| {
            row.iter().map(field).collect::<Vec<_>>().join(self.delimiter) + self.line_end
        };
        self.bom.to_owned() + &rows.iter().map(line).collect::<String>()
    }
}

fn row(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}

/// The join, made independently: the columns of the list and those of the register, empty where it does not know.
fn joined(list: &[Vec<String>], header: &[&str], known_columns: usize) -> Vec<Vec<String>> {
    let known: BTreeMap<&str, [&str; 2]> = KNOWN.iter().map(|row| (row.0, [row.1, row.2])).collect();
    let mut result = vec![row(header)];
    for line in &list[1..] {
        let found = known.get(line[0].as_str()).copied().unwrap_or_default();
        result.push(line.iter().cloned().chain(row(&found[..known_columns])).collect());
    }
    result
}

fn numbers(count: usize) -> Vec<Vec<String>> {
    let known = KNOWN.map(|row| row.0);
    let number = |at: usize| match at % 7 {
        0 => known[at / 7 % known.len()].to_owned(),
        _ => format!("{:011}", 10_000_000_000_u64 + at as u64),
    };
    std::iter::once("insz".to_owned()).chain((0..count).map(number)).map(|number| vec![number]).collect()
}

/// Drops a list and gives what the agency collects, decrypted.
fn through(zone: &Zone, exchange: &str, list: &str) -> String {
    zone.upload(AN, &format!("/{exchange}/in/list.csv.age"), &zone.encrypt(list));
    collected(zone, exchange)
}

/// Waits for the one result, collects it over SFTP, decrypts it, and takes it out of the way.
fn collected(zone: &Zone, exchange: &str) -> String {
    let result = format!("/{exchange}/out/{}", zone.result("agency", exchange));
    let encrypted = zone.download(AN, &result);
    zone.sftp(AN, &format!("rm {result}")).must_succeed();
    // The name is free again once the job has ended, which is after the delivery.
    zone.wait_for("the end of the job", || (zone.arrivals("active").is_empty()).then_some(()));
    String::from_utf8(zone.decrypt("agency", &encrypted)).unwrap()
}

#[test]
fn a_list_of_none_one_or_a_thousand_numbers_gives_what_the_join_gives() {
    let zone = Zone::new();
    for count in [0, 1, 1000] {
        let list = numbers(count);
        let expected = PLAIN.write(&joined(&list, &["insz", "category", "registered"], 2));
        assert_eq!(through(&zone, "pillar-3", &PLAIN.write(&list)), expected, "{count} numbers");
    }
    assert_eq!(zone.arrivals("done").len(), 3);
}

#[test]
fn quotes_delimiters_empty_lines_and_any_script_survive_in_the_dialect_of_the_list() {
    let zone = Zone::new();
    let header = ["insz", "nota; of, opmerking"];
    let list = [
        row(&header),
        row(&[KNOWN[0].0, "zei \"ja\", en bleef"]),
        row(&["00000000000", ""]),
        row(&[KNOWN[1].0, "Þór Ünlü-Łęcki, 田中; عربى 🏳"]),
        row(&[KNOWN[2].0, "twee\nregels"]),
        row(&["=1+1", " ruimte rondom \u{a0}"]),
        row(&[KNOWN[0].0, "\"\""]),
    ];
    let expected = joined(&list, &[header[0], header[1], "category"], 1);
    for delimiter in [",", ";"] {
        for line_end in ["\n", "\r\n"] {
            for bom in ["", "\u{feff}"] {
                let dialect = Dialect { delimiter, line_end, bom };
                let got = through(&zone, "notes", &dialect.write(&list));
                assert_eq!(got, dialect.write(&expected), "{dialect:?}");
            }
        }
    }
}

#[test]
fn an_empty_line_is_a_row_and_a_missing_last_line_end_is_none() {
    let zone = Zone::new();
    let number = KNOWN[0].0;
    for (list, expected) in [
        (
            format!("insz\n\n{number}\n\n"),
            format!("insz,category,registered\n,,\n{number},werkzoekend,2021-04-01\n,,\n"),
        ),
        (format!("insz\n{number}"), format!("insz,category,registered\n{number},werkzoekend,2021-04-01\n")),
        (
            format!("insz\r\n\r\n\"{number}\"\r\n"),
            format!("insz,category,registered\r\n,,\r\n{number},werkzoekend,2021-04-01\r\n"),
        ),
    ] {
        assert_eq!(through(&zone, "pillar-3", &list), expected, "{list:?}");
    }
}

#[test]
fn text_armor_is_taken_where_the_exchange_accepts_it() {
    let zone = Zone::new();
    let list = numbers(5000);
    let armored = zone.age(PLAIN.write(&list).as_bytes(), &["-a", "-r", &zone.recipient()]);
    assert!(armored.starts_with(b"-----BEGIN AGE"));
    zone.upload(AN, "/pillar-3/in/list.csv.age", &armored);
    let expected = PLAIN.write(&joined(&list, &["insz", "category", "registered"], 2));
    assert_eq!(collected(&zone, "pillar-3"), expected);
}

#[test]
fn a_list_with_crlf_armor_is_taken_too() {
    let zone = Zone::new();
    let list = numbers(100);
    let armored = zone.age(PLAIN.write(&list).as_bytes(), &["-a", "-r", &zone.recipient()]);
    let as_windows_writes_it = String::from_utf8(armored).unwrap().replace('\n', "\r\n");
    zone.upload(AN, "/pillar-3/in/list.csv.age", as_windows_writes_it.as_bytes());
    let expected = PLAIN.write(&joined(&list, &["insz", "category", "registered"], 2));
    assert_eq!(collected(&zone, "pillar-3"), expected);
}

#[test]
fn a_relayed_file_reaches_the_receiver_byte_for_byte_and_nobody_here_looked_into_it() {
    let zone = Zone::new();
    let recipient = crate::harness::programs::recipient(&zone.identity_of("city"));
    let list = PLAIN.write(&numbers(100_000));
    let sent = zone.age(list.as_bytes(), &["-r", &recipient]);
    zone.upload(AN, "/relay/in/list.csv.age", &sent);
    let result = zone.result("city", "relay");
    let got = zone.download(BO, &format!("/relay/out/{result}"));
    assert_eq!(got, sent);
    assert_eq!(zone.decrypt("city", &got), list.as_bytes());
    let receipt = zone.receipt("relay", "list.csv.age", "delivered");
    assert_eq!(receipt["content"], "structure-only");
    assert_eq!(receipt["deliveries"][0]["to"], "city");
    assert_eq!(receipt["deliveries"][0]["sha256"], receipt["sha256"]);
    assert!(receipt["job"].get("rows-in").is_none(), "nobody here can count them");
    assert!(zone.results("agency", "relay").is_empty());
}

#[test]
fn a_list_of_a_million_numbers_gives_what_the_join_gives() {
    let Some(program) = std::env::var_os("DROPZONE_RELEASE_BIN").map(PathBuf::from) else {
        skip("DROPZONE_RELEASE_BIN names no release build of dropzone; tests/run makes one");
        return;
    };
    let mut zone = Zone::lay_out();
    let million: u64 = 1_000_000;
    // The register knows every second number of the list, and as many that are not on it.
    sqlite(
        &zone.register(),
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 2 FROM n WHERE i < 2 * {million})
             INSERT INTO jobseekers SELECT printf('%011d', i), 'c' || (i % 9), '' FROM n;"
        ),
    );
    zone.start_program(&program);
    let (mut list, mut expected) = ("insz\n".to_owned(), "insz,category,registered\n".to_owned());
    for at in 0..million {
        // A step without a common divisor: every number once, in no order.
        let number = at * 7919 % million;
        list += &format!("{number:011}\n");
        let category = if number.is_multiple_of(2) { format!("c{}", number % 9) } else { String::new() };
        expected += &format!("{number:011},{category},\n");
    }
    let got = through(&zone, "pillar-3", &list);
    assert!(got == expected, "the result differs from the join");
    let receipt = zone.receipt("pillar-3", "list.csv.age", "delivered");
    assert_eq!(receipt["job"]["rows-out"], million);
}

#[test]
fn the_demo_tells_its_story_to_the_end() {
    let ran = run(std::process::Command::new(env!("CARGO_BIN_EXE_dropzone")).arg("demo")).must_succeed();
    for word in ["not-encrypted", "sftp ", "age ", "curl "] {
        assert!(ran.text().contains(word) || ran.stderr.contains(word), "{word} in\n{}", ran.text());
    }
}

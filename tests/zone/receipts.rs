//! What an institution reads about each of its files, and what nobody may read anywhere: a value from a list.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::observe::names;
use crate::harness::programs::{fingerprint, recipient, run_with_input, sha256};
use crate::harness::{AN, Zone};

/// A number that is on lists and must be nowhere else.
const CANARY: &str = "66060600642";

fn object<'a>(receipt: &'a Value, fields: &[&str]) -> Vec<&'a Value> {
    fields.iter().map(|field| &receipt[*field]).collect()
}

/// What every receipt says, whatever became of the file.
fn assert_common(zone: &Zone, receipt: &Value, exchange: &str, name: &str) {
    let who = json!({"key-label": "an", "key-fingerprint": fingerprint(&zone.key_of(AN))});
    let common = object(receipt, &["receipt", "exchange", "agreement", "institution", "name", "by"]);
    let agreement = json!(format!("ref-{exchange}"));
    assert_eq!(
        common,
        [&json!(1), &json!(exchange), &agreement, &json!("agency"), &json!(name), &who],
        "{receipt:#}"
    );
    let login = zone.logged(&[("event", "login"), ("session", receipt["session"].as_str().unwrap())]);
    assert_eq!(login.len(), 1, "the session is found in the access log");
    let times = object(receipt, &["opened", "received", "finished"]);
    let times: Vec<jiff::Timestamp> =
        times.iter().map(|time| time.as_str().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(receipt["arrival"].as_str().unwrap().ends_with(&format!(".agency.{exchange}")));
}

fn assert_explained(receipt: &Value, code: &str, dutch: &str, english: &str) {
    let reason = &receipt["reason"];
    assert_eq!(reason["code"], code, "{receipt:#}");
    assert!(reason["nl"].as_str().unwrap().contains(dutch), "{reason:#}");
    assert!(reason["en"].as_str().unwrap().contains(english), "{reason:#}");
}

#[test]
fn the_receipt_of_a_delivered_list_says_who_sent_what_and_what_came_of_it() {
    let zone = Zone::new();
    let sent = zone.encrypt(format!("insz\n{CANARY}\n85073003328\n\n"));
    zone.upload(AN, "/pillar-3/in/lijst mei.csv.age", &sent);
    let receipt = zone.receipt("pillar-3", "lijst mei.csv.age", "delivered");
    assert_common(&zone, &receipt, "pillar-3", "lijst mei.csv.age");
    assert_eq!(receipt["size"], sent.len());
    assert_eq!(receipt["sha256"], sha256(&sent));
    assert_eq!(receipt["content"], "verified");
    assert_eq!(receipt["job"], json!({"kind": "query", "tries": 1, "rows-in": 3, "rows-out": 3}));
    assert!(receipt.get("reason").is_none());
    let result = zone.result("agency", "pillar-3");
    let got = zone.download(AN, &format!("/pillar-3/out/{result}"));
    let delivery =
        json!({"to": "agency", "name": result, "rows": 3, "size": got.len(), "sha256": sha256(&got)});
    assert_eq!(receipt["deliveries"], json!([delivery]));
    let lines = zone.logged(&[("event", "deliver"), ("arrival", receipt["arrival"].as_str().unwrap())]);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["sha256"], sha256(&got));
    assert_eq!(zone.search_tree(CANARY), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_institution_reads_over_sftp_what_was_written_for_it() {
    let zone = Zone::new();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n"));
    let written = zone.receipt("pillar-3", "a.csv.age", "delivered");
    zone.sftp(AN, "get /pillar-3/receipts/a.csv.age.*.json receipt").must_succeed();
    let read: Value = serde_json::from_slice(&zone.read_here("receipt")).unwrap();
    assert_eq!(read, written);
}

#[test]
fn ssh_keygen_accepts_every_receipt_with_what_the_institution_finds_beside_it() {
    let zone = Zone::new();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n"));
    zone.put_here("plain.csv", "insz\n");
    zone.sftp(AN, "put plain.csv /pillar-3/in/plain.csv.age").must_fail();
    zone.receipt("pillar-3", "a.csv.age", "delivered");
    zone.receipt("pillar-3", "plain.csv.age", "refused");
    zone.sftp(AN, "get /pillar-3/receipts/*").must_succeed();
    let here = names(&zone.here());
    let receipts: Vec<&String> = here.iter().filter(|name| name.ends_with(".json")).collect();
    assert_eq!(receipts.len(), 2, "{here:?}");
    let verify = |receipt: &str, text: &str| {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args([
            "-Y",
            "verify",
            "-f",
            "allowed_signers",
            "-I",
            "dropzone-zone",
            "-n",
            "receipt@dropzone",
            "-s",
        ]);
        run_with_input(keygen.arg(format!("{receipt}.sig")).current_dir(zone.here()), text)
    };
    // The key that is published there is the one whose public half lies beside the private one.
    let key = fingerprint(&zone.directory().join("keys/signing_ed25519.pub"));
    for receipt in receipts {
        let text = String::from_utf8(zone.read_here(receipt)).unwrap();
        let told = verify(receipt, &text).must_succeed().text();
        assert!(told.contains("Good") && told.contains(&key), "{told}");
        verify(receipt, &text.replacen("agency", "Agency", 1)).must_fail();
    }
    let readme = String::from_utf8(zone.read_here("LEESMIJ-README.txt")).unwrap();
    assert!(readme.contains(&key), "{readme}");
}

#[test]
fn the_receipt_of_a_held_list_names_the_reason_and_never_a_value() {
    let zone = Zone::new();
    let zone_key = zone.recipient();
    let two_widths = zone.age(format!("insz\n1\n{CANARY},{CANARY}\n").as_bytes(), &["-r", &zone_key]);
    let latin = zone.age(b"insz,naam\n66060600642,Ren\xe9\n", &["-r", &zone_key]);
    for (name, content, code, row, dutch, english) in [
        ("widths", two_widths, "not-a-table", Some(3), "kopregel", "header line"),
        ("latin", latin, "not-a-table", Some(2), "UTF-8", "UTF-8"),
        // The list has no column insz: the agreed query cannot run on it.
        ("columns", zone.encrypt(format!("nummer\n{CANARY}\n")), "job-failed", None, "mislukt", "failed"),
    ] {
        let name = format!("{name}.csv.age");
        zone.upload(AN, &format!("/pillar-3/in/{name}"), &content);
        let receipt = zone.receipt("pillar-3", &name, "held");
        assert_common(&zone, &receipt, "pillar-3", &name);
        assert_explained(&receipt, code, dutch, english);
        assert_eq!(receipt["reason"]["row"], json!(row));
        assert_eq!(receipt["sha256"], sha256(&content));
        assert!(receipt.get("deliveries").is_none());
    }
    // The receipt comes first, then the move.
    zone.wait_for("all of them in hold", || (zone.arrivals("hold").len() == 3).then_some(()));
    assert!(zone.results("agency", "pillar-3").is_empty());
    assert_eq!(zone.search_tree(CANARY), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_receipt_of_a_refused_file_explains_it_in_dutch_and_english() {
    let zone = Zone::new();
    zone.put_here("plain.csv", format!("insz\n{CANARY}\n"));
    zone.sftp(AN, "put plain.csv /pillar-3/in/plain.csv.age").must_fail();
    let receipt = zone.receipt("pillar-3", "plain.csv.age", "refused");
    assert_common(&zone, &receipt, "pillar-3", "plain.csv.age");
    assert_explained(&receipt, "not-encrypted", "niet versleuteld", "not encrypted");
    assert_eq!(receipt["size"], 17, "the bytes seen");
    assert!(receipt.get("sha256").is_none() && receipt.get("job").is_none());
    let city = recipient(&zone.identity_of("city"));
    let not_ours = zone.age(format!("insz\n{CANARY}\n").as_bytes(), &["-r", &city]);
    zone.put_here("not-ours", not_ours);
    zone.sftp(AN, "put not-ours /pillar-3/in/not-ours.csv.age").must_fail();
    let receipt = zone.receipt("pillar-3", "not-ours.csv.age", "refused");
    assert_common(&zone, &receipt, "pillar-3", "not-ours.csv.age");
    assert_explained(&receipt, "not-for-us", "publieke sleutel", "public key");
    assert_eq!(zone.search_tree(CANARY), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_list_whose_result_has_other_columns_than_agreed_is_held() {
    let mut zone = Zone::lay_out();
    let file = zone.directory().join("exchanges/pillar-3.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("SELECT arrival.insz,", "SELECT arrival.*,")).unwrap();
    zone.start();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz,naam\n85073003328,Noa\n"));
    let receipt = zone.receipt("pillar-3", "a.csv.age", "held");
    assert_explained(&receipt, "columns-not-agreed", "andere kolommen", "columns other");
    assert!(zone.results("agency", "pillar-3").is_empty());
}

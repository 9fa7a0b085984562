//! What the gate refuses while it comes in: the client sees a failure, nothing of it is kept, and the reason is told.

use crate::harness::{AN, Daemon, Zone};

/// In content that must never reach the disk.
const CANARY: &str = "kanarie-66060600642";

/// A refusal as everybody sees it: client, spool, log, receipt and metric.
fn assert_refused(zone: &Zone, exchange: &str, name: &str, code: &str) {
    let [line] = zone
        .logged(&[("event", "refuse"), ("path", &format!("/{exchange}/in/{name}"))])
        .try_into()
        .unwrap_or_else(|lines| panic!("not one refusal of {name}: {lines:?}"));
    assert_eq!((&line["reason"], &line["outcome"]), (&code.into(), &"denied".into()), "{line:#}");
    let receipt = zone.receipt(exchange, name, "refused");
    assert_eq!(receipt["reason"]["code"], code, "{name}");
    let counted = zone.metric(Daemon::Serve, &format!("dropzone_uploads_refused_total{{reason=\"{code}\"}}"));
    assert!(counted >= 1.0, "{code} counted {counted} times");
    assert_eq!(zone.accepted(), 0, "{name} must start no job");
    let listing = zone.sftp(AN, &format!("ls /{exchange}/in")).must_succeed().text();
    assert!(!listing.contains(name), "{listing}");
}

/// An age file with a header of so many bytes and more, as a program without limits would write it.
fn long_header(age_file: &[u8], bytes: usize) -> Vec<u8> {
    let text = String::from_utf8_lossy(age_file);
    let at = text.find("\n--- ").unwrap() + 1;
    let stanza = format!("-> grease {}\n\n", "x".repeat(500));
    let mut file = age_file[..at].to_vec();
    file.extend_from_slice(stanza.repeat(bytes / stanza.len() + 1).as_bytes());
    file.extend_from_slice(&age_file[at..]);
    file
}

fn with_passphrase() -> Vec<u8> {
    let body = "RandomLookingBase64RandomLookingBase64AAAAA";
    format!("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 18\n{body}\n--- {body}\n").into_bytes()
}

#[test]
fn a_plaintext_upload_is_refused_and_nothing_reaches_the_disk() {
    let zone = Zone::new();
    let before = zone.partials_changed();
    for (name, size) in [("small.csv.age", 1), ("large.csv.age", 60_000)] {
        zone.put_here(name, format!("insz\n{CANARY}\n").repeat(size));
        zone.sftp(AN, &format!("put {name} /pillar-3/in/")).must_fail();
        assert_refused(&zone, "pillar-3", name, "not-encrypted");
    }
    assert_eq!(zone.search_tree(CANARY), Vec::<std::path::PathBuf>::new());
    assert!(zone.partials().is_empty(), "no temporary file is left either");
    assert_eq!(zone.partials_changed(), before, "nor was there one in between");
}

#[test]
fn a_plaintext_upload_under_its_own_name_fails_in_the_client_too() {
    let zone = Zone::new();
    zone.put_here("plain.csv", format!("insz\n{CANARY}\n"));
    zone.sftp(AN, "put plain.csv /pillar-3/in/").must_fail();
    let [line] = zone.logged(&[("event", "open-write"), ("outcome", "denied")]).try_into().unwrap();
    assert_eq!(line["reason"], "name-not-accepted");
    assert_eq!(zone.search_tree(CANARY), Vec::<std::path::PathBuf>::new());
    assert_eq!(zone.accepted(), 0);
}

#[test]
fn each_kind_of_unacceptable_envelope_is_refused_for_its_own_reason() {
    let zone = Zone::new();
    let good = zone.encrypt("insz\n85073003328\n");
    let flipped_version = [b"age-encryption.org/v2".as_slice(), &good[21..]].concat();
    let no_recipient = b"age-encryption.org/v1\n--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    let header = String::from_utf8_lossy(&good).find("\n--- ").unwrap();
    let zip = [b"PK\x03\x04".as_slice(), CANARY.as_bytes()].concat();
    for (name, content, code) in [
        ("passphrase", with_passphrase(), "passphrase-encrypted"),
        ("mebibyte", long_header(&good, 1 << 20), "header-too-large"),
        ("stanzas", long_header(&good, 17_000), "header-too-large"),
        ("version", flipped_version, "not-encrypted"),
        ("zip", zip, "not-encrypted"),
        ("pgp", b"-----BEGIN PGP MESSAGE-----\n\nhQEMA".to_vec(), "not-encrypted"),
        ("nobody", [no_recipient.as_slice(), &[0; 64]].concat(), "header-malformed"),
        ("only-magic", b"age-encryption.org/v1\n".to_vec(), "cut-short"),
        ("in-the-header", good[..header].to_vec(), "cut-short"),
        ("no-payload", good[..header + 49].to_vec(), "cut-short"),
        ("impossible-length", good[..good.len() - 20].to_vec(), "cut-short"),
    ] {
        let name = format!("{name}.csv.age");
        zone.put_here(&name, &content);
        zone.sftp(AN, &format!("put {name} /pillar-3/in/")).must_fail();
        assert_refused(&zone, "pillar-3", &name, code);
    }
}

#[test]
fn armor_is_refused_where_the_exchange_takes_the_binary_form_only() {
    let zone = Zone::new();
    let armored = zone.age(b"insz\n1\n", &["-a", "-r", &zone.recipient()]);
    zone.put_here("a.csv.age", armored);
    zone.sftp(AN, "put a.csv.age /notes/in/").must_fail();
    assert_refused(&zone, "notes", "a.csv.age", "armor-not-accepted");
}

#[test]
fn an_empty_file_a_wrong_name_and_one_too_large_are_refused_for_their_own_reasons() {
    let zone = Zone::new();
    zone.put_here("empty.csv.age", "");
    zone.sftp(AN, "put empty.csv.age /pillar-3/in/").must_fail();
    assert_refused(&zone, "pillar-3", "empty.csv.age", "empty");
    zone.put_here("large.age", zone.encrypt(vec![b'x'; 8 << 20]));
    zone.sftp(AN, "put large.age /small/in/").must_fail();
    assert_refused(&zone, "small", "large.age", "too-large");
    let seen = zone.receipt("small", "large.age", "refused")["size"].as_u64().unwrap();
    assert!(seen < 2 << 20, "refused when it grew too large and not when all of it was there: {seen}");
    assert!(zone.partials().is_empty());
    zone.put_here("good.csv.age", zone.encrypt("insz\n"));
    for name in ["good.txt.age", "good.csv", "good.csv.age.exe"] {
        zone.sftp(AN, &format!("put good.csv.age /pillar-3/in/{name}")).must_fail();
        let path = format!("/pillar-3/in/{name}");
        let [line] = zone.logged(&[("event", "open-write"), ("path", &path)]).try_into().unwrap();
        assert_eq!(line["reason"], "name-not-accepted");
    }
    assert_eq!(zone.accepted(), 0);
}

#[test]
fn a_refused_name_can_be_used_again_at_once() {
    let zone = Zone::new();
    zone.put_here("plain", format!("insz\n{CANARY}\n"));
    zone.put_here("good", zone.encrypt("insz\n85073003328\n"));
    zone.sftp(AN, "-put plain /pillar-3/in/a.csv.age\nput good /pillar-3/in/a.csv.age").must_succeed();
    zone.receipt("pillar-3", "a.csv.age", "refused");
    zone.receipt("pillar-3", "a.csv.age", "delivered");
}

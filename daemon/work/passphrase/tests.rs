//! Passphrases kept in a real spool: handed to operators, to a program, and removed when their time has passed.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use super::super::end::Closed;
use super::super::tests::Zone;
use super::super::worker::End;
use super::*;
use crate::host::spool::{Delivered, HandingOver};
use crate::policy::arrival::{Arrival, State, delivery_name};
use crate::policy::outgoing::{Lock, Outgoing};
use crate::policy::path::Slug;
use crate::policy::receipt::Content;
use crate::policy::trust::Leave;

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn me() -> Operator {
    Operator::new(process::user(), Some("alice"))
}

/// As if its result had just been delivered.
fn kept(zone: &Zone, to: &str) -> (Arrival, Kept) {
    let arrival = zone.drop_list(b"insz\n1\n");
    (arrival.clone(), keep(zone, &arrival, to))
}

fn keep(zone: &Zone, arrival: &Arrival, to: &str) -> Kept {
    let spool = &zone.workshop.spool;
    let claim = spool.claim(State::Incoming, &arrival.id).unwrap().unwrap();
    let locked = Locked {
        arrival: arrival.id.clone(),
        to: slug(to),
        name: delivery_name(arrival),
        sha256: "00".into(),
        made: arrival.received,
    };
    let kept = Kept { locked, passphrase: generate().unwrap() };
    zone.workshop.keep_passphrase(&claim, &kept).unwrap();
    claim.passphrase_is_due(&slug(to)).unwrap();
    claim.release().unwrap();
    kept
}

fn meant(text: &str) -> Meant {
    Meant { delivery: text.to_owned(), to: None }
}

fn key(kept: &Kept) -> PassphraseKey {
    PassphraseKey { arrival: kept.locked.arrival.clone(), to: kept.locked.to.clone() }
}

/// Everything that lies anywhere in a zone's folder, but its identity.
fn all_of(folder: &std::path::Path) -> Vec<u8> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_of(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.extend(bytes);
        }
    }
    found
}

fn is_in(needle: &str, hay: &[u8]) -> bool {
    memchr::memmem::find(hay, needle.as_bytes()).is_some()
}

#[test]
fn no_two_passphrases_are_alike_and_each_opens_what_it_locked_and_nothing_else() {
    let all: BTreeSet<String> = (0..1000).map(|_| generate().unwrap().as_str().to_owned()).collect();
    assert_eq!(all.len(), 1000);
    let (one, other) = (generate().unwrap(), generate().unwrap());
    let mut file = Vec::new();
    let mut writer = begin(&one).unwrap().wrap_output(&mut file).unwrap();
    writer.write_all(b"insz\n1\n").unwrap();
    writer.finish().unwrap();
    let open = |passphrase: &Passphrase| {
        let mut identity = scrypt::Identity::new(SecretString::from(passphrase.as_str().to_owned()));
        // What both age and rage take on any machine.
        identity.set_max_work_factor(WORK_FACTOR);
        let decryptor = age::Decryptor::new(&file[..]).unwrap();
        let mut reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).ok()?;
        let mut plain = Vec::new();
        reader.read_to_end(&mut plain).ok()?;
        Some(plain)
    };
    assert_eq!(open(&one).as_deref(), Some(&b"insz\n1\n"[..]));
    assert_eq!(open(&other), None);
    let header = String::from_utf8_lossy(&file[..100]).into_owned();
    assert!(header.lines().nth(1).unwrap().starts_with("-> scrypt ") && header.contains(" 16\n"), "{header}");
}

#[test]
fn an_operator_is_shown_a_passphrase_after_the_log_knows_it_and_it_is_nowhere_in_clear() {
    let zone = Zone::new();
    let (arrival, kept) = kept(&zone, "atlas");
    assert!(!is_in(kept.passphrase.as_str(), &all_of(zone.path())), "kept in clear");
    let name = delivery_name(&arrival);
    let shown = zone.workshop.show_passphrase(&meant(name.as_str()), &me()).unwrap();
    assert_eq!(
        (shown.passphrase.as_str(), shown.title.as_deref()),
        (kept.passphrase.as_str(), Some("atlas"))
    );
    let record = zone.records().into_iter().find(|record| record.event == Event::Passphrase).unwrap();
    assert_eq!(record.outcome, Outcome::Ok);
    assert!(record.operator.unwrap().ends_with("by own account alice"));
    assert_eq!(record.path, Some(format!("/pillar-3/out/{name}")));
    assert!(record.detail.unwrap().contains("to atlas"));
    // Whoever was to show it broke off: it can be asked for again.
    assert!(zone.workshop.show_passphrase(&meant(&arrival.id.to_string()), &me()).is_ok());
    zone.workshop.forget_passphrase(&key(&kept), &me()).unwrap();
    let again = zone.workshop.show_passphrase(&meant(name.as_str()), &me()).unwrap_err();
    assert!(again.contains("no passphrase is kept"), "{again}");
    assert!(zone.workshop.list_passphrases().unwrap().is_empty());
    assert!(!is_in(kept.passphrase.as_str(), &all_of(zone.path())), "it was left somewhere");
}

#[test]
fn who_is_neither_root_nor_the_user_of_work_is_told_nothing() {
    let zone = Zone::new();
    let (arrival, kept) = kept(&zone, "atlas");
    let serve = Operator::new(process::user() + 4711, Some("root"));
    let refused = zone.workshop.show_passphrase(&meant(&arrival.id.to_string()), &serve).unwrap_err();
    assert!(refused.contains("root and to the user of `work` only"), "{refused}");
    assert!(zone.workshop.forget_passphrase(&key(&kept), &serve).is_err(), "nor may he remove it");
    assert!(zone.records().iter().all(|record| record.event != Event::Passphrase));
    assert!(zone.workshop.show_passphrase(&meant(&arrival.id.to_string()), &Operator::new(0, None)).is_ok());
}

#[test]
fn what_was_put_in_anothers_place_is_not_handed_out() {
    let zone = Zone::new();
    let (arrival, one) = kept(&zone, "atlas");
    let other = keep(&zone, &arrival, "agii");
    let at = |kept: &Kept| {
        zone.path().join(format!("spool/passphrases/{}.{}.age", kept.locked.arrival, kept.locked.to))
    };
    std::fs::copy(at(&one), at(&other)).unwrap();
    let rows = zone.workshop.list_passphrases().unwrap();
    assert_eq!(rows.iter().map(|row| row.locked.to.as_str()).collect::<Vec<_>>(), ["atlas"]);
    std::fs::write(at(&one), "rubbish").unwrap();
    assert!(zone.workshop.show_passphrase(&meant(&arrival.id.to_string()), &me()).is_err());
}

/// With a program that gets what it is told into a file, and ends so.
fn with_program(zone: &Zone, ending: &str) -> std::path::PathBuf {
    let got = zone.path().join("got");
    let text = format!("cat >> {}; {ending}", got.display());
    zone.workshop.config.send_modify(|config| {
        let mut changed = (**config).clone();
        changed.machine.passphrase_program = ["/bin/sh", "-c", &text].map(str::to_owned).to_vec();
        let atlas = changed.institutions.get_mut(&slug("atlas")).unwrap();
        (atlas.phone, atlas.contact) = (Some("+32 470 00 00 00".into()), Some("dpo@atlas.example".into()));
        *config = Arc::new(changed);
    });
    got
}

#[test]
fn a_program_is_told_one_line_on_its_input_and_then_it_is_gone() {
    let zone = Zone::new();
    let (arrival, kept) = kept(&zone, "atlas");
    let got = with_program(&zone, "exit 0");
    zone.workshop.hand_over_passphrases();
    let line = std::fs::read_to_string(got).unwrap();
    assert_eq!(line.lines().count(), 1);
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let wanted = serde_json::json!({
        "delivery": format!("{}.atlas", arrival.id),
        "exchange": "pillar-3",
        "to": "atlas",
        "path": kept.locked.path(),
        "title": "atlas",
        "phone": "+32 470 00 00 00",
        "contact": "dpo@atlas.example",
        "passphrase": kept.passphrase.as_str(),
    });
    assert_eq!(told, wanted);
    assert!(zone.workshop.list_passphrases().unwrap().is_empty());
    zone.workshop.hand_over_passphrases();
    let records = zone.records();
    assert_eq!(records.iter().filter(|record| record.event == Event::Passphrase).count(), 1);
    assert!(!records.iter().any(|record| is_in(kept.passphrase.as_str(), format!("{record:?}").as_bytes())));
}

#[test]
fn a_program_that_fails_is_asked_again_later_and_the_passphrase_stays() {
    let zone = Zone::new();
    let (_, kept) = kept(&zone, "atlas");
    let got = with_program(&zone, "exit 7");
    zone.workshop.hand_over_passphrases();
    zone.workshop.hand_over_passphrases();
    let rows = zone.workshop.list_passphrases().unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let HandingOver { tries, next, why } = row.handing_over.clone().unwrap();
    assert_eq!(tries, 1, "not before its wait is over");
    assert!(next > zone.workshop.clock.now() && why.contains("exit status: 7"), "{next} {why}");
    zone.workshop.clock.pass(std::time::Duration::from_secs(60));
    zone.workshop.hand_over_passphrases();
    assert_eq!(zone.workshop.list_passphrases().unwrap()[0].handing_over.as_ref().unwrap().tries, 2);
    let outcomes: Vec<Outcome> = zone
        .records()
        .into_iter()
        .filter(|record| record.event == Event::Passphrase)
        .map(|record| record.outcome)
        .collect();
    assert_eq!(outcomes, [Outcome::Ok, Outcome::Failed, Outcome::Ok, Outcome::Failed]);
    with_program(&zone, "exit 0");
    zone.workshop.clock.pass(std::time::Duration::from_secs(600));
    zone.workshop.hand_over_passphrases();
    assert!(zone.workshop.list_passphrases().unwrap().is_empty());
    let told = std::fs::read_to_string(got).unwrap();
    assert!(told.lines().all(|line| line.contains(kept.passphrase.as_str())) && told.lines().count() == 3);
}

/// From now on atlas gets its results locked.
fn lock_for_atlas(zone: &Zone) {
    zone.workshop.config.send_modify(|config| {
        let mut changed = (**config).clone();
        let exchange = changed.exchanges.get_mut(&slug("pillar-3")).unwrap();
        let flow = exchange.flows.iter_mut().find(|flow| flow.name == slug("enrich")).unwrap();
        let locked = Outgoing { lock: Lock::Passphrase, ..Outgoing::plain(vec![slug("atlas")]) };
        flow.deliveries = vec![Outgoing::plain(vec![slug("agii")]), locked];
        *config = Arc::new(changed);
    });
}

fn decrypt(zone: &Zone, arrival: &Arrival, passphrase: &str) -> Option<String> {
    let path = zone.path().join("spool/outbox/atlas/pillar-3").join(delivery_name(arrival).as_str());
    let file = std::fs::read(path).unwrap();
    let identity = scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    let plain = age::decrypt(&identity, &file).ok()?;
    Some(String::from_utf8(plain).unwrap())
}

#[test]
fn a_locked_result_is_opened_by_the_passphrase_that_is_kept_for_it_and_each_has_its_own() {
    let zone = Zone::new();
    lock_for_atlas(&zone);
    let arrivals = [zone.drop_list(b"insz\n1\n"), zone.drop_list(b"insz\n1\n2\n")];
    let shown = arrivals.each_ref().map(|arrival| {
        assert_eq!(zone.work(arrival), End::Done);
        zone.workshop.show_passphrase(&meant(&arrival.id.to_string()), &me()).unwrap().passphrase
    });
    let [one, other] = shown.each_ref().map(Passphrase::as_str);
    assert_eq!(decrypt(&zone, &arrivals[0], one).as_deref(), Some("insz,category\n1,sought\n"));
    assert!(decrypt(&zone, &arrivals[1], other).unwrap().contains("found"));
    assert_eq!(decrypt(&zone, &arrivals[0], other), None);
    assert_eq!(zone.workshop.list_passphrases().unwrap().len(), 2, "the agency's results have none");
}

#[test]
fn a_try_that_fails_before_the_result_leaves_has_no_passphrase_to_hand_out_and_the_next_keeps_its_own() {
    let zone = Zone::new();
    lock_for_atlas(&zone);
    let arrival = zone.drop_list(b"insz\n1\n");
    let outbox = zone.path().join("spool/outbox/atlas/pillar-3");
    let in_the_way = outbox.join(delivery_name(&arrival).as_str());
    std::fs::write(&in_the_way, "something that lies there").unwrap();
    assert_eq!(zone.work(&arrival), End::Deferred);
    assert!(zone.workshop.list_passphrases().unwrap().is_empty(), "nobody has that file");
    assert_eq!(
        zone.workshop.spool.passphrases().unwrap().len(),
        1,
        "it was kept before the result was to leave"
    );
    std::fs::remove_file(in_the_way).unwrap();
    zone.workshop.spool.retry(&arrival.id).unwrap();
    assert_eq!(zone.work(&arrival), End::Done);
    let shown = zone.workshop.show_passphrase(&meant(&arrival.id.to_string()), &me()).unwrap();
    assert!(decrypt(&zone, &arrival, shown.passphrase.as_str()).is_some());
    assert_eq!(zone.workshop.spool.passphrases().unwrap().len(), 1);
}

#[test]
fn where_a_crash_came_right_after_the_result_left_the_next_try_lets_its_passphrase_be_handed_out() {
    let zone = Zone::new();
    lock_for_atlas(&zone);
    let arrival = zone.drop_list(b"insz\n1\n");
    let claim = zone.workshop.spool.claim(State::Incoming, &arrival.id).unwrap().unwrap();
    claim.stage(&Receiver::from(slug("atlas"))).unwrap().write_all(b"locked").unwrap();
    let locked = Locked {
        arrival: arrival.id.clone(),
        to: slug("atlas"),
        name: delivery_name(&arrival),
        sha256: "00".into(),
        made: arrival.received,
    };
    let kept = Kept { locked, passphrase: generate().unwrap() };
    zone.workshop.keep_passphrase(&claim, &kept).unwrap();
    let delivery = Delivery {
        to: slug("atlas"),
        person: None,
        name: delivery_name(&arrival),
        size: 6,
        sha256: "00".into(),
        rows: Some(1),
    };
    let (content, rows_in, rows_out) = (Content::Verified, Some(1), Some(1));
    claim
        .deliver(&Delivered {
            arrival: arrival.id.clone(),
            delivery,
            content,
            rows_in,
            rows_out,
            quality: None,
            of: None,
        })
        .unwrap();
    claim.release().unwrap();
    drop(claim);
    assert!(zone.workshop.list_passphrases().unwrap().is_empty());
    assert_eq!(zone.work(&arrival), End::Done);
    let shown = zone.workshop.show_passphrase(&meant(&arrival.id.to_string()), &me()).unwrap();
    assert_eq!(shown.passphrase, kept.passphrase, "no other took its place");
}

#[test]
fn a_passphrase_goes_with_the_results_or_the_agreement_and_not_before() {
    let zone = Zone::new();
    let (_, kept) = kept(&zone, "atlas");
    let lies = || zone.workshop.spool.passphrases().unwrap().len();
    let now: jiff::Timestamp = zone.workshop.spool.passphrases().unwrap()[0].made;
    let after = |days: i64| {
        Leave::at(&now.checked_add(jiff::SignedDuration::from_hours(24 * days)).unwrap().to_string())
    };
    assert_eq!(zone.workshop.expire_passphrases(after(89), &Closed::new(), 10).unwrap(), 0);
    assert_eq!(lies(), 1);
    assert_eq!(zone.workshop.expire_passphrases(after(91), &Closed::new(), 10).unwrap(), 1);
    assert_eq!(lies(), 0);
    let record = zone.records().into_iter().find(|record| record.event == Event::Expire).unwrap();
    assert_eq!(record.arrival, Some(kept.locked.arrival.to_string()));

    let zone = Zone::new();
    let arrival = zone.publish("over", Some("enrich"), "list.csv.age", &zone.encrypted(b"insz\n1\n"));
    keep(&zone, &arrival, "atlas");
    // It ended on 20 November, which is noticed on 1 December, and its results stay for 14 days beyond that.
    for (time, gone) in
        [("2026-12-01T12:00:00Z", 0), ("2026-12-15T11:00:00Z", 0), ("2026-12-15T13:00:00Z", 1)]
    {
        let leave = Leave::at(time);
        let closed = zone.workshop.closed(leave);
        assert_eq!(zone.workshop.expire_passphrases(leave, &closed, 10).unwrap(), gone, "{time}");
    }
}

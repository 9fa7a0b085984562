//! What a `serve` that somebody has taken over can plant in the spool, where its user may write, and what `work` must not make
//! of it: no receipt that says what was not, and no standstill.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use super::*;
use crate::host::control::{Change, Course, Operator};

/// Somebody who is not `work`.
const SERVE: u32 = 12_345;

impl Zone {
    fn place(&self, state: &str, arrival: &Arrival) -> PathBuf {
        self.folder.path().join("spool").join(state).join(arrival.id.to_string())
    }

    fn notes(&self, state: &str, arrival: &Arrival) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.place(state, arrival)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("result-")).collect()
    }

    fn change(&self, course: Course, arrival: &Arrival) -> Result<String, String> {
        self.change_as(0, course, arrival)
    }

    fn change_as(&self, user: u32, course: Course, arrival: &Arrival) -> Result<String, String> {
        let change = Change { course, arrival: arrival.id.clone(), reason: "a test".into() };
        self.workshop.change(&change, &Operator::new(user, None))
    }

    fn another(&self, name: &str, list: &[u8]) -> Arrival {
        self.publish("pillar-3", Some("enrich"), name, &self.encrypted(list))
    }
}

#[test]
fn the_notes_of_one_delivery_are_no_receipt_for_another() {
    let zone = Zone::new();
    let (one, other) =
        (zone.another("one.csv.age", b"insz\n1\n"), zone.another("other.csv.age", b"insz\n2\n"));
    assert_eq!(zone.work(&one), End::Done);
    for note in zone.notes("done", &one) {
        std::fs::rename(&note, zone.place("incoming", &other).join(note.file_name().unwrap())).unwrap();
    }
    assert_eq!(zone.work(&other), End::Done);
    let names: Vec<_> = zone.receipt(&other).deliveries.into_iter().map(|delivery| delivery.name).collect();
    assert_eq!(names, [delivery_name(&other), delivery_name(&other)]);
    assert!(!zone.result("agii", &other).is_empty(), "its job was done");
}

#[test]
fn a_note_that_others_may_have_written_is_not_believed() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let outbox = zone.folder.path().join("spool/outbox/atlas/pillar-3");
    std::fs::remove_dir(&outbox).unwrap();
    std::fs::write(&outbox, "in the way").unwrap();
    assert_eq!(zone.work(&arrival), End::Deferred);
    let [note] = &zone.notes("deferred", &arrival)[..] else { panic!("one has it") };
    let mode = std::fs::metadata(note).unwrap().permissions().mode();
    assert_eq!(mode & 0o022, 0, "nobody else may write it");
    let text = std::fs::read_to_string(note).unwrap().replace("\"agii\"", "\"atlas\"");
    let planted = note.with_file_name("result-atlas.feed.json");
    std::fs::write(&planted, text).unwrap();
    std::fs::set_permissions(&planted, PermissionsExt::from_mode(0o660)).unwrap();
    std::fs::remove_file(&outbox).unwrap();
    assert_eq!(zone.work_from(State::Deferred, &arrival), End::Done);
    assert!(!zone.result("atlas", &arrival).is_empty(), "it was delivered");
}

#[test]
fn what_somebody_else_put_under_the_name_of_a_result_is_not_its_delivery() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let planted =
        zone.folder.path().join("spool/outbox/agii/pillar-3").join(delivery_name(&arrival).as_str());
    std::fs::write(&planted, "planted").unwrap();
    chown(&planted, Some(SERVE), None).unwrap();
    // As long as a file can be, and of no content: to read it would take for ever.
    std::fs::File::options().write(true).open(&planted).unwrap().set_len(1 << 42).unwrap();
    assert_eq!(zone.work(&arrival), End::Deferred);
    assert!(zone.receipt(&arrival).deliveries.is_empty(), "{:?}", zone.receipt(&arrival));
    std::fs::remove_file(&planted).unwrap();
    assert_eq!(zone.work_from(State::Deferred, &arrival), End::Done);
}

#[test]
fn a_discard_that_no_operator_decided_is_not_carried_through() {
    let zone = Zone::new();
    let (held, other) =
        (zone.another("one.csv.age", b"name\nx\n"), zone.another("other.csv.age", b"name\ny\n"));
    for arrival in [&held, &other] {
        zone.work(arrival);
    }
    zone.change(Course::Discard, &other).unwrap();
    let decided = zone.place("refused", &other).join("discard.json");
    let forged = serde_json::json!({
        "operator": "uid 0", "reason": "x", "at": NOW, "arrival": held.id.to_string(),
    });
    let forged = forged.to_string();
    let plants: [&dyn Fn(&Path); 3] = [
        &|_| {},
        &|note| {
            std::fs::write(note, &forged).unwrap();
            std::fs::set_permissions(note, PermissionsExt::from_mode(0o660)).unwrap();
        },
        &|note| std::fs::rename(&decided, note).unwrap(),
    ];
    for plant in plants {
        plant(&zone.place("hold", &held).join("discard.json"));
        let renamed = format!("{}.discard", zone.place("hold", &held).display());
        std::fs::rename(zone.place("hold", &held), renamed).unwrap();
        zone.workshop.finish_discards();
        assert_eq!(zone.state_of(&held), State::Hold, "it is held as before");
        assert_eq!(zone.receipt(&held).verdict, Verdict::Held);
        assert!(zone.place("hold", &held).join("payload.age").exists());
    }
    assert!(zone.change(Course::Discard, &held).is_ok(), "an operator still can");
}

#[test]
fn who_hands_arrivals_in_does_not_decide_about_them() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let zone = Zone::new();
    let held = zone.another("one.csv.age", b"name\nx\n");
    zone.work(&held);
    let before = zone.records().len();
    for owned in ["", "payload.age", "arrival.json"] {
        let path = zone.place("hold", &held).join(owned);
        chown(&path, Some(SERVE), None).unwrap();
        for course in [Course::Release, Course::Discard, Course::Retry] {
            zone.change_as(SERVE, course, &held).unwrap_err();
        }
        chown(&path, Some(0), None).unwrap();
    }
    assert_eq!((zone.state_of(&held), zone.records().len()), (State::Hold, before));
    zone.change_as(SERVE + 1, Course::Discard, &held).unwrap();
}

#[test]
fn the_receipt_of_a_discard_says_nothing_of_another_arrivals_deliveries() {
    let zone = Zone::new();
    let (done, held) =
        (zone.another("done.csv.age", b"insz\n1\n"), zone.another("held.csv.age", b"name\nx\n"));
    assert_eq!((zone.work(&done), zone.state_of(&held)), (End::Done, State::Incoming));
    zone.work(&held);
    let folder = zone.folder.path().join("spool/receipts/agii/pillar-3");
    for ending in ["", ".sig"] {
        let of = |arrival| folder.join(format!("{}{ending}", receipt_name(arrival)));
        std::fs::copy(of(&done), of(&held)).unwrap();
    }
    zone.change(Course::Discard, &held).unwrap();
    assert_eq!(zone.receipt(&held).deliveries, []);
}

#[test]
fn what_is_no_sign_of_life_does_not_stop_the_scan() {
    let zone = Zone::new();
    let nodes = zone.folder.path().join("spool/nodes");
    symlink("/etc/passwd", nodes.join("a.00000001")).unwrap();
    std::fs::create_dir(nodes.join("a.00000002")).unwrap();
    std::fs::write(nodes.join("a.00000003"), [0xff; 64]).unwrap();
    std::fs::create_dir(nodes.join("test.00000004")).unwrap();
    symlink("nowhere", nodes.join("test.00000005")).unwrap();
    for _ in 0..3 {
        zone.workshop.look_after_neighbours().unwrap();
        zone.workshop.claims.look_again();
    }
}

#[test]
fn nobody_else_keeps_the_claims_of_a_dead_process_alive() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let claimed = zone.place("active", &arrival).with_file_name(format!("{}.gone.00000001", arrival.id));
    std::fs::rename(zone.place("incoming", &arrival), claimed).unwrap();
    let sign = zone.folder.path().join("spool/nodes/gone.00000001");
    std::fs::write(&sign, "1 3600000\n").unwrap();
    chown(&sign, Some(SERVE), None).unwrap();
    zone.workshop.look_after_neighbours().unwrap();
    assert_eq!(zone.state_of(&arrival), State::Incoming);
}

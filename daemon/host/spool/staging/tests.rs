//! Two processes, each with its own descriptors on one spool, and what each crash leaves.

use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::host::spool::Spool;
use crate::policy::arrival::tests::arrival_named;
use crate::policy::arrival::{Arrival, State};
use crate::policy::path::{Folder, Slug};
use crate::policy::reason::Reason;

struct Case {
    folder: tempfile::TempDir,
    arrival: Arrival,
    one: Spool,
    other: Spool,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arrival = arrival_named("list.csv.age");
        let pair = (arrival.id.institution().clone(), arrival.id.exchange().clone());
        let open = || Spool::open(folder.path(), std::slice::from_ref(&pair)).unwrap();
        let (one, other) = (open(), open());
        let case = Self { folder, arrival, one, other };
        let incoming = case.path("incoming").join(case.arrival.id.to_string());
        std::fs::create_dir(&incoming).unwrap();
        std::fs::write(incoming.join("payload.age"), "payload").unwrap();
        std::fs::write(incoming.join("arrival.json"), serde_json::to_vec(&case.arrival).unwrap()).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn claim<'a>(&self, spool: &'a Spool) -> Claim<'a> {
        spool.claim(State::Incoming, &self.arrival.id).unwrap().unwrap()
    }

    /// The other process has seen that the first is gone.
    fn take_over(&self) -> Claim<'_> {
        let claimed = self.other.claims().unwrap().pop().unwrap();
        assert!(self.other.take_over(&claimed).unwrap());
        assert!(!self.other.take_over(&claimed).unwrap(), "only once");
        self.other.put_back(&self.arrival.id).unwrap();
        self.claim(&self.other)
    }

    fn outbox(&self) -> Vec<String> {
        let (institution, exchange) = (self.arrival.id.institution(), self.arrival.id.exchange());
        let files = self.one.files(institution, exchange, Folder::Out).unwrap();
        files.into_iter().map(|facts| facts.name.to_string()).collect()
    }

    fn collect(&self) {
        let (institution, exchange) = (self.arrival.id.institution(), self.arrival.id.exchange());
        self.one.collect(institution, exchange, &name()).unwrap();
    }

    fn receipts(&self) -> Vec<(String, String)> {
        let folder = self.path("receipts/agency/pillar-3");
        let mut all: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        all.sort();
        all
    }
}

fn name() -> Name {
    Name::parse("list.result.csv.age").unwrap()
}

fn to() -> Slug {
    Slug::parse("agency").unwrap()
}

fn delivered(sha256: &str) -> Delivered {
    Delivered {
        arrival: arrival_named("list.csv.age").id,
        delivery: Delivery {
            to: to(),
            person: None,
            name: name(),
            size: 6,
            sha256: sha256.to_owned(),
            rows: None,
        },
        content: Content::Verified,
        rows_in: Some(2),
        rows_out: Some(1),
        of: None,
        quality: None,
    }
}

fn stage(claim: &Claim<'_>, content: &str) {
    claim.stage(&to().into()).unwrap().write_all(content.as_bytes()).unwrap();
}

fn receipt(claim: &Claim<'_>, text: &str) -> Result<(), SpoolError> {
    let (name, signature) = (Name::parse("r.json").unwrap(), Name::parse("r.json.sig").unwrap());
    claim.publish_receipt((&name, text.as_bytes()), (&signature, text))
}

fn quality(claim: &Claim<'_>) -> Result<(), SpoolError> {
    claim.publish_quality((&Name::parse("r.quality.csv").unwrap(), b"row;column\r\n"))
}

fn is_lost<T: std::fmt::Debug>(result: Result<T, SpoolError>, what: &str) {
    assert!(matches!(result, Err(SpoolError::Lost(_))), "{what}: {result:?}");
}

#[test]
fn who_has_lost_a_claim_changes_nothing_any_more_whatever_it_was_about_to_do() {
    let case = Case::new();
    let first = case.claim(&case.one);
    stage(&first, "stale result");
    let second = case.take_over();
    assert!(first.is_lost() && !second.is_lost());
    stage(&second, "good result");
    receipt(&second, "final").unwrap();
    let attempts = || {
        is_lost(first.stage(&to().into()), "stage");
        is_lost(first.stage_payload(&to().into()), "stage the payload");
        is_lost(first.deliver(&delivered("stale")), "deliver");
        is_lost(first.adopt(&delivered("stale")), "adopt");
        is_lost(receipt(&first, "stale"), "a receipt");
        is_lost(quality(&first), "a quality report");
        is_lost(first.begin(), "begin");
        is_lost(first.finish(), "finish");
        is_lost(first.defer(case.arrival.received, 1), "defer");
        is_lost(first.hold(&Reason::JobFailed, "stale"), "hold");
        is_lost(first.release(), "release");
    };
    attempts();
    assert_eq!(case.outbox(), Vec::<String>::new());
    second.deliver(&delivered("good")).unwrap();
    attempts();
    assert_eq!(
        std::fs::read_to_string(case.path("outbox/agency/pillar-3/list.result.csv.age")).unwrap(),
        "good result"
    );
    second.finish().unwrap();
    attempts();
    let final_receipt =
        [("r.json", "final"), ("r.json.sig", "final")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(case.receipts(), final_receipt);
    assert_eq!(case.one.list(State::Done).unwrap(), std::slice::from_ref(&case.arrival.id));
    assert!(State::IN_PROGRESS.iter().all(|state| case.one.list(*state).unwrap().is_empty()));
}

#[test]
fn a_claim_that_is_lost_right_before_a_result_or_a_receipt_leaves_holds_it_back() {
    let case = Case::new();
    let first = case.claim(&case.one);
    stage(&first, "stale result");
    first.note(&delivered("stale")).unwrap();
    first.make_whole(&first.staged_paper("json"), b"stale").unwrap();
    // Nothing has been tidied up yet: only the name has changed.
    let claimed = case.other.claims().unwrap().pop().unwrap();
    assert!(case.other.take_over(&claimed).unwrap());
    is_lost(first.hand_over(&delivered("stale").delivery), "a result");
    is_lost(first.hand_over_paper("json", &Name::parse("r.json").unwrap()), "a receipt");
    assert_eq!((case.outbox(), case.receipts()), (Vec::new(), Vec::new()));
}

#[test]
fn what_was_decided_not_to_have_left_can_leave_no_more_also_by_a_rename_that_was_under_way() {
    let case = Case::new();
    let claim = case.claim(&case.one);
    stage(&claim, "result");
    claim.note(&delivered("first")).unwrap();
    let base = format!("{RESULT}agency.{}", claim.nonce());
    assert!(!claim.has_left(&base, &claim.names().unwrap()).unwrap());
    let outbox = case.one.outbox_of(&to(), case.arrival.id.exchange()).unwrap();
    let under_way = claim.folder().move_to(&claim.staged(&to().into(), ".age"), &outbox, name().as_str());
    assert_eq!(under_way, Err(Errno::NOENT));
}

#[test]
fn a_process_does_not_claim_again_what_one_of_its_threads_still_has_in_hand() {
    let case = Case::new();
    let stopped = case.claim(&case.one);
    let claimed = case.other.claims().unwrap().pop().unwrap();
    case.other.take_over(&claimed).unwrap();
    case.other.put_back(&case.arrival.id).unwrap();
    assert!(
        case.one.claim(State::Incoming, &case.arrival.id).unwrap().is_none(),
        "its name would be the same"
    );
    assert!(stopped.is_lost());
    drop(stopped);
    drop(case.claim(&case.one));
}

/// What happens to the first claim's files.
type Crash = fn(&Case, &Claim<'_>);

/// And whether the result counts as delivered after it.
const CRASHES: [(&str, Crash, bool); 6] = [
    ("before the note", |_, claim| stage(claim, "result"), false),
    ("before the rename", |_, claim| write_note(claim), false),
    ("after the rename", |_, claim| leave(claim), true),
    (
        "after the rename, and it was collected",
        |case, claim| {
            leave(claim);
            case.collect();
        },
        true,
    ),
    (
        "after void",
        |_, claim| {
            write_note(claim);
            void(claim);
        },
        false,
    ),
    (
        "before void is gone",
        |_, claim| {
            write_note(claim);
            void(claim);
            claim.remove(&claim.staged(&to().into(), ".json")).unwrap();
        },
        false,
    ),
];

fn write_note(claim: &Claim<'_>) {
    stage(claim, "result");
    claim.write(&claim.staged(&to().into(), ".json"), &to_json(&delivered("first")).unwrap()).unwrap();
}

fn leave(claim: &Claim<'_>) {
    stage(claim, "result");
    claim.deliver(&delivered("first")).unwrap();
}

fn void(claim: &Claim<'_>) {
    let folder = claim.folder();
    folder
        .move_to(&claim.staged(&to().into(), ".age"), folder, &claim.staged(&to().into(), ".void"))
        .unwrap();
}

#[test]
fn what_each_crash_leaves_is_known_for_what_it_is() {
    for (what, crash, is_delivered) in CRASHES {
        let case = Case::new();
        let first = case.claim(&case.one);
        crash(&case, &first);
        let second = case.take_over();
        let known = second.deliveries().unwrap();
        assert_eq!(known, if is_delivered { vec![delivered("first")] } else { Vec::new() }, "{what}");
        // A rename that was in the kernel while the claim was lost comes to nothing.
        let outbox = case.one.outbox_of(&to(), case.arrival.id.exchange()).unwrap();
        let late = first.folder().move_to(&first.staged(&to().into(), ".age"), &outbox, name().as_str());
        assert_eq!(late, Err(Errno::NOENT), "{what}");
        if !is_delivered {
            assert_eq!(case.outbox(), Vec::<String>::new(), "{what}");
            stage(&second, "second");
            second.deliver(&delivered("second")).unwrap();
            assert_eq!(case.outbox(), [name().as_str()], "{what}");
        }
        second.finish().unwrap();
        let left = std::fs::read_dir(case.path("done").join(case.arrival.id.to_string())).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let [one, other, note] = &left[..] else { panic!("{what}: {left:?}") };
        assert_eq!((one.as_str(), other.as_str()), ("arrival.json", "payload.age"), "{what}");
        assert!(base_of(note, ".json").is_some(), "{what}");
    }
}

#[test]
fn a_result_that_could_not_leave_counts_as_not_delivered_also_after_the_try_was_given_up() {
    let case = Case::new();
    let claim = case.claim(&case.one);
    std::fs::write(case.path("outbox/agency/pillar-3/list.result.csv.age"), "in the way").unwrap();
    stage(&claim, "result");
    assert!(matches!(claim.deliver(&delivered("first")), Err(SpoolError::Exists(_))));
    claim.release().unwrap();
    drop(claim);
    std::fs::remove_file(case.path("outbox/agency/pillar-3/list.result.csv.age")).unwrap();
    let claim = case.claim(&case.one);
    assert_eq!(claim.deliveries().unwrap(), []);
    stage(&claim, "result");
    claim.deliver(&delivered("second")).unwrap();
    claim.finish().unwrap();
}

#[test]
fn what_was_there_without_a_note_becomes_the_delivery() {
    let case = Case::new();
    let claim = case.claim(&case.one);
    std::fs::write(case.path("outbox/agency/pillar-3/list.result.csv.age"), "theirs").unwrap();
    stage(&claim, "ours");
    claim.adopt(&delivered("theirs")).unwrap();
    claim.release().unwrap();
    drop(claim);
    case.collect();
    assert_eq!(case.claim(&case.one).deliveries().unwrap(), [delivered("theirs")]);
}

#[test]
fn only_a_list_whose_job_had_begun_is_suspected_and_only_a_suspect_pays_for_a_crash() {
    let case = Case::new();
    let crash = |has_begun: bool| {
        let claim = case.claim(&case.one);
        let before = (claim.tries(), claim.is_suspect());
        if has_begun {
            claim.begin().unwrap();
        }
        drop(claim);
        case.one.put_back(&case.arrival.id).unwrap();
        before
    };
    assert_eq!(crash(false), (0, false));
    assert_eq!(crash(true), (0, false));
    assert_eq!(crash(false), (0, true), "from now on it runs alone");
    assert_eq!(crash(true), (0, true));
    assert_eq!(crash(true), (1, true));
    let claim = case.claim(&case.one);
    assert_eq!((claim.tries(), claim.is_suspect()), (2, true));
    claim.defer(case.arrival.received, 3).unwrap();
    drop(claim);
    let claim = case.one.claim(State::Deferred, &case.arrival.id).unwrap().unwrap();
    assert_eq!((claim.tries(), claim.is_suspect()), (3, false), "it came to an end in order");
}

#[test]
fn a_claimed_arrival_is_found_by_its_id_whoever_has_it() {
    let case = Case::new();
    let id = &case.arrival.id;
    let claim = case.claim(&case.one);
    let own = case.path("active").join(claim.name());
    for bare in [false, true] {
        if bare {
            std::fs::rename(&own, case.path("active").join(id.to_string())).unwrap();
        }
        assert_eq!(case.other.list(State::Active).unwrap(), std::slice::from_ref(id));
        assert_eq!(&case.other.arrival(State::Active, id).unwrap(), &case.arrival);
        assert!(case.other.since(State::Active, id).is_ok());
        let found =
            case.other.in_progress(id.institution(), id.exchange(), &case.arrival.name).unwrap().unwrap();
        assert_eq!((&found.id, found.state), (id, State::Active));
        assert!(case.other.payload_of(&found).is_some());
    }
}

#[test]
fn a_note_that_another_user_wrote_is_not_believed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let case = Case::new();
    let planted = case.path("incoming").join(case.arrival.id.to_string()).join("result-agency.feed.json");
    std::fs::write(&planted, serde_json::to_vec(&delivered("00")).unwrap()).unwrap();
    std::os::unix::fs::chown(&planted, Some(12_345), None).unwrap();
    let claim = case.claim(&case.one);
    assert_eq!(claim.deliveries().unwrap(), []);
    claim.release().unwrap();
    assert!(!planted.exists());
}

#[test]
fn two_people_of_one_institution_have_a_result_each_and_each_exactly_once() {
    let case = Case::new();
    let person = |label: &str| Delivery {
        person: Some(label.to_owned()),
        name: Name::parse(&format!("list.{}.age", label.replace('/', "_"))).unwrap(),
        ..delivered("x").delivery
    };
    let noted = |label: &str| Delivered { delivery: person(label), of: Some(3), ..delivered("x") };
    let first = case.claim(&case.one);
    for receiver in [to().into(), person("an").receiver(), person("../an").receiver()] {
        first.stage(&receiver).unwrap().write_all(receiver.to_string().as_bytes()).unwrap();
    }
    first.deliver(&noted("an")).unwrap();
    let second = case.take_over();
    assert_eq!(second.deliveries().unwrap(), [noted("an")], "the others have nothing");
    assert_eq!(case.outbox(), ["list.an.age"]);
    second.stage(&to().into()).unwrap().write_all(b"whole").unwrap();
    second.deliver(&delivered("x")).unwrap();
    assert_eq!(second.deliveries().unwrap().len(), 2);
}

#[test]
fn a_note_of_a_version_without_people_is_one_of_an_institution() {
    let id = arrival_named("list.csv.age").id;
    let text = format!(
        "{{\"arrival\":\"{id}\",\"delivery\":{{\"to\":\"agency\",\"name\":\"list.result.csv.age\",\"size\":6,\
         \"sha256\":\"x\"}},\"content\":\"verified\",\"rows-in\":2,\"rows-out\":1}}"
    );
    assert_eq!(serde_json::from_str::<Delivered>(&text).unwrap(), delivered("x"));
    assert_eq!(serde_json::to_string(&delivered("x")).unwrap(), text, "which such a version reads in turn");
}

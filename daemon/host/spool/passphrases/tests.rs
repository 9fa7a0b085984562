//! Two processes on one spool, of which the first is cut off at each step, and what others may do with what is kept.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::host::spool::Delivered;
use crate::policy::arrival::Arrival;
use crate::policy::arrival::tests::arrival_named;
use crate::policy::path::{Folder, Name};
use crate::policy::receipt::{Content, Delivery, Receiver};

struct Case {
    folder: tempfile::TempDir,
    arrival: Arrival,
    one: Spool,
    other: Spool,
}

/// How far the first process came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Staged,
    BesideTheArrival,
    Kept,
    Noted,
    Left,
    Due,
}

const CUTS: [Cut; 6] = [Cut::Staged, Cut::BesideTheArrival, Cut::Kept, Cut::Noted, Cut::Left, Cut::Due];

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn name() -> Name {
    Name::parse("list.result.csv.age").unwrap()
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arrival = arrival_named("list.csv.age");
        let pair = (arrival.id.institution().clone(), arrival.id.exchange().clone());
        let open = || Spool::open(folder.path(), std::slice::from_ref(&pair)).unwrap();
        let (one, other) = (open(), open());
        let incoming = folder.path().join("incoming").join(arrival.id.to_string());
        std::fs::create_dir(&incoming).unwrap();
        std::fs::write(incoming.join("payload.age"), "payload").unwrap();
        std::fs::write(incoming.join("arrival.json"), serde_json::to_vec(&arrival).unwrap()).unwrap();
        Self { folder, arrival, one, other }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self) -> PassphraseKey {
        PassphraseKey { arrival: self.arrival.id.clone(), to: slug("agency") }
    }

    fn claim<'a>(&self, spool: &'a Spool) -> Claim<'a> {
        spool.claim(State::Incoming, &self.arrival.id).unwrap().unwrap()
    }

    fn take_over(&self) -> Claim<'_> {
        let claimed = self.other.claims().unwrap().pop().unwrap();
        assert!(self.other.take_over(&claimed).unwrap());
        self.other.put_back(&self.arrival.id).unwrap();
        self.claim(&self.other)
    }

    fn delivered(&self, what: &str) -> Delivered {
        Delivered {
            arrival: self.arrival.id.clone(),
            delivery: Delivery {
                to: slug("agency"),
                person: None,
                name: name(),
                size: 1,
                sha256: what.to_owned(),
                rows: None,
            },
            content: Content::Verified,
            rows_in: None,
            rows_out: None,
            quality: None,
            of: None,
        }
    }

    /// One try, whose result says which passphrase opens it; ends where it is cut.
    fn attempt(&self, claim: &Claim<'_>, passphrase: &str, cut: Cut) {
        let to = slug("agency");
        claim.stage(&Receiver::from(to.clone())).unwrap().write_all(passphrase.as_bytes()).unwrap();
        if cut == Cut::BesideTheArrival {
            let at = format!("active/{}/{STAGED}agency.x.age", claim.name());
            std::fs::write(self.path(&at), passphrase).unwrap();
        }
        if cut >= Cut::Kept {
            claim.keep_passphrase(&to, passphrase.as_bytes()).unwrap();
        }
        if cut == Cut::Noted {
            let at = format!("active/{}/result-agency.{}.json", claim.name(), claim.nonce());
            std::fs::write(self.path(&at), to_json(&self.delivered(passphrase)).unwrap()).unwrap();
            std::fs::set_permissions(self.path(&at), std::fs::Permissions::from_mode(0o640)).unwrap();
        }
        if cut >= Cut::Left {
            claim.deliver(&self.delivered(passphrase)).unwrap();
        }
        if cut >= Cut::Due {
            claim.passphrase_is_due(&to).unwrap();
        }
    }

    fn result(&self) -> Option<String> {
        let (institution, exchange) = (self.arrival.id.institution(), self.arrival.id.exchange());
        let mut file = self.one.open_file(institution, exchange, Folder::Out, &name()).ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        Some(text)
    }

    /// What would be handed out.
    fn ready(&self) -> Option<String> {
        let sealed = self.other.sealed_passphrase(&self.key()).unwrap()?;
        Some(String::from_utf8(sealed).unwrap())
    }
}

#[test]
fn whatever_step_a_try_is_cut_off_at_the_passphrase_kept_is_that_of_the_file_delivered() {
    for cut in CUTS {
        let case = Case::new();
        let first = case.claim(&case.one);
        case.attempt(&first, "first", cut);
        assert_eq!(case.ready().is_some(), cut == Cut::Due, "{cut:?}: handed out before it is certain");
        let second = case.take_over();
        let delivered = second.deliveries().unwrap();
        for done in &delivered {
            second.passphrase_is_due(&done.delivery.to).unwrap();
        }
        assert_eq!(!delivered.is_empty(), cut >= Cut::Left, "{cut:?}");
        if delivered.is_empty() {
            assert_eq!(case.ready(), None, "{cut:?}");
            case.attempt(&second, "second", Cut::Due);
        }
        second.finish().unwrap();
        assert_eq!(case.ready(), case.result(), "{cut:?}");
        let wanted = if cut >= Cut::Left { "first" } else { "second" };
        assert_eq!(case.ready().as_deref(), Some(wanted), "{cut:?}");
        let lying = std::fs::read_dir(case.path(PASSPHRASES)).unwrap().count();
        assert_eq!(lying, 1, "{cut:?}: nothing else is left there");
        let done = case.path("done").join(case.arrival.id.to_string());
        let is_stray = |name: &str| name.starts_with(STAGED);
        let beside =
            std::fs::read_dir(done).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(!beside.into_iter().any(|name| is_stray(&name)), "{cut:?}");
    }
}

#[test]
fn who_has_lost_a_claim_replaces_no_passphrase() {
    let case = Case::new();
    let first = case.claim(&case.one);
    case.attempt(&first, "first", Cut::Kept);
    let second = case.take_over();
    case.attempt(&second, "second", Cut::Kept);
    let lost = first.keep_passphrase(&slug("agency"), b"first again");
    assert!(matches!(lost, Err(SpoolError::Lost(_))), "{lost:?}");
    second.deliver(&case.delivered("second")).unwrap();
    assert!(first.keep_passphrase(&slug("agency"), b"first again").is_err());
    second.passphrase_is_due(&slug("agency")).unwrap();
    assert_eq!(case.ready().as_deref(), Some("second"));
}

#[test]
fn nobody_but_its_owner_enters_the_folder_or_reads_a_file() {
    let case = Case::new();
    case.attempt(&case.claim(&case.one), "secret", Cut::Due);
    let mode = |path: &str| std::fs::metadata(case.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(PASSPHRASES), 0o700);
    let file = format!("{PASSPHRASES}/{}", case.key().file(READY));
    assert_eq!(mode(&file), 0o600);
    case.one.own_passphrases().unwrap();
    for open in [0o710, 0o701, 0o2770] {
        std::fs::set_permissions(case.path(PASSPHRASES), std::fs::Permissions::from_mode(open)).unwrap();
        let refused = case.one.own_passphrases().unwrap_err().to_string();
        assert!(refused.contains("chmod"), "{open:o}: {refused}");
        assert!(case.one.hold_passphrase(&case.key()).is_err(), "{open:o}");
    }
    std::fs::set_permissions(case.path(PASSPHRASES), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::set_permissions(case.path(&file), std::fs::Permissions::from_mode(0o620)).unwrap();
    let foreign = case.one.sealed_passphrase(&case.key()).unwrap_err().to_string();
    assert!(foreign.contains("belongs to"), "who can write it could have: {foreign}");
}

#[test]
fn one_at_a_time_hands_a_passphrase_out_and_what_was_handed_out_is_gone() {
    let case = Case::new();
    case.attempt(&case.claim(&case.one), "secret", Cut::Due);
    let entries = case.one.passphrases().unwrap();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert!(entry.is_ready && entry.key == case.key());
    let held = case.one.hold_passphrase(&case.key()).unwrap().unwrap();
    assert!(matches!(case.other.hold_passphrase(&case.key()), Err(SpoolError::Busy(_))));
    assert_eq!(held.sealed().unwrap(), b"secret");
    let handing_over = HandingOver { tries: 3, next: case.arrival.received, why: "exit 1".into() };
    held.put_off(&handing_over).unwrap();
    assert_eq!(case.other.handing_over(&case.key()), Some(handing_over));
    held.remove().unwrap();
    assert!(case.other.hold_passphrase(&case.key()).unwrap().is_none());
    assert!(case.other.passphrases().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(case.path(PASSPHRASES)).unwrap().count(), 0);
    assert!(!case.one.drop_passphrase(&case.key()).unwrap());
}

use super::super::tests::Zone;
use super::*;
use crate::policy::receipt::Verdict;
use crate::work::worker::End;

const ENRICH: &str = "pillar-3";

/// A zone whose agency hands files in on this machine, and where.
fn zone(change: impl FnOnce(&mut Exchange)) -> (Zone, std::path::PathBuf) {
    let zone = Zone::new();
    let mut config = (*zone.workshop.config()).clone();
    let exchange = config.exchanges.get_mut(&Slug::parse(ENRICH).unwrap()).unwrap();
    exchange.handoff = Some(Slug::parse("agii").unwrap());
    change(exchange);
    zone.workshop.config.send_replace(Arc::new(config));
    let folder = zone.workshop.spool.own_handoff(&Slug::parse(ENRICH).unwrap()).unwrap();
    (zone, folder)
}

/// Looks again and again, at these seconds from now.
fn looks(zone: &Zone, watched: &mut Watched, seconds: &[u64]) {
    let now = Instant::now();
    for after in seconds {
        zone.workshop.take_handed(watched, now + Duration::from_secs(*after));
    }
}

fn look(zone: &Zone) {
    looks(zone, &mut Watched::default(), &[0, 3]);
}

fn incoming(zone: &Zone) -> Vec<Arrival> {
    let spool = &zone.workshop.spool;
    let ids = spool.list(State::Incoming).unwrap();
    ids.iter().map(|id| spool.arrival(State::Incoming, id).unwrap()).collect()
}

fn events(zone: &Zone, event: Event) -> usize {
    zone.records().iter().filter(|record| record.event == event).count()
}

fn unfinished(zone: &Zone) -> usize {
    std::fs::read_dir(zone.path().join("spool/partial/agii.pillar-3")).unwrap().count()
}

#[test]
fn what_is_handed_in_becomes_an_arrival_of_its_party_and_goes_the_way_of_all() {
    let (zone, folder) = zone(|_| {});
    std::fs::write(folder.join("list.csv.age"), zone.encrypted(b"insz\n1\n")).unwrap();
    look(&zone);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let arrival = incoming(&zone).pop().unwrap();
    let owner = users().remove(&rustix::process::geteuid().as_raw()).unwrap();
    assert_eq!(
        (arrival.by.institution.as_str(), arrival.by.label, arrival.session.as_str()),
        ("agii", owner, "handoff")
    );
    let record = zone.records().pop().unwrap();
    assert_eq!(
        (record.event, record.outcome, record.arrival),
        (Event::Publish, Outcome::Ok, Some(arrival.id.to_string()))
    );
    let arrival = incoming(&zone).pop().unwrap();
    assert_eq!(zone.work(&arrival), End::Done);
    assert_eq!(zone.receipt(&arrival).verdict, Verdict::Delivered);
}

#[test]
fn what_is_still_being_written_stays_where_it_is() {
    let (zone, folder) = zone(|_| {});
    let (file, list) = (folder.join("list.csv.age"), zone.encrypted(b"insz\n1\n"));
    std::fs::write(folder.join("other.csv.age.part"), &list).unwrap();
    std::fs::write(folder.join(".other.csv.age"), &list).unwrap();
    std::fs::write(&file, &list[..list.len() - 9]).unwrap();
    let mut watched = Watched::default();
    // Not two looks alike, then a pause of its writer's, then the rest.
    looks(&zone, &mut watched, &[0, 1, 3, 60]);
    std::fs::write(&file, &list).unwrap();
    looks(&zone, &mut watched, &[61, 62]);
    assert_eq!((incoming(&zone).len(), std::fs::read_dir(&folder).unwrap().count()), (0, 3));
    looks(&zone, &mut watched, &[64]);
    assert_eq!((incoming(&zone).len(), std::fs::read_dir(&folder).unwrap().count()), (1, 2));
    assert!(zone.workshop.spool.list(State::Refused).unwrap().is_empty());
}

#[test]
fn what_an_upload_would_be_refused_for_is_refused_with_a_receipt_and_removed() {
    let (zone, folder) = zone(|exchange| {
        for flow in &mut exchange.flows {
            flow.accept.max_size = 4_000;
            flow.accept.armored = false;
            flow.accept.names = vec![globset::Glob::new("*.csv.age").unwrap().compile_matcher()];
        }
    });
    let (list, foreign) = (zone.encrypted(b"insz\n1\n"), age::x25519::Identity::generate().to_public());
    let mut armored =
        age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).unwrap();
    std::io::Write::write_all(&mut armored, &list).unwrap();
    for (name, content, reason) in [
        ("plain.csv.age", b"insz\n85073003328\n".to_vec(), "not-encrypted"),
        ("empty.csv.age", Vec::new(), "empty"),
        ("cut.csv.age", list[..list.len() - 9].to_vec(), "cut-short"),
        ("foreign.csv.age", age::encrypt(&foreign, b"insz\n1\n").unwrap(), "not-for-us"),
        ("large.csv.age", zone.encrypted(&[b'1'; 4_000]), "too-large"),
        ("name.txt", list.clone(), "name-not-accepted"),
        ("armored.csv.age", armored.finish().unwrap(), "armor-not-accepted"),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
        looks(&zone, &mut Watched::default(), &[0, 200]);
        assert!(!folder.join(name).exists(), "{name}");
        let id = zone
            .workshop
            .spool
            .list(State::Refused)
            .unwrap()
            .into_iter()
            .find(|id| zone.workshop.spool.arrival(State::Refused, id).unwrap().name.as_str() == name);
        let refused = zone.workshop.spool.arrival(State::Refused, &id.unwrap()).unwrap();
        assert_eq!(refused.refused.as_ref().map(Reason::code), Some(reason), "{name}");
        zone.workshop.write_refusal(&refused).unwrap();
        let receipt = zone.receipt(&refused);
        assert_eq!((receipt.verdict, receipt.reason.unwrap().code.as_str()), (Verdict::Refused, reason));
    }
    assert_eq!((events(&zone, Event::Refuse), incoming(&zone).len(), unfinished(&zone)), (7, 0, 0));
}

#[test]
fn nothing_is_taken_for_an_agreement_that_is_over() {
    let (zone, folder) = zone(|exchange| exchange.agreement.until = Some(jiff::civil::date(2026, 11, 20)));
    std::fs::write(folder.join("list.csv.age"), zone.encrypted(b"insz\n1\n")).unwrap();
    look(&zone);
    let refused = zone.workshop.spool.list(State::Refused).unwrap().pop().unwrap();
    let refused = zone.workshop.spool.arrival(State::Refused, &refused).unwrap();
    assert_eq!(refused.refused.unwrap().code(), "agreement-ended");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn what_comes_again_after_a_crash_is_met_and_not_taken_twice() {
    let (zone, folder) = zone(|_| {});
    let list = zone.encrypted(b"insz\n1\n");
    std::fs::write(folder.join("list.csv.age"), &list).unwrap();
    look(&zone);
    let arrival = incoming(&zone).pop().unwrap();
    for state in ["incoming", "done"] {
        // As if the process had ended before it removed the source.
        std::fs::write(folder.join("list.csv.age"), &list).unwrap();
        look(&zone);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "{state}");
        assert_eq!((events(&zone, Event::Publish), unfinished(&zone)), (1, 0), "{state}");
        if state == "incoming" {
            assert_eq!(zone.work(&arrival), End::Done);
        }
    }
    assert_eq!(events(&zone, Event::Close), 2);
}

#[test]
fn a_refusal_that_a_crash_kept_from_its_end_is_described_once() {
    let (zone, folder) = zone(|_| {});
    std::fs::write(folder.join("plain.csv.age"), "insz").unwrap();
    let config = zone.workshop.config();
    let exchange = &config.exchanges[&Slug::parse(ENRICH).unwrap()];
    let handed = zone.workshop.spool.handed_in(&exchange.name, 9).unwrap().pop().unwrap();
    for _ in 0..2 {
        let arrival = zone.workshop.described(exchange, &Slug::parse("agii").unwrap(), &handed);
        let arrival = Arrival { refused: Some(Reason::NotEncrypted), ..arrival };
        assert!(matches!(zone.workshop.refuse_handed(exchange, &handed, arrival), Ok(Fate::Settled)));
    }
    assert_eq!(
        (zone.workshop.spool.list(State::Refused).unwrap().len(), events(&zone, Event::Refuse)),
        (1, 1)
    );
}

#[test]
fn a_name_that_is_in_use_waits_or_becomes_another_as_the_flow_says() {
    for collision in [Collision::Reject, Collision::Version] {
        let (zone, folder) = zone(|exchange| exchange.flows[0].accept.collision = collision);
        for content in [b"insz\n1\n", b"insz\n2\n"] {
            std::fs::write(folder.join("list.csv.age"), zone.encrypted(content)).unwrap();
            look(&zone);
        }
        let names: Vec<_> = incoming(&zone).into_iter().map(|arrival| arrival.name.to_string()).collect();
        match collision {
            Collision::Version => {
                assert!(names.contains(&"list.2.csv.age".to_owned()) && names.len() == 2, "{names:?}")
            }
            Collision::Reject => {
                assert_eq!((names.as_slice(), unfinished(&zone)), (&["list.csv.age".to_owned()][..], 0));
                assert!(folder.join("list.csv.age").exists());
                assert_eq!(zone.work(&incoming(&zone)[0]), End::Done);
                look(&zone);
                assert_eq!((incoming(&zone).len(), folder.join("list.csv.age").exists()), (1, false));
            }
        }
    }
}

#[test]
fn a_file_that_an_institution_is_uploading_under_the_same_name_keeps_its_place() {
    let (zone, folder) = zone(|_| {});
    let slug = |text: &str| Slug::parse(text).unwrap();
    let name = Name::parse("list.csv.age").unwrap();
    std::fs::write(folder.join(name.as_str()), zone.encrypted(b"insz\n1\n")).unwrap();
    let mut upload = zone.workshop.spool.create_partial(&slug("agii"), &slug(ENRICH), &name).unwrap();
    upload.write_at(b"age-encryption.org/v1\n", 0).unwrap();
    look(&zone);
    assert_eq!(
        (incoming(&zone).len(), upload.size().unwrap(), folder.join(name.as_str()).exists()),
        (0, 22, true)
    );
}

#[test]
fn nobody_hands_in_for_an_exchange_that_does_not_say_so() {
    let (zone, folder) = zone(|exchange| exchange.handoff = None);
    std::fs::write(folder.join("list.csv.age"), zone.encrypted(b"insz\n1\n")).unwrap();
    look(&zone);
    assert!(incoming(&zone).is_empty() && folder.join("list.csv.age").exists());
}

#[test]
fn a_file_that_grows_on_and_on_is_not_copied_on_and_on() {
    let (zone, folder) = zone(|_| {});
    let slug = |text: &str| Slug::parse(text).unwrap();
    std::fs::write(folder.join("list.age"), vec![7; 1 << 20]).unwrap();
    let file = std::fs::OpenOptions::new().read(true).open(folder.join("list.age")).unwrap();
    let name = Name::parse("list.age").unwrap();
    let mut copied = zone.workshop.spool.create_partial(&slug("agii"), &slug(ENRICH), &name).unwrap();
    let digest = copy(&file, &mut copied, 1_000).unwrap();
    assert_eq!(copied.size().unwrap(), 1_001);
    assert_ne!(digest, crate::policy::digest::sha256(&[7; 1_000]), "it is not what was inspected");
}

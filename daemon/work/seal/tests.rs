//! Sealing at fixed dates: what is sealed, what is refused, and what an examination of the folder then says.

use std::path::PathBuf;

use super::super::tests::Zone;
use super::*;
use crate::host::clock::Clock;
use crate::host::evidence::examine::{Examination, examine};
use crate::host::log::AccessLog;
use crate::policy::chain::Damage;
use crate::policy::path::Slug;
use crate::policy::trust::Leave;

const SERVE: &str = "2026-11-21.serve.test.jsonl";
const NOON: &str = "2026-11-21T12:00:00Z";

impl Zone {
    fn log_folder(&self) -> PathBuf {
        self.workshop.config().machine.log.directory.clone()
    }

    /// Sets the clock and opens the log anew, as a start at that time does.
    fn at(&mut self, time: &str) {
        let clock = Clock::fixed(time.parse().unwrap());
        let config = self.workshop.config();
        let machine = &config.machine;
        let aside = tempfile::tempdir().unwrap();
        // One process writes a file: the log that was open is closed before it is opened again.
        self.workshop.log = AccessLog::open(aside.path(), &machine.node, "work", clock.clone()).unwrap();
        self.workshop.log =
            AccessLog::open(&machine.log.directory, &machine.node, "work", clock.clone()).unwrap();
        self.workshop.clock = clock;
    }

    /// What `serve` records at a time.
    fn serve_records(&self, time: &str, count: usize) {
        let node = Slug::parse("test").unwrap();
        let log =
            AccessLog::open(&self.log_folder(), &node, "serve", Clock::fixed(time.parse().unwrap())).unwrap();
        for n in 0..count {
            let detail = Some(format!("{n}"));
            log.append(&Record { detail, ..Record::new(Event::Login, Outcome::Ok) }).unwrap();
        }
    }

    fn expire_of_serve(&self, time: &str) -> Vec<String> {
        let node = Slug::parse("test").unwrap();
        let log =
            AccessLog::open(&self.log_folder(), &node, "serve", Clock::fixed(time.parse().unwrap())).unwrap();
        let deleted = log.expire(Leave::at(time), 31).unwrap();
        deleted.iter().map(ToString::to_string).collect()
    }

    fn seal(&self) -> Vec<String> {
        self.workshop.seal_now();
        self.workshop.seals.trouble()
    }

    fn heads(&self) -> Vec<Head> {
        let heads = Heads::open(&LogFolder::open(&self.log_folder()).unwrap()).unwrap().unwrap();
        let read = |(number, month): (u64, String)| {
            serde_json::from_slice(&heads.read(number, &month).unwrap().text)
        };
        heads.numbers().unwrap().into_iter().map(|head| read(head).unwrap()).collect()
    }

    fn examined(&self) -> Examination {
        examine(&self.log_folder(), &self.workshop.signer.public(), Vec::new()).unwrap()
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut Vec<String>)) {
        let path = self.log_folder().join(file);
        let mut lines: Vec<String> =
            std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        edit(&mut lines);
        std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

/// What a `serve` that was taken over can do: compute the whole chain anew.
fn rewrite(lines: &mut [String], from: usize) {
    let mut prev = "0".repeat(64);
    for (at, line) in lines.iter_mut().enumerate() {
        if at >= from {
            let mut record: crate::policy::record::Line = serde_json::from_str(line).unwrap();
            record.prev = prev;
            record.record.detail = Some("rewritten".into());
            *line = serde_json::to_string(&record).unwrap();
        }
        prev = digest(line.as_bytes());
    }
}

#[test]
fn heads_follow_each_other_by_the_hour_and_tell_all_once_a_day() {
    let mut zone = Zone::new();
    zone.serve_records(NOON, 5);
    assert_eq!(zone.seal(), Vec::<String>::new());
    zone.at("2026-11-21T13:00:00Z");
    zone.seal();
    assert_eq!(zone.heads().len(), 2, "the record of the first head was to be sealed yet");
    zone.seal();
    assert_eq!(zone.heads().len(), 2, "nothing happened");
    zone.serve_records("2026-11-21T13:30:00Z", 2);
    zone.workshop.seal_when_due();
    assert_eq!(zone.heads().len(), 2, "it is not yet due");
    zone.at("2026-11-21T14:00:00Z");
    zone.workshop.seal_when_due();
    zone.at("2026-11-22T00:00:00Z");
    zone.workshop.seal_when_due();
    let heads = zone.heads();
    let told: Vec<(u64, bool, usize)> =
        heads.iter().map(|head| (head.number, head.complete, head.files.len())).collect();
    assert_eq!(told, [(1, true, 1), (2, false, 1), (3, false, 1), (4, true, 2)]);
    assert_eq!(heads[2].files[0].records, 7);
    let examined = zone.examined();
    assert!(examined.intact, "{examined:?}");
    assert_eq!((examined.heads, examined.files.len()), (4, 3));
    let unsealed: u64 = examined.files.iter().map(|file| file.not_yet_sealed).sum();
    assert_eq!(unsealed, 1, "the record of the day's head");
}

#[test]
fn a_past_that_was_rewritten_after_it_was_sealed_is_refused_told_and_never_sealed() {
    type Tampering = fn(&mut Vec<String>);
    let table: &[(&str, Tampering, &str)] = &[
        ("all anew", |l| rewrite(l, 0), "is not the record that was sealed"),
        ("the last sealed one", |l| rewrite(l, 4), "is not the record that was sealed"),
        ("cut off", |l| l.truncate(3), "shorter"),
        (
            "cut off and filled up",
            |l| {
                l.truncate(3);
                let more = l.clone();
                l.extend(more)
            },
            "line 5, record 5",
        ),
    ];
    for (what, tamper, told) in table {
        let mut zone = Zone::new();
        zone.serve_records(NOON, 5);
        zone.seal();
        zone.edit(SERVE, tamper);
        zone.at("2026-11-21T13:00:00Z");
        let trouble = zone.seal().join("\n");
        assert!(trouble.contains(told) && trouble.contains(SERVE), "{what}: {trouble}");
        let last = zone.heads().pop().unwrap();
        assert_eq!(
            (last.broken.len(), last.files.iter().any(|sealed| sealed.file.to_string() == SERVE)),
            (1, false)
        );
        let recorded = std::fs::read_to_string(zone.log_folder().join("2026-11-21.work.test.jsonl")).unwrap();
        assert!(recorded.contains(r#""event":"seal","outcome":"failed""#), "{recorded}");
        let examined = zone.examined();
        let finding = examined.findings.first().unwrap_or_else(|| panic!("{what}"));
        assert_eq!(finding.file, SERVE, "{what}");
        assert!(examined.notes.iter().any(|note| note.contains("incident")), "{what}: {:?}", examined.notes);
        // Who starts `work` again has seen it: the metric and every examination go on telling it, readiness does not.
        zone.workshop.seals = Seals::default();
        assert_eq!(zone.seal(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn a_middle_that_was_rewritten_shows_at_the_daily_reading_of_the_whole_file() {
    let mut zone = Zone::new();
    zone.serve_records(NOON, 5);
    zone.seal();
    zone.edit(SERVE, |lines| lines[1] = lines[1].replace("\"1\"", "\"x\""));
    zone.at("2026-11-21T13:00:00Z");
    assert_eq!(zone.seal(), Vec::<String>::new(), "only the new part is read by the hour");
    zone.at("2026-11-22T00:00:00Z");
    let trouble = zone.seal().join("\n");
    assert!(trouble.contains("line 2, record 2"), "{trouble}");
}

#[test]
fn a_day_whose_time_has_passed_goes_and_the_log_stays_intact_and_any_other_is_missed() {
    let mut zone = Zone::new();
    zone.serve_records(NOON, 5);
    zone.seal();
    let later = "2026-12-23T12:00:00Z";
    zone.at(later);
    assert_eq!(zone.expire_of_serve(later), [SERVE]);
    assert_eq!(zone.seal(), Vec::<String>::new());
    let examined = zone.examined();
    assert!(examined.intact, "{examined:?}");
    assert!(examined.files.iter().all(|file| file.file.to_string() != SERVE));
    // The same deletion, without the record.
    std::fs::remove_file(zone.log_folder().join("2026-11-21.work.test.jsonl")).unwrap();
    let examined = zone.examined();
    let finding = examined.findings.first().unwrap();
    assert_eq!((finding.file.as_str(), finding.damage), ("2026-11-21.work.test.jsonl", Damage::Missing));
    let trouble = zone.seal().join("\n");
    assert!(trouble.contains("2026-11-21.work.test.jsonl") && trouble.contains("gone"), "{trouble}");
}

#[test]
fn heads_that_are_not_ours_stop_the_sealing() {
    let mut zone = Zone::new();
    zone.serve_records(NOON, 5);
    zone.seal();
    let head = zone.log_folder().join("heads/2026-11/00000001.json");
    let text = std::fs::read_to_string(&head).unwrap();
    std::fs::write(&head, text.replace("\"records\":5", "\"records\":4")).unwrap();
    zone.at("2026-11-21T13:00:00Z");
    let trouble = zone.seal().join("\n");
    assert!(trouble.contains("heads/2026-11/00000001.json its signature does not fit"), "{trouble}");
    assert_eq!(zone.examined().findings[0].damage, Damage::Forged);
    std::fs::write(&head, text).unwrap();
    assert_eq!(zone.seal(), Vec::<String>::new(), "it goes on by itself");
    // All heads gone: the records still tell of them.
    std::fs::rename(zone.log_folder().join("heads"), zone.log_folder().join("away")).unwrap();
    zone.at("2026-11-21T14:00:00Z");
    let trouble = zone.seal().join("\n");
    assert!(trouble.contains("heads") && trouble.contains("removed"), "{trouble}");
}

#[test]
fn heads_reach_their_second_places_also_when_those_were_away() {
    let mut zone = Zone::new();
    let mount = tempfile::tempdir().unwrap();
    let file = mount.path().join("away/heads.jsonl");
    let mut config = zone.workshop.config().as_ref().clone();
    config.machine.log.heads_to.file = Some(file.clone());
    config.machine.log.heads_to.receipts = true;
    zone.workshop.config.send_replace(std::sync::Arc::new(config));
    zone.serve_records(NOON, 5);
    let trouble = zone.seal().join("\n");
    assert!(trouble.contains("heads.jsonl"), "{trouble}");
    std::fs::create_dir(mount.path().join("away")).unwrap();
    zone.at("2026-11-21T13:00:00Z");
    assert_eq!(zone.seal(), Vec::<String>::new());
    let copies = copies::read(&file).unwrap();
    assert_eq!(copies.iter().map(|kept| kept.number).collect::<Vec<_>>(), [1, 2]);
    let receipts = zone.workshop.config().machine.spool.join("receipts/agii/pillar-3");
    let head = std::fs::read(receipts.join("log-2026-11-21.head")).unwrap();
    let signature = std::fs::read(receipts.join("log-2026-11-21.head.sig")).unwrap();
    zone.workshop.signer.public().verify(Namespace::LogHead, &head, &signature).unwrap();
    // The last head is removed with the records it sealed: only the copy tells.
    std::fs::remove_file(zone.log_folder().join("heads/2026-11/00000002.json")).unwrap();
    zone.edit("2026-11-21.work.test.jsonl", Vec::clear);
    let key = zone.workshop.signer.public();
    assert!(zone.examined().intact);
    let examined = examine(&zone.log_folder(), &key, copies).unwrap();
    let found: Vec<(&str, Damage)> =
        examined.findings.iter().map(|found| (found.file.as_str(), found.damage)).collect();
    let work = ("2026-11-21.work.test.jsonl", Damage::CutOff);
    assert_eq!(found, [("copy of head 2", Damage::Missing), work]);
}

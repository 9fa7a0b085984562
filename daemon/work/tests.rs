//! The job side as a whole: arrivals published into a real spool, worked on, and looked at from outside.

mod content;
mod hostile;
mod shaping;
mod workbooks;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use age::x25519::Identity;
use jiff::Timestamp;
use jiff::civil::date;

use super::turns::Waiting;
use super::worker::End;
use super::*;
use crate::config::{Database, HeadsTo, Limits, Log, Machine, MetricsListen, Sockets, Work};
use crate::policy::account::{Institution, Who};
use crate::policy::agreement::{Accept, Agreement, Collision, Exchange, Flow, Job, Party, Query};
use crate::policy::arrival::{Arrival, ArrivalId, State, delivery_name, receipt_name};
use crate::policy::envelope::Inspector;
use crate::policy::job::JobLimits;
use crate::policy::path::{Folder, Name, Slug};
use crate::policy::penalties::PenaltyRules;
use crate::policy::question::Unasked;
use crate::policy::reason::Reason;
use crate::policy::receipt::{Content, Receipt, Verdict};
use crate::policy::record::Line;
use crate::policy::retention::Rules;

const JOIN: &str =
    "SELECT arrival.insz, j.category FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz
                    ORDER BY arrival.rowid";
const NOW: &str = "2026-11-21T12:00:00Z";

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

pub(super) struct Zone {
    pub(super) folder: tempfile::TempDir,
    zone_key: Identity,
    receiver_key: Identity,
    pub(super) workshop: Workshop,
}

fn flow(name: &str, job: Job, to: &[&str]) -> Flow {
    let accept = Accept {
        names: Vec::new(),
        max_size: 1 << 30,
        armored: true,
        collision: Collision::default(),
        unasked: Unasked::Accept,
    };
    let to = to.iter().map(|name| slug(name)).collect();
    Flow::plain(slug(name), vec![slug("agii"), slug("atlas")], accept, job, to)
}

fn quick_work() -> Work {
    let (scan_every, lease) = (Duration::from_millis(200), Duration::from_secs(30));
    Work { scan_every, jobs: 2, tries: 2, lease, job: JobLimits::default() }
}

fn machine(folder: &Path) -> Machine {
    let at = "127.0.0.1:0".parse().unwrap();
    Machine {
        node: slug("test"),
        listen: Vec::new(),
        host_key: folder.join("host"),
        identities: vec![folder.join("zone.agekey")],
        signing_key: folder.join("sign"),
        spool: folder.join("spool"),
        log: Log { directory: folder.join("log"), keep_days: 31, heads_to: HeadsTo::default() },
        metrics: MetricsListen { serve: at, work: at },
        sockets: Sockets {
            serve: folder.join("serve.sock"),
            work: folder.join("work.sock"),
            work_control: folder.join("control.sock"),
        },
        databases: BTreeMap::from([(slug("register"), Database::Sqlite(folder.join("register.db")))]),
        work: quick_work(),
        limits: Limits::default(),
        algorithms: crate::config::Algorithms::Compat,
        penalties: PenaltyRules::default(),
        proxies: Vec::new(),
        passphrase_program: Vec::new(),
        incident_program: Vec::new(),
    }
}

fn config(folder: &Path, receiver: &Identity) -> Config {
    let institution = |name: &str| Institution {
        name: slug(name),
        title: name.to_owned(),
        contact: None,
        phone: None,
        people: Vec::new(),
        recipients: vec![receiver.to_public().to_string()],
        networks: Vec::new(),
    };
    let query = Query {
        database: slug("register"),
        sql: JOIN.to_owned(),
        columns: Some(vec!["insz".into(), "category".into()]),
    };
    let exchange = |name: &str, until| {
        let (reference, from) = ("P-3".into(), date(2023, 3, 3));
        let agreement = Agreement { reference, from, until: Some(until), ..Agreement::default() };
        let parties = BTreeMap::from([(slug("agii"), Party::default()), (slug("atlas"), Party::default())]);
        let flows = vec![
            flow("enrich", Job::Query(query.clone()), &["agii", "atlas"]),
            flow("hand-on", Job::Relay, &["atlas"]),
        ];
        Exchange::plain(slug(name), agreement, parties, flows)
    };
    Config {
        main: String::new(),
        retention: Rules::default(),
        files: crate::config::Files::new(),
        directory: folder.to_owned(),
        machine: machine(folder),
        institutions: ["agii", "atlas"].iter().map(|name| (slug(name), institution(name))).collect(),
        exchanges: [("pillar-3", 2028), ("pillar-4", 2028), ("over", 2026)]
            .map(|(name, year)| (slug(name), exchange(name, date(year, 11, 20))))
            .into(),
    }
}

impl Zone {
    pub(super) fn new() -> Self {
        use age::secrecy::ExposeSecret;
        let folder = tempfile::tempdir().unwrap();
        let (zone_key, receiver_key) = (Identity::generate(), Identity::generate());
        std::fs::create_dir_all(folder.path().join("spool")).unwrap();
        std::fs::create_dir_all(folder.path().join("log")).unwrap();
        let secret = zone_key.to_string();
        files::write_new(&folder.path().join("zone.agekey"), secret.expose_secret().as_bytes(), 0o600)
            .unwrap();
        let signing =
            crate::policy::signature::tests::private_key(1).to_openssh(ssh_key::LineEnding::LF).unwrap();
        files::write_new(&folder.path().join("sign"), signing.as_bytes(), 0o600).unwrap();
        rusqlite::Connection::open(folder.path().join("register.db"))
            .unwrap()
            .execute_batch(
                "CREATE TABLE jobseekers (insz TEXT PRIMARY KEY, category TEXT);
                 INSERT INTO jobseekers VALUES ('1', 'sought'), ('2', 'found, \"well\"');",
            )
            .unwrap();
        let config = config(folder.path(), &receiver_key);
        let clock = Clock::fixed(NOW.parse().unwrap());
        let workshop = Workshop::open(config, clock).unwrap();
        Self { folder, zone_key, receiver_key, workshop }
    }

    /// The header of a list for this zone.
    pub(super) fn header(&self) -> Vec<u8> {
        let file = self.encrypted(b"");
        file[..file.len() - 32].to_vec()
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn into_parts(self) -> (tempfile::TempDir, Workshop) {
        (self.folder, self.workshop)
    }

    pub(super) fn arrival(&self, exchange: &str, flow: Option<&str>, name: &str, payload: &[u8]) -> Arrival {
        let name = Name::parse(name).unwrap();
        let now: Timestamp = NOW.parse().unwrap();
        Arrival {
            id: ArrivalId::new(now, &name, payload.len() as u32, &slug("agii"), &slug(exchange)),
            name,
            flow: flow.map(slug),
            size: payload.len() as u64,
            sha256: Some(crate::policy::digest::hex(&<sha2::Sha256 as sha2::Digest>::digest(payload))),
            armored: false,
            by: Who { institution: slug("agii"), label: "an".into(), fingerprint: "SHA256:an".into() },
            session: "s1".into(),
            opened: now,
            received: now,
            mtime: None,
            refused: None,
        }
    }

    pub(super) fn publish(&self, exchange: &str, flow: Option<&str>, name: &str, payload: &[u8]) -> Arrival {
        self.publish_as(self.arrival(exchange, flow, name, payload), payload)
    }

    pub(super) fn publish_as(&self, arrival: Arrival, payload: &[u8]) -> Arrival {
        let spool = &self.workshop.spool;
        let mut partial =
            spool.create_partial(arrival.id.institution(), arrival.id.exchange(), &arrival.name).unwrap();
        partial.write_at(payload, 0).unwrap();
        let mut inspector = Inspector::default();
        inspector.feed(payload).unwrap();
        spool.publish(partial, &inspector.seal().unwrap(), &arrival).unwrap();
        arrival
    }

    /// A list that was delivered to all its receivers.
    pub(super) fn finish_one(&self) {
        assert_eq!(self.work(&self.drop_list(b"insz\n1\n")), End::Done);
    }

    pub(super) fn drop_list(&self, list: &[u8]) -> Arrival {
        self.publish("pillar-3", Some("enrich"), "list.csv.age", &self.encrypted(list))
    }

    pub(super) fn encrypted(&self, list: &[u8]) -> Vec<u8> {
        age::encrypt(&self.zone_key.to_public(), list).unwrap()
    }

    pub(super) fn work(&self, arrival: &Arrival) -> End {
        self.work_from(State::Incoming, arrival)
    }

    pub(super) fn work_from(&self, state: State, arrival: &Arrival) -> End {
        self.workshop.work_on(&Waiting { state, id: arrival.id.clone() }).unwrap().end
    }

    fn result(&self, to: &str, arrival: &Arrival) -> Vec<u8> {
        let name = delivery_name(arrival);
        let mut file =
            self.workshop.spool.open_file(&slug(to), arrival.id.exchange(), Folder::Out, &name).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        bytes
    }

    pub(super) fn receipt(&self, arrival: &Arrival) -> Receipt {
        let name = receipt_name(arrival);
        let receipts = self.folder.path().join("spool/receipts").join(arrival.id.institution().as_str());
        let path = receipts.join(arrival.id.exchange().as_str());
        serde_json::from_slice(&std::fs::read(path.join(name.as_str())).unwrap()).unwrap()
    }

    pub(super) fn records(&self) -> Vec<Record> {
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(self.folder.path().join("log")).unwrap() {
            let path = entry.unwrap().path();
            // Heads and what is known of the clock lie there too.
            let is_log = path.extension().is_some_and(|ending| ending == "jsonl");
            let text = if is_log { std::fs::read_to_string(path).unwrap() } else { String::new() };
            lines.extend(text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap().record));
        }
        lines
    }

    pub(super) fn events(&self) -> Vec<(Event, Outcome, Option<String>)> {
        self.records().into_iter().map(|record| (record.event, record.outcome, record.reason)).collect()
    }

    pub(super) fn state_of(&self, arrival: &Arrival) -> State {
        let holds = |state: &State| self.workshop.spool.list(*state).unwrap().contains(&arrival.id);
        State::ALL.into_iter().find(holds).unwrap()
    }
}

#[test]
fn a_list_goes_in_and_every_receiver_gets_the_joined_result() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n2\n9\n\n1\n");
    assert_eq!(zone.work(&arrival), End::Done);
    assert_eq!(zone.state_of(&arrival), State::Done);
    for to in ["agii", "atlas"] {
        let result = age::decrypt(&zone.receiver_key, &zone.result(to, &arrival)).unwrap();
        assert_eq!(
            String::from_utf8(result).unwrap(),
            "insz,category\n2,\"found, \"\"well\"\"\"\n9,\n,\n1,sought\n"
        );
    }
    let receipt = zone.receipt(&arrival);
    assert_eq!((receipt.verdict, receipt.content), (Verdict::Delivered, Content::Verified));
    let job = receipt.job.unwrap();
    assert_eq!((job.kind.as_str(), job.tries, job.rows_in, job.rows_out), ("query", 1, Some(4), Some(4)));
    let [one, other] = &receipt.deliveries[..] else { panic!("{:?}", receipt.deliveries) };
    assert_eq!((one.to.as_str(), other.to.as_str()), ("agii", "atlas"));
    assert_eq!(one.size, zone.result("agii", &arrival).len() as u64);
    assert_eq!(
        one.sha256,
        crate::policy::digest::hex(&<sha2::Sha256 as sha2::Digest>::digest(zone.result("agii", &arrival)))
    );
    let ok = |event| (event, Outcome::Ok, None);
    assert_eq!(
        zone.events(),
        [Event::Claim, Event::Receipt, Event::Deliver, Event::Deliver, Event::Receipt, Event::Job].map(ok)
    );
    assert_eq!(zone.work(&arrival), End::Gone, "a second worker comes too late");
}

#[test]
fn a_relayed_file_arrives_as_it_was_dropped() {
    let zone = Zone::new();
    let payload = age::encrypt(&zone.receiver_key.to_public(), b"end to end").unwrap();
    let arrival = zone.publish("pillar-3", Some("hand-on"), "letter.age", &payload);
    assert_eq!(zone.work(&arrival), End::Done);
    assert_eq!(zone.result("atlas", &arrival), payload);
    assert_eq!(zone.receipt(&arrival).content, Content::StructureOnly);
    let altered = zone.publish("pillar-3", Some("hand-on"), "letter.age", &[&payload[..], b"!"].concat());
    let path = zone.workshop.spool.incoming_path().join(altered.id.to_string()).join("payload.age");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(zone.work(&altered), End::Held(Reason::Damaged));
}

#[test]
fn what_cannot_be_worked_on_is_held_with_its_own_reason_and_a_receipt() {
    let zone = Zone::new();
    let good = zone.encrypted(b"insz\n1\n");
    let long = zone.encrypted(&b"insz\n1\n".repeat(30_000));
    let mut flipped = long.clone();
    flipped[1000] ^= 1;
    let foreign = age::encrypt(&Identity::generate().to_public(), b"insz\n1\n").unwrap();
    let wide = zone.encrypted(b"a,b\n1,2\n3\n");
    let columns = zone.encrypted(b"name\nx\n");
    let ended = Reason::AgreementEnded { on: date(2026, 11, 20) };
    let cases = [
        ("pillar-3", Some("enrich"), &foreign, Reason::NotForUs),
        ("pillar-3", Some("enrich"), &flipped, Reason::Damaged),
        ("pillar-3", Some("enrich"), &long[..long.len() - 1].to_vec(), Reason::CutShort),
        ("pillar-3", Some("enrich"), &wide, Reason::NotATable { row: 3 }),
        ("pillar-3", Some("enrich"), &columns, Reason::JobFailed),
        ("pillar-3", Some("no-more"), &good, Reason::NoLongerConfigured),
        ("pillar-3", None, &good, Reason::NoLongerConfigured),
        ("unknown", Some("enrich"), &good, Reason::NoLongerConfigured),
        ("over", Some("enrich"), &good, ended),
    ];
    for (at, (exchange, flow, payload, reason)) in cases.into_iter().enumerate() {
        std::fs::create_dir_all(zone.folder.path().join(format!("spool/partial/agii.{exchange}"))).unwrap();
        let arrival = zone.publish(exchange, flow, &format!("{at}.age"), payload);
        assert_eq!(zone.work(&arrival), End::Held(reason.clone()), "{exchange} {flow:?}");
        assert_eq!(zone.workshop.spool.hold_note(&arrival.id).unwrap().reason, reason);
        let receipt = zone.receipt(&arrival);
        assert_eq!(receipt.verdict, Verdict::Held);
        assert_eq!(receipt.reason.unwrap().code, reason.code());
        assert!(receipt.deliveries.is_empty());
        let last = zone.events().pop().unwrap();
        assert_eq!(last, (Event::Job, Outcome::Failed, Some(reason.code().to_owned())));
    }
    let nothing = zone.workshop.spool.files(&slug("atlas"), &slug("pillar-3"), Folder::Out).unwrap();
    assert_eq!(nothing, []);
}

#[test]
fn a_database_that_is_away_defers_and_in_the_end_holds() {
    let zone = Zone::new();
    let register = zone.folder.path().join("register.db");
    std::fs::rename(&register, zone.folder.path().join("away")).unwrap();
    let arrival = zone.drop_list(b"insz\n1\n");
    assert_eq!(zone.work(&arrival), End::Deferred);
    let receipt = zone.receipt(&arrival);
    assert_eq!(receipt.verdict, Verdict::InProgress);
    assert_eq!(receipt.reason.unwrap().code, "job-deferred");
    let now: Timestamp = NOW.parse().unwrap();
    assert_eq!(zone.workshop.spool.due(now).unwrap(), []);
    // Half a minute and a quarter of it.
    let later = now + jiff::SignedDuration::from_secs(38);
    assert_eq!(zone.workshop.spool.due(later).unwrap(), std::slice::from_ref(&arrival.id));
    let other = zone.publish("pillar-3", Some("enrich"), "other.age", &zone.encrypted(b"insz\n2\n"));
    assert_eq!(zone.work_from(State::Deferred, &arrival), End::Held(Reason::TriesExhausted));
    std::fs::rename(zone.folder.path().join("away"), register).unwrap();
    assert_eq!(zone.work(&other), End::Done);
}

#[test]
fn an_arrival_that_cannot_be_moved_on_is_put_back_and_ended_later() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let in_the_way = zone.folder.path().join("spool/done").join(arrival.id.to_string());
    std::fs::create_dir(&in_the_way).unwrap();
    let waiting = Waiting { state: State::Incoming, id: arrival.id.clone() };
    assert!(zone.workshop.work_on(&waiting).is_err());
    assert_eq!(zone.workshop.spool.list(State::Active).unwrap(), []);
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(zone.work(&arrival), End::Done);
}

#[test]
fn what_is_left_in_active_is_put_back_by_the_next_scan_and_not_by_the_next_start() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    drop(zone.workshop.spool.claim(State::Incoming, &arrival.id).unwrap().unwrap());
    zone.workshop.put_back_stranded();
    assert_eq!(zone.state_of(&arrival), State::Active, "it may be another's");
    zone.workshop.strand(arrival.id.clone());
    zone.workshop.put_back_stranded();
    assert_eq!(zone.state_of(&arrival), State::Incoming);
    assert_eq!(zone.work(&arrival), End::Done);
}

#[test]
fn a_list_that_ends_the_process_every_time_is_held_after_the_agreed_tries() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    // The first time others may have run beside it, so it is only suspected.
    for _ in 0..3 {
        zone.workshop.spool.claim(State::Incoming, &arrival.id).unwrap().unwrap().begin().unwrap();
        zone.workshop.spool.put_back(&arrival.id).unwrap();
    }
    assert_eq!(zone.work(&arrival), End::Held(Reason::TriesExhausted));
    let receipt = zone.receipt(&arrival);
    assert_eq!((receipt.verdict, receipt.job.unwrap().tries), (Verdict::Held, 2));
    assert_eq!(zone.events().last().unwrap().2.as_deref(), Some("tries-exhausted"));
}

#[test]
fn a_job_that_runs_when_the_process_stops_goes_back_whatever_it_was_doing() {
    let zone = Zone::new();
    let list = zone.drop_list(b"insz\n1\n");
    let letter = zone.publish("pillar-3", Some("hand-on"), "letter.age", &zone.encrypted(b"x"));
    zone.workshop.stop();
    for arrival in [list, letter] {
        assert_eq!(zone.work(&arrival), End::Stopped);
        assert_eq!(zone.state_of(&arrival), State::Incoming);
    }
}

#[test]
fn a_held_arrival_that_an_operator_moves_back_by_hand_starts_anew() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let register = zone.folder.path().join("register.db");
    std::fs::rename(&register, zone.folder.path().join("away")).unwrap();
    assert_eq!(zone.work(&arrival), End::Deferred);
    assert_eq!(zone.work_from(State::Deferred, &arrival), End::Held(Reason::TriesExhausted));
    std::fs::rename(zone.folder.path().join("away"), &register).unwrap();
    let (spool, id) = (zone.folder.path().join("spool"), arrival.id.to_string());
    std::fs::rename(spool.join("hold").join(&id), spool.join("incoming").join(&id)).unwrap();
    assert_eq!(zone.work(&arrival), End::Done);
    assert_eq!(zone.receipt(&arrival).job.unwrap().tries, 1);
    let mut left: Vec<_> = std::fs::read_dir(spool.join("done").join(&id))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    let [_, _, notes @ ..] = &left[..] else { panic!("{left:?}") };
    assert_eq!((&left[0], &left[1]), (&"arrival.json".into(), &"payload.age".into()));
    let is_note = |name: &std::ffi::OsString, to: &str| {
        name.to_str()
            .is_some_and(|name| name.starts_with(&format!("result-{to}.")) && name.ends_with(".json"))
    };
    assert!(matches!(notes, [one, other] if is_note(one, "agii") && is_note(other, "atlas")), "{notes:?}");
}

#[test]
fn one_arrival_that_cannot_be_recovered_does_not_keep_the_others_from_it() {
    let zone = Zone::new();
    let (stuck, other) = (zone.drop_list(b"insz\n1\n"), zone.drop_list(b"insz\n1\n2\n"));
    for arrival in [&stuck, &other] {
        drop(zone.workshop.spool.claim(State::Incoming, &arrival.id).unwrap().unwrap());
    }
    let unfinished = zone.workshop.spool.refused_path().join("a.new");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::create_dir(zone.workshop.spool.incoming_path().join(stuck.id.to_string())).unwrap();
    for arrival in [&stuck, &other] {
        zone.workshop.strand(arrival.id.clone());
    }
    zone.workshop.put_back_stranded();
    assert_eq!(zone.workshop.spool.list(State::Active).unwrap(), std::slice::from_ref(&stuck.id));
    assert!(zone.workshop.spool.list(State::Incoming).unwrap().contains(&other.id));
    assert!(unfinished.exists(), "the refusal that `serve` may be writing is not touched");
}

#[test]
fn what_a_process_that_is_gone_had_claimed_is_taken_over_and_recorded() {
    let zone = Zone::new();
    let names = ["a", "b", "c", "d"].map(|name| {
        let arrival =
            zone.publish("pillar-3", Some("enrich"), &format!("{name}.age"), &zone.encrypted(b"insz\n1\n"));
        arrival.id.to_string()
    });
    let spool = zone.folder.path().join("spool");
    let nodes = ["", ".test.00000001", ".elsewhere.00000002", ".elsewhere.00000003"];
    for (name, node) in names.iter().zip(nodes) {
        std::fs::rename(
            spool.join("incoming").join(name),
            spool.join("active").join(format!("{name}{node}")),
        )
        .unwrap();
    }
    for node in ["test.00000001", "elsewhere.00000003", "test.00000004"] {
        std::fs::write(spool.join("nodes").join(node), "1 3600000\n").unwrap();
    }
    zone.workshop.look_after_neighbours().unwrap();
    let left = zone.workshop.spool.list(State::Active).unwrap();
    assert_eq!(
        left.iter().map(ArrivalId::to_string).collect::<Vec<_>>(),
        [&names[3][..]],
        "its process may live"
    );
    let takeovers =
        zone.events().into_iter().filter(|event| (event.0, event.1) == (Event::Takeover, Outcome::Ok));
    assert_eq!(takeovers.count(), 3);
    let is_there = |node: &str| spool.join("nodes").join(node).exists();
    assert!(
        !is_there("test.00000004") && is_there("elsewhere.00000003"),
        "who is certainly dead is forgotten"
    );
}

#[test]
fn a_takeover_that_cannot_be_recorded_waits() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let other = Spool::open(&zone.folder.path().join("spool"), &[]).unwrap();
    drop(other.claim(State::Incoming, &arrival.id).unwrap().unwrap());
    let (log, away) = (zone.folder.path().join("log"), zone.folder.path().join("log-away"));
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, "in the way").unwrap();
    // Another day, another file.
    zone.workshop.clock.set("2026-11-22T12:00:00Z".parse().unwrap());
    zone.workshop.look_after_neighbours().unwrap();
    assert_eq!(zone.state_of(&arrival), State::Active, "no record, no move");
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    zone.workshop.put_back_stranded();
    assert_eq!(zone.state_of(&arrival), State::Incoming);
    assert_eq!(zone.events().iter().filter(|event| event.0 == Event::Takeover).count(), 1);
}

#[test]
fn a_list_that_may_have_ended_the_process_runs_alone() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    zone.workshop.spool.claim(State::Incoming, &arrival.id).unwrap().unwrap().begin().unwrap();
    zone.workshop.spool.put_back(&arrival.id).unwrap();
    let beside = zone.workshop.room.read().unwrap();
    let (done, ended) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| done.send(zone.work(&arrival)).unwrap());
        assert!(ended.recv_timeout(Duration::from_millis(300)).is_err(), "it waits until it is alone");
        drop(beside);
        assert_eq!(ended.recv_timeout(Duration::from_secs(30)).unwrap(), End::Done);
    });
    assert_eq!(zone.receipt(&arrival).job.unwrap().tries, 1, "being suspected is no try");
}

#[test]
fn who_has_a_result_and_collected_it_gets_no_second_one_from_the_next_try() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    // The second receiver's outbox cannot be written to.
    let outbox = zone.folder.path().join("spool/outbox/atlas/pillar-3");
    std::fs::remove_dir(&outbox).unwrap();
    std::fs::write(&outbox, "in the way").unwrap();
    assert_eq!(zone.work(&arrival), End::Deferred);
    let first = zone.receipt(&arrival).deliveries;
    assert_eq!(first.len(), 1);
    zone.workshop.spool.collect(&slug("agii"), &slug("pillar-3"), &first[0].name).unwrap();
    std::fs::remove_file(&outbox).unwrap();
    assert_eq!(zone.work_from(State::Deferred, &arrival), End::Done);
    let last = zone.receipt(&arrival);
    assert_eq!((&last.deliveries[0], last.deliveries.len()), (&first[0], 2));
    let again = zone.workshop.spool.files(&slug("agii"), &slug("pillar-3"), Folder::Out).unwrap();
    assert_eq!(again, [], "it has been collected");
    assert_eq!(last.deliveries[1].size, zone.result("atlas", &arrival).len() as u64);
}

#[test]
fn what_was_delivered_before_a_crash_is_ended_without_another_job_also_when_the_agreement_is_over() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let in_the_way = zone.folder.path().join("spool/done").join(arrival.id.to_string());
    std::fs::create_dir(&in_the_way).unwrap();
    let waiting = Waiting { state: State::Incoming, id: arrival.id.clone() };
    assert!(zone.workshop.work_on(&waiting).is_err());
    let before = zone.receipt(&arrival);
    std::fs::remove_dir(&in_the_way).unwrap();
    std::fs::remove_file(zone.folder.path().join("register.db")).unwrap();
    zone.workshop.clock.set("2029-01-01T12:00:00Z".parse().unwrap());
    assert_eq!(zone.work(&arrival), End::Done);
    let after = zone.receipt(&arrival);
    assert_eq!(
        (after.verdict, &after.deliveries, after.content),
        (Verdict::Delivered, &before.deliveries, Content::Verified)
    );
    assert_eq!(after.job.unwrap().rows_out, before.job.unwrap().rows_out);
}

#[test]
fn monitoring_still_knows_after_a_restart_when_something_was_delivered_last() {
    let zone = Zone::new();
    assert!(last_delivery(&zone.workshop).ends_with(" 0"));
    let arrival = zone.drop_list(b"insz\n1\n");
    assert_eq!(zone.work(&arrival), End::Done);
    let since = zone.workshop.spool.since(State::Done, &arrival.id).unwrap();
    // Of the same file again nothing is delivered; it is finished an hour later.
    let payload =
        std::fs::read(zone.folder.path().join(format!("spool/done/{}/payload.age", arrival.id))).unwrap();
    let again = zone.publish("pillar-3", Some("enrich"), "again.csv.age", &payload);
    assert_eq!(zone.work(&again), End::Repeated);
    let later = rustix::fs::Timespec { tv_sec: since.as_second() + 3600, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: later, last_modification: later };
    let folder = zone.folder.path().join(format!("spool/done/{}", again.id));
    rustix::fs::utimensat(rustix::fs::CWD, folder, &times, rustix::fs::AtFlags::empty()).unwrap();
    let Zone { folder, receiver_key, workshop, .. } = zone;
    drop(workshop);
    let clock = Clock::fixed(NOW.parse().unwrap());
    let again = Workshop::open(config(folder.path(), &receiver_key), clock).unwrap();
    assert!(last_delivery(&again).ends_with(&format!(" {}", since.as_second())));
}

fn last_delivery(workshop: &Workshop) -> String {
    let text =
        prometheus::TextEncoder::new().encode_to_string(&workshop.metrics.registry().gather()).unwrap();
    let mut lines = text.lines();
    let series = "dropzone_last_delivery_timestamp_seconds{exchange=\"pillar-3\"}";
    lines.find(|line| line.starts_with(series)).unwrap().to_owned()
}

#[test]
fn an_arrival_without_a_description_is_held() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let path = zone.workshop.spool.incoming_path().join(arrival.id.to_string()).join("arrival.json");
    std::fs::remove_file(path).unwrap();
    assert_eq!(zone.work(&arrival), End::Held(Reason::ArrivalUnreadable));
}

#[test]
fn an_arrival_without_readable_description_is_held() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let path = zone.workshop.spool.incoming_path().join(arrival.id.to_string()).join("arrival.json");
    std::fs::write(path, "{").unwrap();
    assert_eq!(zone.work(&arrival), End::Held(Reason::ArrivalUnreadable));
}

#[test]
fn a_job_that_ran_before_a_crash_delivers_nothing_twice() {
    let zone = Zone::new();
    let arrival = zone.drop_list(b"insz\n1\n");
    let copy = zone.workshop.spool.incoming_path().join(arrival.id.to_string());
    let kept = zone.folder.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    for file in ["payload.age", "arrival.json"] {
        std::fs::copy(copy.join(file), kept.join(file)).unwrap();
    }
    assert_eq!(zone.work(&arrival), End::Done);
    let first = zone.result("atlas", &arrival);
    // As if the crash had come before the move to `done`.
    std::fs::remove_dir_all(zone.folder.path().join("spool/done").join(arrival.id.to_string())).unwrap();
    std::fs::rename(&kept, &copy).unwrap();
    assert_eq!(zone.work(&arrival), End::Done);
    assert_eq!(zone.result("atlas", &arrival), first);
    let told = &zone.receipt(&arrival).deliveries[1].sha256;
    assert_eq!(
        told,
        &crate::policy::digest::hex(&<sha2::Sha256 as sha2::Digest>::digest(&first)),
        "the receipt tells what lies there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_finds_what_is_there_what_comes_and_what_was_refused() {
    let zone = Zone::new();
    let before = zone.drop_list(b"insz\n1\n");
    let mut refused = zone.arrival("pillar-3", None, "plain.csv", b"insz");
    refused.refused = Some(Reason::NotEncrypted);
    zone.workshop.spool.refuse(None, &refused).unwrap();
    let Zone { folder, zone_key, receiver_key, workshop } = zone;
    let workshop = Arc::new(workshop);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = Arc::clone(&workshop);
    let work = tokio::spawn(async move {
        scan::run(&running, async {
            let _ = stopped.await;
        })
        .await;
    });
    let wait_for = |arrival: ArrivalId| {
        let workshop = Arc::clone(&workshop);
        async move {
            for _ in 0..500 {
                if workshop.spool.list(State::Done).unwrap().contains(&arrival) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("{arrival} was not done in time");
        }
    };
    wait_for(before.id.clone()).await;
    stop.send(()).unwrap();
    work.await.unwrap();
    let zone = Zone { folder, zone_key, receiver_key, workshop: Arc::try_unwrap(workshop).ok().unwrap() };
    let receipt = zone.receipt(&refused);
    assert_eq!(receipt.verdict, Verdict::Refused);
    assert_eq!(receipt.reason.unwrap().code, "not-encrypted");
    let receipts = |zone: &Zone| zone.events().iter().filter(|event| event.0 == Event::Receipt).count();
    let told = receipts(&zone);
    zone.workshop.write_refusal(&refused).unwrap();
    assert_eq!(receipts(&zone), told, "a refusal is told once");
}

//! `kill -9` at each operation of what is no job: the deletion of what has had its time, the sealing of the log, and what operators
//! decide about arrivals that are held.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::disk::rules::{Action, Filter, Rule};
use crate::harness::observe::names;
use crate::harness::programs::{run, sha256, sqlite};
use crate::harness::{Daemon, PATIENCE};
use crate::kills::send;
use crate::model::{self, EXCHANGE, Lists};
use crate::zone::Site;

const OLD: &str = "2020-01-01T00:00:00Z";

/// At which operations: half of them in every run, all in the long one.
fn chosen(steps: u64) -> impl Iterator<Item = (u64, Action)> {
    let every = if std::env::var_os("DROPZONE_LONG").is_some() { 1 } else { 2 };
    let offset = usize::try_from(std::process::id() % every).unwrap();
    let actions = [Action::KillBefore, Action::KillAfter].into_iter().cycle();
    (0..steps).skip(offset).step_by(usize::try_from(every).unwrap()).zip(actions)
}

fn aim(site: &Site, at: u64, action: Action) {
    site.disk.rule(Rule::at(Filter::new(|_| true).by(Daemon::Work), at, action));
}

/// Operations of `work` since the recording began.
fn steps_of_work(site: &Site) -> u64 {
    site.disk.recorded().steps.iter().filter(|step| step.who == Some(Daemon::Work)).count() as u64
}

fn is_logged(site: &Site, event: &str, key: &str, value: &str) -> bool {
    model::log_lines(site).iter().any(|line| line["event"] == event && line[key] == value)
}

/// A finished arrival of long ago, like one that is there; gives its id and the digest of its content.
fn plant(site: &Site, number: u64) -> (String, String) {
    let done = site.zone.spool().join("done");
    let like = names(&done).into_iter().find(|name| !name.starts_with("2020")).unwrap();
    let id = format!("20200101T000000000Z-0a1b2c3d-{number:08x}.agency.{EXCHANGE}");
    let content = format!("content of {number}");
    let mut description: Value =
        serde_json::from_slice(&fs::read(done.join(&like).join("arrival.json")).unwrap()).unwrap();
    (description["id"], description["received"]) = (json!(id), json!(OLD));
    fs::create_dir(done.join(&id)).unwrap();
    fs::write(done.join(&id).join("arrival.json"), description.to_string()).unwrap();
    fs::write(done.join(&id).join("payload.age"), &content).unwrap();
    run(std::process::Command::new("touch").args(["-d", OLD]).arg(done.join(&id))).must_succeed();
    (id, sha256(content.as_bytes()))
}

fn is_gone(site: &Site, id: &str) -> bool {
    !names(&site.zone.spool().join("done")).iter().any(|name| name.starts_with(id))
}

#[test]
fn work_killed_at_any_operation_of_a_deletion_removes_nothing_without_a_record() {
    let Some(mut site) = Site::new() else { return };
    let list = Lists::of(&site).next();
    send(&mut site, &list);
    model::check(&site, std::slice::from_ref(&list), true).unwrap();
    site.kill(Daemon::Work);
    let (first, _) = plant(&site, 0);
    site.disk.record();
    site.start(Daemon::Work);
    site.zone.wait_for("the deletion of what is old", || is_gone(&site, &first).then_some(()));
    let steps = steps_of_work(&site);
    for (at, action) in chosen(steps) {
        site.kill(Daemon::Work);
        let (id, digest) = plant(&site, at + 1);
        aim(&site, at, action);
        site.start(Daemon::Work);
        let start = std::time::Instant::now();
        while site.is_alive(Daemon::Work) && !is_gone(&site, &id) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let done = site.zone.spool().join("done");
        let is_whole =
            ["", ".expired"].iter().any(|end| done.join(format!("{id}{end}/payload.age")).exists());
        assert!(is_whole || is_logged(&site, "expire", "sha256", &digest), "killed at {at}: gone unrecorded");
        site.disk.heal();
        site.start_all();
        site.zone
            .wait_for(&format!("the deletion after a kill at {at}"), || is_gone(&site, &id).then_some(()));
        assert!(is_logged(&site, "expire", "sha256", &digest), "killed at {at}: there is no record");
    }
    eprintln!("{steps} operations from the start to the deletion");
    model::check_all(&mut site, &[list]).unwrap();
}

#[test]
fn a_log_is_intact_when_work_is_killed_at_any_operation_of_its_stop() {
    let Some(mut site) = Site::new() else { return };
    let mut lists = Lists::of(&site);
    let mut sent = vec![lists.next()];
    send(&mut site, &sent[0]);
    model::check(&site, &sent, true).unwrap();
    site.disk.record();
    site.stop_all();
    let steps = steps_of_work(&site);
    site.start_all();
    for (at, action) in chosen(steps) {
        let list = lists.next();
        send(&mut site, &list);
        sent.push(list);
        model::check(&site, &sent, true).unwrap();
        aim(&site, at, action);
        site.stop_all();
        site.disk.heal();
        let (is_intact, told) = site.verify_log(&site.zone.log());
        assert!(is_intact, "killed at {at} of {steps} of the stop: {told}");
        site.start_all();
    }
    eprintln!("{steps} operations of a stop");
    model::check_all(&mut site, &sent).unwrap();
}

/// Has a list held, because the register lacks the table, and mends the register; gives the arrival's id.
fn held(site: &mut Site, list: &model::List) -> String {
    let (register, away) = (site.zone.register(), site.zone.directory().join("away.db"));
    fs::rename(&register, &away).unwrap();
    sqlite(&register, "CREATE TABLE other (insz TEXT);");
    send(site, list);
    let id = site.zone.wait_for("a held list", || site.zone.arrivals("hold").into_iter().next());
    fs::rename(&away, &register).unwrap();
    id
}

/// Decides until it has been decided, as a person would.
fn decide(site: &mut Site, id: &str, decision: &str) {
    for _ in 0..5 {
        let is_held = site.zone.arrivals("hold").iter().any(|name| name == id);
        if !is_held || site.operator(&["hold", decision, id, "--reason", "a test"]) {
            break;
        }
        site.start_all();
    }
    site.disk.heal();
    site.start_all();
}

#[test]
fn work_killed_at_any_operation_of_a_release_delivers_once() {
    let Some(mut site) = Site::new() else { return };
    let mut lists = Lists::of(&site);
    let mut sent = Vec::new();
    let mut steps = None;
    let mut turns = Vec::new().into_iter();
    loop {
        let turn: Option<(u64, Action)> = turns.next();
        if steps.is_some() && turn.is_none() {
            break;
        }
        let list = lists.next();
        let id = held(&mut site, &list);
        match turn {
            Some((at, action)) => aim(&site, at, action),
            None => site.disk.record(),
        }
        decide(&mut site, &id, "release");
        model::check(&site, std::slice::from_ref(&list), true)
            .unwrap_or_else(|what| panic!("{turn:?}: {what}"));
        assert!(is_logged(&site, "release", "arrival", &id), "{turn:?}: the release is not in the log");
        sent.push(list);
        if steps.is_none() {
            steps = Some(steps_of_work(&site));
            turns = chosen(steps.unwrap()).collect::<Vec<_>>().into_iter();
        }
    }
    model::check_all(&mut site, &sent).unwrap();
}

#[test]
fn work_killed_at_any_operation_of_a_discard_carries_it_through() {
    let Some(mut site) = Site::new() else { return };
    let mut lists = Lists::of(&site);
    let mut steps = None;
    let mut turns = Vec::new().into_iter();
    loop {
        let turn: Option<(u64, Action)> = turns.next();
        if steps.is_some() && turn.is_none() {
            break;
        }
        let id = held(&mut site, &lists.next());
        match turn {
            Some((at, action)) => aim(&site, at, action),
            None => site.disk.record(),
        }
        decide(&mut site, &id, "discard");
        let refused = site.zone.spool().join("refused").join(&id);
        site.zone.wait_for(&format!("the end of a discard, {turn:?}"), || {
            (refused.exists() && names(&site.zone.spool().join("hold")).is_empty()).then_some(())
        });
        assert!(!refused.join("payload.age").exists(), "{turn:?}: the content is still there");
        assert!(is_logged(&site, "discard", "arrival", &id), "{turn:?}: the discard is not in the log");
        let of_it = |receipt: &&Value| receipt["arrival"] == id.as_str();
        let receipts = model::receipts(&site).unwrap();
        let told: Vec<&Value> = receipts.iter().filter(of_it).map(|receipt| &receipt["verdict"]).collect();
        assert_eq!(told, ["discarded"], "{turn:?}");
        if steps.is_none() {
            steps = Some(steps_of_work(&site));
            turns = chosen(steps.unwrap()).collect::<Vec<_>>().into_iter();
        }
    }
    model::check_all(&mut site, &[]).unwrap();
}

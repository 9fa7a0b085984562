//! `kill -9` at each operation of the way from an upload to its receipt, and what is true afterwards.

use crate::disk::rules::{Action, Filter, Rule};
use crate::harness::Daemon;
use crate::model::{self, List, Lists};
use crate::zone::Site;

/// Uploads until it is acknowledged, as a person does. Restarts what was killed.
pub fn send(site: &mut Site, list: &List) {
    for _ in 0..5 {
        let acknowledged = site.put(model::EXCHANGE, &list.name, &list.sent);
        if acknowledged {
            return;
        }
        site.start_all();
    }
    panic!("{} is not taken\n{}", list.name, site.zone.program_log());
}

fn kill_everywhere(daemon: Daemon) {
    let Some(mut site) = Site::new() else { return };
    let mut lists = Lists::of(&site);
    let first = lists.next();
    site.disk.record();
    send(&mut site, &first);
    model::check(&site, std::slice::from_ref(&first), true).unwrap();
    let recording = site.disk.recorded();
    let steps = recording.steps.iter().filter(|step| step.who == Some(daemon)).count() as u64;
    let mut sent = vec![first];
    for at in 0..steps {
        let list = lists.next();
        let action = if at % 2 == 0 { Action::KillBefore } else { Action::KillAfter };
        site.disk.rule(Rule::at(Filter::new(|_| true).by(daemon), at, action));
        send(&mut site, &list);
        let start = std::time::Instant::now();
        while site.disk.struck() == 0 && start.elapsed().as_secs() < 2 && site.is_alive(daemon) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        site.disk.heal();
        site.start_all();
        model::check(&site, std::slice::from_ref(&list), true)
            .unwrap_or_else(|what| panic!("killed at operation {at}: {what}\n{}", site.zone.program_log()));
        sent.push(list);
    }
    model::check_all(&mut site, &sent).unwrap();
}

#[test]
fn serve_killed_at_any_operation_loses_and_doubles_nothing() {
    kill_everywhere(Daemon::Serve);
}

#[test]
fn work_killed_at_any_operation_loses_and_doubles_nothing() {
    kill_everywhere(Daemon::Work);
}

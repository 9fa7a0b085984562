//! The power goes in the middle of the way from an upload to its receipt. One run is recorded; what the disk would hold after
//! a cut at each step, also had one sync been missing, is computed from that; and the real program is started on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::tree::{Loss, Renames, Tree};
use crate::disk::{Recording, Step};
use crate::kills::send;
use crate::model::{self, List, Lists};
use crate::zone::Site;

const ACKNOWLEDGED: &str = "acknowledged";

/// A zone, a list, and the recording of its way.
fn recorded(renames: Renames) -> Option<(Site, List, Recording)> {
    let mut site = Site::new()?;
    site.disk.renames(renames);
    // What is sealed at the start is on the disk before the recording begins.
    let mut lists = Lists::of(&site);
    let (first, list) = (lists.next(), lists.next());
    send(&mut site, &first);
    model::check(&site, &[first], true).unwrap();
    site.disk.settle();
    site.disk.record();
    send(&mut site, &list);
    site.disk.note(ACKNOWLEDGED);
    model::check(&site, std::slice::from_ref(&list), true).unwrap();
    let recording = site.disk.recorded();
    site.stop_all();
    Some((site, list, recording))
}

/// Starts the zone on this disk; who was not told that all is well sends again.
fn recovers(site: &mut Site, list: &List, (tree, is_acknowledged): (Tree, bool)) -> Result<(), String> {
    site.disk.exchange(tree);
    site.start_all();
    if !is_acknowledged {
        send(site, list);
    }
    let checked = model::check(site, std::slice::from_ref(list), true);
    let intact = checked.and_then(|()| {
        site.stop_all();
        let (intact, told) = site.verify_log(&site.zone.log());
        if intact { Ok(()) } else { Err(told) }
    });
    site.stop_all();
    intact
}

/// What distinguishes one disk from another, as far as a program can see.
fn content(tree: &Tree) -> BTreeMap<String, Option<std::sync::Arc<Vec<u8>>>> {
    tree.files()
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_acknowledged() {
    let Some((mut site, list, recording)) = recorded(Renames::Whole) else { return };
    let acknowledged = recording.noted(ACKNOWLEDGED).unwrap();
    let mut seen = BTreeSet::new();
    let mut cuts = Vec::new();
    for loss in [Loss::ALL, Loss::BYTES, Loss::ZEROED] {
        for steps in 0..=recording.steps.len() {
            let tree = recording.replayed(steps, |_| false).after_cut(loss);
            if seen.insert((content(&tree), steps >= acknowledged)) {
                cuts.push((loss, steps, tree));
            }
        }
    }
    let all = cuts.len();
    // Few enough for every run; all of them in the long one.
    let every = if std::env::var_os("DROPZONE_LONG").is_some() { 1 } else { 6 };
    let offset = std::process::id() as usize % every;
    let mut failed = Vec::new();
    for (loss, steps, tree) in cuts.into_iter().skip(offset).step_by(every) {
        if let Err(what) = recovers(&mut site, &list, (tree, steps >= acknowledged)) {
            let last = steps.checked_sub(1).map(|last| recording.steps[last].call.to_string());
            failed.push(format!("cut after {steps} ({last:?}), {loss:?}: {what}"));
        }
    }
    eprintln!("{all} different disks, every {every}th from {offset} on was started on");
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Where a sync happens, without what is different every time.
fn site_of(step: &Step) -> String {
    let general = |part: &str| {
        if part.starts_with('.') && part.ends_with(".new") {
            ".new".to_owned()
        } else if part.contains(".agency.pillar-3") {
            "ID".to_owned()
        } else if part.starts_with("list-") {
            "NAME".to_owned()
        } else {
            part.split(['.', '-'])
                .filter(|word| !word.bytes().any(|byte| byte.is_ascii_digit()))
                .collect::<Vec<_>>()
                .join(".")
        }
    };
    step.call.path.split('/').map(general).collect::<Vec<_>>().join("/")
}

#[test]
fn without_any_one_sync_something_acknowledged_is_lost() {
    let Some(missed) = missed_syncs(Renames::Whole) else { return };
    for place in NEEDED {
        assert!(missed.contains(*place), "{place} is not missed, where renames are whole");
    }
}

/// Where a sync is missing, the model fails.
const NEEDED: &[&str] = &[
    "serve log/serve.test.jsonl",
    "serve spool/partial/agency.pillar/NAME/",
    "serve spool/partial/agency.pillar/NAME/.new",
    "serve spool/partial/agency.pillar/NAME/payload.age",
    "work log/work.test.jsonl",
    "work spool/active/ID/result.agency.age",
];
/// Which syncs on the way of one arrival are missed if they are left out, each by itself.
fn missed_syncs(renames: Renames) -> Option<BTreeSet<String>> {
    let (mut site, list, recording) = recorded(renames)?;
    let acknowledged = recording.noted(ACKNOWLEDGED).unwrap();
    let sites: BTreeSet<(Option<&str>, String)> = recording
        .steps
        .iter()
        .filter(|step| step.call.is_sync() && !step.call.path.starts_with("spool/nodes"))
        .map(|step| (step.who.map(crate::harness::Daemon::name), site_of(step)))
        .collect();
    let ends = [recording.steps.len(), acknowledged];
    let honest: BTreeSet<_> = [Loss::ALL, Loss::BYTES]
        .into_iter()
        .flat_map(|loss| ends.map(|steps| content(&recording.replayed(steps, |_| false).after_cut(loss))))
        .collect();
    let (mut needed, mut redundant, mut told) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (who, place) in sites {
        let lies = |step: &Step| step.who.map(crate::harness::Daemon::name) == who && site_of(step) == place;
        let lost = ends
            .into_iter()
            .flat_map(|steps| [Loss::ALL, Loss::BYTES].map(|loss| (steps, loss)))
            .find_map(|(steps, loss)| {
                let tree = recording.replayed(steps, lies).after_cut(loss);
                if honest.contains(&content(&tree)) {
                    return None;
                }
                recovers(&mut site, &list, (tree, true)).err()
            });
        let who = who.unwrap_or("?");
        match lost {
            Some(what) => {
                told.push(format!("{who} {place}: {}", what.lines().next().unwrap_or_default()));
                needed.insert(format!("{who} {place}"));
            }
            None => redundant.push(format!("{who} {place}")),
        }
    }
    eprintln!(
        "{renames:?} renames, without this sync:\n  {}\nnot missed:\n  {}",
        told.join("\n  "),
        redundant.join("\n  ")
    );
    Some(needed)
}

//! Rounds of random kills and restarts under load. The seed is printed; `DROPZONE_SEED` repeats a run as far as chance is
//! ours, `DROPZONE_ROUNDS` says how many rounds.

use crate::disk::rules::{Action, Filter, Rule};
use crate::harness::Daemon;
use crate::model::{self, EXCHANGE, List, Lists};
use crate::zone::Site;

/// Uploads at the same time.
const TOGETHER: usize = 3;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Chance that can be repeated (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn aim(site: &Site, chance: &mut Chance) {
    let daemons = [&[Daemon::Serve][..], &[Daemon::Work], &[Daemon::Serve, Daemon::Work]];
    for daemon in daemons[chance.below(3) as usize] {
        let action = [Action::KillBefore, Action::KillAfter][chance.below(2) as usize];
        site.disk.rule(Rule::at(Filter::new(|_| true).by(*daemon), chance.below(120), action));
    }
}

#[test]
fn random_kills_under_load_lose_and_double_nothing() {
    let long = std::env::var_os("DROPZONE_LONG").is_some();
    let rounds = number_from("DROPZONE_ROUNDS").unwrap_or(if long { 1000 } else { 8 });
    let seed = number_from("DROPZONE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("DROPZONE_SEED={seed} DROPZONE_ROUNDS={rounds}");
    let Some(mut site) = Site::new() else { return };
    let (mut chance, mut lists, mut all) = (Chance(seed), Lists::of(&site), Vec::new());
    for round in 0..rounds {
        let mut waiting: Vec<List> = (0..TOGETHER).map(|_| lists.next()).collect();
        all.extend(waiting.iter().cloned());
        aim(&site, &mut chance);
        for _ in 0..6 {
            let one = &site;
            let taken: Vec<bool> = std::thread::scope(|scope| {
                let puts: Vec<_> = waiting
                    .iter()
                    .map(|list| scope.spawn(move || one.put(EXCHANGE, &list.name, &list.sent)))
                    .collect();
                puts.into_iter().map(|put| put.join().unwrap()).collect()
            });
            let mut taken = taken.into_iter();
            waiting.retain(|_| !taken.next().unwrap());
            site.start_all();
            if waiting.is_empty() {
                break;
            }
        }
        assert!(waiting.is_empty(), "seed {seed}, round {round}: {waiting:?} not taken");
        site.disk.heal();
        site.start_all();
        let recent = &all[all.len() - TOGETHER..];
        model::check(&site, recent, true)
            .unwrap_or_else(|what| panic!("DROPZONE_SEED={seed}, round {round}: {what}"));
    }
    model::check_all(&mut site, &all).unwrap_or_else(|what| panic!("DROPZONE_SEED={seed}: {what}"));
}

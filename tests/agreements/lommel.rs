//! Agreement 2: a list a year for the city of Lommel, whose key travels another way, and which does not stay.

use crate::people::insz;
use crate::shipped::{AGII, LOMMEL, LOMMEL_DESK, Shipped};

fn list(from: u64) -> String {
    let line = |at: u64| {
        format!("{},{},{}\n", insz(at), ["ja", "nee"][at as usize % 2], ["nee", "ja"][at as usize % 2])
    };
    std::iter::once("insz,contract,attest\n".to_owned()).chain((from..from + 40).map(line)).collect()
}

/// What `dropzone passphrase` shows.
fn passphrase(zone: &Shipped, name: &str) -> String {
    let shown = zone.dropzone(&["passphrase", "--piped", name]).must_succeed().text();
    let is_it = |word: &&str| word.chars().filter(char::is_ascii_alphanumeric).count() == 25;
    shown.split_whitespace().find(is_it).unwrap_or_else(|| panic!("no passphrase in {shown:?}")).to_owned()
}

#[test]
fn the_city_opens_its_list_with_a_passphrase_that_went_another_way_and_the_list_does_not_stay() {
    let zone = Shipped::lay_out();
    zone.edit("exchanges/lists-lommel.yaml", "grace: 1h", "grace: 1s");
    let mut zone = zone;
    zone.start_at("2025-03-03 10:00:00");
    zone.send(AGII, "lists-lommel", "lijst.csv.age", list(0));
    let receipt = zone.receipt("agii", "lists-lommel", "lijst.csv.age", "delivered");
    let name = receipt["deliveries"][0]["name"].as_str().unwrap().to_owned();
    let said = passphrase(&zone, &name);
    zone.dropzone(&["passphrase", "--piped", &name]).must_fail();
    assert!(zone.zone.search_tree(&said).is_empty(), "nowhere in clear");
    let file = zone.zone.download(LOMMEL, &format!("/lists-lommel/out/{name}"));
    assert_eq!(zone.unlock(&file, "wrong"), None);
    assert_eq!(zone.unlock(&file, &said).unwrap(), list(0).as_bytes());
    zone.zone.wait_for("the list to be gone", || {
        zone.zone.results("lommel", "lists-lommel").is_empty().then_some(())
    });
    let collected = zone.zone.logged(&[("event", "collect"), ("institution", "lommel")]);
    assert_eq!(collected[0]["key-label"], LOMMEL.key, "{collected:#?}");
    assert_eq!(zone.zone.logged(&[("event", "passphrase")]).len(), 1);
}

#[test]
fn only_people_whose_function_needs_it_see_the_exchange() {
    let zone = Shipped::at("2025-03-03 10:00:00");
    assert!(zone.listed(LOMMEL, "/").contains(&"lists-lommel".to_owned()));
    // Somebody of the city without such a function has no other exchange either.
    zone.zone.sftp(LOMMEL_DESK, "ls /").must_fail();
}

#[test]
fn a_second_list_in_the_same_calendar_year_is_held_and_the_next_year_s_is_not() {
    let mut zone = Shipped::at("2025-12-31 20:00:00");
    zone.send(AGII, "lists-lommel", "a.csv.age", list(0));
    zone.receipt("agii", "lists-lommel", "a.csv.age", "delivered");
    zone.send(AGII, "lists-lommel", "b.csv.age", list(50));
    let held = zone.receipt("agii", "lists-lommel", "b.csv.age", "held");
    assert_eq!(held["reason"]["code"], "surplus", "{held:#}");
    // New year in Brussels, and not yet in UTC.
    zone.go_on_at("2025-12-31 23:00:10");
    zone.send(AGII, "lists-lommel", "c.csv.age", list(100));
    zone.receipt("agii", "lists-lommel", "c.csv.age", "delivered");
}

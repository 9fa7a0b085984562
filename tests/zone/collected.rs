//! What counts as collected goes: a result that its receiver downloaded to the end or removed, with a record that says who has
//! it; and what does not count stays.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{AN, BO, Daemon, Zone};

const EXCHANGE: &str = r"
exchange: twice
agreement: {reference: ref-twice, title: Test, legal-basis: decreet, from: 2024-02-01}
parties:
  agency: [drop, collect]
  city: [collect]
collected: {by: download, grace: GRACE}
flows:
  - flow: hand-on
    from: [agency]
    accept: {names: ['*.age'], max-size: 10 MiB}
    job: relay
    to: [agency, city]
";

fn zone_with_grace(grace: &str) -> Zone {
    let mut zone = Zone::lay_out();
    let text = EXCHANGE.replace("GRACE", grace);
    fs::write(zone.directory().join("exchanges/twice.yaml"), text).unwrap();
    zone.start();
    zone
}

/// Hands a file on, and gives its name in both outboxes.
fn hand_on(zone: &Zone, exchange: &str, name: &str, content: &[u8]) -> String {
    zone.upload(AN, &format!("/{exchange}/in/{name}"), &zone.encrypt(content));
    let result = zone.result("city", exchange);
    zone.receipt(exchange, name, "delivered");
    result
}

fn collected(zone: &Zone) -> Vec<Value> {
    zone.logged(&[("event", "collect")])
}

fn wait_until_gone(zone: &Zone, institution: &str, exchange: &str) {
    zone.wait_for("the result to go", || zone.results(institution, exchange).is_empty().then_some(()));
}

#[test]
fn a_download_to_the_end_counts_and_takes_away_the_receivers_own_copy_and_no_other() {
    let zone = zone_with_grace("1s");
    let name = hand_on(&zone, "twice", "a.age", &[7; 3_000_000]);
    let path = format!("/twice/out/{name}");
    assert_eq!(
        zone.download(AN, &path).len(),
        zone.download(AN, &path).len(),
        "the agency's is another copy"
    );
    wait_until_gone(&zone, "agency", "twice");
    assert_eq!(
        zone.results("city", "twice"),
        [name.as_str()],
        "another institution's download does not count"
    );
    let of_agency = collected(&zone);
    assert!(of_agency.iter().all(|record| record["institution"] == "agency"), "{of_agency:?}");
    zone.download(BO, &path);
    wait_until_gone(&zone, "city", "twice");
    let [record] = zone.logged(&[("event", "collect"), ("institution", "city")]).try_into().unwrap();
    assert_eq!((&record["key-label"], &record["path"]), (&"bo".into(), &path.as_str().into()));
    assert!(record["bytes"].as_u64().unwrap() > 3_000_000 && record["session"].is_string(), "{record}");
    let [removed] = zone.logged(&[("event", "expire"), ("institution", "city")]).try_into().unwrap();
    assert_eq!((&removed["key-label"], &removed["path"]), (&"bo".into(), &path.as_str().into()));
    let told = removed["detail"].as_str().unwrap();
    assert!(told.contains("collected by this person at 20"), "{told}");
    assert!(zone.metric(Daemon::Serve, "dropzone_retention_deleted_total{kind=\"results\"}") == 2.0);
    assert!(crate::harness::observe::names(&zone.spool().join("collected")).is_empty());
}

#[test]
fn what_was_not_read_to_its_end_in_one_session_stays() {
    let zone = zone_with_grace("1s");
    let name = hand_on(&zone, "twice", "a.age", &[7; 3_000_000]);
    let (path, size) = (
        format!("/twice/out/{name}"),
        fs::metadata(zone.folder_of("outbox", "city", "twice").join(&name)).unwrap().len(),
    );
    // The rest of a file whose beginning came in another session.
    zone.put_here("rest", vec![0; 1_000_000]);
    zone.sftp(BO, &format!("reget {path} rest")).must_succeed();
    assert_eq!(zone.read_here("rest").len() as u64, size);
    zone.wait_for("the close to be recorded", || {
        (!zone.logged(&[("event", "close"), ("detail", "sent in part")]).is_empty()).then_some(())
    });
    // Parts of one session, through two handles, are all of it together.
    let script = format!(
        "client = sftp()\nhalf = {size} // 2\nfor begin, end in [(0, half), (half, {size})]:\n    with client.open({path:?}) as f:\n        f.seek(begin)\n        f.read(end - begin)\n"
    );
    // Longer than between two looks for what is to go.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(zone.results("city", "twice"), [name.as_str()]);
    assert!(collected(&zone).is_empty());
    if zone.python(BO, &script).is_some_and(|ran| ran.must_succeed().succeeded()) {
        wait_until_gone(&zone, "city", "twice");
        assert_eq!(collected(&zone).len(), 1);
    }
}

#[test]
fn a_collected_result_goes_after_a_restart_too_and_is_nowhere_to_be_seen_as_marked() {
    let mut zone = zone_with_grace("8s");
    let name = hand_on(&zone, "twice", "a.age", b"x");
    zone.download(BO, &format!("/twice/out/{name}"));
    zone.wait_for("the record", || (collected(&zone).len() == 1).then_some(()));
    zone.end_with(Signal::KILL);
    zone.start();
    let listing = zone.sftp(BO, "ls -la /twice/out").must_succeed().text();
    assert!(listing.contains(&name) && !listing.contains("json"), "its grace is not over: {listing}");
    wait_until_gone(&zone, "city", "twice");
    assert_eq!(zone.logged(&[("event", "expire"), ("key-label", "bo")]).len(), 1);
}

#[test]
fn where_only_a_removal_counts_a_download_changes_nothing_and_a_removal_is_a_collection() {
    let zone = Zone::new();
    let name = hand_on(&zone, "relay", "a.age", b"x");
    zone.download(BO, &format!("/relay/out/{name}"));
    zone.wait_for("the close", || {
        (!zone.logged(&[("event", "close"), ("key-label", "bo"), ("detail", "sent whole")]).is_empty())
            .then_some(())
    });
    assert!(collected(&zone).is_empty());
    assert_eq!(zone.results("city", "relay"), [name.as_str()]);
    zone.sftp(BO, &format!("rm /relay/out/{name}")).must_succeed();
    let [record] = collected(&zone).try_into().unwrap();
    assert_eq!((&record["key-label"], &record["detail"]), (&"bo".into(), &"removed by its receiver".into()));
    assert_eq!(zone.logged(&[("event", "remove"), ("detail", "collected")]).len(), 1, "as before");
}

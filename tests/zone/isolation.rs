//! What one institution can learn of another: nothing, not even whether something is there.

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::programs::recipient;
use crate::harness::{AN, BO, Daemon, Person, Zone, pid};

/// Every request on every path, and what the client hears. A path and its twin are named on each input line.
const PROBE: &str = r#"
client = sftp()
def probe(path):
    return {
        "stat": outcome(lambda: client.stat(path)),
        "lstat": outcome(lambda: client.lstat(path)),
        "list": outcome(lambda: client.listdir(path)),
        "read": outcome(lambda: client.open(path, "rb").read()),
        "write": outcome(lambda: client.open(path, "wb").close()),
        "append": outcome(lambda: client.open(path, "ab").close()),
        "exclusive": outcome(lambda: client.open(path, "xb").close()),
        "resume": outcome(lambda: client.open(path, "r+b").close()),
        "remove": outcome(lambda: client.remove(path)),
        "rename": outcome(lambda: client.rename(path, path + "x")),
        "onto": outcome(lambda: client.rename("/relay/in/nothing.age.part", path)),
        "replace": outcome(lambda: client.posix_rename(path, "/relay/in/mine.age")),
        "times": outcome(lambda: client.utime(path, (1, 1))),
        "size": outcome(lambda: client.truncate(path, 0)),
        "mode": outcome(lambda: client.chmod(path, 0o600)),
        "mkdir": outcome(lambda: client.mkdir(path)),
        "rmdir": outcome(lambda: client.rmdir(path)),
        "readlink": outcome(lambda: client.readlink(path)),
        "symlink": outcome(lambda: client.symlink(path, "/relay/out/link")),
    }
print(json.dumps([[one, probe(one), twin, probe(twin)] for one, twin in json.loads(read("pairs"))]))
"#;

/// Things of the agency's that a relay must not show to the city, in each state: waiting, unfinished, refused, held, done.
fn agency_leaves_something_everywhere(zone: &Zone) {
    let list = zone.encrypt("insz\n85073003328\n");
    zone.upload(AN, "/pillar-3/in/done.csv.age", &list);
    zone.receipt("pillar-3", "done.csv.age", "delivered");
    zone.upload(AN, "/pillar-3/in/held.csv.age", &zone.encrypt("insz\n1,2\n"));
    zone.receipt("pillar-3", "held.csv.age", "held");
    zone.put_here("plain", "insz\n");
    zone.sftp(AN, "put plain /relay/in/refused.age").must_fail();
    zone.receipt("relay", "refused.age", "refused");
    zone.upload(AN, "/relay/in/unfinished.age.part", &list);
    // Nobody takes what comes now.
    kill_process(pid(*zone.pids(Daemon::Work).last().unwrap()), Signal::STOP).unwrap();
    zone.upload(AN, "/relay/in/waiting.age", &list);
    zone.upload(AN, "/pillar-3/in/waiting.csv.age", &list);
}

fn pairs(zone: &Zone) -> Vec<[String; 2]> {
    let result = zone.result("agency", "pillar-3");
    // Every institution has a page and a key beside its own receipts.
    let receipts = |exchange: &str| {
        let names = crate::harness::observe::names(&zone.folder_of("receipts", "agency", exchange));
        names.into_iter().filter(|name| name.ends_with(".json")).collect::<Vec<_>>()
    };
    let (receipts, relay) = (receipts("pillar-3"), receipts("relay"));
    let mut paths: Vec<String> = ["", "/in", "/out", "/receipts", "/in/held.csv.age", "/in/waiting.csv.age"]
        .iter()
        .map(|path| format!("/pillar-3{path}"))
        .collect();
    paths.push(format!("/pillar-3/out/{result}"));
    paths.push(format!("/pillar-3/receipts/{}", receipts[0]));
    let mut pairs: Vec<[String; 2]> =
        paths.into_iter().map(|path| [path.clone(), path.replace("/pillar-3", "/no-such")]).collect();
    for (path, twin) in [
        ("/relay/in/waiting.age", "/relay/in/nothing.age"),
        ("/relay/in/unfinished.age.part", "/relay/in/nothing.age.part"),
        ("/relay/in/refused.age", "/relay/in/nothing.age"),
        (&format!("/relay/receipts/{}", relay[0]), "/relay/receipts/nothing.json"),
        (&format!("/relay/out/{result}"), "/relay/out/nothing.age"),
    ] {
        pairs.push([path.to_owned(), twin.to_owned()]);
    }
    pairs
}

#[test]
fn another_institutions_things_and_things_that_do_not_exist_get_the_same_answers() {
    let zone = Zone::new();
    agency_leaves_something_everywhere(&zone);
    let pairs = pairs(&zone);
    zone.put_here("pairs", json!(pairs).to_string());
    let before = everything(&zone);
    let ran = zone.python(BO, PROBE);
    assert_eq!(everything(&zone), before, "nothing was moved, made or removed");
    kill_process(pid(*zone.pids(Daemon::Work).last().unwrap()), Signal::CONT).unwrap();
    let Some(ran) = ran else { return };
    let probed: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    assert_eq!(probed.as_array().unwrap().len(), pairs.len());
    for line in probed.as_array().unwrap() {
        let [path, of_path, twin, of_twin] = line.as_array().unwrap().as_slice() else { panic!("{line}") };
        for (request, answer) in of_path.as_object().unwrap() {
            assert_eq!(answer, &of_twin[request], "{request} of {path} and of {twin}");
            assert_eq!(answer[0], "refused", "{request} of {path}");
        }
    }
}

/// Every file of the spool with its size.
fn everything(zone: &Zone) -> Vec<String> {
    let mut find = std::process::Command::new("find");
    find.arg(zone.spool()).args(["-type", "f", "-printf", "%P %s\n"]);
    let found = crate::harness::programs::run(&mut find).must_succeed().text();
    let mut lines: Vec<String> = found.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn everybody_sees_the_exchanges_of_their_own_agreements_only() {
    let zone = Zone::new();
    for (person, exchanges) in
        [(AN, vec!["notes", "pillar-3", "relay", "small"]), (BO, vec!["city-only", "relay", "small"])]
    {
        assert_eq!(listed(&zone, person, "/"), exchanges, "{person:?}");
        for exchange in exchanges {
            let folders = listed(&zone, person, &format!("/{exchange}"));
            assert_eq!(folders, ["in", "out", "receipts"]);
        }
    }
}

/// What `ls -1` shows, without the path.
fn listed(zone: &Zone, person: Person, path: &str) -> Vec<String> {
    let text = zone.sftp(person, &format!("ls -1 {path}")).must_succeed().text();
    let lines = text.lines().filter(|line| !line.starts_with("sftp>"));
    lines.map(|line| line.rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn both_sides_of_a_relay_see_their_own_side_of_it() {
    let zone = Zone::new();
    let city = recipient(&zone.identity_of("city"));
    zone.upload(AN, "/relay/in/a.age", &zone.age(b"insz\n", &["-r", &city]));
    let result = zone.result("city", "relay");
    let receipt = zone.receipt("relay", "a.age", "delivered");
    assert_eq!(listed(&zone, AN, "/relay/out"), Vec::<String>::new());
    let receipts = listed(&zone, AN, "/relay/receipts");
    assert_eq!(receipts.iter().filter(|name| name.ends_with(".json")).count(), 1, "{receipts:?}");
    assert_eq!(listed(&zone, BO, "/relay/out"), std::slice::from_ref(&result));
    assert_eq!(listed(&zone, BO, "/relay/receipts"), ["LEESMIJ-README.txt", "allowed_signers"]);
    assert_eq!(receipt["deliveries"][0]["name"], result.as_str());
    for (person, batch) in [
        (AN, format!("get /relay/out/{result}")),
        (AN, format!("rm /relay/out/{result}")),
        // A collector that may not drop, and a dropper that may not collect.
        (BO, "put .known-hosts /relay/in/b.age".to_owned()),
        (BO, "rename /relay/in/a.age /relay/in/b.age".to_owned()),
        (AN, "get /relay/in/a.age".to_owned()),
    ] {
        zone.sftp(person, &batch).must_fail();
    }
    assert_eq!(zone.results("city", "relay"), [result]);
}

#[test]
fn an_exchange_whose_agreement_has_ended_is_closed_to_everybody() {
    let zone = Zone::new();
    let outbox = zone.folder_of("outbox", "agency", "closed");
    std::fs::create_dir_all(&outbox).unwrap();
    std::fs::write(outbox.join("late.age"), "left over").unwrap();
    zone.put_here("a.age", zone.encrypt("insz\n"));
    for batch in [
        "put a.age /closed/in/a.age",
        "put a.age /closed/in/a.age.part",
        "get /closed/out/late.age",
        "rm /closed/out/late.age",
        "ls /closed",
        "ls /closed/out",
        "cd /closed/out",
    ] {
        zone.sftp(AN, batch).must_fail();
    }
    assert_eq!(zone.results("agency", "closed"), ["late.age"]);
    assert_eq!(zone.accepted(), 0);
    let denied = zone.logged(&[("outcome", "denied"), ("reason", "agreement-ended")]);
    assert!(denied.len() >= 2, "{denied:?}");
}

//! What clients do around an upload: ask before it, set times after it, rename it, send it again; and what they see of it.

use std::fs;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::observe::names;
use crate::harness::programs::sha256;
use crate::harness::{AN, Daemon, Zone, pid};

const LIST: &str = "insz\n85073003328\n";

fn pause_work(zone: &Zone, signal: Signal) {
    kill_process(pid(*zone.pids(Daemon::Work).last().unwrap()), signal).unwrap();
}

/// The descriptions of all arrivals in a state.
fn described(zone: &Zone, state: &str) -> Vec<Value> {
    let folder = zone.spool().join(state);
    let read = |name: &String| fs::read(folder.join(name).join("arrival.json")).unwrap();
    names(&folder).iter().map(|name| serde_json::from_slice(&read(name)).unwrap()).collect()
}

/// The questions that come when the worker has taken the file.
const PRELUDE: &str = r#"
import time
client = sftp()
content = read("winscp")
def gone():
    for _ in range(500):
        if not [name for name in client.listdir("/pillar-3/in") if name.endswith(".csv.age")]:
            return
        time.sleep(0.05)
    raise SystemExit("nobody took it")
def asked(name):
    gone()
    path = f"/pillar-3/in/{name}"
    return [client.stat(path).st_size, client.lstat(path).st_mtime, outcome(lambda: client.rename(path, path)),
        outcome(lambda: client.posix_rename(path, path)), outcome(lambda: client.utime(path, (5, 1700000001))),
        outcome(lambda: client.chmod(path, 0o600)), client.stat(path).st_mtime,
        outcome(lambda: client.truncate(path, len(content))), outcome(lambda: client.truncate(path, 3))]
"#;

#[test]
fn questions_and_settings_after_the_upload_keep_their_answers_when_the_worker_has_taken_it() {
    let zone = Zone::new();
    let clients = ["winscp", "lftp", "rclone", "append"];
    clients.iter().for_each(|client| drop(zone.put_here(client, zone.encrypt(LIST))));
    let script = PRELUDE.to_owned()
        + r#"
told = {}
path = "/pillar-3/in/winscp.csv.age"
told["absent"] = [outcome(lambda: client.lstat(path))[1], outcome(lambda: client.lstat(path + ".filepart"))[1]]
file = client.open(path + ".filepart", "wb")
file.write(content)
file.close()
client.rename(path + ".filepart", path)
client.utime(path, (5, 1700000000))
told["winscp"] = asked("winscp.csv.age")

content, path = read("lftp"), "/pillar-3/in/lftp.csv.age"
file = client.open("/pillar-3/in/.in.lftp.csv.age", "wb")
file.write(content)
attributes = paramiko.SFTPAttributes()
attributes.st_size, attributes.st_atime, attributes.st_mtime = len(content), 1700000000, 1700000000
client._request(paramiko.sftp.CMD_FSETSTAT, file.handle, attributes)
file.close()
told["remove"] = outcome(lambda: client.remove(path))[1]
client.rename("/pillar-3/in/.in.lftp.csv.age", path)
told["lftp"] = asked("lftp.csv.age")

content, path = read("rclone"), "/pillar-3/in/rclone.csv.age"
file = client.open(path + ".a1b2c3d4.partial", "wb")
file.write(content)
file.close()
client.posix_rename(path + ".a1b2c3d4.partial", path)
client.utime(path, (5, 1700000000))
told["rclone"] = asked("rclone.csv.age")

content = read("append")
file = client.open("/pillar-3/in/append.csv.age", "ab")
for at in range(0, len(content), 50):
    client._request(paramiko.sftp.CMD_WRITE, file.handle, paramiko.sftp.int64(at), content[at:at + 50])
file.close()
told["append"] = asked("append.csv.age")
print(json.dumps(told))
"#;
    let Some(ran) = zone.python(AN, &script) else { return };
    let told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    assert_eq!(told["absent"], serde_json::json!([2, 2]));
    assert_eq!(told["remove"], 2);
    for client in clients {
        let answers = told[client].as_array().unwrap();
        assert_eq!(answers[0], zone.read_here(client).len(), "{client}");
        if client != "append" {
            assert_eq!(answers[1], 1_700_000_000, "{client}");
        }
        for (at, what) in [(2, "rename"), (3, "posix-rename"), (4, "times"), (5, "mode"), (7, "its size")] {
            assert_eq!(answers[at][0], "ok", "{client}: {what}: {answers:?}");
        }
        assert_eq!(answers[6], 1_700_000_001, "{client}");
        assert_eq!(answers[8][0], "refused", "{client}: another size");
        zone.receipt("pillar-3", &format!("{client}.csv.age"), "delivered");
    }
    let mtime =
        |name: &str| described(&zone, "done").iter().find(|a| a["name"] == name).unwrap()["mtime"].clone();
    zone.wait_for("all to be done", || (described(&zone, "done").len() == 4).then_some(()));
    assert_eq!(mtime("lftp.csv.age"), 1_700_000_000, "what was set before the end is part of the arrival");
}

#[test]
fn a_file_that_is_sent_again_is_one_arrival_also_when_it_is_done_and_after_a_restart() {
    let mut zone = Zone::new();
    let list = zone.encrypt(LIST);
    zone.upload(AN, "/pillar-3/in/list.csv.age", &list);
    zone.receipt("pillar-3", "list.csv.age", "delivered");
    zone.wait_for("the arrival to be done", || (zone.arrivals("done").len() == 1).then_some(()));
    zone.upload(AN, "/pillar-3/in/list.csv.age", &list);
    assert_eq!(zone.accepted(), 1);
    zone.end_with(Signal::TERM);
    zone.start();
    zone.upload(AN, "/pillar-3/in/list.csv.age", &list);
    assert_eq!(zone.accepted(), 1);
    let repeated = zone.logged(&[("event", "close"), ("detail", "the same as this arrival")]);
    assert_eq!(repeated.len(), 2);
    assert_eq!(
        (&repeated[0]["sha256"], &repeated[0]["arrival"]),
        (&sha256(&list).into(), &zone.arrivals("done")[0].clone().into())
    );
    zone.upload(AN, "/pillar-3/in/list.csv.age", &zone.encrypt(LIST));
    zone.wait_for("other content to be another arrival", || (zone.arrivals("done").len() == 2).then_some(()));
}

#[test]
fn a_file_under_a_name_that_is_taken_is_refused_or_versioned_as_the_flow_says() {
    let mut zone = Zone::lay_out();
    let file = zone.directory().join("exchanges/relay.yaml");
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace(r#"names: ["*.age"], max"#, r#"names: ["*.age"], collision: version, max"#);
    assert!(text.contains("version"));
    fs::write(&file, text).unwrap();
    zone.start();
    pause_work(&zone, Signal::STOP);
    let files: Vec<Vec<u8>> = (0..3).map(|_| zone.encrypt(LIST)).collect();
    for file in [&files[0], &files[1], &files[2], &files[1]] {
        zone.upload(AN, "/relay/in/list.age", file);
    }
    let mut there: Vec<(String, String)> = described(&zone, "incoming")
        .iter()
        .map(|arrival| {
            (arrival["name"].as_str().unwrap().to_owned(), arrival["sha256"].as_str().unwrap().to_owned())
        })
        .collect();
    there.sort();
    let names = ["list.2.age", "list.3.age", "list.age"].map(str::to_owned);
    assert_eq!(
        there,
        [
            (names[0].clone(), sha256(&files[1])),
            (names[1].clone(), sha256(&files[2])),
            (names[2].clone(), sha256(&files[0]))
        ]
    );
    let [line] = zone.logged(&[("event", "publish"), ("path", "/relay/in/list.2.age")]).try_into().unwrap();
    assert_eq!(line["detail"], "sent as list.age, which is in use");

    zone.upload(AN, "/pillar-3/in/list.csv.age", &files[0]);
    zone.put_here("other", &files[1]);
    zone.sftp(AN, "put other /pillar-3/in/list.csv.age").must_fail();
    // The same size, a client that swallows the answers, and a question that must not be answered with the other file.
    let script = "print(json.dumps(outcome(lambda: sftp().put('other', '/pillar-3/in/list.csv.age')))); sys.stdout.flush(); os._exit(0)";
    if let Some(ran) = zone.python(AN, script) {
        let told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
        assert_eq!(told[0], "refused", "{told}");
    }
    assert_eq!(zone.arrivals("incoming").len(), 4);
    pause_work(&zone, Signal::CONT);
    zone.receipt("pillar-3", "list.csv.age", "refused");
    zone.receipt("relay", "list.3.age", "delivered");
}

#[test]
fn a_listing_says_how_far_each_file_has_come() {
    let zone = Zone::new();
    zone.put_here("bad", zone.encrypt("insz\n1,2\n"));
    zone.sftp(AN, "put bad /pillar-3/in/held.csv.age").must_succeed();
    zone.wait_for("a held arrival", || (zone.arrivals("hold").len() == 1).then_some(()));
    pause_work(&zone, Signal::STOP);
    zone.put_here("list", zone.encrypt(LIST));
    zone.sftp(AN, "put list /pillar-3/in/a.csv.age\nput list /pillar-3/in/b.csv.age.part").must_succeed();
    let text = zone.sftp(AN, "ls -l /pillar-3/in").must_succeed().text();
    pause_work(&zone, Signal::CONT);
    for (name, mode, state) in [
        ("held.csv.age", "-r--r-----", "hold"),
        ("a.csv.age", "-r--r-----", "incoming"),
        ("b.csv.age.part", "-rw-r-----", "partial"),
    ] {
        let line = text
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")))
            .unwrap_or_else(|| panic!("no {name} in {text}"));
        assert!(line.starts_with(mode) && line.split_whitespace().nth(3) == Some(state), "{line}");
    }
}

#[test]
fn who_fetched_all_of_a_result_is_recorded() {
    let zone = Zone::new();
    fs::write(zone.folder_of("outbox", "agency", "pillar-3").join("result.age"), vec![7; 300_000]).unwrap();
    zone.sftp(AN, "get /pillar-3/out/result.age got").must_succeed();
    let script =
        "file = sftp().open('/pillar-3/out/result.age', 'rb'); file.read(1000); file.close(); os._exit(0)";
    let _ = zone.python(AN, script);
    let closed = |detail: &str| {
        zone.logged(&[
            ("event", "close"),
            ("path", "/pillar-3/out/result.age"),
            ("detail", detail),
            ("key-label", "an"),
        ])
    };
    assert_eq!(closed("sent whole").len(), 1);
    if std::env::var_os("DROPZONE_TEST_PYTHON").is_some() {
        zone.wait_for("the end of the second", || (closed("sent in part").len() == 1).then_some(()));
    }
    zone.sftp(AN, "rm /pillar-3/receipts/result.age.json").must_fail();
}

#[test]
fn questions_about_places_of_others_are_recorded_a_few_times_and_counted() {
    let zone = Zone::new();
    let script = "client = sftp()\nfor _ in range(50): outcome(lambda: client.stat('/city-only/in/a.age')); outcome(lambda: client.stat('/none/in/a.age'))\nos._exit(0)";
    let Some(_) = zone.python(AN, script) else { return };
    zone.wait_for("the end of the session", || {
        (!zone.logged(&[("event", "logout")]).is_empty()).then_some(())
    });
    let recorded = ["/city-only/in/a.age", "/none/in/a.age"].map(|path| zone.logged(&[("path", path)]).len());
    assert_eq!(recorded, [10, 10]);
    zone.sftp(AN, "put .known-hosts /pillar-3/in/wrong.name").must_fail();
    assert!(zone.metric(Daemon::Serve, "dropzone_requests_denied_total{reason=\"name-not-accepted\"}") > 0.5);
}

#[test]
fn a_folder_of_five_thousand_arrivals_is_listed_and_asked_about() {
    let zone = Zone::new();
    pause_work(&zone, Signal::STOP);
    zone.upload(AN, "/pillar-3/in/0.csv.age", &zone.encrypt(LIST));
    let first = zone.arrivals("incoming").remove(0);
    let (folder, mut arrival) = (zone.spool().join("incoming"), described(&zone, "incoming").remove(0));
    for number in 1..5_000 {
        let name = format!("{number}.csv.age");
        let id = first.replace(&sha256(b"0.csv.age")[..8], &sha256(name.as_bytes())[..8]);
        (arrival["id"], arrival["name"]) = (id.clone().into(), name.into());
        fs::create_dir(folder.join(&id)).unwrap();
        fs::write(folder.join(&id).join("arrival.json"), arrival.to_string()).unwrap();
    }
    let script = r#"
import time
client = sftp()
start = time.time()
names = client.listdir("/pillar-3/in")
listed = time.time()
sizes = {client.stat(f"/pillar-3/in/{at}.csv.age").st_size for at in range(0, 5000, 25)}
asked = time.time()
absent = [outcome(lambda: client.stat(f"/pillar-3/in/none-{at}.csv.age"))[0] for at in range(200)]
print(json.dumps([len(names), len(sizes), absent.count("refused"), listed - start, asked - listed, time.time() - asked]))
"#;
    let ran = zone.python(AN, script);
    // Nobody is to work on what is no file.
    pause_work(&zone, Signal::KILL);
    let Some(ran) = ran else { return };
    let told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    eprintln!("seconds for a listing, 200 questions, 200 in vain: {} {} {}", told[3], told[4], told[5]);
    assert_eq!((&told[0], &told[1], &told[2]), (&5_000.into(), &1.into(), &200.into()), "{told}");
}

#[test]
fn a_list_that_is_held_is_mended_and_sent_again_under_its_name() {
    let zone = Zone::new();
    zone.upload(AN, "/pillar-3/in/mended.csv.age", &zone.encrypt("no such column\n85073003328\n"));
    zone.receipt("pillar-3", "mended.csv.age", "held");
    zone.wait_for("the hold", || (zone.arrivals("hold").len() == 1).then_some(()));
    zone.upload(AN, "/pillar-3/in/mended.csv.age", &zone.encrypt(LIST));
    zone.receipt("pillar-3", "mended.csv.age", "delivered");
    assert_eq!(zone.arrivals("hold").len(), 1, "what is held waits on for its operator");
    let listed = zone.sftp(AN, "ls -1 /pillar-3/in").must_succeed().text();
    assert_eq!(listed.matches("mended.csv.age").count(), 1, "{listed}");
}

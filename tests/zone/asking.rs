//! Is it for us? A file for somebody else is refused at its beginning, because `serve` asks `work`; what happens when `work`
//! does not answer; and that a relayed file is nobody's business here.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::programs::recipient;
use crate::harness::{AN, Daemon, Zone, pid};

const LIST: &[u8] = b"insz\n85073003328\n";

/// One exchange in which a file is looked into or handed on, as its name says.
const MIXED: &str = r#"exchange: mixed
agreement: {reference: ref-mixed, title: Test, legal-basis: decreet van 18 juli 2008, from: 2023-03-03}
parties:
  agency: [drop, collect]
  city: [collect]
flows:
  - flow: enrich
    from: [agency]
    accept: {names: ["*.csv.age"], max-size: 1 GiB, armored: true, unasked: refuse}
    job:
      query:
        database: register
        sql: SELECT arrival.insz, j.category FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz
    to: [agency]
  - flow: hand-on
    from: [agency]
    accept: {names: ["*.age"], max-size: 1 GiB}
    job: relay
    to: [city]
"#;

fn mixed_zone() -> Zone {
    let mut zone = Zone::lay_out();
    fs::write(zone.directory().join("exchanges/mixed.yaml"), MIXED).unwrap();
    zone.start();
    zone
}

fn for_the_city(zone: &Zone, list: &[u8]) -> Vec<u8> {
    zone.age(list, &["-r", &recipient(&zone.identity_of("city"))])
}

fn socket(zone: &Zone) -> PathBuf {
    zone.directory().join("run/work.sock")
}

/// How often `work` gave this answer; `none` counts its silence.
fn answers(zone: &Zone, answer: &str) -> f64 {
    zone.metric(Daemon::Serve, &format!("dropzone_questions_total{{answer=\"{answer}\"}}"))
}

fn refusals(zone: &Zone, path: &str) -> Vec<Value> {
    let lines = zone.logged(&[("event", "refuse"), ("path", path)]);
    lines.into_iter().map(|line| json!([line["outcome"], line["reason"]])).collect()
}

/// `dropzone run` again: `work` makes its socket anew.
fn restart(zone: &mut Zone) {
    zone.end_with(Signal::TERM);
    zone.start();
}

/// Takes the place of `work` at its socket; `work` itself goes on with its jobs.
fn in_its_place(zone: &Zone) -> UnixListener {
    fs::remove_file(socket(zone)).unwrap();
    UnixListener::bind(socket(zone)).unwrap()
}

#[test]
fn a_large_file_for_somebody_else_is_refused_before_any_of_it_reaches_the_disk() {
    let zone = Zone::new();
    let before = zone.partials_changed();
    let binary = for_the_city(&zone, &vec![b'x'; 32 << 20]);
    let armored = zone.age(&vec![b'x'; 32 << 20], &["-a", "-r", &recipient(&zone.identity_of("city"))]);
    for (name, content) in [("binary.csv.age", binary), ("armored.csv.age", armored)] {
        zone.put_here(name, content);
        zone.sftp(AN, &format!("put {name} /pillar-3/in/{name}")).must_fail();
        let path = format!("/pillar-3/in/{name}");
        assert_eq!(refusals(&zone, &path), [json!(["denied", "not-for-us"])]);
        let receipt = zone.receipt("pillar-3", name, "refused");
        assert_eq!(receipt["reason"]["code"], "not-for-us");
        assert!(receipt["reason"]["nl"].as_str().unwrap().contains("publieke sleutel"), "{receipt:#}");
        let seen = receipt["size"].as_u64().unwrap();
        assert!(
            seen <= 255 << 10,
            "refused by the packet that completes the header, which is the first: {seen}"
        );
    }
    assert_eq!(zone.partials_changed(), before, "nothing was ever written");
    assert_eq!(zone.accepted(), 0);
    assert_eq!((answers(&zone, "not-for-us"), answers(&zone, "none")), (2.0, 0.0));
}

#[test]
fn no_more_than_the_header_is_taken_from_a_client_that_waits_for_each_answer() {
    let zone = Zone::new();
    zone.put_here("foreign", for_the_city(&zone, &vec![b'x'; 1 << 20]));
    let script = r"
content, client, taken = read('foreign'), sftp(), 0
file = client.open('/pillar-3/in/a.csv.age', 'wb')
def write_all():
    global taken
    for at in range(0, len(content), 50):
        file.write(content[at:at + 50])
        file.flush()
        taken += 50
told = outcome(write_all)
print(json.dumps([told[0], taken, content.index(b'\n--- ') + 49])); sys.stdout.flush(); os._exit(0)
";
    let Some(ran) = zone.python(AN, script) else { return };
    let told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    assert_eq!(told[0], "refused", "{told}");
    assert!(told[1].as_u64().unwrap() < told[2].as_u64().unwrap(), "not even the end of the header: {told}");
    zone.receipt("pillar-3", "a.csv.age", "refused");
}

#[test]
fn an_upload_is_asked_about_once_and_a_relayed_one_never() {
    let zone = mixed_zone();
    // Each file is another: the same one again would be the same arrival.
    for (at, path) in
        ["/pillar-3/in/a.csv.age", "/pillar-3/in/b.csv.age", "/mixed/in/c.csv.age"].iter().enumerate()
    {
        zone.upload(AN, path, &zone.encrypt(LIST));
        assert_eq!(answers(&zone, "opens"), (at + 1) as f64, "{path}");
    }
    zone.put_here("d", zone.encrypt(LIST));
    zone.sftp(AN, "put d /mixed/in/d.csv.age.part\nrename /mixed/in/d.csv.age.part /mixed/in/d.csv.age")
        .must_succeed();
    assert_eq!(answers(&zone, "opens"), 4.0, "the answer under the temporary name is good enough");
    zone.upload(AN, "/relay/in/a.age", &for_the_city(&zone, LIST));
    zone.upload(AN, "/mixed/in/a.age", &for_the_city(&zone, LIST));
    zone.put_here("b", for_the_city(&zone, LIST));
    zone.sftp(AN, "put b /mixed/in/b.age.part\nrename /mixed/in/b.age.part /mixed/in/b.age").must_succeed();
    for (exchange, name) in [("relay", "a.age"), ("mixed", "a.age"), ("mixed", "b.age")] {
        zone.receipt(exchange, name, "delivered");
    }
    assert_eq!(
        (answers(&zone, "opens"), answers(&zone, "not-for-us"), answers(&zone, "none")),
        (4.0, 0.0, 0.0)
    );
}

#[test]
fn a_temporary_name_that_may_become_anything_is_asked_about_when_it_is_renamed() {
    let zone = mixed_zone();
    zone.put_here("foreign", for_the_city(&zone, LIST));
    zone.put_here("armored", zone.age(LIST, &["-a", "-r", &recipient(&zone.identity_of("city"))]));
    // In the session that uploaded it, and from the disk in another one.
    for (at, between) in ["\n", "\nquit"].iter().enumerate() {
        zone.put_here("ours", zone.age(LIST, &["-a", "-r", &zone.recipient()]));
        for (name, verdict) in [("foreign", false), ("armored", false), ("ours", true)] {
            let (temporary, last) = (format!("/mixed/in/{name}{at}.tmp"), format!("{name}{at}.csv.age"));
            let rename = format!("rename {temporary} /mixed/in/{last}");
            let renamed = if *between == "\n" {
                zone.sftp(AN, &format!("put {name} {temporary}\n{rename}"))
            } else {
                zone.sftp(AN, &format!("put {name} {temporary}")).must_succeed();
                zone.sftp(AN, &rename)
            };
            if verdict {
                renamed.must_succeed();
                zone.receipt("mixed", &last, "delivered");
            } else {
                renamed.must_fail();
                assert_eq!(refusals(&zone, &format!("/mixed/in/{last}")), [json!(["denied", "not-for-us"])]);
                assert_eq!(zone.receipt("mixed", &last, "refused")["reason"]["code"], "not-for-us");
            }
        }
    }
    assert!(zone.partials().is_empty(), "{:?}", zone.partials());
    // A name that says what it is meant for is not waited with.
    zone.sftp(AN, "put foreign /mixed/in/early.csv.age.filepart").must_fail();
    assert_eq!(refusals(&zone, "/mixed/in/early.csv.age.filepart"), [json!(["denied", "not-for-us"])]);
}

#[test]
fn while_nobody_answers_the_rule_of_the_flow_decides() {
    let mut zone = mixed_zone();
    // What stands in for `work`: nobody, somebody who talks nonsense, somebody who never says a word.
    for (at, stand_in) in ["nobody", "nonsense", "silence"].iter().enumerate() {
        let listener = in_its_place(&zone);
        match *stand_in {
            "nobody" => fs::remove_file(socket(&zone)).unwrap(),
            "nonsense" => {
                let listener = listener.try_clone().unwrap();
                // It ends with the test.
                std::thread::spawn(move || {
                    for stream in listener.incoming() {
                        let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                    }
                });
            }
            _ => {}
        }
        let name = format!("{stand_in}.csv.age");
        zone.put_here("ours", zone.encrypt(LIST));
        zone.upload(AN, &format!("/pillar-3/in/{name}"), &for_the_city(&zone, LIST));
        let [line] = zone
            .logged(&[("event", "publish"), ("path", &format!("/pillar-3/in/{name}"))])
            .try_into()
            .unwrap();
        assert!(line["detail"].as_str().unwrap().contains("could not be asked"), "{line:#}");
        assert_eq!(zone.receipt("pillar-3", &name, "held")["reason"]["code"], "not-for-us", "{stand_in}");
        let partials = zone.partials_changed();
        zone.sftp(AN, &format!("put ours /mixed/in/{name}")).must_fail();
        assert_eq!(refusals(&zone, &format!("/mixed/in/{name}")), [json!(["failed", "cannot-be-checked"])]);
        assert_eq!(zone.partials_changed(), partials);
        assert!(answers(&zone, "none") >= 3.0);
        let waited = zone.metric(Daemon::Serve, "dropzone_question_duration_seconds_sum");
        assert!(waited < 30.0, "one wait for all: {waited}");
        drop(listener);
        if *stand_in == "nonsense" {
            // Somebody still answers there, and `work` would not take that away.
            fs::remove_file(socket(&zone)).unwrap();
        }
        // The socket that nobody answers at is replaced at the next start.
        restart(&mut zone);
        zone.sftp(AN, &format!("put ours /mixed/in/{name}")).must_succeed();
        zone.receipt("mixed", &name, "delivered");
        assert!(zone.receipts("agency", "mixed").len() == at + 1, "no receipt speaks of the first try");
    }
    assert!(zone.arrivals("refused").is_empty());
}

#[test]
fn a_complete_upload_that_cannot_be_checked_yet_stays_until_it_can() {
    let mut zone = mixed_zone();
    zone.put_here("ours", zone.encrypt(vec![b'x'; 1 << 20]));
    zone.sftp(AN, "put ours /mixed/in/upload.tmp").must_succeed();
    drop(in_its_place(&zone));
    let rename = "rename /mixed/in/upload.tmp /mixed/in/list.csv.age";
    zone.sftp(AN, rename).must_fail();
    zone.sftp(AN, &format!("-{rename}\n-{rename}")).must_succeed();
    assert_eq!(refusals(&zone, "/mixed/in/list.csv.age"), vec![json!(["failed", "cannot-be-checked"]); 3]);
    assert_eq!(zone.partials(), ["agency.mixed/upload.tmp/payload.age"]);
    restart(&mut zone);
    zone.sftp(AN, rename).must_succeed();
    zone.wait_for("its job", || (!zone.receipts("agency", "mixed").is_empty()).then_some(()));
    assert!(zone.partials().is_empty());
}

#[test]
fn an_upload_that_was_taken_unasked_is_asked_about_when_it_goes_on() {
    let mut zone = Zone::new();
    zone.put_here("foreign", for_the_city(&zone, &vec![b'x'; 1 << 20]));
    drop(in_its_place(&zone));
    let half = r"
file = sftp().open('/pillar-3/in/a.csv.age', 'wb')
file.write(read('foreign')[:500000])
file.flush()
os._exit(0)
";
    let Some(ran) = zone.python(AN, half) else { return };
    ran.must_succeed();
    zone.wait_for("the half", || (!zone.partials().is_empty()).then_some(()));
    restart(&mut zone);
    let rest = "print(json.dumps(outcome(lambda: sftp().open('/pillar-3/in/a.csv.age', 'r+b')))); sys.stdout.flush(); os._exit(0)";
    let told: Value = serde_json::from_str(&zone.python(AN, rest).unwrap().must_succeed().text()).unwrap();
    assert_eq!(told[0], "refused", "{told}");
    assert_eq!(zone.receipt("pillar-3", "a.csv.age", "refused")["reason"]["code"], "not-for-us");
    assert!(zone.partials().is_empty());
}

#[test]
fn a_job_side_that_hangs_holds_up_nobody_for_long() {
    let zone = Zone::new();
    let work = pid(*zone.pids(Daemon::Work).last().unwrap());
    kill_process(work, Signal::STOP).unwrap();
    let names: Vec<String> = (0..40).map(|at| format!("{at}.csv.age")).collect();
    let mut batch = String::new();
    for name in &names {
        zone.put_here(name, zone.encrypt(LIST));
        batch += &format!("put {name} /pillar-3/in/{name}\n");
    }
    let uploaded = zone.sftp(AN, &batch);
    kill_process(work, Signal::CONT).unwrap();
    uploaded.must_succeed();
    for name in &names {
        zone.receipt("pillar-3", name, "delivered");
    }
}

//! A zone is copied while it works, the copy says what it is worth, and a zone that is made of it goes on where the first was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::observe::names;
use crate::harness::programs::{Ran, run, run_with_input, sha256};
use crate::harness::{AN, Zone};

const LIST: &str = "insz\n85073003328\n";

fn dropzone(zone: &Zone, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    run(command.arg("--config").arg(zone.directory()).args(arguments))
}

fn backup(zone: &Zone, to: &Path) -> Value {
    let told = dropzone(zone, &["backup", to.to_str().unwrap(), "--json"]).must_succeed().text();
    serde_json::from_str(&told).unwrap()
}

fn verify(zone: &Zone, backup: &Path, more: &[&str]) -> Ran {
    let mut arguments = vec!["restore", backup.to_str().unwrap(), "--verify"];
    arguments.extend(more);
    dropzone(zone, &arguments)
}

fn manifest(backup: &Path) -> Value {
    serde_json::from_slice(&fs::read(backup.join("manifest.json")).unwrap()).unwrap()
}

/// Every file below a folder, relative to it.
fn files(folder: &Path) -> Vec<String> {
    let mut find = Command::new("find");
    let text = run(find.arg(folder).args(["-type", "f", "-printf", "%P\n"])).must_succeed().text();
    let mut files: Vec<String> = text.lines().map(str::to_owned).collect();
    files.sort();
    files
}

/// The names of the arrivals in a backup by state, each as its sender called it.
fn arrivals(backup: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for state in names(&backup.join("spool")) {
        for id in names(&backup.join("spool").join(&state)) {
            let described = backup.join("spool").join(&state).join(id).join("arrival.json");
            let Ok(text) = fs::read(described) else { continue };
            let arrival: Value = serde_json::from_slice(&text).unwrap();
            all.push((state.clone(), arrival["name"].as_str().unwrap().to_owned()));
        }
    }
    all
}

/// Ends the zone, and puts one that is made of a backup in its place, with the keys and databases of the first.
fn replace(zone: &mut Zone, backup: &Path) {
    zone.end_with(Signal::TERM);
    let (here, old) = (zone.directory(), zone.directory().with_file_name("old"));
    fs::rename(&here, &old).unwrap();
    let mut restore = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    // By a relative path, as an operator who stands beside it types it.
    restore.current_dir(backup.parent().unwrap()).arg("restore").arg(backup.file_name().unwrap());
    let told = run(restore.arg("--to").arg(&here)).must_succeed().text();
    assert!(told.contains("keys/zone.agekey"), "{told}");
    assert!(here.join("run").is_dir(), "a zone without the folder of its sockets does not start");
    for name in names(&old.join("keys")) {
        fs::copy(old.join("keys").join(&name), here.join("keys").join(&name)).unwrap();
    }
    fs::copy(old.join("register.db"), here.join("register.db")).unwrap();
}

/// One arrival that was delivered, one that is refused, one that will be tried again, one that is held, one in `incoming`.
fn in_all_states(zone: &Zone) {
    zone.upload(AN, "/pillar-3/in/done.csv.age", &zone.encrypt(LIST));
    zone.receipt("pillar-3", "done.csv.age", "delivered");
    zone.put_here("refused.age", "plaintext");
    zone.sftp(AN, "put refused.age /relay/in/refused.age").must_fail();
    zone.receipt("relay", "refused.age", "refused");
    zone.upload(AN, "/pillar-3/in/held.csv.age", &zone.encrypt("no,such\ncolumns\n\"\n"));
    zone.receipt("pillar-3", "held.csv.age", "held");
    fs::rename(zone.register(), zone.register().with_extension("away")).unwrap();
    zone.upload(AN, "/pillar-3/in/deferred.csv.age", &zone.encrypt(LIST));
    zone.wait_for("a deferred arrival", || (zone.arrivals("deferred").len() == 1).then_some(()));
}

#[test]
fn a_zone_made_of_a_backup_delivers_what_was_waiting_and_can_prove_its_log() {
    let mut zone = Zone::new();
    in_all_states(&zone);
    let copy = zone.here().join("backup");
    let told = backup(&zone, &copy);
    assert_eq!(told["arrivals"], serde_json::json!({"deferred": 1, "done": 1, "hold": 1, "refused": 1}));
    verify(&zone, &copy, &[]).must_succeed();
    fs::rename(zone.register().with_extension("away"), zone.register()).unwrap();
    let result = zone.result("agency", "pillar-3");
    let collected = zone.download(AN, &format!("/pillar-3/out/{result}"));
    replace(&mut zone, &copy);
    assert_eq!(
        modes(&zone.directory()),
        modes(&zone.directory().with_file_name("old")),
        "modes are those of a zone"
    );
    let tries = |zone: PathBuf| {
        let deferred = zone.join("spool/deferred");
        deferred.join(&names(&deferred)[0]).join("tries.json")
    };
    let (due, was) = (tries(zone.directory()), tries(copy.clone()));
    let manifest = manifest(&copy);
    let was = was.strip_prefix(&copy).unwrap().to_str().unwrap();
    let entry = manifest["files"].as_array().unwrap().iter().find(|entry| entry["path"] == was).unwrap();
    assert_eq!(
        fs::metadata(&due).unwrap().mtime(),
        entry["mtime"].as_i64().unwrap(),
        "it keeps its next try"
    );
    run(Command::new("touch").args(["-d", "2020-01-01"]).arg(due)).must_succeed();
    zone.start();
    zone.receipt("pillar-3", "deferred.csv.age", "delivered");
    assert_eq!(zone.results("agency", "pillar-3").len(), 2, "what was waiting, and what was there");
    assert_eq!(zone.download(AN, &format!("/pillar-3/out/{result}")), collected);
    assert_eq!(zone.arrivals("hold").len(), 1);
    let back = zone.logged(&[("event", "backup")]);
    let details: Vec<&str> = back.iter().map(|line| line["detail"].as_str().unwrap()).collect();
    assert!(
        details.len() == 2 && details[0] == "begun" && details[1].starts_with("came back"),
        "{details:?}"
    );
    zone.end_with(Signal::TERM);
    dropzone(&zone, &["log", "verify"]).must_succeed();
    dropzone(&zone, &["check"]).must_succeed();
}

/// The modes of all folders that a zone begins with.
fn modes(zone: &Path) -> BTreeMap<&'static str, u32> {
    let mode = |name| fs::metadata(zone.join(name)).unwrap().mode() & 0o7777;
    let names = [".", "keys", "institutions", "exchanges", "spool", "spool/done", "log", "log/heads", "run"];
    let files = ["dropzone.yaml", "institutions/agency.yaml", "exchanges/relay.yaml"];
    names.into_iter().chain(files).map(|name| (name, mode(name))).collect()
}

#[test]
fn a_backup_holds_everything_but_secrets_and_stock_programs_can_check_it() {
    let zone = Zone::new();
    in_all_states(&zone);
    let copy = zone.here().join("backup");
    let told = backup(&zone, &copy);
    let text = fs::read(copy.join("manifest.json")).unwrap();
    assert_eq!(told["manifest-sha256"], sha256(&text));
    run(Command::new("sha256sum").args(["-c", "manifest.sha256"]).current_dir(&copy)).must_succeed();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "verify", "-I", "dropzone-zone", "-n", "backup@dropzone", "-f"]);
    keygen.arg(copy.join("log/heads/allowed_signers")).arg("-s").arg(copy.join("manifest.json.sig"));
    run_with_input(&mut keygen, &String::from_utf8(text).unwrap()).must_succeed();
    // Recorded before anything was copied, and with the digest of what came of it.
    let records = zone.logged(&[("event", "backup"), ("process", "cli")]);
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["sha256"], told["manifest-sha256"]);
    assert!(records[0]["operator"].as_str().unwrap().starts_with("uid "), "{records:?}");
    // Whoever has the backup and not the keys can open nothing with it.
    for key in ["zone.agekey", "signing_ed25519", "ssh_host_ed25519_key"] {
        let secret = fs::read_to_string(zone.directory().join("keys").join(key)).unwrap();
        let line = secret.lines().find(|line| !line.starts_with(['#', '-'])).unwrap();
        let mut grep = Command::new("grep");
        assert_eq!(run(grep.args(["-r", "-F", "-q", "-e", line]).arg(&copy)).code, Some(1), "{key}");
    }
    let needed = told["keys"].as_array().unwrap();
    assert_eq!(needed.len(), 3);
    assert_eq!(needed[2]["public"], zone.recipient());
    // Nobody but its owner can look into it.
    let mut find = Command::new("find");
    assert_eq!(run(find.arg(&copy).args(["-perm", "/077"])).text(), "");
    assert!(files(&copy).iter().all(|file| !file.starts_with("spool/partial")));
}

#[test]
fn nothing_is_written_over_anything() {
    let zone = Zone::new();
    let copy = zone.here().join("backup");
    backup(&zone, &copy);
    let before = files(&copy);
    let shown = copy.to_str().unwrap();
    assert_eq!(dropzone(&zone, &["backup", shown]).must_fail().code, Some(73));
    let inside = zone.spool().join("done/backup");
    assert_eq!(dropzone(&zone, &["backup", inside.to_str().unwrap()]).must_fail().code, Some(73));
    assert!(!inside.exists(), "a backup must not copy itself");
    let target = zone.directory();
    let ran = dropzone(&zone, &["restore", shown, "--to", target.to_str().unwrap()]).must_fail();
    assert!(ran.code == Some(73) && ran.stderr.contains("not empty"), "{ran:?}");
    assert_eq!(dropzone(&zone, &["restore", "/nonexistent", "--verify"]).code, Some(66));
    assert_eq!(dropzone(&zone, &["restore", shown]).code, Some(64));
    assert_eq!(files(&copy), before);
}

/// Uploads ten files at a time, each of its own content, until it is told to stop; `told` has those whose upload has ended
/// well.
fn keep_uploading(zone: &Zone, stop: &AtomicBool, told: &Mutex<BTreeSet<String>>) {
    let recipient = age::x25519::Identity::generate().to_public();
    for batch in 0..200 {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let names: Vec<String> = (0..10).map(|number| format!("load-{batch}-{number}.age")).collect();
        for name in &names {
            zone.put_here(name, age::encrypt(&recipient, name.as_bytes()).unwrap());
        }
        let puts: Vec<String> = names.iter().map(|name| format!("put {name} /relay/in/{name}")).collect();
        zone.sftp(AN, &puts.join("\n")).must_succeed();
        told.lock().unwrap().extend(names);
    }
}

#[test]
fn a_backup_under_load_holds_each_acknowledged_arrival_once_with_its_record_and_result() {
    let mut zone = Zone::new();
    let (stop, told) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let mut taken: Vec<(PathBuf, BTreeSet<String>)> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| keep_uploading(&zone, &stop, &told));
        for number in 0..4 {
            zone.wait_for("more uploads", || (told.lock().unwrap().len() > 20 * (number + 1)).then_some(()));
            let acknowledged = told.lock().unwrap().clone();
            let copy = zone.here().join(format!("backup-{number}"));
            backup(&zone, &copy);
            taken.push((copy, acknowledged));
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (copy, acknowledged) in &taken {
        verify(&zone, copy, &[]).must_succeed();
        let there = arrivals(copy);
        let by_name: BTreeMap<&String, &String> = there.iter().map(|(state, name)| (name, state)).collect();
        assert_eq!(there.len(), by_name.len(), "each once");
        let missing: Vec<&String> = acknowledged.iter().filter(|name| !by_name.contains_key(name)).collect();
        assert!(missing.is_empty(), "acknowledged before, and not in it: {missing:?}");
        assert!(!there.iter().any(|(state, _)| state == "active"), "nobody works on it there");
        let log: String = files(&copy.join("log"))
            .iter()
            .filter(|name| name.ends_with(".jsonl"))
            .map(|name| fs::read_to_string(copy.join("log").join(name)).unwrap())
            .collect();
        let results = names(&copy.join("spool/outbox/city/relay"));
        for (name, state) in by_name {
            assert!(log.contains(&format!("/relay/in/{name}\"")), "{name} has no record");
            let stem = name.strip_suffix("age").unwrap();
            let delivered = results.iter().filter(|result| result.starts_with(stem)).count();
            assert!(delivered == 1 || state != "done" && delivered == 0, "{name}, {state}: {delivered}");
        }
    }
    let (last, _) = taken.pop().unwrap();
    let wanted: BTreeSet<String> = arrivals(&last).into_iter().map(|(_, name)| name).collect();
    replace(&mut zone, &last);
    zone.start();
    zone.wait_for("all that was waiting", || (zone.arrivals("done").len() == wanted.len()).then_some(()));
    let results = zone.results("city", "relay");
    for name in &wanted {
        let stem = name.strip_suffix("age").unwrap();
        assert_eq!(results.iter().filter(|result| result.starts_with(stem)).count(), 1, "{name}");
    }
}

#[test]
fn a_backup_that_was_killed_is_known_as_incomplete_and_harms_nothing() {
    let zone = Zone::new();
    in_all_states(&zone);
    let done = zone.spool().join("done");
    let id = zone.arrivals("done").remove(0);
    // So much that it takes a while.
    for number in 0..2000 {
        let other = format!("{}{number:08x}{}", &id[..29], &id[37..]);
        let mut copy = fs::read_to_string(done.join(&id).join("arrival.json")).unwrap();
        copy = copy.replace(&id, &other);
        fs::create_dir(done.join(&other)).unwrap();
        fs::write(done.join(&other).join("arrival.json"), copy).unwrap();
        fs::hard_link(done.join(&id).join("payload.age"), done.join(&other).join("payload.age")).unwrap();
    }
    let copy = zone.here().join("backup");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    command.arg("--config").arg(zone.directory()).arg("backup").arg(&copy);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    zone.wait_for("a part of it", || (names(&copy.join("spool/done")).len() > 20).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(names(&copy.join("spool/done")).len() < 2000, "killed too late to tell anything");
    let ran = verify(&zone, &copy, &[]);
    assert!(ran.code == Some(65) && ran.text().contains("manifest.json: is missing"), "{ran:?}");
    let target = zone.here().join("target");
    let ran = dropzone(&zone, &["restore", copy.to_str().unwrap(), "--to", target.to_str().unwrap()]);
    assert!(ran.code == Some(65) && !target.exists(), "{ran:?}");
    let again = zone.here().join("again");
    assert_eq!(backup(&zone, &again)["arrivals"]["done"], 2001);
    verify(&zone, &again, &[]).must_succeed();
    fs::rename(zone.register().with_extension("away"), zone.register()).unwrap();
    zone.upload(AN, "/pillar-3/in/next.csv.age", &zone.encrypt(LIST));
    zone.receipt("pillar-3", "next.csv.age", "delivered");
}

/// One file of each kind, by how its path begins and ends.
const KINDS: [(&str, &str); 19] = [
    ("dropzone.yaml", ""),
    ("institutions/", ".yaml"),
    ("exchanges/", ".yaml"),
    ("spool/deferred/", "payload.age"),
    ("spool/deferred/", "arrival.json"),
    ("spool/deferred/", "tries.json"),
    ("spool/hold/", "hold.json"),
    ("spool/hold/", "payload.age"),
    ("spool/done/", "payload.age"),
    ("spool/refused/", "arrival.json"),
    ("spool/outbox/", ".age"),
    ("spool/receipts/", ".json"),
    ("spool/receipts/", ".sig"),
    ("log/", ".jsonl"),
    ("log/heads/", ".json"),
    ("log/heads/", "allowed_signers"),
    ("manifest.json", ".json"),
    ("manifest.sha256", ""),
    ("manifest.json.sig", ""),
];

#[test]
fn one_byte_of_any_file_is_found_and_named_and_nothing_is_put_back() {
    let zone = Zone::new();
    in_all_states(&zone);
    let copy = zone.here().join("backup");
    backup(&zone, &copy);
    let all = files(&copy);
    let key = zone.directory().join("keys/signing_ed25519.pub");
    let key = ["--key", key.to_str().unwrap()];
    verify(&zone, &copy, &key).must_succeed();
    for (begins, ends) in KINDS {
        let is_it = |file: &&String| file.starts_with(begins) && file.ends_with(ends);
        let file = all.iter().find(is_it).unwrap_or_else(|| panic!("no {begins}…{ends} in {all:?}"));
        let path = copy.join(file);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(&path, flipped).unwrap();
        let ran = verify(&zone, &copy, &key);
        let named = if file == "manifest.sha256" { "manifest.json" } else { file };
        let line = format!("DAMAGED: {named}: ");
        assert!(ran.code == Some(65) && ran.text().contains(&line), "{file}: {ran:?}");
        fs::write(&path, whole).unwrap();
    }
    let gone = all.iter().find(|file| file.ends_with("tries.json")).unwrap();
    fs::rename(copy.join(gone), zone.here().join("gone")).unwrap();
    assert!(verify(&zone, &copy, &key).must_fail().text().contains(&format!("DAMAGED: {gone}: is missing")));
    fs::rename(zone.here().join("gone"), copy.join(gone)).unwrap();
    for added in ["spool/incoming/added", "institutions/mallory.yaml", "added"] {
        fs::write(copy.join(added), "x").unwrap();
        let text = verify(&zone, &copy, &key).must_fail().text();
        assert!(text.contains(&format!("DAMAGED: {added}: is not in the manifest")), "{text}");
        fs::remove_file(copy.join(added)).unwrap();
    }
    verify(&zone, &copy, &key).must_succeed();
    fs::write(copy.join(gone), "{}").unwrap();
    let target = zone.here().join("target");
    dropzone(&zone, &["restore", copy.to_str().unwrap(), "--to", target.to_str().unwrap()]).must_fail();
    assert!(!target.exists());
}

/// Alters a file and makes manifest and checksum fit, as somebody does who knows what these are.
fn forge(copy: &Path, file: &str, content: &[u8]) {
    fs::write(copy.join(file), content).unwrap();
    let mut manifest = manifest(copy);
    let entry =
        manifest["files"].as_array_mut().unwrap().iter_mut().find(|entry| entry["path"] == file).unwrap();
    entry["size"] = content.len().into();
    entry["sha256"] = sha256(content).into();
    let text = serde_json::to_vec_pretty(&manifest).unwrap();
    fs::write(copy.join("manifest.sha256"), format!("{}  manifest.json\n", sha256(&text))).unwrap();
    fs::write(copy.join("manifest.json"), text).unwrap();
}

#[test]
fn a_manifest_that_was_made_to_fit_is_found_by_its_signature_and_by_what_the_files_say() {
    let zone = Zone::new();
    in_all_states(&zone);
    let key = zone.directory().join("keys/signing_ed25519.pub");
    let key = ["--key", key.to_str().unwrap()];
    for (number, (begins, ends, content, told)) in [
        ("spool/deferred/", "payload.age", "another", "payload.age: is not what arrival.json says"),
        ("exchanges/", "relay.yaml", "exchange: [", "exchanges/relay.yaml: "),
        ("log/", ".serve.test.jsonl", "", "serve.test.jsonl: line "),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = zone.here().join(format!("backup-{number}"));
        backup(&zone, &copy);
        // Sealed, so that heads speak for the log.
        let all = files(&copy);
        let file = all.iter().find(|file| file.starts_with(begins) && file.ends_with(ends)).unwrap();
        let content = if begins == "log/" {
            fs::read_to_string(copy.join(file)).unwrap().replace("\"ok\"", "\"OK\"")
        } else {
            content.to_owned()
        };
        forge(&copy, file, content.as_bytes());
        let text = verify(&zone, &copy, &key).must_fail().text();
        assert!(text.contains("DAMAGED: manifest.json.sig: does not fit the text"), "{text}");
        assert!(text.contains(told), "{text}");
        fs::remove_file(copy.join("manifest.json.sig")).unwrap();
        let text = verify(&zone, &copy, &key).must_fail().text();
        assert!(text.contains("DAMAGED: manifest.json: is not signed") && text.contains(told), "{text}");
        let text = verify(&zone, &copy, &[]).must_fail().text();
        assert!(!text.contains("DAMAGED: manifest") && text.contains(told), "{text}");
    }
}

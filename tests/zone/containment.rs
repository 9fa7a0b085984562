//! What the kernel keeps the running `serve` from: shown on the process itself, and by what it can no longer reach.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::programs::run;
use crate::harness::{AN, BO, Daemon, Zone, skip};

fn proc_of_serve(zone: &Zone) -> PathBuf {
    PathBuf::from("/proc").join(zone.pids(Daemon::Serve).pop().unwrap().to_string())
}

fn is_contained(zone: &Zone) -> bool {
    let offered = dropzone::host::containment::offered();
    for (what, held) in offered.parts() {
        let told = zone.metric(Daemon::Serve, &format!("dropzone_contained{{what=\"{what}\"}}")) > 0.5;
        assert_eq!(told, held, "what the kernel offers is made use of, and told: {what}");
    }
    let said = zone.program_log().contains("not fully contained");
    assert_eq!(
        said,
        offered.parts().iter().any(|(_, held)| !held),
        "what is missing is said, and nothing else"
    );
    if !offered.files {
        skip("this kernel has no Landlock for files; serve says so and runs");
    }
    offered.files
}

#[test]
fn every_thread_of_serve_is_without_new_privileges_and_its_memory_is_never_dumped() {
    let zone = Zone::new();
    let process = proc_of_serve(&zone);
    let mut threads = 0;
    for task in fs::read_dir(process.join("task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
        threads += 1;
    }
    assert!(threads > 1, "its workers among them");
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{limits}");
}

#[test]
fn serve_logs_nowhere_but_where_it_logged_when_it_started() {
    let zone = Zone::new();
    if !is_contained(&zone) {
        return;
    }
    zone.sftp(AN, "ls /").must_succeed();
    let elsewhere = zone.here().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let aside = zone.directory().join("log-aside");
    fs::rename(zone.log(), &aside).unwrap();
    symlink(&elsewhere, zone.log()).unwrap();
    zone.sftp(AN, "ls /").must_fail();
    assert_eq!(zone.http_status(Daemon::Serve, "/readyz"), "503");
    let made: Vec<_> = fs::read_dir(&elsewhere).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let by_serve = |name: &std::ffi::OsString| name.to_string_lossy().contains(".serve.");
    assert!(!made.iter().any(by_serve), "{made:?}");
    fs::remove_file(zone.log()).unwrap();
    fs::rename(&aside, zone.log()).unwrap();
    zone.wait_until_ready();
    zone.sftp(AN, "ls /").must_succeed();
}

#[test]
fn what_leaves_the_spool_leaves_the_reach_of_every_session() {
    let zone = Zone::new();
    if !is_contained(&zone) {
        return;
    }
    let result = zone.folder_of("outbox", "agency", "pillar-3").join("result.age");
    fs::write(result, "a result").unwrap();
    assert_eq!(zone.download(AN, "/pillar-3/out/result.age"), b"a result");
    let (outbox, aside) = (zone.spool().join("outbox"), zone.directory().join("outbox-aside"));
    // serve holds the folder open, so it is the kernel that refuses, and for the threads that answer sessions.
    fs::rename(&outbox, &aside).unwrap();
    zone.sftp(AN, "get /pillar-3/out/result.age refused").must_fail();
    fs::rename(&aside, &outbox).unwrap();
    assert_eq!(zone.download(AN, "/pillar-3/out/result.age"), b"a result");
}

#[test]
fn serve_keeps_no_way_to_the_keys_of_work_nor_to_the_register() {
    let zone = Zone::lay_out();
    let secrets =
        ["keys/zone.agekey", "keys/signing_ed25519", "register.db"].map(|name| zone.directory().join(name));
    let reaches = |path: &PathBuf| {
        let needs = dropzone::serve::needs(&dropzone::config::load(&zone.directory()).unwrap());
        let folders = needs.change.iter().chain(&needs.read_folders);
        folders.chain(&needs.read_files).any(|granted| path.starts_with(granted))
    };
    for secret in &secrets {
        assert!(!reaches(secret), "{}", secret.display());
    }
    // Where no secret lies beside it, a dropzone.yaml that is replaced can be read again.
    let main = zone.directory().join("dropzone.yaml");
    let other = main.with_file_name("other.yaml");
    assert!(!reaches(&other));
    let elsewhere = zone.here();
    let text =
        fs::read_to_string(&main).unwrap().replace("[keys/zone", &format!("[{}/zone", elsewhere.display()));
    let text = text.replace("signing-key: keys", &format!("signing-key: {}", elsewhere.display()));
    let text = text.replace("sqlite: register", &format!("sqlite: {}/register", elsewhere.display()));
    fs::write(&main, text).unwrap();
    assert!(reaches(&other));
}

#[test]
fn a_reload_reads_replaced_institutions_and_says_what_to_do_about_a_replaced_main_file() {
    let zone = Zone::new();
    if !is_contained(&zone) {
        return;
    }
    let replace = |file: &str, old: &str, new: &str| {
        let path = zone.directory().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{text}");
        let beside = path.with_file_name(".new");
        fs::write(&beside, text.replacen(old, new, 1)).unwrap();
        fs::rename(beside, path).unwrap();
    };
    let reload = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        run(command.arg("--config").arg(zone.directory()).arg("reload"))
    };
    replace("institutions/agency.yaml", "title: Institution agency", "title: Another");
    reload().must_succeed();
    replace("dropzone.yaml", "node: test", "node: test ");
    let told = reload().must_fail();
    assert!(told.stderr.contains("Remedy: restart the process"), "{told:?}");
    zone.sftp(AN, "ls /").must_succeed();
    // What is taken away is taken away all the same.
    fs::remove_file(zone.directory().join("institutions/city.yaml")).unwrap();
    for exchange in ["relay", "small", "city-only"] {
        fs::remove_file(zone.directory().join(format!("exchanges/{exchange}.yaml"))).unwrap();
    }
    zone.sftp(BO, "ls /").must_succeed();
    reload().must_fail();
    zone.sftp(BO, "ls /").must_fail();
    zone.sftp(AN, "ls /").must_succeed();
    // What needs the new one is not told as a mistake of its own.
    replace("dropzone.yaml", "  register:", "  other: {sqlite: register.db}\n  register:");
    replace("exchanges/pillar-3.yaml", "database: register", "database: other");
    let told = reload().must_fail();
    assert!(told.stderr.contains("serve: dropzone.yaml was probably replaced"), "{told:?}");
    assert!(told.stderr.contains("Nothing is taken over"), "{told:?}");
}

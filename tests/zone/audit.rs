//! What ssh-audit, a program that knows which algorithms are fit for use, thinks of the running `serve`. Its policy files say
//! what each profile offers; they lie in tests/hostile/ssh-audit.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::Zone;
use crate::harness::programs::{Ran, run};
use crate::harness::python::interpreter;

/// Runs ssh-audit; `None` where it is not installed.
fn audit(zone: &Zone, options: &[&str]) -> Option<Ran> {
    let interpreter = interpreter("ssh-audit")?;
    let mut command = Command::new(Path::new(&interpreter).with_file_name("ssh-audit"));
    // The rate test asks how many connections a second there can be: tests of limits are elsewhere.
    command.args(["--no-colors", "--skip-rate-test", "--port", &zone.ssh().port().to_string()]);
    Some(run(command.args(options).arg(zone.ssh().ip().to_string())))
}

fn policy(profile: &str) -> String {
    format!("{}/tests/hostile/ssh-audit/{profile}.txt", env!("CARGO_MANIFEST_DIR"))
}

fn zone_with(algorithms: &str) -> Zone {
    let mut zone = Zone::lay_out();
    let file = zone.directory().join("dropzone.yaml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + algorithms).unwrap();
    zone.start();
    zone
}

#[test]
fn compat_offers_exactly_what_its_policy_names() {
    let zone = zone_with("");
    let Some(told) = audit(&zone, &["--policy", &policy("compat")]) else { return };
    told.must_succeed();
    // What the audit has against it is that its classical key exchanges, which older clients need, are not post-quantum.
    let against = audit(&zone, &["--level", "warn"]).unwrap().must_fail().text();
    for line in against.lines().filter(|line| line.contains("[warn]") || line.contains("[fail]")) {
        assert!(line.contains("post-quantum") && line.starts_with("(kex) curve25519-sha256"), "{line}");
    }
    // The other profile's policy is not met, so a policy can fail.
    audit(&zone, &["--policy", &policy("strict")]).unwrap().must_fail();
}

#[test]
fn strict_offers_exactly_what_its_policy_names_and_nothing_to_warn_about() {
    let zone = zone_with("algorithms: strict\n");
    let Some(told) = audit(&zone, &["--policy", &policy("strict")]) else { return };
    told.must_succeed();
    let audited = audit(&zone, &[]).unwrap().must_succeed().text();
    assert!(audited.contains("(kex) mlkem768x25519-sha256"), "{audited}");
    assert!(!audited.contains("[warn]") && !audited.contains("[fail]"), "{audited}");
    audit(&zone, &["--policy", &policy("compat")]).unwrap().must_fail();
}

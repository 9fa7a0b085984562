//! `dropzone init` and `dropzone check`, run as an operator runs them.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn dropzone(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dropzone")).args(arguments).output().unwrap()
}

fn check(zone: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["--config", zone.to_str().unwrap(), "check"];
    all.extend(arguments);
    dropzone(&all)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn new_zone() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let zone = parent.path().join("zone");
    let made = dropzone(&["init", zone.to_str().unwrap()]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    (parent, zone)
}

fn replace(file: &Path, old: &str, new: &str) {
    let content = fs::read_to_string(file).unwrap();
    assert!(content.contains(old), "{} has no {old:?}", file.display());
    fs::write(file, content.replacen(old, new, 1)).unwrap();
}

/// A public key that OpenSSH's own program made.
fn public_key(folder: &Path, kind: &[&str]) -> String {
    let path = folder.join("key");
    let _ = fs::remove_file(&path);
    let output = Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", "an@example.org", "-f"])
        .arg(&path)
        .args(kind)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

fn add_person(zone: &Path, institution: &str, key: &str) {
    let people = format!("people:\n  - {{label: an, keys: [\"{key}\"]}}");
    replace(&zone.join(format!("institutions/{institution}.yaml")), "people: []", &people);
}

#[test]
fn a_new_zone_checks_clean_and_tells_what_to_do_next() {
    let parent = tempfile::tempdir().unwrap();
    let zone = parent.path().join("zone");
    let made = dropzone(&["init", zone.to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let told = text(&made.stdout);
    assert!(told.contains("SHA256:") && told.contains("age1") && told.contains("check"), "{told}");
    let checked = check(&zone, &[]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let told = text(&checked.stdout);
    for part in
        ["Exchange pillar-3", "2028-03-02: open", "enrich", "query", "relay", "nobody can log in", "sound"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    let again = dropzone(&["init", zone.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(73));
    assert!(text(&again.stderr).contains("is not empty"));
}

#[test]
fn a_person_shows_with_the_fingerprint_that_ssh_keygen_shows() {
    let (parent, zone) = new_zone();
    add_person(&zone, "agii", &public_key(parent.path(), &["-t", "ed25519"]));
    let shown = Command::new("ssh-keygen").arg("-lf").arg(parent.path().join("key.pub")).output().unwrap();
    let fingerprint = text(&shown.stdout).split(' ').nth(1).unwrap().to_owned();
    assert!(text(&check(&zone, &[]).stdout).contains(&fingerprint));
    let json = check(&zone, &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["people"][0]["fingerprint"], fingerprint);
    assert_eq!(report["people"][0]["valid-today"], true);
    assert_eq!(report["exchanges"][0]["today"], "open");
}

#[test]
fn a_key_that_systemd_hands_to_its_service_is_noted_and_not_missed() {
    let (_parent, zone) = new_zone();
    let key = "/run/credentials/no-such.service/zone.agekey";
    replace(&zone.join("dropzone.yaml"), "keys/zone.agekey", key);

    let checked = check(&zone, &[]);

    let told = text(&checked.stdout) + &text(&checked.stderr);
    assert!(checked.status.success(), "{told}");
    assert!(told.contains(&format!("{key} was not examined, because systemd")), "{told}");
}

#[test]
fn the_five_agreements_are_sound_as_shipped_and_say_what_they_wait_for() {
    let (_parent, zone) = new_zone();
    let checked = check(&zone, &["--json"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let names: Vec<_> = report["exchanges"].as_array().unwrap().iter().map(|row| &row["exchange"]).collect();
    assert_eq!(names, ["client-feedback", "lists-lommel", "pillar-3", "pilot-mechelen", "social-protection"]);
    let waits = |zone: &Path| {
        text(&check(zone, &[]).stdout).contains("flow enrich takes nothing until agii has a recipient")
    };
    assert!(waits(&zone));
    let told = text(&check(&zone, &[]).stdout);
    let notes: Vec<&str> = told.lines().filter(|line| line.starts_with("note: ")).collect();
    assert_eq!(notes.len(), 4, "one for all institutions and one for each flow: {notes:#?}");
    assert!(notes[0].contains("agii, amal, atlas, lommel and vdab have no people"), "{notes:#?}");
    assert!(notes[1].contains("nobody of agii, atlas and amal can receive a share yet"), "{notes:#?}");
    assert!(notes[3].contains("until agii, atlas and amal have recipients"), "{notes:#?}");
    assert!(
        !notes.iter().any(|note| note.contains("mechelen")),
        "what has ended waits for nothing: {notes:#?}"
    );
    let recipient = fs::read_to_string(zone.join("keys/zone.agekey.pub")).unwrap();
    let institution = zone.join("institutions/agii.yaml");
    replace(&institution, "recipients: []", &format!("recipients: [{}]", recipient.trim()));
    assert!(!waits(&zone));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of bad zones")]
fn each_bad_zone_is_told_with_file_line_key_and_remedy() {
    type Spoil = fn(&Path, &Path);
    let cases: [(&str, Spoil, &str, &str); 12] = [
        (
            "duplicate user",
            |zone, _| replace(&zone.join("exchanges/pillar-3.yaml"), "  atlas: {", "  agii: {"),
            "exchanges/pillar-3.yaml:",
            "duplicate entry \"agii\"",
        ),
        (
            "one key under two institutions",
            |zone, folder| {
                let key = public_key(folder, &["-t", "ed25519"]);
                add_person(zone, "agii", &key);
                add_person(zone, "atlas", &key);
            },
            "institutions/atlas.yaml:7: people[0].keys[0]: ",
            "already the key of an of agii",
        ),
        (
            "weak key",
            |zone, folder| add_person(zone, "agii", &public_key(folder, &["-t", "rsa", "-b", "2048"])),
            "institutions/agii.yaml:9: people[0].keys[0]: ",
            "2048 bits",
        ),
        (
            "end before start",
            |zone, _| {
                replace(&zone.join("exchanges/pillar-3.yaml"), "until: 2028-03-02", "until: 2020-01-01")
            },
            "exchanges/pillar-3.yaml:12: agreement.until: ",
            "before from",
        ),
        (
            "spool on a missing folder",
            |zone, _| fs::remove_dir(zone.join("spool")).unwrap(),
            "dropzone.yaml:20: spool: ",
            "No such file or directory",
        ),
        (
            "log on a missing folder",
            |zone, _| fs::remove_dir(zone.join("log")).unwrap(),
            "dropzone.yaml:23: log.directory: ",
            "No such file or directory",
        ),
        (
            "an exchange that names an unknown institution",
            |zone, _| {
                replace(
                    &zone.join("exchanges/pillar-3.yaml"),
                    "to: [agii, atlas, amal]",
                    "to: [agii, atlsa, amal]",
                )
            },
            "exchanges/pillar-3.yaml:124: flows[2].deliver[0].to[1]: ",
            "\"atlsa\" is not a party",
        ),
        (
            "world-writable config",
            |zone, _| {
                fs::set_permissions(zone.join("dropzone.yaml"), PermissionsExt::from_mode(0o666)).unwrap()
            },
            "dropzone.yaml: ",
            "can be written by others (mode 0666",
        ),
        (
            "alias bomb",
            |zone, _| {
                fs::write(zone.join("institutions/agii.yaml"), "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n")
                    .unwrap()
            },
            "institutions/agii.yaml:2: ",
            "by alias",
        ),
        (
            "100 MiB of YAML",
            |zone, _| fs::write(zone.join("institutions/agii.yaml"), vec![b'#'; 100 << 20]).unwrap(),
            "institutions/agii.yaml: ",
            "larger than 1048576 bytes",
        ),
        (
            "a secret that others can read",
            |zone, _| {
                let file = zone.join("keys/zone.agekey");
                fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
            },
            "dropzone.yaml:14: identities[0]: ",
            "others can read",
        ),
        (
            "a key that is none",
            |zone, _| fs::write(zone.join("keys/ssh_host_ed25519_key"), "none").unwrap(),
            "dropzone.yaml:11: host-key: ",
            "not an OpenSSH private key",
        ),
    ];
    for (name, spoil, beginning, part) in cases {
        let (parent, zone) = new_zone();
        spoil(&zone, parent.path());
        let checked = check(&zone, &[]);
        let told = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(78), "{name}: {told}");
        assert_eq!(text(&checked.stdout), "", "{name}");
        let line = told.lines().find(|line| line.starts_with(beginning) && line.contains(part));
        assert!(line.is_some_and(|line| line.contains(". Remedy: ")), "{name}: {told}");
        assert!(!told.contains("panicked"), "{name}: {told}");
    }
}

#[test]
fn the_files_of_a_register_on_a_server_are_looked_at_and_the_server_is_not() {
    let server =
        "{postgres: {host: no-such-host.invalid, database: r, user: d, password: keys/password, ca: ca.pem}}";
    let certificate = "-----BEGIN CERTIFICATE-----\n";
    for (password, mode, ca, part) in [
        ("hush, hush\n", 0o600, certificate, None),
        ("hush, hush\n", 0o644, certificate, Some("databases.register.postgres.password: the file")),
        ("one\ntwo\n", 0o600, certificate, Some("is not one line with the password")),
        ("hush, hush\n", 0o600, "none", Some("holds no certificate in PEM")),
    ] {
        let (_parent, zone) = new_zone();
        replace(&zone.join("dropzone.yaml"), "{sqlite: register.db}", server);
        fs::write(zone.join("keys/password"), password).unwrap();
        fs::set_permissions(zone.join("keys/password"), PermissionsExt::from_mode(mode)).unwrap();
        fs::write(zone.join("ca.pem"), ca).unwrap();
        let checked = check(&zone, &[]);
        let told = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(if part.is_some() { 78 } else { 0 }), "{told}");
        assert!(told.contains(part.unwrap_or_default()), "{part:?} in {told}");
        assert!(!told.contains("hush"), "{told}");
    }
}

#[test]
fn exit_codes_follow_sysexits() {
    let parent = tempfile::tempdir().unwrap();
    let none = check(&parent.path().join("none"), &[]);
    assert_eq!(none.status.code(), Some(66), "{}", text(&none.stderr));
    assert_eq!(dropzone(&["chekc"]).status.code(), Some(64));
    assert_eq!(dropzone(&["--help"]).status.code(), Some(0));
    let nowhere = parent.path().join("a/b");
    assert_eq!(dropzone(&["init", nowhere.to_str().unwrap()]).status.code(), Some(74));
    let (_parent, zone) = new_zone();
    fs::write(zone.join("dropzone.yaml"), "").unwrap();
    let json = check(&zone, &["--json"]);
    assert_eq!(json.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["errors"][0]["file"], "dropzone.yaml");
}

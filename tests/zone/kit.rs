//! What a partner is sent: that its script works against the real zone, and that nothing in it is secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::observe::names;
use crate::harness::programs::{Ran, fingerprint, public_key, recipient, run};
use crate::harness::{AN, Person, Zone};

fn kit(zone: &Zone, institution: &str, options: &[&str]) -> (PathBuf, Ran) {
    let folder = zone.here().join(format!("kit-{institution}"));
    let mut kit = Command::new(env!("CARGO_BIN_EXE_dropzone"));
    kit.arg("--config").arg(zone.directory()).args(["kit", institution]).arg(&folder);
    let ran = run(kit.args(["--host", &zone.ssh().ip().to_string()]).args(options));
    (folder, ran)
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

fn script(zone: &Zone, folder: &Path, person: Person, arguments: &[&str]) -> Ran {
    let mut script = Command::new("bash");
    script.arg(folder.join("dropzone.sh")).args(arguments).current_dir(zone.here());
    script.env("DROPZONE_KEY", zone.key_of(person)).env("DROPZONE_PATIENCE", "50");
    run(script.env("DROPZONE_IDENTITY", zone.identity_of(person.user)).env("SSH_AUTH_SOCK", ""))
}

#[test]
fn the_script_of_a_kit_encrypts_sends_waits_for_a_genuine_receipt_and_fetches_the_result() {
    let zone = Zone::new();
    let (folder, ran) = kit(&zone, "agency", &[]);
    ran.must_succeed();
    zone.put_here("lijst.csv", "insz\n85073003328\n99123199742\n");
    let sent = script(&zone, &folder, AN, &["send", "pillar-3", "enrich", "lijst.csv"]).must_succeed();
    assert!(sent.text().contains("receipt: delivered"), "{}", sent.text());
    let kept = names(&folder.join("receipts"));
    assert!(kept.len() == 2 && kept[0].starts_with("lijst.csv.age."), "{kept:?}");
    let fetched = script(&zone, &folder, AN, &["fetch", "pillar-3"]).must_succeed();
    assert!(fetched.text().contains("1 result(s)"), "{}", fetched.text());
    let received = folder.join("received/pillar-3");
    let result = text(&received, &names(&received)[0]);
    assert_eq!(result, "insz,category,registered\n85073003328,werkzoekend,2021-04-01\n99123199742,,\n");
    assert_eq!(zone.results("agency", "pillar-3"), Vec::<String>::new(), "what was fetched is collected");
}

#[test]
fn the_script_of_a_kit_says_why_a_list_was_not_delivered_and_believes_no_altered_receipt() {
    let zone = Zone::new();
    let (folder, ran) = kit(&zone, "agency", &[]);
    ran.must_succeed();
    zone.put_here("no.csv", "name\nx\n");
    let held = script(&zone, &folder, AN, &["send", "pillar-3", "enrich", "no.csv"]).must_fail();
    assert!(held.text().contains("receipt: held") && held.text().contains("nl: "), "{}", held.text());
    zone.put_here("a b.csv", "insz\n");
    let refused = script(&zone, &folder, AN, &["send", "pillar-3", "enrich", "a b.csv"]).must_fail();
    assert!(refused.stderr.contains("rename it"), "{}", refused.stderr);
    // Another zone's key: its receipts are not to be believed, so none is found.
    let mut signers = text(&folder, "allowed_signers");
    let stranger = public_key(&zone.key_of(AN));
    signers.replace_range(signers.find("ssh-ed25519").unwrap().., &format!("{stranger}\n"));
    fs::write(folder.join("allowed_signers"), signers).unwrap();
    zone.put_here("lijst.csv", "insz\n85073003328\n");
    let mut script = Command::new("bash");
    script.arg(folder.join("dropzone.sh")).args(["send", "pillar-3", "enrich", "lijst.csv"]);
    script.env("DROPZONE_KEY", zone.key_of(AN)).env("DROPZONE_PATIENCE", "8").current_dir(zone.here());
    let waited = run(&mut script).must_fail();
    assert!(waited.stderr.contains("no receipt within 8 seconds"), "{}", waited.stderr);
}

#[test]
fn a_name_that_a_hostile_server_lists_becomes_no_command_of_the_script() {
    let zone = Zone::lay_out();
    let (folder, ran) = kit(&zone, "agency", &[]);
    ran.must_succeed();
    // In the place of `sftp`: the server's listing grows by a name with quotes in it when the list was sent.
    let programs = zone.here().join("programs");
    fs::create_dir(&programs).unwrap();
    let told = zone.here().join("told");
    let sftp = format!(
        "#!/bin/sh\nread -r line\nprintf '%s\\n' \"$line\" >>'{0}'\ncase $line in\n\
         put*) : >'{0}.sent' ;;\n\
         ls*) [ ! -e '{0}.sent' ] || printf '%s\\n' 'lijst.csv.age.x\" \".bashrc\" \".json' ;;\nesac\n",
        told.display()
    );
    fs::write(programs.join("sftp"), sftp).unwrap();
    fs::set_permissions(programs.join("sftp"), fs::Permissions::from_mode(0o755)).unwrap();
    zone.put_here("lijst.csv", "insz\n");
    let mut script = Command::new("bash");
    script.arg(folder.join("dropzone.sh")).args(["send", "pillar-3", "enrich", "lijst.csv"]);
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    run(script.env("PATH", path).env("DROPZONE_PATIENCE", "2").current_dir(zone.here())).must_fail();
    let told = fs::read_to_string(told).unwrap();
    assert!(told.contains("put ") && !told.contains("bashrc"), "{told}");
    let windows = text(&folder, "dropzone.ps1");
    assert!(windows.contains("$Receipt -notmatch"), "the same by its text: nothing here runs it");
}

#[test]
fn a_kit_names_the_zone_and_its_receivers_and_holds_nothing_secret() {
    let zone = Zone::lay_out();
    let (folder, ran) = kit(&zone, "agency", &[]);
    ran.must_succeed();
    let host_key = public_key(&zone.directory().join("keys/ssh_host_ed25519_key"));
    let key = host_key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let (ip, port) = (zone.ssh().ip(), zone.ssh().port());
    assert_eq!(text(&folder, "known_hosts"), format!("[{ip}]:{port} {key}\n"));
    assert_eq!(text(&folder, "recipients/pillar-3.enrich.txt"), format!("{}\n", zone.recipient()));
    let city = recipient(&zone.identity_of("city"));
    assert_eq!(
        text(&folder, "recipients/relay.hand-on.txt"),
        format!("{city}\n"),
        "who reads it is encrypted to"
    );
    let page = text(&folder, "LEESMIJ-README.html");
    let shown = fingerprint(&zone.directory().join("keys/ssh_host_ed25519_key"));
    for wanted in [&shown, "ref-pillar-3", "*.csv.age", "/pillar-3/in", "lang=\"nl\"", "lang=\"en\""] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!page.contains("city-only"), "an exchange that it has no part in");
    let session = text(&folder, "winscp-dropzone.ini");
    let digest = shown.trim_start_matches("SHA256:");
    for line in [
        "[Sessions\\dropzone-agency]",
        &format!("HostName={ip}"),
        "PortNumber=2222",
        "UserName=agency",
        "FSProtocol=2",
        &format!("SshHostKey=ssh-ed25519 255 {digest}"),
    ] {
        assert!(session.lines().any(|there| there == line), "{line} in {session}");
    }
    for windows in ["winscp-dropzone.ini", "dropzone.ps1"] {
        let text = text(&folder, windows);
        assert!(text.is_ascii() && text.matches('\n').count() == text.matches("\r\n").count(), "{windows}");
    }
    assert!(
        !text(&folder, "dropzone.sh").contains(['\r', '@'])
            || !text(&folder, "dropzone.sh").contains("@HOST@")
    );
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("dropzone.sh"), mode("known_hosts"), mode("recipients")), (0o755, 0o644, 0o755));
    let mut secrets = vec!["AGE-SECRET-KEY-".to_owned(), "PRIVATE KEY-----".to_owned()];
    for key in ["zone.agekey", "signing_ed25519", "ssh_host_ed25519_key"] {
        let text = text(&zone.directory(), &format!("keys/{key}"));
        secrets.extend(text.lines().filter(|line| !line.starts_with(['#', '-'])).skip(1).map(str::to_owned));
    }
    for file in names(&folder).iter().filter(|name| *name != "recipients") {
        let content = text(&folder, file);
        assert!(!secrets.iter().any(|secret| content.contains(secret.as_str())), "a secret in {file}");
    }
}

#[test]
fn a_kit_overwrites_nothing_and_asks_for_what_it_cannot_read() {
    let zone = Zone::lay_out();
    kit(&zone, "agency", &[]).1.must_succeed();
    let again = kit(&zone, "agency", &[]).1.must_fail();
    assert_eq!(again.code, Some(73), "{}", again.stderr);
    for name in ["zone.agekey", "zone.agekey.pub"] {
        fs::rename(zone.directory().join("keys").join(name), zone.here().join(name)).unwrap();
    }
    fs::remove_dir_all(zone.here().join("kit-agency")).unwrap();
    let asked = kit(&zone, "agency", &[]).1.must_fail();
    assert!(asked.code == Some(66) && asked.stderr.contains("--recipient"), "{}", asked.stderr);
    assert_eq!(kit(&zone, "agency", &["--recipient", "age1x"]).1.code, Some(64));
    let told = recipient(&zone.here().join("zone.agekey"));
    let (folder, ran) = kit(&zone, "agency", &["--recipient", &told]);
    ran.must_succeed();
    assert_eq!(text(&folder, "recipients/pillar-3.enrich.txt"), format!("{told}\n"));
    // Who only collects needs no recipient of the zone.
    kit(&zone, "city", &[]).1.must_succeed();
    assert_eq!(kit(&zone, "nobody", &[]).1.code, Some(64));
}

#[test]
fn the_script_of_a_kit_brings_what_to_correct_and_leaves_what_it_cannot_open() {
    let mut zone = Zone::lay_out();
    let ruled = "exchange: ruled\nagreement: {reference: ref-ruled, title: Test, legal-basis: decreet, from: 2024-02-01, \
                 incidents: {within: 48h, to: dpo@agency.example}}\nparties:\n  agency: {may: [drop, collect], people: {at-most: 3}}\n\
                 tables:\n  list: {columns: [{column: insz, type: insz, required: true}, {column: note, type: text}], forbid: [insz]}\n\
                 flows:\n  - flow: sort\n    from: [agency]\n    accept: {names: ['insz-*.csv.age'], max-size: 1 MiB}\n    table: list\n    \
                 faults: report\n    job: shape\n    to: [agency]\n";
    fs::write(zone.directory().join("exchanges/ruled.yaml"), ruled).unwrap();
    zone.start();
    let (folder, ran) = kit(&zone, "agency", &[]);
    ran.must_succeed();
    let page = text(&folder, "LEESMIJ-README.html");
    for wanted in [
        "age -R recipients/ruled.sort.txt -o insz-lijst.csv.age insz-lijst.csv",
        "./dropzone.sh send ruled sort insz-lijst.csv",
        "hoogstens 3 personen",
        "binnen 48 uur aan dpo@agency.example",
        "buiten insz nergens een rijksregisternummer",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    zone.put_here("insz-mei.csv", "insz,note\n85073003328,x\n85073003329,y\n");
    let sent = script(&zone, &folder, AN, &["send", "ruled", "sort", "insz-mei.csv"]).must_succeed();
    assert!(sent.text().contains("te verbeteren rijen: 1 ("), "{}", sent.text());
    let kept = names(&folder.join("receipts"));
    let report = kept.iter().find(|name| name.ends_with(".quality.csv")).unwrap();
    assert!(text(&folder.join("receipts"), report).contains("3;insz;insz-check;"), "{kept:?}");
    // Encrypted to somebody else, as a colleague's share is: it stays, and does not keep from the rest.
    let mine = zone.results("agency", "ruled").remove(0);
    let outbox = zone.folder_of("outbox", "agency", "ruled");
    let not_mine = std::process::Command::new("age")
        .args(["-r", &recipient(&zone.identity_of("city"))])
        .arg(zone.here().join("insz-mei.csv"))
        .output()
        .unwrap();
    fs::write(outbox.join(format!("a.{mine}")), not_mine.stdout).unwrap();
    let fetched = script(&zone, &folder, AN, &["fetch", "ruled"]).must_succeed();
    assert!(fetched.text().contains("1 result(s)"), "{}", fetched.text());
    assert!(fetched.stderr.contains("left on the zone") && fetched.stderr.contains("no identity matched"));
    assert_eq!(zone.results("agency", "ruled"), [format!("a.{mine}")]);
    script(&zone, &folder, AN, &["fetch", "ruled"]).must_fail();
}

#[test]
fn of_an_agreement_that_has_ended_a_kit_says_so_and_nothing_to_do() {
    let zone = Zone::lay_out();
    let (folder, ran) = kit(&zone, "former", &[]);
    ran.must_succeed();
    let page = text(&folder, "LEESMIJ-README.html");
    assert!(page.contains("Afgelopen op ") && page.contains("Ended on "), "{page}");
    assert!(!page.contains("U dient in: ") && !page.contains("U ontvangt: "), "{page}");
    assert!(names(&folder.join("recipients")).is_empty());
}

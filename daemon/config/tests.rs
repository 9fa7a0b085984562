//! Whole zones on disk: what is accepted, and how each mistake is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::policy::path::Name;
use crate::policy::reason::Reason;

mod agreements;

const AN: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICjG7MNh+RlGR23en0xVV93TX2xIOsl1H8aNWNjAtMk7";
const BO: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFjNX0dQb1Phq0VHxhY9u9f+VUKdES8kcqwzY4lJJTNXBpRnlk9xL2vh9G4W/pm5lpaW6GlEMlsjMvkousGvv2o=";
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

const MAIN: &str = "\
node: zone-1
listen: [\"127.0.0.1:2222\"]
host-key: keys/host
identities: [keys/age]
signing-key: keys/sign
spool: spool
log: {directory: log, keep-days: 31}
metrics: {serve: \"127.0.0.1:9721\", work: \"127.0.0.1:9722\"}
databases:
  register: {sqlite: register.db}
limits: {login-grace: 10s, unwritten-bytes: 8 MiB}
";
const AGII: &str = "\
institution: agii
title: Agency
people:
  - label: an
    keys:
      - AN
recipients: [RECIPIENT]
networks: [10.0.0.0/8]
";
const ATLAS: &str = "\
institution: atlas
title: Atlas
people:
  - label: bo
    keys:
      - {key: BO, not-before: 2026-01-01, not-after: 2027-01-01}
";
const PILLAR: &str = "\
exchange: pillar-3
agreement:
  reference: P-3
  title: Third pillar
  legal-basis: decree
  from: 2023-03-03
  until: 2028-03-02
parties:
  agii: [drop, collect]
  atlas: [collect]
flows:
  - flow: enrich
    from: [agii]
    accept: {names: [\"*.csv.age\"], max-size: 1 GiB}
    job:
      query:
        database: register
        sql: |
          SELECT arrival.*, count(*) FROM arrival -- &x
        columns: [insz, category]
    to: [agii]
  - flow: rest
    from: [agii]
    accept: {max-size: 1 MiB}
    job: relay
    to: [atlas]
";

struct Zone(tempfile::TempDir);

impl Zone {
    fn new() -> Self {
        let zone = Self(tempfile::tempdir().unwrap());
        zone.mode("", 0o750);
        for folder in ["institutions", "exchanges", "spool", "log"] {
            fs::create_dir(zone.0.path().join(folder)).unwrap();
            zone.mode(folder, 0o770);
        }
        for (file, text) in [
            ("dropzone.yaml", MAIN),
            ("institutions/agii.yaml", AGII),
            ("institutions/atlas.yaml", ATLAS),
            ("exchanges/pillar-3.yaml", PILLAR),
        ] {
            zone.write(file, text.as_bytes());
        }
        zone
    }

    fn write(&self, file: &str, text: &[u8]) {
        let text = match std::str::from_utf8(text) {
            Ok(text) => text.replace("- AN", &format!("- {AN}")).replace("RECIPIENT", RECIPIENT),
            Err(_) => return fs::write(self.0.path().join(file), text).unwrap(),
        };
        fs::write(self.0.path().join(file), text.replace("key: BO", &format!("key: {BO}"))).unwrap();
        self.mode(file, 0o640);
    }

    fn mode(&self, file: &str, mode: u32) {
        fs::set_permissions(self.0.path().join(file), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn replace(&self, file: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.0.path().join(file)).unwrap();
        assert!(text.contains(old), "{file} has no {old:?}");
        self.write(file, text.replacen(old, new, 1).as_bytes());
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn errors(&self) -> Vec<String> {
        load(self.path()).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_good_zone_becomes_checked_values() {
    let zone = Zone::new();
    let loaded = load_with_notes(zone.path()).unwrap();
    assert_eq!(loaded.notes, []);
    let config = loaded.config;
    assert_eq!(config.machine.node.as_str(), "zone-1");
    assert_eq!(config.machine.spool, zone.path().join("spool"));
    assert_eq!(config.machine.limits.login_grace, Duration::from_secs(10));
    assert_eq!(config.machine.limits.idle, Limits::default().idle);
    assert_eq!(config.machine.work.tries, 10);
    assert_eq!(config.machine.work.lease, std::time::Duration::from_secs(30));
    assert_eq!(config.machine.sockets.work, zone.path().join("run/work.sock"));
    assert_eq!(config.pairs().len(), 2);
    let agii = config.institutions.values().next().unwrap();
    assert_eq!(agii.recipients, [RECIPIENT]);
    assert_eq!(agii.people[0].keys[0].algorithm, "ssh-ed25519");
    let pillar = config.exchanges.values().next().unwrap();
    assert_eq!(pillar.flows[0].accept.max_size, 1 << 30);
    assert_eq!(pillar.flows[1].job.kind(), "relay");
    assert_eq!(pillar.flows[0].accept.collision, crate::policy::agreement::Collision::Reject);
    assert_eq!(pillar.flows[0].accept.unasked, crate::policy::question::Unasked::Accept);
}

/// File, text to replace, replacement, beginning of the error, and a part of it.
type Mistake = (&'static str, &'static str, &'static str, &'static str, &'static str);

const MAIN_MISTAKES: [Mistake; 28] = [
    ("dropzone.yaml", "node: zone-1", "node: Zone 1", "dropzone.yaml:1: node:", "is not a name"),
    ("dropzone.yaml", "node: zone-1", "nod: zone-1", "dropzone.yaml:1:", "unknown field `nod`"),
    ("dropzone.yaml", "host-key: keys/host\n", "", "dropzone.yaml", "missing field `host-key`"),
    ("dropzone.yaml", "spool: spool", "spool: none", "dropzone.yaml:6: spool:", "No such file"),
    ("dropzone.yaml", "spool: spool", "spool: dropzone.yaml", "dropzone.yaml:6: spool:", "regular folder"),
    ("dropzone.yaml", "directory: log", "directory: none", "dropzone.yaml:7: log.directory:", "No such file"),
    ("dropzone.yaml", "keep-days: 31", "keep-days: 0", "dropzone.yaml:7: log.keep-days:", "1 to 3660"),
    ("dropzone.yaml", "keep-days: 31", "keep-days: -1", "dropzone.yaml:7: log.keep-days:", "expected u64"),
    ("dropzone.yaml", "keep-days: 31", "keep-days: many", "dropzone.yaml:7: log.keep-days:", "expected u64"),
    (
        "dropzone.yaml",
        "serve: \"127.0.0.1",
        "serve: \"0.0.0.0",
        "dropzone.yaml:8: metrics.serve:",
        "loopback",
    ),
    (
        "dropzone.yaml",
        "databases:",
        "sockets: {work: run/serve.sock}\ndatabases:",
        "dropzone.yaml:9: sockets.work:",
        "also the socket of serve",
    ),
    (
        "dropzone.yaml",
        "databases:",
        "sockets: {work: /a/path/that/is/longer/than/the/hundred/and/seven/bytes/which/the/kernel/has/room/for/in/an/address/work.sock}\ndatabases:",
        "dropzone.yaml:9: sockets.work:",
        "a shorter path",
    ),
    (
        "dropzone.yaml",
        "databases:",
        "sockets: {cli: x}\ndatabases:",
        "dropzone.yaml:9: sockets",
        "unknown field",
    ),
    ("dropzone.yaml", ":9722", ":9721", "dropzone.yaml:8: metrics.work:", "also the address"),
    ("dropzone.yaml", "[\"127.0.0.1:2222\"]", "[]", "dropzone.yaml:2: listen:", "nobody could connect"),
    ("dropzone.yaml", "[\"127.0.0.1:2222\"]", "[x]", "dropzone.yaml:2: listen[0]:", "IP address"),
    (
        "dropzone.yaml",
        "[\"127.0.0.1:2222\"]",
        "[\"[::]:1\", \"[::]:1\"]",
        "dropzone.yaml:2: listen[1]:",
        "twice",
    ),
    ("dropzone.yaml", "10s", "10", "dropzone.yaml:11: limits.login-grace:", "15s or 5m"),
    ("dropzone.yaml", "10s", "1h", "dropzone.yaml:11: limits.login-grace:", "1s to 10m"),
    ("dropzone.yaml", "8 MiB", "8", "dropzone.yaml:11: limits.unwritten-bytes:", "1.0 MiB to 1.0 GiB"),
    ("dropzone.yaml", "8 MiB", "8 apples", "dropzone.yaml:11: limits.unwritten-bytes:", "not a size"),
    ("dropzone.yaml", "node: zone-1", "work: {jobs: 0}", "dropzone.yaml:1: work.jobs:", "1 to 64"),
    ("dropzone.yaml", "node: zone-1", "work: {lease: 999ms}", "dropzone.yaml:1: work.lease:", "1s to 1h"),
    ("dropzone.yaml", "  register:", "  Register:", "dropzone.yaml:10: databases.Register:", "is not a name"),
    ("dropzone.yaml", "node: zone-1", "node: a\nnode: b", "dropzone.yaml:", "duplicate"),
    ("dropzone.yaml", "node: zone-1", "node: [", "dropzone.yaml:", "Remedy"),
    ("dropzone.yaml", "8 MiB}", "8 MiB}\n---\nnode: b", "dropzone.yaml", "more than one document"),
    ("dropzone.yaml", "[keys/age]", "[]", "exchanges/pillar-3.yaml:15: flows[0].job:", "no age identity"),
];

const INSTITUTION_MISTAKES: [Mistake; 18] = [
    (
        "institutions/agii.yaml",
        "institution: agii",
        "institution: aggi",
        "institutions/agii.yaml:1: institution:",
        "same name",
    ),
    (
        "institutions/agii.yaml",
        "label: an",
        "label: \"\"",
        "institutions/agii.yaml:4: people[0].label:",
        "is empty",
    ),
    (
        "institutions/agii.yaml",
        "label: an",
        "label: \"a\\nb\"",
        "institutions/agii.yaml:4: people[0].label:",
        "control",
    ),
    (
        "institutions/agii.yaml",
        "people:\n",
        "people:\n  - {label: an, keys: []}\n",
        "institutions/agii.yaml:5: people[1].label:",
        "two people",
    ),
    (
        "institutions/agii.yaml",
        "- ssh",
        "- command=\"sh\" ssh",
        "institutions/agii.yaml:6: people[0].keys[0]:",
        "options",
    ),
    (
        "institutions/agii.yaml",
        "- ssh",
        "- ssh-dss",
        "institutions/agii.yaml:6: people[0].keys[0]:",
        "not an OpenSSH",
    ),
    (
        "institutions/agii.yaml",
        "- ssh",
        "- {kee: x}\n      - ssh",
        "institutions/agii.yaml:6: people[0].keys[0]:",
        "unknown field `kee`",
    ),
    (
        "institutions/agii.yaml",
        "- ssh",
        "- [x]\n      - ssh",
        "institutions/agii.yaml:6: people[0].keys[0]:",
        "public key line",
    ),
    (
        "institutions/agii.yaml",
        "recipients: [age1",
        "recipients: [age2",
        "institutions/agii.yaml:7: recipients[0]:",
        "not an X25519",
    ),
    (
        "institutions/agii.yaml",
        "recipients: [",
        "recipients: [AGE-SECRET-KEY-1X, ",
        "institutions/agii.yaml:7: recipients[0]:",
        "secret age identity",
    ),
    (
        "institutions/agii.yaml",
        "10.0.0.0/8",
        "10.0.0.1/8",
        "institutions/agii.yaml:8: networks[0]:",
        "write 10.0.0.0/8",
    ),
    (
        "institutions/agii.yaml",
        "10.0.0.0/8",
        "localhost",
        "institutions/agii.yaml:8: networks[0]:",
        "not a network",
    ),
    ("institutions/agii.yaml", "title: Agency\n", "", "institutions/agii.yaml", "missing field `title`"),
    (
        "institutions/atlas.yaml",
        "2027-01-01",
        "2025-12-31",
        "institutions/atlas.yaml:6: people[0].keys[0].not-after:",
        "before not-before",
    ),
    (
        "institutions/atlas.yaml",
        "2027-01-01",
        "2027-02-30",
        "institutions/atlas.yaml:6: people[0].keys[0].not-after:",
        "not a day",
    ),
    (
        "institutions/atlas.yaml",
        "ecdsa",
        "ssh-ed25519",
        "institutions/atlas.yaml:6: people[0].keys[0]:",
        "not an OpenSSH",
    ),
    (
        "institutions/atlas.yaml",
        "institution: atlas",
        "institution: atlas\ninstitution: atlas",
        "institutions/atlas.yaml:",
        "duplicate",
    ),
    (
        "institutions/agii.yaml",
        "institution: agii",
        "",
        "institutions/agii.yaml",
        "missing field `institution`",
    ),
];

const EXCHANGE_MISTAKES: [Mistake; 26] = [
    (
        "exchanges/pillar-3.yaml",
        "max-size: 1 GiB",
        "max-size: 1 GiB, collision: overwrite",
        "exchanges/pillar-3.yaml:14: flows[0].accept.collision:",
        "write reject",
    ),
    (
        "exchanges/pillar-3.yaml",
        "max-size: 1 GiB",
        "max-size: 1 GiB, unasked: maybe",
        "exchanges/pillar-3.yaml:14: flows[0].accept.unasked:",
        "write accept",
    ),
    (
        "exchanges/pillar-3.yaml",
        "exchange: pillar-3",
        "exchange: pillar",
        "exchanges/pillar-3.yaml:1: exchange:",
        "same name",
    ),
    (
        "exchanges/pillar-3.yaml",
        "2028-03-02",
        "2023-03-02",
        "exchanges/pillar-3.yaml:7: agreement.until:",
        "before from",
    ),
    (
        "exchanges/pillar-3.yaml",
        "atlas: [collect]",
        "atlsa: [collect]",
        "exchanges/pillar-3.yaml:10: parties.atlsa:",
        "unknown institution",
    ),
    (
        "exchanges/pillar-3.yaml",
        "atlas: [collect]",
        "agii: [collect]",
        "exchanges/pillar-3.yaml:",
        "duplicate entry \"agii\"",
    ),
    (
        "exchanges/pillar-3.yaml",
        "[collect]",
        "[]",
        "exchanges/pillar-3.yaml:10: parties.atlas:",
        "may do nothing",
    ),
    (
        "exchanges/pillar-3.yaml",
        "[collect]",
        "[look]",
        "exchanges/pillar-3.yaml:10: parties.atlas[0]:",
        "not a part",
    ),
    (
        "exchanges/pillar-3.yaml",
        "to: [agii]",
        "to: [atlsa]",
        "exchanges/pillar-3.yaml:21: flows[0].to[0]:",
        "not a party",
    ),
    (
        "exchanges/pillar-3.yaml",
        "to: [agii]",
        "to: []",
        "exchanges/pillar-3.yaml:21: flows[0].to:",
        "is empty",
    ),
    (
        "exchanges/pillar-3.yaml",
        "to: [agii]",
        "to: [agii, agii]",
        "exchanges/pillar-3.yaml:21: flows[0].to[1]:",
        "twice",
    ),
    (
        "exchanges/pillar-3.yaml",
        "from: [agii]",
        "from: [atlas]",
        "exchanges/pillar-3.yaml:13: flows[0].from[0]:",
        "may not drop",
    ),
    (
        "exchanges/pillar-3.yaml",
        "agii: [drop, collect]",
        "agii: [drop]",
        "exchanges/pillar-3.yaml:21: flows[0].to[0]:",
        "may not collect",
    ),
    (
        "exchanges/pillar-3.yaml",
        "database: register",
        "database: regster",
        "exchanges/pillar-3.yaml:17: flows[0].job.query.database:",
        "unknown database",
    ),
    (
        "exchanges/pillar-3.yaml",
        "SELECT arrival.*",
        "DELETE arrival.*",
        "exchanges/pillar-3.yaml:18: flows[0].job.query.sql:",
        "SELECT or WITH",
    ),
    (
        "exchanges/pillar-3.yaml",
        "-- &x",
        "; SELECT 2",
        "exchanges/pillar-3.yaml:18: flows[0].job.query.sql:",
        "more than one statement",
    ),
    (
        "exchanges/pillar-3.yaml",
        "[insz, category]",
        "[]",
        "exchanges/pillar-3.yaml:20: flows[0].job.query.columns:",
        "is empty",
    ),
    (
        "exchanges/pillar-3.yaml",
        "[insz, category]",
        "[insz, insz]",
        "exchanges/pillar-3.yaml:20: flows[0].job.query.columns[1]:",
        "twice",
    ),
    (
        "exchanges/pillar-3.yaml",
        "*.csv.age",
        "*.[csv",
        "exchanges/pillar-3.yaml:14: flows[0].accept.names[0]:",
        "not a pattern",
    ),
    (
        "exchanges/pillar-3.yaml",
        "*.csv.age",
        "in/*",
        "exchanges/pillar-3.yaml:14: flows[0].accept.names[0]:",
        "without /",
    ),
    (
        "exchanges/pillar-3.yaml",
        "names: [\"*.csv.age\"], ",
        "",
        "exchanges/pillar-3.yaml:23: flows[1].from[0]:",
        "never reached",
    ),
    (
        "exchanges/pillar-3.yaml",
        "*.csv.age",
        "*",
        "exchanges/pillar-3.yaml:23: flows[1].from[0]:",
        "never reached",
    ),
    (
        "exchanges/pillar-3.yaml",
        "flow: rest",
        "flow: enrich",
        "exchanges/pillar-3.yaml:22: flows[1].flow:",
        "two flows",
    ),
    (
        "exchanges/pillar-3.yaml",
        "job: relay",
        "job: replay",
        "exchanges/pillar-3.yaml:25: flows[1].job:",
        "unknown job",
    ),
    (
        "exchanges/pillar-3.yaml",
        "job: relay",
        "job: {relay: true}",
        "exchanges/pillar-3.yaml:25: flows[1].job:",
        "unknown field",
    ),
    (
        "exchanges/pillar-3.yaml",
        "1 GiB",
        "0 B",
        "exchanges/pillar-3.yaml:14: flows[0].accept.max-size:",
        "out of range",
    ),
];

#[test]
fn every_mistake_is_told_with_its_file_line_key_and_remedy() {
    let mistakes = MAIN_MISTAKES.iter().chain(&INSTITUTION_MISTAKES).chain(&EXCHANGE_MISTAKES);
    for (file, old, new, beginning, part) in mistakes {
        let zone = Zone::new();
        zone.replace(file, old, new);
        let errors = zone.errors();
        let told = errors.iter().any(|error| error.starts_with(beginning) && error.contains(part));
        assert!(told, "{old:?} -> {new:?}: expected {beginning} … {part}\ngot {errors:#?}");
        assert!(errors.iter().all(|error| error.contains(". Remedy: ") && !error.contains("AAAA")));
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_none_is_made_up() {
    let zone = Zone::new();
    zone.replace("dropzone.yaml", "keep-days: 31", "keep-days: 9999");
    zone.replace("institutions/agii.yaml", "10.0.0.0/8", "x");
    zone.replace("exchanges/pillar-3.yaml", "2023-03-03", "x");
    zone.replace("exchanges/pillar-3.yaml", "1 MiB", "x");
    assert_eq!(zone.errors().len(), 4, "{:#?}", zone.errors());
    // An institution whose file is broken is still known by name.
    let zone = Zone::new();
    zone.write("institutions/atlas.yaml", b"{");
    assert_eq!(zone.errors().len(), 1, "{:#?}", zone.errors());
}

#[test]
fn a_key_belongs_to_one_person() {
    let zone = Zone::new();
    zone.replace("institutions/atlas.yaml", BO, AN);
    let errors = zone.errors();
    assert!(errors[0].starts_with("institutions/atlas.yaml:6: people[0].keys[0]: SHA256:"), "{errors:?}");
    assert!(errors[0].contains("already the key of an of agii"), "{errors:?}");
    let zone = Zone::new();
    zone.replace(
        "institutions/agii.yaml",
        "people:\n",
        &format!("people:\n  - {{label: cy, keys: [{AN}]}}\n"),
    );
    assert!(zone.errors()[0].contains("already the key of cy of agii"), "{:?}", zone.errors());
}

#[test]
fn the_strict_profile_takes_ed25519_keys_only_and_says_whose_others_are() {
    let zone = Zone::new();
    assert_eq!(load(zone.path()).unwrap().machine.algorithms, Algorithms::Compat);
    zone.replace("dropzone.yaml", "spool: spool", "spool: spool\nalgorithms: strict");
    let errors = zone.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("institutions/atlas.yaml:6: people[0].keys[0]: SHA256:"), "{errors:?}");
    assert!(errors[0].contains("ecdsa-sha2-nistp256"), "{errors:?}");
    zone.replace("dropzone.yaml", "strict", "paranoid");
    assert!(
        zone.errors()[0].starts_with("dropzone.yaml:7: algorithms: unknown variant"),
        "{:?}",
        zone.errors()
    );
}

#[test]
fn what_strangers_can_write_is_refused() {
    for (file, mode, beginning) in [
        ("", 0o777, "/"),
        ("institutions", 0o777, "institutions: "),
        ("exchanges", 0o1777, "exchanges: "),
        ("dropzone.yaml", 0o666, "dropzone.yaml: "),
        ("institutions/agii.yaml", 0o642, "institutions/agii.yaml: "),
        ("spool", 0o777, "dropzone.yaml:6: spool: "),
    ] {
        let zone = Zone::new();
        zone.mode(file, mode);
        let errors = zone.errors();
        assert!(errors[0].starts_with(beginning) && errors[0].contains("written by others"), "{errors:?}");
    }
}

#[test]
fn missing_files_and_folders_are_told() {
    let zone = Zone::new();
    let errors = load(&zone.path().join("none")).unwrap_err();
    assert_eq!((errors.len(), worst(&errors)), (1, Some(Cause::Absent)));
    for name in ["dropzone.yaml", "institutions", "exchanges"] {
        let zone = Zone::new();
        fs::rename(zone.path().join(name), zone.path().join("elsewhere")).unwrap();
        let errors = zone.errors();
        assert!(errors[0].starts_with(&format!("{name}: cannot open")), "{errors:?}");
    }
    let zone = Zone::new();
    fs::rename(zone.path().join("dropzone.yaml"), zone.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(zone.path().join("elsewhere"), zone.path().join("dropzone.yaml")).unwrap();
    assert!(zone.errors()[0].contains("not a regular file"));
}

#[test]
fn a_flow_whose_receiver_has_no_recipient_takes_nothing() {
    let zone = Zone::new();
    zone.replace("exchanges/pillar-3.yaml", "to: [agii]", "to: [atlas]");
    let loaded = load_with_notes(zone.path()).unwrap();
    let exchange = loaded.config.exchanges.values().next().unwrap();
    let (agii, name) = (Slug::parse("agii").unwrap(), Name::parse("list.csv.age").unwrap());
    assert_eq!(exchange.flow_taking(&agii, &name).map(|flow| &flow.name), Err(Reason::FlowNotReady));
}

#[test]
fn other_files_are_ignored_and_noted() {
    let zone = Zone::new();
    for name in [".agii.yaml.swp", "agii.yaml~", "agii.yml"] {
        zone.write(&format!("institutions/{name}"), b"{");
    }
    let notes = load_with_notes(zone.path()).unwrap().notes;
    let files: Vec<&str> = notes.iter().map(|note| note.file.as_str()).collect();
    assert_eq!(files, ["institutions/agii.yaml~", "institutions/agii.yml"]);
    zone.write("institutions/Agii 2.yaml", AGII.as_bytes());
    assert!(zone.errors()[0].starts_with("institutions/Agii 2.yaml: "), "{:?}", zone.errors());
}

#[test]
fn bombs_and_floods_are_refused_quickly() {
    let laughs: String = std::iter::once("a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain(('b'..='i').map(|c| {
            let before = char::from(c as u8 - 1);
            format!("{c}: &{c} [{}]\n", vec![format!("*{before}"); 9].join(", "))
        }))
        .collect();
    let floods: [(&str, Vec<u8>, &str); 12] = [
        ("aliases", laughs.into_bytes(), "by alias"),
        ("merge", b"x: &x {a: b}\ny:\n  <<: *x\n".to_vec(), "by alias"),
        ("brackets", vec![b'['; 1 << 20], "nested too deeply"),
        ("braces", vec![b'{'; 1 << 20], "nested too deeply"),
        ("dashes", b"- ".repeat(1 << 19), "nested too deeply"),
        ("questions", b"? ".repeat(1 << 19), "nested too deeply"),
        ("colons", b"a: ".repeat(1 << 18), "Remedy"),
        ("quotes", b"\"".repeat(1 << 20), "Remedy"),
        (
            "keys",
            (0..100_000).map(|n| format!("k{n}: 1\n")).collect::<String>().into_bytes(),
            "unknown field",
        ),
        ("binary", vec![0xff; 1 << 20], "not UTF-8"),
        ("zeros", vec![0; 1 << 20], "Remedy"),
        ("large", vec![b'#'; (1 << 20) + 1], "larger than 1048576 bytes"),
    ];
    for (name, flood, part) in floods {
        let zone = Zone::new();
        zone.write("institutions/agii.yaml", &flood);
        let begun = Instant::now();
        let errors = zone.errors();
        assert!(errors.iter().any(|error| error.contains(part)), "{name}: {errors:?}");
        assert!(errors.iter().all(|error| error.len() < 2_000), "{name}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{name}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_hundred_mebibytes_are_refused_unread() {
    let zone = Zone::new();
    let file = fs::OpenOptions::new().write(true).open(zone.path().join("exchanges/pillar-3.yaml")).unwrap();
    file.set_len(100 << 20).unwrap();
    let begun = Instant::now();
    assert!(zone.errors()[0].contains("larger than 1048576 bytes"));
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_folder_with_too_many_files_is_refused() {
    let zone = Zone::new();
    for n in 0..FILES_LIMIT {
        zone.write(&format!("exchanges/x{n}.txt"), b"");
    }
    assert!(zone.errors()[0].contains("more than 1000 files"));
}

#[test]
fn stars_and_ampersands_in_sql_are_no_aliases() {
    let zone = Zone::new();
    zone.replace("exchanges/pillar-3.yaml", "count(*)", "a.*, 2 *b, c &d, 'R&D'");
    assert_eq!(zone.errors(), Vec::<String>::new());
}

/// `MAIN` and `PILLAR` with more at their end.
fn with_retention(main: &str, exchange: &str) -> Result<Config, Vec<ConfigError>> {
    let zone = Zone::new();
    for (file, more) in [("dropzone.yaml", main), ("exchanges/pillar-3.yaml", exchange)] {
        let path = zone.0.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{more}\n")).unwrap();
    }
    load(zone.0.path())
}

#[test]
fn periods_come_from_the_exchange_then_the_machine_then_the_default() {
    use crate::policy::retention::{Kind, Period};
    let days = |days: u64| Period::After(Duration::from_secs(days * 86_400));
    let main = "retention: {done: 10d, receipts: 500d, digests: never}";
    let exchange = "retention: {done: 20d, results: never}";
    let rules = with_retention(main, exchange).unwrap().retention;
    let pillar = Slug::parse("pillar-3").unwrap();
    for (kind, of_zone, of_exchange) in [
        (Kind::Done, days(10), days(20)),
        (Kind::Result, days(90), Period::Never),
        (Kind::Receipt, days(500), days(500)),
        (Kind::Refused, days(31), days(31)),
        (Kind::Partial, days(1), days(1)),
        (Kind::Digest, Period::Never, Period::Never),
    ] {
        assert_eq!(rules.period(kind, None), of_zone, "{kind:?}");
        assert_eq!(rules.period(kind, Some(&pillar)), of_exchange, "{kind:?}");
    }
    let held = with_retention("", "legal-hold: true").unwrap().retention;
    assert_eq!(held.period(Kind::Done, Some(&pillar)), Period::Never);
    assert!(held.any_legal_hold() && !rules.any_legal_hold());
}

#[test]
fn periods_that_make_no_sense_are_refused_by_name() {
    for (main, exchange, told) in [
        ("retention: {done: 1h}", "", "dropzone.yaml"),
        ("retention: {done: 20y}", "", "out of range"),
        ("retention: {receipts: 20d}", "", "shorter than refused"),
        ("", "retention: {refused: never}", "shorter than refused"),
        ("", "retention: {digests: 31d}", "digests"),
        ("retention: {done: always}", "", "not a length of time"),
        ("", "legal-hold: perhaps", "pillar-3.yaml"),
    ] {
        let errors = with_retention(main, exchange).unwrap_err();
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(text.iter().any(|line| line.contains(told)), "{main} {exchange}: {text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0..4_usize) {
        let file = ["dropzone.yaml", "institutions/agii.yaml", "institutions/atlas.yaml", "exchanges/pillar-3.yaml"][which];
        let zone = Zone::new();
        zone.write(file, &bytes);
        prop_assert!(load(zone.path()).is_err());
    }

    #[test]
    fn no_slip_of_the_pen_makes_it_panic(
        at in any::<proptest::sample::Index>(),
        slip in "[-\\[\\]{}:,&*#?|>'\"!%@`~ \n\t0a<.]{1,4}",
        which in 0..4_usize,
    ) {
        let (file, text) = [
            ("dropzone.yaml", MAIN),
            ("institutions/agii.yaml", AGII),
            ("institutions/atlas.yaml", ATLAS),
            ("exchanges/pillar-3.yaml", PILLAR),
        ][which];
        let zone = Zone::new();
        let at = at.index(text.len());
        zone.write(file, format!("{}{slip}{}", &text[..at], &text[at..]).as_bytes());
        if let Err(errors) = load(zone.path()) {
            prop_assert!(!errors.is_empty());
        }
    }
}

#[test]
fn limits_penalties_and_proxies_are_as_documented_unless_a_zone_says_otherwise() {
    let zone = Zone::new();
    let machine = load(zone.path()).unwrap().machine;
    let (limits, penalties) = (&machine.limits, &machine.penalties);
    assert_eq!(limits.unauthenticated, EarlyDrop::parse("10:30:100").unwrap());
    let counts =
        [limits.unauthenticated_per_source, limits.sessions_per_source, limits.sessions_per_institution];
    assert_eq!(counts, [16, 64, 32]);
    assert_eq!(limits.unwritten_bytes_in_all, 256 << 20);
    assert_eq!(limits.spool_reserve, 256 << 20);
    let seconds = |duration: Duration| duration.as_secs();
    let times = [penalties.crash, penalties.authentication_failure, penalties.unknown_user];
    assert_eq!(times.map(seconds), [90, 5, 5]);
    let times = [penalties.no_authentication, penalties.grace_exceeded, penalties.min, penalties.max];
    assert_eq!(times.map(seconds), [1, 10, 15, 600]);
    assert!(penalties.enabled && penalties.exempt.is_empty() && machine.proxies.is_empty());
    zone.replace(
        "dropzone.yaml",
        "8 MiB}",
        "8 MiB, unauthenticated: \"1:2:3\", keepalive: 10s, keepalive-tries: 2, rekey-bytes: 2 MiB, rekey-after: 60s, spool-reserve: 0 B}\n\
         penalties: {enabled: false, no-authentication: 0s, exempt: [10.0.0.0/8]}\nproxy-protocol: {from: [192.0.2.7/32]}",
    );
    let machine = load(zone.path()).unwrap().machine;
    assert_eq!(machine.limits.unauthenticated, EarlyDrop::parse("1:2:3").unwrap());
    assert_eq!((machine.limits.keepalive_tries, machine.limits.rekey_bytes), (2, 2 << 20));
    assert_eq!(machine.limits.spool_reserve, 0);
    assert_eq!((seconds(machine.limits.keepalive), seconds(machine.limits.rekey_after)), (10, 60));
    assert!(!machine.penalties.enabled && machine.penalties.no_authentication.is_zero());
    assert_eq!((machine.penalties.exempt.len(), machine.proxies.len()), (1, 1));
}

#[test]
fn mistakes_in_limits_penalties_and_proxies_are_told_with_their_place() {
    for (text, place, told) in [
        ("limits: {unauthenticated: \"10:30\"}", "limits.unauthenticated:", "start:rate:full"),
        ("limits: {sessions-per-source: 0}", "limits.sessions-per-source:", "1 to 65536"),
        ("limits: {spool-reserve: 1G}", "limits.spool-reserve:", "8 MiB or 1 GiB"),
        ("limits: {rekey-bytes: 2 GiB}", "limits.rekey-bytes:", "1.0 GiB"),
        ("penalties: {crash: 2}", "penalties.crash:", "15s or 5m"),
        ("penalties: {min: 5m, max: 1m}", "penalties.max:", "shorter than min"),
        ("penalties: {exempt: [10.0.0.1/8]}", "penalties.exempt[0]:", "10.0.0.0/8"),
        ("penalties: {crsh: 2s}", "", "unknown field"),
        ("proxy-protocol: {from: [\"0.0.0.0/0\"]}", "proxy-protocol.from[0]:", "pose as any address"),
        ("proxy-protocol: {}", "", "missing field"),
    ] {
        let zone = Zone::new();
        zone.replace("dropzone.yaml", "limits: {login-grace: 10s, unwritten-bytes: 8 MiB}", text);
        let errors = zone.errors().join("\n");
        assert!(errors.contains(place) && errors.contains(told), "{text}: {errors}");
    }
}

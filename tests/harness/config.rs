//! The files of a test's zone: its machine, three institutions, and one exchange for each kind of thing that can happen.

use std::fs;

use super::programs::{public_key, recipient, sqlite};
use super::{AN, BO, Daemon, ELS, OTTO, Zone};

/// What the register knows, as SQL; the text in it would break a careless writer of CSV.
pub const KNOWN: [(&str, &str, &str); 3] = [
    ("85073003328", "werkzoekend", "2021-04-01"),
    ("90010112345", "in opleiding; \"deeltijds\", Geel-Oosterlo", "2019-11-30"),
    ("72022954321", "ingeschakeld één dag\nper week", ""),
];

/// Replaces what `dropzone init` wrote, but for the keys.
pub fn write(zone: &Zone) {
    let directory = zone.directory();
    for folder in ["institutions", "exchanges"] {
        for sample in fs::read_dir(directory.join(folder)).unwrap() {
            fs::remove_file(sample.unwrap().path()).unwrap();
        }
    }
    let machine = format!(
        "node: test\nlisten: [\"{}\"]\nhost-key: keys/ssh_host_ed25519_key\nidentities: [keys/zone.agekey]\n\
         signing-key: keys/signing_ed25519\nspool: spool\nlog: {{directory: log, keep-days: 31}}\n\
         metrics: {{serve: \"{}\", work: \"{}\"}}\ndatabases:\n  register: {{sqlite: register.db}}\n\
         work: {{scan-every: 200ms, jobs: 2, tries: 10}}\npenalties: {{exempt: [127.0.0.0/8]}}\n",
        zone.ssh(),
        zone.metrics(Daemon::Serve),
        zone.metrics(Daemon::Work)
    );
    fs::write(directory.join("dropzone.yaml"), machine).unwrap();
    let expired = format!("{{key: \"{}\", not-after: 2020-12-31}}", public_key(&zone.key_of(ELS)));
    let an = format!("\"{}\"", public_key(&zone.key_of(AN)));
    let people = [(AN.key, an.as_str()), (ELS.key, expired.as_str())];
    institution(zone, "agency", &people);
    institution(zone, "city", &[(BO.key, &format!("\"{}\"", public_key(&zone.key_of(BO))))]);
    institution(zone, "former", &[(OTTO.key, &format!("\"{}\"", public_key(&zone.key_of(OTTO))))]);
    for (name, text) in EXCHANGES {
        let agreement = "title: Test\n  legal-basis: decreet van 18 juli 2008, artikel 8 §1";
        let text = format!(
            "exchange: {name}\nagreement:\n  reference: ref-{name}\n  {agreement}\n{}",
            text.trim_start_matches('\n')
        );
        fs::write(directory.join("exchanges").join(format!("{name}.yaml")), text).unwrap();
    }
    make_register(zone);
}

/// The register, made by SQLite's own program, and put in place whole: a job never meets half of it.
pub fn make_register(zone: &Zone) {
    let rows = KNOWN.map(|row| format!("('{}','{}','{}')", row.0, row.1, row.2)).join(",");
    let new = zone.directory().join("register.new");
    sqlite(
        &new,
        &format!(
            "CREATE TABLE jobseekers (insz TEXT PRIMARY KEY, category TEXT, registered TEXT) WITHOUT ROWID;
             INSERT INTO jobseekers VALUES {rows};"
        ),
    );
    fs::rename(new, zone.register()).unwrap();
}

fn institution(zone: &Zone, name: &str, people: &[(&str, &str)]) {
    let mut text = format!(
        "institution: {name}\ntitle: Institution {name}\nrecipients: [{}]\npeople:\n",
        recipient(&zone.identity_of(name))
    );
    for (label, key) in people {
        text += &format!("  - label: {label}\n    keys:\n      - {key}\n");
    }
    fs::write(zone.directory().join("institutions").join(format!("{name}.yaml")), text).unwrap();
}

/// Name, and everything behind the agreement's title.
const EXCHANGES: [(&str, &str); 6] = [
    (
        "pillar-3",
        r#"
  from: 2023-03-03
parties:
  agency: [drop, collect]
flows:
  - flow: enrich
    from: [agency]
    accept: {names: ["*.csv.age"], max-size: 1 GiB, armored: true}
    job:
      query:
        database: register
        sql: |
          SELECT arrival.insz, j.category, j.registered
          FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz
          ORDER BY arrival.rowid
        columns: [insz, category, registered]
    to: [agency]
"#,
    ),
    (
        "notes",
        r#"
  from: 2023-03-03
parties:
  agency: [drop, collect]
flows:
  - flow: enrich
    from: [agency]
    accept: {names: ["*.csv.age"], max-size: 1 MiB}
    job:
      query:
        database: register
        sql: |
          SELECT arrival.*, j.category
          FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz
          ORDER BY arrival.rowid
    to: [agency]
"#,
    ),
    (
        "relay",
        r#"
  from: 2024-02-01
parties:
  agency: [drop]
  city: [collect]
flows:
  - flow: hand-on
    from: [agency]
    accept: {names: ["*.age"], max-size: 1 GiB}
    job: relay
    to: [city]
"#,
    ),
    (
        "small",
        r#"
  from: 2024-02-01
parties:
  agency: [drop]
  city: [collect]
flows:
  - flow: hand-on
    from: [agency]
    accept: {names: ["*.age"], max-size: 100 KiB}
    job: relay
    to: [city]
"#,
    ),
    (
        "city-only",
        r#"
  from: 2024-02-01
parties:
  city: [drop, collect]
flows:
  - flow: keep
    from: [city]
    accept: {names: ["*.age"], max-size: 1 MiB}
    job: relay
    to: [city]
"#,
    ),
    (
        "closed",
        r#"
  from: 2021-07-01
  until: 2022-06-30
parties:
  agency: [drop, collect]
  former: [drop, collect]
flows:
  - flow: hand-on
    from: [agency, former]
    accept: {max-size: 1 MiB}
    job: relay
    to: [agency, former]
"#,
    ),
];

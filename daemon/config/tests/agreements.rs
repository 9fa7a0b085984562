//! What an exchange file can say of its agreement beyond who, when and what: rhythm, content rules, shaping, locks.

use super::*;
use crate::policy::agreement::{Collecting, Job, OnFault};
use crate::policy::outgoing::{Lock, Receivers};
use crate::policy::rhythm::{ArrivalKey, Period};
use crate::policy::rules::{Alphabet, Format, Kind};

const RICH: &str = "\
exchange: pillar-3
agreement:
  reference: P-3
  title: Third pillar
  legal-basis: decree
  from: 2023-03-03
  until: 2028-03-02
  notice: 1 month
  contact: dpo@vdab.example
  incidents: {within: 24h, to: dpo@agii.example}
  after-end: 7d
  parties-keep: five years after the end
parties:
  agii: {may: [drop, collect], people: {at-most: 2, only: [an], functions: [clerk]}, handoff: true}
  atlas: [collect]
collected: {by: download, grace: 2h}
tables:
  list:
    formats: [csv, xlsx]
    template: true
    columns:
      - {column: insz, type: insz, required: true}
      - {column: born, type: date, required: true}
      - {column: name, type: text, at-most: 80, alphabet: letters}
      - {column: level, type: one-of, values: [A1, A2]}
      - {column: consent, type: yes-no}
    rows: [{column: consent, is: [ja]}]
    forbid: [insz]
flows:
  - flow: first
    from: [agii]
    accept: {names: [\"a*.age\"], max-size: 1 MiB}
    rhythm: {period: 6 months, at-most: 2, expected: true, grace: 14d, once-per: {columns: [insz, born]}}
    table: list
    faults: report
    job: shape
    deliver:
      - to: [agii]
        columns: [{column: insz, as: pseudonym, pseudonym: true}, level]
        format: xlsx
        lock: passphrase
      - split: {by: level, among: {A1: atlas}}
  - flow: second
    from: [agii]
    accept: {names: [\"b*.age\"], max-size: 1 MiB}
    rhythm: {period: calendar-year, once-per: name}
    job: {command: {argv: [/usr/bin/true, -x], network: true, reads: [/opt/model], columns: [x]}}
    deliver: [{split: {by: x, people-of: [agii]}}]
";

fn rich() -> Zone {
    let zone = Zone::new();
    zone.write("exchanges/pillar-3.yaml", RICH.as_bytes());
    zone
}

#[test]
fn everything_that_an_agreement_can_say_becomes_checked_values() {
    let zone = rich();
    let config = load(zone.path()).unwrap();
    let exchange = config.exchanges.values().next().unwrap();
    let agreement = &exchange.agreement;
    assert_eq!((agreement.notice, agreement.after_end), (Some(1), Duration::from_secs(7 * 86_400)));
    assert_eq!(agreement.incidents.as_ref().unwrap().within, Duration::from_secs(86_400));
    let agii = Slug::parse("agii").unwrap();
    let circle = &exchange.circles[&agii];
    assert_eq!((circle.at_most, circle.only.as_ref().unwrap().len()), (Some(2), 1));
    assert_eq!(exchange.handoff.as_ref(), Some(&agii));
    assert_eq!(
        (exchange.collected.by, exchange.collected.grace),
        (Collecting::Download, Duration::from_secs(7200))
    );
    let first = &exchange.flows[0];
    let rules = first.input.as_ref().unwrap();
    assert!(rules.is_template && rules.forbids_insz && rules.takes(Format::Xlsx));
    assert_eq!(rules.columns[2].kind, Kind::Text { at_most: 80, alphabet: Alphabet::Letters });
    assert_eq!((first.on_fault, &first.job), (OnFault::Report, &Job::Shape));
    let rhythm = first.rhythm.as_ref().unwrap();
    assert_eq!(rhythm.quota.unwrap().period, Period::Months(6));
    assert_eq!(rhythm.once_per, Some(ArrivalKey::Columns(vec!["insz".into(), "born".into()])));
    let (to_agii, to_atlas) = (&first.deliveries[0], &first.deliveries[1]);
    assert_eq!((to_agii.lock, to_agii.format), (Lock::Passphrase, Some(Format::Xlsx)));
    let pseudonym = &to_agii.columns.as_ref().unwrap()[0];
    assert_eq!(
        (pseudonym.from.as_str(), pseudonym.name.as_str(), pseudonym.is_pseudonym),
        ("insz", "pseudonym", true)
    );
    assert!(matches!(&to_atlas.receivers, Receivers::Split { by, .. } if by == "level"));
    assert_eq!(first.to.iter().map(Slug::as_str).collect::<Vec<_>>(), ["agii", "atlas"]);
    let second = &exchange.flows[1];
    assert!(matches!(&second.job, Job::Command(command) if command.network && command.argv.len() == 2));
    assert_eq!(second.rhythm.as_ref().unwrap().quota.unwrap().period, Period::CalendarYear);
}

/// What is replaced, by what, and what the error says of its place and its kind.
const MISTAKES: [(&str, &str, &str, &str); 22] = [
    ("notice: 1 month", "notice: soon", "agreement.notice", "not a number of months"),
    ("within: 24h", "within: 24", "agreement.incidents.within", "not a length of time"),
    ("after-end: 7d", "after-end: 1h", "agreement.after-end", "out of range"),
    ("at-most: 2, only", "at-most: 0, only", "parties.agii.people.at-most", "out of range"),
    ("only: [an]", "only: []", "parties.agii.people.only", "is empty"),
    ("atlas: [collect]", "atlas: {may: [collect], handoff: true}", "parties.atlas.handoff", "two parties"),
    ("by: download", "by: looking", "collected.by", "not a choice"),
    ("formats: [csv, xlsx]", "formats: [ods]", "tables.list.formats[0]", "not a format"),
    ("type: insz, required", "type: number, required", "tables.list.columns[0].type", "not a type"),
    ("{column: name,", "{column: INSZ,", "tables.list.columns[2].column", "twice"),
    (
        "type: date, required: true}",
        "type: date, at-most: 3, required: true}",
        "tables.list.columns[1].at-most",
        "says nothing",
    ),
    ("rows: [{column: consent,", "rows: [{column: agrees,", "tables.list.rows[0].column", "not a column"),
    ("forbid: [insz]", "forbid: [names]", "tables.list.forbid[0]", "cannot be forbidden"),
    ("period: 6 months", "period: 6 weeks", "flows[0].rhythm.period", "not a number of months"),
    (
        "{period: calendar-year, once-per: name}",
        "{expected: true}",
        "flows[1].rhythm.expected",
        "needs a period",
    ),
    ("table: list", "table: lists", "flows[0].table", "unknown table"),
    ("job: shape", "job: relay", "flows[0].table", "stays closed"),
    ("pseudonym: true}, level]", "pseudonym: true}, age]", "flows[0].deliver[0].columns[1]", "not a column"),
    ("{by: level, among", "{by: level, people-of: [agii], among", "flows[0].deliver[1].split", "one of"),
    ("{A1: atlas}", "{A1: agii}", "flows[0].deliver", "two deliveries"),
    ("lock: passphrase", "lock: padlock", "flows[0].deliver[0].lock", "not a lock"),
    ("argv: [/usr/bin/true", "argv: [true", "flows[1].job.command.argv", "absolute path"),
];

#[test]
fn every_mistake_in_an_agreement_is_told_with_its_place() {
    for (old, new, place, kind) in MISTAKES {
        let zone = rich();
        zone.replace("exchanges/pillar-3.yaml", old, new);
        let errors = zone.errors();
        let is_it = |error: &String| error.contains(&format!(" {place}: ")) && error.contains(kind);
        assert!(errors.iter().any(is_it), "{old} -> {new}: {errors:#?}");
    }
}

#[test]
fn a_database_is_a_file_or_a_server_that_is_known_for_sure() {
    let server = "{postgres: {host: db.vdab.example, database: register, user: dropzone, ca: keys/ca.pem}}";
    let near = "{postgres: {host: /run/postgresql, database: register, user: dropzone, tls: local}}";
    for (database, problem) in [
        (server, None),
        (near, None),
        ("{}", Some("needs one of")),
        ("{postgres: {host: db.vdab.example, database: r, user: d}}", Some("has no ca")),
        ("{postgres: {host: db.vdab.example, database: r, user: d, tls: local}}", Some("another machine")),
        ("{postgres: {host: 127.0.0.1, database: r, user: d, tls: maybe}}", Some("not a choice")),
        ("{postgres: {host: /run/postgresql, database: r, user: d, ca: c.pem}}", Some("has no TLS")),
    ] {
        let zone = Zone::new();
        zone.replace("dropzone.yaml", "{sqlite: register.db}", database);
        match problem {
            None => assert_eq!(load(zone.path()).unwrap().machine.databases.len(), 1, "{database}"),
            Some(problem) => assert!(zone.errors().iter().any(|error| error.contains(problem)), "{database}"),
        }
    }
}

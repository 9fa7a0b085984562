//! The demo's zone: two institutions, one exchange each of them knows, one that only one of them does, and keys for made-up
//! people. A real zone never makes people's keys.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ssh_key::PrivateKey;

use super::people;
use crate::cli::init::{self, ZoneKeys};

/// People on the list that is sent.
pub const PEOPLE: u64 = 1000;

/// A demo zone on disk.
pub struct DemoZone {
    /// Its folder.
    pub directory: PathBuf,
    /// The public halves of the zone's keys.
    pub keys: ZoneKeys,
    /// Where `serve` listens.
    pub ssh: SocketAddr,
    /// Where `serve` shows its metrics.
    pub serve_metrics: SocketAddr,
    /// Where `work` shows its metrics.
    pub work_metrics: SocketAddr,
    /// The key of a person of the agency.
    pub agency_key: PrivateKey,
    /// The key of a person of the city.
    pub city_key: PrivateKey,
    /// How many people the register knows.
    pub known: u64,
}

impl DemoZone {
    /// The keys of the made-up people.
    pub fn people_folder(&self) -> PathBuf {
        self.directory.join("people")
    }

    /// The agency's age identity, for `age -d -i`.
    pub fn agency_identity_file(&self) -> PathBuf {
        self.directory.join("people/agency.agekey")
    }
}

/// Makes the zone in an empty folder.
pub fn make(directory: &Path) -> anyhow::Result<DemoZone> {
    // The sockets are closed again before the daemons open theirs; on a machine that is not busy nobody takes the ports
    // in between, and if somebody does, the daemons say so.
    let [ssh, serve_metrics, work_metrics] = free_addresses()?;
    let people_folder = directory.join("people");
    crate::host::files::make_folder(&people_folder, 0o700)?;
    let agency_key = init::write_ssh_key(&people_folder.join("an.agency"), "an.peeters@agency")?;
    let city_key = init::write_ssh_key(&people_folder.join("bo.city"), "bo.claes@city")?;
    let agency_recipient = init::write_identity(&people_folder.join("agency.agekey"))?;
    let city_recipient = init::write_identity(&people_folder.join("city.agekey"))?;
    let machine = format!(
        "node: demo\nlisten: [\"{ssh}\"]\nhost-key: {}\nidentities: [{}]\nsigning-key: {}\nspool: spool\n\
         log: {{directory: log, keep-days: 31}}\nmetrics: {{serve: \"{serve_metrics}\", work: \"{work_metrics}\"}}\n\
         databases:\n  register: {{sqlite: register.db}}\n",
        init::HOST_KEY,
        init::IDENTITY,
        init::SIGNING_KEY
    );
    let agency =
        institution("agency", "Agency for integration", "an.peeters", &agency_key, &agency_recipient)?;
    let city = institution("city", "City", "bo.claes", &city_key, &city_recipient)?;
    let texts = [
        ("dropzone.yaml", machine.as_str()),
        ("institutions/agency.yaml", agency.as_str()),
        ("institutions/city.yaml", city.as_str()),
        ("exchanges/pillar-3.yaml", PILLAR_3),
        ("exchanges/city-lists.yaml", CITY_LISTS),
    ];
    let keys = init::make_zone(directory, &texts)?;
    let known_hosts = format!("[{}]:{} {}\n", ssh.ip(), ssh.port(), keys.host_key);
    crate::host::files::write_new(&people_folder.join("known_hosts"), known_hosts.as_bytes(), 0o600)?;
    let known = people::write_register(&directory.join("register.db"), PEOPLE)?;
    let directory = directory.to_owned();
    Ok(DemoZone { directory, keys, ssh, serve_metrics, work_metrics, agency_key, city_key, known })
}

/// Three free loopback ports.
pub(super) fn free_addresses() -> anyhow::Result<[SocketAddr; 3]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port");
    // All are held until all are chosen, so that they differ.
    let held = [bind()?, bind()?, bind()?];
    let [a, b, c] = held.each_ref().map(TcpListener::local_addr);
    Ok([a?, b?, c?])
}

fn institution(
    name: &str,
    title: &str,
    label: &str,
    key: &PrivateKey,
    recipient: &str,
) -> anyhow::Result<String> {
    let key = key.public_key().to_openssh()?;
    Ok(format!(
        "institution: {name}\ntitle: {title}\npeople:\n  - label: {label}\n    keys: [\"{key}\"]\nrecipients: [{recipient}]\n"
    ))
}

const PILLAR_3: &str = "\
exchange: pillar-3
agreement:
  reference: demo-2023-03
  title: Monitoring of the third pillar of integration
  legal-basis: decree of 18 July 2008, article 8 §1
  from: 2023-03-03
parties:
  agency: [drop, collect]
flows:
  - flow: enrich
    from: [agency]
    accept: {names: [\"*.csv.age\"], max-size: 100 MiB, armored: true}
    job:
      query:
        database: register
        sql: |
          SELECT arrival.insz, j.registered, j.category, j.action
          FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz
          ORDER BY arrival.rowid
        columns: [insz, registered, category, action]
    to: [agency]
";

const CITY_LISTS: &str = "\
exchange: city-lists
agreement:
  reference: demo-2024-02
  title: Lists for a municipality
  legal-basis: decree of 18 July 2008, article 8 §1
  from: 2024-02-01
parties:
  agency: [drop]
  city: [collect]
flows:
  - flow: hand-on
    from: [agency]
    accept: {names: [\"*.age\"], max-size: 10 MiB}
    job: relay
    to: [city]
";

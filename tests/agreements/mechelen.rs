//! Agreement 5: contact data of those who consented, for the time of the pilot, which is over.

use std::fs;

use crate::shipped::{AGII, MECHELEN, Shipped};

const HEADER: &str =
    "naam,adres,telefoon,e-mail,contacttaal,niveau_nederlands,status_cursus_oriëntatie,toestemming";

fn contacts() -> String {
    let rows = [
        "Amina Alpha,\"Grote Markt 1, 2800 Mechelen\",+32 470 00 00 01,amina@example.org,Arabisch,A2,afgerond,ja",
        "Bilal Bravo,\"Veemarkt 2, 2800 Mechelen\",+32 470 00 00 02,bilal@example.org,Turks,A1,lopend,nee",
        "Celia Charlie,,,celia@example.org,Spaans,B1,afgerond,ja",
        "Dawit Delta,,,,Tigrinya,A1,lopend,",
    ];
    format!("{HEADER}\n{}\n", rows.join("\n"))
}

/// Without the other agreements, which would let some people in.
fn alone() -> Shipped {
    let zone = Shipped::lay_out();
    for other in ["client-feedback", "lists-lommel", "pillar-3", "social-protection"] {
        fs::remove_file(zone.zone.directory().join(format!("exchanges/{other}.yaml"))).unwrap();
    }
    zone
}

#[test]
fn the_city_receives_those_who_consented_and_nobody_else() {
    let zone = Shipped::at("2022-03-01 09:00:00");
    zone.send(AGII, "pilot-mechelen", "contacten.csv.age", contacts());
    let receipt = zone.receipt("agii", "pilot-mechelen", "contacten.csv.age", "delivered");
    let sent = zone.zone.put_here("contacts.csv", contacts());
    assert_eq!(zone.collect_one(MECHELEN, &receipt, "mechelen"), zone.expected("consenting", &[&sent]));
    let report = zone.quality_report(AGII, &receipt);
    for row in ["3;toestemming;", "5;toestemming;"] {
        assert!(report.lines().any(|line| line.starts_with(row)), "{row} in {report}");
    }
    assert!(!report.contains("Bilal") && !report.contains("Dawit"));
}

#[test]
fn today_it_is_over_and_everything_is_refused() {
    let mut pilot = alone();
    pilot.zone.start();
    for person in [AGII, MECHELEN] {
        pilot.zone.sftp(person, "ls /").must_fail();
    }
    // Who has other agreements gets in, and nothing of this one moves.
    let mut zone = Shipped::lay_out();
    zone.zone.start();
    zone.zone.put_here("late.age", zone.zone.encrypt(contacts()));
    zone.zone.sftp(AGII, "put late.age /pilot-mechelen/in/late.csv.age").must_fail();
    assert_eq!(zone.zone.accepted(), 0);
}

#[test]
fn at_midnight_in_brussels_it_closes_and_cuts_who_is_there() {
    let mut zone = alone();
    zone.start_at("2022-06-30 21:59:40");
    let sent = zone.zone.encrypt(contacts());
    let script = "import time\nclient = sftp()\nclient.listdir('/pilot-mechelen/out')\nprint('in')\ntime.sleep(45)\n\
                  client.listdir('/pilot-mechelen/out')\n";
    zone.zone.upload(AGII, "/pilot-mechelen/in/last.csv.age", &sent);
    zone.receipt("agii", "pilot-mechelen", "last.csv.age", "delivered");
    let Some(ran) = zone.zone.python(MECHELEN, script) else { return };
    assert!(ran.text().contains("in") && !ran.succeeded(), "{} {}", ran.text(), ran.stderr);
    zone.zone.sftp(MECHELEN, "ls /").must_fail();
    let ended = zone.zone.logged(&[("event", "logout"), ("institution", "mechelen")]);
    assert!(ended.iter().any(|line| line["reason"] == "no-open-exchange"), "{ended:#?}");
}

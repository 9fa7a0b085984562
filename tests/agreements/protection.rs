//! Agreement 3: the persons once a year to the agency, and to each care fund its own members and nobody else's.

use crate::people::insz;
use crate::shipped::{AGII, FUNDS, Shipped, VSB};

const IN_FORCE: &str = "2025-01-20 09:00:00";

fn members(count: u64) -> String {
    let line = |at: u64| format!("{},{}\n", insz(at), FUNDS[(at * at % 7 % 6) as usize].0);
    std::iter::once("insz,zorgkas\n".to_owned()).chain((0..count).map(line)).collect()
}

#[test]
fn each_care_fund_receives_exactly_its_own_members() {
    let zone = Shipped::at(IN_FORCE);
    let persons: String =
        std::iter::once("insz\n".to_owned()).chain((0..200).map(|at| insz(at) + "\n")).collect();
    zone.send(AGII, "social-protection", "personen-2025.csv.age", &persons);
    let receipt = zone.receipt("agii", "social-protection", "personen-2025.csv.age", "delivered");
    assert_eq!(zone.collect_one(VSB, &receipt, "vsb"), persons);

    let list = members(200);
    zone.send(VSB, "social-protection", "leden-2025.csv.age", &list);
    let receipt = zone.receipt("vsb", "social-protection", "leden-2025.csv.age", "delivered");
    let sent = zone.zone.put_here("members.csv", &list);
    let mut rows = 0;
    for (code, person) in FUNDS {
        let theirs = zone.collect_one(person, &receipt, person.user);
        let asked = zone.expected_with("members", &sent, code);
        assert_eq!(theirs, asked, "{}", person.user);
        rows += theirs.lines().count() - 1;
        for (other, someone) in FUNDS {
            let (theirs, others) =
                (zone.zone.folder_of("outbox", person.user, "social-protection"), someone.user);
            assert!(other == code || theirs.is_dir(), "{others}");
        }
        let listed = zone.listed(person, "/social-protection/out");
        assert_eq!(listed.len(), 1, "a fund sees its own file and no other: {listed:?}");
    }
    assert_eq!(rows, 200, "everybody is a member of one fund");
}

#[test]
fn a_fund_that_is_not_of_the_agreement_holds_the_list_and_a_second_list_in_a_year_too() {
    let zone = Shipped::at(IN_FORCE);
    zone.send(
        VSB,
        "social-protection",
        "leden-1.csv.age",
        format!("insz,zorgkas\n{},200\n{},700\n", insz(1), insz(2)),
    );
    let held = zone.receipt("vsb", "social-protection", "leden-1.csv.age", "held");
    assert_eq!(held["reason"]["code"], "content-rules");
    assert!(zone.quality_report(VSB, &held).lines().any(|line| line.starts_with("3;zorgkas;")));
    zone.send(VSB, "social-protection", "leden-2.csv.age", members(20));
    zone.receipt("vsb", "social-protection", "leden-2.csv.age", "delivered");
    zone.send(VSB, "social-protection", "leden-3.csv.age", members(30));
    let held = zone.receipt("vsb", "social-protection", "leden-3.csv.age", "held");
    assert_eq!(held["reason"]["code"], "surplus");
}

#[test]
fn after_five_years_nothing_moves() {
    let zone = Shipped::at("2026-11-22 09:00:00");
    zone.zone.sftp(VSB, "ls /").must_fail();
    for (_, person) in FUNDS {
        zone.zone.sftp(person, "ls /").must_fail();
    }
}

//! Agreement 1: AgII's numbers, VDAB's register, AgII's profiles, and the same people in every measurement without their numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::harness::Person;
use crate::harness::programs::recipient;
use crate::people::{dotted, insz, numbers, register};
use crate::shipped::{AGII, AMAL, ATLAS, Shipped, THIRD};

const FIRST: &str = "2025-04-01 09:00:00";
const SECOND: &str = "2025-10-06 09:00:00";
const ENRICHED: &str = "insz,eerste_inschrijving,laatste_inschrijving,categorie,status_dienstverlening,acties,uitstroom_naar_werk";
const PROFILE: [&str; 18] = [
    "leeftijdscategorie",
    "geslacht",
    "opleidingsniveau",
    "oudste_nationaliteit",
    "doorverwijzing",
    "doelgroep",
    "aanmelding",
    "contract",
    "kbi_regio",
    "beslissing_loopbaanoriëntatie",
    "reden_beslissing",
    "inschatting_leervermogen",
    "hoogste_niveau_nederlands",
    "type_traject",
    "diploma_erkenning",
    "resultaat_erkenning",
    "leefloon",
    "verblijfsstatus",
];

/// What AgII makes of the result it collected.
fn with_profiles(enriched: &str) -> String {
    let mut lines = enriched.lines();
    let mut text = format!("{},{}\n", lines.next().unwrap(), PROFILE.join(","));
    for (at, line) in lines.enumerate() {
        let sex = ["M", "V", "X"][at % 3];
        text += &format!(
            "{line},25-34,{sex},\"hoger, type {}\",Syrië,2024-01-15,nieuwkomer,2024-02-01,,Gent,ja,,hoog,A2,regulier,nee,,ja,erkend vluchteling\n",
            at % 4
        );
    }
    text
}

/// One measurement in both steps: what the partners have of it, by receiver, and the numbers that went in.
fn measure(
    zone: &Shipped,
    number: u32,
    people: std::ops::Range<u64>,
) -> (BTreeMap<&'static str, String>, Vec<String>) {
    let list = numbers(people.clone());
    let name = format!("insz-{number}.csv.age");
    zone.send(AGII, "pillar-3", &name, &list);
    let receipt = zone.receipt("agii", "pillar-3", &name, "delivered");
    let enriched = zone.collect_one(AGII, &receipt, "agii");
    let (sent, known) = (zone.zone.put_here("list.csv", &list), zone.zone.here().join("register.csv"));
    assert_eq!(enriched, zone.expected("enriched", &[&sent, &known]));

    let profiles = with_profiles(&enriched);
    let name = format!("profiel-{number}.csv.age");
    zone.send(AGII, "pillar-3", &name, &profiles);
    let receipt = zone.receipt("agii", "pillar-3", &name, "delivered");
    let sent = zone.zone.put_here("profiles.csv", &profiles);
    let expected = zone.expected("without_first_column", &[&sent]);
    let mut results = BTreeMap::new();
    for person in [AGII, ATLAS, AMAL] {
        let result = zone.collect_one(person, &receipt, person.user);
        let rest: String =
            result.lines().map(|line| line.split_once(',').unwrap().1.to_owned() + "\n").collect();
        assert_eq!(rest, expected, "{}", person.user);
        results.insert(person.user, result);
    }
    (results, people.map(insz).collect())
}

fn pseudonyms(result: &str) -> Vec<&str> {
    result.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect()
}

#[test]
fn both_steps_give_each_partner_the_agreed_columns_and_the_same_pseudonyms_in_every_measurement() {
    let mut zone = Shipped::lay_out();
    zone.write_register(&register(400));
    // The same exchange under another name is another agreement.
    let text = fs::read_to_string(zone.zone.directory().join("exchanges/pillar-3.yaml")).unwrap();
    let text = text.replacen("exchange: pillar-3", "exchange: other", 1).replacen(
        "handoff: true",
        "handoff: false",
        1,
    );
    fs::write(zone.zone.directory().join("exchanges/other.yaml"), text).unwrap();
    zone.start_at(FIRST);
    let (first, people) = measure(&zone, 1, 0..300);
    let of_first = pseudonyms(&first["atlas"]);
    assert_eq!(of_first.iter().collect::<BTreeSet<_>>().len(), 300, "each person has one of her own");
    for result in first.values() {
        assert_eq!(pseudonyms(result), of_first, "partners can compare");
        assert!(people.iter().all(|number| !result.contains(number) && !result.contains(&dotted(number))));
    }

    let other = with_profiles(&format!("{ENRICHED}\n{},,,,,,\n", people[0]));
    zone.send(AGII, "other", "profiel-1.csv.age", &other);
    let receipt = zone.receipt("agii", "other", "profiel-1.csv.age", "delivered");
    let elsewhere = zone.collect_one(ATLAS, &receipt, "atlas");
    assert!(!of_first.contains(&pseudonyms(&elsewhere)[0]), "another exchange, another pseudonym");

    zone.go_on_at(SECOND);
    let (second, _) = measure(&zone, 2, 200..400);
    let of_second = pseudonyms(&second["amal"]);
    assert_eq!(
        of_second[..100],
        of_first[200..],
        "the same people have the same pseudonyms half a year later"
    );
    assert!(of_second[100..].iter().all(|new| !of_first.contains(new)));
}

#[test]
fn a_third_key_of_vdab_is_refused() {
    let zone = Shipped::at(FIRST);
    zone.dropzone(&["check"]).must_succeed();
    zone.add_person("vdab", THIRD.key, "data steward");
    let refused = zone.dropzone(&["check"]).must_fail();
    assert!(refused.stderr.contains("pillar-3") && refused.stderr.contains("vdab"), "{}", refused.stderr);
    zone.dropzone(&["reload"]).must_fail();
    zone.zone.sftp(THIRD, "ls").must_fail();
}

#[test]
fn what_is_not_agreed_is_held_and_its_sender_learns_which_row_but_no_value() {
    let zone = Shipped::at(FIRST);
    let (good, wrong) = (insz(1), "85073003329");
    for (name, list, told) in [
        ("insz-a.csv.age", format!("insz,naam\n{good},Janssens\n"), "1;#2;"),
        ("insz-b.csv.age", format!("naam\n{good}\n"), "1;"),
    ] {
        zone.send(AGII, "pillar-3", name, list);
        let receipt = zone.receipt("agii", "pillar-3", name, "held");
        assert_eq!(receipt["reason"]["code"], "content-rules", "{receipt:#}");
        let report = zone.quality_report(AGII, &receipt);
        assert!(
            report.lines().any(|line| line.starts_with(told))
                && !report.contains("Janssens")
                && !report.contains(&good),
            "{report}"
        );
    }
    assert!(zone.zone.results("agii", "pillar-3").is_empty());
    // This flow leaves faulty rows out and says which.
    zone.send(AGII, "pillar-3", "insz-c.csv.age", format!("insz\n{good}\n{wrong}\n{}\n", insz(2)));
    let receipt = zone.receipt("agii", "pillar-3", "insz-c.csv.age", "delivered");
    let result = zone.collect_one(AGII, &receipt, "agii");
    assert!(result.contains(&good) && result.contains(&insz(2)) && !result.contains(wrong), "{result}");
    let report = zone.quality_report(AGII, &receipt);
    assert!(report.lines().any(|line| line.starts_with("3;insz;")) && !report.contains(wrong), "{report}");
    assert!(zone.zone.search_tree(wrong).is_empty() && zone.zone.search_tree("Janssens").is_empty());
}

#[test]
fn a_second_list_in_the_same_half_year_waits_for_an_operator() {
    let mut zone = Shipped::at(FIRST);
    zone.send(AGII, "pillar-3", "insz-1.csv.age", numbers(0..5));
    zone.receipt("agii", "pillar-3", "insz-1.csv.age", "delivered");
    zone.send(AGII, "pillar-3", "insz-2.csv.age", numbers(5..9));
    let receipt = zone.receipt("agii", "pillar-3", "insz-2.csv.age", "held");
    assert_eq!(receipt["reason"]["code"], "surplus", "{receipt:#}");
    assert_eq!(zone.zone.results("agii", "pillar-3").len(), 1);
    let arrival = receipt["arrival"].as_str().unwrap();
    zone.dropzone(&["hold", "release", arrival, "--reason", "a correction that AgII announced"])
        .must_succeed();
    zone.receipt("agii", "pillar-3", "insz-2.csv.age", "delivered");
    zone.go_on_at("2025-09-03 00:30:00");
    zone.send(AGII, "pillar-3", "insz-3.csv.age", numbers(10..12));
    zone.receipt("agii", "pillar-3", "insz-3.csv.age", "delivered");
}

#[test]
fn what_vdab_s_own_tools_hand_in_is_gated_delivered_unchanged_and_receipted() {
    let zone = Shipped::at(FIRST);
    let folder = zone.zone.spool().join("handoff/pillar-3");
    let to_agii = recipient(&zone.zone.identity_of("agii"));
    let file = zone.zone.age(b"insz,categorie\n85073003328,x\n", &["-r", &to_agii]);
    fs::write(folder.join(".tmp-result"), &file).unwrap();
    fs::rename(folder.join(".tmp-result"), folder.join("insz-handmade.csv.age")).unwrap();
    let receipt = zone.receipt("vdab", "pillar-3", "insz-handmade.csv.age", "delivered");
    let name = receipt["deliveries"][0]["name"].as_str().unwrap();
    assert_eq!(zone.zone.download(AGII, &format!("/pillar-3/out/{name}")), file);
    fs::write(folder.join("insz-plain.csv.age"), "insz\n85073003328\n").unwrap();
    let refused = zone.receipt("vdab", "pillar-3", "insz-plain.csv.age", "refused");
    assert_eq!(refused["reason"]["code"], "not-encrypted");
    assert!(!folder.join("insz-plain.csv.age").exists() && !folder.join("insz-handmade.csv.age").exists());
}

#[test]
fn before_its_first_day_and_after_its_last_nobody_gets_in() {
    for (moment, may) in [
        ("2023-03-02 22:59:00", false),
        ("2023-03-02 23:00:30", true),
        ("2028-03-02 22:58:00", true),
        ("2028-03-02 23:00:30", false),
    ] {
        let mut zone = Shipped::lay_out();
        // Other agreements would let their people in.
        for other in ["client-feedback", "lists-lommel", "pilot-mechelen", "social-protection"] {
            fs::remove_file(zone.zone.directory().join(format!("exchanges/{other}.yaml"))).unwrap();
        }
        zone.start_at(moment);
        let person: Person = AGII;
        assert_eq!(zone.zone.sftp(person, "ls /pillar-3/in").succeeded(), may, "{moment}");
    }
}

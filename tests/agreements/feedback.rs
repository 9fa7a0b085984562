//! Agreement 4: feedback per client, in a fixed template, to the client's own counsellor and nobody else.

use crate::people::{dotted, insz};
use crate::shipped::{AGII, AMAL, ATLAS, Shipped, TINE, VDAB};

const IN_FORCE: &str = "2026-03-02 09:00:00";
const HEADER: &str = "naam,geboortedatum,traject_actief,trajectbegeleider,jobdoel_of_sector,volgend_contact,opleiding,stage,\
                      vrijwilligerswerk,taalondersteuning,oriëntatie,begeleiding,partner";

fn client(name: &str, counsellor: &str, note: &str) -> String {
    format!("{name},1990-01-02,ja,{counsellor},\"zorg, onthaal\",2026-04-01,,{note},,NT2 niveau 1.2,,ja,")
}

fn form(rows: &[String]) -> String {
    format!("{HEADER}\n{}\n", rows.join("\n"))
}

#[test]
fn each_counsellor_receives_her_own_clients_under_a_key_that_only_she_has() {
    let zone = Shipped::at(IN_FORCE);
    let rows: Vec<String> = ["tine.maes", "bart.claes", "ilse.gent", "tine.maes"]
        .iter()
        .zip(["Amina Alpha", "Bilal Bravo", "Celia Charlie", "Dawit Delta"])
        .map(|(counsellor, name)| client(name, counsellor, "geen"))
        .collect();
    zone.send(VDAB, "client-feedback", "week-10.csv.age", form(&rows));
    let receipt = zone.receipt("vdab", "client-feedback", "week-10.csv.age", "delivered");
    assert_eq!(receipt["deliveries"].as_array().unwrap().len(), 3, "{receipt:#}");
    let sent = zone.zone.put_here("form.csv", form(&rows));
    for person in [TINE, ATLAS, AMAL] {
        let theirs = zone.collect_one(person, &receipt, person.key);
        assert_eq!(theirs, zone.expected_with("of_counsellor", &sent, person.key), "{}", person.key);
    }
    // A colleague of the same agency cannot open it, with her own key or the agency's.
    let name =
        receipt["deliveries"].as_array().unwrap().iter().find(|delivery| delivery["person"] == TINE.key);
    let name = name.unwrap()["name"].as_str().unwrap().to_owned();
    let file = zone.zone.download(TINE, &format!("/client-feedback/out/{name}"));
    for holder in ["agii", AGII.key, ATLAS.key] {
        let identity = zone.zone.identity_of(holder);
        let from = zone.zone.put_here("for-tine.age", &file);
        let mut age = std::process::Command::new("age");
        crate::harness::programs::run(age.arg("-d").arg("-i").arg(identity).arg(from)).must_fail();
    }
    // Somebody of the agency who is no counsellor does not see the exchange.
    assert!(!zone.listed(AGII, "/").contains(&"client-feedback".to_owned()));
}

#[test]
fn no_national_number_passes_in_whatever_spelling_or_place() {
    let zone = Shipped::at(IN_FORCE);
    let number = insz(77);
    let hidden = [
        number.clone(),
        dotted(&number),
        format!("zie dossier {number} van vorig jaar"),
        format!("zie dossier ({})", dotted(&number)),
    ];
    for (at, note) in hidden.iter().enumerate() {
        let name = format!("form-{at}.csv.age");
        zone.send(VDAB, "client-feedback", &name, form(&[client("Eva Echo", "tine.maes", note)]));
        let held = zone.receipt("vdab", "client-feedback", &name, "held");
        assert_eq!(held["reason"]["code"], "content-rules", "{note}");
        let report = zone.quality_report(VDAB, &held);
        assert!(report.lines().any(|line| line.starts_with("2;stage;")), "{report}");
        assert!(!report.contains(&number) && !report.contains(&dotted(&number)));
    }
    assert!(zone.zone.results("agii", "client-feedback").is_empty());
    // Nor in the name of the file.
    zone.zone.put_here("x.age", zone.zone.encrypt(form(&[client("Eva Echo", "tine.maes", "")])));
    zone.zone.sftp(VDAB, &format!("put x.age /client-feedback/in/{number}.csv.age")).must_fail();
}

#[test]
fn an_inactive_trajectory_an_extra_column_and_an_unknown_counsellor_are_held() {
    let zone = Shipped::at(IN_FORCE);
    let good = client("Farid Foxtrot", "tine.maes", "");
    let cases = [
        (
            "inactive",
            form(&[good.clone(), client("Gita Golf", "tine.maes", "").replace(",ja,tine", ",nee,tine")]),
        ),
        ("extra", form(&[good.clone() + ",x"]).replacen("partner", "partner,insz", 1)),
        ("order", form(std::slice::from_ref(&good)).replacen("naam,geboortedatum", "geboortedatum,naam", 1)),
        ("unknown", form(&[good.clone(), client("Hana Hotel", "niemand", "")])),
    ];
    for (case, list) in cases {
        let name = format!("{case}.csv.age");
        zone.send(VDAB, "client-feedback", &name, list);
        let held = zone.receipt("vdab", "client-feedback", &name, "held");
        assert_eq!(held["reason"]["code"], "content-rules", "{case}: {held:#}");
    }
    assert!(zone.zone.results("agii", "client-feedback").is_empty());
}

#[test]
fn a_client_comes_once() {
    let zone = Shipped::at(IN_FORCE);
    let send = |name: &str, client: String| zone.send(VDAB, "client-feedback", name, form(&[client]));
    send("a.csv.age", client("India Iglesias", "tine.maes", "x"));
    zone.receipt("vdab", "client-feedback", "a.csv.age", "delivered");
    send("b.csv.age", client("India Iglesias", "bart.claes", "y"));
    let held = zone.receipt("vdab", "client-feedback", "b.csv.age", "held");
    assert_eq!(held["reason"]["code"], "surplus-key", "{held:#}");
    send("c.csv.age", client("India Iglesias", "tine.maes", "x").replace("1990-01-02", "1991-01-02"));
    zone.receipt("vdab", "client-feedback", "c.csv.age", "delivered");
    assert!(zone.zone.search_tree("Iglesias").is_empty());
}

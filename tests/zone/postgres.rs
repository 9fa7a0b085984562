//! A register on a PostgreSQL server, from the upload to the result.

#[path = "../harness/postgres.rs"]
mod server;

use std::fs;
use std::process::Command;

use self::server::{HOST, PASSWORD, ROLE, Server};
use crate::harness::programs::run;
use crate::harness::{AN, Zone, config};

const LIST: &str = "insz\n85073003328\n00000000000\n72022954321\n\n90010112345\n";

/// The zone's register on this server, over TLS and with a password.
fn moved(zone: &Zone, server: &Server) {
    let rows = config::KNOWN.map(|row| format!("('{}','{}','{}')", row.0, row.1, row.2)).join(",");
    server.sql(
        "register",
        &format!(
            "CREATE TABLE jobseekers (insz text PRIMARY KEY, category text, registered text);
             INSERT INTO jobseekers VALUES {rows};"
        ),
    );
    let password = server.secret("password", &format!("{PASSWORD}\n"));
    let postgres = format!(
        "{{postgres: {{host: {HOST}, port: {}, database: register, user: {ROLE}, password: {}, ca: {}}}}}",
        server.port,
        password.display(),
        server.certificate("ca").display()
    );
    let file = zone.directory().join("dropzone.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("{sqlite: register.db}"));
    fs::write(&file, text.replace("{sqlite: register.db}", &postgres)).unwrap();
}

fn delivered(zone: &Zone, name: &str) -> Vec<u8> {
    zone.upload(AN, &format!("/pillar-3/in/{name}"), &zone.encrypt(LIST));
    zone.receipt("pillar-3", name, "delivered");
    let result = zone.result("agency", "pillar-3");
    let path = zone.folder_of("outbox", "agency", "pillar-3").join(result);
    let mut age = Command::new("age");
    run(age.arg("-d").arg("-i").arg(zone.identity_of("agency")).arg(path)).must_succeed().stdout
}

#[test]
fn a_register_on_a_server_gives_what_the_same_one_in_a_file_gives() {
    let server = Server::start();
    let mut zone = Zone::lay_out();
    moved(&zone, &server);
    zone.start();
    let result = delivered(&zone, "a.csv.age");
    assert_eq!(
        String::from_utf8(result.clone()).unwrap(),
        String::from_utf8(delivered(&Zone::new(), "a.csv.age")).unwrap()
    );
    assert!(zone.search_tree("werkzoekend").is_empty() && zone.search_tree(PASSWORD).is_empty());
}

#[test]
fn a_server_that_is_gone_defers_the_list_and_it_is_delivered_when_it_is_back() {
    let mut server = Server::start();
    let mut zone = Zone::lay_out();
    moved(&zone, &server);
    zone.start();
    server.stop();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt(LIST));
    zone.wait_for("the receipt of a deferred list", || {
        let receipt = zone.receipt("pillar-3", "a.csv.age", "in-progress");
        (receipt["reason"]["code"] == "job-deferred").then_some(())
    });
    let told = zone.program_log();
    assert!(
        told.contains("cannot connect to database register") && told.contains("see that the server runs"),
        "{told}"
    );
    server.go_on();
    zone.wait_for("delivery", || {
        crate::jobs::make_due(&zone);
        let receipts = zone.receipts("agency", "pillar-3");
        receipts.into_iter().find(|receipt| receipt["verdict"] == "delivered")
    });
    assert_eq!(zone.results("agency", "pillar-3").len(), 1);
}

#[test]
fn a_table_that_is_missing_holds_the_list_and_the_note_says_which() {
    let server = Server::start();
    let mut zone = Zone::lay_out();
    moved(&zone, &server);
    server.sql("register", "ALTER TABLE jobseekers RENAME TO seekers");
    zone.start();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt(LIST));
    zone.receipt("pillar-3", "a.csv.age", "held");
    let told = zone.program_log();
    assert!(
        told.contains("jobseekers") && told.contains("42P01") && told.contains("make the table"),
        "{told}"
    );
}

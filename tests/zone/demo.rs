//! The demo's five agreements: each story is told to its end, in which every step holds what it shows. What is left for these tests
//! is that a newcomer sees it.

use std::process::Command;

use crate::harness::programs::{Ran, run};

fn told(agreement: &str, words: &[&str]) {
    let ran = demo(agreement).must_succeed();
    let text = ran.text();
    for word in words {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    assert!(text.contains("log verify"), "how to look at the evidence in\n{text}");
}

fn demo(agreement: &str) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_dropzone")).args(["demo", "--agreement", agreement]))
}

#[test]
fn the_demo_shows_that_measurements_compare_without_national_numbers() {
    told(
        "1",
        &[
            "pillar-3.yaml",
            "1 April 2025",
            "10;insz;",
            "no national number is left",
            "the three hold the same pseudonyms",
            "October 2025",
            "the same people have the same pseudonyms",
        ],
    );
}

#[test]
fn the_demo_shows_a_key_that_travels_another_way_and_a_list_that_does_not_stay() {
    told(
        "2",
        &[
            "lists-lommel.yaml",
            "dropzone passphrase",
            "with any other passphrase it stays shut",
            "A second list in the same calendar year is held",
            "(nothing)",
        ],
    );
}

#[test]
fn the_demo_shows_that_each_fund_has_its_own_members_only() {
    told(
        "3",
        &["social-protection.yaml", "20 January 2025", "zorgkas-cm", "zorgkas-vlaams", "each person once"],
    );
}

#[test]
fn the_demo_shows_that_a_hidden_number_is_found_and_a_client_is_her_counsellors() {
    told(
        "4",
        &["client-feedback.yaml", "2;stage;", "Amina Alpha, Dawit Delta", "no colleague's key opens it"],
    );
}

#[test]
fn the_demo_shows_that_a_pilot_is_over_and_how_it_ended() {
    let words = [
        "pilot-mechelen.yaml",
        "this agreement ended on 30 June 2022",
        "1 March 2022",
        "Celia Charlie",
        "his session is cut",
    ];
    told("5", &words);
}

#[test]
fn the_demo_knows_no_other_agreement() {
    demo("6").must_fail();
}

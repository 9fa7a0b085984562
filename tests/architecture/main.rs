//! Who may know whom: the dependency direction and the shape of the crate, held by reading its sources. `source` finds
//! what a file names; whether the code is right is the other tests' question.

mod promises;
mod source;

use std::io;

use source::{Named, Source, names_in, root, sources};

/// What the rooms of `daemon/` may name of the crate. `main.rs`, `lib.rs` and `cli/` may name all of it.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("policy/", &["crate::policy"]),
    ("config/", &["crate::config", "crate::policy", "crate::host::files", "crate::host::clock"]),
    ("host/", &["crate::host", "crate::policy"]),
    ("serve/", &["crate::serve", "crate::host", "crate::config", "crate::policy"]),
    ("work/", &["crate::work", "crate::host", "crate::config", "crate::policy"]),
];

/// What `policy/` never names: everything that would make a decision depend on more than its arguments.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "TimeZone::system",
    "rustix",
    "tempfile",
    "tokio",
    "tracing",
];

/// What only some rooms may name: the paths, where they are at home, and why.
const AT_HOME: &[(&[&str], &[&str], &str)] = &[
    (&["serde_yaml"], &["config/"], "the configuration is the only YAML"),
    (&["russh", "russh_sftp"], &["serve/", "cli/demo"], "the job side speaks no SSH"),
    (
        &["age::Identity", "x25519::Identity", "IdentityFile", "Decryptor", "age::decrypt"],
        &["work/", "cli/init", "cli/secrets", "cli/demo"],
        "the network side must not be able to decrypt",
    ),
    (
        &["std::fs", "tokio::fs", "File::open", "File::create", "File::create_new", "File::options"],
        &["host/"],
        "files are opened beneath a directory descriptor, by host/",
    ),
    (
        &["SystemTime::now", "SystemTime::UNIX_EPOCH", "time::UNIX_EPOCH", "Timestamp::now", "Zoned::now"],
        &["host/"],
        "the wall clock is host::clock, so that tests can set it",
    ),
];

/// The type of a file that host/ has opened and handed over: to read and write it is no privilege.
const AN_OPEN_FILE: &str = "std::fs::File";

/// What may lie directly in `daemon/`.
const ROOMS: &[&str] = &["cli", "config", "host", "lib.rs", "main.rs", "policy", "serve", "work"];

/// The folders at the top of the repository.
const TOP: &[&str] = &["config", "daemon", "docker", "systemd", "tests"];

/// Lines a file may have before its tests.
const LONGEST: usize = 400;

#[test]
fn every_room_knows_only_the_rooms_it_may_know() -> io::Result<()> {
    hold(knows_too_much)
}

#[test]
fn policy_depends_on_nothing_but_its_arguments() -> io::Result<()> {
    hold(is_impure)
}

#[test]
fn what_is_dangerous_stays_where_it_is_at_home() -> io::Result<()> {
    hold(is_not_at_home)
}

#[test]
fn every_file_opens_by_saying_what_it_decides() -> io::Result<()> {
    hold(opens_without_a_word)
}

#[test]
fn no_file_is_too_long_to_read() -> io::Result<()> {
    hold(is_too_long)
}

#[test]
fn the_rooms_of_the_crate_are_those_of_the_design() {
    let strangers = strangers(&names_in(&root().join("daemon")).unwrap(), ROOMS);
    assert!(strangers.is_empty(), "daemon/ holds {strangers:?}; the design knows only {ROOMS:?}");
}

#[test]
fn the_top_level_folders_are_those_of_the_design() {
    let folders = names_in(&root()).unwrap().into_iter().filter(|name| root().join(name).is_dir());
    // A build without CARGO_TARGET_DIR leaves its target folder here; git ignores it.
    let visible = folders.filter(|name| !name.starts_with('.') && name != "target").collect::<Vec<_>>();
    let strangers = strangers(&visible, TOP);
    assert!(strangers.is_empty(), "the top level holds {strangers:?}; the design knows only {TOP:?}");
}

/// Asserts that a rule finds nothing in any source file of the program.
fn hold(rule: fn(&Source) -> Vec<String>) -> io::Result<()> {
    let sources = sources()?;
    assert!(
        sources.len() > 5,
        "only {} source files found: is this test looking in the right folder?",
        sources.len()
    );
    let found = sources.iter().flat_map(rule).collect::<Vec<_>>();
    assert!(found.is_empty(), "{} breach(es):\n{}", found.len(), found.join("\n"));
    Ok(())
}

// The rules. Each answers with one line per breach: file, line, what, why.

fn knows_too_much(source: &Source) -> Vec<String> {
    let Some((room, may)) = MAY_KNOW.iter().find(|(room, _)| source.name.starts_with(room)) else {
        return Vec::new();
    };
    let allowed =
        |path: &str| may.iter().any(|known| path == *known || path.starts_with(&format!("{known}::")));
    let breach = |path: &Named| path.text.starts_with("crate::") && !allowed(&path.text);
    source.breaches(breach, &format!("{room} may know only {}", may.join(", ")))
}

fn is_impure(source: &Source) -> Vec<String> {
    if !source.name.starts_with("policy/") {
        return Vec::new();
    }
    source.breaches(
        |path| IMPURE.iter().any(|wanted| path.names(wanted)),
        "policy/ takes all it needs as arguments",
    )
}

fn is_not_at_home(source: &Source) -> Vec<String> {
    let away = AT_HOME.iter().filter(|(_, homes, _)| !homes.iter().any(|home| source.name.starts_with(home)));
    away.flat_map(|(paths, homes, why)| {
        let breach =
            |path: &Named| path.text != AN_OPEN_FILE && paths.iter().any(|wanted| path.names(wanted));
        source.breaches(breach, &format!("only {} may: {why}", homes.join(", ")))
    })
    .collect()
}

fn opens_without_a_word(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!(
        "daemon/{}:1: opens without `//!`: say what the file decides and what it leaves to others",
        source.name
    )]
}

fn is_too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if lines <= LONGEST {
        return Vec::new();
    }
    vec![format!(
        "daemon/{}:{lines}: {lines} lines before the tests, {LONGEST} are allowed: split it by meaning",
        source.name
    )]
}

fn strangers(names: &[String], known: &[&str]) -> Vec<String> {
    names.iter().filter(|name| !known.contains(&name.as_str())).cloned().collect()
}

// Proof that each rule can fail.

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

#[test]
fn each_rule_finds_its_breach_and_says_where() {
    type Rule = fn(&Source) -> Vec<String>;
    let long = "//! Long.\n".repeat(LONGEST + 1);
    let table: &[(Rule, &str, &str, &str)] = &[
        (
            knows_too_much,
            "policy/a.rs",
            "use crate::config::Config;",
            "daemon/policy/a.rs:1: names crate::config::Config",
        ),
        (
            knows_too_much,
            "policy/a.rs",
            "\nuse super::super::host;",
            "daemon/policy/a.rs:2: names crate::host",
        ),
        (knows_too_much, "config/a.rs", "use crate::host::{clock, spool};", "names crate::host::spool"),
        (knows_too_much, "config/a.rs", "use crate::host;", "names crate::host;"),
        (
            knows_too_much,
            "host/a/b.rs",
            "use crate::{\n    policy::path,\n    serve::sftp,\n};",
            "b.rs:3: names crate::serve::sftp",
        ),
        (knows_too_much, "host/mod.rs", "fn f() { crate::config::load() }", "names crate::config::load"),
        (knows_too_much, "serve/a.rs", "use crate::work::claim;", "names crate::work::claim"),
        (knows_too_much, "work/a.rs", "fn f() -> crate::serve::Session {}", "names crate::serve::Session"),
        (knows_too_much, "work/a.rs", "use crate::cli;", "names crate::cli"),
        (is_impure, "policy/a.rs", "use std::fs::File;", "names std::fs::File"),
        (is_impure, "policy/a.rs", "use std::{fmt, fs};", "names std::fs"),
        (is_impure, "policy/a.rs", "use std::net::TcpStream;", "names std::net::TcpStream"),
        (is_impure, "policy/a.rs", "let now = jiff::Timestamp::now();", "names jiff::Timestamp::now"),
        (is_impure, "policy/a.rs", "let now = Timestamp::now();", "names Timestamp::now"),
        (is_impure, "policy/a.rs", "use std::time::SystemTime;", "names std::time::SystemTime"),
        (is_impure, "policy/a.rs", "use tokio::sync::mpsc;", "names tokio::sync::mpsc"),
        (is_impure, "policy/a.rs", "tracing::info!(\"x\");", "names tracing::info"),
        (is_impure, "policy/a.rs", "use tracing as t;", "names tracing;"),
        (is_not_at_home, "host/a.rs", "use serde_yaml::Value;", "only config/ may"),
        (is_not_at_home, "work/a.rs", "use russh::keys;", "only serve/, cli/demo may"),
        (is_not_at_home, "cli/check.rs", "use russh_sftp::protocol;", "only serve/, cli/demo may"),
        (is_not_at_home, "serve/a.rs", "use age::x25519::Identity;", "must not be able to decrypt"),
        (is_not_at_home, "serve/a.rs", "age::Decryptor::new(input)", "must not be able to decrypt"),
        (is_not_at_home, "cli/check.rs", "std::fs::read(path)", "only host/ may"),
        (
            is_not_at_home,
            "serve/a.rs",
            "use std::fs::File;\nlet f = File::open(path);",
            "a.rs:2: names File::open",
        ),
        (is_not_at_home, "serve/a.rs", "std::fs::File::create(path)", "names std::fs::File::create"),
        (is_not_at_home, "serve/a.rs", "use tokio::{fs::File, net};", "names tokio::fs::File"),
        (is_not_at_home, "cli/a.rs", "let t = std::time::SystemTime::now();", "host::clock"),
        (opens_without_a_word, "host/a.rs", "use std::fs;", "daemon/host/a.rs:1: opens without"),
        (is_too_long, "host/a.rs", &long, "401 lines before the tests"),
    ];
    for (rule, name, text, wanted) in table {
        let found = rule(&source(name, text)).join("\n");
        assert!(found.contains(wanted), "{name}: {text:.60}: expected `{wanted}`, found `{found}`");
    }
}

#[test]
fn what_is_allowed_is_left_alone() {
    type Rule = fn(&Source) -> Vec<String>;
    let tests =
        "//! A file.\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::work;\n    use std::fs;\n}\n";
    let short = format!("//! Short.\n#[cfg(test)]\n{}", "// a test\n".repeat(LONGEST));
    let table: &[(Rule, &str, &str)] = &[
        (
            knows_too_much,
            "config/a.rs",
            "use crate::host::{clock::Clock, files};\nuse crate::policy::path::Slug;",
        ),
        (knows_too_much, "serve/sftp/a.rs", "use super::{handle, super::limits};\nuse crate::host::spool;"),
        (knows_too_much, "cli/run.rs", "use crate::{serve, work};"),
        (knows_too_much, "serve/a.rs", tests),
        (knows_too_much, "serve/a.rs", "// crate::work claims it\nlet text = \"crate::work\"; let q = '\"';"),
        (knows_too_much, "serve/a.rs", "let text = r#\"crate::work \" crate::work\"#;"),
        (is_impure, "policy/a.rs", "use std::net::{IpAddr, SocketAddr};\nuse jiff::Timestamp;"),
        (is_impure, "policy/a.rs", "fn f(tokio: u8) -> u8 { self.tracing + 1 }"),
        (is_impure, "host/a.rs", "use std::fs;"),
        (is_not_at_home, "serve/a.rs", tests),
        (is_not_at_home, "serve/a.rs", "use std::fs::File;\nfn f(opened: &File) {}"),
        (is_not_at_home, "serve/a.rs", "let none = jiff::Timestamp::UNIX_EPOCH;"),
        (is_not_at_home, "cli/demo/client.rs", "use russh::client;"),
        (is_not_at_home, "cli/demo.rs", "use russh::client;"),
        (is_not_at_home, "work/a.rs", "use age::{Decryptor, Identity};"),
        (is_not_at_home, "serve/a.rs", "fn f<'a>(x: &'a str) { x.split('\\'').count(); }"),
        (opens_without_a_word, "host/a.rs", "//! Says it.\n"),
        (is_too_long, "host/a.rs", &short),
    ];
    for (rule, name, text) in table {
        let found = rule(&source(name, text));
        assert!(found.is_empty(), "{name}: {text:.60}: {found:?}");
    }
}

#[test]
fn a_stranger_among_the_rooms_is_named() {
    let names = ["policy", "util"].map(String::from);

    assert_eq!(strangers(&names, ROOMS), ["util"]);
}

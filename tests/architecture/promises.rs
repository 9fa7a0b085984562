//! The README says which test holds what an agreement demands. That those tests are there is held here; that they hold it is their own
//! business.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::source::{names_in, root};

const HEADING: &str = "## What the five agreements demand";
/// Between a test's attribute and its function: other attributes.
const LINES_BETWEEN: usize = 6;

#[test]
fn every_test_that_the_readme_names_exists_and_every_demand_names_one() -> io::Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let table = readme.split_once(HEADING).expect("the README has the table").1;
    let mut tests = BTreeSet::new();
    for folder in ["tests", "daemon"] {
        collect_tests(&root().join(folder), &mut tests)?;
    }
    assert!(tests.len() > 100, "only {} tests found: is this test looking in the right folder?", tests.len());
    let wrong = wrong(table, &tests);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for file in names_in(&root().join("config/exchanges"))? {
        assert!(table.contains(&format!("`{file}`")), "the README says nothing of {file}");
    }
    Ok(())
}

#[test]
fn a_name_of_no_test_and_a_demand_without_one_are_told() {
    let mut tests = BTreeSet::new();
    note_tests(
        "#[test]\nfn a_promise() {}\n#[tokio::test]\n#[ignore]\nasync fn another() {}\nfn none() {}\n",
        &mut tests,
    );
    assert_eq!(tests.iter().map(String::as_str).collect::<Vec<_>>(), ["a_promise", "another"]);
    let table = "| demand | how | test |\n|---|---|---|\n| a | `b: c` | `a_promise` |\n| d | `e` | `none` |\n| f | g | soon |\n";
    let wrong = wrong(table, &tests);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].contains("none") && wrong[1].contains("names no test"), "{wrong:?}");
}

/// One line for each row of the tables that names no test, or one that is not there.
fn wrong(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| row.last().is_some_and(|last| !last.starts_with("test"))) {
        let named: Vec<&str> = row.last().unwrap_or(&"").split('`').skip(1).step_by(2).collect();
        if named.is_empty() || row.len() != 3 {
            wrong.push(format!("names no test: {}", row.join(" | ")));
        }
        let missing = named.iter().filter(|name| !tests.contains(**name));
        wrong.extend(missing.map(|name| format!("there is no test {name}")));
    }
    wrong
}

fn collect_tests(folder: &Path, tests: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_tests(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            note_tests(&fs::read_to_string(&path)?, tests);
        }
    }
    Ok(())
}

fn note_tests(text: &str, tests: &mut BTreeSet<String>) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| is_attribute(line)) {
        let after = lines.iter().skip(at + 1).take(LINES_BETWEEN);
        let name = after.filter_map(|line| {
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ")?.split('(').next()
        });
        tests.extend(name.take(1).map(str::to_owned));
    }
}

fn is_attribute(line: &str) -> bool {
    line.starts_with("#[test]") || line.starts_with("#[tokio::test")
}

//! What a list holds, against the rules of an agreement: every finding is in the list, a national number that stands alone
//! is found, and what is read as one is one.

#![no_main]

use dropzone::policy::insz::{Insz, is_held_by};
use dropzone::policy::quality::QualityReport;
use dropzone::policy::rules::{Alphabet, Checker, Column, Condition, Format, Kind, TableRules};
use dropzone::policy::table::Table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    hold_numbers(&text);
    let Ok(table) = Table::parse(bytes) else { return };
    let rules = rules();
    let mut report = QualityReport::default();
    let mut checker = match Checker::new(&rules, table.columns()) {
        Ok(checker) => checker,
        Err(found) => {
            assert!(!found.is_empty() && found.iter().all(|finding| finding.row == 1));
            return;
        }
    };
    let (mut rows, mut fields, mut found, mut row) = (table.rows(), Vec::new(), Vec::new(), 1);
    while let Ok(true) = rows.read(&mut fields) {
        row += 1;
        checker.row(&fields, &mut found);
        assert!(found.iter().all(|finding| finding.row == row));
        // One for the cell, one for a number in it, one for its row.
        assert!(found.len() <= 3 * fields.len().max(1));
        report.row(&found);
        found.clear();
    }
    let (_, counts) = report.finish();
    assert_eq!((counts.rows, checker.rows()), (row - 1, row - 1));
    assert!(counts.faulty_rows <= counts.rows && counts.findings >= counts.faulty_rows);
});

/// By other means: what has eleven digits with nothing but other characters around them.
fn hold_numbers(text: &str) {
    for run in text.split(|c: char| !c.is_ascii_digit()).filter(|run| run.len() == 11) {
        assert_eq!(Insz::parse(run).is_ok(), is_right(run), "{run}");
        let is_telephone = text.contains(&format!("+{run}")) && run.starts_with("32");
        assert!(is_telephone || !is_right(run) || is_held_by(text), "{run} in {text:?}");
    }
    if let Ok(number) = Insz::parse(text) {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        assert!(digits == number.digits() && is_right(&digits) && is_held_by(text), "{text:?}");
    }
}

fn is_right(number: &str) -> bool {
    let part = |from: usize, to: usize| number[from..to].parse::<u64>().expect("digits");
    let fits = |nine: u64| nine % 97 + part(9, 11) == 97;
    let has_date =
        [0..=12, 20..=32, 40..=52].iter().any(|months| months.contains(&part(2, 4))) && part(4, 6) < 32;
    has_date && ![0, 999].contains(&part(6, 9)) && (fits(part(0, 9)) || fits(2_000_000_000 + part(0, 9)))
}

fn rules() -> TableRules {
    let column = |name: &str, kind| Column { name: name.into(), kind, is_required: name == "a" };
    TableRules {
        name: "list".into(),
        formats: vec![Format::Csv],
        columns: vec![
            column("a", Kind::Insz),
            column("b", Kind::Date),
            column("c", Kind::Text { at_most: 10, alphabet: Alphabet::Letters }),
            column("d", Kind::OneOf(vec!["x".into(), "y".into()])),
            column("e", Kind::YesNo),
            column("f", Kind::Text { at_most: 50, alphabet: Alphabet::Any }),
        ],
        is_template: false,
        conditions: vec![Condition { column: "a".into(), is: vec!["85073003328".into(), "É".into()] }],
        forbids_insz: true,
    }
}

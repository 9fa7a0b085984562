//! Holds a list against its rules, row by row: one pass, nothing kept of a row. Who reads the rows, and what becomes of a list
//! with findings, is the caller's business.

use super::finding::{Fault, Finding, Place};
use super::{Column, Condition, Kind, TableRules, cell};
use crate::policy::insz;

/// A list whose header is within the agreement; its rows come one at a time.
#[derive(Debug, Clone)]
pub struct Checker<'r> {
    rules: &'r TableRules,
    /// Of each column of the list, in its order.
    columns: Vec<&'r Column>,
    /// With the place of the column that each is about.
    conditions: Vec<(usize, &'r Condition)>,
    row: u64,
}

impl<'r> Checker<'r> {
    /// Looks at the names of the header line. What is found there is about the whole list: no row can be taken without it.
    pub fn new(rules: &'r TableRules, header: &[String]) -> Result<Self, Vec<Finding<'r>>> {
        let agreed: Vec<Option<&Column>> =
            header.iter().map(|name| rules.columns.iter().find(|column| &column.name == name)).collect();
        let place = |column: &str| header.iter().position(|name| name == column);
        let mut faults: Vec<(Place<'r>, Fault)> = Vec::new();
        for (at, column) in agreed.iter().enumerate() {
            match column {
                None => faults.push((Place::At(at + 1), Fault::ColumnNotAgreed)),
                Some(column) if rules.is_template && rules.columns.get(at) != Some(column) => {
                    faults.push((Place::Agreed(&column.name), Fault::ColumnOutOfOrder));
                }
                Some(_) => {}
            }
        }
        let is_asked_for = |column: &&Column| {
            let is_in_condition = rules.conditions.iter().any(|condition| condition.column == column.name);
            rules.is_template || column.is_required || is_in_condition
        };
        let missing =
            rules.columns.iter().filter(is_asked_for).filter(|column| place(&column.name).is_none());
        faults.extend(missing.map(|column| (Place::Agreed(column.name.as_str()), Fault::ColumnMissing)));
        if !faults.is_empty() {
            return Err(faults
                .into_iter()
                .map(|(column, fault)| Finding { row: 1, column, fault })
                .collect());
        }
        let conditions = rules.conditions.iter();
        Ok(Self {
            rules,
            columns: agreed.into_iter().flatten().collect(),
            conditions: conditions
                .filter_map(|condition| Some((place(&condition.column)?, condition)))
                .collect(),
            row: 1,
        })
    }

    /// Adds what is wrong with the next row, as wide as the header; nothing where it is within the agreement.
    pub fn row(&mut self, fields: &[impl AsRef<str>], found: &mut Vec<Finding<'r>>) {
        self.row += 1;
        let row = self.row;
        for (column, field) in self.columns.iter().zip(fields) {
            let field = field.as_ref();
            let place = Place::Agreed(column.name.as_str());
            if is_empty(field) {
                if column.is_required {
                    found.push(Finding { row, column: place, fault: Fault::Empty });
                }
                continue;
            }
            if let Some(fault) = cell::fault(&column.kind, field) {
                found.push(Finding { row, column: place, fault });
            }
            // Where one belongs, one may stand.
            let may_hold_one = column.kind == Kind::Insz || !self.rules.forbids_insz;
            if !may_hold_one && insz::is_held_by(field) {
                found.push(Finding { row, column: place, fault: Fault::InszForbidden });
            }
        }
        for (at, condition) in &self.conditions {
            let is_met = fields.get(*at).zip(self.columns.get(*at)).is_some_and(|(field, column)| {
                condition.is.iter().any(|wanted| cell::says(&column.kind, field.as_ref(), wanted))
            });
            if !is_met {
                let column = Place::Agreed(condition.column.as_str());
                found.push(Finding { row, column, fault: Fault::RowNotAgreed });
            }
        }
    }

    /// Rows so far, without the header.
    pub fn rows(&self) -> u64 {
        self.row - 1
    }
}

/// Spaces are what a form leaves in a field that nobody filled in.
fn is_empty(field: &str) -> bool {
    field.bytes().all(|byte| byte == b' ') || field.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::{Alphabet, Format};
    use super::*;

    fn column(name: &str, kind: Kind, is_required: bool) -> Column {
        Column { name: name.into(), kind, is_required }
    }

    fn rules() -> TableRules {
        let line = Kind::Text { at_most: 20, alphabet: Alphabet::Line };
        TableRules {
            name: "list".into(),
            formats: vec![Format::Csv],
            columns: vec![
                column("insz", Kind::Insz, true),
                column("born", Kind::Date, false),
                column("consent", Kind::YesNo, false),
                column("note", line, false),
            ],
            is_template: false,
            conditions: Vec::new(),
            forbids_insz: false,
        }
    }

    fn header(rules: &TableRules, names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Checker::new(rules, &names)
            .map_or_else(|found| found.iter().map(Finding::to_string).collect(), |_| Vec::new())
    }

    fn rows(rules: &TableRules, names: &[&str], rows: &[&[&str]]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut checker = Checker::new(rules, &names).unwrap();
        let mut found = Vec::new();
        rows.iter().for_each(|row| checker.row(row, &mut found));
        assert_eq!(checker.rows(), rows.len() as u64);
        found.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_list_has_no_columns_but_those_agreed_and_all_that_are_required() {
        let rules = rules();
        for (names, found) in [
            (&["insz"][..], &[][..]),
            (&["note", "insz", "born"], &[]),
            (&["insz", "name"], &["row 1, column #2: column-not-agreed"]),
            (&["INSZ"], &["row 1, column #1: column-not-agreed", "row 1, column insz: column-missing"]),
            (&["born"], &["row 1, column insz: column-missing"]),
        ] {
            assert_eq!(header(&rules, names), found, "{names:?}");
        }
        let conditions = vec![Condition { column: "consent".into(), is: vec!["ja".into()] }];
        let rules = TableRules { conditions, ..rules };
        assert_eq!(header(&rules, &["insz"]), ["row 1, column consent: column-missing"]);
    }

    #[test]
    fn a_template_takes_exactly_its_columns_in_their_order() {
        let rules = TableRules { is_template: true, ..rules() };
        assert!(header(&rules, &["insz", "born", "consent", "note"]).is_empty());
        for names in [
            &["insz", "born", "note", "consent"][..],
            &["insz", "born", "consent"],
            &["born", "consent", "note"],
            &["insz", "born", "consent", "note", "more"],
            &["insz", "more", "born", "consent", "note"],
        ] {
            assert!(!header(&rules, names).is_empty(), "{names:?}");
        }
    }

    #[test]
    fn a_header_that_is_no_header_is_not_told() {
        let found = header(&rules(), &["85073003328", "Noa Peeters"]);
        assert_eq!(found.len(), 3);
        assert!(!found.join(" ").contains("85073003328") && !found.join(" ").contains("Noa"), "{found:?}");
    }

    #[test]
    fn each_cell_that_breaks_a_rule_is_found_with_its_row_and_column() {
        let found = rows(
            &rules(),
            &["note", "insz", "born"],
            &[
                &["", "85073003328", ""],
                &["x", "", "2026-03-01"],
                &["a\nb", "  ", "31/02/2026"],
                &["", "85.07.30-033.29", " "],
                &["a note that is too long", "8507", ""],
            ],
        );
        assert_eq!(
            found,
            [
                "row 3, column insz: empty",
                "row 4, column note: characters",
                "row 4, column insz: empty",
                "row 4, column born: not-a-date",
                "row 5, column insz: insz-check",
                "row 6, column note: too-long",
                "row 6, column insz: insz-form",
            ]
        );
    }

    #[test]
    fn a_row_that_does_not_meet_every_condition_may_not_be_exchanged() {
        let condition = |column: &str, is: &[&str]| Condition {
            column: column.into(),
            is: is.iter().map(|value| (*value).to_owned()).collect(),
        };
        let conditions = vec![condition("consent", &["ja", "yes"]), condition("note", &["actief"])];
        let rules = TableRules { conditions, ..rules() };
        let number = "85073003328";
        let found = rows(
            &rules,
            &["insz", "consent", "note"],
            &[
                &[number, "ja", "Actief"],
                &[number, "JA", "x"],
                &[number, "0", "actief"],
                &[number, "", ""],
                &[number, "TRUE", "ACTIEF"],
            ],
        );
        assert_eq!(
            found,
            [
                "row 3, column note: row-not-agreed",
                "row 4, column consent: row-not-agreed",
                "row 5, column consent: row-not-agreed",
                "row 5, column note: row-not-agreed",
            ]
        );
    }

    #[test]
    fn a_national_number_is_found_in_every_cell_where_it_is_forbidden() {
        let mut rules = TableRules { forbids_insz: true, ..rules() };
        rules.columns.retain(|column| column.name != "insz");
        let cells = ["85073003328", "85.07.30-033.28", "is 85073003328.", "2026-03-01", "8507300332"];
        let lists: Vec<[&str; 1]> = cells.iter().map(|cell| [*cell]).collect();
        let lists: Vec<&[&str]> = lists.iter().map(|row| row.as_slice()).collect();
        let found = rows(&rules, &["note"], &lists);
        let expected: Vec<String> =
            (2..5).map(|row| format!("row {row}, column note: insz-forbidden")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn where_numbers_are_forbidden_only_a_column_for_them_may_hold_one() {
        let rules = TableRules { forbids_insz: true, ..rules() };
        let found = rows(
            &rules,
            &["insz", "note"],
            &[&["85073003328", "x"], &["85073003328", "85.07.30-033.28"], &["85073003328", "٨٥٠٧٣٠٠٣٣٢٨"]],
        );
        assert_eq!(found, ["row 3, column note: insz-forbidden", "row 4, column note: insz-forbidden"]);
    }
}

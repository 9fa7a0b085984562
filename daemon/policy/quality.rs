//! The quality report: which rows of a list break the agreed rules, for the institution that sent it. Row, column and what to
//! do, in Dutch and in English; never a value. It is bounded, however many faults there are. Where it goes is `work`'s business.

use serde::{Deserialize, Serialize};

use super::path::Name;
use super::rules::Finding;
use super::table::Dialect;

/// Findings that are listed; the rest is counted.
pub const LISTED: u64 = 10_000;

/// As Excel opens it here without asking.
const DIALECT: Dialect = Dialect { delimiter: b';', crlf: true, bom: true };

/// A report that is being written, in the order of the rows.
#[derive(Debug, Clone)]
pub struct QualityReport {
    text: Vec<u8>,
    counts: Counts,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Rows of the list, without its header.
    pub rows: u64,
    /// Rows with at least one finding; the header counts too.
    pub faulty_rows: u64,
    /// Findings.
    pub findings: u64,
}

/// What a receipt says of the report of its arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Quality {
    /// Its name, beside the receipt.
    pub report: Name,
    /// Lower-case hex of its SHA-256.
    pub sha256: String,
    /// What it counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether the faulty rows were left out, so that the job had the others only.
    pub left_out: bool,
}

impl Default for QualityReport {
    fn default() -> Self {
        let mut text = DIALECT.beginning().to_vec();
        write(&mut text, ["row", "column", "code", "nl", "en"]);
        Self { text, counts: Counts::default() }
    }
}

impl QualityReport {
    /// Of a list with so many rows, nothing of which was found wrong so far.
    pub fn of_faultless(rows: u64) -> Self {
        let empty = Self::default();
        Self { counts: Counts { rows, ..empty.counts }, ..empty }
    }

    /// Takes what was found in the header line.
    pub fn header(&mut self, findings: &[Finding<'_>]) {
        self.counts.faulty_rows += u64::from(!findings.is_empty());
        for finding in findings {
            self.counts.findings += 1;
            if self.counts.findings <= LISTED {
                let (row, column) = (finding.row.to_string(), finding.column.to_string());
                let fault = finding.fault;
                write(&mut self.text, [&row, &column, fault.code(), &fault.dutch(), &fault.english()]);
            }
        }
    }

    /// Takes what was found in the next row, which may be nothing.
    pub fn row(&mut self, findings: &[Finding<'_>]) {
        self.counts.rows += 1;
        self.header(findings);
    }

    /// The report as a file, and what it counts; its last line says so too.
    pub fn finish(mut self) -> (Vec<u8>, Counts) {
        let Counts { rows, faulty_rows, findings } = self.counts;
        let mut dutch =
            format!("Fouten: {findings}. Rijen met fouten: {faulty_rows}. Rijen onder de kop: {rows}.");
        let mut english =
            format!("Faults: {findings}. Rows with faults: {faulty_rows}. Rows below the header: {rows}.");
        if findings > LISTED {
            dutch += &format!(" Alleen de eerste {LISTED} staan hier.");
            english += &format!(" Only the first {LISTED} are listed.");
        }
        write(&mut self.text, ["", "", "total", &dutch, &english]);
        (self.text, self.counts)
    }
}

fn write(text: &mut Vec<u8>, fields: [&str; 5]) {
    DIALECT.write_row(text, fields.iter().map(|field| field.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::super::rules::{Fault, Place};
    use super::*;

    fn finding(row: u64) -> Finding<'static> {
        Finding { row, column: Place::Agreed("naam; voornaam"), fault: Fault::Empty }
    }

    #[test]
    fn the_report_names_row_column_and_what_to_do_in_both_languages() {
        let mut report = QualityReport::default();
        report.row(&[]);
        report.row(&[
            finding(3),
            Finding { row: 3, column: Place::At(2), fault: Fault::TooLong { at_most: 80 } },
        ]);
        let (text, counts) = report.finish();
        assert_eq!(counts, Counts { rows: 2, faulty_rows: 1, findings: 2 });
        let text = String::from_utf8(text).unwrap();
        let expected = "\u{feff}row;column;code;nl;en\r\n\
             3;\"naam; voornaam\";empty;Dit veld is verplicht. Vul het in.;This field is required. Fill it in.\r\n\
             3;#2;too-long;Te lang. Gebruik hoogstens 80 tekens.;Too long. Use at most 80 characters.\r\n\
             ;;total;Fouten: 2. Rijen met fouten: 1. Rijen onder de kop: 2.;\
             Faults: 2. Rows with faults: 1. Rows below the header: 2.\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_million_faults_make_a_report_of_ten_thousand_lines_that_says_how_many_there_are() {
        let mut report = QualityReport::default();
        for row in 2..1_000_002 {
            report.row(&[finding(row)]);
        }
        let (text, counts) = report.finish();
        assert_eq!(counts, Counts { rows: 1_000_000, faulty_rows: 1_000_000, findings: 1_000_000 });
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count() as u64, LISTED + 2);
        assert!(text.len() < 4 << 20, "{}", text.len());
        assert!(text.ends_with("Only the first 10000 are listed.\r\n"), "{}", text.lines().last().unwrap());
    }
}

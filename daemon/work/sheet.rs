//! Workbooks (XLSX): how one that an institution sent becomes the text of a list, in memory, so that everything behind sees a
//! [`Table`](crate::policy::table::Table); and how a result becomes one. `inspect` says what is refused before anything is
//! unpacked into memory, `cells` what a cell means, `write` how a result is written. What the columns may hold is
//! `policy::rules`' question.
//!
//! The list is the one visible sheet that holds anything. Its header line is the sheet's first row, from column A on. A cell counts
//! with the value it holds, not with how it is shown; a formula with the value its program last computed. What cannot be said
//! exactly (an error, a formula that was never computed, a number of more digits than a spreadsheet keeps) is refused with
//! its place and never guessed.

mod cells;
mod inspect;
mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};

use zeroize::Zeroizing;

pub use self::write::{Outlet, Workbook};
use super::stop::{Interrupted, Stop};
use crate::policy::job::Failure;
use crate::policy::reason::Reason;
use crate::policy::rules::{Format, Kind, TableRules};

/// What a zip archive, and so a workbook, begins with.
const ZIP: &[u8] = b"PK\x03\x04";
/// What Excel's old format begins with, and also a workbook under a password.
const COMPOUND: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// A workbook cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// The workbook that came is at fault.
    #[error("the workbook cannot be read: {0}")]
    Unreadable(Fault),
    /// It would take more memory than a job may have.
    #[error(
        "the workbook needs {needed} bytes once unpacked, more than work.job-memory ({limit}): raise the limit, or have the list sent \
         as CSV or in parts"
    )]
    TooLarge {
        /// At least.
        needed: u64,
        /// For one job.
        limit: u64,
    },
    /// The result does not fit into a sheet.
    #[error("the result does not fit into a workbook: {0}; deliver it as CSV (`format: csv`), or in parts")]
    Unfit(Unfit),
    /// The workbook cannot be written.
    #[error("cannot write the workbook: {0}")]
    Io(#[from] std::io::Error),
    /// The process is stopping, or the job's time is over.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// What is wrong with a workbook. Rows and columns count from 1, as spreadsheets do. Never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is a zip archive, or begins as one, but no workbook.
    #[error("it is no XLSX workbook, or a damaged one")]
    NotAWorkbook,
    /// Excel's old format, or a workbook under a password.
    #[error("it has a password, or is in the old format (.xls): save it as .xlsx without a password")]
    ProtectedOrOld,
    /// More parts than a workbook has, or two of one name.
    #[error("it has more parts than a workbook has, or parts of one name")]
    Parts,
    /// Packed tighter than any list is.
    #[error("it is packed so tightly that it can only be meant to fill the memory")]
    Packed,
    /// A part declares entities.
    #[error("it declares entities or a document type")]
    Entities,
    /// It refers to other files.
    #[error("it takes values from other files: copy the list into a new workbook, as values")]
    ExternalLinks,
    /// No visible sheet holds anything.
    #[error("no visible sheet holds anything")]
    Empty,
    /// So many visible sheets hold something.
    #[error("{0} visible sheets hold something: send one sheet, and hide or remove the others")]
    SeveralSheets(usize),
    /// The first row is empty, or does not begin in column A, or has a gap.
    #[error(
        "row 1 must hold the names of the columns, from column A on and without a gap; column {0} has none"
    )]
    Header(u32),
    /// The names of the columns are longer than any list's.
    #[error("row 1 is too long: it must hold the names of the columns and nothing else")]
    Names,
    /// A cell beside the columns.
    #[error("row {row}, column {column} holds something, but the column has no name in row 1")]
    BesideColumns {
        /// From 1.
        row: u32,
        /// From 1.
        column: u32,
    },
    /// An error such as `#REF!`.
    #[error("row {row}, column {column} holds an error such as #REF!")]
    ErrorValue {
        /// From 1.
        row: u32,
        /// From 1.
        column: u32,
    },
    /// A formula without a value.
    #[error(
        "row {row}, column {column} holds a formula that was never computed: open and save it in Excel, or copy the values"
    )]
    Uncomputed {
        /// From 1.
        row: u32,
        /// From 1.
        column: u32,
    },
    /// A number that a spreadsheet does not keep exactly.
    #[error(
        "row {row}, column {column} holds a number of more than 15 digits, which a spreadsheet rounds: make the column text"
    )]
    Rounded {
        /// From 1.
        row: u32,
        /// From 1.
        column: u32,
    },
    /// A date that is none.
    #[error("row {row}, column {column} is shown as a date and holds none")]
    NoDate {
        /// From 1.
        row: u32,
        /// From 1.
        column: u32,
    },
    /// Cells that do not follow on each other.
    #[error("behind row {0} the cells are out of order")]
    Order(u32),
}

/// What does not fit into a sheet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// More rows.
    #[error("it has more than {} rows", write::ROWS_MAX)]
    Rows,
    /// More columns.
    #[error("it has more than {} columns", write::COLUMNS_MAX)]
    Columns,
    /// A longer text.
    #[error("row {row}, column {column} holds more than {} characters", write::TEXT_MAX)]
    Text {
        /// From 1, the header line included.
        row: u32,
        /// From 1.
        column: u32,
    },
    /// More than a zip archive holds of one part.
    #[error("it is larger than 4 GiB once unpacked")]
    Size,
}

/// What the cells of a column are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing in particular.
    Other,
    /// National numbers: a number gets its leading zeros back.
    Insz,
    /// `ja` or `nee`: so are true and false written.
    YesNo,
}

/// The text of a list, in whichever of the forms that its flow takes it came, and that form. A flow without rules takes text. What
/// is a workbook where only text is taken stays what it is, and is no table.
pub fn list_of(
    plaintext: Zeroizing<Vec<u8>>,
    rules: Option<&TableRules>,
    limit: u64,
    stop: &Stop,
) -> Result<(Zeroizing<Vec<u8>>, Format), SheetError> {
    let Some(rules) = rules.filter(|rules| rules.takes(Format::Xlsx)) else {
        return Ok((plaintext, Format::Csv));
    };
    let is_workbook = plaintext.starts_with(ZIP) || plaintext.starts_with(COMPOUND);
    match (is_workbook, rules.takes(Format::Csv)) {
        (true, _) => Ok((to_csv(&plaintext, |column| meaning(rules, column), limit, stop)?, Format::Xlsx)),
        (false, true) => Ok((plaintext, Format::Csv)),
        (false, false) => Err(SheetError::Unreadable(Fault::NotAWorkbook)),
    }
}

fn meaning(rules: &TableRules, name: &str) -> Meaning {
    match rules.columns.iter().find(|column| column.name == name).map(|column| &column.kind) {
        Some(Kind::Insz) => Meaning::Insz,
        Some(Kind::YesNo) => Meaning::YesNo,
        Some(Kind::Date | Kind::Text { .. } | Kind::OneOf(_)) | None => Meaning::Other,
    }
}

/// The list that a workbook holds, as CSV for `Table::parse`. `meaning` is asked of each column's name. Neither what is
/// unpacked nor the text takes more than `limit` bytes.
pub fn to_csv(
    workbook: &[u8],
    meaning: impl Fn(&str) -> Meaning,
    limit: u64,
    stop: &Stop,
) -> Result<Zeroizing<Vec<u8>>, SheetError> {
    if workbook.starts_with(COMPOUND) {
        return Err(SheetError::Unreadable(Fault::ProtectedOrOld));
    }
    let read = || {
        inspect::inspect(workbook, limit, stop)?;
        cells::read(workbook, &meaning, limit, stop)
    };
    // A defect of the libraries that a workbook brings to light is a fault of that workbook.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(SheetError::Unreadable(Fault::NotAWorkbook)))
}

impl SheetError {
    /// Whether another try may help.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Unreadable(fault) => Failure::Lasting(Reason::SheetUnreadable { row: fault.row() }),
            Self::TooLarge { .. } => Failure::Lasting(Reason::JobMemory),
            Self::Unfit(_) => Failure::Lasting(Reason::ResultTooLarge),
            Self::Io(_) => Failure::Passing,
            Self::Interrupted(why) => why.failure(),
        }
    }
}

impl Fault {
    /// The row that it is about, where it is about one.
    fn row(&self) -> Option<u64> {
        match self {
            Self::BesideColumns { row, .. }
            | Self::ErrorValue { row, .. }
            | Self::Uncomputed { row, .. }
            | Self::Rounded { row, .. }
            | Self::NoDate { row, .. }
            | Self::Order(row) => Some(u64::from(*row)),
            Self::Header(_) | Self::Names => Some(1),
            Self::NotAWorkbook
            | Self::ProtectedOrOld
            | Self::Parts
            | Self::Packed
            | Self::Entities
            | Self::ExternalLinks
            | Self::Empty
            | Self::SeveralSheets(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use self::tests::book_with_row;

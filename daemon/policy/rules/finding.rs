//! What was found in a list that is against the rules: where and what, never the value that stands there. A finding is read by
//! people who may not read the list. `wording` has its sentences.

use std::borrow::Cow;
use std::fmt;

use super::wording::{self, Wording};

/// One fault at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding<'r> {
    /// As a spreadsheet counts: the header is row 1, what comes below it is row 2.
    pub row: u64,
    /// In which column.
    pub column: Place<'r>,
    /// What is wrong there.
    pub fault: Fault,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'r> {
    /// One of the agreed ones.
    Agreed(&'r str),
    /// Another, counted from 1. Not by its name: in a list without a header, the names are the values of the first row.
    At(usize),
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The column is not there.
    ColumnMissing,
    /// The column is none of those agreed.
    ColumnNotAgreed,
    /// The template has another column here.
    ColumnOutOfOrder,
    /// The cell has to hold something.
    Empty,
    /// Not eleven digits.
    InszForm,
    /// Ten digits: a zero in front was lost.
    InszLostZero,
    /// Check digits or date do not fit.
    InszCheck,
    /// No calendar day.
    NotADate,
    /// Too many characters.
    TooLong {
        /// As many there may be.
        at_most: usize,
    },
    /// Characters that the column does not take.
    Characters,
    /// A spreadsheet would take it for a formula.
    Formula,
    /// None of the agreed values.
    NotAgreedValue,
    /// Neither yes nor no.
    NotYesNo,
    /// The row is not one of those that may be exchanged.
    RowNotAgreed,
    /// It holds a national number.
    InszForbidden,
    /// It says whose the row is, and names nobody who may receive one.
    Nobodys,
    /// The same in the result: the list has no such row.
    NobodysInResult,
}

impl Fault {
    /// Stable, for programs: kebab-case.
    pub fn code(self) -> &'static str {
        self.wording().code
    }

    /// What to do, in Dutch.
    pub fn dutch(self) -> Cow<'static, str> {
        match self {
            Self::TooLong { at_most } => format!("Te lang. Gebruik hoogstens {at_most} tekens.").into(),
            other => other.wording().dutch.into(),
        }
    }

    /// What to do, in English.
    pub fn english(self) -> Cow<'static, str> {
        match self {
            Self::TooLong { at_most } => format!("Too long. Use at most {at_most} characters.").into(),
            other => other.wording().english.into(),
        }
    }

    fn wording(self) -> &'static Wording {
        match self {
            Self::ColumnMissing => &wording::COLUMN_MISSING,
            Self::ColumnNotAgreed => &wording::COLUMN_NOT_AGREED,
            Self::ColumnOutOfOrder => &wording::COLUMN_OUT_OF_ORDER,
            Self::Empty => &wording::EMPTY,
            Self::InszForm => &wording::INSZ_FORM,
            Self::InszLostZero => &wording::INSZ_LOST_ZERO,
            Self::InszCheck => &wording::INSZ_CHECK,
            Self::NotADate => &wording::NOT_A_DATE,
            Self::TooLong { .. } => &wording::TOO_LONG,
            Self::Characters => &wording::CHARACTERS,
            Self::Formula => &wording::FORMULA,
            Self::NotAgreedValue => &wording::NOT_AGREED_VALUE,
            Self::NotYesNo => &wording::NOT_YES_NO,
            Self::RowNotAgreed => &wording::ROW_NOT_AGREED,
            Self::InszForbidden => &wording::INSZ_FORBIDDEN,
            Self::Nobodys => &wording::NOBODYS,
            Self::NobodysInResult => &wording::NOBODYS_IN_RESULT,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreed(name) => f.write_str(name),
            Self::At(number) => write!(f, "#{number}"),
        }
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}, column {}: {}", self.row, self.column, self.fault.code())
    }
}

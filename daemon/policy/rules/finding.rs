//! What was found in a list that is against the rules, and the words for it in Dutch and English. Where and what, never the
//! value that stands there: a finding is read by people who may not read the list.

use std::borrow::Cow;
use std::fmt;

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
        self.words().0
    }

    /// What to do, in Dutch.
    pub fn dutch(self) -> Cow<'static, str> {
        match self {
            Self::TooLong { at_most } => format!("Te lang. Gebruik hoogstens {at_most} tekens.").into(),
            other => other.words().1.into(),
        }
    }

    /// What to do, in English.
    pub fn english(self) -> Cow<'static, str> {
        match self {
            Self::TooLong { at_most } => format!("Too long. Use at most {at_most} characters.").into(),
            other => other.words().2.into(),
        }
    }

    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ColumnMissing => (
                "column-missing",
                "Deze kolom ontbreekt. Voeg ze toe, met precies deze naam in de eerste rij.",
                "This column is missing. Add it, with exactly this name in the first row.",
            ),
            Self::ColumnNotAgreed => (
                "column-not-agreed",
                "De kolom op deze plaats (geteld van links) is niet afgesproken. Verwijder ze, of zet de kolomnamen in de eerste rij.",
                "The column in this place (counted from the left) is not agreed. Remove it, or put the names of the columns in the first row.",
            ),
            Self::ColumnOutOfOrder => (
                "column-out-of-order",
                "Deze kolom staat niet op haar plaats. Gebruik het afgesproken sjabloon, ongewijzigd.",
                "This column is not in its place. Use the agreed template, unchanged.",
            ),
            Self::Empty => {
                ("empty", "Dit veld is verplicht. Vul het in.", "This field is required. Fill it in.")
            }
            Self::InszForm => (
                "insz-form",
                "Geen INSZ. Gebruik elf cijfers, alleen of als JJ.MM.DD-VVV.CC, met niets ervoor of erna.",
                "No national number. Use eleven digits, alone or as YY.MM.DD-SSS.CC, with nothing before or behind.",
            ),
            Self::InszLostZero => (
                "insz-lost-zero",
                "Dit INSZ heeft zijn nul vooraan verloren. Maak van de kolom tekst (in Excel: Celeigenschappen, Tekst).",
                "This national number has lost the zero in front. Make the column text (in Excel: Format Cells, Text).",
            ),
            Self::InszCheck => (
                "insz-check",
                "Dit INSZ bestaat niet: het controlegetal of de datum klopt niet. Kijk het na.",
                "There is no such national number: check digits or date do not fit. Look it up.",
            ),
            Self::NotADate => (
                "not-a-date",
                "Geen datum. Schrijf 2026-03-01 of 01/03/2026.",
                "No date. Write 2026-03-01 or 01/03/2026.",
            ),
            Self::TooLong { .. } => ("too-long", "Te lang.", "Too long."),
            Self::Characters => (
                "characters",
                "Dit veld bevat tekens die er niet in horen. Verwijder ze.",
                "This field holds characters that do not belong in it. Remove them.",
            ),
            Self::NotAgreedValue => (
                "not-agreed-value",
                "Geen van de afgesproken waarden. Gebruik er een, letterlijk.",
                "None of the agreed values. Use one of them, to the letter.",
            ),
            Self::NotYesNo => ("not-yes-no", "Schrijf ja of nee.", "Write yes or no."),
            Self::RowNotAgreed => (
                "row-not-agreed",
                "Deze rij mag volgens het protocol niet uitgewisseld worden. Verwijder de hele rij.",
                "The agreement does not let this row be exchanged. Remove the whole row.",
            ),
            Self::Nobodys => (
                "nobodys-row",
                "Deze waarde zegt voor wie de rij is, en noemt geen ontvanger. Kijk ze na.",
                "This value says whose the row is, and names no receiver. Look it up.",
            ),
            Self::NobodysInResult => (
                "nobodys-row-in-result",
                "Een rij van het resultaat (daarin geteld, niet in uw lijst) is voor geen ontvanger bestemd. Vraag de beheerder ernaar.",
                "A row of the result (counted there, not in your list) is for no receiver. Ask the operator about it.",
            ),
            Self::InszForbidden => (
                "insz-forbidden",
                "Hier staat een INSZ, en dat mag in deze uitwisseling nergens staan. Verwijder het.",
                "There is a national number here, and this exchange allows none anywhere. Remove it.",
            ),
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

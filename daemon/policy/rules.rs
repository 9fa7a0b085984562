//! What a list may hold, as an agreement says it: which columns, what stands in them, which rows. Reading a list is `table`'s
//! business; what becomes of one that breaks the rules is decided by its flow.

mod cell;
mod checker;
mod finding;
mod wording;

pub use self::cell::date;
pub use self::checker::Checker;
pub use self::finding::{Fault, Finding, Place};

/// The rules for one kind of list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRules {
    /// Its name in the exchange's `tables`.
    pub name: String,
    /// The forms a list may come in.
    pub formats: Vec<Format>,
    /// The columns there may be; none besides these.
    pub columns: Vec<Column>,
    /// All of the columns, in this order, as in a form that everybody fills in.
    pub is_template: bool,
    /// What every row must meet.
    pub conditions: Vec<Condition>,
    /// No cell holds a valid national number, in whatever spelling.
    pub forbids_insz: bool,
}

/// How a list is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma or semicolon separated text.
    Csv,
    /// An Excel workbook with one sheet.
    Xlsx,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// As the header line spells it.
    pub name: String,
    /// What stands in it.
    pub kind: Kind,
    /// It is there, and never empty.
    pub is_required: bool,
}

/// What stands in a column, where it is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A national number or bis number with valid check digits, with or without dots.
    Insz,
    /// A calendar day, as in 2026-03-01 or 01/03/2026.
    Date,
    /// Text.
    Text {
        /// Most characters.
        at_most: usize,
        /// Which characters.
        alphabet: Alphabet,
    },
    /// One of these, verbatim.
    OneOf(Vec<String>),
    /// ja, nee, yes, no, 1, 0, true, false, in any case.
    YesNo,
}

/// Which characters a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alphabet {
    /// Any but control characters other than line ends.
    Any,
    /// Any of one line.
    #[default]
    Line,
    /// Letters of any language, spaces, apostrophes, hyphens and full stops: names.
    Letters,
    /// ASCII digits, spaces and `+ . / ( ) -`: numbers and telephone numbers.
    Digits,
}

/// What a row must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column.
    pub column: String,
    /// One of these must stand in it, whatever the case of its letters; of yes and no, another word for it will do.
    pub is: Vec<String>,
}

impl TableRules {
    /// The names of the columns, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// Whether a list may come in this form.
    pub fn takes(&self, format: Format) -> bool {
        self.formats.contains(&format)
    }
}

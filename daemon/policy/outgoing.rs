//! What leaves a job: who receives which columns and rows of its result, in which form, locked with what. Doing it is
//! `work`'s business.

use std::collections::BTreeMap;

use super::path::Slug;
use super::rules::Format;

/// One delivery of a flow. No institution is in two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Who receives it.
    pub receivers: Receivers,
    /// Its columns, in order; none: all of the result, as they are.
    pub columns: Option<Vec<OutColumn>>,
    /// Its form; none: as the list came.
    pub format: Option<Format>,
    /// What it is encrypted to.
    pub lock: Lock,
}

/// Who receives which rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receivers {
    /// Each of them all rows.
    All(Vec<Slug>),
    /// Each the rows in which a column holds its value.
    Split {
        /// The column.
        by: String,
        /// Value to institution; an institution may have several values.
        among: BTreeMap<String, Slug>,
    },
    /// Each person the rows in which a column holds her label, encrypted to her own recipients.
    People {
        /// The column.
        by: String,
        /// Whose people.
        of: Vec<Slug>,
    },
}

/// A column of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutColumn {
    /// The result's column.
    pub from: String,
    /// Its name in the delivery.
    pub name: String,
    /// Each value is replaced by its pseudonym.
    pub is_pseudonym: bool,
}

/// What a delivery is encrypted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lock {
    /// The receiver's recipients.
    #[default]
    Recipients,
    /// A generated passphrase, which goes another way.
    Passphrase,
}

impl Outgoing {
    /// All rows and columns to these institutions' recipients.
    pub fn plain(to: Vec<Slug>) -> Self {
        Self { receivers: Receivers::All(to), columns: None, format: None, lock: Lock::Recipients }
    }

    /// The institutions that receive something, each once.
    pub fn institutions(&self) -> Vec<&Slug> {
        let mut all: Vec<&Slug> = match &self.receivers {
            Receivers::All(to) => to.iter().collect(),
            Receivers::Split { among, .. } => among.values().collect(),
            Receivers::People { of, .. } => of.iter().collect(),
        };
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|name| seen.insert(*name));
        all
    }
}

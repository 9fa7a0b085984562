//! What of a result a delivery takes: which columns in which order under which names, and whose a row is. Reading the rows,
//! encrypting and delivering them is `work`'s business.
//!
//! A row whose value names nobody is nobody's: it never goes to somebody else, and what becomes of it is said, not decided
//! by leaving it out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::agreement::{Exchange, Flow};
use super::outgoing::{OutColumn, Outgoing, Receivers};
use super::path::Slug;
use super::pseudonym::{PseudonymKey, Pseudonyms};

/// A result does not have what a delivery is made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the result has no column {column:?}, which {wants} of a delivery names: correct the flow, or the job that makes the result"
)]
pub struct Misfit {
    /// What it lacks.
    pub column: String,
    /// The key of the configuration that names it.
    pub wants: &'static str,
}

/// How one delivery is made of results with certain columns.
pub struct Shape {
    /// In the order of the delivery; none: rows as they are.
    cuts: Option<Vec<Cut>>,
    /// The column that says whose a row is.
    by: Option<usize>,
}

/// One column of a delivery.
struct Cut {
    at: usize,
    name: String,
    pseudonyms: Option<Pseudonyms>,
}

impl Shape {
    /// For a result with these columns. `key` is there wherever the delivery has a pseudonym.
    pub fn of(
        outgoing: &Outgoing,
        columns: &[String],
        (exchange, key): (&Slug, Option<&PseudonymKey>),
    ) -> Result<Self, Misfit> {
        let place = |name: &str, wants| {
            let at = columns.iter().position(|column| column == name);
            at.ok_or_else(|| Misfit { column: name.to_owned(), wants })
        };
        let cut = |column: &OutColumn| {
            let pseudonyms = match (column.is_pseudonym, key) {
                (true, Some(key)) => Some(Pseudonyms::of(key, exchange, &column.from)),
                // Rather no delivery than the values themselves.
                (true, None) => return Err(Misfit { column: column.name.clone(), wants: "pseudonym" }),
                (false, _) => None,
            };
            Ok(Cut { at: place(&column.from, "columns")?, name: column.name.clone(), pseudonyms })
        };
        let cuts = outgoing.columns.as_ref().map(|columns| columns.iter().map(cut).collect());
        let by = outgoing.receivers.by().map(|by| place(by, "split")).transpose()?;
        Ok(Self { cuts: cuts.transpose()?, by })
    }

    /// What says whose a row is; none where it is everybody's.
    pub fn owner<'r>(&self, row: &'r [Cow<'_, str>]) -> Option<&'r str> {
        // A row has as many fields as the header, which had the column.
        self.by.map(|by| row.get(by).map_or("", |value| value.as_ref()))
    }

    /// The names of its columns.
    pub fn header<'s>(&'s self, columns: &'s [String]) -> Vec<&'s str> {
        match &self.cuts {
            Some(cuts) => cuts.iter().map(|cut| cut.name.as_str()).collect(),
            None => columns.iter().map(String::as_str).collect(),
        }
    }

    /// What the delivery takes of a row, in its order.
    pub fn values<'v>(
        &'v self,
        row: &'v [Cow<'_, str>],
        room: &'v mut Room,
    ) -> impl Iterator<Item = &'v str> {
        let cuts = self.cuts.as_deref();
        let field = |at: usize| row.get(at).map_or("", |value| value.as_ref());
        for (at, cut) in cuts.into_iter().flatten().enumerate() {
            if let Some(pseudonyms) = &cut.pseudonyms {
                room.0.resize_with(room.0.len().max(at + 1), String::new);
                if let Some(text) = room.0.get_mut(at) {
                    pseudonyms.write(field(cut.at), text);
                }
            }
        }
        let made = &room.0;
        (0..cuts.map_or(row.len(), <[Cut]>::len)).map(move |at| match cuts.and_then(|cuts| cuts.get(at)) {
            Some(Cut { pseudonyms: Some(_), .. }) => made.get(at).map_or("", String::as_str),
            Some(cut) => field(cut.at),
            None => field(at),
        })
    }
}

/// Where the pseudonyms of one row stand until they are written.
#[derive(Debug, Default)]
pub struct Room(Vec<String>);

impl Outgoing {
    /// Whether every receiver gets the result as it is, byte for byte.
    pub fn is_whole(&self) -> bool {
        self.columns.is_none() && self.receivers.by().is_none()
    }

    /// Whether it has a pseudonym.
    pub fn has_pseudonym(&self) -> bool {
        self.columns.iter().flatten().any(|column| column.is_pseudonym)
    }
}

impl Receivers {
    /// Whether they are people, and not institutions.
    pub fn are_people(&self) -> bool {
        match self {
            Self::All(_) | Self::Split { .. } => false,
            Self::People { .. } => true,
        }
    }

    /// The column that says whose a row is.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::All(_) => None,
            Self::Split { by, .. } | Self::People { by, .. } => Some(by),
        }
    }
}

impl Flow {
    /// Whether some of its receivers are people, of whom nobody knows who gets something before the job has run.
    pub fn has_personal(&self) -> bool {
        self.deliveries.iter().any(|outgoing| outgoing.receivers.are_people())
    }
}

impl Exchange {
    /// Whether results in an institution's `out` may be for one of its people alone.
    pub fn has_shares_of_people(&self, institution: &Slug) -> bool {
        let mut going = self.flows.iter().flat_map(|flow| &flow.deliveries);
        going
            .any(|outgoing| outgoing.receivers.are_people() && outgoing.institutions().contains(&institution))
    }
}

/// Whose a row is, by what stands in it: exactly that, because lists are not cleaned, and a value that is nearly somebody's
/// may be somebody else's.
#[derive(Debug, Default)]
pub struct Owners<'a>(BTreeMap<&'a str, Option<usize>>);

impl<'a> Owners<'a> {
    /// A value that is one's from now on. A value that two claim is nobody's.
    pub fn add(&mut self, value: &'a str, whose: usize) {
        let place = self.0.entry(value).or_insert(Some(whose));
        if *place != Some(whose) {
            *place = None;
        }
    }

    /// Whose it is; none if it is nobody's.
    pub fn of(&self, value: &str) -> Option<usize> {
        self.0.get(value).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::outgoing::Lock;
    use super::super::table::Dialect;
    use super::*;

    const DIALECT: Dialect = Dialect { delimiter: b';', crlf: false, bom: false };

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn columns() -> Vec<String> {
        ["insz", "fund", "category"].map(str::to_owned).to_vec()
    }

    fn column(from: &str, name: &str, is_pseudonym: bool) -> OutColumn {
        OutColumn { from: from.into(), name: name.into(), is_pseudonym }
    }

    fn outgoing(columns: Option<Vec<OutColumn>>, by: Option<&str>) -> Outgoing {
        let receivers = match by {
            Some(by) => Receivers::Split { by: by.into(), among: BTreeMap::new() },
            None => Receivers::All(vec![slug("agii")]),
        };
        Outgoing { receivers, columns, format: None, lock: Lock::Recipients }
    }

    fn written(shape: &Shape, row: &[&str]) -> String {
        let row: Vec<Cow<'_, str>> = row.iter().map(|field| Cow::Borrowed(*field)).collect();
        let (mut out, mut room) = (Vec::new(), Room::default());
        DIALECT.write_row(&mut out, shape.values(&row, &mut room).map(str::as_bytes));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_kept_dropped_renamed_ordered_and_made_pseudonyms() {
        let key = PseudonymKey::new(Zeroizing::new([7; 32]));
        let wanted = vec![
            column("category", "categorie", false),
            column("insz", "pseudoniem", true),
            column("category", "again", false),
        ];
        let exchange = slug("pillar-3");
        let with_key = (&exchange, Some(&key));
        let shape = Shape::of(&outgoing(Some(wanted.clone()), Some("fund")), &columns(), with_key).unwrap();
        assert_eq!(shape.header(&columns()), ["categorie", "pseudoniem", "again"]);
        let mut expected = String::new();
        Pseudonyms::of(&key, &exchange, "insz").write("85.07.30-033.28", &mut expected);
        let row = ["85.07.30-033.28", "101", "a;b"];
        assert_eq!(written(&shape, &row), format!("\"a;b\";{expected};\"a;b\"\n"));
        assert_eq!(written(&shape, &["", "101", ""]), ";;\n", "an empty value stays empty");
        assert_eq!(shape.owner(&row.map(Cow::Borrowed)), Some("101"), "by a column that is dropped");
        let error = Shape::of(&outgoing(Some(wanted), None), &columns(), (&exchange, None)).err().unwrap();
        assert_eq!(error.wants, "pseudonym", "without a key, no value goes out in its place");
    }

    #[test]
    fn a_column_that_the_result_does_not_have_is_told_and_not_left_out() {
        let exchange = slug("pillar-3");
        for (outgoing, wants) in [
            (outgoing(Some(vec![column("Insz", "x", false)]), None), "columns"),
            (outgoing(None, Some("funds")), "split"),
        ] {
            assert_eq!(Shape::of(&outgoing, &columns(), (&exchange, None)).err().unwrap().wants, wants);
        }
    }

    #[test]
    fn without_columns_rows_stay_as_they_are_and_one_empty_column_is_no_empty_line() {
        let exchange = slug("pillar-3");
        let shape = Shape::of(&outgoing(None, Some("fund")), &columns(), (&exchange, None)).unwrap();
        assert_eq!(shape.header(&columns()), columns());
        assert_eq!(written(&shape, &["1", "2", "3"]), "1;2;3\n");
        let one = outgoing(Some(vec![column("fund", "fund", false)]), None);
        let shape = Shape::of(&one, &columns(), (&exchange, None)).unwrap();
        assert_eq!(written(&shape, &["1", "", "3"]), "\"\"\n");
    }

    #[test]
    fn a_value_is_one_owners_exactly_or_nobodys() {
        let mut owners = Owners::default();
        owners.add("101", 0);
        owners.add("102", 1);
        owners.add("103", 0);
        owners.add("an", 3);
        owners.add("an", 4);
        owners.add("an", 4);
        assert_eq!(["101", "102", "103"].map(|value| owners.of(value)), [Some(0), Some(1), Some(0)]);
        for nobodys in ["an", "", " 101", "101 ", "0101", "1"] {
            assert_eq!(owners.of(nobodys), None, "{nobodys:?}");
        }
    }
}

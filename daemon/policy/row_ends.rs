//! Where the rows of a list end, while its bytes still come in: a line end inside quotes ends no row. What the rows hold is
//! `table`'s question, which reads them whole.

use memchr::{memchr, memrchr};

/// Follows the bytes of a list, from its beginning or from where a row has ended.
#[derive(Debug, Clone)]
pub struct RowEnds {
    delimiter: u8,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where a field begins, and only here a quote opens one.
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote inside quotes: the next byte says whether it closes them.
    AfterQuote,
}

impl RowEnds {
    /// Fields end at `delimiter`.
    pub fn new(delimiter: u8) -> Self {
        Self { delimiter, place: Place::FieldStart }
    }

    /// Takes the next bytes; the place behind the last row end among them.
    pub fn last_in(&mut self, bytes: &[u8]) -> Option<usize> {
        if memchr(b'"', bytes).is_none() && self.place != Place::Quoted {
            return self.last_unquoted(bytes);
        }
        let mut last = None;
        for (at, byte) in bytes.iter().enumerate() {
            self.place = match (self.place, *byte) {
                (Place::Quoted, b'"') => Place::AfterQuote,
                (Place::Quoted, _) | (Place::FieldStart | Place::AfterQuote, b'"') => Place::Quoted,
                (Place::FieldStart | Place::Plain | Place::AfterQuote, b'\n') => {
                    last = Some(at + 1);
                    Place::FieldStart
                }
                (_, byte) if byte == self.delimiter => Place::FieldStart,
                // Behind a closing quote this is no list, which its reader will say.
                (Place::FieldStart | Place::Plain | Place::AfterQuote, _) => Place::Plain,
            };
        }
        last
    }

    fn last_unquoted(&mut self, bytes: &[u8]) -> Option<usize> {
        let last = memrchr(b'\n', bytes).map(|at| at + 1);
        self.place = match bytes.last() {
            None => self.place,
            Some(byte) if *byte == b'\n' || *byte == self.delimiter => Place::FieldStart,
            Some(_) => Place::Plain,
        };
        last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_end_inside_quotes_ends_no_row() {
        for (text, last) in [
            ("", None),
            ("a", None),
            ("a\n", Some(2)),
            ("a\nb\nc", Some(4)),
            ("a,\"b\nc", None),
            ("a,\"b\nc\"\nd", Some(8)),
            ("a,\"b\"\"\nc\"\r\n", Some(11)),
            // A quote in the middle of a field is part of it.
            ("a\"b\nc", Some(4)),
            ("a;\"b\nc", Some(5)),
            ("\"\"\n", Some(3)),
        ] {
            assert_eq!(RowEnds::new(b',').last_in(text.as_bytes()), last, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_the_bytes_come(text in "[a,\"\r\n]{0,40}", cut in 0_usize..40) {
            let cut = cut.min(text.len());
            let (first, second) = text.as_bytes().split_at(cut);
            let mut ends = RowEnds::new(b',');
            let in_first = ends.last_in(first);
            let in_second = ends.last_in(second).map(|at| at + cut);
            prop_assert_eq!(in_second.or(in_first), RowEnds::new(b',').last_in(text.as_bytes()));
        }

        #[test]
        fn what_is_written_ends_where_it_was_written_to_end(
            rows in prop::collection::vec(prop::collection::vec("[a,\"\n]{0,5}", 2), 1..6),
            rest in "[ab]{0,5}",
        ) {
            let dialect = crate::policy::table::Dialect { delimiter: b',', crlf: false, bom: false };
            let mut text = Vec::new();
            for row in &rows {
                dialect.write_row(&mut text, row.iter().map(String::as_bytes));
            }
            let end = text.len();
            text.extend_from_slice(rest.as_bytes());
            prop_assert_eq!(RowEnds::new(b',').last_in(&text), Some(end));
        }
    }
}

//! What counts as a list: CSV (RFC 4180) in UTF-8 with a header line, comma or semicolon. A pure reader over bytes held in
//! memory, and the writer that answers in the same dialect. What the columns mean is the job's business.
//!
//! Lists are never cleaned, so an empty line is a row with empty values. Only the end of the last line is no row.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

use super::reason::Reason;

/// Most columns a list may have: SQLite's default limit.
pub const COLUMNS_MAX: usize = 2000;

const BOM: &str = "\u{feff}";

/// How a list is written. The result of a job follows the list's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// `,` or `;`, decided from the header line.
    pub delimiter: u8,
    /// Lines end in CR LF, decided from the header line; reading takes both.
    pub crlf: bool,
    /// The text begins with a byte order mark.
    pub bom: bool,
}

/// A list whose encoding and header line have been checked; its rows are checked as they are read.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    dialect: Dialect,
    columns: Vec<String>,
    body: &'a str,
    /// The line on which the body begins.
    line: u64,
}

impl<'a> Table<'a> {
    /// Reads the header line. Fails with `NotATable` and the line: not UTF-8, NUL, no header, a column without a name or
    /// with the name of another (SQL does not tell case apart), more than `COLUMNS_MAX`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        Self::parse_by(bytes, read_header)
    }

    /// The same of what this program wrote: its delimiter is known, and a header line of one column does not tell it.
    pub fn parse_in(dialect: Dialect, bytes: &'a [u8]) -> Result<Self, Reason> {
        Self::parse_by(bytes, |text| read_header_by(text, dialect.delimiter))
    }

    fn parse_by(
        bytes: &'a [u8],
        read_header: impl Fn(&'a str) -> Result<(Vec<Cow<'a, str>>, Rows<'a>), Reason>,
    ) -> Result<Self, Reason> {
        let text = std::str::from_utf8(bytes).map_err(|error| stopped_at(bytes, error.valid_up_to()))?;
        if let Some(at) = memchr(0, bytes) {
            return Err(stopped_at(bytes, at));
        }
        let (bom, text) = match text.strip_prefix(BOM) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (fields, rows) = read_header(text)?;
        let crlf = text.strip_suffix(rows.rest).is_some_and(|header| header.ends_with("\r\n"));
        let delimiter = rows.delimiter;
        let columns: Vec<String> = fields.into_iter().map(Cow::into_owned).collect();
        if columns.len() > COLUMNS_MAX || !are_names(&columns) {
            return Err(Reason::NotATable { row: 1 });
        }
        Ok(Self { dialect: Dialect { delimiter, crlf, bom }, columns, body: rows.rest, line: rows.line })
    }

    /// How the list is written.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The names of the header line, verbatim.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows below the header line.
    pub fn rows(&self) -> Rows<'a> {
        Rows { width: Some(self.columns.len()), ..Rows::new(self.body, self.dialect.delimiter, self.line) }
    }
}

/// The rows of a list, read one at a time into a buffer of the caller's, so that no row costs an allocation.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    rest: &'a str,
    delimiter: u8,
    line: u64,
    width: Option<usize>,
}

impl<'a> Rows<'a> {
    /// Rows of a text that begins with one, on this line; each may have as many fields as it likes.
    pub fn new(text: &'a str, delimiter: u8, line: u64) -> Self {
        Self { rest: text, delimiter, line, width: None }
    }

    /// From here on, each row must have so many fields.
    #[must_use]
    pub fn of_width(self, width: usize) -> Self {
        Self { width: Some(width), ..self }
    }

    /// What is still to be read.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Bytes of the list from here to its end.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Replaces `fields` with the next row; `false` at the end. Fails with the line on which the row begins where it has
    /// another number of fields than the header, or its quotes do not end as they should.
    pub fn read(&mut self, fields: &mut Vec<Cow<'a, str>>) -> Result<bool, Reason> {
        fields.clear();
        if self.rest.is_empty() {
            return Ok(false);
        }
        let line = self.line;
        let (text, rest) = split_line(self.rest);
        if memchr(b'"', text.as_bytes()).is_none() {
            fields.extend(text.split(char::from(self.delimiter)).map(Cow::Borrowed));
            self.rest = rest;
            self.line += 1;
        } else {
            self.read_quoted(fields).ok_or(Reason::NotATable { row: line })?;
        }
        let Some(width) = self.width else { return Ok(true) };
        if text.is_empty() {
            fields.resize(width, Cow::Borrowed(""));
        }
        if fields.len() == width { Ok(true) } else { Err(Reason::NotATable { row: line }) }
    }

    /// The slow way, for a row with a quote in its first line. `None` where the quotes are wrong.
    fn read_quoted(&mut self, fields: &mut Vec<Cow<'a, str>>) -> Option<()> {
        loop {
            let field = match self.rest.strip_prefix('"') {
                Some(inside) => self.read_inside_quotes(inside)?,
                None => {
                    let end = |byte: &u8| *byte == self.delimiter || *byte == b'\n';
                    let at = self.rest.bytes().position(|byte| end(&byte)).unwrap_or(self.rest.len());
                    let (field, rest) = self.rest.split_at_checked(at)?;
                    self.rest = rest;
                    // Before a line end, the CR belongs to it.
                    let ends_line = rest.is_empty() || rest.starts_with('\n');
                    Cow::Borrowed(if ends_line { field.strip_suffix('\r').unwrap_or(field) } else { field })
                }
            };
            fields.push(field);
            if let Some(rest) = self.rest.strip_prefix(char::from(self.delimiter)) {
                self.rest = rest;
                continue;
            }
            if self.rest.is_empty() || self.rest == "\r" {
                self.rest = "";
                return Some(());
            }
            self.rest = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n'))?;
            self.line += 1;
            return Some(());
        }
    }

    /// A field from behind its opening quote; leaves `rest` behind the closing one.
    fn read_inside_quotes(&mut self, inside: &'a str) -> Option<Cow<'a, str>> {
        let mut field = Cow::Borrowed("");
        let mut inside = inside;
        loop {
            let (text, rest) = inside.split_once('"')?;
            self.line += memchr_iter(b'\n', text.as_bytes()).count() as u64;
            if field.is_empty() {
                field = Cow::Borrowed(text);
            } else {
                field.to_mut().push_str(text);
            }
            let Some(more) = rest.strip_prefix('"') else {
                self.rest = rest;
                return Some(field);
            };
            field.to_mut().push('"');
            inside = more;
        }
    }
}

impl Dialect {
    /// The rows of a text written in it, without a header line.
    pub fn rows<'a>(&self, text: &'a str, width: usize) -> Rows<'a> {
        Rows { width: Some(width), ..Rows::new(text, self.delimiter, 1) }
    }

    /// Appends the header line: as a row, or with quotes around every name where whoever finds out the delimiter from this
    /// line, as we do, would otherwise find another one.
    pub fn write_header<'f>(&self, out: &mut Vec<u8>, names: impl IntoIterator<Item = &'f [u8]> + Clone) {
        let mut line = Vec::new();
        self.write_row(&mut line, names.clone());
        // Nor is the beginning of a name a byte order mark.
        let text = std::str::from_utf8(&line).ok().filter(|text| !text.starts_with(BOM));
        let read = text.and_then(|text| read_header(text).ok());
        if read.is_some_and(|(_, rows)| rows.delimiter == self.delimiter && rows.rest.is_empty()) {
            out.extend_from_slice(&line);
            return;
        }
        for (at, name) in names.into_iter().enumerate() {
            if at > 0 {
                out.push(self.delimiter);
            }
            write_quoted(out, name);
        }
        self.end_row(out);
    }

    /// Appends one row with as few quotes as possible: only around a field that holds the delimiter, a quote or part of a
    /// line end, and around the empty field of a one-column row, which would be an empty line otherwise. Python's
    /// `csv.QUOTE_MINIMAL` writes the same bytes.
    pub fn write_row<'f>(&self, out: &mut Vec<u8>, fields: impl IntoIterator<Item = &'f [u8]>) {
        let start = out.len();
        let mut width = 0_usize;
        for field in fields {
            if width > 0 {
                out.push(self.delimiter);
            }
            width += 1;
            self.write_field(out, field);
        }
        if width == 1 && out.len() == start {
            out.extend_from_slice(b"\"\"");
        }
        self.end_row(out);
    }

    /// Appends one field, without a delimiter.
    pub fn write_field(&self, out: &mut Vec<u8>, field: &[u8]) {
        let is_plain =
            |byte: &u8| *byte != self.delimiter && *byte != b'"' && *byte != b'\n' && *byte != b'\r';
        // No early end: the compiler then looks at many bytes at a time.
        if field.iter().fold(true, |plain, byte| plain & is_plain(byte)) {
            out.extend_from_slice(field);
            return;
        }
        write_quoted(out, field);
    }

    /// Ends a row.
    pub fn end_row(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.crlf { b"\r\n" } else { b"\n" });
    }

    /// What stands before the header line.
    pub fn beginning(&self) -> &'static [u8] {
        if self.bom { BOM.as_bytes() } else { b"" }
    }
}

fn write_quoted(out: &mut Vec<u8>, field: &[u8]) {
    out.push(b'"');
    for part in field.split_inclusive(|byte| *byte == b'"') {
        out.extend_from_slice(part);
        if part.last() == Some(&b'"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

fn split_line(text: &str) -> (&str, &str) {
    let (line, rest) = memchr(b'\n', text.as_bytes())
        .and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)))
        .unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

/// The columns of the header line, and what lies behind it. The delimiter is the one of the two that the line holds more of
/// outside quotes, or the comma where that makes one column only.
fn read_header(text: &str) -> Result<(Vec<Cow<'_, str>>, Rows<'_>), Reason> {
    if has_more_semicolons(text) {
        let by_semicolon = read_header_by(text, b';')?;
        if by_semicolon.0.len() > 1 {
            return Ok(by_semicolon);
        }
    }
    read_header_by(text, b',')
}

fn read_header_by(text: &str, delimiter: u8) -> Result<(Vec<Cow<'_, str>>, Rows<'_>), Reason> {
    let (mut rows, mut fields) = (Rows::new(text, delimiter, 1), Vec::new());
    let is_there = rows.read(&mut fields)?;
    if is_there { Ok((fields, rows)) } else { Err(Reason::NotATable { row: 1 }) }
}

/// Looks at the header line before its delimiter is known, so quotes count behind either of them. Anywhere else in a field,
/// they are part of it.
fn has_more_semicolons(text: &str) -> bool {
    let (mut commas, mut semicolons) = (0_usize, 0_usize);
    let (mut quoted, mut may_open) = (false, true);
    for byte in text.bytes() {
        let opens = byte == b'"' && !quoted && may_open;
        let closes = byte == b'"' && quoted;
        match byte {
            _ if quoted => {}
            b'\n' => break,
            b',' => commas += 1,
            b';' => semicolons += 1,
            _ => {}
        }
        // The second half of a doubled quote opens again what the first half closed.
        may_open = closes || (!quoted && matches!(byte, b',' | b';'));
        quoted = opens || (quoted && !closes);
    }
    semicolons > commas
}

/// Each has a name, no two the same in SQL's eyes.
fn are_names(columns: &[String]) -> bool {
    let mut names: Vec<String> = columns.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    names.len() == columns.len() && !columns.iter().any(String::is_empty)
}

fn stopped_at(bytes: &[u8], at: usize) -> Reason {
    let before = bytes.get(..at).unwrap_or(bytes);
    Reason::NotATable { row: memchr_iter(b'\n', before).count() as u64 + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows_of(bytes: &[u8]) -> Result<Vec<Vec<String>>, Reason> {
        let table = Table::parse(bytes)?;
        let (mut rows, mut fields, mut all) = (table.rows(), Vec::new(), Vec::new());
        while rows.read(&mut fields)? {
            all.push(fields.iter().map(|field| field.to_string()).collect());
        }
        Ok(all)
    }

    #[test]
    fn every_form_of_list_is_read_as_it_is() {
        for (text, rows) in [
            ("insz", vec![]),
            ("insz\n", vec![]),
            ("insz\r\n", vec![]),
            ("\u{feff}insz\n1", vec![vec!["1"]]),
            ("insz\n1\n2\n", vec![vec!["1"], vec!["2"]]),
            ("insz\n1\n\n2\n\n", vec![vec!["1"], vec![""], vec!["2"], vec![""]]),
            ("insz\r\n\r\n1\r\n", vec![vec![""], vec!["1"]]),
            ("insz\n\"\"\n", vec![vec![""]]),
            ("a,b\n1,2\n\n,\n", vec![vec!["1", "2"], vec!["", ""], vec!["", ""]]),
            ("a;b\n1,5;x\n", vec![vec!["1,5", "x"]]),
            ("\"a,a,a\";b\n1;2\n", vec![vec!["1", "2"]]),
            ("a,b\n\"x,\"\"y\"\"\nz\",\" é \"\n", vec![vec!["x,\"y\"\nz", " é "]]),
            ("a,b\r\n\"1\",\"2\"\r\n3,\"4\"", vec![vec!["1", "2"], vec!["3", "4"]]),
            ("a,b\n\"1\",2\r\n", vec![vec!["1", "2"]]),
            ("a,b\n\"1\r\n1\",2\r", vec![vec!["1\r\n1", "2"]]),
            ("a\n x\"y \n", vec![vec![" x\"y "]]),
            ("a,b\nx\"y,\"\"\"\"\"\"\n", vec![vec!["x\"y", "\"\""]]),
        ] {
            let rows: Vec<Vec<String>> =
                rows.into_iter().map(|row| row.into_iter().map(str::to_owned).collect()).collect();
            assert_eq!(rows_of(text.as_bytes()), Ok(rows), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        for (bytes, row) in [
            (&b""[..], 1),
            (b"\n", 1),
            (b"\xef\xbb\xbf", 1),
            (b"a,,b\n", 1),
            (b"a,A\n", 1),
            (b"\"a\n", 1),
            (b"a,b\n1,2\n3\n", 3),
            (b"a,b\n1,2,3\n", 2),
            (b"a\n\"1\"x\n", 2),
            (b"a\n\"1\" \n", 2),
            (b"a\n\"1\n2\"\n\"3\n", 4),
            (b"a\n1\n\xff\n", 3),
            (b"a\n1\n2\0\n", 3),
            // A quote that never ends.
            (b"a,\"b", 1),
        ] {
            assert_eq!(rows_of(bytes), Err(Reason::NotATable { row }), "{}", String::from_utf8_lossy(bytes));
        }
        let wide = vec!["x"; COLUMNS_MAX + 1];
        let wide: Vec<String> = wide.iter().enumerate().map(|(at, x)| format!("{x}{at}")).collect();
        assert_eq!(rows_of(wide.join(",").as_bytes()), Err(Reason::NotATable { row: 1 }));
    }

    #[test]
    fn the_dialect_is_that_of_the_header_line() {
        for (text, delimiter, crlf, bom) in [
            ("a\n", b',', false, false),
            ("a,b;c\n", b',', false, false),
            ("a;b\r\n", b';', true, false),
            ("insz;\"nota; of, opmerking\"\n", b';', false, false),
            ("insz,\"nota; of, opmerking\"\n", b',', false, false),
            ("a;\"b\"\",,,\"\n", b';', false, false),
            ("a;b\"\n,,\"\n", b';', false, false),
            ("\u{feff}\"a,b,c\";b\r\n1;2\n", b';', true, true),
            ("\"a\nb\",c\r\n", b',', true, false),
        ] {
            let dialect = Table::parse(text.as_bytes()).unwrap().dialect();
            assert_eq!(dialect, Dialect { delimiter, crlf, bom }, "{text:?}");
        }
    }

    #[test]
    fn rows_are_written_as_pythons_csv_module_writes_them() {
        let written = |fields: &[&str]| {
            let mut out = Vec::new();
            let dialect = Dialect { delimiter: b',', crlf: true, bom: false };
            dialect.write_row(&mut out, fields.iter().map(|field| field.as_bytes()));
            String::from_utf8(out).unwrap()
        };
        for (fields, line) in [
            (&["a", "b"][..], "a,b\r\n"),
            (&[""], "\"\"\r\n"),
            (&["", ""], ",\r\n"),
            (&["a,b", "c;d", " e "], "\"a,b\",c;d, e \r\n"),
            (&["a\"b", "\"", "\r", "x\ny"], "\"a\"\"b\",\"\"\"\",\"\r\",\"x\ny\"\r\n"),
        ] {
            assert_eq!(written(fields), line);
        }
    }

    #[test]
    fn a_header_with_names_that_mislead_reads_back_as_it_was_written() {
        for text in [
            "a\"b\n\";\"\n",
            "a;\"b,c\"\n",
            "\"a\n\";b\r\n",
            "\"\u{feff}a\",b\n",
            "\"a\n,\";\"b,\"\n",
            "\"a;\"\n",
            "\"a;b;c\",d\n",
            "\"a,\"\"\";b\n",
        ] {
            let table = Table::parse(text.as_bytes()).unwrap();
            let mut written = Vec::new();
            table.dialect().write_header(&mut written, table.columns().iter().map(|name| name.as_bytes()));
            let again = Table::parse(&written).unwrap();
            assert_eq!((again.dialect(), again.columns()), (table.dialect(), table.columns()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            rows in (1_usize..5).prop_flat_map(|width| prop::collection::vec(
                prop::collection::vec("[a-z,;\"\r\n é]{0,6}", width), 0..8)),
            semicolon: bool, crlf: bool, bom: bool,
        ) {
            let width = rows.first().map_or(1, Vec::len);
            // A header line of one column has no delimiter to decide from, so that is a comma.
            let dialect = Dialect { delimiter: if semicolon && width > 1 { b';' } else { b',' }, crlf, bom };
            let names: Vec<String> = (0..width).map(|at| format!("c{at}")).collect();
            let mut out = dialect.beginning().to_vec();
            dialect.write_row(&mut out, names.iter().map(|name| name.as_bytes()));
            for row in &rows {
                dialect.write_row(&mut out, row.iter().map(|field| field.as_bytes()));
            }
            prop_assert_eq!(rows_of(&out), Ok(rows));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = rows_of(&bytes);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a,;\"\r\n]{0,24}") {
            let _ = rows_of(text.as_bytes());
        }
    }
}

//! Rows in the server's text form (PostgreSQL manual, COPY, "Text Format"), from a list; and rows of a result in the list's
//! dialect. What is in them is nobody's business here.

use tokio_postgres::SimpleQueryRow;
use zeroize::Zeroizing;

use super::super::encrypt::{BUFFER, Buffer, EncryptError};
use super::super::query::{QueryError, Sink};
use crate::policy::table::{Dialect, Rows};

/// Bytes that are handed to the server at a time.
const CHUNK: usize = 128 << 10;

/// The rows of a list on their way to the server, each with its number, from 1.
pub struct Chunks<'a> {
    rows: Rows<'a>,
    count: u64,
}

impl<'a> Chunks<'a> {
    /// From the first row.
    pub fn new(rows: Rows<'a>) -> Self {
        Self { rows, count: 0 }
    }

    /// The next rows; nothing when all are through.
    pub fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, QueryError> {
        use std::io::Write;
        let mut chunk = Zeroizing::new(Vec::with_capacity(CHUNK + CHUNK / 4));
        let mut fields = Vec::new();
        while chunk.len() < CHUNK && self.rows.read(&mut fields).map_err(QueryError::List)? {
            self.count += 1;
            // Writing to memory does not fail.
            let _ = write!(chunk, "{}", self.count);
            for field in &fields {
                chunk.push(b'\t');
                escape(&mut chunk, field.as_bytes());
            }
            chunk.push(b'\n');
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

/// An empty field is an empty text, and not NULL, which would be `\N`.
fn escape(out: &mut Vec<u8>, field: &[u8]) {
    let is_plain = |byte: &u8| !matches!(byte, b'\\' | b'\t' | b'\n' | b'\r');
    // No early end: the compiler then looks at many bytes at a time.
    if field.iter().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.extend_from_slice(field);
        return;
    }
    for byte in field {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(*other),
        }
    }
}

/// Puts the rows of a result into buffers and hands these over when they are full.
pub struct Writer<'a, S> {
    out: &'a mut S,
    dialect: Dialect,
    buffer: Buffer,
    /// Rows so far.
    pub count: u64,
}

impl<'a, S: Sink> Writer<'a, S> {
    /// Begins with the header line.
    pub fn begin(out: &'a mut S, dialect: Dialect, names: &[String]) -> Result<Self, QueryError> {
        let mut header = out.buffer().map_err(EncryptError::Io)?;
        header.extend_from_slice(dialect.beginning());
        dialect.write_header(&mut header, names.iter().map(String::as_bytes));
        out.send(header).map_err(EncryptError::Io)?;
        let buffer = out.buffer().map_err(EncryptError::Io)?;
        Ok(Self { out, dialect, buffer, count: 0 })
    }

    /// Writes one row, of which these columns are wanted. NULL is empty.
    pub fn write(&mut self, row: &SimpleQueryRow, columns: &[usize]) -> Result<(), QueryError> {
        let start = self.buffer.len();
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                self.buffer.push(self.dialect.delimiter);
            }
            let not_utf8 = |_| QueryError::Value { column: at + 1, what: "text that is not UTF-8" };
            if let Some(text) = row.try_get(*column).map_err(not_utf8)? {
                self.dialect.write_field(&mut self.buffer, text.as_bytes());
            }
        }
        if columns.len() == 1 && self.buffer.len() == start {
            self.buffer.extend_from_slice(b"\"\"");
        }
        self.dialect.end_row(&mut self.buffer);
        self.count += 1;
        if self.buffer.len() >= BUFFER {
            let empty = self.out.buffer().map_err(EncryptError::Io)?;
            let full = std::mem::replace(&mut self.buffer, empty);
            self.out.send(full).map_err(EncryptError::Io)?;
        }
        Ok(())
    }

    /// Hands over the last of them, and says how many there were.
    pub fn finish(self) -> Result<u64, QueryError> {
        self.out.send(self.buffer).map_err(EncryptError::Io)?;
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::table::Table;

    fn loaded(list: &str) -> String {
        let table = Table::parse(list.as_bytes()).unwrap();
        let (mut chunks, mut all) = (Chunks::new(table.rows()), Vec::new());
        while let Some(chunk) = chunks.next().unwrap() {
            all.extend_from_slice(&chunk);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn every_value_reaches_the_server_as_it_is_and_empty_is_not_null() {
        for (list, text) in [
            ("insz\n", ""),
            ("insz\n7\n\n8\n", "1\t7\n2\t\n3\t8\n"),
            ("a;b\r\n\"x\r\ny\";\\.\r\n\\N;\t\r\n", "1\tx\\r\\ny\t\\\\.\n2\t\\\\N\t\\t\n"),
            ("a,b\n\"é \"\"q\"\"\",'\n", "1\té \"q\"\t'\n"),
        ] {
            assert_eq!(loaded(list), text, "{list:?}");
        }
    }

    #[test]
    fn a_large_list_goes_in_chunks_of_whole_rows() {
        let list = format!("insz\n{}", "85073003328\n".repeat(50_000));
        let table = Table::parse(list.as_bytes()).unwrap();
        let (mut chunks, mut rows, mut sent) = (Chunks::new(table.rows()), 0, 0);
        while let Some(chunk) = chunks.next().unwrap() {
            assert!(chunk.len() <= CHUNK + 64 && chunk.ends_with(b"\n"));
            rows += chunk.iter().filter(|byte| **byte == b'\n').count();
            sent += 1;
        }
        assert_eq!(rows, 50_000);
        assert!(sent > 4);
    }
}

//! Takes what a program prints apart into rows, while it prints, and hands them on in the dialect of the result. What holds
//! for a list holds for it: UTF-8, a header line, as many fields in every row.

use std::borrow::Cow;
use std::io::Read;

use zeroize::{Zeroize, Zeroizing};

use super::error::CommandError;
use crate::policy::row_ends::RowEnds;
use crate::policy::table::{Dialect, Rows, Table};
use crate::work::encrypt::{BUFFER, Buffer, EncryptError};
use crate::work::query::Sink;

/// How a program is given its rows, and how it gives its own, whatever the sender's list looked like.
pub const PLAIN: Dialect = Dialect { delimiter: b',', crlf: false, bom: false };
/// Bytes of the longest row.
pub const ROW: usize = 1 << 20;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// The rows that have come so far.
pub struct Printed<'a, S> {
    dialect: Dialect,
    agreed: Option<&'a [String]>,
    out: &'a mut S,
    buffer: Buffer,
    /// What has come of a row that is not complete.
    pending: Zeroizing<Vec<u8>>,
    ends: RowEnds,
    /// Fields of a row, once the header line is known.
    width: Option<usize>,
    /// The line on which `pending` begins.
    line: u64,
    count: u64,
}

impl<'a, S: Sink> Printed<'a, S> {
    /// Rows go out in `dialect`, and must have the agreed columns, if they are agreed.
    pub fn new(dialect: Dialect, agreed: Option<&'a [String]>, out: &'a mut S) -> Result<Self, CommandError> {
        let mut buffer = out.buffer().map_err(EncryptError::Io)?;
        buffer.extend_from_slice(dialect.beginning());
        // Room for all at once: a vector that grows leaves copies behind.
        let pending = Zeroizing::new(Vec::with_capacity(ROW + CHUNK));
        let ends = RowEnds::new(PLAIN.delimiter);
        Ok(Self { dialect, agreed, out, buffer, pending, ends, width: None, line: 1, count: 0 })
    }

    /// Reads until nothing comes any more, and hands on what is complete.
    pub fn read(&mut self, output: &mut impl Read) -> Result<(), CommandError> {
        let mut chunk = Zeroizing::new(vec![0; CHUNK]);
        loop {
            let count = match output.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CommandError::Pipe(error)),
            };
            let came = chunk.get(..count).unwrap_or_default();
            let end = self.ends.last_in(came).map(|at| self.pending.len() + at);
            self.pending.extend_from_slice(came);
            if let Some(end) = end {
                self.hand_on(end)?;
            }
            if self.pending.len() > ROW {
                return Err(self.no_table(self.line));
            }
        }
    }

    /// The last row, which need not end in a line end, and the number of all of them.
    pub fn finish(mut self) -> Result<u64, CommandError> {
        if !self.pending.is_empty() {
            self.hand_on(self.pending.len())?;
        }
        if self.width.is_none() {
            return Err(CommandError::NoHeader);
        }
        self.out.send(self.buffer).map_err(EncryptError::Io)?;
        Ok(self.count)
    }

    fn hand_on(&mut self, end: usize) -> Result<(), CommandError> {
        let mut pending = std::mem::take(&mut self.pending);
        let handed = pending.get(..end).map_or(Ok(()), |complete| self.take(complete));
        pending.copy_within(end.., 0);
        let rest = pending.len().saturating_sub(end);
        // What stands behind the rest now has been handed on.
        pending.get_mut(rest..).unwrap_or_default().zeroize();
        pending.truncate(rest);
        self.pending = pending;
        handed
    }

    fn take(&mut self, complete: &[u8]) -> Result<(), CommandError> {
        let text = text(complete)
            .map_err(|at| self.no_table(self.line + lines(complete.get(..at).unwrap_or_default())))?;
        let text = if self.line == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        let mut rows = Rows::new(text, PLAIN.delimiter, self.line);
        let mut fields = Vec::new();
        let width = match self.width {
            Some(width) => width,
            None => {
                let first = rows.read(&mut fields);
                if !first.map_err(|_| CommandError::NoHeader)? {
                    return Ok(());
                }
                self.header(&fields)?
            }
        };
        let mut rows = rows.of_width(width);
        while rows.read(&mut fields).map_err(|reason| self.not_a_row(&reason))? {
            self.dialect.write_row(&mut self.buffer, fields.iter().map(|field| field.as_bytes()));
            self.count += 1;
            if self.buffer.len() >= BUFFER {
                let empty = self.out.buffer().map_err(EncryptError::Io)?;
                let full = std::mem::replace(&mut self.buffer, empty);
                self.out.send(full).map_err(EncryptError::Io)?;
            }
        }
        self.line += lines(complete);
        Ok(())
    }

    fn header(&mut self, names: &[Cow<'_, str>]) -> Result<usize, CommandError> {
        let mut line = Vec::new();
        PLAIN.write_header(&mut line, names.iter().map(|name| name.as_bytes()));
        // Its names have to be what those of any list have to be.
        let table = Table::parse(&line).map_err(|_| CommandError::NoHeader)?;
        if let Some(agreed) = self.agreed.filter(|agreed| *agreed != table.columns()) {
            return Err(CommandError::Columns { found: names.len(), agreed: agreed.to_vec() });
        }
        self.dialect.write_header(&mut self.buffer, names.iter().map(|name| name.as_bytes()));
        // A buffer of its own, as every job's header has.
        let empty = self.out.buffer().map_err(EncryptError::Io)?;
        let header = std::mem::replace(&mut self.buffer, empty);
        self.out.send(header).map_err(EncryptError::Io)?;
        self.width = Some(names.len());
        Ok(names.len())
    }

    fn not_a_row(&self, reason: &crate::policy::reason::Reason) -> CommandError {
        let line = match reason {
            crate::policy::reason::Reason::NotATable { row } => *row,
            _ => self.line,
        };
        self.no_table(line)
    }

    fn no_table(&self, line: u64) -> CommandError {
        CommandError::NotATable { line, most: ROW }
    }
}

/// As in every list: UTF-8, and no NUL. Otherwise where it stops being that.
fn text(bytes: &[u8]) -> Result<&str, usize> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())?;
    memchr::memchr(0, bytes).map_or(Ok(text), Err)
}

fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

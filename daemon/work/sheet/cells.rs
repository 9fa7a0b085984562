//! What the cells of a workbook mean, and the text of the list they make. Cells are read one after the other, as they stand in
//! the file, so that a sheet which calls itself a million rows long costs no more than what it holds.

use std::io::Cursor;

use calamine::{DataRef, ExcelDateTime, Reader, SheetType, SheetVisible, Xlsx, XlsxCellReader, XlsxError};
use zeroize::Zeroizing;

use super::{Fault, Meaning, SheetError};
use crate::policy::table::{COLUMNS_MAX, Dialect};
use crate::work::stop::Stop;

/// Between two looks whether the job may go on.
const CELLS_BETWEEN_LOOKS: u64 = 1 << 12;
/// Integers from here on may have lost digits: a spreadsheet keeps 15.
const ROUNDED: f64 = 1e15;
/// The first serial number behind 31 December 9999.
const DATES_END: f64 = 2_958_466.0;
/// The serial number of 29 February 1900, a day that spreadsheets have and calendars have not.
const NO_DAY: std::ops::Range<f64> = 60.0..61.0;

/// Bytes of all names in row 1. One text can be the name of every column.
const NAMES_MAX: usize = 1 << 20;
/// Sheets that are looked into. Many can be one and the same part.
const SHEETS_MAX: usize = 256;

type Book<'a> = Xlsx<Cursor<&'a [u8]>>;
type Cells<'a, 'b> = XlsxCellReader<'a, Cursor<&'b [u8]>>;

/// The text of the one visible sheet that holds anything.
pub(super) fn read(
    workbook: &[u8],
    meaning: &impl Fn(&str) -> Meaning,
    limit: u64,
    stop: &Stop,
) -> Result<Zeroizing<Vec<u8>>, SheetError> {
    let mut book = Xlsx::new(Cursor::new(workbook)).map_err(damaged)?;
    let sheet = the_sheet(&mut book, stop)?;
    let mut cells = Looked::at(&mut book, &sheet, stop)?;
    let mut text = Text::new(limit);
    while let Some(Content { row, column, value }) = cells.next_content()? {
        text.put((row, column), value, meaning)?;
    }
    text.finish(meaning)
}

/// The name of the one visible sheet that holds anything.
fn the_sheet(book: &mut Book<'_>, stop: &Stop) -> Result<String, SheetError> {
    let is_shown = |sheet: &&calamine::Sheet| {
        sheet.visible == SheetVisible::Visible && sheet.typ == SheetType::WorkSheet
    };
    let shown: Vec<String> =
        book.sheets_metadata().iter().filter(is_shown).map(|sheet| sheet.name.clone()).collect();
    if shown.len() > SHEETS_MAX {
        return Err(SheetError::Unreadable(Fault::Parts));
    }
    let mut filled = Vec::new();
    for name in shown {
        stop.go_on()?;
        if Looked::at(book, &name, stop)?.next_content()?.is_some() {
            filled.push(name);
        }
    }
    match <[String; 1]>::try_from(filled) {
        Ok([name]) => Ok(name),
        Err(filled) if filled.is_empty() => Err(SheetError::Unreadable(Fault::Empty)),
        Err(filled) => Err(SheetError::Unreadable(Fault::SeveralSheets(filled.len()))),
    }
}

/// A cell that holds something, counted from 0.
struct Content<'a> {
    row: u32,
    column: u32,
    value: DataRef<'a>,
}

/// The cells of a sheet that hold something, in order.
struct Looked<'a, 'b, 's> {
    cells: Cells<'a, 'b>,
    stop: &'s Stop,
    read: u64,
    last: Option<(u32, u32)>,
}

impl<'a, 'b, 's> Looked<'a, 'b, 's> {
    fn at(book: &'a mut Book<'b>, sheet: &str, stop: &'s Stop) -> Result<Self, SheetError> {
        let cells = book.worksheet_cells_reader(sheet).map_err(damaged)?;
        Ok(Self { cells, stop, read: 0, last: None })
    }

    fn next_content(&mut self) -> Result<Option<Content<'a>>, SheetError> {
        // With the formulas, because a formula without a value looks like an empty cell.
        while let Some(cell) = self.cells.next_cell_with_formula_metadata().map_err(damaged)? {
            if self.read.is_multiple_of(CELLS_BETWEEN_LOOKS) {
                self.stop.go_on()?;
            }
            self.read += 1;
            let (row, column) = cell.pos;
            // Also of cells that hold nothing: nobody else is to read another order into the file.
            if self.last.is_some_and(|last| cell.pos <= last) {
                return Err(SheetError::Unreadable(Fault::Order(row.saturating_add(1))));
            }
            self.last = Some(cell.pos);
            let has_formula = cell.formula.is_some();
            match cell.value {
                DataRef::Empty if has_formula => {
                    let (row, column) = from_one(cell.pos);
                    return Err(SheetError::Unreadable(Fault::Uncomputed { row, column }));
                }
                DataRef::Empty | DataRef::SharedString("") => {}
                DataRef::String(text) if text.is_empty() => {}
                value => return Ok(Some(Content { row, column, value })),
            }
        }
        Ok(None)
    }
}

/// The list as it grows.
struct Text {
    out: Zeroizing<Vec<u8>>,
    limit: u64,
    /// The names in row 1; written when the first cell below them comes.
    names: Vec<String>,
    meanings: Vec<Meaning>,
    dialect: Dialect,
    /// Where the next field goes: row as the sheet counts, and fields that are in it.
    row: u32,
    fields: usize,
}

impl Text {
    fn new(limit: u64) -> Self {
        // What Excel reads without asking, where the list's language is Dutch.
        let dialect = Dialect { delimiter: b';', crlf: true, bom: true };
        Self {
            out: Zeroizing::new(Vec::new()),
            limit,
            names: Vec::new(),
            meanings: Vec::new(),
            dialect,
            row: 0,
            fields: 0,
        }
    }

    fn put(
        &mut self,
        (row, column): (u32, u32),
        value: DataRef<'_>,
        meaning: &impl Fn(&str) -> Meaning,
    ) -> Result<(), SheetError> {
        if row == 0 {
            return self.put_name(column, value);
        }
        if self.meanings.is_empty() {
            self.put_header(meaning)?;
        }
        let at = column as usize;
        let Some(&meaning) = self.meanings.get(at) else {
            let (row, column) = from_one((row, column));
            return Err(SheetError::Unreadable(Fault::BesideColumns { row, column }));
        };
        while self.row < row {
            self.end_row()?;
        }
        while self.fields < at {
            self.begin_field();
        }
        self.begin_field();
        let text = Zeroizing::new(text_of(value, meaning, (row, column))?);
        self.reserve(text.len().saturating_mul(2))?;
        self.dialect.write_field(&mut self.out, text.as_bytes());
        Ok(())
    }

    fn put_name(&mut self, column: u32, value: DataRef<'_>) -> Result<(), SheetError> {
        if self.names.len() != column as usize || self.names.len() >= COLUMNS_MAX {
            let (_, first_without) = from_one((0, u32::try_from(self.names.len()).unwrap_or(u32::MAX)));
            return Err(SheetError::Unreadable(Fault::Header(first_without)));
        }
        let length = match &value {
            DataRef::String(text) => text.len(),
            DataRef::SharedString(text) => text.len(),
            _ => 0,
        };
        let named: usize = self.names.iter().map(String::len).sum();
        if named.saturating_add(length) > NAMES_MAX {
            return Err(SheetError::Unreadable(Fault::Names));
        }
        self.names.push(text_of(value, Meaning::Other, (0, column))?);
        Ok(())
    }

    fn put_header(&mut self, meaning: &impl Fn(&str) -> Meaning) -> Result<(), SheetError> {
        if self.names.is_empty() {
            return Err(SheetError::Unreadable(Fault::Header(1)));
        }
        if self.names.len() == 1 {
            // A header line of one column has no delimiter to decide from, so that is a comma.
            self.dialect.delimiter = b',';
        }
        self.meanings = self.names.iter().map(|name| meaning(name)).collect();
        let room = self.names.iter().map(|name| name.len().saturating_mul(2).saturating_add(8)).sum();
        self.reserve(room)?;
        self.out.extend_from_slice(self.dialect.beginning());
        self.dialect.write_header(&mut self.out, self.names.iter().map(String::as_bytes));
        self.row = 1;
        Ok(())
    }

    fn begin_field(&mut self) {
        if self.fields > 0 {
            self.out.push(self.dialect.delimiter);
        }
        self.fields += 1;
    }

    fn end_row(&mut self) -> Result<(), SheetError> {
        self.reserve(self.meanings.len())?;
        while self.fields < self.meanings.len() {
            self.begin_field();
        }
        self.dialect.end_row(&mut self.out);
        self.row += 1;
        self.fields = 0;
        Ok(())
    }

    fn finish(mut self, meaning: &impl Fn(&str) -> Meaning) -> Result<Zeroizing<Vec<u8>>, SheetError> {
        if self.meanings.is_empty() {
            self.put_header(meaning)?;
        } else {
            self.end_row()?;
        }
        Ok(self.out)
    }

    /// Makes room for so many bytes and a row's delimiters. A vector that grows by itself leaves copies of the list behind.
    fn reserve(&mut self, bytes: usize) -> Result<(), SheetError> {
        let needed =
            self.out.len().saturating_add(bytes).saturating_add(self.meanings.len()).saturating_add(16);
        if needed <= self.out.capacity() {
            return Ok(());
        }
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let too_large = || SheetError::TooLarge { needed: needed as u64, limit: self.limit };
        if needed > limit {
            return Err(too_large());
        }
        let mut larger = Zeroizing::new(Vec::new());
        let room = needed.saturating_mul(2).clamp(1 << 16, limit.max(1 << 16));
        larger.try_reserve_exact(room).map_err(|_| too_large())?;
        larger.extend_from_slice(&self.out);
        self.out = larger;
        Ok(())
    }
}

/// A value as the list has it.
fn text_of(value: DataRef<'_>, meaning: Meaning, at: (u32, u32)) -> Result<String, SheetError> {
    let (row, column) = from_one(at);
    Ok(match value {
        DataRef::Empty => String::new(),
        DataRef::String(text) => text,
        DataRef::SharedString(text) => text.to_owned(),
        DataRef::Bool(is) if meaning == Meaning::YesNo => if is { "ja" } else { "nee" }.to_owned(),
        DataRef::Bool(is) => is.to_string(),
        DataRef::Int(number) => number_text(number as f64, meaning)
            .ok_or(SheetError::Unreadable(Fault::Rounded { row, column }))?,
        DataRef::Float(number) => {
            number_text(number, meaning).ok_or(SheetError::Unreadable(Fault::Rounded { row, column }))?
        }
        DataRef::DateTime(at) => {
            date_text(&at).ok_or(SheetError::Unreadable(Fault::NoDate { row, column }))?
        }
        DataRef::DateTimeIso(text) => {
            let midnight = ["T00:00:00", "T00:00:00Z", "T00:00:00.000", "T00:00:00.000Z"];
            midnight.iter().find_map(|end| text.strip_suffix(end)).unwrap_or(&text).to_owned()
        }
        DataRef::DurationIso(text) => text,
        DataRef::Error(_) => return Err(SheetError::Unreadable(Fault::ErrorValue { row, column })),
    })
}

/// None for a number that may have lost digits, or is none.
fn number_text(number: f64, meaning: Meaning) -> Option<String> {
    if !number.is_finite() || number.abs() >= ROUNDED {
        return None;
    }
    if number.fract() != 0.0 {
        return Some(number.to_string());
    }
    let is_positive = number >= 0.0;
    // Exact: it has 15 digits at most. Also of the zero that has a sign.
    let number = number as i64;
    Some(if meaning == Meaning::Insz && is_positive { format!("{number:011}") } else { number.to_string() })
}

/// A day, a moment, a time or a duration, as ISO 8601 writes them. None where the number is no such.
fn date_text(at: &ExcelDateTime) -> Option<String> {
    let serial = at.as_f64();
    if !(0.0..DATES_END).contains(&serial) {
        return None;
    }
    let (year, month, day, hour, minute, second, milli) = at.to_ymd_hms_milli();
    let fraction = if milli == 0 { String::new() } else { format!(".{milli:03}") };
    if at.is_duration() {
        let hours = serial.trunc() as u64 * 24 + u64::from(hour);
        return Some(format!("{hours:02}:{minute:02}:{second:02}{fraction}"));
    }
    if serial < 1.0 {
        return Some(format!("{hour:02}:{minute:02}:{second:02}{fraction}"));
    }
    // Only this calendar, and only the one that begins in 1900, has the day.
    if NO_DAY.contains(&serial) && (year, month, day) == (1900, 2, 29) {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    let is_midnight = (hour, minute, second, milli) == (0, 0, 0, 0);
    Some(if is_midnight { date } else { format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}") })
}

fn from_one((row, column): (u32, u32)) -> (u32, u32) {
    (row.saturating_add(1), column.saturating_add(1))
}

fn damaged(_: XlsxError) -> SheetError {
    // Its text may hold values of the list.
    SheetError::Unreadable(Fault::NotAWorkbook)
}

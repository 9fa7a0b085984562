//! Writes a result as a workbook, row by row into whatever takes bytes, so that no more than a row of it is in memory. Every cell is
//! text: a result never becomes a formula, and a national number keeps its zeros. By hand, because the libraries for it hold the
//! whole sheet in memory or in files.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::rc::Rc;

use zeroize::Zeroizing;
use zip::result::ZipError;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use super::{SheetError, Unfit};

/// Rows of a sheet below its header line.
pub(super) const ROWS_MAX: u32 = 1_048_575;
/// Columns of a sheet.
pub(super) const COLUMNS_MAX: usize = 16_384;
/// Characters of a cell, as UTF-16 counts them.
pub(super) const TEXT_MAX: usize = 32_767;

/// Bytes of rows that are compressed at a time.
const PIECE: usize = 16 << 10;

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;
const PARTS: [(&str, &str); 5] = [
    (
        "[Content_Types].xml",
        concat!(
            r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">"#,
            r#"<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>"#,
            r#"<Default Extension="xml" ContentType="application/xml"/>"#,
            r#"<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>"#,
            r#"<Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/>"#,
            r#"<Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>"#,
            "</Types>"
        ),
    ),
    (
        "_rels/.rels",
        concat!(
            r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">"#,
            r#"<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/>"#,
            "</Relationships>"
        ),
    ),
    (
        "xl/workbook.xml",
        concat!(
            r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">"#,
            r#"<sheets><sheet name="lijst" sheetId="1" r:id="rId1"/></sheets></workbook>"#
        ),
    ),
    (
        "xl/_rels/workbook.xml.rels",
        concat!(
            r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">"#,
            r#"<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/>"#,
            r#"<Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/>"#,
            "</Relationships>"
        ),
    ),
    // The second format is text, so that a number stays as it is also when somebody edits it.
    (
        "xl/styles.xml",
        concat!(
            r#"<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">"#,
            r#"<fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>"#,
            r#"<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>"#,
            r#"<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>"#,
            r#"<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>"#,
            r#"<cellXfs count="2"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>"#,
            r#"<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>"#,
            r#"<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>"#
        ),
    ),
];
const SHEET: &str = concat!(
    r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">"#,
    r#"<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>"#
);
const SHEET_END: &str = r#"</sheetData><ignoredErrors><ignoredError sqref="A1:XFD1048576" numberStoredAsText="1"/></ignoredErrors></worksheet>"#;

/// What a workbook has given and nobody has taken yet: for who cannot lend what takes the bytes to the workbook.
#[derive(Clone, Default)]
pub struct Outlet(Rc<RefCell<Zeroizing<Vec<u8>>>>);

impl Outlet {
    /// Hands on what has come since the last time.
    pub fn drain<E>(&self, take: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut bytes = self.0.borrow_mut();
        if !bytes.is_empty() {
            take(&bytes)?;
            bytes.clear();
        }
        Ok(())
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A workbook of one sheet that is being written.
pub struct Workbook<W: Write> {
    zip: ZipWriter<StreamWriter<W>>,
    /// Rows that are not compressed yet.
    rows: Zeroizing<Vec<u8>>,
    /// Rows written, the header line included.
    count: u32,
    columns: Vec<String>,
}

impl<W: Write> Workbook<W> {
    /// Begins a workbook with these columns.
    pub fn begin(out: W, columns: &[String]) -> Result<Self, SheetError> {
        if columns.len() > COLUMNS_MAX {
            return Err(SheetError::Unfit(Unfit::Columns));
        }
        let mut zip = ZipWriter::new_stream(out);
        // No time of its own: the same result is the same workbook.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        for (name, text) in PARTS {
            zip.start_file(name, options).map_err(failed)?;
            zip.write_all(HEAD.as_bytes())?;
            zip.write_all(text.as_bytes())?;
        }
        zip.start_file("xl/worksheets/sheet1.xml", options.compression_level(Some(4))).map_err(failed)?;
        zip.write_all(HEAD.as_bytes())?;
        zip.write_all(SHEET.as_bytes())?;
        let width = columns.len().max(1);
        let columns_as_text = format!(
            r#"<cols><col min="1" max="{width}" width="18" style="1" customWidth="1"/></cols><sheetData>"#
        );
        zip.write_all(columns_as_text.as_bytes())?;
        let names = (0..columns.len()).map(column_name).collect();
        let mut workbook =
            Self { zip, rows: Zeroizing::new(Vec::with_capacity(PIECE * 2)), count: 0, columns: names };
        workbook.write(columns.iter().map(String::as_str))?;
        Ok(workbook)
    }

    /// Writes one row, a field for each column.
    pub fn row<'f>(&mut self, fields: impl IntoIterator<Item = &'f str>) -> Result<(), SheetError> {
        if self.count > ROWS_MAX {
            return Err(SheetError::Unfit(Unfit::Rows));
        }
        self.write(fields)
    }

    fn write<'f>(&mut self, fields: impl IntoIterator<Item = &'f str>) -> Result<(), SheetError> {
        self.count = self.count.saturating_add(1);
        let row = self.count;
        let mut line = Zeroizing::new(String::new());
        // To a string nothing fails.
        let _ = write!(line, r#"<row r="{row}">"#);
        for (column, (field, name)) in fields.into_iter().zip(&self.columns).enumerate() {
            if field.is_empty() {
                continue;
            }
            // The bytes are never fewer.
            if field.len() > TEXT_MAX && field.encode_utf16().count() > TEXT_MAX {
                let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1);
                return Err(SheetError::Unfit(Unfit::Text { row, column }));
            }
            let _ = write!(line, r#"<c r="{name}{row}" s="1" t="inlineStr"><is><t xml:space="preserve">"#);
            escape(&mut line, field);
            line.push_str("</t></is></c>");
        }
        line.push_str("</row>");
        self.rows.extend_from_slice(line.as_bytes());
        if self.rows.len() >= PIECE { self.compress() } else { Ok(()) }
    }

    fn compress(&mut self) -> Result<(), SheetError> {
        self.zip.write_all(&self.rows).map_err(too_large)?;
        self.rows.clear();
        Ok(())
    }

    /// Ends it, and gives back what took the bytes. Without this, what was written is no workbook.
    pub fn finish(mut self) -> Result<W, SheetError> {
        self.compress()?;
        self.zip.write_all(SHEET_END.as_bytes()).map_err(too_large)?;
        Ok(self.zip.finish().map_err(failed)?.into_inner())
    }
}

/// `A`, `B`, … `Z`, `AA`, …
pub(super) fn column_name(at: usize) -> String {
    let (mut name, mut left) = (Vec::new(), at + 1);
    while left > 0 {
        left -= 1;
        name.push(b'A' + u8::try_from(left % 26).unwrap_or_default());
        left /= 26;
    }
    name.iter().rev().map(|letter| char::from(*letter)).collect()
}

/// As text of XML; what XML has no place for, as spreadsheets write it (ECMA-376, 22.4.2.4, ST_Xstring).
fn escape(out: &mut String, text: &str) {
    for (at, letter) in text.char_indices() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '_' if is_escape(text.get(at..).unwrap_or_default()) => out.push_str("_x005F_"),
            '\t' | '\n' => out.push(letter),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "_x{:04X}_", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
}

/// Whether a text begins as what spreadsheets would read as another letter.
fn is_escape(text: &str) -> bool {
    let code = text.strip_prefix("_x").and_then(|code| code.as_bytes().first_chunk::<5>());
    code.is_some_and(|[a, b, c, d, end]| {
        [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) && *end == b'_'
    })
}

/// The archive says so where a part passes what it can hold.
fn too_large(error: io::Error) -> SheetError {
    let is_of_archive = error.raw_os_error().is_none() && error.kind() == io::ErrorKind::Other;
    if is_of_archive { SheetError::Unfit(Unfit::Size) } else { SheetError::Io(error) }
}

fn failed(error: ZipError) -> SheetError {
    SheetError::Io(match error {
        ZipError::Io(error) => error,
        error => io::Error::other(error),
    })
}

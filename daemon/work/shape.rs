//! The stage behind a job that makes of one result what each delivery takes of it: reads the rows again as they come, cuts
//! their columns, and writes each to the shares it belongs to. What belongs to whom, `policy::shape` and `outgoing` say.
//!
//! Memory is bounded by the buffers: a text for each share that is open, and what its encryption holds back.

use std::borrow::Cow;
use std::io::Write;
use std::rc::Rc;

use age::Encryptor;

use super::deliver::JobError;
use super::encrypt::{Buffer, Quota, Sealed, Sealing, Stage};
use super::outgoing::{Part, Plan, Share, Target};
use super::sheet::{Outlet, Workbook};
use crate::policy::path::{Name, Slug};
use crate::policy::pseudonym::PseudonymKey;
use crate::policy::quality::LISTED;
use crate::policy::reason::Reason;
use crate::policy::receipt::Receiver;
use crate::policy::rules::{Checker, Finding, Format, TableRules};
use crate::policy::shape::{Room, Shape};
use crate::policy::table::{Dialect, Rows, Table};

/// Bytes that a share gathers before they are encrypted: there may be as many shares as an institution has people.
const PIECE: usize = 16 << 10;
/// What a row may hold beyond that before its buffer grows.
const SLACK: usize = 4 << 10;

/// One file that was made.
pub struct Made<W> {
    /// Whose it is.
    pub receiver: Receiver,
    /// Its name in `out`.
    pub name: Name,
    /// Its rows, without its header.
    pub rows: u64,
    /// The file.
    pub sealed: Sealed<W>,
}

/// What a result became.
pub struct Shaped<W> {
    /// The files.
    pub files: Vec<Made<W>>,
    /// Rows of the result that are nobody's.
    pub strays: Strays,
}

/// Rows that are nobody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strays {
    /// How many.
    pub count: u64,
    /// The first of them: the row, from 1 below the header line, and the column that should have said whose it is.
    pub listed: Vec<(u64, String)>,
}

/// What shaping needs to know.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// Who gets what.
    pub plan: &'a Plan<'a>,
    /// How the job writes its result: as the list was written.
    pub dialect: Dialect,
    /// What every row must be.
    pub rules: Option<&'a TableRules>,
    /// Whose pseudonyms, and what they are made with where there are any.
    pub pseudonyms: (&'a Slug, Option<&'a PseudonymKey>),
}

/// Shapes one result.
pub struct Shaping<'a, W: Write, O> {
    recipe: Recipe<'a>,
    open: O,
    quota: Rc<Quota>,
    begun: Option<Begun<'a, W>>,
}

/// Since the header line is known.
struct Begun<'a, W: Write> {
    columns: Vec<String>,
    checker: Option<Checker<'a>>,
    lots: Vec<Lot<'a, W>>,
    rows: u64,
    strays: Strays,
}

/// One delivery in the making.
struct Lot<'a, W: Write> {
    part: &'a Part<'a>,
    shape: Shape,
    dialect: Dialect,
    /// It gets the result's own bytes.
    is_raw: bool,
    texts: Vec<Text<'a, W>>,
}

/// What one share has been given so far.
struct Text<'a, W: Write> {
    share: &'a Share<'a>,
    rows: u64,
    pending: Buffer,
    /// Where it is to be one; made with the header line.
    book: Option<(Workbook<Outlet>, Outlet)>,
    /// Empty until it is opened.
    files: Vec<(&'a Target<'a>, Sealing<W>)>,
}

impl<'a, W, O> Shaping<'a, W, O>
where
    W: Write,
    O: Fn(&Target<'_>) -> Result<(Encryptor, W), JobError>,
{
    /// `open` makes the file of a target; all files together may have `most` bytes.
    pub fn new(recipe: Recipe<'a>, most: u64, open: O) -> Self {
        Self { recipe, open, quota: Quota::of(most), begun: None }
    }

    /// Reads the header line, and opens what is delivered also without a row.
    fn begin(&self, table: &Table<'_>) -> Result<Begun<'a, W>, JobError> {
        let checker = self.recipe.rules.map(|rules| Checker::new(rules, table.columns())).transpose();
        let checker = checker.map_err(|findings| breach(&findings, Reason::ColumnsNotAgreed))?;
        let mut lots = Vec::new();
        for part in &self.recipe.plan.parts {
            let shape = Shape::of(part.outgoing, table.columns(), self.recipe.pseudonyms)?;
            let texts = part.shares.iter().map(|share| Text {
                share,
                rows: 0,
                pending: Buffer::default(),
                book: None,
                files: Vec::new(),
            });
            let dialect = written_in(self.recipe.dialect, shape.header(table.columns()).len());
            lots.push(Lot { part, shape, dialect, is_raw: part.is_raw(), texts: texts.collect() });
        }
        let mut begun =
            Begun { columns: table.columns().to_vec(), checker, lots, rows: 0, strays: Strays::default() };
        for lot in &mut begun.lots {
            for text in lot.texts.iter_mut().filter(|text| !text.share.is_only_with_rows) {
                text.open(&self.open, &self.quota)?;
                // What is plain gets the result's own bytes, header and all.
                if !lot.is_raw {
                    text.write_header((lot.part.form, lot.dialect), lot.shape.header(&begun.columns))?;
                }
            }
        }
        Ok(begun)
    }

    fn take_rows(&self, begun: &mut Begun<'a, W>, mut rows: Rows<'_>) -> Result<(), JobError> {
        let (mut fields, mut found, mut room) = (Vec::new(), Vec::new(), Room::default());
        while rows.read(&mut fields).map_err(|_| JobError::Unwritable)? {
            begun.rows += 1;
            if let Some(checker) = &mut begun.checker {
                checker.row(&fields, &mut found);
                if !found.is_empty() {
                    return Err(breach(&found, Reason::JobFailed));
                }
            }
            for at in 0..begun.lots.len() {
                self.take_row(begun, at, (&fields, &mut room))?;
            }
        }
        Ok(())
    }

    fn take_row(
        &self,
        Begun { columns, lots, rows, strays, .. }: &mut Begun<'a, W>,
        at: usize,
        (fields, room): (&[Cow<'_, str>], &mut Room),
    ) -> Result<(), JobError> {
        let Some(Lot { part, shape, dialect, is_raw, texts }) = lots.get_mut(at) else { return Ok(()) };
        let whose = match shape.owner(fields) {
            Some(owner) => part.owners.of(owner),
            None => Some(0),
        };
        let Some(text) = whose.and_then(|whose| texts.get_mut(whose)) else {
            let by = part.outgoing.receivers.by().unwrap_or_default();
            strays.count += 1;
            if (strays.listed.len() as u64) < LISTED {
                strays.listed.push((*rows, by.to_owned()));
            }
            return Ok(());
        };
        text.rows += 1;
        if *is_raw || text.share.targets.is_empty() {
            return Ok(());
        }
        if text.files.is_empty() {
            text.open(&self.open, &self.quota)?;
            text.write_header((part.form, *dialect), shape.header(columns))?;
        }
        text.write_row(*dialect, shape.values(fields, room))
    }
}

impl<W, O> Stage for Shaping<'_, W, O>
where
    W: Write + Send,
    O: Fn(&Target<'_>) -> Result<(Encryptor, W), JobError>,
{
    type Made = Shaped<W>;
    type Error = JobError;

    fn take(&mut self, buffer: &Buffer) -> Result<(), JobError> {
        let mut begun = match self.begun.take() {
            None => {
                // The first buffer begins with the header line, whole as all rows are.
                let table = Table::parse_in(self.recipe.dialect, buffer).map_err(|_| JobError::Unwritable)?;
                let mut begun = self.begin(&table)?;
                self.take_rows(&mut begun, table.rows())?;
                begun
            }
            Some(mut begun) => {
                let text = std::str::from_utf8(buffer).map_err(|_| JobError::Unwritable)?;
                let rows = self.recipe.dialect.rows(text, begun.columns.len());
                self.take_rows(&mut begun, rows)?;
                begun
            }
        };
        for lot in begun.lots.iter_mut().filter(|lot| lot.is_raw) {
            lot.texts.iter_mut().try_for_each(|text| text.write(buffer))?;
        }
        self.begun = Some(begun);
        Ok(())
    }

    fn finish(self) -> Result<Shaped<W>, JobError> {
        // A job that made nothing did not even write a header line.
        let Begun { lots, strays, .. } = self.begun.ok_or(JobError::Unwritable)?;
        let mut files = Vec::new();
        for text in lots.into_iter().flat_map(|lot| lot.texts) {
            files.extend(text.finish()?);
        }
        Ok(Shaped { files, strays })
    }
}

/// Whoever reads a header line of one column takes it for comma separated, as we do.
fn written_in(dialect: Dialect, columns: usize) -> Dialect {
    if columns == 1 { Dialect { delimiter: b',', ..dialect } } else { dialect }
}

/// What leaves is within the rules or does not leave, whole.
fn breach(findings: &[Finding<'_>], reason: Reason) -> JobError {
    let first = findings.first().map_or_else(String::new, ToString::to_string);
    JobError::Breach { first, reason }
}

fn give<W: Write>(files: &mut [(&Target<'_>, Sealing<W>)], bytes: &[u8]) -> Result<(), JobError> {
    Ok(files.iter_mut().try_for_each(|(_, file)| file.write(bytes))?)
}

impl<'a, W: Write> Text<'a, W> {
    fn open(
        &mut self,
        open: &impl Fn(&Target<'_>) -> Result<(Encryptor, W), JobError>,
        quota: &Rc<Quota>,
    ) -> Result<(), JobError> {
        for target in &self.share.targets {
            let (encryptor, output) = open(target)?;
            self.files.push((target, Sealing::begin(encryptor, output, quota, PIECE)?));
        }
        Ok(())
    }

    fn write_header(&mut self, (form, dialect): (Format, Dialect), names: Vec<&str>) -> Result<(), JobError> {
        match form {
            Format::Csv => {}
            Format::Xlsx => {
                let (outlet, names) =
                    (Outlet::default(), names.into_iter().map(str::to_owned).collect::<Vec<_>>());
                self.book = Some((Workbook::begin(outlet.clone(), &names)?, outlet));
                return Ok(());
            }
        }
        self.pending = Buffer::new(Vec::with_capacity(PIECE + SLACK));
        self.pending.extend_from_slice(dialect.beginning());
        dialect.write_header(&mut self.pending, names.into_iter().map(str::as_bytes));
        Ok(())
    }

    fn write_row<'v>(
        &mut self,
        dialect: Dialect,
        values: impl Iterator<Item = &'v str>,
    ) -> Result<(), JobError> {
        if let Some((book, outlet)) = &mut self.book {
            book.row(values)?;
            return outlet.drain(|bytes| give(&mut self.files, bytes));
        }
        dialect.write_row(&mut self.pending, values.map(str::as_bytes));
        if self.pending.len() >= PIECE { self.push() } else { Ok(()) }
    }

    fn push(&mut self) -> Result<(), JobError> {
        give(&mut self.files, &self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// The result's own bytes, to those who get it as it is.
    fn write(&mut self, plaintext: &[u8]) -> Result<(), JobError> {
        give(&mut self.files, plaintext)
    }

    fn finish(mut self) -> Result<Vec<Made<W>>, JobError> {
        if let Some((book, _)) = self.book.take() {
            book.finish()?.drain(|bytes| give(&mut self.files, bytes))?;
        }
        self.push()?;
        let (mut made, rows) = (Vec::new(), self.rows);
        for (Target { receiver, name, .. }, file) in self.files {
            let (receiver, name) = (receiver.clone(), name.clone());
            made.push(Made { receiver, name, rows, sealed: file.finish()? });
        }
        Ok(made)
    }
}

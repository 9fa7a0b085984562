//! What is refused before a workbook is unpacked into memory: archives that are bombs, and parts that no list needs. Everything is
//! unpacked once here, a piece at a time, to hold it against what the archive says of itself and against what the reader of
//! workbooks would make of it.

use std::io::{Cursor, Read};

use memchr::memmem::{Finder, rfind};
use memchr::{memchr, memchr_iter};
use zip::ZipArchive;

use super::{Fault, SheetError};
use crate::work::stop::Stop;

/// Parts of a workbook. Each sheet, picture and chart is a few.
const PARTS_MAX: usize = 1_000;
/// How many times smaller a part may be packed, where it is not small.
const RATIO_MAX: u64 = 250;
const SMALL: u64 = 1 << 20;
/// What the reader of workbooks keeps of one element of a part that it keeps in memory, at most, in bytes: of styles much
/// more than of texts.
const STYLE: u64 = 512;
const ELEMENT: u64 = 64;
/// Bytes looked at together with the next piece, so that nothing hides where two pieces meet.
const OVERLAP: usize = 32;
const PIECE: usize = 256 << 10;

/// Refuses what would take more than `limit` bytes, or is no plain workbook.
pub(super) fn inspect(workbook: &[u8], limit: u64, stop: &Stop) -> Result<(), SheetError> {
    let said = parts_said(workbook).ok_or(SheetError::Unreadable(Fault::NotAWorkbook))?;
    if said > PARTS_MAX {
        return Err(SheetError::Unreadable(Fault::Parts));
    }
    let mut archive = ZipArchive::new(Cursor::new(workbook)).map_err(damaged)?;
    // Parts of one name are one in the archive's own count.
    if archive.len() != said {
        return Err(SheetError::Unreadable(Fault::Parts));
    }
    let mut needed = workbook.len() as u64;
    for at in 0..archive.len() {
        let part = archive.by_index_raw(at).map_err(damaged)?;
        let (size, packed) = (part.size(), part.compressed_size());
        needed = needed.saturating_add(size);
        if needed > limit {
            return Err(SheetError::TooLarge { needed, limit });
        }
        if size > SMALL && size > packed.saturating_mul(RATIO_MAX) {
            return Err(SheetError::Unreadable(Fault::Packed));
        }
        if plain_name(&part.name().map_err(damaged)?).starts_with("xl/externallinks/") {
            return Err(SheetError::Unreadable(Fault::ExternalLinks));
        }
    }
    for at in 0..archive.len() {
        stop.go_on()?;
        let mut part = archive.by_index(at).map_err(damaged)?;
        let (name, size) = (plain_name(&part.name().map_err(damaged)?), part.size());
        let found = look_through(&mut part, size, stop)?;
        // Which part is which, this one says. It names the workbook, which is never a sheet.
        let leads_astray = name == "_rels/.rels" && found.may_lead_astray;
        let counts_too_many = name.ends_with("sharedstrings.xml") && found.counts_too_many;
        if leads_astray || counts_too_many {
            return Err(SheetError::Unreadable(Fault::NotAWorkbook));
        }
        // Sheets are never in memory as a whole.
        let kept = match name.rsplit('/').next() {
            _ if name.starts_with("xl/worksheets/") => 0,
            Some("styles.xml") => STYLE,
            Some(_) | None => ELEMENT,
        };
        needed = needed.saturating_add(found.elements.saturating_mul(kept));
        if needed > limit {
            return Err(SheetError::TooLarge { needed, limit });
        }
    }
    Ok(())
}

/// How many parts the end of the archive speaks of. None where it is not there, or is that of an archive larger than any workbook.
fn parts_said(archive: &[u8]) -> Option<usize> {
    let at = rfind(archive, b"PK\x05\x06")?;
    let count = archive.get(at.checked_add(10)?..)?.first_chunk::<2>()?;
    let count = u16::from_le_bytes(*count);
    (count != u16::MAX).then_some(usize::from(count))
}

/// As readers of workbooks compare names.
fn plain_name(name: &str) -> String {
    name.trim_start_matches(['/', '\\']).replace('\\', "/").to_ascii_lowercase()
}

/// What was seen in a part.
#[derive(Default)]
pub(super) struct Seen {
    /// Not fewer than it has.
    elements: u64,
    /// It says that it holds more texts than it can, and room would be made for them.
    pub(super) counts_too_many: bool,
    /// It speaks of sheets, or writes letters in another way.
    may_lead_astray: bool,
}

pub(super) fn look_through(part: &mut impl Read, size: u64, stop: &Stop) -> Result<Seen, SheetError> {
    let (document_type, entity) = (Finder::new("<!DOCTYPE"), Finder::new("<!ENTITY"));
    let (count, sheets) = (Finder::new("uniqueCount"), Finder::new("worksheets"));
    let (mut seen, mut buffer, mut kept) = (Seen::default(), vec![0; PIECE], 0_usize);
    let (mut counted, mut total) = (0_u64, 0_u64);
    loop {
        stop.go_on()?;
        let room = buffer.get_mut(kept..).unwrap_or_default();
        let read = part.read(room).map_err(|_| SheetError::Unreadable(Fault::NotAWorkbook))?;
        total = total.saturating_add(read as u64);
        if total > size {
            return Err(SheetError::Unreadable(Fault::Packed));
        }
        let bytes = kept.saturating_add(read);
        let piece = buffer.get(..bytes).unwrap_or_default();
        if document_type.find(piece).is_some() || entity.find(piece).is_some() {
            return Err(SheetError::Unreadable(Fault::Entities));
        }
        let new = piece.get(kept..).unwrap_or_default();
        seen.elements += memchr_iter(b'<', new).count() as u64;
        seen.may_lead_astray |= sheets.find(piece).is_some() || memchr(b'&', new).is_some();
        for at in count.find_iter(piece) {
            // One that the next piece may go on with is looked at again there.
            if read == 0 || at + OVERLAP <= bytes {
                counted = counted.max(count_behind(piece.get(at..).unwrap_or_default()));
            }
        }
        if read == 0 {
            break;
        }
        kept = bytes.min(OVERLAP);
        buffer.copy_within(bytes - kept..bytes, 0);
    }
    seen.counts_too_many = counted > seen.elements;
    Ok(seen)
}

/// The number in `uniqueCount="12"`; one that is written in another way is too large for anything.
fn count_behind(text: &[u8]) -> u64 {
    let number = || {
        let value = text.strip_prefix(b"uniqueCount=")?;
        let (quote, value) = value.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
        let end = memchr(*quote, value.get(..value.len().min(OVERLAP))?)?;
        std::str::from_utf8(value.get(..end)?).ok()?.parse().ok()
    };
    number().unwrap_or(u64::MAX)
}

fn damaged(_: zip::result::ZipError) -> SheetError {
    // Its text may hold names that the sender chose.
    SheetError::Unreadable(Fault::NotAWorkbook)
}

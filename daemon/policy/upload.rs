//! When an upload is complete, under which name, and which of its bytes may go to disk. Clients write either to the final
//! name, and CLOSE completes it, or to a temporary name, and RENAME completes it; they write in order, or nearly so.
//! The [`Gate`] lets nothing through before the header has passed `envelope`'s inspection.

use std::collections::BTreeMap;

use super::agreement::Accept;
use super::envelope::{Envelope, Inspector};
use super::path::Name;
use super::reason::Reason;

const TEMPORARY_ENDINGS: [&str; 4] = [".filepart", ".part", ".partial", ".tmp"];
const TEMPORARY_BEGINNING: &str = ".in.";
/// rclone puts this many characters between the name and `.partial`.
const RCLONE_SALT: usize = 8;

/// Whether this is a name that clients give to an upload that is not complete yet (WinSCP, rclone, lftp and their like).
pub fn is_temporary(name: &Name) -> bool {
    let text = name.as_str();
    text.starts_with(TEMPORARY_BEGINNING) || TEMPORARY_ENDINGS.iter().any(|ending| text.ends_with(ending))
}

/// The final names that a temporary name may be meant for, the likeliest first.
pub fn meant_for(name: &Name) -> Vec<Name> {
    let text = name.as_str();
    let stripped = text.strip_prefix(TEMPORARY_BEGINNING).unwrap_or(text);
    let stripped =
        TEMPORARY_ENDINGS.iter().find_map(|ending| stripped.strip_suffix(ending)).unwrap_or(stripped);
    let unsalted =
        stripped.rsplit_once('.').filter(|(_, salt)| salt.len() == RCLONE_SALT).map(|(name, _)| name);
    [Some(stripped), unsalted].into_iter().flatten().filter_map(|text| Name::parse(text).ok()).collect()
}

/// What an upload may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the encrypted file.
    pub max_size: u64,
    /// Whether text armor is accepted.
    pub armored: bool,
    /// Bytes that may be held until the bytes before them have come.
    pub held: usize,
}

impl Bounds {
    /// What a flow accepts, with so many bytes held.
    pub fn of(accept: &Accept, held: usize) -> Self {
        Self { max_size: accept.max_size, armored: accept.armored, held }
    }
}

/// What becomes of the bytes of one write.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Pass {
    /// They are held in memory; nothing goes to disk.
    Nothing,
    /// They go to disk as they are.
    AsGiven,
    /// These go to disk: offset and bytes, what was held included.
    These(Vec<(u64, Vec<u8>)>),
}

/// Decides which bytes of an upload may go to disk. Text armor is inspected to its last line, because a line that is no
/// base64 would be plaintext on disk; of a binary file the header is, and must not change afterwards.
#[derive(Debug)]
pub struct Gate {
    bounds: Bounds,
    inspector: Inspector,
    /// The file's beginning until the header is complete; afterwards exactly the bytes that carry the header.
    head: Vec<u8>,
    /// Bytes from the start that the inspector has seen.
    inspected: u64,
    early: BTreeMap<u64, Vec<u8>>,
    early_bytes: usize,
}

impl Gate {
    /// For an upload that begins with its first byte.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            inspector: Inspector::default(),
            head: Vec::new(),
            inspected: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
        }
    }

    /// Whether the header is complete, so that bytes go to disk.
    pub fn is_open(&self) -> bool {
        self.inspector.header().is_some()
    }

    /// What this upload may be.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Once the header is complete: the bytes that carry it.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The header in its binary form, once it is complete.
    pub fn header(&self) -> Option<Vec<u8>> {
        self.inspector.header().map(|header| header.binary(&self.head))
    }

    fn is_armored(&self) -> bool {
        self.inspector.header().is_some_and(super::envelope::Header::is_armored)
    }

    /// Whether [`Gate::resume`] wants more of what is on disk.
    pub fn wants_more(&self) -> bool {
        !self.is_open() || self.is_armored()
    }

    /// Takes the bytes that are on disk already, in order from the start, when an upload goes on.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let was_open = self.is_open();
        self.inspect(bytes)?;
        if !was_open && self.is_open() {
            self.settle_head();
        }
        Ok(())
    }

    /// Takes one write.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<Pass, Reason> {
        if offset.saturating_add(bytes.len() as u64) > self.bounds.max_size {
            return Err(Reason::TooLarge { limit: self.bounds.max_size });
        }
        if self.is_open() && !self.is_armored() {
            return self.write_behind_header(offset, bytes);
        }
        if offset > self.inspected {
            return self.hold(offset, bytes);
        }
        if offset < self.inspected {
            return self.repeat(offset, bytes);
        }
        self.advance(bytes)
    }

    /// Judges the whole file, of which `size` bytes are there.
    pub fn seal(&self, size: u64) -> Result<Envelope, Reason> {
        let envelope = self.seal_what_passed(size)?;
        // Bytes that are still held were acknowledged, and the file would lack them.
        if self.early.is_empty() { Ok(envelope) } else { Err(Reason::WritesOutOfOrder) }
    }

    fn seal_what_passed(&self, size: u64) -> Result<Envelope, Reason> {
        let Some(header) = self.inspector.header() else {
            return Err(if self.inspected == 0 && self.early.is_empty() {
                Reason::Empty
            } else {
                Reason::CutShort
            });
        };
        if header.is_armored() {
            let envelope = self.inspector.seal()?;
            return if envelope.length() == size { Ok(envelope) } else { Err(Reason::CutShort) };
        }
        header.seal(size)
    }

    /// Whether the file may be cut to this length, as lftp does before CLOSE.
    pub fn may_truncate(&self, length: u64) -> bool {
        !self.is_armored() && self.is_open() && length >= self.head.len() as u64
    }

    /// Every byte before these is there: inspect them, and whatever held bytes follow on.
    fn advance(&mut self, bytes: &[u8]) -> Result<Pass, Reason> {
        let was_open = self.is_open();
        let start = if was_open { self.inspected } else { 0 };
        self.inspect(bytes)?;
        // Held bytes that were inspected after the header was complete, and those that need no inspection.
        let (mut follow, mut later) = (Vec::new(), Vec::new());
        while let Some((offset, held)) = self.next_held() {
            let (open, armored) = (self.is_open(), self.is_armored());
            if open && !armored {
                later.push((offset, held));
                continue;
            }
            self.inspect(&held)?;
            if open {
                follow.extend_from_slice(&held);
            }
        }
        if !self.is_open() {
            return Ok(Pass::Nothing);
        }
        if was_open && follow.is_empty() && later.is_empty() {
            return Ok(Pass::AsGiven);
        }
        let mut first = if was_open { bytes.to_vec() } else { self.settle_head() };
        first.append(&mut follow);
        // They came before the header was known, and may lie on it.
        if !later.iter().all(|(offset, held)| self.head_agrees(*offset, held)) {
            return Err(Reason::HeaderRewritten);
        }
        later.insert(0, (start, first));
        Ok(Pass::These(later))
    }

    /// Bytes that are held: of writes that came early, and of a header that is not complete.
    pub fn held(&self) -> usize {
        if self.is_open() { self.early_bytes } else { self.early_bytes + self.head.len() }
    }

    /// The upload is over.
    pub fn forget_held(&mut self) {
        self.early.clear();
        self.head = Vec::new();
        self.early_bytes = 0;
    }

    /// The header is complete: keeps the bytes that carry it, and returns all that were kept until now.
    fn settle_head(&mut self) -> Vec<u8> {
        let carried_by = self.inspector.header().map_or(0, super::envelope::Header::carried_by);
        let all = self.head.clone();
        self.head.truncate(usize::try_from(carried_by).unwrap_or(usize::MAX));
        self.head.shrink_to_fit();
        all
    }

    /// The next held write that may go on: before the header is complete, and for armor, the one that follows without a gap.
    fn next_held(&mut self) -> Option<(u64, Vec<u8>)> {
        let (&offset, _) = self.early.first_key_value()?;
        if (!self.is_open() || self.is_armored()) && offset != self.inspected {
            return None;
        }
        let held = self.early.remove(&offset)?;
        self.early_bytes -= held.len();
        Some((offset, held))
    }

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        if !self.is_open() {
            self.head.extend_from_slice(bytes);
        }
        let header = self.inspector.feed(bytes)?;
        if header.is_some_and(|header| header.is_armored() && !self.bounds.armored) {
            return Err(Reason::ArmorNotAccepted);
        }
        self.inspected = self.inspected.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn hold(&mut self, offset: u64, bytes: &[u8]) -> Result<Pass, Reason> {
        if self.early_bytes + bytes.len() > self.bounds.held || self.early.contains_key(&offset) {
            return Err(Reason::WritesOutOfOrder);
        }
        // Each held write costs a node beside its bytes; a flood of tiny ones must hit the bound as well.
        self.early_bytes += bytes.len();
        if self.early.len() > self.bounds.held / 4096 {
            return Err(Reason::WritesOutOfOrder);
        }
        self.early.insert(offset, bytes.to_vec());
        Ok(Pass::Nothing)
    }

    /// Bytes that were inspected before: harmless where they are the same, refused where that cannot be seen.
    fn repeat(&self, offset: u64, bytes: &[u8]) -> Result<Pass, Reason> {
        if self.head_agrees(offset, bytes)
            && offset.saturating_add(bytes.len() as u64) <= self.head.len() as u64
        {
            Ok(Pass::Nothing)
        } else {
            Err(Reason::HeaderRewritten)
        }
    }

    fn write_behind_header(&self, offset: u64, bytes: &[u8]) -> Result<Pass, Reason> {
        if self.head_agrees(offset, bytes) { Ok(Pass::AsGiven) } else { Err(Reason::HeaderRewritten) }
    }

    /// Whether the part of a write that falls on the inspected beginning leaves it as it is.
    fn head_agrees(&self, offset: u64, bytes: &[u8]) -> bool {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.head.get(at..) {
            Some(known) => known.iter().zip(bytes).all(|(a, b)| a == b),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { max_size: 1 << 20, armored: true, held: 1 << 18 };

    fn age_file(size: usize, armored: bool) -> Vec<u8> {
        use std::io::Write;
        let recipient = age::x25519::Identity::generate().to_public();
        if !armored {
            return age::encrypt(&recipient, &vec![7; size]).unwrap();
        }
        let mut writer =
            age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).unwrap();
        writer.write_all(&age::encrypt(&recipient, &vec![7; size]).unwrap()).unwrap();
        writer.finish().unwrap()
    }

    /// Feeds writes in a given order and returns what reached the disk.
    fn replay(gate: &mut Gate, file: &[u8], piece: usize, order: &[usize]) -> Result<Vec<u8>, Reason> {
        let mut disk = Vec::new();
        let mut put = |offset: u64, bytes: &[u8]| {
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            if disk.len() < end {
                disk.resize(end, 0);
            }
            disk[start..end].copy_from_slice(bytes);
        };
        for &index in order {
            let start = index * piece;
            let bytes = &file[start..file.len().min(start + piece)];
            match gate.write(start as u64, bytes)? {
                Pass::Nothing => {}
                Pass::AsGiven => put(start as u64, bytes),
                Pass::These(all) => all.iter().for_each(|(offset, bytes)| put(*offset, bytes)),
            }
        }
        Ok(disk)
    }

    #[test]
    fn the_temporary_names_of_real_clients_are_recognised() {
        for (name, meant) in [
            ("list.csv.age.filepart", Some("list.csv.age")),
            ("list.csv.age.1a2b3c4d.partial", Some("list.csv.age")),
            (".in.list.csv.age", Some("list.csv.age")),
            ("list.csv.age.part", Some("list.csv.age")),
            ("list.csv.age.tmp", Some("list.csv.age")),
            ("list.csv.age", None),
            ("partial.age", None),
            (".in", None),
        ] {
            let name = Name::parse(name).unwrap();
            assert_eq!(is_temporary(&name), meant.is_some(), "{name}");
            if let Some(meant) = meant {
                assert!(meant_for(&name).iter().any(|final_name| final_name.as_str() == meant), "{name}");
            }
        }
    }

    #[test]
    fn nothing_passes_before_the_header_is_complete() {
        let file = age_file(1000, false);
        let header = file.len() - 1000 - 16 - 16;
        let mut gate = Gate::new(BOUNDS);
        for (at, byte) in file.iter().enumerate().take(header - 1) {
            assert_eq!(gate.write(at as u64, &[*byte]), Ok(Pass::Nothing), "{at}");
        }
        let pass = gate.write(header as u64 - 1, &file[header - 1..header]).unwrap();
        assert_eq!(pass, Pass::These(vec![(0, file[..header].to_vec())]));
    }

    #[test]
    fn plaintext_never_passes_in_whatever_order_it_is_written() {
        let canary = b"85.07.30-033.28 canary";
        for offset in [0_u64, 1, 100, 70_000] {
            let mut gate = Gate::new(BOUNDS);
            let first = gate.write(offset, canary);
            let second = gate.write(0, canary);
            assert!(matches!(first, Ok(Pass::Nothing) | Err(Reason::NotEncrypted)), "{first:?}");
            assert!(second.is_err());
        }
    }

    #[test]
    fn a_write_held_early_cannot_rewrite_the_header_that_comes_after_it() {
        let file = age_file(1000, false);
        for (offset, first) in [(1_u64, 0..file.len()), (30, 0..file.len()), (30, 0..20)] {
            let mut gate = Gate::new(BOUNDS);
            assert_eq!(gate.write(offset, b"85.07.30-033.28 canary"), Ok(Pass::Nothing));
            let last = first.end;
            let mut pass = gate.write(0, &file[first]);
            if last < file.len() {
                pass = pass.and_then(|_| gate.write(last as u64, &file[last..]));
            }
            assert_eq!(pass.err(), Some(Reason::HeaderRewritten), "{offset}");
        }
        let mut gate = Gate::new(BOUNDS);
        assert_eq!(gate.write(30, &file[30..60]), Ok(Pass::Nothing), "the same bytes");
        assert!(matches!(gate.write(0, &file), Ok(Pass::These(_))));
    }

    #[test]
    fn a_line_of_armor_that_has_not_ended_carries_no_plaintext() {
        let file = age_file(1000, true);
        let end = file.len();
        let line = file[..end / 2].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
        for (at, text, accepted) in [
            (line, &b"85.07.30-033.28"[..], false),
            (line, b"-----END AGE", true),
            (line, b"-----END THE CANARY", false),
            (line, b"abcd=abcd", false),
            (line, b"abcd\rabcd", false),
            (line, b"abcd==\r", true),
            (end, b"canary", false),
            (end, b"\r", true),
        ] {
            let mut gate = Gate::new(BOUNDS);
            let _ = gate.write(0, &file[..at]).unwrap();
            assert_eq!(gate.write(at as u64, text).is_ok(), accepted, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn writes_that_never_found_their_place_complete_nothing() {
        let file = age_file(1000, true);
        let mut gate = Gate::new(BOUNDS);
        assert_eq!(gate.write(100, b"canary"), Ok(Pass::Nothing));
        let _ = gate.write(0, &file).unwrap();
        assert_eq!(gate.seal(file.len() as u64), Err(Reason::WritesOutOfOrder));
    }

    #[test]
    fn the_inspected_header_cannot_be_rewritten() {
        for armored in [false, true] {
            let file = age_file(1000, armored);
            let mut gate = Gate::new(BOUNDS);
            let disk = replay(&mut gate, &file, file.len(), &[0]).unwrap();
            assert_eq!(disk, file);
            assert_eq!(gate.write(0, b"insz\n85073003328\n"), Err(Reason::HeaderRewritten));
            assert_eq!(gate.write(30, b"plain"), Err(Reason::HeaderRewritten));
            assert!(gate.write(0, &file[..20]).is_ok(), "the same bytes again");
        }
    }

    #[test]
    fn plaintext_between_lines_of_armor_never_passes() {
        let file = age_file(5000, true);
        let text = String::from_utf8(file).unwrap();
        let at = text.len() / 2;
        let line = text[..at].rfind('\n').unwrap() + 1;
        let smuggled = format!("{}85.07.30-033.28 canary\n{}", &text[..line], &text[line..]);
        let mut gate = Gate::new(BOUNDS);
        let pieces: Vec<_> = (0..smuggled.len().div_ceil(100)).collect();
        assert_eq!(replay(&mut gate, smuggled.as_bytes(), 100, &pieces), Err(Reason::HeaderMalformed));
    }

    #[test]
    fn bounds_hold() {
        let mut gate = Gate::new(Bounds { max_size: 100, ..BOUNDS });
        assert_eq!(gate.write(90, &[0; 11]), Err(Reason::TooLarge { limit: 100 }));
        assert_eq!(gate.write(u64::MAX, &[0; 11]), Err(Reason::TooLarge { limit: 100 }));
        let mut gate = Gate::new(Bounds { held: 8192, ..BOUNDS });
        assert_eq!(gate.write(10_000, &[0; 9000]), Err(Reason::WritesOutOfOrder));
        let tiny = (0..10).map(|at| gate.write(10_000 + at, &[0])).find(Result::is_err);
        assert_eq!(tiny, Some(Err(Reason::WritesOutOfOrder)), "a flood of tiny writes");
        let mut gate = Gate::new(Bounds { armored: false, ..BOUNDS });
        let file = age_file(10, true);
        assert_eq!(gate.write(0, &file), Err(Reason::ArmorNotAccepted));
    }

    proptest! {
        #[test]
        fn writes_in_any_near_order_give_the_file(size in 0usize..30_000, piece in 50usize..5000, armored: bool, seed: u64) {
            let file = age_file(size, armored);
            let mut order: Vec<usize> = (0..file.len().div_ceil(piece)).collect();
            let mut state = seed;
            for at in (1..order.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(at, (state >> 33) as usize % (at + 1));
            }
            // What is held is bounded; this test asks about content.
            prop_assume!(order.len() < 60);
            let mut gate = Gate::new(BOUNDS);
            let disk = replay(&mut gate, &file, piece, &order);
            prop_assert_eq!(disk.as_deref(), Ok(file.as_slice()));
            prop_assert!(gate.seal(file.len() as u64).is_ok());
        }
    }
}

//! What counts as encrypted (age-encryption.org/v1, binary or armored), judged from the outside: the magic, a linear scan
//! of the header within hard limits, and at the end a length that age's chunks can have. Whether the zone's key opens the
//! file, and whether every chunk authenticates, only a decryption shows: that is `work`'s part.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::reason::Reason;

/// Largest header, in bytes of its binary form.
pub const HEADER_MAX: usize = 64 * 1024;
/// Most recipient stanzas.
pub const STANZAS_MAX: usize = 32;
/// Longest line of a header, in bytes without its line end.
pub const LINE_MAX: usize = 1024;

const VERSION_LINE: &[u8] = b"age-encryption.org/v1";
const ARMOR_BEGIN: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const ARMOR_END: &[u8] = b"-----END AGE ENCRYPTED FILE-----";
const ARMOR_COLUMNS: usize = 64;
const NONCE: u64 = 16;
const TAG: u64 = 16;
const CHUNK: u64 = 64 * 1024 + TAG;

/// The proof that a whole file was inspected and has the outer form of an age file. Only [`Header::seal`] makes it, and
/// nothing is published without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    armored: bool,
    length: u64,
}

impl Envelope {
    /// Whether the file is in text armor.
    pub fn is_armored(&self) -> bool {
        self.armored
    }

    /// Bytes of the file as sent.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// A complete header that passed the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the binary header, up to and including the MAC line's end.
    binary_length: u64,
    /// Bytes of the file that carry the header: the same for a binary file, whole lines for an armored one.
    carried_by: u64,
    /// Whether the file is in text armor.
    armored: bool,
}

impl Header {
    /// Whether the file is in text armor.
    pub fn is_armored(&self) -> bool {
        self.armored
    }

    /// Bytes at the file's start that carry the header and so must stay as they were inspected.
    pub fn carried_by(&self) -> u64 {
        self.carried_by
    }

    /// The header in its binary form, from the bytes at the file's start that carry it.
    pub fn binary(&self, start: &[u8]) -> Vec<u8> {
        let length = usize::try_from(self.binary_length).unwrap_or(usize::MAX);
        if !self.armored {
            return start.get(..length).unwrap_or(start).to_vec();
        }
        // The first line says only that it is armor.
        let lines = start.split(|&byte| byte == b'\n').skip(1);
        let decoded = |line: &[u8]| STANDARD.decode(line.strip_suffix(b"\r").unwrap_or(line)).ok();
        lines.map_while(decoded).flatten().take(length).collect()
    }

    /// Judges the length of a binary file of `length` bytes. Armored files go through [`Inspector::seal`].
    pub fn seal(&self, length: u64) -> Result<Envelope, Reason> {
        require_possible_payload(length.checked_sub(self.binary_length))?;
        Ok(Envelope { armored: false, length })
    }
}

/// The payload is a nonce, then chunks of 64 KiB with a tag each; only the last chunk may be shorter, and it may be
/// empty only where it is the first.
fn require_possible_payload(payload: Option<u64>) -> Result<(), Reason> {
    let chunks = payload.and_then(|bytes| bytes.checked_sub(NONCE)).ok_or(Reason::CutShort)?;
    let last = chunks % CHUNK;
    let possible = chunks == TAG || (chunks > TAG && (last == 0 || last > TAG));
    if possible { Ok(()) } else { Err(Reason::CutShort) }
}

/// Reads a file from its first byte on and says as early as possible what is wrong with it. Its memory is bounded by
/// [`HEADER_MAX`] plus one line, whatever it is fed.
#[derive(Debug, Default)]
pub struct Inspector {
    fed: u64,
    form: Form,
    scan: HeaderScan,
    header: Option<Header>,
}

/// Which of the two forms the file has.
#[derive(Debug, Default)]
enum Form {
    /// Too few bytes to tell; they are kept here, fewer than a line.
    #[default]
    Undecided,
    Binary,
    Armored(ArmorScan),
}

impl Inspector {
    /// Takes the next bytes of the file. The answer is the header once it is complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<&Header>, Reason> {
        self.fed = self.fed.saturating_add(bytes.len() as u64);
        if matches!(self.form, Form::Undecided) {
            let Some(start) = self.decide_form(bytes)? else { return Ok(None) };
            self.feed_form(&start)?;
        } else {
            self.feed_form(bytes)?;
        }
        if self.header.is_none() && self.scan.is_complete() {
            let (armored, carried_by) = match &self.form {
                Form::Armored(armor) => (true, armor.header_carried_by),
                Form::Binary | Form::Undecided => (false, self.scan.taken),
            };
            self.header = Some(Header { binary_length: self.scan.taken, carried_by, armored });
        }
        Ok(self.header.as_ref())
    }

    /// The header, once it is complete.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Judges the whole file, all of which has been fed.
    pub fn seal(&self) -> Result<Envelope, Reason> {
        if self.fed == 0 {
            return Err(Reason::Empty);
        }
        let header = self.header.as_ref().ok_or(Reason::CutShort)?;
        match &self.form {
            Form::Armored(armor) => {
                let decoded = armor.decoded_length().ok_or(Reason::CutShort)?;
                require_possible_payload(decoded.checked_sub(header.binary_length))?;
                Ok(Envelope { armored: true, length: self.fed })
            }
            Form::Binary | Form::Undecided => header.seal(self.fed),
        }
    }

    /// All bytes so far, once the form is clear. Until then they are kept in `scan.line`.
    fn decide_form(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        let mut start = std::mem::take(&mut self.scan.line);
        start.extend_from_slice(bytes);
        for (magic, form) in
            [(VERSION_LINE, Form::Binary), (ARMOR_BEGIN, Form::Armored(ArmorScan::default()))]
        {
            if start.starts_with(magic) {
                self.form = form;
                return Ok(Some(start));
            }
        }
        if VERSION_LINE.starts_with(&start) || ARMOR_BEGIN.starts_with(&start) {
            self.scan.line = start;
            return Ok(None);
        }
        Err(Reason::NotEncrypted)
    }

    fn feed_form(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        match &mut self.form {
            Form::Armored(armor) => armor.feed(bytes, &mut self.scan),
            Form::Binary | Form::Undecided => self.scan.feed(bytes),
        }
    }
}

/// Reads a binary header line by line; bytes behind it are not looked at.
#[derive(Debug, Default)]
struct HeaderScan {
    /// The line being read.
    line: Vec<u8>,
    /// Header bytes taken so far, line ends included.
    taken: u64,
    stanzas: usize,
    expecting: Expecting,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expecting {
    #[default]
    Version,
    /// A stanza's first line, or, after at least one, the MAC.
    StanzaOrMac,
    /// A stanza's body goes on until a line of fewer than 64 columns.
    Body,
    /// The header is complete.
    Payload,
}

impl HeaderScan {
    fn is_complete(&self) -> bool {
        self.expecting == Expecting::Payload
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        while !self.is_complete() && !bytes.is_empty() {
            let end = bytes.iter().position(|&b| b == b'\n');
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + piece.len() > LINE_MAX {
                return Err(Reason::HeaderTooLarge);
            }
            self.line.extend_from_slice(piece);
            self.taken += piece.len() as u64;
            if end.is_some() {
                self.taken += 1;
                let line = std::mem::take(&mut self.line);
                self.expecting = self.take_line(&line)?;
            }
            if self.taken > HEADER_MAX as u64 {
                return Err(Reason::HeaderTooLarge);
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Expecting, Reason> {
        match self.expecting {
            Expecting::Version if line == VERSION_LINE => Ok(Expecting::StanzaOrMac),
            Expecting::Version => Err(Reason::NotEncrypted),
            Expecting::StanzaOrMac => match (line.strip_prefix(b"-> "), line.strip_prefix(b"--- ")) {
                (Some(arguments), _) => self.take_stanza(arguments),
                (None, Some(mac)) if self.stanzas > 0 && is_base64_of(mac, 32) => Ok(Expecting::Payload),
                _ => Err(Reason::HeaderMalformed),
            },
            Expecting::Body if line.len() > ARMOR_COLUMNS || STANDARD_NO_PAD.decode(line).is_err() => {
                Err(Reason::HeaderMalformed)
            }
            Expecting::Body if line.len() == ARMOR_COLUMNS => Ok(Expecting::Body),
            Expecting::Body => Ok(Expecting::StanzaOrMac),
            Expecting::Payload => Ok(Expecting::Payload),
        }
    }

    fn take_stanza(&mut self, arguments: &[u8]) -> Result<Expecting, Reason> {
        let is_argument = |part: &[u8]| !part.is_empty() && part.iter().all(|b| (0x21..=0x7e).contains(b));
        let mut parts = arguments.split(|&b| b == b' ');
        if !arguments.split(|&b| b == b' ').all(is_argument) {
            return Err(Reason::HeaderMalformed);
        }
        if parts.next() == Some(b"scrypt") {
            return Err(Reason::PassphraseEncrypted);
        }
        self.stanzas += 1;
        if self.stanzas > STANZAS_MAX { Err(Reason::HeaderTooLarge) } else { Ok(Expecting::Body) }
    }
}

fn is_base64_of(text: &[u8], bytes: usize) -> bool {
    STANDARD_NO_PAD.decode(text).is_ok_and(|decoded| decoded.len() == bytes)
}

/// Letters of the alphabet, and padding at the end only.
fn is_base64_so_far(line: &[u8]) -> bool {
    let end = line.iter().position(|&byte| byte == b'=').unwrap_or(line.len());
    let (text, padding) = line.split_at(end);
    text.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
        && padding.len() <= 2
        && padding.iter().all(|&byte| byte == b'=')
}

/// Reads text armor line by line (RFC 7468 strict form): hands the decoded bytes to the header scan while that wants them,
/// and counts all of them.
#[derive(Debug, Default)]
struct ArmorScan {
    line: Vec<u8>,
    /// Bytes of the complete lines so far.
    taken: u64,
    /// `taken` when the header was complete.
    header_carried_by: u64,
    decoded: u64,
    at: ArmorPlace,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ArmorPlace {
    #[default]
    Begin,
    Body,
    /// A line of fewer than 64 columns was the last; only the end line may follow.
    LastLine,
    End,
}

impl ArmorScan {
    fn feed(&mut self, mut bytes: &[u8], scan: &mut HeaderScan) -> Result<(), Reason> {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|&b| b == b'\n');
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + piece.len() > ARMOR_COLUMNS + 1 {
                return Err(Reason::HeaderMalformed);
            }
            self.line.extend_from_slice(piece);
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                self.taken += line.len() as u64 + 1;
                let header_was_open = !scan.is_complete();
                self.at = self.take_line(line.strip_suffix(b"\r").unwrap_or(&line), scan)?;
                if header_was_open && scan.is_complete() {
                    self.header_carried_by = self.taken;
                }
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        // The beginning of a line passes before its end has come, so it is judged as far as it goes.
        if self.may_go_on() { Ok(()) } else { Err(Reason::HeaderMalformed) }
    }

    /// Whether the line that has not ended yet can still become one that is accepted.
    fn may_go_on(&self) -> bool {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let ends = ARMOR_END.starts_with(line);
        match self.at {
            ArmorPlace::Begin => ARMOR_BEGIN.starts_with(line),
            ArmorPlace::Body => ends || is_base64_so_far(line),
            ArmorPlace::LastLine => ends,
            ArmorPlace::End => line.is_empty(),
        }
    }

    fn take_line(&mut self, line: &[u8], scan: &mut HeaderScan) -> Result<ArmorPlace, Reason> {
        match self.at {
            ArmorPlace::Begin if line == ARMOR_BEGIN => Ok(ArmorPlace::Body),
            ArmorPlace::Body | ArmorPlace::LastLine if line == ARMOR_END => Ok(ArmorPlace::End),
            ArmorPlace::Body if (1..=ARMOR_COLUMNS).contains(&line.len()) => {
                let bytes = STANDARD.decode(line).map_err(|_| Reason::HeaderMalformed)?;
                self.decoded += bytes.len() as u64;
                scan.feed(&bytes)?;
                // 64 columns without padding are 48 bytes; whatever is shorter must be the last line.
                Ok(if bytes.len() == 48 { ArmorPlace::Body } else { ArmorPlace::LastLine })
            }
            ArmorPlace::End if line.is_empty() => Ok(ArmorPlace::End),
            ArmorPlace::Begin => Err(Reason::NotEncrypted),
            ArmorPlace::Body | ArmorPlace::LastLine | ArmorPlace::End => Err(Reason::HeaderMalformed),
        }
    }

    /// Bytes of the binary form, once the end line was seen; the end line's own line end may be missing.
    fn decoded_length(&self) -> Option<u64> {
        let ends = self.at == ArmorPlace::End && self.line.is_empty();
        let ends_unterminated =
            matches!(self.at, ArmorPlace::Body | ArmorPlace::LastLine) && self.line == ARMOR_END;
        (ends || ends_unterminated).then_some(self.decoded)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn age_file(plaintext: &[u8], recipients: usize, armored: bool) -> Vec<u8> {
        let identities: Vec<_> =
            (0..recipients).map(|_| age::x25519::Identity::generate().to_public()).collect();
        let encryptor =
            age::Encryptor::with_recipients(identities.iter().map(|r| r as &dyn age::Recipient)).unwrap();
        let mut out = Vec::new();
        if armored {
            let armor =
                age::armor::ArmoredWriter::wrap_output(&mut out, age::armor::Format::AsciiArmor).unwrap();
            let mut writer = encryptor.wrap_output(armor).unwrap();
            writer.write_all(plaintext).unwrap();
            writer.finish().and_then(|armor| armor.finish()).unwrap();
        } else {
            let mut writer = encryptor.wrap_output(&mut out).unwrap();
            writer.write_all(plaintext).unwrap();
            writer.finish().unwrap();
        }
        out
    }

    fn inspect(file: &[u8], piece: usize) -> Result<Envelope, Reason> {
        let mut inspector = Inspector::default();
        for part in file.chunks(piece) {
            inspector.feed(part)?;
        }
        inspector.seal()
    }

    fn with_header(lines: &str, payload: usize) -> Vec<u8> {
        let mut file = format!("age-encryption.org/v1\n{lines}").into_bytes();
        file.resize(file.len() + payload, 0xa5);
        file
    }

    const MAC: &str = "--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    const STANZA: &str = "-> X25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";

    #[test]
    fn what_age_writes_is_accepted_however_it_is_cut_into_writes() {
        for size in [0, 1, 100, 65_535, 65_536, 65_537, 200_000] {
            for armored in [false, true] {
                let file = age_file(&vec![b'x'; size], 3, armored);
                for piece in [1, 7, 64, 4096, file.len()] {
                    if piece == 1 && size > 1000 {
                        continue;
                    }
                    let envelope = inspect(&file, piece).unwrap();
                    assert_eq!(
                        (envelope.is_armored(), envelope.length()),
                        (armored, file.len() as u64),
                        "{size}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_binary_header_is_the_same_whichever_form_carries_it() {
        let binary = age_file(&[b'x'; 1000], 5, false);
        let mut armored = Vec::new();
        let mut armor =
            age::armor::ArmoredWriter::wrap_output(&mut armored, age::armor::Format::AsciiArmor).unwrap();
        armor.write_all(&binary).unwrap();
        armor.finish().unwrap();
        let with_returns = String::from_utf8(armored.clone()).unwrap().replace('\n', "\r\n").into_bytes();
        let header = &binary[..binary.len() - 1000 - 16 - 16];
        for file in [&binary, &armored, &with_returns] {
            let mut inspector = Inspector::default();
            let found = inspector.feed(file).unwrap().unwrap();
            assert_eq!(found.binary(file), header);
            assert_eq!(found.binary(&file[..found.carried_by() as usize]), header, "no more is needed");
        }
    }

    #[test]
    fn plaintext_is_known_from_its_first_bytes() {
        for text in [
            &b"insz\n85073003328\n"[..],
            b"PK\x03\x04",
            b"age",
            b"\n",
            b"-----BEGIN PGP MESSAGE-----\n",
            b"\0",
        ] {
            let mut inspector = Inspector::default();
            let refused = inspector.feed(text).err().or_else(|| inspector.feed(b"rest").err());
            assert_eq!(refused, Some(Reason::NotEncrypted), "{text:?}");
        }
        assert_eq!(inspect(b"age-encryption.org/v2\n", 5), Err(Reason::NotEncrypted));
    }

    #[test]
    fn each_fault_of_a_header_has_its_reason() {
        let many = STANZA.repeat(33);
        let long_line = format!("-> X25519 {}\n\n{MAC}", "A".repeat(1100));
        let endless_body = format!("-> grease\n{}", format!("{}\n", "A".repeat(64)).repeat(20_000));
        for (lines, reason) in [
            (format!("{STANZA}{MAC}"), None),
            (format!("-> scrypt AAAA 18\nAAAA\n{MAC}"), Some(Reason::PassphraseEncrypted)),
            (format!("{many}{MAC}"), Some(Reason::HeaderTooLarge)),
            (long_line, Some(Reason::HeaderTooLarge)),
            (endless_body, Some(Reason::HeaderTooLarge)),
            (MAC.to_owned(), Some(Reason::HeaderMalformed)),
            (format!("{STANZA}--- short\n"), Some(Reason::HeaderMalformed)),
            (format!("-> \n\n{MAC}"), Some(Reason::HeaderMalformed)),
            (format!("-> a  b\n\n{MAC}"), Some(Reason::HeaderMalformed)),
            (format!("-> a\n!!!\n{MAC}"), Some(Reason::HeaderMalformed)),
            (format!("garbage\n{MAC}"), Some(Reason::HeaderMalformed)),
        ] {
            let file = with_header(&lines, 16 + 17);
            assert_eq!(inspect(&file, 1000).err(), reason, "{}", &lines[..lines.len().min(60)]);
        }
    }

    #[test]
    fn a_length_that_age_cannot_have_is_a_file_cut_short() {
        let header = format!("{STANZA}{MAC}");
        for (payload, possible) in [
            (0, false),
            (16, false),
            (31, false),
            (32, true),
            (33, true),
            (16 + 65_552, true),
            (16 + 65_552 + 1, false),
            (16 + 65_552 + 16, false),
            (16 + 65_552 + 17, true),
            (16 + 2 * 65_552, true),
        ] {
            let verdict = inspect(&with_header(&header, payload), 10_000);
            assert_eq!(verdict.is_ok(), possible, "{payload}");
            assert!(possible || verdict == Err(Reason::CutShort));
        }
        assert_eq!(inspect(b"", 1), Err(Reason::Empty));
        assert_eq!(inspect(b"age-encryption.org/v1\n-> X25519", 100), Err(Reason::CutShort));
    }

    #[test]
    fn armor_must_be_strict_and_complete() {
        let file = age_file(&[7; 1000], 1, true);
        let text = String::from_utf8(file.clone()).unwrap();
        assert!(inspect(text.replace('\n', "\r\n").as_bytes(), 100).is_ok(), "CRLF");
        assert!(inspect(text.trim_end().as_bytes(), 100).is_ok(), "no line end after the end line");
        assert_eq!(inspect(&file[..file.len() - 40], 100), Err(Reason::CutShort));
        assert_eq!(
            inspect(format!("{text}trailing plaintext\n").as_bytes(), 100),
            Err(Reason::HeaderMalformed)
        );
        let smuggled = text.replacen("\n", "\n85.07.30-033.28\n", 1);
        assert_eq!(inspect(smuggled.as_bytes(), 100), Err(Reason::HeaderMalformed));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_get_one_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..50,
            armored: bool, keep_magic: bool) {
            let mut file = if keep_magic { if armored { ARMOR_BEGIN.to_vec() } else { VERSION_LINE.to_vec() } } else { vec![] };
            if keep_magic { file.push(b'\n'); }
            file.extend(bytes);
            prop_assert_eq!(inspect(&file, piece).is_ok(), inspect(&file, 1000).is_ok());
        }
    }
}

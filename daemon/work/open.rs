//! Opens an arrival: decrypts it to the end into memory, every chunk authenticated, and says precisely why it cannot be
//! opened. Nothing is acted upon before the last chunk has been seen. What the list holds is `policy::table`'s question.
//! Of a header alone it says whether the zone could open it, and no more.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, Identity};
use zeroize::Zeroizing;

use crate::policy::envelope::{HEADER_MAX, Header, Inspector};
use crate::policy::question::Answer;
use crate::policy::reason::Reason;

const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// Bytes between the header and the first chunk.
const NONCE: usize = 16;
const READ_BUFFER: usize = 256 << 10;

/// The private keys that arrivals are encrypted to.
pub struct Identities(Vec<age::x25519::Identity>);

/// An identity file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}, line {line}: this is no age identity; put lines beginning with AGE-SECRET-KEY-1 there, as age-keygen writes them", file.display())]
pub struct IdentityError {
    /// Where.
    pub file: PathBuf,
    /// Which line, from 1; 0 where the file holds no identity at all.
    pub line: usize,
}

impl Identities {
    /// Reads identity files as age-keygen writes them: one key a line, `#` begins a comment.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Result<Self, IdentityError> {
        let mut identities = Vec::new();
        for (file, text) in files {
            let before = identities.len();
            for (at, line) in text.lines().map(str::trim).enumerate() {
                if !line.is_empty() && !line.starts_with('#') {
                    let identity = line.parse();
                    let wrong = |_| IdentityError { file: file.to_owned(), line: at + 1 };
                    identities.push(identity.map_err(wrong)?);
                }
            }
            if identities.len() == before {
                return Err(IdentityError { file: file.to_owned(), line: 0 });
            }
        }
        Ok(Self(identities))
    }

    /// Encrypts a little of the zone's own, which any of them opens.
    pub fn seal(&self, text: &[u8]) -> io::Result<Vec<u8>> {
        let recipients: Vec<_> = self.0.iter().map(age::x25519::Identity::to_public).collect();
        let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed)?;
        writer.write_all(text)?;
        writer.finish()?;
        Ok(sealed)
    }
}

/// Says of a whole header in its binary form whether one of the identities opens it. The file key is dropped where it was
/// found.
pub fn opens(header: &[u8], identities: &Identities) -> Answer {
    // Who asks has looked already; what age's parser gets is bounded here all the same.
    let mut inspector = Inspector::default();
    let is_whole = |found: &Header| !found.is_armored() && found.carried_by() == header.len() as u64;
    if !matches!(inspector.feed(header), Ok(Some(found)) if is_whole(found)) {
        return Answer::Unreadable;
    }
    // Behind the header age reads the payload's nonce; any will do, for no payload is decrypted.
    let opened = Decryptor::new_buffered(header.chain([0; NONCE].as_slice())).and_then(|decryptor| {
        decryptor.decrypt(identities.0.iter().map(|identity| identity as &dyn Identity))
    });
    match opened {
        Ok(_) => Answer::Opens,
        Err(DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed) => Answer::NotForUs,
        Err(_) => Answer::Unreadable,
    }
}

/// Why an arrival stays closed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is at fault.
    #[error("the file cannot be opened: {}", .0.code())]
    Content(Reason),
    /// The disk is at fault.
    #[error("cannot read the payload: {0}")]
    Io(#[from] io::Error),
    /// The machine is at fault.
    #[error(
        "there is no memory for the {size} bytes of the list; give `work` more, or lower max-size of the flow"
    )]
    Memory {
        /// Asked for.
        size: u64,
    },
    /// The list is larger than what a job may hold.
    #[error(
        "the list has up to {size} bytes, and a job may hold {limit} (work.job-memory); raise the limit, lower max-size of \
         the flow, or have the list sent in parts"
    )]
    TooLarge {
        /// Of the list.
        size: u64,
        /// What it may have.
        limit: u64,
    },
}

/// How many bytes the list in a payload of `size` bytes can have at most; fails where these are more than `limit`.
pub fn fits(size: u64, armored: bool, limit: u64) -> Result<(), OpenError> {
    // Text armor writes four letters for three bytes.
    let plaintext = if armored { size / 4 * 3 } else { size };
    if plaintext > limit { Err(OpenError::TooLarge { size: plaintext, limit }) } else { Ok(()) }
}

/// Decrypts a payload of `size` bytes to its end. Memory is bounded by `size`; the plaintext is wiped when dropped.
pub fn open(
    payload: impl Read,
    size: u64,
    armored: bool,
    identities: &Identities,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let taken = Cell::new(0);
    let input = Counted { inner: BufReader::with_capacity(READ_BUFFER, payload.take(size)), taken: &taken };
    let opened = if armored {
        decrypt(BufReader::with_capacity(4096, ArmoredReader::new(input)), size, identities)
    } else {
        decrypt(input, size, identities)
    };
    // Only how far reading came tells a damaged middle from a damaged or missing end.
    opened.map_err(|error| explain(error, taken.get() >= size))
}

fn decrypt(
    mut input: impl BufRead,
    size: u64,
    identities: &Identities,
) -> Result<Zeroizing<Vec<u8>>, DecryptFailure> {
    let header = read_header(&mut input)?;
    let decryptor = Decryptor::new_buffered(Cursor::new(header).chain(input))?;
    if decryptor.is_scrypt() {
        return Err(DecryptFailure::Header(Reason::PassphraseEncrypted));
    }
    let mut reader = decryptor.decrypt(identities.0.iter().map(|identity| identity as &dyn Identity))?;
    // Never reallocated, for that would leave copies behind: the plaintext is shorter than the file.
    // Taken from the system page by page as it fills; asked for at once, so that a refusal is an error and no abort.
    let mut plaintext = Zeroizing::new(Vec::new());
    let room = usize::try_from(size).ok().map(|size| plaintext.try_reserve_exact(size));
    if !matches!(room, Some(Ok(()))) {
        return Err(DecryptFailure::Memory(size));
    }
    reader.read_to_end(&mut plaintext).map_err(DecryptError::Io)?;
    Ok(plaintext)
}

/// Up to and with the line that holds the header's MAC.
fn read_header(input: &mut impl BufRead) -> Result<Vec<u8>, DecryptFailure> {
    // The age library, which gets it next, parses it from the start at every line.
    let mut input = input.take(HEADER_MAX as u64);
    let mut header = Vec::new();
    loop {
        let start = header.len();
        input.read_until(b'\n', &mut header).map_err(DecryptError::Io)?;
        let line = header.get(start..).unwrap_or_default();
        if start == 0 && line != MAGIC {
            let begins = !line.is_empty() && MAGIC.starts_with(line);
            return Err(DecryptFailure::Header(if begins { Reason::CutShort } else { Reason::NotEncrypted }));
        }
        if !line.ends_with(b"\n") {
            let is_full = input.limit() == 0;
            return Err(DecryptFailure::Header(if is_full {
                Reason::HeaderTooLarge
            } else {
                Reason::CutShort
            }));
        }
        if line.starts_with(b"---") {
            return Ok(header);
        }
    }
}

enum DecryptFailure {
    Header(Reason),
    Memory(u64),
    Age(DecryptError),
}

impl From<DecryptError> for DecryptFailure {
    fn from(error: DecryptError) -> Self {
        Self::Age(error)
    }
}

fn explain(failure: DecryptFailure, read_to_the_end: bool) -> OpenError {
    OpenError::Content(match failure {
        DecryptFailure::Header(reason) => reason,
        DecryptFailure::Memory(size) => return OpenError::Memory { size },
        DecryptFailure::Age(error) => match error {
            // The library makes its own verdicts into I/O errors, which have no number of the operating system's.
            DecryptError::Io(error) if error.raw_os_error().is_some() => return OpenError::Io(error),
            DecryptError::Io(_) if read_to_the_end => Reason::CutShort,
            DecryptError::Io(_) | DecryptError::InvalidMac | DecryptError::DecryptionFailed => {
                Reason::Damaged
            }
            DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed => Reason::NotForUs,
            DecryptError::ExcessiveWork { .. } => Reason::PassphraseEncrypted,
            DecryptError::InvalidHeader | DecryptError::UnknownFormat => Reason::HeaderMalformed,
        },
    })
}

/// Counts what was taken, and not what was merely read ahead.
struct Counted<'a, R> {
    inner: R,
    taken: &'a Cell<u64>,
}

impl<R: BufRead> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken.set(self.taken.get() + count as u64);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.taken.set(self.taken.get() + count as u64);
        self.inner.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::{ExposeSecret, SecretString};
    use age::x25519;

    use super::*;

    const CHUNK: usize = (64 << 10) + 16;

    fn encrypted(identity: &x25519::Identity, plaintext: &[u8], armored: bool) -> Vec<u8> {
        let recipient = identity.to_public();
        let encryptor =
            age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
        let format = if armored { age::armor::Format::AsciiArmor } else { age::armor::Format::Binary };
        let mut out = Vec::new();
        let armor = age::armor::ArmoredWriter::wrap_output(&mut out, format).unwrap();
        let mut writer = encryptor.wrap_output(armor).unwrap();
        writer.write_all(plaintext).unwrap();
        writer.finish().and_then(|armor| armor.finish()).unwrap();
        out
    }

    fn ours() -> (x25519::Identity, Identities) {
        let identity = x25519::Identity::generate();
        let text = format!("# created today\n{}\n", identity.to_string().expose_secret());
        (identity, Identities::parse([(Path::new("zone.agekey"), text.as_str())]).unwrap())
    }

    fn outcome(file: &[u8], armored: bool, identities: &Identities) -> Result<Vec<u8>, Reason> {
        match open(file, file.len() as u64, armored, identities) {
            Ok(plaintext) => Ok(plaintext.to_vec()),
            Err(OpenError::Content(reason)) => Err(reason),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn whole_files_open_whatever_their_length_and_form() {
        let (identity, identities) = ours();
        for length in [0, 1, 65_535, 65_536, 65_537, 3 * 65_536, 200_000] {
            let plaintext: Vec<u8> = (0..length).map(|at: usize| at as u8).collect();
            for armored in [false, true] {
                let file = encrypted(&identity, &plaintext, armored);
                assert_eq!(outcome(&file, armored, &identities).as_ref(), Ok(&plaintext), "{length}");
            }
        }
    }

    #[test]
    fn each_damage_has_its_own_reason() {
        let (identity, identities) = ours();
        let (other, _) = ours();
        let file = encrypted(&identity, &vec![7; 3 * 65_536 + 100], false);
        let payload = file.len() - 3 * CHUNK - 116;
        let flipped = |at: usize| {
            let mut file = file.clone();
            file[at] ^= 1;
            file
        };
        // Another letter of the alphabet, so that the header keeps its form.
        let relettered = |at: usize| {
            let mut file = file.clone();
            file[at] = if file[at] == b'A' { b'B' } else { b'A' };
            file
        };
        let phrase = age::Encryptor::with_user_passphrase(SecretString::from("phrase".to_owned()));
        let mut by_phrase = Vec::new();
        phrase.wrap_output(&mut by_phrase).unwrap().finish().unwrap();
        let long_header = [MAGIC, &b"-> X25519 a\n".repeat(100_000)].concat();
        for (what, file, reason) in [
            ("first chunk", flipped(payload), Reason::Damaged),
            ("second chunk", flipped(payload + CHUNK), Reason::Damaged),
            ("last chunk", flipped(file.len() - 1), Reason::CutShort),
            ("cut in the last chunk", file[..file.len() - 1].to_vec(), Reason::CutShort),
            ("cut at a chunk", file[..payload + 2 * CHUNK].to_vec(), Reason::CutShort),
            ("cut in the header", file[..40].to_vec(), Reason::CutShort),
            ("cut in the magic", file[..10].to_vec(), Reason::CutShort),
            ("cut in the nonce", file[..payload - 1].to_vec(), Reason::CutShort),
            ("altered header", relettered(payload - 40), Reason::Damaged),
            ("other version", flipped(20), Reason::NotEncrypted),
            ("for another", encrypted(&other, b"x", false), Reason::NotForUs),
            ("passphrase", by_phrase, Reason::PassphraseEncrypted),
            ("plain", b"insz\n1\n".to_vec(), Reason::NotEncrypted),
            ("empty", Vec::new(), Reason::NotEncrypted),
            ("long header", long_header, Reason::HeaderTooLarge),
            ("bad header", [MAGIC, b"nonsense\n--- x\n"].concat(), Reason::HeaderMalformed),
        ] {
            assert_eq!(outcome(&file, false, &identities), Err(reason), "{what}");
        }
    }

    #[test]
    fn a_header_alone_says_whether_it_is_for_us_and_nothing_else_does() {
        let ((ours, identities), (other, _)) = (ours(), ours());
        let head = |file: &[u8], payload: usize| file[..file.len() - NONCE - 16 - payload].to_vec();
        let for_us = head(&encrypted(&ours, b"12345", false), 5);
        let for_both = {
            let recipients = [other.to_public(), ours.to_public()];
            let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
            let encryptor = age::Encryptor::with_recipients(recipients).unwrap();
            let mut out = Vec::new();
            encryptor.wrap_output(&mut out).unwrap().finish().unwrap();
            head(&out, 0)
        };
        let mut other_mac = for_us.clone();
        let at = for_us.len() - 20;
        other_mac[at] = if other_mac[at] == b'A' { b'B' } else { b'A' };
        // A stanza of ours in front, under a header that somebody else made.
        let foreign = head(&encrypted(&other, b"", false), 0);
        let stanza_end =
            for_us.windows(4).enumerate().filter(|(_, window)| window == b"\n-> ").nth(1).unwrap().0;
        let stolen = [&for_us[..=stanza_end], &foreign[MAGIC.len()..]].concat();
        let phrase = age::Encryptor::with_user_passphrase(SecretString::from("phrase".to_owned()));
        let mut by_phrase = Vec::new();
        phrase.wrap_output(&mut by_phrase).unwrap().finish().unwrap();
        for (what, header, answer) in [
            ("for us", for_us.clone(), Answer::Opens),
            ("for another and us", for_both, Answer::Opens),
            ("for another", foreign, Answer::NotForUs),
            ("another MAC", other_mac, Answer::Unreadable),
            ("a stolen stanza", stolen, Answer::Unreadable),
            ("a passphrase", head(&by_phrase, 0), Answer::Unreadable),
            ("one byte short", for_us[..for_us.len() - 1].to_vec(), Answer::Unreadable),
            ("one byte more", [&for_us[..], b"x"].concat(), Answer::Unreadable),
            ("armor", encrypted(&ours, b"", true), Answer::Unreadable),
            (
                "too many stanzas",
                [MAGIC, &b"-> X25519 a\n\n".repeat(40), b"--- x\n"].concat(),
                Answer::Unreadable,
            ),
            ("nothing", Vec::new(), Answer::Unreadable),
        ] {
            assert_eq!(opens(&header, &identities), answer, "{what}");
        }
    }

    #[test]
    fn armor_that_was_cut_or_altered_stays_closed() {
        let (identity, identities) = ours();
        let file = encrypted(&identity, &vec![7; 200_000], true);
        assert_eq!(outcome(&file[..file.len() / 2], true, &identities), Err(Reason::CutShort));
        let mut altered = file.clone();
        altered[file.len() / 2] = if altered[file.len() / 2] == b'A' { b'B' } else { b'A' };
        assert_eq!(outcome(&altered, true, &identities), Err(Reason::Damaged));
    }

    #[test]
    fn a_list_larger_than_memory_is_an_error_and_no_abort() {
        let (identity, identities) = ours();
        let file = encrypted(&identity, b"x", false);
        let error = open(&file[..], u64::MAX / 2, false, &identities).unwrap_err();
        assert!(matches!(error, OpenError::Memory { .. }), "{error}");
    }

    #[test]
    fn a_list_that_passes_what_a_job_may_hold_is_refused_before_it_is_opened() {
        assert!(fits(100, false, 100).is_ok() && fits(132, true, 100).is_ok());
        for (size, armored) in [(101, false), (136, true), (u64::MAX, true)] {
            let error = fits(size, armored, 100).unwrap_err();
            assert!(matches!(error, OpenError::TooLarge { limit: 100, .. }), "{error}");
        }
    }

    #[test]
    fn an_identity_file_without_an_identity_is_named() {
        let path = Path::new("keys/zone.agekey");
        let wrong = |text| Identities::parse([(path, text)]).map(|_| ()).unwrap_err();
        assert_eq!(wrong("# nothing\n").line, 0);
        assert_eq!(wrong("\nAGE-SECRET-KEY-1NONSENSE\n").line, 2);
        assert!(!wrong("AGE-SECRET-KEY-1NONSENSE").to_string().contains("NONSENSE"));
    }
}

//! What stands in place of a person's number: HMAC-SHA-256 with a key that an exchange has for itself, over the exchange, the
//! column and the value. The same person has the same pseudonym in every measurement of one exchange, and another in any
//! other exchange or column. Keeping the key and destroying it is `host::spool`'s business.
//!
//! The message is `dropzone pseudonym 1`, NUL, the exchange, NUL, the result's column, NUL, the value; the pseudonym is the
//! whole code in lower-case hex. Whoever holds the key can compute it with any tool.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::digest::hex;
use super::insz;
use super::path::Slug;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const DOMAIN: &str = "dropzone pseudonym 1";
/// The first line of a key's file says what it is.
const FORM: &str = "dropzone pseudonym key 1";
/// Hex digits by which a key is told from another one.
const NAME_DIGITS: usize = 16;
/// Digits of a national number.
const INSZ_DIGITS: usize = 11;

/// The key of an exchange; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PseudonymKey(Zeroizing<[u8; KEY_BYTES]>);

impl PseudonymKey {
    /// A new key from so many random bytes.
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    /// As it is kept: a line that says what it is, and the key in hex.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(FORM.len() + 2 * KEY_BYTES + 2));
        text.push_str(FORM);
        text.push('\n');
        push_hex(&mut text, &*self.0);
        text.push('\n');
        text
    }

    /// Reads what `to_text` wrote; `None` for anything else, also for a file that was wiped or cut short.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(FORM.as_bytes())?.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
        if digits.len() != 2 * KEY_BYTES {
            return None;
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = nibble(high)? << 4 | nibble(low)?;
        }
        Some(Self(bytes))
    }

    /// What tells this key from another one, and nothing about any value: receivers see by it that two measurements can be
    /// compared.
    pub fn name(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let mut name = hex(hmac::sign(&key, b"dropzone pseudonym key name 1").as_ref());
        name.truncate(NAME_DIGITS);
        name
    }
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PseudonymKey(…)")
    }
}

/// Makes the pseudonyms of one column.
#[derive(Clone)]
pub struct Pseudonyms {
    /// Has the key and the domain in it; the library wipes it when it is dropped.
    begun: hmac::Context,
}

impl Pseudonyms {
    /// Of a column of an exchange's results, by the name it has there.
    pub fn of(key: &PseudonymKey, exchange: &Slug, column: &str) -> Self {
        let mut begun = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &*key.0));
        for part in [DOMAIN, exchange.as_str(), column] {
            begun.update(part.as_bytes());
            begun.update(&[0]);
        }
        Self { begun }
    }

    /// Puts the pseudonym of a value in place of what `text` holds; an empty value has none and stays empty.
    pub fn write(&self, value: &str, text: &mut String) {
        text.clear();
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        let mut code = self.begun.clone();
        match insz_digits(value) {
            Some(digits) => code.update(&*digits),
            None => code.update(value.as_bytes()),
        }
        push_hex(text, code.sign().as_ref());
    }
}

/// The digits of what is written as a national number, whatever its column lets stand between them, so that all
/// spellings of one have one pseudonym. Whether its check digits fit does not matter: a wrong one stays the same wrong one.
fn insz_digits(value: &str) -> Option<Zeroizing<[u8; INSZ_DIGITS]>> {
    let mut digits = Zeroizing::new([0; INSZ_DIGITS]);
    let mut places = digits.iter_mut();
    for letter in value.chars() {
        match u8::try_from(letter) {
            Ok(digit @ b'0'..=b'9') => *places.next()? = digit,
            Ok(_) | Err(_) if insz::is_between(letter) => {}
            Ok(_) | Err(_) => return None,
        }
    }
    places.next().is_none().then_some(digits)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Millions of them are written, into a text with room for them.
fn push_hex(text: &mut String, bytes: &[u8]) {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(digits.map(|digit| char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PseudonymKey {
        PseudonymKey::new(Zeroizing::new([byte; KEY_BYTES]))
    }

    fn pseudonyms(key: &PseudonymKey, exchange: &str, column: &str) -> Pseudonyms {
        Pseudonyms::of(key, &Slug::parse(exchange).unwrap(), column)
    }

    fn of_value(pseudonyms: &Pseudonyms, value: &str) -> String {
        let mut text = "what was there".to_owned();
        pseudonyms.write(value, &mut text);
        text
    }

    #[test]
    fn a_pseudonym_is_what_any_other_tool_computes_from_the_key() {
        // Python: hmac.new(b"\1" * 32, b"dropzone pseudonym 1\0pillar-3\0insz\0" b"85073003328", "sha256").hexdigest()
        let expected = "541a1986f19e707183a1a282b2d7fdfb314057f437cef1ca0f57a21239ad295b";
        assert_eq!(of_value(&pseudonyms(&key(1), "pillar-3", "insz"), "85073003328"), expected);
    }

    #[test]
    fn every_spelling_of_a_number_has_one_pseudonym_and_no_two_numbers_share_one() {
        let pseudonyms = pseudonyms(&key(1), "pillar-3", "insz");
        let expected = of_value(&pseudonyms, "85073003328");
        for spelling in [
            "85.07.30-033.28",
            "850730 033 28",
            " 85073003328 ",
            "85/07/30-033-28",
            "85.07.30\u{2013}033.28",
            "850730\u{a0}033_28",
            "85:07:30\u{2212}033.28",
        ] {
            assert!(insz::Insz::parse(spelling.trim()).is_ok(), "a column for numbers takes {spelling}");
            assert_eq!(of_value(&pseudonyms, spelling), expected, "{spelling}");
        }
        for other in ["85073003329", "8507300332", "850730033280", "85073003328x", "x"] {
            assert_ne!(of_value(&pseudonyms, other), expected, "{other}");
        }
        assert_eq!((of_value(&pseudonyms, ""), of_value(&pseudonyms, "  ")), (String::new(), String::new()));
    }

    #[test]
    fn another_exchange_column_or_key_gives_another_pseudonym() {
        let (one, other) = (key(1), key(2));
        let all = [
            pseudonyms(&one, "pillar-3", "insz"),
            pseudonyms(&other, "pillar-3", "insz"),
            pseudonyms(&one, "pillar-4", "insz"),
            pseudonyms(&one, "pillar-3", "partner"),
            // No part of the message can be taken for another.
            pseudonyms(&one, "pillar-3", "ins"),
        ];
        let mut values: Vec<String> = all.iter().map(|p| of_value(p, "85073003328")).collect();
        values.push(of_value(&pseudonyms(&one, "pillar-3", "ins"), "z"));
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 6);
    }

    #[test]
    fn a_key_reads_back_whole_or_not_at_all_and_never_shows_itself() {
        let key = key(0xa7);
        let text = key.to_text();
        assert_eq!(PseudonymKey::parse(text.as_bytes()), Some(key.clone()));
        for wrong in ["", "x", &text[..text.len() - 1], &text.replace("a7", "A7"), &format!("{}0", *text)] {
            assert_eq!(PseudonymKey::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(PseudonymKey::parse(&vec![0; text.len()]), None, "a wiped file is no key");
        assert!(!format!("{key:?}").contains("a7"));
        assert_eq!(key.name().len(), NAME_DIGITS);
        assert!(!text.contains(&key.name()));
    }
}

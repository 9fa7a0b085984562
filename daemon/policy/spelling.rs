//! What a text says, however it is written: letters that only look otherwise become the plain ones, digits of any script become
//! 0 to 9, and what nobody sees goes. For comparing and searching only: what is delivered is never changed.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// The zeros of those scripts that people here may write in; nine digits follow each.
const ZEROS: [char; 20] = [
    '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}', '\u{f20}', '\u{1040}', '\u{1090}',
    '\u{17e0}', '\u{1810}',
];

/// Bytes of a text that is looked at so, more than any cell may hold that is in order: of a long row of accents, the library keeps
/// each in memory until the letter ends.
const LONGEST: usize = 1 << 20;

/// The text in its plain spelling. What is ASCII is plain; what is too long to be one stays as it is.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || text.len() > LONGEST {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfkc().filter(|letter| !is_unseen(*letter)).map(with_our_digits).collect())
}

/// Marks of direction, joiners, soft hyphens, selectors and tags: what copying from a document brings along.
fn is_unseen(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{20e3}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e01ef}')
}

fn with_our_digits(letter: char) -> char {
    let digit = |zero: &char| char::from_digit(u32::from(letter).checked_sub(u32::from(*zero))?, 10);
    if letter.is_ascii() { letter } else { ZEROS.iter().find_map(digit).unwrap_or(letter) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_or_cannot_be_seen_is_spelled_alike() {
        for (text, said) in [
            ("85073003328", "85073003328"),
            ("８５０７３０－０３３．２８", "850730-033.28"),
            ("٨٥٠٧٣٠٠٣٣٢٨", "85073003328"),
            ("۸۵۰۷۳۰۰۳۳۲۸", "85073003328"),
            ("८५०", "850"),
            ("𝟖𝟓⁰", "850"),
            ("850730\u{ad}0\u{200b}33\u{200f}28\u{feff}", "85073003328"),
            ("Zoe\u{308}", "Zo\u{eb}"),
            ("محمد", "محمد"),
        ] {
            assert_eq!(plain(text), said, "{text:?}");
        }
        assert!(matches!(plain("plain text"), Cow::Borrowed(_)), "most cost nothing");
        let accents = "\u{301}".repeat(LONGEST);
        assert!(matches!(plain(&accents), Cow::Borrowed(_)), "nobody has that much room");
    }
}

//! Whether what stands in one cell is what its column is for. Empty cells are `checker`'s question.

use jiff::civil::Date;

use super::finding::Fault;
use super::{Alphabet, Kind};
use crate::policy::insz::{self, Insz};

/// What a yes-no column may hold, in any case.
const YES: [&str; 4] = ["ja", "yes", "1", "true"];
const NO: [&str; 4] = ["nee", "no", "0", "false"];

/// What is wrong with a cell that is not empty.
pub(super) fn fault(kind: &Kind, text: &str) -> Option<Fault> {
    match kind {
        Kind::Insz => Insz::parse(text).err().map(|fault| match fault {
            insz::Fault::Form => Fault::InszForm,
            insz::Fault::LostZero => Fault::InszLostZero,
            insz::Fault::Check => Fault::InszCheck,
        }),
        Kind::Date => date(text).is_none().then_some(Fault::NotADate),
        Kind::Text { at_most, alphabet } => {
            // Bytes are never fewer than characters, and most cells are short.
            if text.len() > *at_most && text.chars().count() > *at_most {
                Some(Fault::TooLong { at_most: *at_most })
            } else if !text.chars().all(|c| is_of(*alphabet, c)) {
                Some(Fault::Characters)
            } else {
                may_be_formula(text).then_some(Fault::Formula)
            }
        }
        Kind::OneOf(values) => (!values.iter().any(|value| value == text)).then_some(Fault::NotAgreedValue),
        Kind::YesNo => yes_or_no(text).is_none().then_some(Fault::NotYesNo),
    }
}

/// Whether a cell of this kind says what a condition wants. Of yes and no the meaning counts, since a spreadsheet writes its own
/// words for them; of everything else the letters, in either case.
pub(super) fn says(kind: &Kind, text: &str, wanted: &str) -> bool {
    let means_it =
        || *kind == Kind::YesNo && yes_or_no(text).is_some() && yes_or_no(text) == yes_or_no(wanted);
    text == wanted || means_it() || text.to_lowercase() == wanted.to_lowercase()
}

fn yes_or_no(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_one_of(YES) { Some(true) } else { is_one_of(NO).then_some(false) }
}

/// `2026-03-01`, or as Excel shows it here: `1/03/2026`.
pub fn date(text: &str) -> Option<Date> {
    let parts = |separator| {
        let mut parts = text.split(separator);
        let three = (parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(three)
    };
    let (year, month, day) = match (parts('-'), parts('/')) {
        (Some((year, month, day)), _) if month.len() == 2 && day.len() == 2 => (year, month, day),
        (_, Some((day, month, year))) if month.len() <= 2 && day.len() <= 2 => (year, month, day),
        _ => return None,
    };
    let number = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<i16>().ok()).flatten()
    };
    let is_whole = year.len() == 4;
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok();
    date.filter(|_| is_whole)
}

fn is_of(alphabet: Alphabet, c: char) -> bool {
    match alphabet {
        Alphabet::Any => !c.is_control() || matches!(c, '\n' | '\r'),
        Alphabet::Line => !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}'),
        // An accent may be a character of its own.
        Alphabet::Letters => {
            c.is_alphabetic()
                || matches!(c, ' ' | '\u{a0}' | '\'' | '\u{2019}' | '-' | '\u{2010}' | '\u{2011}' | '.')
                || matches!(c, '\u{300}'..='\u{36f}')
        }
        Alphabet::Digits => {
            c.is_ascii_digit() || matches!(c, ' ' | '\u{a0}' | '+' | '.' | '/' | '(' | ')' | '-')
        }
    }
}

/// Whether a spreadsheet that opens the list as text could take what stands here for a formula, with either delimiter. A
/// telephone number, a list's dash and a plain `-` are none that could do anything.
fn may_be_formula(text: &str) -> bool {
    let signs = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    if !text.contains(signs) {
        return false;
    }
    text.split([',', ';', '\t', '\r', '\n']).map(str::trim_start).any(|piece| match piece.chars().next() {
        Some('=' | '\u{ff1d}') => true,
        Some(sign) => signs.contains(&sign) && calls_something(piece),
        None => false,
    })
}

/// A function, another sheet or another program.
fn calls_something(piece: &str) -> bool {
    let mut pairs = piece.chars().zip(piece.chars().skip(1));
    piece.contains('|')
        || pairs.any(|(one, next)| match (one, next) {
            (before, '(') => before.is_alphabetic(),
            ('!', behind) => behind.is_alphanumeric() || behind == '$',
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(at_most: usize, alphabet: Alphabet) -> Kind {
        Kind::Text { at_most, alphabet }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of kinds")]
    fn every_kind_of_column_takes_what_it_is_for_and_nothing_else() {
        let one_of = Kind::OneOf(vec!["101".into(), "Fonds B".into()]);
        for (kind, right, wrong, fault_of_wrong) in [
            (
                Kind::Insz,
                &["85073003328", "85.07.30-033.28"][..],
                &["850730033", "Noa", "8507300332 8"][..],
                Fault::InszForm,
            ),
            (Kind::Insz, &[], &["85073003329"], Fault::InszCheck),
            (
                Kind::Date,
                &["2026-03-01", "2024-02-29", "01/03/2026", "1/3/2026"],
                &[
                    "2026-02-29",
                    "03/31/2026",
                    "2026-3-1",
                    "1-3-2026",
                    "26-03-01",
                    "01/03/26",
                    "2026/03/01",
                    "01.03.2026",
                    "+1/03/2026",
                    "2026-03-01T10:00",
                    "0/1/2026",
                    "maart",
                    "2026--1-1",
                    " 2026-03-01",
                ],
                Fault::NotADate,
            ),
            (
                text(4, Alphabet::Line),
                &["abcd", "éééé", "a;\"b"],
                &["abcde", "ééééé"],
                Fault::TooLong { at_most: 4 },
            ),
            (text(9, Alphabet::Line), &[], &["a\nb", "a\tb", "a\u{2028}b"], Fault::Characters),
            (text(9, Alphabet::Any), &["a\r\nb"], &["a\u{1b}[1m", "a\tb"], Fault::Characters),
            (
                text(40, Alphabet::Letters),
                &["Zoë-Marie D’Hondt", "J. O'Brien", "e\u{301}", "محمد", "Łukasz"],
                &["Noa1", "a@b", "a\nb", "a_b"],
                Fault::Characters,
            ),
            (
                text(80, Alphabet::Line),
                &[
                    "a = b",
                    "- geen opleiding",
                    "-",
                    "+32 (0)473/12.34-56",
                    "@thuis",
                    "noa@stad.example",
                    "-5 (+2)",
                    "+32 473 12 34 56 (gsm)",
                    "- Belangrijk!",
                    "x (=y)",
                ],
                &[
                    "=HYPERLINK(\"x\")",
                    " =1",
                    "\u{ff1d}1+1",
                    "+cmd|' /C calc'!A0",
                    "-2+3+cmd|' /C calc'!A0",
                    "@SUM(A1:A9)",
                    "-Blad2!A1",
                    "bakker;=1+1",
                    "bakker, +WEBSERVICE(A1)",
                ],
                Fault::Formula,
            ),
            (text(40, Alphabet::Digits), &["+32 (0)473/12.34-56", "12"], &["12a", "٨"], Fault::Characters),
            (one_of, &["101", "Fonds B"], &["102", "fonds b", "101 ", "1"], Fault::NotAgreedValue),
            (
                Kind::YesNo,
                &["ja", "NEE", "Yes", "0", "TRUE"],
                &["j", "ja ", "misschien", "2"],
                Fault::NotYesNo,
            ),
        ] {
            for cell in right {
                assert_eq!(fault(&kind, cell), None, "{kind:?} {cell:?}");
            }
            for cell in wrong {
                assert_eq!(fault(&kind, cell), Some(fault_of_wrong), "{kind:?} {cell:?}");
            }
        }
    }
}

//! The national number (INSZ): whether a text is one, and whether a longer text holds one. Which columns are to have one, and
//! which must not, is `rules`' question.
//!
//! A number is YYMMDD, a serial of three digits, and two check digits: 97 less the first nine digits modulo 97, with a 2 put
//! before the nine for people born from 2000 on. Numbers of people outside the national register (bis) add 20 or 40 to the
//! month; parts of a date of birth that are not known are zero. A right number is not one that was given out.

use std::fmt;

use zeroize::Zeroizing;

use super::spelling;

/// Digits of a number.
const DIGITS: usize = 11;
/// Between which digits somebody may put something: YY MM DD, serial, check.
const JOINTS: u16 = 1 << 2 | 1 << 4 | 1 << 6 | 1 << 9;
/// Where a program that takes it for an amount puts something.
const THOUSANDS: u16 = 1 << 2 | 1 << 5 | 1 << 8;
/// What telephone numbers begin with behind a plus sign.
const BELGIUM: &str = "32";
/// Characters that may stand at one joint.
const GAP: usize = 3;
/// Groups of digits that a number can be written in.
const GROUPS: usize = 5;
/// Characters of an amount with an exponent, `8.5073003328E+10`, at most.
const EXPONENT_MAX: usize = 24;

/// A national number with the right check digits. Neither `Debug` nor an error ever shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Insz([u8; DIGITS]);

/// Why a text is no national number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not eleven digits, or something else between them than dots, dashes, slashes and spaces at the joints.
    Form,
    /// Ten digits that would be right with a zero before them: a program took it for an amount.
    LostZero,
    /// The check digits or the date do not fit.
    Check,
}

impl Insz {
    /// Reads a whole text: `85073003328`, `85.07.30-033.28`, `850730 033 28`. Nothing before it, nothing behind it.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut window = Window::default();
        let mut rest = text;
        while let Some((before, digits, behind)) = next_group(rest) {
            window.push(before, digits);
            rest = behind;
        }
        let is_bare =
            text.starts_with(|c: char| c.is_ascii_digit()) && rest.is_empty() && digits_of(text) == DIGITS;
        match window.last_number().filter(|_| is_bare) {
            Some((number, Cut::AtJoints)) => Self::of(number).ok_or(Fault::Check),
            _ if lost_a_zero(text) => Err(Fault::LostZero),
            _ => Err(Fault::Form),
        }
    }

    /// The eleven digits alone, whatever they were written with.
    pub fn digits(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn of(number: [u8; DIGITS]) -> Option<Self> {
        let value = |from: usize, to: usize| {
            let part = number.iter().take(to).skip(from);
            part.fold(0_u64, |value, digit| value * 10 + u64::from(digit.wrapping_sub(b'0')))
        };
        let (nine, check) = (value(0, 9), value(9, 11));
        let fits = |nine: u64| 97 - nine % 97 == check;
        let (month, day, serial) = (value(2, 4), value(4, 6), value(6, 9));
        let is_possible = month <= 52 && month % 20 <= 12 && day <= 31 && (1..=998).contains(&serial);
        (is_possible && (fits(nine) || fits(2_000_000_000 + nine))).then_some(Self(number))
    }
}

impl fmt::Debug for Insz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Insz(…)")
    }
}

/// What may stand between the digits of a number.
pub fn is_between(c: char) -> bool {
    matches!(c, '.' | '-' | '/' | '_' | ':' | '\u{2010}'..='\u{2015}' | '\u{2212}') || c.is_whitespace()
}

/// Whether a text holds a right national number anywhere: alone, in the middle of a sentence, between letters, with dots,
/// dashes, slashes or spaces at its joints, or as `85.073.003.328`; in digits of any script, and whatever unseen characters
/// came along with it.
///
/// Eleven digits of a longer row of digits do not count: every account or card number would hold one now and then. Nor do
/// eleven digits that are grouped in another way, or begin with `+32`, as telephone numbers are. Of those that stand alone or are
/// grouped in this way by accident about one in four hundred has a possible date and fitting check digits. Ten digits count
/// where they are all there is and the zero before them was lost, and so does `8.5073003328E10`. Who wants to hide a number
/// can; this finds those that were left in by mistake.
pub fn is_held_by(text: &str) -> bool {
    if is_held_as_written(text) || is_amount_with_exponent(text) {
        return true;
    }
    if text.is_ascii() {
        return false;
    }
    let plain = Zeroizing::new(spelling::plain(text).into_owned());
    plain.as_str() != text && is_held_as_written(&plain)
}

fn is_held_as_written(text: &str) -> bool {
    // Most cells end here.
    let digits = digits_of(text);
    if digits < DIGITS {
        return digits == DIGITS - 1 && lost_a_zero(text.trim());
    }
    let mut window = Window::default();
    let mut rest = text;
    while let Some((before, digits, behind)) = next_group(rest) {
        window.push(before, digits);
        if window.last_number().is_some_and(|(number, _)| Insz::of(number).is_some()) {
            return true;
        }
        rest = behind;
    }
    false
}

/// No early end: the compiler then looks at many bytes at a time.
fn digits_of(text: &str) -> usize {
    text.bytes().fold(0, |count, byte| count + usize::from(byte.is_ascii_digit()))
}

/// Amounts have no zeros before them.
fn lost_a_zero(text: &str) -> bool {
    let mut number = [b'0'; DIGITS];
    let Some((zero, ten)) = number.split_first_mut() else { return false };
    let is_amount = text.len() == ten.len() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_amount || text.as_bytes().first() == Some(zero) {
        return false;
    }
    ten.copy_from_slice(text.as_bytes());
    Insz::of(number).is_some()
}

/// As programs write large amounts, where that is all there is: every digit of the number is still there.
fn is_amount_with_exponent(text: &str) -> bool {
    let text = text.trim();
    let may_be_one = text.len() <= EXPONENT_MAX && text.starts_with(|c: char| c.is_ascii_digit());
    if !may_be_one || !text.contains(['e', 'E']) {
        return false;
    }
    text.replace(',', ".").parse::<f64>().is_ok_and(|amount| {
        let number = Zeroizing::new(format!("{amount:011.0}"));
        let digits = <[u8; DIGITS]>::try_from(number.as_bytes());
        amount.fract() == 0.0 && digits.is_ok_and(|digits| Insz::of(digits).is_some())
    })
}

/// What stands before the next digits, they, and what is left.
fn next_group(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_at_checked(text.bytes().position(|byte| byte.is_ascii_digit())?)?;
    let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at_checked(end)?;
    Some((before, digits, rest))
}

/// How a group of digits hangs together with the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Link {
    /// Not at all.
    #[default]
    None,
    /// As parts of a number do.
    Joint,
    /// As parts of a number or as thousands do.
    JointOrThousands,
    /// As thousands do.
    Thousands,
    /// Not at all, and a plus sign stands before it.
    Plus,
}

impl Link {
    fn of(gap: &str) -> Self {
        if gap.ends_with('+') {
            return Self::Plus;
        }
        // Most gaps are words.
        if gap.is_empty() || gap.len() > GAP * char::MAX.len_utf8() || gap.chars().count() > GAP {
            return Self::None;
        }
        match (gap.chars().all(is_between), gap) {
            // Not the plain space: telephone numbers are written so.
            (true, "." | "\u{a0}" | "\u{202f}" | "\u{2009}") => Self::JointOrThousands,
            (true, _) => Self::Joint,
            (false, "," | "'" | "\u{2019}") => Self::Thousands,
            (false, _) => Self::None,
        }
    }

    fn is_joint(self) -> bool {
        matches!(self, Self::Joint | Self::JointOrThousands)
    }

    fn is_thousands(self) -> bool {
        matches!(self, Self::Thousands | Self::JointOrThousands)
    }
}

/// How eleven digits are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    AtJoints,
    InThousands,
}

/// The last groups of digits of a text, the newest last.
#[derive(Default)]
struct Window<'t>([(Link, &'t str); GROUPS]);

impl<'t> Window<'t> {
    fn push(&mut self, before: &str, digits: &'t str) {
        self.0.rotate_left(1);
        if let Some(last) = self.0.last_mut() {
            *last = (Link::of(before), digits);
        }
    }

    /// The whole groups at the end that make up eleven digits, if they are joined as those of a number may be.
    fn last_number(&self) -> Option<([u8; DIGITS], Cut)> {
        let (mut left, mut cuts) = (DIGITS, 0_u16);
        let (mut are_joints, mut are_thousands) = (true, true);
        for (groups, (link, digits)) in (1..=GROUPS).zip(self.0.iter().rev()) {
            left = left.checked_sub(digits.len())?;
            if left == 0 {
                if *link == Link::Plus && digits.starts_with(BELGIUM) {
                    return None;
                }
                let cut = (are_joints && cuts & !JOINTS == 0).then_some(Cut::AtJoints);
                let amount = (are_thousands && cuts == THOUSANDS).then_some(Cut::InThousands);
                let cut = cut.or(amount)?;
                return Some((self.joined(groups), cut));
            }
            cuts |= 1 << left;
            are_joints &= link.is_joint();
            are_thousands &= link.is_thousands();
            if !are_joints && !are_thousands {
                return None;
            }
        }
        None
    }

    /// The digits of so many groups at the end, which are eleven.
    fn joined(&self, groups: usize) -> [u8; DIGITS] {
        let mut number = [0; DIGITS];
        let groups = self.0.iter().skip(GROUPS - groups).flat_map(|(_, digits)| digits.bytes());
        number.iter_mut().zip(groups).for_each(|(place, digit)| *place = digit);
        number
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A right number, made without the code that is tested.
    pub(crate) fn number(year: u16, month: u8, day: u8, serial: u16) -> String {
        let nine = format!("{:02}{month:02}{day:02}{serial:03}", year % 100);
        let counted: u64 =
            if year < 2000 { nine.parse().unwrap() } else { format!("2{nine}").parse().unwrap() };
        format!("{nine}{:02}", 97 - counted % 97)
    }

    fn written(number: &str, gaps: [&str; 4]) -> String {
        let [a, b, c, d] = gaps;
        let part = |from: usize, to: usize| &number[from..to];
        format!("{}{a}{}{b}{}{c}{}{d}{}", part(0, 2), part(2, 4), part(4, 6), part(6, 9), part(9, 11))
    }

    #[test]
    fn a_number_is_read_with_and_without_what_stands_at_its_joints() {
        for text in [
            "85073003328",
            "85.07.30-033.28",
            "850730-033.28",
            "850730 033 28",
            "85 07 30 033 28",
            "850730-03328",
            "85/07/30-033/28",
            "850730 - 033.28",
            "85.07.30\u{2013}033.28",
        ] {
            assert_eq!(Insz::parse(text).unwrap().digits(), "85073003328", "{text}");
            assert!(is_held_by(text), "{text}");
        }
        for (year, month, day) in
            [(1985, 27, 30), (1985, 47, 30), (2004, 2, 29), (2011, 0, 0), (1940, 20, 0), (2020, 52, 31)]
        {
            let number = number(year, month, day, 998);
            assert!(Insz::parse(&number).is_ok() && is_held_by(&number), "{number}");
        }
    }

    #[test]
    fn what_is_no_number_says_why() {
        for (text, fault) in [
            ("", Fault::Form),
            ("85073003328 ", Fault::Form),
            (" 85073003328", Fault::Form),
            ("850730033281", Fault::Form),
            ("8507300332", Fault::Form),
            ("8507.3003.328", Fault::Form),
            ("85.073.003.328", Fault::Form),
            ("85.07.30-033.28.", Fault::Form),
            ("85.07.30-033.2x", Fault::Form),
            ("85.07.30    033.28", Fault::Form),
            ("12 85.07.30-033.28", Fault::Form),
            ("1 85 07 30 033 28", Fault::Form),
            ("x85073003328", Fault::Form),
            ("٨٥٠٧٣٠٠٣٣٢٨", Fault::Form),
            ("85073003329", Fault::Check),
            ("85130103328", Fault::Check),
            ("00000000097", Fault::Check),
            ("99999999999", Fault::Check),
        ] {
            assert_eq!(Insz::parse(text), Err(fault), "{text}");
        }
        let young = number(2004, 5, 17, 33);
        assert_eq!(Insz::parse(&young[1..]), Err(Fault::LostZero));
        assert!(is_held_by(&young[1..]) && is_held_by(&format!(" {}\n", &young[1..])));
        assert!(!is_held_by(&format!("no {}", &young[1..])), "ten digits count alone");
        let old = Insz::parse("85073003328").unwrap();
        assert_eq!(format!("{old:?} {:?}", Some(old)), "Insz(…) Some(Insz(…))");
        // Month 13, day 32, serial 000 and 999, each with its own check digits.
        for wrong in [
            number(1985, 13, 1, 33),
            number(1985, 7, 32, 33),
            number(1985, 7, 30, 0),
            number(1985, 7, 30, 999),
        ] {
            assert_eq!(Insz::parse(&wrong), Err(Fault::Check), "{wrong}");
            assert!(!is_held_by(&wrong), "{wrong}");
        }
    }

    #[test]
    fn a_number_is_found_wherever_it_stands_in_a_text() {
        for text in [
            "cliënt 85073003328 belt terug",
            "zie 85.07.30-033.28.",
            "INSZ85073003328x",
            "huisnummer 12 85.07.30-033.28, bus 3",
            "85073003328.0",
            "1 2 3 850730 033 28 4 5",
            "85.073.003.328",
            "85,073,003,328",
            "a\n85073003328\nb",
            "(850730-033-28)",
            "2024-01-15 85073003328",
        ] {
            assert!(is_held_by(text), "{text}");
        }
    }

    #[test]
    fn a_number_is_found_in_any_script_and_with_what_nobody_sees_in_it() {
        for text in [
            "８５０７３００３３２８",
            "٨٥٠٧٣٠٠٣٣٢٨",
            "cliënt ۸۵.۰۷.۳۰-۰۳۳.۲۸",
            "8507\u{ad}3003328",
            "850\u{200b}73\u{200d}00\u{2060}3328",
            "\u{202b}850730\u{200f}\u{200f}\u{200f}\u{200f}03328\u{202c}",
            "85０73003328",
            "𝟖5073003328",
            "8\u{fe0f}\u{20e3}5073003328",
            "85．07．30－033．28",
            "8.5073003328E10",
            " 8,5073003328e+10 ",
            "85073003328e0",
            "850730033280E-1",
        ] {
            assert!(is_held_by(text), "{text:?}");
        }
        for text in
            ["8.5073E10", "8.5073003327E10", "1e400", "1e", "NaN", "8507300332\u{200b}8\u{200b}0", "été 2024"]
        {
            assert!(!is_held_by(text), "{text:?}");
        }
    }

    #[test]
    fn what_only_looks_like_a_number_is_let_through() {
        for text in [
            "850730033280",
            "185073003328",
            "BE68 5390 0754 7034",
            "8507 3003 328",
            "85 073 003 328",
            "85.073,003.3.28",
            "85 | 073003328",
            "85073003327",
            "2024-01-15T10:30:00",
            "0473 12 34 56",
            "geboren op 30/07/1985",
            "",
        ] {
            assert!(!is_held_by(text), "{text}");
        }
    }

    #[test]
    fn a_telephone_number_with_its_country_is_none_even_where_its_check_digits_fit() {
        let number = number(1932, 47, 31, 234);
        assert!(is_held_by(&number) && !is_held_by(&format!("tel. +{number}")));
        assert!(is_held_by("+85073003328"), "that is no country");
        assert!(is_held_by(&format!("+32473123457 {number}")));
    }

    fn any_number() -> impl Strategy<Value = String> {
        let month = prop_oneof![0_u8..=12, 20_u8..=32, 40_u8..=52];
        (1900_u16..2100, month, 0_u8..=31, 1_u16..=998).prop_map(|(y, m, d, s)| number(y, m, d, s))
    }

    proptest! {
        #[test]
        fn every_right_number_is_read_and_found_as_anybody_may_write_it(
            number in any_number(),
            gaps in proptest::array::uniform4(prop_oneof!["", "[-. /]", "[-. /]{1,3}"]),
            before in "([^0-9]{0,20}[^-+0-9 ./:_,'\\s])?",
            behind in "([^-0-9 ./:_,'\\s][^0-9]{0,20})?",
        ) {
            let gaps = [&*gaps[0], &*gaps[1], &*gaps[2], &*gaps[3]];
            let text = written(&number, gaps);
            let read = Insz::parse(&text).unwrap();
            prop_assert_eq!(read.digits(), number.as_str());
            let sentence = format!("{before}{text}{behind}");
            prop_assert!(is_held_by(&sentence));
        }

        #[test]
        fn a_wrong_digit_is_noticed_but_where_somebody_of_another_century_has_that_number(number in any_number(), at in 0_usize..11, by in 1_u8..10) {
            let mut wrong = number.clone().into_bytes();
            wrong[at] = b'0' + (wrong[at] - b'0' + by) % 10;
            let wrong = String::from_utf8(wrong).unwrap();
            let nine: u64 = wrong[..9].parse().unwrap();
            let check: u64 = wrong[9..].parse().unwrap();
            let fits = [nine, 2_000_000_000 + nine].iter().any(|nine| 97 - nine % 97 == check);
            prop_assert_eq!(is_held_by(&wrong), fits && Insz::parse(&wrong).is_ok());
        }

        #[test]
        fn no_text_makes_it_fall_over(text in "\\PC*[0-9 .,\u{a0}-]{0,40}\\PC*") {
            let whole = Insz::parse(&text);
            prop_assert!(whole.is_err() || is_held_by(&text));
        }
    }
}

//! What a program says on its standard error, for the program log: by the line, without what could make a terminal or a reader
//! of logs see something else, and no more than a little of it. It is the program's word, and trusted for nothing.

use std::io::{BufRead, BufReader, Read};

use zeroize::Zeroizing;

/// Bytes of a run that are told.
pub const MOST: u64 = 64 << 10;
/// Bytes of a line that are told at a time.
const LINE: u64 = 1 << 10;

/// Reads to the end, whatever comes, so that the program never waits for it; gives `tell` what is to be told.
pub fn listen(errors: impl Read, mut tell: impl FnMut(&str)) {
    let mut errors = BufReader::new(errors);
    let (mut line, mut told, mut untold) = (Zeroizing::new(Vec::new()), 0_u64, 0_u64);
    loop {
        line.clear();
        let read = (&mut errors).take(LINE).read_until(b'\n', &mut line);
        let Ok(count) = read else { break };
        if count == 0 {
            break;
        }
        if told >= MOST {
            untold = untold.saturating_add(count as u64);
            continue;
        }
        told = told.saturating_add(count as u64);
        let text = cleaned(&line);
        if !text.is_empty() {
            tell(&text);
        }
    }
    if untold > 0 {
        tell(&format!("(and {untold} bytes more, which are not told)"));
    }
}

/// One line of visible text.
pub fn cleaned(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let visible =
        |character: char| if is_deceptive(character) { char::REPLACEMENT_CHARACTER } else { character };
    text.trim_end().chars().map(visible).collect()
}

/// Control characters, and those that turn the direction of what follows.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        listen(errors, |line| all.push(line.to_owned()));
        all
    }

    #[test]
    fn lines_are_told_one_by_one_and_nothing_in_them_can_deceive_their_reader() {
        assert_eq!(told(b"one\ntwo\r\n\nthree"), ["one", "two", "three"]);
        assert_eq!(told(b"a\x1b[2Jb\0c\rd\n"), ["a\u{fffd}[2Jb\u{fffd}c\u{fffd}d"]);
        assert_eq!(told("x\u{202e}y\n".as_bytes()), ["x\u{fffd}y"]);
        assert_eq!(told(b"caf\xe9\n"), ["caf\u{fffd}"]);
    }

    #[test]
    fn a_flood_is_read_to_its_end_and_told_to_its_limit() {
        let lines = told(&b"0123456789abcde\n".repeat(100_000));
        let (last, first) = lines.split_last().unwrap();
        assert_eq!(first.len() as u64, MOST / 16);
        assert_eq!(last, &format!("(and {} bytes more, which are not told)", 1_600_000 - MOST));
        let one = told(&vec![b'x'; 200_000]);
        assert!(one.iter().all(|line| line.len() as u64 <= LINE) && one.len() as u64 == MOST / LINE + 1);
    }
}

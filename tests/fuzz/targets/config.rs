//! The three kinds of configuration file, separated by a line of `%%%`: they are understood, or every finding says where it is
//! and what to do.

#![no_main]

use std::path::Path;

use dropzone::config::check_texts;
use dropzone::policy::path::Slug;
use libfuzzer_sys::fuzz_target;

const SEPARATOR: &[u8] = b"\n%%%\n";

fuzz_target!(|input: &[u8]| {
    let (machine, rest) = split(input);
    let (institution, exchange) = split(rest);
    let slug = |text: &str| Slug::parse(text).expect("a slug");
    // Relative folders of the machine's file are then those of the root, which is there.
    let checked =
        check_texts(Path::new("/"), machine, (&slug("agency"), institution), (&slug("pillar-3"), exchange));
    match checked {
        Ok(loaded) => {
            assert!(!loaded.config.machine.listen.is_empty());
            assert!(loaded.config.institutions.len() <= 1 && loaded.config.exchanges.len() <= 1);
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.problem.is_empty() && !error.remedy.is_empty(), "{error:?}");
            }
        }
    }
});

fn split(text: &[u8]) -> (&[u8], &[u8]) {
    match text.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        // The line end belongs to the file before.
        Some(at) => (&text[..=at], &text[at + SEPARATOR.len()..]),
        None => (text, b""),
    }
}

//! What goes in and what comes out: which table a program is given, and which of what it prints is one.

use dropzone::policy::job::Failure;
use dropzone::policy::reason::Reason;
use dropzone::work::command::CommandError;

use crate::bench::Bench;

#[test]
fn a_program_always_gets_the_same_kind_of_table_and_its_result_is_written_as_the_list() {
    let mut bench = Bench::sh("od -An -c | tr -d ' \\n' | sed 's/,/ /g; s/^/seen\\n/'");
    bench.list = b"\xef\xbb\xbfinsz;note\r\n1;\"a;b\"\r\n2;c,d\r\n".to_vec();
    // The header of one column is quoted where whoever reads it would take another delimiter.
    let seen = "\u{feff}\"seen\"\r\n\"insz note\\n1 a;b\\n2 \"\"c d\"\"\\n\"\r\n";
    assert_eq!(bench.run().unwrap(), seen);
    let mut bench = Bench::of(&["/bin/cat"]);
    bench.list = "\u{feff}insz;note\r\n1;\"a;b\"\r\n2;c,d\r\n3;\"é\ne\"\r\n".into();
    assert_eq!(bench.run().unwrap().into_bytes(), bench.list);
}

#[test]
fn what_is_no_table_is_told_by_its_line_and_without_a_word_of_it() {
    for (script, line) in [
        ("printf 'a,b\\n1,2\\n3\\n'", 3),
        ("printf 'a,b\\n1,2,3\\n'", 2),
        ("printf 'a\\n\\377\\n'", 2),
        ("printf 'a\\n1\\n\\000\\n'", 3),
        ("printf 'a\\n\"1\" 85073003328\\n'", 2),
        ("printf 'a\\n\"1\\n2\\n3'", 2),
    ] {
        let error = Bench::sh(script).fails();
        assert!(
            matches!(error, CommandError::NotATable { line: told, .. } if told == line),
            "{script}: {error}"
        );
        assert!(!error.to_string().contains("85073003328"), "{error}");
        assert_eq!(error.failure(), Failure::Lasting(Reason::CommandFailed));
    }
    for script in [":", "echo", "printf ',\\n'", "echo a,A", "printf '\"a'"] {
        let error = Bench::sh(script).fails();
        assert!(matches!(error, CommandError::NoHeader), "{script}: {error}");
    }
}

#[test]
fn columns_that_are_not_agreed_fail_and_are_not_named() {
    for (header, agrees) in [
        ("insz,category", true),
        ("category,insz", false),
        ("insz", false),
        ("insz,category,85073003328", false),
    ] {
        let mut bench = Bench::sh(&format!("echo '{header}'"));
        bench.command.columns = Some(vec!["insz".into(), "category".into()]);
        match bench.run() {
            Ok(rows) => assert!(agrees && rows == "insz,category\n", "{header}: {rows}"),
            Err(error) => {
                assert!(!agrees && matches!(error, CommandError::Columns { .. }), "{header}: {error}");
                assert!(!error.to_string().contains("85073003328"));
                assert_eq!(error.failure(), Failure::Lasting(Reason::ColumnsNotAgreed));
            }
        }
    }
}

#[test]
fn the_last_row_needs_no_line_end_and_the_first_no_mark() {
    assert_eq!(Bench::sh("printf '\\357\\273\\277a\\r\\n1\\r\\n2'").run().unwrap(), "a\n1\n2\n");
    assert_eq!(Bench::sh("printf a").run().unwrap(), "a\n");
}

#[test]
fn how_it_ends_decides_and_not_what_it_printed_before() {
    for (script, failure) in [
        ("echo a; exit 75", Failure::Passing),
        ("printf 'a\\n\"'; exit 75", Failure::Passing),
        ("echo a; exit 1", Failure::Lasting(Reason::CommandFailed)),
        ("echo a; kill -SEGV $$", Failure::Lasting(Reason::CommandFailed)),
        ("echo a; kill -KILL $$", Failure::Lasting(Reason::CommandFailed)),
    ] {
        let error = Bench::sh(script).fails();
        assert_eq!(error.failure(), failure, "{script}: {error}");
    }
}

#[test]
fn what_it_cannot_be_confined_with_is_not_run() {
    let error = Bench::of(&["/usr/lib/dropzone/absent"]).fails();
    assert!(matches!(&error, CommandError::NotConfined(why) if why.contains("absent")), "{error}");
    assert_eq!(error.failure(), Failure::Lasting(Reason::CommandFailed));
}

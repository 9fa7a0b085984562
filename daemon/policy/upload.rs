//! When an upload is complete, and under which name. Clients write either to the final name, and CLOSE completes it, or
//! to a temporary name, and RENAME completes it. Whether the content is acceptable is `envelope`'s question.

use super::path::Name;

const TEMPORARY_ENDINGS: [&str; 4] = [".filepart", ".part", ".partial", ".tmp"];
const TEMPORARY_BEGINNING: &str = ".in.";

/// Whether this is a name that clients give to an upload that is not complete yet (WinSCP, rclone, lftp and their like).
pub fn is_temporary(name: &Name) -> bool {
    let text = name.as_str();
    text.starts_with(TEMPORARY_BEGINNING) || TEMPORARY_ENDINGS.iter().any(|ending| text.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temporary_names_of_real_clients_are_recognised() {
        for (name, temporary) in [
            ("list.csv.age.filepart", true),
            ("list.csv.age.1a2b3c4d.partial", true),
            (".in.list.csv.age", true),
            ("list.csv.age.part", true),
            ("list.csv.age.tmp", true),
            ("list.csv.age", false),
            ("partial.age", false),
            (".in", false),
        ] {
            assert_eq!(is_temporary(&Name::parse(name).unwrap()), temporary, "{name}");
        }
    }
}

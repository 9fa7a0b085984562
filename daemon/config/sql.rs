//! Whether a text looks like one query. A cheap look for an operator's slip; that nothing is written is the database's
//! promise, which is opened read-only.

/// Fails with what is wrong unless this is one statement that begins with SELECT or WITH.
pub fn is_one_query(sql: &str) -> Result<(), &'static str> {
    let bare = bare(sql);
    let bare = bare.trim();
    let first = bare.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    if !(first.eq_ignore_ascii_case("select") || first.eq_ignore_ascii_case("with")) {
        return Err("does not begin with SELECT or WITH");
    }
    if bare.trim_end_matches([';', ' ', '\n', '\r', '\t']).contains(';') {
        return Err("holds more than one statement");
    }
    Ok(())
}

/// The text with quoted parts and comments blanked out. What is not closed reaches to the end.
fn bare(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (end, kept) = match first {
            '\'' | '"' | '`' => (after(rest, 1, first.encode_utf8(&mut [0; 4])), 'x'),
            '[' => (after(rest, 1, "]"), 'x'),
            '-' if rest.starts_with("--") => (after(rest, 2, "\n"), ' '),
            '/' if rest.starts_with("/*") => (after(rest, 2, "*/"), ' '),
            other => (other.len_utf8(), other),
        };
        out.push(kept);
        rest = rest.get(end..).unwrap_or_default();
    }
    out
}

/// Where the text goes on after the first `mark` beyond `from`.
fn after(text: &str, from: usize, mark: &str) -> usize {
    let found = text.get(from..).and_then(|rest| rest.find(mark));
    found.map_or(text.len(), |at| from.saturating_add(at).saturating_add(mark.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_select_and_nothing_else() {
        for (sql, fits) in [
            ("SELECT 1", true),
            ("  select * from arrival;\n", true),
            ("-- who; what\nWITH x AS (SELECT 1) SELECT * FROM x", true),
            ("/* a;b */ SELECT ';' , \";\", [;], 'it''s; fine' FROM arrival", true),
            ("SELECT 1; DROP TABLE arrival", false),
            ("SELECT 1;; SELECT 2", false),
            ("DELETE FROM arrival", false),
            ("SELECTED", false),
            ("/* SELECT 1", false),
            ("", false),
        ] {
            assert_eq!(is_one_query(sql).is_ok(), fits, "{sql}");
        }
    }
}

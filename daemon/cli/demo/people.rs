//! Made-up people: national numbers with right check digits that belong to nobody, and a register that knows most of them.

use std::path::Path;

use anyhow::Context;

const CATEGORIES: [&str; 4] = ["jobseeker", "in training", "starter", "inactive"];
const ACTIONS: [&str; 5] =
    ["orientation", "context", "competence strengthening", "applying", "internship; part-time"];

/// The `index`th made-up national number (INSZ): a birth date, a serial, and 97 minus the rest modulo 97, with a 2 put before
/// the nine digits for people born from 2000 on.
pub fn insz(index: u64) -> String {
    let year = 1950 + index % 60;
    let (month, day, serial) = (1 + index / 60 % 12, 1 + index / 720 % 28, 1 + index / 20_160 % 997);
    let nine = (year % 100) * 10_000_000 + month * 100_000 + day * 1000 + serial;
    let counted = if year >= 2000 { 2_000_000_000 + nine } else { nine };
    format!("{nine:09}{:02}", 97 - counted % 97)
}

/// The list that an institution sends: one column.
pub fn list(people: u64) -> String {
    (0..people).fold("insz\n".to_owned(), |text, index| text + &insz(index) + "\n")
}

/// Writes the register: of every ten people on the list it does not know one, and it knows many others.
pub fn write_register(path: &Path, people: u64) -> anyhow::Result<u64> {
    let mut database = rusqlite::Connection::open(path).context("the register cannot be made")?;
    database.execute_batch(
        "CREATE TABLE jobseekers (insz TEXT PRIMARY KEY, registered TEXT, category TEXT, action TEXT) WITHOUT ROWID",
    )?;
    let transaction = database.transaction()?;
    let mut known = 0;
    {
        let mut insert = transaction.prepare("INSERT INTO jobseekers VALUES (?1, ?2, ?3, ?4)")?;
        for index in (0..people * 10).filter(|index| index % 10 != 7) {
            let pick = |from: &[&'static str]| {
                from.iter().cycle().nth(usize::try_from(index % 97).unwrap_or(0)).copied()
            };
            let registered = format!("20{:02}-{:02}-{:02}", 15 + index % 11, 1 + index % 12, 1 + index % 28);
            insert.execute((insz(index), registered, pick(&CATEGORIES), pick(&ACTIONS)))?;
            known += 1;
        }
    }
    transaction.commit()?;
    Ok(known)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_differ_and_have_right_check_digits() {
        let all: HashSet<_> = (0..30_000).map(insz).collect();
        assert_eq!(all.len(), 30_000);
        for number in all {
            let (nine, check): (u64, u64) = (number[..9].parse().unwrap(), number[9..].parse().unwrap());
            assert!(check == 97 - nine % 97 || check == 97 - (2_000_000_000 + nine) % 97, "{number}");
        }
    }
}

//! Which users and groups own what is in a backup, by name: numbers differ from machine to machine.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::host::directory::Directory;

/// The machine's lists of users and of groups.
const USERS: (&str, &str) = ("/etc", "passwd");
const GROUPS: (&str, &str) = ("/etc", "group");
/// More than such a list has, in bytes.
const LIST_MAX: u64 = 16 << 20;

/// The names of users, by their numbers, as far as this machine lists them in a file.
pub fn users() -> BTreeMap<u32, String> {
    listed(USERS)
}

/// The same for groups.
pub fn groups() -> BTreeMap<u32, String> {
    listed(GROUPS)
}

/// What the numbers of another machine are on this one; those whose names it does not know are left out.
pub fn translated(there: &BTreeMap<u32, String>, here: &BTreeMap<u32, String>) -> BTreeMap<u32, u32> {
    let numbers: BTreeMap<&String, u32> = here.iter().map(|(number, name)| (name, *number)).collect();
    there.iter().filter_map(|(number, name)| Some((*number, *numbers.get(name)?))).collect()
}

fn listed((folder, name): (&str, &str)) -> BTreeMap<u32, String> {
    let mut text = String::new();
    let read = Directory::open(Path::new(folder)).and_then(|folder| folder.file(name));
    let read = read.map(|file| file.take(LIST_MAX).read_to_string(&mut text));
    // A machine without such a list keeps the numbers.
    if read.is_ok() { parsed(&text) } else { BTreeMap::new() }
}

fn parsed(text: &str) -> BTreeMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((number.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_keep_their_names_and_not_their_numbers() {
        let there = parsed(
            "root:x:0:0:root:/root:/bin/sh\ndropzone-serve:x:995:990::/:/bin/false\nsomeone:x:7:7::/:\n",
        );
        let here =
            parsed("root:x:0:0:root:/root:/bin/sh\ndropzone-serve:x:812:810::/:/bin/false\n\nnonsense\n");
        assert_eq!(translated(&there, &here), BTreeMap::from([(0, 0), (995, 812)]));
    }
}

//! Chains as the log writes them, each damaged in one way: the place that is named must be the place that was touched.

use proptest::prelude::*;

use super::super::digest::hex;
use super::*;

/// A chain of `count` records; `mark` makes another chain of the same length.
fn chain(count: u64, mark: &str) -> Vec<String> {
    let mut prev = START;
    let record = |seq: u64| {
        let line = format!(
            r#"{{"time":"2026-11-21T12:00:00Z","node":"n","process":"serve","seq":{seq},"prev":"{}","event":"login","outcome":"ok","detail":"{mark}{seq}"}}"#,
            hex(&prev)
        );
        prev = Sha256::digest(&line).into();
        line
    };
    (1..=count).map(record).collect()
}

fn seal(lines: &[String], seq: usize, head: u64) -> Seal {
    Seal { seq: seq as u64, hash: Sha256::digest(&lines[seq - 1]).into(), head }
}

fn walk(lines: &[String], seals: &[Seal]) -> Result<Place, Break> {
    let mut walker = Walker::new(Place::START, seals.iter().copied());
    for line in lines {
        walker.feed(line.as_bytes());
    }
    walker.finish()
}

type Damaging = fn(&mut Vec<String>);

/// What is done to twenty records, of which heads sealed the tenth and the twentieth; and what is found, at which line and record.
const DAMAGES: &[(&str, Damaging, Damage, u64, u64)] = &[
    ("a byte in the middle", |l| l[4] = l[4].replace("detail\":\"", "detail\":\"x"), Damage::Altered, 5, 5),
    ("a byte in the first", |l| l[0] = l[0].replace("ok", "OK"), Damage::Altered, 1, 1),
    ("a byte in the last but one", |l| l[18] = l[18].replace("ok", "OK"), Damage::Altered, 19, 19),
    ("a byte in the last, which is sealed", |l| l[19] = l[19].replace("ok", "OK"), Damage::Rewritten, 11, 11),
    ("a byte in a sealed one", |l| l[9] = l[9].replace("ok", "OK"), Damage::Altered, 10, 10),
    ("a byte behind a sealed one", |l| l[10] = l[10].replace("ok", "OK"), Damage::Altered, 11, 11),
    ("a number", |l| l[4] = l[4].replace("\"seq\":5", "\"seq\":6"), Damage::Altered, 5, 5),
    ("a link's digit", |l| l[4] = flip_link(&l[4]), Damage::Altered, 5, 5),
    ("not JSON any more", |l| l[4] = l[4].replace("}", ""), Damage::Altered, 5, 5),
    ("an empty line instead", |l| l[4] = String::new(), Damage::Altered, 5, 5),
    ("one dropped", |l| drop(l.remove(4)), Damage::Dropped, 5, 5),
    ("three dropped", |l| drop(l.drain(4..7)), Damage::Dropped, 5, 5),
    ("a sealed one dropped", |l| drop(l.remove(9)), Damage::Dropped, 10, 10),
    ("the first dropped", |l| drop(l.remove(0)), Damage::Dropped, 1, 1),
    ("a copy inserted behind", |l| l.insert(5, l[4].clone()), Damage::Inserted, 6, 5),
    ("a copy inserted later", |l| l.insert(8, l[4].clone()), Damage::Inserted, 9, 5),
    ("a forged one inserted", |l| l.insert(5, forged(l, 5)), Damage::Inserted, 6, 6),
    ("three forged ones inserted", |l| insert_forged_run(l, 5, 3), Damage::Inserted, 6, 6),
    ("two swapped", |l| l.swap(4, 5), Damage::Reordered, 5, 5),
    ("two swapped far apart", |l| l.swap(4, 8), Damage::Reordered, 5, 5),
    (
        "one moved up",
        |l| {
            let line = l.remove(8);
            l.insert(4, line)
        },
        Damage::Reordered,
        5,
        5,
    ),
    (
        "one moved down",
        |l| {
            let line = l.remove(4);
            l.insert(8, line)
        },
        Damage::Reordered,
        5,
        5,
    ),
    ("the tail cut off", |l| l.truncate(17), Damage::CutOff, 18, 18),
    (
        "cut in a line",
        |l| {
            l.truncate(18);
            l[17].truncate(40)
        },
        Damage::CutOff,
        18,
        18,
    ),
    ("all cut off", Vec::clear, Damage::CutOff, 1, 1),
    ("all rewritten", |l| *l = chain(20, "other"), Damage::Rewritten, 1, 1),
    ("rewritten behind the first head", |l| rewrite_from(l, 13), Damage::Rewritten, 11, 11),
    (
        "cut off and continued",
        |l| {
            l.truncate(15);
            let more = forged_run(l, 15, 9);
            l.extend(more)
        },
        Damage::Rewritten,
        11,
        11,
    ),
];

#[test]
fn every_kind_of_damage_is_named_at_its_place() {
    let whole = chain(20, "");
    let seals = [seal(&whole, 10, 1), seal(&whole, 20, 2)];
    assert_eq!(walk(&whole, &seals).unwrap().seq, 20);
    for (what, damage, wanted, line, seq) in DAMAGES {
        let mut lines = whole.clone();
        damage(&mut lines);
        let found = walk(&lines, &seals).expect_err(what);
        assert_eq!((found.damage, found.line, found.seq), (*wanted, *line, *seq), "{what}: {found}");
    }
}

fn flip_link(line: &str) -> String {
    let at = line.find("prev\":\"").unwrap() + 7;
    let digit = if line[at..].starts_with('0') { "1" } else { "0" };
    format!("{}{digit}{}", &line[..at], &line[at + 1..])
}

/// A record that continues record `after` as well as the genuine one does.
fn forged(lines: &[String], after: usize) -> String {
    forged_run(lines, after, 1).remove(0)
}

fn forged_run(lines: &[String], after: usize, count: usize) -> Vec<String> {
    let (mut prev, mut run): (Hash, Vec<String>) = (Sha256::digest(&lines[after - 1]).into(), Vec::new());
    for seq in after + 1..=after + count {
        let line = format!(
            r#"{{"time":"t","seq":{seq},"prev":"{}","event":"login","outcome":"ok","detail":"forged"}}"#,
            hex(&prev)
        );
        prev = Sha256::digest(&line).into();
        run.push(line);
    }
    run
}

fn insert_forged_run(lines: &mut Vec<String>, after: usize, count: usize) {
    let run = forged_run(lines, after, count);
    lines.splice(after..after, run);
}

fn rewrite_from(lines: &mut Vec<String>, from: usize) {
    let run = forged_run(lines, from - 1, lines.len() + 1 - from);
    lines.splice(from - 1.., run);
}

#[test]
fn what_no_head_has_sealed_yet_can_be_cut_off_unseen_and_not_altered_in_the_middle() {
    let mut lines = chain(20, "");
    let seals = [seal(&lines, 10, 1)];
    lines.truncate(15);
    assert_eq!(walk(&lines, &seals).unwrap().seq, 15);
    lines[12] = lines[12].replace("ok", "OK");
    assert_eq!(walk(&lines, &seals).unwrap_err().line, 13);
}

#[test]
fn a_line_that_a_crash_cut_short_is_passed_by_and_counted() {
    let mut lines = chain(6, "");
    lines.insert(3, lines[3][..50].to_owned());
    lines.insert(3, String::new());
    let mut walker = Walker::new(Place::START, []);
    let taken = lines.iter().filter(|line| walker.feed(line.as_bytes()).is_some()).count();
    assert_eq!((taken, walker.torn()), (6, 2));
    let place = walker.finish().unwrap();
    assert_eq!((place.line, place.seq), (8, 6));
    assert_eq!(place.bytes, lines.iter().map(|line| line.len() as u64 + 1).sum::<u64>());
}

#[test]
fn a_walk_goes_on_from_a_known_place() {
    let lines = chain(20, "");
    let place = walk(&lines[..10], &[]).unwrap();
    let go_on = |lines: &[String]| {
        let mut walker = Walker::new(place, []);
        lines.iter().for_each(|line| drop(walker.feed(line.as_bytes())));
        walker.finish()
    };
    assert_eq!(go_on(&lines[10..]), walk(&lines, &[]));
    assert_eq!(go_on(&chain(20, "other")[10..]).unwrap_err().line, 11);
    assert_eq!(go_on(&lines[11..]).unwrap_err().damage, Damage::Dropped);
}

#[test]
fn a_hash_reads_back() {
    let digest: Hash = Sha256::digest("x").into();
    assert_eq!(hash(&hex(&digest)), Some(digest));
    for text in ["", "00", &hex(&digest).to_uppercase(), &format!("{}g", &hex(&digest)[1..])] {
        assert_eq!(hash(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_single_change_of_sealed_lines_goes_unseen(at in 0_usize..4000, byte in 0_u8..=255, what in 0_u8..4) {
        let whole = chain(12, "");
        let seals = [seal(&whole, 12, 1)];
        let mut text = whole.join("\n").into_bytes();
        let at = at % text.len();
        match what {
            0 => text[at] = byte,
            1 => text.insert(at, byte),
            2 => drop(text.remove(at)),
            _ => text.truncate(at),
        }
        let mut walker = Walker::new(Place::START, seals);
        text.split(|byte| *byte == b'\n').for_each(|line| drop(walker.feed(line)));
        // A line end put into a record breaks it; one put between two records leaves all records as they were.
        let unchanged = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let is_changed = !unchanged.eq(whole.iter().map(|line| line.as_bytes()));
        prop_assert_eq!(walker.finish().is_err(), is_changed);
    }
}

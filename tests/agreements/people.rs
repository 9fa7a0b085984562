//! People who do not exist, with national numbers that look as if they did.

/// What the register knows of somebody.
#[derive(Debug, Clone)]
pub struct Jobseeker {
    pub insz: String,
    pub row: [String; 6],
}

/// The national number of the `at`-th made-up person: born between 1950 and 2009, with valid check digits.
pub fn insz(at: u64) -> String {
    let (year, month, day) = (1950 + at % 60, 1 + at / 60 % 12, 1 + at / 720 % 28);
    let serial = 1 + at / 20_160 % 997;
    let number = ((year % 100) * 10_000 + month * 100 + day) * 1_000 + serial;
    let counted = if year >= 2000 { 2_000_000_000 + number } else { number };
    format!("{number:09}{:02}", 97 - counted % 97)
}

/// The same as people write it.
pub fn dotted(number: &str) -> String {
    format!("{}.{}.{}-{}.{}", &number[..2], &number[2..4], &number[4..6], &number[6..9], &number[9..])
}

/// Every third person is in the register.
pub fn register(count: u64) -> Vec<Jobseeker> {
    let actions = ["oriëntatie", "context", "competentieversterking", "solliciteren", ""];
    let jobseeker = |at: u64| {
        let day = |years: u64| format!("{}-{:02}-{:02}", 2015 + years + at % 5, 1 + at % 12, 1 + at % 28);
        let row = [
            day(0),
            if at.is_multiple_of(4) { String::new() } else { day(3) },
            format!("categorie {}", at % 7),
            format!("status {}; stap {}", at % 3, at % 5),
            actions[at as usize % 5].to_owned(),
            ["ja", "nee"][at as usize % 2].to_owned(),
        ];
        Jobseeker { insz: insz(at), row }
    };
    (0..count).step_by(3).map(jobseeker).collect()
}

/// Without a header line, as `sqlite3` imports it.
pub fn register_csv(people: &[Jobseeker]) -> String {
    let line = |person: &Jobseeker| format!("{},{}\n", person.insz, person.row.join(","));
    people.iter().map(line).collect()
}

/// The list of agreement 1: some numbers with dots.
pub fn numbers(range: std::ops::Range<u64>) -> String {
    let line = |at: u64| if at.is_multiple_of(10) { dotted(&insz(at)) } else { insz(at) } + "\n";
    std::iter::once("insz\n".to_owned()).chain(range.map(line)).collect()
}

#[test]
fn the_made_up_numbers_are_valid_and_no_two_are_the_same() {
    assert_eq!(dotted("85073003328"), "85.07.30-033.28");
    let all: std::collections::BTreeSet<String> = (0..100_000).map(insz).collect();
    assert_eq!(all.len(), 100_000);
    for number in all.iter().take(1000) {
        let (nine, check) = (number[..9].parse::<u64>().unwrap(), number[9..].parse::<u64>().unwrap());
        assert!(97 - nine % 97 == check || 97 - (2_000_000_000 + nine) % 97 == check, "{number}");
    }
}

//! Checks `accept` of a flow.

use globset::{GlobBuilder, GlobMatcher};

use super::super::error::Key;
use super::super::raw;
use super::super::values::Desk;
use crate::policy::agreement::{Accept, Collision};
use crate::policy::question::Unasked;

const PATTERNS_MAX: usize = 100;
const PATTERN_BYTES_MAX: usize = 255;
const SIZE_MAX: u64 = 1 << 44;

/// What may be dropped into a flow.
pub fn accept(desk: &mut Desk<'_>, key: &Key, raw: &raw::Accept) -> Option<Accept> {
    let list = key.at("names");
    if !desk.at_most(&list, raw.names.len(), PATTERNS_MAX) {
        return None;
    }
    let mut names = Vec::new();
    for (index, text) in raw.names.iter().enumerate() {
        match pattern(text) {
            Ok(matcher) => names.push(matcher),
            Err(problem) => {
                let problem = format!("{text:?} is not a pattern for names: {problem}");
                desk.wrong(&list.item(index), problem, "write it as in \"*.csv.age\", with * and ?");
            }
        }
    }
    let max_size = desk.size(&key.at("max-size"), &raw.max_size, 1..=SIZE_MAX);
    let collision = collision(desk, &key.at("collision"), raw.collision.as_deref());
    let unasked = unasked(desk, &key.at("unasked"), raw.unasked.as_deref());
    Some(Accept {
        names,
        max_size: max_size?,
        armored: raw.armored,
        collision: collision?,
        unasked: unasked?,
    })
}

fn collision(desk: &mut Desk<'_>, key: &Key, raw: Option<&str>) -> Option<Collision> {
    match raw {
        None => Some(Collision::default()),
        Some("reject") => Some(Collision::Reject),
        Some("version") => Some(Collision::Version),
        Some(text) => {
            let remedy = "write reject (the second file is refused) or version (it gets a name of its own)";
            desk.wrong(key, format!("{text:?} is no rule for names that are in use"), remedy);
            None
        }
    }
}

fn unasked(desk: &mut Desk<'_>, key: &Key, raw: Option<&str>) -> Option<Unasked> {
    match raw {
        None | Some("accept") => Some(Unasked::Accept),
        Some("refuse") => Some(Unasked::Refuse),
        Some(text) => {
            let remedy = "write accept (the form decides, the job side finds out) or refuse (the sender tries again later)";
            desk.wrong(key, format!("{text:?} is not a choice"), remedy);
            None
        }
    }
}

fn pattern(text: &str) -> Result<GlobMatcher, String> {
    if text.is_empty() || text.len() > PATTERN_BYTES_MAX || text.contains('/') {
        return Err("1 to 255 bytes without / are expected".to_owned());
    }
    // An alternative of alternatives multiplies into an automaton of any size.
    if text.matches('{').count() > 4 {
        return Err("at most four alternatives in braces are expected".to_owned());
    }
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.kind().to_string())
}

//! What a backup says of itself: its manifest, which names every file with its digest; where what lies in the spool is put in
//! a backup, and what is left out. Copying and checking are `host::backup`'s business.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::arrival::{ArrivalId, DISCARDING, State, UNFINISHED};
use super::lease::arrival_in;
use super::path::Slug;

/// The form of manifest that this version writes and reads.
pub const FORM: u32 = 1;
/// Written last: a folder without it is no backup, or an unfinished one.
pub const MANIFEST: &str = "manifest.json";
/// The manifest's SHA-256, as `sha256sum -c` reads it.
pub const CHECKSUM: &str = "manifest.sha256";
/// The folder of the spool in a backup.
pub const SPOOL: &str = "spool";
/// The folder of the access log in a backup.
pub const LOG: &str = "log";

/// Top folders of the spool that no backup holds: uploads that nobody was told are safe, the heartbeats of processes, the
/// keys of pseudonyms, whose destruction is to be for good, and marks of what was collected, which speak of files by their number.
pub const LEFT_OUT: [&str; 5] = ["partial", "nodes", "pseudonyms", "collected", "lost+found"];
/// Top folders of the spool that follow from what was done with arrivals, so that they are copied after them: where an arrival
/// stands as delivered, its results are there, or have been collected. Passphrases after the results: one that is missing was
/// handed out.
pub const AFTER_ARRIVALS: [&str; 3] = ["outbox", "receipts", "passphrases"];

/// Longest path in a backup, in bytes, and most folders in one.
const PATH_MAX: usize = 2048;
const DEPTH_MAX: usize = 12;

/// A path inside a backup: plain names with `/` between them, none of them `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Inside(String);

impl Inside {
    /// The one way in.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('\0');
        let fits = text.len() <= PATH_MAX && text.split('/').count() <= DEPTH_MAX;
        (fits && text.split('/').all(is_plain)).then(|| Self(text.to_owned()))
    }

    /// Its names, the outermost first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The folder it lies in, none at the top, and its own name.
    pub fn split(&self) -> (Option<&str>, &str) {
        self.0.rsplit_once('/').map_or((None, self.0.as_str()), |(folder, name)| (Some(folder), name))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Inside {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no path inside a backup"))
    }
}

impl From<Inside> for String {
    fn from(path: Inside) -> Self {
        path.0
    }
}

/// What a file or folder was like where it was copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// Permission bits.
    pub mode: u32,
    /// Its owner's number, and that of its group.
    pub user: u32,
    /// See `user`.
    pub group: u32,
    /// Modification time, in seconds since 1970: of a deferred arrival's `tries.json` it says when the next try is.
    pub mtime: i64,
}

/// A file in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileEntry {
    /// Where.
    pub path: Inside,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex of its SHA-256.
    pub sha256: String,
    /// What it was like.
    #[serde(flatten)]
    pub facts: Facts,
}

/// A folder in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FolderEntry {
    /// Where.
    pub path: Inside,
    /// What it was like.
    #[serde(flatten)]
    pub facts: Facts,
}

/// A secret that the zone needs and that no backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NeededKey {
    /// The key of `dropzone.yaml` that names it.
    pub key: String,
    /// The path that stands there.
    pub path: String,
    /// Its fingerprint, or an identity's recipients; none where they could not be read.
    pub public: Option<String>,
}

/// The last head of the log in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastHead {
    /// Its number.
    pub number: u64,
    /// Lower-case hex of the SHA-256 of its text.
    pub sha256: String,
}

/// Where the zone had its spool and its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Places {
    /// The folder of `dropzone.yaml`.
    pub configuration: String,
    /// The spool.
    pub spool: String,
    /// The access log.
    pub log: String,
}

impl Places {
    /// Where a folder lay inside the zone's own; none if it lay elsewhere.
    pub fn inside(&self, folder: &str) -> Option<Inside> {
        Inside::parse(folder.strip_prefix(self.configuration.as_str())?.strip_prefix('/')?)
    }
}

/// All that a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// [`FORM`].
    pub backup: u32,
    /// The version of the program that made it.
    pub version: String,
    /// The node it was made on.
    pub node: Slug,
    /// When it was begun: what had been acknowledged by then is in it.
    pub begun: Timestamp,
    /// When it was complete.
    pub ended: Timestamp,
    /// Where everything lay.
    pub places: Places,
    /// How many arrivals it holds, by the state they come back in.
    pub arrivals: BTreeMap<State, u64>,
    /// How far the log's heads had come; none where there are none.
    pub last_head: Option<LastHead>,
    /// What has to be put back by hand.
    pub keys: Vec<NeededKey>,
    /// The names of the users and groups that own what is here, by number.
    pub users: BTreeMap<u32, String>,
    /// See `users`.
    pub groups: BTreeMap<u32, String>,
    /// What was left out, in words.
    pub left_out: Vec<String>,
    /// The folders, each before what is in it.
    pub folders: Vec<FolderEntry>,
    /// The files.
    pub files: Vec<FileEntry>,
}

/// Which arrival a folder of a state is, also one that is being discarded: it comes back as held, for its operator to decide again.
pub fn arrival_of(state: State, name: &str) -> Option<ArrivalId> {
    let undecided = name.strip_suffix(DISCARDING).filter(|_| state == State::Hold);
    arrival_in(state, undecided.unwrap_or(name))
}

/// The state in which an arrival comes back. Whoever worked on it is not there any more.
pub fn comes_back_as(state: State) -> State {
    match state {
        State::Incoming | State::Active => State::Incoming,
        State::Deferred => State::Deferred,
        State::Hold => State::Hold,
        State::Done => State::Done,
        State::Refused => State::Refused,
    }
}

/// Whether a file is being written under this name, and will be renamed when it is complete.
pub fn is_being_written(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

/// Whether a file of an arrival says nothing once its worker is gone: what is staged there, and the mark that its job runs.
pub fn is_of_the_moment(name: &str) -> bool {
    let is_staged = name.starts_with("result-") && !name.ends_with(NOTE) || name.starts_with("receipt-");
    is_staged || name == "begun" || is_being_written(name)
}

/// The files beside a note of a delivery that say that it has not been made: the result, and the result withdrawn. Without
/// them it has, and whoever reads the note makes no second one. None for a file that is no such note.
pub fn speaking_against(name: &str) -> Option<[String; 2]> {
    let base = name.strip_suffix(NOTE).filter(|base| base.starts_with("result-"))?;
    Some([format!("{base}.age"), format!("{base}.void")])
}

const NOTE: &str = ".json";

#[cfg(test)]
mod tests {
    use super::super::arrival::tests::arrival_named;
    use super::*;

    #[test]
    fn no_path_of_a_manifest_leads_out_of_its_folder() {
        let deep = ["a"; DEPTH_MAX + 1].join("/");
        for text in
            ["", "/", "/etc/passwd", "..", "a/..", "a/../b", "./a", "a//b", "a/", "a\0", deep.as_str()]
        {
            assert_eq!(Inside::parse(text), None, "{text:?}");
            assert!(serde_json::from_str::<Inside>(&serde_json::to_string(text).unwrap()).is_err());
        }
        for text in ["a", "spool/outbox/city/relay/..x", "spool/a b/é"] {
            assert_eq!(Inside::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn an_arrival_is_known_with_and_without_the_name_of_its_claim_and_while_it_is_discarded() {
        let id = arrival_named("list.age").id;
        for (state, name, known) in [
            (State::Incoming, id.to_string(), true),
            (State::Active, id.to_string(), true),
            (State::Active, format!("{id}.zone-1.0badcafe"), true),
            (State::Incoming, format!("{id}.zone-1.0badcafe"), false),
            (State::Refused, format!("{id}.new"), false),
            (State::Hold, format!("{id}.discard"), true),
            (State::Done, format!("{id}.discard"), false),
            (State::Done, format!("{id}.expired"), false),
            (State::Active, "nothing.of.that.kind".to_owned(), false),
            (State::Active, "x".to_owned(), false),
        ] {
            assert_eq!(arrival_of(state, &name), known.then(|| id.clone()), "{name}");
        }
    }

    #[test]
    fn what_lay_outside_of_the_zone_has_no_place_in_it() {
        let places = |spool: &str| Places {
            configuration: "/etc/zone".to_owned(),
            spool: spool.to_owned(),
            log: "/etc/zone/log".to_owned(),
        };
        let inside = |spool: &str| {
            let places = places(spool);
            places.inside(&places.spool).map(String::from)
        };
        assert_eq!(inside("/etc/zone/data/spool"), Some("data/spool".to_owned()));
        for outside in ["/var/spool", "/etc/zone", "/etc/zone2/spool", "/etc/zone/../spool"] {
            assert_eq!(inside(outside), None, "{outside}");
        }
    }

    #[test]
    fn what_only_its_worker_understands_is_left_out_and_notes_are_kept() {
        for (name, is_left_out) in [
            ("payload.age", false),
            ("arrival.json", false),
            ("tries.json", false),
            ("hold.json", false),
            ("result-city.0badcafe.json", false),
            ("result-city.0badcafe.age", true),
            ("result-city.0badcafe.void", true),
            ("result-city.age", true),
            ("receipt-0badcafe.json", true),
            ("begun", true),
            (".0123456789abcdef.new", true),
        ] {
            assert_eq!(is_of_the_moment(name), is_left_out, "{name}");
        }
    }
}

//! An arrival: one file that an institution dropped, from the moment it is published or refused. `arrival.json` in its
//! folder is this struct; the folder it lies in is its state.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::account::Who;
use super::digest::hex;
use super::path::{Name, Slug};
use super::reason::Reason;

/// What the name of a folder ends in, behind the id of its arrival, whose refusal is being described; and, beside other files,
/// of one that is being written.
pub const UNFINISHED: &str = ".new";
/// The same of an arrival that is being removed because its time has passed, or that lies in another state too.
pub const EXPIRED: &str = ".expired";
/// The same of a held one that is being discarded.
pub const DISCARDING: &str = ".discard";

/// Most characters of a person's label in the name of a file.
const LABEL_ROOM: usize = 64;
/// The endings that a result in another form does not keep.
const FORMS: [&str; 3] = ["csv", "txt", "xlsx"];

/// The states an arrival can be in, each a folder of the spool. Named after Postfix's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Published, waiting for `work`.
    Incoming,
    /// Claimed by a worker.
    Active,
    /// Will be tried again, at the mtime of its `tries.json`.
    Deferred,
    /// An operator must look; `hold.json` says why.
    Hold,
    /// Delivered.
    Done,
    /// Refused by the gate; no payload.
    Refused,
}

impl State {
    /// In the order of an arrival's life.
    pub const ALL: [Self; 6] =
        [Self::Incoming, Self::Active, Self::Deferred, Self::Hold, Self::Done, Self::Refused];
    /// The states in which the sender still sees its arrival in `in`.
    pub const IN_PROGRESS: [Self; 4] = [Self::Incoming, Self::Active, Self::Deferred, Self::Hold];

    /// The folder's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// `‹UTC time›-‹8 hex of the name's SHA-256›-‹8 hex random›.‹institution›.‹exchange›`: sorts by time, tells an operator
/// whose it is, and lets a listing of folder names tell which few arrivals could have a name, before any is opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArrivalId {
    stamp: String,
    institution: Slug,
    exchange: Slug,
}

impl ArrivalId {
    /// `random` makes ids of one name in one millisecond differ.
    pub fn new(at: Timestamp, name: &Name, random: u32, institution: &Slug, exchange: &Slug) -> Self {
        let stamp = format!("{}Z-{}-{random:08x}", at.strftime("%Y%m%dT%H%M%S%3f"), name_digest(name));
        Self { stamp, institution: institution.clone(), exchange: exchange.clone() }
    }

    /// Reads a folder's name; `None` for a folder that is no arrival.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (stamp, institution, exchange) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !is_stamp(stamp) {
            return None;
        }
        Some(Self {
            stamp: stamp.to_owned(),
            institution: Slug::parse(institution).ok()?,
            exchange: Slug::parse(exchange).ok()?,
        })
    }

    /// Whether a folder's name begins as that of an arrival, and nothing about it says that it is half made or half removed.
    pub fn begins(name: &str) -> bool {
        let is_whole = [UNFINISHED, EXPIRED, DISCARDING].iter().all(|ending| !name.ends_with(ending));
        is_whole && name.split_once('.').is_some_and(|(stamp, _)| is_stamp(stamp))
    }

    /// When the arrival of a folder's name was received.
    pub fn time_of(name: &str) -> Option<Timestamp> {
        let digits = name.split('Z').next()?;
        let (seconds, milliseconds) = digits.split_at_checked(digits.len().checked_sub(3)?)?;
        format!("{seconds}.{milliseconds}Z").parse().ok()
    }

    /// The part that is unique within an exchange: names of results and receipts derive from it.
    pub fn stamp(&self) -> &str {
        &self.stamp
    }

    /// When it was received, as its stamp says.
    pub fn received(&self) -> Option<Timestamp> {
        Self::time_of(&self.stamp)
    }

    /// Whose arrival it is.
    pub fn institution(&self) -> &Slug {
        &self.institution
    }

    /// The exchange it was dropped into.
    pub fn exchange(&self) -> &Slug {
        &self.exchange
    }

    /// What it holds of its name's digest: arrivals of one name have the same, those of another hardly ever; certain is only
    /// what `arrival.json` says.
    pub fn name_digest(&self) -> &str {
        self.stamp.split('-').nth(1).unwrap_or_default()
    }
}

fn is_stamp(text: &str) -> bool {
    text.len() == 37 && text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'T' | b'Z' | b'-'))
}

/// What the id of an arrival of this name holds of the name's digest.
pub fn name_digest(name: &Name) -> String {
    let digest = Sha256::digest(name.as_str().as_bytes());
    hex(digest.first_chunk::<4>().map_or(&[], <[u8; 4]>::as_slice))
}

impl fmt::Display for ArrivalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.stamp, self.institution, self.exchange)
    }
}

impl TryFrom<String> for ArrivalId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not the id of an arrival"))
    }
}

impl From<ArrivalId> for String {
    fn from(id: ArrivalId) -> Self {
        id.to_string()
    }
}

/// What `serve` knows about a file when it publishes or refuses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Arrival {
    /// Unique; also the folder's name.
    pub id: ArrivalId,
    /// The name the institution gave it.
    pub name: Name,
    /// The flow that takes it; none where it was refused before one could be found.
    pub flow: Option<Slug>,
    /// Bytes of the encrypted file; for a refused one, the bytes seen until then.
    pub size: u64,
    /// Lower-case hex of the encrypted file's SHA-256; none where it was refused.
    pub sha256: Option<String>,
    /// Whether it is in age's text armor.
    pub armored: bool,
    /// Who dropped it.
    pub by: Who,
    /// The session in the access log.
    pub session: String,
    /// When its upload began.
    pub opened: Timestamp,
    /// When it was published or refused.
    pub received: Timestamp,
    /// The modification time that the client set, in seconds since 1970.
    pub mtime: Option<u32>,
    /// Why it was refused.
    pub refused: Option<Reason>,
}

/// The name of the result of an arrival: `list.csv.age` becomes `list.‹stamp›.csv.age`. It derives from the arrival alone,
/// so that a second delivery of the same arrival meets the first.
pub fn delivery_name(arrival: &Arrival) -> Name {
    let (stem, ending) = parts(&arrival.name);
    derived_name(stem, arrival.id.stamp(), (&ending, 0))
}

/// What stands before the stamp in the name of a result, and behind it.
fn parts(name: &Name) -> (&str, String) {
    let name = name.as_str();
    let stem = name.strip_suffix(".age").unwrap_or(name);
    match stem.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && ending.len() <= 8 => (stem, format!(".{ending}.age")),
        _ => (stem, ".age".to_owned()),
    }
}

/// The name of one person's share of it: the label stands behind the stamp. Two people never share a name: characters that a
/// file's name cannot well have are replaced, and then some of the label's digest tells the labels apart.
pub fn personal_name(arrival: &Arrival, label: &str) -> Name {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut fit: String = label.chars().map(|c| if is_fit(c) { c } else { '_' }).take(LABEL_ROOM).collect();
    if fit != label {
        let digest = Sha256::digest(label.as_bytes());
        fit = format!("{fit}-{}", hex(digest.first_chunk::<4>().map_or(&[], <[u8; 4]>::as_slice)));
    }
    let (stem, ending) = parts(&arrival.name);
    derived_name(stem, &format!("{}.{fit}", arrival.id.stamp()), (&ending, 0))
}

/// The same name for a result in another form: `list.‹stamp›.csv.age` becomes `list.‹stamp›.xlsx.age`.
pub fn with_form(name: &Name, form: &str) -> Name {
    let text = name.as_str();
    let stem = text.strip_suffix(".age").unwrap_or(text);
    let known = FORMS.iter().find_map(|known| stem.strip_suffix(known)?.strip_suffix('.'));
    Name::parse(&format!("{}.{form}.age", known.unwrap_or(stem))).unwrap_or_else(|_| name.clone())
}

/// The name of another upload under a name that is in use: the second `list.csv.age` becomes `list.2.csv.age`. Cut where the
/// whole would pass 255 bytes.
pub fn versioned_name(name: &Name, number: u32) -> Option<Name> {
    let text = name.as_str();
    let (stem, age) = text.strip_suffix(".age").map_or((text, ""), |stem| (stem, ".age"));
    let (stem, ending) = match stem.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && ending.len() <= 8 => (stem, format!(".{ending}{age}")),
        _ => (stem, age.to_owned()),
    };
    let versioned = derived(stem, &number.to_string(), (&ending, 0));
    Name::parse(&versioned).ok()
}

/// The name of the receipt of an arrival: `list.csv.age.‹stamp›.json`. It leaves room for the ending of its signature.
pub fn receipt_name(arrival: &Arrival) -> Name {
    derived_name(arrival.name.as_str(), arrival.id.stamp(), (".json", super::signature::ENDING.len()))
}

/// The name of the quality report of an arrival, beside its receipt: `list.csv.age.‹stamp›.quality.csv`.
pub fn quality_name(arrival: &Arrival) -> Name {
    derived_name(arrival.name.as_str(), arrival.id.stamp(), (".quality.csv", 0))
}

/// Cuts the stem where the whole would pass 255 bytes, less what is to be spared.
fn derived_name(stem: &str, stamp: &str, (ending, spared): (&str, usize)) -> Name {
    Name::parse(&derived(stem, stamp, (ending, spared))).unwrap_or_else(|_| Name::of_stamp(stamp))
}

fn derived(stem: &str, middle: &str, (ending, spared): (&str, usize)) -> String {
    let room = super::path::NAME_MAX.saturating_sub(middle.len() + 1 + ending.len() + spared);
    let cut = (0..=room.min(stem.len())).rev().find(|&at| stem.is_char_boundary(at)).unwrap_or(0);
    let stem = stem.get(..cut).unwrap_or_default();
    format!("{stem}.{middle}{ending}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn arrival_named(name: &str) -> Arrival {
        let name = Name::parse(name).unwrap();
        let (institution, exchange) = (Slug::parse("agency").unwrap(), Slug::parse("pillar-3").unwrap());
        let at: Timestamp = "2026-11-21T22:59:08.123456Z".parse().unwrap();
        Arrival {
            id: ArrivalId::new(at, &name, 0xabc, &institution, &exchange),
            name,
            flow: None,
            size: 1,
            sha256: None,
            armored: false,
            by: Who { institution, label: "an".into(), fingerprint: "SHA256:an".into() },
            session: "s".into(),
            opened: at,
            received: at,
            mtime: None,
            refused: None,
        }
    }

    #[test]
    fn an_id_reads_back_and_tells_whose_it_is() {
        let arrival = arrival_named("list.csv.age");
        let text = arrival.id.to_string();
        assert!(text.starts_with("20261121T225908123Z-"), "{text}");
        assert!(text.ends_with("-00000abc.agency.pillar-3"), "{text}");
        assert_eq!(ArrivalId::parse(&text), Some(arrival.id.clone()));
        assert_eq!(arrival.id.name_digest(), name_digest(&arrival.name));
        assert_eq!(arrival.id.received(), Some("2026-11-21T22:59:08.123Z".parse().unwrap()));
        assert_ne!(arrival.id.name_digest(), name_digest(&Name::parse("other.age").unwrap()));
        for wrong in
            ["", ".", "..", "x.agency.p", "lost+found", &format!("{text}.tmp"), &text.replace("agency", "Ag")]
        {
            assert_eq!(ArrivalId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_results_and_receipts_derive_from_the_arrival() {
        let stamp = arrival_named("list.csv.age").id.stamp().to_owned();
        assert_eq!(delivery_name(&arrival_named("list.csv.age")).as_str(), format!("list.{stamp}.csv.age"));
        assert_eq!(
            receipt_name(&arrival_named("list.csv.age")).as_str(),
            format!("list.csv.age.{stamp}.json")
        );
        for name in [
            "list",
            ".age",
            "a.verylongending.age",
            &"é".repeat(127),
            &format!("{}.csv.age", "x".repeat(247)),
        ] {
            let (result, receipt) = (delivery_name(&arrival_named(name)), receipt_name(&arrival_named(name)));
            assert!(result.as_str().len() <= 255 && result.as_str().ends_with(".age"), "{result}");
            assert!(receipt.as_str().len() <= 255 && receipt.as_str().ends_with(".json"), "{receipt}");
            let signature = crate::policy::published::signature_name(&receipt).unwrap();
            assert_eq!(signature.as_str(), format!("{receipt}.sig"));
        }
    }

    #[test]
    fn no_two_people_share_the_name_of_a_file_and_every_name_fits() {
        let arrival = arrival_named(&format!("{}.csv.age", "x".repeat(247)));
        let labels =
            ["an", "An", "an.peeters", "an peeters", "an/peeters", "an_peeters", "é", "è", "..", "/"];
        let long = ["l".repeat(64), "l".repeat(65), "l".repeat(66)];
        let labels: Vec<&str> = labels.into_iter().chain(long.iter().map(String::as_str)).collect();
        let mut names: Vec<String> =
            labels.iter().map(|label| personal_name(&arrival, label).to_string()).collect();
        assert!(names.iter().all(|name| name.len() <= 255 && name.ends_with(".csv.age")), "{names:?}");
        assert!(!names.contains(&delivery_name(&arrival).to_string()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), labels.len());
        let plain = personal_name(&arrival_named("list.csv.age"), "an.peeters");
        let stamp = arrival.id.stamp().split('-').next().unwrap().to_owned();
        assert!(plain.as_str().starts_with(&format!("list.{stamp}")), "{plain}");
        assert!(plain.as_str().ends_with(".an.peeters.csv.age"), "{plain}");
    }

    #[test]
    fn a_result_in_another_form_has_its_ending() {
        for (name, form, expected) in [
            ("list.S.csv.age", "xlsx", "list.S.xlsx.age"),
            ("list.S.xlsx.age", "csv", "list.S.csv.age"),
            ("list.S.an.peeters.age", "csv", "list.S.an.peeters.csv.age"),
            ("list.S.age", "xlsx", "list.S.xlsx.age"),
        ] {
            assert_eq!(with_form(&Name::parse(name).unwrap(), form).as_str(), expected);
        }
    }

    #[test]
    fn a_version_keeps_the_ending_that_flows_look_at() {
        for (name, versioned) in [
            ("list.csv.age", "list.2.csv.age"),
            ("list.age", "list.2.age"),
            ("list.2.csv.age", "list.2.2.csv.age"),
            ("list.txt", "list.2.txt"),
            ("list", "list.2"),
            (".age", ".2.age"),
            ("a.verylongending.age", "a.verylongending.2.age"),
        ] {
            assert_eq!(versioned_name(&Name::parse(name).unwrap(), 2).unwrap().as_str(), versioned, "{name}");
        }
        let longest = format!("{}.csv.age", "é".repeat(123));
        let versioned = versioned_name(&Name::parse(&longest).unwrap(), 1000).unwrap();
        assert!(versioned.as_str().len() <= 255 && versioned.as_str().ends_with(".1000.csv.age"));
    }
}

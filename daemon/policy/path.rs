//! What a path that a client sent means in the tree that its institution sees: `/‹exchange›/{in,out,receipts}/‹name›`.
//! Whether the operation is allowed there is `request`'s question; nothing here touches a file system.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::reason::Reason;

/// Longest file name, in bytes of UTF-8.
pub const NAME_MAX: usize = 255;
/// Longest path, in bytes.
pub const PATH_MAX: usize = 4096;

/// The name of an institution or exchange: 1 to 40 of `a-z`, `0-9` and `-`, beginning with a letter or digit. Safe as a
/// folder name, as an SFTP user name, as a metric label, and between the dots of an arrival's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

impl Slug {
    /// The one way in; the error says what a slug looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = (1..=40).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "{text:?} is not a name of 1 to 40 of a-z, 0-9 and -, beginning with a letter or digit"
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of a machine whose name nobody told.
    pub(super) fn unknown() -> Self {
        Self("unknown".to_owned())
    }
}

impl TryFrom<String> for Slug {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One component of a path: 1 to 255 bytes of UTF-8, not `.` or `..`, no `/`, no control character, no U+FFFD (which
/// a lossy decoder puts where the client's bytes were not UTF-8).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The one way in.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        let bad = text.is_empty()
            || text.len() > NAME_MAX
            || text == "."
            || text == ".."
            || text.chars().any(|c| c == '/' || c == '\u{FFFD}' || c.is_control() || is_deceptive(c));
        if bad { Err(Reason::BadName) } else { Ok(Self(text.to_owned())) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An arrival's stamp is digits, letters and dashes: always a name.
    pub(super) fn of_stamp(stamp: &str) -> Self {
        Self(stamp.to_owned())
    }
}

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|_| format!("{text:?} is not a file name"))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Marks that turn the direction of text, end a line or are not seen make a name look like another one, or like two, in a
/// log or a listing.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{00AD}' | '\u{061C}' | '\u{200B}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{FEFF}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The three folders of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Folder {
    /// Drop here.
    In,
    /// Collect here.
    Out,
    /// One JSON per arrival.
    Receipts,
}

impl Folder {
    /// In the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::In, Self::Out, Self::Receipts];

    /// The folder's name in the tree.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Receipts => "receipts",
        }
    }
}

/// A path a client sent, resolved against the root: `.` and empty components dropped, `..` taken back, never above `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePath(Vec<Name>);

impl RemotePath {
    /// Accepts absolute and relative forms alike (the working folder is always `/`), and `~` for `/`.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        if text.len() > PATH_MAX {
            return Err(Reason::BadName);
        }
        let text = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ => text,
        };
        let mut names = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name => names.push(Name::parse(name)?),
            }
        }
        Ok(Self(names))
    }

    /// Where in the tree this lies. A path that no such tree can have is `NoSuchPath`.
    pub fn place(&self) -> Result<Place, Reason> {
        let slug = |name: &Name| Slug::parse(name.as_str()).map_err(|_| Reason::NoSuchPath);
        let folder = |name: &Name| {
            Folder::ALL.into_iter().find(|f| f.as_str() == name.as_str()).ok_or(Reason::NoSuchPath)
        };
        match self.0.as_slice() {
            [] => Ok(Place::Root),
            [exchange] => Ok(Place::Exchange(slug(exchange)?)),
            [exchange, place] => Ok(Place::Folder(slug(exchange)?, folder(place)?)),
            [exchange, place, name] => Ok(Place::File(slug(exchange)?, folder(place)?, name.clone())),
            _ => Err(Reason::NoSuchPath),
        }
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

/// A place in the tree an institution sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `/`
    Root,
    /// `/‹exchange›`
    Exchange(Slug),
    /// `/‹exchange›/‹folder›`
    Folder(Slug, Folder),
    /// `/‹exchange›/‹folder›/‹name›`
    File(Slug, Folder, Name),
}

impl Place {
    /// The exchange this place belongs to; the root belongs to none.
    pub fn exchange(&self) -> Option<&Slug> {
        match self {
            Self::Root => None,
            Self::Exchange(exchange) | Self::Folder(exchange, _) | Self::File(exchange, _, _) => {
                Some(exchange)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_the_root_is_the_root() {
        for text in ["", ".", "/", "//", "/.", "/..", "/../..", "~", "~/", "../../..", "/a/../..", "./."] {
            assert_eq!(RemotePath::parse(text).unwrap().to_string(), "/", "{text:?}");
        }
    }

    #[test]
    fn paths_resolve_without_leaving_the_root() {
        for (text, meant) in [
            ("pijler3/in", "/pijler3/in"),
            ("/pijler3/in/../out/a", "/pijler3/out/a"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("~/pijler3", "/pijler3"),
            ("~other/x", "/~other/x"),
            ("/a//b/./c", "/a/b/c"),
        ] {
            assert_eq!(RemotePath::parse(text).unwrap().to_string(), meant, "{text:?}");
        }
    }

    #[test]
    fn names_that_deceive_are_refused() {
        for name in [
            "a\0b",
            "a\nb",
            "\u{7f}",
            "a\u{85}",
            "a\u{FFFD}",
            "a\u{202E}gnp.exe",
            "a\u{61C}",
            "a\u{2028}b",
            "a\u{200B}",
            "\u{FEFF}a",
            &"x".repeat(256),
        ] {
            assert_eq!(RemotePath::parse(name), Err(Reason::BadName), "{name:?}");
        }
        for name in ["é".repeat(127).as_str(), "naam met spatie.age", "📁", "-rf", "a\\b", "'; DROP TABLE"]
        {
            assert!(Name::parse(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn only_the_tree_of_the_design_exists() {
        let place = |text: &str| RemotePath::parse(text).unwrap().place();
        assert_eq!(place("/"), Ok(Place::Root));
        assert!(matches!(place("/x/in/f.age"), Ok(Place::File(_, Folder::In, _))));
        for text in ["/x/In", "/x/etc", "/x/in/a/b", "/X", "/x y/in"] {
            assert_eq!(place(text), Err(Reason::NoSuchPath), "{text:?}");
        }
    }

    /// What a path can be made of, the parts that have a meaning of their own most of all.
    fn parts() -> impl Strategy<Value = Vec<String>> {
        let special = prop::sample::select(vec!["", ".", "..", "...", "~", "in", "out", "receipts"]);
        let part = prop_oneof![
            special.prop_map(str::to_owned),
            "[a-z0-9-]{1,8}",
            "\\PC{1,6}",
            any::<char>().prop_map(String::from)
        ];
        prop::collection::vec(part, 0..8)
    }

    proptest! {
        #[test]
        fn a_path_means_what_its_parts_say_one_after_the_other_and_nothing_above_the_root(
            parts in parts(), beginning in prop::sample::select(vec!["", "/", "//", "~", "~/"]))
        {
            let text = format!("{beginning}{}", parts.join("/"));
            let Ok(path) = RemotePath::parse(&text) else { return Ok(()) };
            let shown = path.to_string();
            let components: Vec<&str> = shown.split('/').skip(1).filter(|_| shown != "/").collect();
            for component in &components {
                prop_assert!(!["", ".", ".."].contains(component) && component.len() <= NAME_MAX);
                let bad = component.chars().find(|c| c.is_control() || *c == char::REPLACEMENT_CHARACTER);
                prop_assert_eq!(bad, None);
            }
            // Said once more, in the plainest way.
            let plain = if text == "~" { "" } else { text.strip_prefix("~/").unwrap_or(&text) };
            let meant = plain.split('/').fold(Vec::new(), |mut so_far, part| {
                match part {
                    "" | "." => {}
                    ".." => drop(so_far.pop()),
                    name => so_far.push(name),
                }
                so_far
            });
            prop_assert_eq!(&components, &meant);
            prop_assert_eq!(RemotePath::parse(&shown), Ok(path));
        }

        #[test]
        fn a_place_is_where_its_path_says_and_never_leaves_the_tree(parts in parts()) {
            let Ok(path) = RemotePath::parse(&parts.join("/")) else { return Ok(()) };
            let Ok(place) = path.place() else { return Ok(()) };
            let rebuilt = match &place {
                Place::Root => "/".to_owned(),
                Place::Exchange(exchange) => format!("/{exchange}"),
                Place::Folder(exchange, folder) => format!("/{exchange}/{}", folder.as_str()),
                Place::File(exchange, folder, name) => format!("/{exchange}/{}/{name}", folder.as_str()),
            };
            prop_assert_eq!(rebuilt, path.to_string());
            prop_assert!(place.exchange().is_none_or(|exchange| !exchange.as_str().contains(['.', '/'])));
        }

        #[test]
        fn any_text_is_refused_or_stays_below_the_root(text in ".{0,80}") {
            if let Ok(path) = RemotePath::parse(&text) {
                let shown = path.to_string();
                prop_assert!(shown.starts_with('/'));
                prop_assert!(!shown.split('/').any(|part| part == ".." || part == "."));
                prop_assert_eq!(RemotePath::parse(&shown), Ok(path));
            }
        }
    }
}

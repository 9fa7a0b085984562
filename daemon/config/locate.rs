//! The line a key stands on. The YAML parser tells places only when something fails, so the document is walked once more
//! down to the key and the walk fails there: no second idea of what YAML is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{Key, Step};

/// Line and column, both from 1, of a key; of what it stands in where the key itself is not there.
pub fn locate(text: &str, key: &Key) -> Option<(usize, usize)> {
    let mut steps = key.steps();
    loop {
        let walk = Walk(steps).deserialize(serde_yaml::Deserializer::from_str(text));
        if let Some(location) = walk.err().and_then(|error| error.location()) {
            return Some((location.line(), location.column()));
        }
        // The walk came to the end of the document without meeting the key.
        steps = steps.split_last()?.1;
        if steps.is_empty() {
            return None;
        }
    }
}

/// Succeeds where the steps lead nowhere, fails where they lead.
struct Walk<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() { Err(D::Error::custom("here")) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (wanted, rest) = match self.0.split_first() {
            Some((Step::Name(name), rest)) => (Some(name), rest),
            _ => (None, self.0),
        };
        while let Some(found) = map.next_key_seed(Name { wanted, is_last: rest.is_empty() })? {
            if found {
                map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (wanted, rest) = match self.0.split_first() {
            Some((Step::Item(index), rest)) => (Some(*index), rest),
            _ => (None, self.0),
        };
        for index in 0.. {
            if wanted == Some(index) {
                if list.next_element_seed(Item(rest))?.is_none() {
                    break;
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// A mapping's key: says whether it is the wanted one, and fails there if it is the last step.
struct Name<'a> {
    wanted: Option<&'a String>,
    is_last: bool,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<bool, E> {
        let found = self.wanted.is_some_and(|wanted| wanted == text);
        if found && self.is_last { Err(E::custom("here")) } else { Ok(found) }
    }
}

/// A list's item: any visit fails at the item when no step is left.
struct Item<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() {
            deserializer.deserialize_any(Here)
        } else {
            deserializer.deserialize_any(Walk(self.0))
        }
    }
}

/// Whatever stands here is not expected: the error carries its place.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
exchange: x
agreement: {reference: r,
  until: 2020-01-01}
parties:
  agii: [drop, collect]
flows:
  - flow: enrich
    from: [agii]
    job:
      query:
        sql: |
          SELECT 1 -- flow: no
          to: no
    to:
      - agii
      - atlsa
  - flow: other
";

    #[test]
    fn every_key_is_found_where_it_stands() {
        let root = Key::root();
        let flow = root.at("flows").item(0);
        for (key, place) in [
            (root.at("exchange"), Some((2, 1))),
            (root.at("agreement").at("until"), Some((4, 3))),
            (root.at("parties").at("agii"), Some((6, 3))),
            (root.at("parties").at("agii").item(1), Some((6, 16))),
            (flow.clone(), Some((8, 5))),
            (flow.at("to"), Some((15, 5))),
            (flow.at("to").item(1), Some((17, 9))),
            (flow.at("job").at("query").at("sql"), Some((12, 9))),
            (root.at("flows").item(1).at("flow"), Some((18, 5))),
            (root.at("flows").item(1).at("missing"), Some((18, 5))),
            (root.at("nothing"), None),
            (root, None),
        ] {
            assert_eq!(locate(TEXT, &key), place, "{key}");
        }
    }
}

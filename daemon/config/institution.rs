//! Checks one `institutions/*.yaml`. Whether a key also belongs to somebody else is a question for the whole zone: `check`.

use std::collections::BTreeSet;

use super::error::Key;
use super::keys::login_key;
use super::limits::networks;
use super::load::Document;
use super::raw;
use super::values::Desk;
use crate::policy::account::{Institution, Person, PersonKey};

const PEOPLE_MAX: usize = 1_000;
const KEYS_MAX: usize = 20;
const RECIPIENTS_MAX: usize = 20;
const LABEL_MAX: usize = 64;

/// The institution that a document describes.
pub fn institution(desk: &mut Desk<'_>, document: &Document<raw::Institution>) -> Option<Institution> {
    let raw = document.raw.as_ref()?;
    let root = Key::root();
    if raw.institution != document.stem.as_str() {
        desk.wrong(
            &root.at("institution"),
            format!("is {:?} in a file called {}.yaml", raw.institution, document.stem),
            "give both the same name",
        );
    }
    let title = desk.line(&root.at("title"), &raw.title);
    let contact = match &raw.contact {
        Some(text) => desk.line(&root.at("contact"), text).map(Some),
        None => Some(None),
    };
    let phone = desk.optional(raw.phone.as_deref(), |desk, text| phone(desk, &root.at("phone"), text));
    let people = people(desk, &raw.people);
    let recipients = recipients(desk, &root.at("recipients"), &raw.recipients);
    let networks = networks(desk, &root.at("networks"), &raw.networks);
    Some(Institution {
        name: document.stem.clone(),
        title: title?,
        contact: contact?,
        phone: phone?,
        people: people?,
        recipients: recipients?,
        networks: networks?,
    })
}

fn phone(desk: &mut Desk<'_>, key: &Key, text: &str) -> Option<String> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    if (8..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    desk.wrong(key, format!("{text:?} is not a telephone number"), "write it as in +32470123456 (E.164)");
    None
}

fn people(desk: &mut Desk<'_>, raw: &[raw::Person]) -> Option<Vec<Person>> {
    let list = Key::root().at("people");
    if !desk.at_most(&list, raw.len(), PEOPLE_MAX) {
        return None;
    }
    let mut labels = BTreeSet::new();
    let mut people = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let key = list.item(index);
        if !labels.insert(raw.label.trim()) {
            desk.wrong(
                &key.at("label"),
                format!("two people are called {:?}", raw.label),
                "give each person a label of its own: the log tells them apart by it",
            );
        }
        people.push(person(desk, &key, raw));
    }
    people.into_iter().collect()
}

fn person(desk: &mut Desk<'_>, key: &Key, raw: &raw::Person) -> Option<Person> {
    let label = desk.line(&key.at("label"), &raw.label);
    if raw.label.len() > LABEL_MAX {
        desk.wrong(&key.at("label"), "is longer than 64 bytes", "choose a shorter label");
    }
    let function = match &raw.function {
        Some(text) => desk.line(&key.at("function"), text).map(Some),
        None => Some(None),
    };
    let list = key.at("keys");
    if !desk.at_most(&list, raw.keys.len(), KEYS_MAX) {
        return None;
    }
    if raw.keys.is_empty() {
        desk.note(format!("{} has no key and cannot log in", raw.label));
    }
    let keys: Vec<_> =
        raw.keys.iter().enumerate().map(|(index, raw)| person_key(desk, &list.item(index), raw)).collect();
    let recipients = recipients(desk, &key.at("recipients"), &raw.recipients);
    let keys = keys.into_iter().collect::<Option<_>>();
    Some(Person { label: label?, function: function?, keys: keys?, recipients: recipients? })
}

fn person_key(desk: &mut Desk<'_>, key: &Key, raw: &raw::PersonKey) -> Option<PersonKey> {
    let login = login_key(&raw.key).map_err(|refusal| desk.wrong(key, refusal.problem, refusal.remedy)).ok();
    let not_before = optional_day(desk, &key.at("not-before"), raw.not_before.as_deref());
    let not_after = optional_day(desk, &key.at("not-after"), raw.not_after.as_deref());
    if let (Some(Some(from)), Some(Some(until))) = (not_before, not_after)
        && until < from
    {
        desk.wrong(
            &key.at("not-after"),
            format!("{until} lies before not-before, {from}"),
            "correct one of the two days",
        );
    }
    let login = login?;
    Some(PersonKey {
        fingerprint: login.fingerprint,
        algorithm: login.algorithm,
        not_before: not_before?,
        not_after: not_after?,
    })
}

/// None if it is wrong, `Some(None)` if it is not there.
fn optional_day(desk: &mut Desk<'_>, key: &Key, text: Option<&str>) -> Option<Option<jiff::civil::Date>> {
    match text {
        Some(text) => desk.day(key, text).map(Some),
        None => Some(None),
    }
}

fn recipients(desk: &mut Desk<'_>, list: &Key, raw: &[String]) -> Option<Vec<String>> {
    if !desk.at_most(list, raw.len(), RECIPIENTS_MAX) {
        return None;
    }
    let mut recipients: Vec<String> = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let key = list.item(index);
        let text = text.trim();
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            let remedy =
                "remove it from here and consider it known; write the recipient, which begins with age1";
            desk.wrong(&key, "is a secret age identity", remedy);
        } else if text.parse::<age::x25519::Recipient>().is_err() {
            let remedy = "write what `age-keygen -y` prints: age1 and 58 letters and digits";
            desk.wrong(&key, "is not an X25519 age recipient", remedy);
        } else if recipients.iter().any(|earlier| earlier == text) {
            desk.wrong(&key, "is there twice", "keep one of them");
        }
        recipients.push(text.to_owned());
    }
    Some(recipients)
}

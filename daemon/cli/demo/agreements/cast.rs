//! The made-up people of the shipped institutions, with keys that only this process has, and what an operator writes into
//! an institution's file once it has answered.

use std::collections::BTreeMap;

use age::x25519::Identity;
use anyhow::Context;
use ssh_key::PrivateKey;

use crate::cli::init;

/// Label, institution, function.
const PEOPLE: [(&str, &str, &str); 17] = [
    ("an.peeters", "agii", "data steward"),
    ("tine.maes", "agii", "trajectbegeleider"),
    ("bart.claes", "atlas", "trajectbegeleider"),
    ("ilse.gent", "amal", "trajectbegeleider"),
    ("jan.maes", "vdab", "data steward"),
    ("eva.janssens", "vdab", "systeembeheerder"),
    ("els.wouters", "lommel", "inburgeringsambtenaar"),
    ("kris.balie", "lommel", "onthaal"),
    ("tom.jacobs", "mechelen", "netwerkcoördinator"),
    ("lies.peeters", "vsb", "dossierbeheerder"),
    ("karel.smet", "zorgkas-cm", "medewerker"),
    ("mia.dubois", "zorgkas-helan", "medewerker"),
    ("nele.baert", "zorgkas-lm", "medewerker"),
    ("piet.lenaerts", "zorgkas-neutraal", "medewerker"),
    ("rosa.martens", "zorgkas-solidaris", "medewerker"),
    ("wim.goossens", "zorgkas-vlaams", "medewerker"),
    ("sara.smit", "mechelen", "buddycoach"),
];

/// Somebody who does not exist.
#[derive(Clone)]
pub struct Person {
    /// As institutions/*.yaml calls her.
    pub label: &'static str,
    /// Where she works.
    pub institution: &'static str,
    /// What she does there.
    pub function: &'static str,
    /// Her SSH key.
    pub key: PrivateKey,
    /// Her own age identity.
    pub identity: Identity,
}

/// All of them.
#[derive(Clone)]
pub struct Cast {
    people: Vec<Person>,
    institutions: BTreeMap<&'static str, Identity>,
}

impl Cast {
    /// New keys for everybody.
    pub fn invent() -> anyhow::Result<Self> {
        let person = |&(label, institution, function): &(&'static str, &'static str, &'static str)| {
            let key = init::ssh_key(&format!("{label}@{institution}"))?;
            Ok(Person { label, institution, function, key, identity: Identity::generate() })
        };
        let people: Vec<Person> = PEOPLE.iter().map(person).collect::<anyhow::Result<_>>()?;
        let institutions = people.iter().map(|person| (person.institution, Identity::generate())).collect();
        Ok(Self { people, institutions })
    }

    /// One of them.
    pub fn person(&self, label: &str) -> anyhow::Result<&Person> {
        self.people.iter().find(|person| person.label == label).with_context(|| format!("nobody is {label}"))
    }

    /// An institution's age identity.
    pub fn identity(&self, institution: &str) -> anyhow::Result<&Identity> {
        self.institutions.get(institution).with_context(|| format!("{institution} has no identity"))
    }

    /// The text of an institution's file with its people and recipients filled in.
    pub fn fill_in(&self, institution: &str, text: &str) -> anyhow::Result<String> {
        let mut people = "people:\n".to_owned();
        for person in self.people.iter().filter(|person| person.institution == institution) {
            let Person { label, function, key, identity, .. } = person;
            let (key, own) = (key.public_key().to_openssh()?, identity.to_public());
            people += &format!(
                "  - {{label: {label}, function: {function}, keys: [\"{key}\"], recipients: [{own}]}}\n"
            );
        }
        let recipients = format!("recipients: [{}]", self.identity(institution)?.to_public());
        anyhow::ensure!(
            text.contains("\npeople: []") && text.contains("\nrecipients: []"),
            "the sample of {institution} has another form than the demo knows"
        );
        Ok(text.replacen("people: []", &people, 1).replacen("recipients: []", &recipients, 1))
    }
}

//! What was agreed, from the configuration as it is now: the agreement, who takes part with which keys, what happens to files,
//! and with what all of it is protected.

use jiff::civil::Date;
use serde::Serialize;

use super::columns::{self, Going, Table};
use super::facts::{Protection, Words};
use crate::config::{Algorithms, Config};
use crate::policy::account::{Institution, Person, PersonKey};
use crate::policy::agreement::{Collecting, Exchange, OnFault, Standing};
use crate::serve;

/// The agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Agreement {
    /// The published protocol's own reference.
    pub reference: String,
    /// Its title.
    pub title: String,
    /// The legal basis it names.
    pub legal_basis: String,
    /// First day in force.
    pub from: Date,
    /// Last day in force.
    pub until: Option<Date>,
    /// Whether it is in force today.
    pub standing: Words,
    /// Months of notice.
    pub notice_months: Option<u16>,
    /// Who answers for it where the zone is hosted.
    pub contact: Option<String>,
    /// Within how many hours an incident is reported.
    pub incidents_within_hours: Option<u64>,
    /// To whom.
    pub incidents_to: Option<String>,
    /// Today is behind its last day.
    pub has_ended: bool,
    /// A result has pseudonyms.
    pub has_pseudonyms: bool,
    /// How long results and the pseudonym key stay after the end, in days.
    pub after_end_days: u64,
    /// How long the parties may keep the data.
    pub parties_keep: Option<String>,
    /// When a result counts as collected.
    pub collected: Words,
}

/// One party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Party {
    /// Its name here.
    pub institution: String,
    /// Its name in full.
    pub title: String,
    /// Whom the operators write to.
    pub contact: Option<String>,
    /// It may put files in.
    pub may_drop: bool,
    /// It may collect results.
    pub may_collect: bool,
    /// Files that are put down on this machine count as its own.
    pub handoff: bool,
    /// How many of its people may take part at most; none: not limited.
    pub at_most: Option<usize>,
    /// Its people who have a key and take part now.
    pub people: Vec<PersonRow>,
    /// How many public keys its results are encrypted to.
    pub recipients: usize,
}

/// One person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PersonRow {
    /// What log and receipts call this person.
    pub label: String,
    /// Why this person has access.
    pub function: Option<String>,
    /// The keys.
    pub keys: Vec<KeyRow>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyRow {
    /// Its type.
    pub algorithm: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// First day.
    pub not_before: Option<Date>,
    /// Last day.
    pub not_after: Option<Date>,
    /// It is accepted today.
    pub is_valid: bool,
}

/// What happens to files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flow {
    /// Its name.
    pub flow: String,
    /// Who sends.
    pub from: Vec<String>,
    /// Which names; empty: any.
    pub names: Vec<String>,
    /// Largest encrypted file, in bytes.
    pub max_size: u64,
    /// What a list may hold; none where it is not looked at.
    pub list: Option<Table>,
    /// What becomes of a list with faulty rows.
    pub on_fault: Option<Words>,
    /// What is done.
    pub job: Words,
    /// The columns of what comes of it; none where nobody limits them here.
    pub result: Option<Vec<String>>,
    /// How often.
    pub rhythm: Option<Words>,
    /// What leaves for whom.
    pub deliveries: Vec<Going>,
}

/// The agreement behind an exchange.
pub fn agreement(exchange: &Exchange, today: Date) -> Agreement {
    let agreement = &exchange.agreement;
    let hours = |length: std::time::Duration| length.as_secs() / 3_600;
    Agreement {
        reference: agreement.reference.clone(),
        title: agreement.title.clone(),
        legal_basis: agreement.legal_basis.clone(),
        from: agreement.from,
        until: agreement.until,
        standing: match agreement.standing(today) {
            Standing::Ahead { .. } => Words::new("nog niet in werking", "not begun"),
            Standing::Open => Words::new("in werking", "in force"),
            Standing::Ended { .. } => Words::new("beëindigd", "ended"),
        },
        notice_months: agreement.notice,
        contact: agreement.contact.clone(),
        incidents_within_hours: agreement.incidents.as_ref().map(|duty| hours(duty.within)),
        incidents_to: agreement.incidents.as_ref().map(|duty| duty.to.clone()),
        after_end_days: hours(agreement.after_end) / 24,
        has_ended: matches!(agreement.standing(today), Standing::Ended { .. }),
        has_pseudonyms: exchange
            .flows
            .iter()
            .flat_map(|flow| &flow.deliveries)
            .any(|delivery| delivery.columns.iter().flatten().any(|column| column.is_pseudonym)),
        parties_keep: agreement.parties_keep.clone(),
        collected: match exchange.collected.by {
            Collecting::Removal => {
                Words::new("als de ontvanger het verwijdert", "when its receiver removes it")
            }
            Collecting::Download => Words::new(
                "als de ontvanger het volledig heeft opgehaald, of verwijdert",
                "when its receiver has downloaded it whole, or removes it",
            ),
        },
    }
}

/// Who takes part.
pub fn parties(config: &Config, exchange: &Exchange, today: Date) -> Vec<Party> {
    let party = |(name, party): (&crate::policy::path::Slug, &crate::policy::agreement::Party)| {
        let institution = config.institutions.get(name);
        Party {
            institution: name.to_string(),
            title: institution.map_or_else(|| name.to_string(), |institution| institution.title.clone()),
            contact: institution.and_then(|institution| institution.contact.clone()),
            may_drop: party.may_drop,
            may_collect: party.may_collect,
            handoff: exchange.handoff.as_ref() == Some(name),
            at_most: exchange.circles.get(name).and_then(|circle| circle.at_most),
            people: institution.map_or_else(Vec::new, |institution| people(exchange, institution, today)),
            recipients: institution.map_or(0, |institution| institution.recipients.len()),
        }
    };
    exchange.parties.iter().map(party).collect()
}

fn people(exchange: &Exchange, institution: &Institution, today: Date) -> Vec<PersonRow> {
    let key = |key: &PersonKey| KeyRow {
        algorithm: key.algorithm.clone(),
        fingerprint: key.fingerprint.clone(),
        not_before: key.not_before,
        not_after: key.not_after,
        is_valid: key.not_before.is_none_or(|day| day <= today)
            && key.not_after.is_none_or(|day| today <= day),
    };
    let row = |person: &Person| PersonRow {
        label: person.label.clone(),
        function: person.function.clone(),
        keys: person.keys.iter().map(key).collect(),
    };
    exchange.people_of(institution).into_iter().map(row).collect()
}

/// What happens to files.
pub fn flows(exchange: &Exchange) -> Vec<Flow> {
    let flow = |flow: &crate::policy::agreement::Flow| Flow {
        flow: flow.name.to_string(),
        from: flow.from.iter().map(ToString::to_string).collect(),
        names: flow.accept.names.iter().map(|name| name.glob().glob().to_owned()).collect(),
        max_size: flow.accept.max_size,
        list: flow.input.as_ref().map(columns::table),
        on_fault: flow.input.as_ref().map(|_| match flow.on_fault {
            OnFault::Hold => {
                Words::new("één foute rij houdt het hele bestand aan", "one faulty row holds the whole file")
            }
            OnFault::Report => Words::new(
                "foute rijen blijven weg en worden gemeld",
                "faulty rows are left out and reported",
            ),
        }),
        job: columns::job(&flow.job),
        result: match &flow.output {
            Some(rules) => Some(rules.names().map(str::to_owned).collect()),
            None => columns::job_columns(&flow.job).map(<[String]>::to_vec),
        },
        rhythm: flow.rhythm.as_ref().map(columns::rhythm),
        deliveries: flow.deliveries.iter().map(columns::going).collect(),
    };
    exchange.flows.iter().map(flow).collect()
}

/// With what all of it is protected.
pub fn protection(config: &Config) -> Vec<Protection> {
    let machine = &config.machine;
    let offered = serve::offered(machine.algorithms);
    let profile = match machine.algorithms {
        Algorithms::Compat => "compat",
        Algorithms::Strict => "strict",
    };
    let row = |nl: &str, en: &str, with: Words| Protection { what: Words::new(nl, en), with };
    let same = |text: String| Words::new(text.clone(), text);
    let keep = machine.log.keep_days;
    vec![
        row("Programma", "Program", same(format!("dropzone {}", env!("CARGO_PKG_VERSION")))),
        row(
            "Verbinding",
            "Connection",
            Words::new(
                format!("SSH/SFTP, profiel {profile}; aanmelden enkel met een persoonlijke sleutel"),
                format!("SSH/SFTP, profile {profile}; login with a personal key only"),
            ),
        ),
        row("Sleuteluitwisseling", "Key exchange", same(offered.key_exchanges.join(", "))),
        row(
            "Versleuteling van de verbinding",
            "Encryption of the connection",
            same(offered.ciphers.join(", ")),
        ),
        row("Integriteit van de verbinding", "Integrity of the connection", same(offered.macs.join(", "))),
        row("Sleutels van personen", "People's keys", same(offered.signatures.join(", "))),
        row(
            "Versleuteling van bestanden",
            "Encryption of files",
            Words::new(
                "age v1 (X25519, ChaCha20-Poly1305); onversleutelde bestanden worden geweigerd vóór ze de schijf bereiken",
                "age v1 (X25519, ChaCha20-Poly1305); unencrypted files are refused before they reach the disk",
            ),
        ),
        row(
            "Toegangslogboek",
            "Access log",
            Words::new(
                format!(
                    "elke regel draagt de SHA-256 van de vorige; elk uur een ondertekend zegel (Ed25519); {keep} dagen bewaard"
                ),
                format!(
                    "each line carries the SHA-256 of the one before; a signed seal (Ed25519) every hour; kept for {keep} days"
                ),
            ),
        ),
        row(
            "Ontvangstbewijzen en dit verslag",
            "Receipts and this report",
            Words::new(
                "ondertekend met de sleutel van de server (SSHSIG, Ed25519); te controleren met ssh-keygen",
                "signed with the server's key (SSHSIG, Ed25519); ssh-keygen verifies them",
            ),
        ),
    ]
}

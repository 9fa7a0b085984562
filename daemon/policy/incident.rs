//! What is an incident: not a fault of a file or a machine, but a sign that somebody has, tries or altered what is not theirs.
//! Agreements oblige to report those. Here: which record of the access log is a sign of one, and whose; what is kept of it until
//! an operator closes it is `case`'s. What is done about one is an operator's decision.

pub mod case;

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::account::{Institution, LoginRefusal};
use super::agreement::{Exchange, ReportBy, Standing};
use super::path::{RemotePath, Slug};
use super::reason::Reason;
use super::record::{Event, Outcome, Record};

/// In the record of a key that was refused before the same connection came in with another one: agents offer all they hold, so
/// that this is no sign of anything.
pub const CAME_IN_OTHERWISE: &str = "the same connection came in with another key";

/// What happened. The code stands in the access log, in metrics and in what an operator reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Incident {
    /// The encrypted file of one institution was handed in by another.
    OtherInstitution,
    /// The encrypted file of an arrival was handed in under another agreement.
    OtherExchange,
    /// The file on the disk is not the one that was published.
    Substituted,
    /// What says whether a file was here before was not written by `work`, or cannot be read.
    MarkerForged,
    /// An institution sent what was not encrypted: it has left its hands in clear.
    PlaintextRefused,
    /// An institution reached for an exchange that it is no party of.
    ForeignPath,
    /// Somebody tried to come in as an institution with a key that is none of its.
    UnknownKey,
    /// The access log is not as it was sealed.
    LogTampered,
}

impl Incident {
    /// All, for metrics.
    pub const ALL: [Self; 8] = [
        Self::OtherInstitution,
        Self::OtherExchange,
        Self::Substituted,
        Self::MarkerForged,
        Self::PlaintextRefused,
        Self::ForeignPath,
        Self::UnknownKey,
        Self::LogTampered,
    ];

    /// The label.
    pub fn code(self) -> &'static str {
        match self {
            Self::OtherInstitution => "other-institution",
            Self::OtherExchange => "other-exchange",
            Self::Substituted => "substituted",
            Self::MarkerForged => "marker-forged",
            Self::PlaintextRefused => "plaintext-refused",
            Self::ForeignPath => "foreign-path",
            Self::UnknownKey => "unknown-key",
            Self::LogTampered => "log-tampered",
        }
    }

    /// The one of this code.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|incident| incident.code() == code)
    }

    /// Whether the job that met it recorded it as an incident. Of the others, the log holds what happened, and who reads it says
    /// that it is one.
    pub fn is_met_by_jobs(self) -> bool {
        match self {
            Self::OtherInstitution | Self::OtherExchange | Self::Substituted | Self::MarkerForged => true,
            Self::PlaintextRefused | Self::ForeignPath | Self::UnknownKey | Self::LogTampered => false,
        }
    }

    /// In words, for whom it is reported to.
    pub fn words(self) -> &'static str {
        match self {
            Self::OtherInstitution => "the encrypted file of one institution was handed in by another",
            Self::OtherExchange => "an encrypted file was handed in again under another agreement",
            Self::Substituted => "a file on the server's disk is not the one that was handed in",
            Self::MarkerForged => "the server's memory of the files it has seen was altered",
            Self::PlaintextRefused => "a file that was not encrypted was sent; it was refused and not stored",
            Self::ForeignPath => {
                "an institution reached for an exchange that it has no part in; it was shown nothing"
            }
            Self::UnknownKey => {
                "somebody tried to log in as an institution with a key that is none of its; nobody was let in"
            }
            Self::LogTampered => "the access log is not as it was sealed",
        }
    }
}

/// What the configuration says, as far as signs are judged by it.
#[derive(Debug, Clone, Copy)]
pub struct Knowledge<'a> {
    /// Who may log in.
    pub institutions: &'a BTreeMap<Slug, Institution>,
    /// The agreements.
    pub exchanges: &'a BTreeMap<Slug, Exchange>,
}

/// A sign of an incident. Cases are kept by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sign {
    /// Of what.
    pub kind: Incident,
    /// Whose doing it was, or in whose name.
    pub institution: Option<Slug>,
    /// In which exchange.
    pub exchange: Option<Slug>,
}

/// The sign that a record is, if it is one. The record may come from a process that was taken over: what it names counts only as
/// far as the zone knows it.
pub fn sign_of(record: &Record, zone: Knowledge<'_>) -> Option<Sign> {
    let institution = record.institution.as_deref().and_then(|name| zone.institution(name));
    let exchange = record.exchange.as_ref().filter(|name| zone.exchanges.contains_key(*name)).cloned();
    let is_denied_for = |code: &str| {
        record.outcome == Outcome::Denied && record.reason.as_deref().is_some_and(|reason| reason == code)
    };
    let sign = |kind, institution, exchange| Some(Sign { kind, institution, exchange });
    if record.event == Event::Incident {
        // What was recorded because a case was opened must not open another one.
        let kind = Incident::of_code(record.detail.as_deref()?).filter(|kind| kind.is_met_by_jobs())?;
        return sign(kind, institution, exchange);
    }
    if record.event == Event::Seal {
        let is_broken = record.outcome == Outcome::Failed && record.path.is_some();
        return if is_broken { sign(Incident::LogTampered, None, None) } else { None };
    }
    // What strangers do in nobody's name is no sign of anything.
    let institution = institution?;
    if record.event == Event::Login {
        let came_in = record.detail.as_deref() == Some(CAME_IN_OTHERWISE);
        let is_sign = is_denied_for(LoginRefusal::UnknownKey.code()) && !came_in;
        return if is_sign { sign(Incident::UnknownKey, Some(institution), None) } else { None };
    }
    if record.event == Event::Refuse && is_denied_for(Reason::NotEncrypted.code()) {
        return sign(Incident::PlaintextRefused, Some(institution), exchange);
    }
    if is_denied_for(Reason::NoSuchPath.code()) {
        let mut paths = record.path.iter().chain(&record.new_path);
        let foreign = paths.find_map(|path| zone.foreign(path, &institution))?;
        return sign(Incident::ForeignPath, Some(institution), Some(foreign));
    }
    None
}

impl<'a> Knowledge<'a> {
    fn institution(&self, name: &str) -> Option<Slug> {
        Slug::parse(name).ok().filter(|name| self.institutions.contains_key(name))
    }

    /// The exchange that a path leads to, if it is one that the institution is no party of.
    fn foreign(&self, path: &str, institution: &Slug) -> Option<Slug> {
        let path = RemotePath::parse(path).ok()?.to_string();
        let first = path.split('/').find(|part| !part.is_empty())?;
        let exchange = self.exchanges.get(&Slug::parse(first).ok()?)?;
        (!exchange.parties.contains_key(institution)).then(|| exchange.name.clone())
    }

    /// By when whom a sign is to be reported to: what its exchange says; without one, or where that says nothing, the strictest
    /// of the institution's exchanges in force; where there is no institution either, of all in force.
    pub fn duty(self, sign: &Sign, today: Date) -> Option<(&'a Exchange, &'a ReportBy)> {
        fn says(exchange: &Exchange) -> Option<(&Exchange, &ReportBy)> {
            exchange.agreement.incidents.as_ref().map(|report| (exchange, report))
        }
        let own = sign.exchange.as_ref().and_then(|name| self.exchanges.get(name)).and_then(says);
        let concerns = |exchange: &&Exchange| {
            let is_party = |institution: &Slug| exchange.parties.contains_key(institution);
            sign.institution.as_ref().is_none_or(is_party)
                && exchange.agreement.standing(today) == Standing::Open
        };
        let others = || {
            let all = self.exchanges.values().filter(concerns).filter_map(says);
            all.min_by_key(|(_, report)| report.within)
        };
        own.or_else(others)
    }
}

#[cfg(test)]
mod tests;

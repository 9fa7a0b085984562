//! What came in, from the receipts: they outlive the access log, and each is signed, so that this is told whether it still fits.
//! What the log knows and no receipt tells is added behind them.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use serde::Serialize;

use super::facts::{Listed, Timed, Words};
use super::wording;
use crate::policy::quality::Counts;
use crate::policy::receipt::{Content, Receipt, Verdict};
use crate::policy::record::Line;
use crate::policy::signature::{Distrust, Namespace, ZoneKey};

/// What is told of the arrivals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Arrivals {
    /// What became of them, by the code of the verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Rows that were handed in, where they were read.
    pub rows_in: u64,
    /// Rows that were given back.
    pub rows_out: u64,
    /// Results that were delivered.
    pub deliveries: u64,
    /// Files that only their form was checked of: relayed end to end.
    pub not_opened: u64,
    /// Known from the access log only, because their receipt is not there yet, or not any more.
    pub without_receipt: u64,
    /// Waiting for their turn now.
    pub waiting: u64,
    /// Whether the signatures under the receipts still fit.
    pub signatures: Signatures,
    /// The newest, by time.
    #[serde(flatten)]
    pub rows: Listed<Row>,
}

/// Whether the signatures under receipts fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signatures {
    /// They fit.
    pub good: u64,
    /// They were made with a key that is not the zone's own now.
    pub other_key: u64,
    /// They do not fit: the receipt was altered, or is no receipt.
    pub bad: u64,
    /// There was no key to check with.
    pub unchecked: u64,
}

/// One arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// When it was received or refused.
    pub time: Timestamp,
    /// Its id.
    pub arrival: String,
    /// As the sender named it.
    pub name: String,
    /// The sender.
    pub institution: String,
    /// The person.
    pub person: String,
    /// What became of it; none where only the log knows of it.
    pub verdict: Option<Verdict>,
    /// Why, where it is not simply delivered.
    pub reason: Option<Words>,
    /// Its code.
    pub reason_code: Option<String>,
    /// Rows of the list.
    pub rows_in: Option<u64>,
    /// Rows of the result.
    pub rows_out: Option<u64>,
    /// What its rows were found to be, where there are rules for them.
    pub quality: Option<Counts>,
    /// Bytes of the encrypted file.
    pub bytes: u64,
    /// Of the encrypted file.
    pub sha256: Option<String>,
    /// What went to whom.
    pub deliveries: Vec<Sent>,
    /// The signature under its receipt fits.
    pub is_signed: bool,
}

/// What went to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sent {
    /// The receiver.
    pub to: String,
    /// The one person of it who can open it; none where the institution can.
    pub person: Option<String>,
    /// The file's name there.
    pub name: String,
    /// Of the encrypted result.
    pub sha256: String,
}

impl Timed for Row {
    fn time(&self) -> Timestamp {
        self.time
    }
}

/// Takes receipts, then what the log adds.
#[derive(Debug, Default)]
pub struct Collector {
    arrivals: Arrivals,
    key: Option<ZoneKey>,
    // Digests of ids: a million ids themselves would take a hundred times as much as the report.
    known: HashSet<u64>,
}

/// What is counted in the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// When.
    pub time: Timestamp,
    /// It was turned away at the gate.
    pub is_refused: bool,
}

impl Collector {
    /// Signatures are checked with this key.
    pub fn new(key: Option<ZoneKey>) -> Self {
        Self { key, ..Self::default() }
    }

    /// Takes a receipt with its signature; `belongs` says whether its arrival is of the span.
    pub fn receipt(
        &mut self,
        (text, signature): (&[u8], &[u8]),
        belongs: impl Fn(&Receipt) -> bool,
    ) -> Option<Taken> {
        let Ok(receipt) = serde_json::from_slice::<Receipt>(text) else {
            self.arrivals.signatures.bad += 1;
            return None;
        };
        if !belongs(&receipt) {
            return None;
        }
        let is_signed = self.check(text, signature);
        self.known.insert(digest(&receipt.arrival.to_string()));
        let taken = Taken { time: receipt.received, is_refused: receipt.verdict == Verdict::Refused };
        let arrivals = &mut self.arrivals;
        *arrivals.verdicts.entry(code(receipt.verdict)).or_default() += 1;
        let rows = |count: fn(&crate::policy::receipt::JobReport) -> Option<u64>| {
            receipt.job.as_ref().and_then(count)
        };
        let (rows_in, rows_out) = (rows(|job| job.rows_in), rows(|job| job.rows_out));
        arrivals.rows_in = arrivals.rows_in.saturating_add(rows_in.unwrap_or(0));
        arrivals.rows_out = arrivals.rows_out.saturating_add(rows_out.unwrap_or(0));
        arrivals.deliveries += receipt.deliveries.len() as u64;
        let is_relayed = receipt.content == Content::StructureOnly && receipt.verdict == Verdict::Delivered;
        arrivals.not_opened += u64::from(is_relayed);
        arrivals.rows.take(row(receipt, (rows_in, rows_out), is_signed));
        Some(taken)
    }

    /// Takes a record of a file that was taken in or refused; none where its receipt is known.
    pub fn record(&mut self, line: &Line, is_refused: bool) -> Option<Taken> {
        let record = &line.record;
        let arrival = record.arrival.as_deref()?;
        if !self.known.insert(digest(arrival)) {
            return None;
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let reason_code = record.reason.clone();
        self.arrivals.without_receipt += 1;
        self.arrivals.rows.take(Row {
            time: line.time,
            arrival: arrival.to_owned(),
            name: text(&record.path).rsplit('/').next().unwrap_or_default().to_owned(),
            institution: text(&record.institution),
            person: text(&record.key_label),
            verdict: is_refused.then_some(Verdict::Refused),
            reason: reason_code.as_deref().and_then(wording::reason),
            reason_code,
            rows_in: None,
            rows_out: None,
            quality: None,
            bytes: record.bytes.unwrap_or(0),
            sha256: record.sha256.clone(),
            deliveries: Vec::new(),
            is_signed: false,
        });
        Some(Taken { time: line.time, is_refused })
    }

    /// All that was taken.
    pub fn finish(mut self, waiting: u64) -> Arrivals {
        self.arrivals.waiting = waiting;
        self.arrivals.rows.settle();
        self.arrivals
    }

    fn check(&mut self, text: &[u8], signature: &[u8]) -> bool {
        let signatures = &mut self.arrivals.signatures;
        let verified = self.key.as_ref().map(|key| key.verify(Namespace::Receipt, text, signature));
        match verified {
            None => signatures.unchecked += 1,
            Some(Ok(())) => signatures.good += 1,
            Some(Err(Distrust::OtherKey { .. })) => signatures.other_key += 1,
            Some(Err(Distrust::NotASignature | Distrust::OtherNamespace | Distrust::OtherText)) => {
                signatures.bad += 1;
            }
        }
        verified == Some(Ok(()))
    }
}

/// As receipts call a verdict.
pub fn code(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::InProgress => "in-progress",
        Verdict::Delivered => "delivered",
        Verdict::Repeated => "repeated",
        Verdict::Held => "held",
        Verdict::Refused => "refused",
        Verdict::Discarded => "discarded",
    }
}

fn row(receipt: Receipt, (rows_in, rows_out): (Option<u64>, Option<u64>), is_signed: bool) -> Row {
    let sent = receipt.deliveries.into_iter().map(|delivery| Sent {
        to: delivery.to.to_string(),
        person: delivery.person,
        name: delivery.name.to_string(),
        sha256: delivery.sha256,
    });
    let reason = receipt.reason;
    Row {
        time: receipt.received,
        arrival: receipt.arrival.to_string(),
        name: receipt.name.to_string(),
        institution: receipt.institution.to_string(),
        person: receipt.by.key_label,
        verdict: Some(receipt.verdict),
        reason_code: reason.as_ref().map(|reason| reason.code.clone()),
        reason: reason.map(|reason| Words::new(reason.nl, reason.en)),
        rows_in,
        rows_out,
        quality: receipt.quality.map(|quality| quality.counts),
        bytes: receipt.size,
        sha256: receipt.sha256,
        deliveries: sent.collect(),
        is_signed,
    }
}

fn digest(arrival: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    arrival.hash(&mut hasher);
    hasher.finish()
}

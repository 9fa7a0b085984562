//! What a receipt says at each turn of an arrival's life, and writing it: recorded first, then put in place of the one
//! before. The form of a receipt is `policy::receipt`'s.

use jiff::Timestamp;

use super::deliver::Progress;
use super::{Unfinished, Workshop, record_of};
use crate::host::spool::{Claim, SpoolError};
use crate::policy::arrival::{Arrival, receipt_name};
use crate::policy::path::{Folder, Name};
use crate::policy::published::{self, signature_name};
use crate::policy::reason::Reason;
use crate::policy::receipt::{Explanation, JobReport, Receipt, Verdict};
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::signature::Namespace;

/// Where an arrival stands.
pub struct Standing<'a> {
    /// In one word.
    pub verdict: Verdict,
    /// Why, where it is not simply delivered.
    pub reason: Option<&'a Reason>,
    /// When its job ended.
    pub finished: Option<Timestamp>,
}

impl Standing<'_> {
    /// Claimed, nothing known yet.
    pub const IN_PROGRESS: Standing<'static> =
        Standing { verdict: Verdict::InProgress, reason: None, finished: None };
}

/// The receipt of an accepted arrival.
pub fn receipt(arrival: &Arrival, agreement: &str, standing: &Standing<'_>, progress: &Progress) -> Receipt {
    Receipt {
        finished: standing.finished,
        content: progress.content,
        reason: standing.reason.map(Explanation::from),
        job: progress.kind.map(|kind| JobReport {
            kind: kind.to_owned(),
            tries: progress.tries,
            rows_in: progress.rows_in,
            rows_out: progress.rows_out,
        }),
        quality: progress.quality.clone(),
        deliveries: progress.deliveries.clone(),
        ..Receipt::of(arrival, agreement, standing.verdict)
    }
}

/// The receipt of an arrival that is the same as an earlier one.
pub fn repetition(arrival: &Arrival, agreement: &str, reason: &Reason, at: Timestamp) -> Receipt {
    Receipt {
        finished: Some(at),
        reason: Some(Explanation::from(reason)),
        ..Receipt::of(arrival, agreement, Verdict::Repeated)
    }
}

/// A receipt and its signature.
struct Paper {
    name: Name,
    json: Vec<u8>,
    signature_name: Name,
    signature: String,
}

impl Paper {
    fn receipt(&self) -> (&Name, &[u8]) {
        (&self.name, &self.json)
    }

    fn signature(&self) -> (&Name, &str) {
        (&self.signature_name, &self.signature)
    }
}

impl Workshop {
    /// Writes the receipt of a claimed arrival in place of the one before.
    pub(super) fn write_receipt(
        &self,
        claim: &Claim<'_>,
        arrival: &Arrival,
        receipt: &Receipt,
    ) -> Result<(), Unfinished> {
        // Only the move itself is safe from a claim that is lost now; this spares the log a record of what will not be.
        if claim.is_lost() {
            return Err(SpoolError::Lost(arrival.id.to_string()).into());
        }
        let paper = self.signed(arrival, receipt)?;
        Ok(claim.publish_receipt(paper.receipt(), paper.signature())?)
    }

    /// Records and signs a receipt.
    fn signed(&self, arrival: &Arrival, receipt: &Receipt) -> Result<Paper, Unfinished> {
        let name = receipt_name(arrival);
        let mut json =
            serde_json::to_vec_pretty(receipt).map_err(|error| Unfinished::Json(error.to_string()))?;
        json.push(b'\n');
        let signature = self.signer.sign(Namespace::Receipt, &json)?;
        let signature_name = signature_name(&name).ok_or_else(|| Unfinished::Json(name.to_string()))?;
        self.log.append(&Record {
            path: Some(format!("/{}/{}/{name}", arrival.id.exchange(), Folder::Receipts.as_str())),
            bytes: Some(json.len() as u64),
            reason: receipt.reason.as_ref().map(|reason| reason.code.clone()),
            ..record_of(Event::Receipt, Outcome::Ok, arrival)
        })?;
        Ok(Paper { name, json, signature_name, signature })
    }

    /// The receipt of an upload that the gate refused; written once.
    pub(super) fn write_refusal(&self, arrival: &Arrival) -> Result<(), Unfinished> {
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        if self.spool.has_receipt(institution, exchange, &receipt_name(arrival))? {
            return Ok(());
        }
        let refusal = Receipt {
            finished: Some(arrival.received),
            ..Receipt::of(arrival, &self.agreement(arrival), Verdict::Refused)
        };
        self.write_unclaimed(arrival, &refusal)
    }

    /// Writes a receipt of which whoever writes it writes the same, so that it needs no claim.
    pub(super) fn write_unclaimed(&self, arrival: &Arrival, receipt: &Receipt) -> Result<(), Unfinished> {
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        let paper = self.signed(arrival, receipt)?;
        Ok(self.spool.write_receipt(institution, exchange, paper.receipt(), paper.signature())?)
    }

    /// Puts the public key, and the page that says how to use it, where institutions find their receipts.
    pub(super) fn publish_key(&self) -> Result<(), SpoolError> {
        let key = self.signer.public();
        let (signers, readme) = (key.allowed_signers(), published::readme(&key));
        for (institution, exchange) in self.config().pairs() {
            for (name, text) in [(published::ALLOWED_SIGNERS, &signers), (published::README, &readme)] {
                self.spool.keep_beside_receipts(&institution, &exchange, (name, text.as_bytes()))?;
            }
        }
        Ok(())
    }

    /// The reference of the agreement behind an arrival; empty where the configuration has lost it.
    pub(super) fn agreement(&self, arrival: &Arrival) -> String {
        let config = self.config();
        let exchange = config.exchanges.get(arrival.id.exchange());
        exchange.map_or_else(String::new, |exchange| exchange.agreement.reference.clone())
    }
}

//! The passphrase of a result that is locked with one: made here, kept encrypted to the zone's own identities until it is handed
//! out, and handed to an operator who asks. In clear it lies in memory only. How long before its result leaves it is kept
//! says `host::spool::passphrases`; handing it to a program is `messenger`'s business.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use age::scrypt;
use age::secrecy::SecretString;
use age::{Encryptor, Recipient};
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

use super::deliver::{JobError, Staged};
use super::open::{self, OpenError};
use super::{Workshop, record_about};
use crate::host::control::{Answer, Operator, PassphraseRow};
use crate::host::log::LogError;
use crate::host::metrics::HandOver;
use crate::host::process;
use crate::host::spool::{Claim, HeldPassphrase, PassphraseEntry, PassphraseKey, SpoolError};
use crate::policy::passphrase::{Kept, LENGTH, Locked, Meant, Passphrase, Shown};
use crate::policy::path::{Name, Slug};
use crate::policy::receipt::{Delivery, Receiver};
use crate::policy::record::{Event, Outcome, Record};

/// scrypt's N is 2 to this. Stretching guards weak passphrases, and one of 125 bits is not weak: so it is less than what the
/// library would take this machine a second for. At 64 MiB a receiver's oldest machine opens it, and so do age (up to
/// 22 by default) and rage (what takes that machine 16 seconds).
const WORK_FACTOR: u8 = 16;
/// More than `kept` takes as JSON, so that it is never reallocated, which would leave a copy behind.
pub(super) const JSON_ROOM: usize = 16 << 10;
/// Passphrases that are looked into for one request.
const LOOKED_INTO: usize = 10_000;

/// A passphrase is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Locksmith {
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No record, no passphrase.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is kept does not open.
    #[error("what is kept of it does not open with the zone's identities: {0}")]
    Open(#[from] OpenError),
    /// What is kept is not what it should be.
    #[error("what is kept of it is damaged, or belongs to another delivery")]
    Damaged,
}

/// A new passphrase, of 125 bits from the operating system.
pub fn generate() -> io::Result<Passphrase> {
    let mut random = Zeroizing::new([0_u8; LENGTH]);
    let filled = getrandom(&mut random[..], GetRandomFlags::empty())?;
    // So few bytes come at once, or not at all.
    if filled == LENGTH { Ok(Passphrase::of(&random)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Begins an age file that this passphrase opens.
pub fn begin(passphrase: &Passphrase) -> io::Result<Encryptor> {
    let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.as_str().to_owned()));
    recipient.set_work_factor(WORK_FACTOR);
    Encryptor::with_recipients(std::iter::once(&recipient as &dyn Recipient)).map_err(io::Error::other)
}

/// The passphrases of the results of one job, from when they are made until they are kept.
#[derive(Default)]
pub struct Keyring(Mutex<BTreeMap<Slug, Passphrase>>);

impl Keyring {
    /// Begins a receiver's file, with a passphrase of its own.
    pub fn begin(&self, receiver: &Receiver) -> io::Result<Encryptor> {
        let passphrase = generate()?;
        let encryptor = begin(&passphrase)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(receiver.institution.clone(), passphrase);
        Ok(encryptor)
    }
}

/// Does what an operator asked at the control socket: the passphrase of one delivery.
pub(super) async fn show(workshop: Arc<Workshop>, meant: Meant, operator: Operator) -> Answer {
    let shown = tokio::task::spawn_blocking(move || workshop.show_passphrase(&meant, &operator)).await;
    told(shown.map(|shown| shown.map(|shown| Answer::Passphrase(Box::new(shown)))))
}

/// The same: it was shown, and is not to be kept any longer.
pub(super) async fn shown(workshop: Arc<Workshop>, key: PassphraseKey, operator: Operator) -> Answer {
    Answer::of(tokio::task::spawn_blocking(move || workshop.forget_passphrase(&key, &operator))).await
}

/// The same: which there are.
pub(super) async fn list(workshop: Arc<Workshop>) -> Answer {
    told(tokio::task::spawn_blocking(move || workshop.list_passphrases().map(Answer::Passphrases)).await)
}

fn told(done: Result<Result<Answer, String>, tokio::task::JoinError>) -> Answer {
    match done {
        Ok(Ok(answer)) => answer,
        Ok(Err(problem)) => Answer::Refused(vec![problem]),
        Err(_) => Answer::Refused(vec!["it ended in a defect of this program".to_owned()]),
    }
}

impl Workshop {
    /// Keeps the passphrases of results that are staged, durably. To be called before the first of them leaves.
    pub(super) fn keep_passphrases(
        &self,
        claim: &Claim<'_>,
        keyring: Keyring,
        staged: &[Staged],
    ) -> Result<(), JobError> {
        let all = keyring.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (to, passphrase) in all {
            let Some(result) = staged.iter().find(|result| result.receiver.institution == to) else {
                continue;
            };
            let (arrival, made) = (claim.id().clone(), self.clock.now());
            let (name, sha256) = (result.name.clone(), result.sha256.clone());
            let kept = Kept { locked: Locked { arrival, to, name, sha256, made }, passphrase };
            self.keep_passphrase(claim, &kept)?;
        }
        Ok(())
    }

    /// A result has left, in this try or an earlier one: from now on its passphrase, if it has one, is handed out.
    pub(super) fn passphrase_is_due(&self, claim: &Claim<'_>, delivery: &Delivery) -> Result<(), SpoolError> {
        if delivery.person.is_none() { claim.passphrase_is_due(&delivery.to) } else { Ok(()) }
    }

    /// Of a result that lies in the outbox although no note says so, as where a backup was made in between: nobody can open it
    /// whose passphrase is not kept, so it is not taken for delivered.
    pub(super) fn require_its_passphrase(
        &self,
        claim: &Claim<'_>,
        (receiver, name): (&Receiver, &Name),
        sha256: &str,
    ) -> Result<(), JobError> {
        let key = PassphraseKey { arrival: claim.id().clone(), to: receiver.institution.clone() };
        if receiver.person.is_some() || !self.spool.is_passphrase_pending(&key) {
            return Ok(());
        }
        let kept =
            self.read_kept(&key).inspect_err(|error| tracing::error!(%error, "a passphrase cannot be read"));
        if kept.is_ok_and(|kept| kept.is_some_and(|kept| kept.locked.sha256 == sha256)) {
            // Of the file that was made just now and will not leave.
            return Ok(self.spool.drop_pending_passphrase(&key)?);
        }
        Err(SpoolError::Exists(format!("outbox/{receiver}/{name}, whose passphrase is not known,")).into())
    }

    fn keep_passphrase(&self, claim: &Claim<'_>, kept: &Kept) -> Result<(), JobError> {
        let mut json = Zeroizing::new(Vec::with_capacity(JSON_ROOM));
        serde_json::to_writer(&mut *json, kept).map_err(io::Error::other)?;
        let sealed = self.identities.seal(&json)?;
        Ok(claim.keep_passphrase(&kept.locked.to, &sealed)?)
    }

    /// What is kept in an encrypted file.
    pub(super) fn unseal(&self, key: &PassphraseKey, sealed: &[u8]) -> Result<Kept, Locksmith> {
        let json = open::open(sealed, sealed.len() as u64, false, &self.identities)?;
        let kept: Kept = serde_json::from_slice(&json).map_err(|_| Locksmith::Damaged)?;
        let is_its_own = kept.locked.arrival == key.arrival && kept.locked.to == key.to;
        if is_its_own { Ok(kept) } else { Err(Locksmith::Damaged) }
    }

    /// Those whose results are delivered.
    pub(super) fn ready_passphrases(&self) -> Result<Vec<PassphraseEntry>, SpoolError> {
        let mut ready = self.spool.passphrases()?;
        ready.retain(|entry| entry.is_ready);
        Ok(ready)
    }

    pub(super) fn show_passphrase(&self, meant: &Meant, operator: &Operator) -> Result<Shown, String> {
        require_trust(operator)?;
        let all = self.all_kept().map_err(|error| error.to_string())?;
        let locked: Vec<&Locked> = all.iter().map(|kept| &kept.locked).collect();
        let Locked { arrival, to, .. } = meant
            .among(&locked)
            .map(|at| locked.get(at).copied())?
            .ok_or("the list of passphrases has changed")?;
        let key = PassphraseKey { arrival: arrival.clone(), to: to.clone() };
        let shown = self.take_out(&key, operator).map_err(|error| format!("{arrival} to {to}: {error}"))?;
        shown.ok_or_else(|| format!("{arrival} to {to}: it was handed out just now"))
    }

    /// Recorded before anybody sees it.
    fn take_out(&self, key: &PassphraseKey, operator: &Operator) -> Result<Option<Shown>, Locksmith> {
        let Some(held) = self.spool.hold_passphrase(key)? else { return Ok(None) };
        let Kept { locked, passphrase } = self.unseal(key, &held.sealed()?)?;
        self.log.append(&Record {
            operator: Some(operator.to_string()),
            ..handing_out(&locked, Outcome::Ok, "handed to the operator")
        })?;
        tracing::info!(arrival = %locked.arrival, to = %locked.to, %operator, "a passphrase was handed to an operator");
        self.passphrases.handed_over(HandOver::Operator);
        let config = self.config();
        let institution = config.institutions.get(&locked.to);
        Ok(Some(Shown {
            title: institution.map(|institution| institution.title.clone()),
            contact: institution.and_then(|institution| institution.contact.clone()),
            phone: institution.and_then(|institution| institution.phone.clone()),
            locked,
            passphrase,
        }))
    }

    pub(super) fn forget_passphrase(
        &self,
        key: &PassphraseKey,
        operator: &Operator,
    ) -> Result<String, String> {
        require_trust(operator)?;
        let removed =
            self.spool.hold_passphrase(key).and_then(|held| held.map_or(Ok(()), HeldPassphrase::remove));
        removed.map_err(|error| error.to_string())?;
        Ok("it is not kept any longer".to_owned())
    }

    pub(super) fn list_passphrases(&self) -> Result<Vec<PassphraseRow>, String> {
        let row = |Kept { locked, .. }: Kept| {
            let key = PassphraseKey { arrival: locked.arrival.clone(), to: locked.to.clone() };
            let handing_over = self.spool.handing_over(&key);
            PassphraseRow { locked, handing_over }
        };
        Ok(self.all_kept().map_err(|error| error.to_string())?.into_iter().map(row).collect())
    }

    /// All whose results are delivered. One that cannot be read does not keep the others.
    fn all_kept(&self) -> Result<Vec<Kept>, SpoolError> {
        let read = |PassphraseEntry { key, .. }: &PassphraseEntry| match self.read_kept(key) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(arrival = %key.arrival, to = %key.to, %error, "a passphrase that is kept cannot be read");
                None
            }
        };
        Ok(self.ready_passphrases()?.iter().take(LOOKED_INTO).filter_map(read).collect())
    }

    fn read_kept(&self, key: &PassphraseKey) -> Result<Option<Kept>, Locksmith> {
        let sealed = self.spool.sealed_passphrase(key)?;
        sealed.map(|sealed| self.unseal(key, &sealed)).transpose()
    }
}

/// Others of the zone's group may ask for much, and `serve`, which the network could take over, is one of them.
fn require_trust(operator: &Operator) -> Result<(), String> {
    if operator.user() == 0 || operator.user() == process::user() {
        return Ok(());
    }
    tracing::error!(%operator, "refused: a passphrase is handed to root and to the user of `work` only");
    Err("passphrases are handed to root and to the user of `work` only: run the command as one of them"
        .to_owned())
}

/// For the log: everything but the passphrase.
pub(super) fn handing_out(locked: &Locked, outcome: Outcome, how: &str) -> Record {
    Record {
        path: Some(locked.path()),
        sha256: Some(locked.sha256.clone()),
        detail: Some(format!("to {}: {how}", locked.to)),
        ..record_about(Event::Passphrase, outcome, &locked.arrival)
    }
}

#[cfg(test)]
mod tests;

//! The pseudonym key of an exchange, for a job that needs it, and its end. Where it lies is `host::spool`'s business, what is
//! made with it `policy::pseudonym`'s.

use super::deliver::JobError;
use super::{Unfinished, Workshop};
use crate::policy::path::Slug;
use crate::policy::pseudonym::PseudonymKey;
use crate::policy::record::{Event, Outcome, Record};

impl Workshop {
    /// The key of an exchange, made at the first need.
    pub(super) fn pseudonym_key(&self, exchange: &Slug) -> Result<PseudonymKey, JobError> {
        self.spool.pseudonym_key(exchange)?.ok_or_else(|| {
            JobError::Setup(format!(
                "the pseudonym key of {exchange} was destroyed, as its agreement demanded: a new agreement needs an exchange of \
                 another name; if pseudonyms may begin anew in this one, remove pseudonyms/{exchange}.destroyed from the spool"
            ))
        })
    }

    /// Destroys the key of an exchange whose agreement is over, for good, and records that first. Whether there was one.
    pub fn destroy_pseudonyms(&self, exchange: &Slug) -> Result<bool, Unfinished> {
        let Some(key) = self.spool.present_pseudonym_key(exchange)? else { return Ok(false) };
        self.log.append(&Record {
            exchange: Some(exchange.clone()),
            detail: Some(format!("pseudonym key {}", key.name())),
            ..Record::new(Event::Destroy, Outcome::Ok)
        })?;
        drop(key);
        Ok(self.spool.destroy_pseudonym_key(exchange, self.clock.now())?)
    }
}

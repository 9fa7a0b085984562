//! Gives arrivals their place in the rhythm of their flow, just before the job; and says how each flow stands with what was
//! agreed. Whether there is a place is `policy::rhythm`'s question, keeping count `host::spool::ledger`'s. Keys that come
//! once only leave nothing but marks: HMAC-SHA-256 with a secret of the exchange, which lies encrypted to the zone beside
//! the marks, so that a copy of the spool, or a backup, tells nobody whose they are.

use aws_lc_rs::{hmac, rand};
use jiff::civil::Date;
use zeroize::Zeroizing;

use super::Workshop;
use super::deliver::{JobError, Order};
use super::open::{self, OpenError};
use super::query::ROWS_BETWEEN_LOOKS;
use super::stop::Stop;
use crate::host::spool::{Entered, SpoolError};
use crate::policy::agreement::{Exchange, Flow};
use crate::policy::arrival::Arrival;
use crate::policy::path::Slug;
use crate::policy::rhythm::{ArrivalKey, Mark, Pace, Quota, Use, key, name_key};
use crate::policy::table::Table;

const SECRET_BYTES: usize = 32;
const DOMAIN: &str = "dropzone rhythm 1";

impl Workshop {
    /// Gives an arrival its place, or says why there is none; a later try meets its own. `table` is its list with the rows that
    /// go on, none where the zone cannot read it.
    pub(super) fn take_place(
        &self,
        arrival: &Arrival,
        order: Order<'_>,
        table: Option<&Table<'_>>,
        stop: &Stop,
    ) -> Result<(), JobError> {
        let Some(rhythm) = &order.flow.rhythm else { return Ok(()) };
        let mut own = self.place_of(arrival);
        let mut marks = Vec::new();
        match &rhythm.once_per {
            None => {}
            Some(ArrivalKey::Name) => {
                let marker = self.marker(order.exchange, order.flow, &[])?;
                own.name = Some(marker.mark([name_key(&arrival.name).as_str()]));
            }
            Some(ArrivalKey::Columns(columns)) => {
                let marker = self.marker(order.exchange, order.flow, columns)?;
                let table = table.ok_or_else(|| JobError::Setup(unreadable(columns)))?;
                marks = marks_of(&marker, table, columns, stop)?;
            }
        }
        let ledger = self.spool.ledger(&order.exchange.name, &order.flow.name, self.clock.today())?;
        let admit = |uses: &[Use]| rhythm.admit(order.exchange.agreement.from, &own, uses);
        match ledger.enter(&own, &marks, &admit)? {
            Entered::In => Ok(()),
            Entered::Out(reason) => Err(JobError::Refused(reason)),
        }
    }

    /// What an operator decided about an arrival that was too many: it has a place all the same.
    pub(super) fn allow_surplus(&self, arrival: &Arrival) -> Result<(), SpoolError> {
        let Some(flow) = &arrival.flow else { return Ok(()) };
        let ledger = self.spool.ledger(arrival.id.exchange(), flow, self.clock.today())?;
        ledger.allow(&self.place_of(arrival))
    }

    /// The day counts on which it was received; what claims to come from the future came today.
    fn place_of(&self, arrival: &Arrival) -> Use {
        let now = self.clock.now();
        Use {
            arrival: arrival.id.clone(),
            day: self.clock.day_of(arrival.received.min(now)),
            taken: now,
            name: None,
            is_allowed: false,
            is_freed: false,
        }
    }

    /// Shows monitoring how every flow stands from which lists are expected.
    pub(super) fn tell_rhythm(&self) {
        let (config, today) = (self.config(), self.clock.today());
        for exchange in config.exchanges.values() {
            for flow in &exchange.flows {
                let Some(quota) = flow.rhythm.as_ref().and_then(|rhythm| rhythm.quota) else { continue };
                match self.pace(exchange, flow, quota, today) {
                    Ok(Some(pace)) => {
                        let due = pace.due.map(|day| self.clock.end_of(day));
                        self.metrics.rhythm.tell(
                            &exchange.name,
                            &flow.name,
                            due,
                            pace.missing_since.is_some(),
                        );
                    }
                    Ok(None) => self.metrics.rhythm.tell(&exchange.name, &flow.name, None, false),
                    Err(error) => {
                        tracing::error!(%error, exchange = %exchange.name, flow = %flow.name, "its rhythm cannot be read");
                    }
                }
            }
        }
    }

    /// None where nothing is expected today. The count begins when this zone first sees the agreement in force.
    fn pace(
        &self,
        exchange: &Exchange,
        flow: &Flow,
        quota: Quota,
        today: Date,
    ) -> Result<Option<Pace>, SpoolError> {
        if !quota.is_expected || exchange.require_open(today).is_err() {
            return Ok(None);
        }
        self.spool.ledger(&exchange.name, &flow.name, today)?;
        let kept = self.spool.kept(&exchange.name, &flow.name)?;
        Ok(kept.map(|kept| quota.pace(&exchange.agreement, kept.since, today, &kept.uses)))
    }

    fn marker(&self, exchange: &Exchange, flow: &Flow, columns: &[String]) -> Result<Marker, JobError> {
        let sealed = self.spool.rhythm_secret(&exchange.name, || self.new_secret())?;
        let secret = open::open(sealed.as_slice(), sealed.len() as u64, false, &self.identities);
        let secret = secret.map_err(|error| match error {
            OpenError::Content(reason) => JobError::Setup(format!(
                "rhythm/{}/secret.age in the spool cannot be opened ({}): it is encrypted to an age identity that is not \
                 under `identities` any more; put that one back",
                exchange.name,
                reason.code()
            )),
            other => other.into(),
        })?;
        Ok(Marker::new(&secret, &exchange.name, &flow.name, columns))
    }

    fn new_secret(&self) -> Result<Vec<u8>, JobError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        rand::fill(&mut *secret).map_err(|_| JobError::Setup("there is no randomness".to_owned()))?;
        Ok(self.identities.seal(&*secret)?)
    }
}

/// Makes the marks of one flow and column.
struct Marker {
    /// Has the secret and the domain in it; the library wipes it when it is dropped.
    begun: hmac::Context,
}

impl Marker {
    /// Of file names where there are no columns.
    fn new(secret: &[u8], exchange: &Slug, flow: &Slug, columns: &[String]) -> Self {
        let mut begun = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        let columns = columns.iter().map(String::as_str);
        for part in [DOMAIN, exchange.as_str(), flow.as_str()].into_iter().chain(columns).chain([""]) {
            begun.update(part.as_bytes());
            begun.update(&[0]);
        }
        Self { begun }
    }

    /// Of the parts of a key, none of which holds a NUL.
    fn mark<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Mark {
        let mut code = self.begun.clone();
        for part in parts {
            code.update(key(part).as_bytes());
            code.update(&[0]);
        }
        let mut mark = [0; Mark::LENGTH];
        // Both are of fixed length, the code of twice the mark's.
        mark.iter_mut().zip(code.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Mark(mark)
    }
}

/// Those of all rows, sorted, each once: the rows of one list are one delivery.
fn marks_of(
    marker: &Marker,
    table: &Table<'_>,
    columns: &[String],
    stop: &Stop,
) -> Result<Vec<Mark>, JobError> {
    let at = |column: &String| table.columns().iter().position(|name| name.eq_ignore_ascii_case(column));
    let places = columns.iter().map(at).collect::<Option<Vec<usize>>>();
    let places = places.ok_or_else(|| JobError::Setup(unreadable(columns)))?;
    let (mut rows, mut fields, mut marks) = (table.rows(), Vec::new(), Vec::new());
    let mut count = 0_u64;
    while rows.read(&mut fields).map_err(JobError::Refused)? {
        if count.is_multiple_of(ROWS_BETWEEN_LOOKS) {
            stop.go_on()?;
        }
        count += 1;
        marks.push(marker.mark(places.iter().map(|at| fields.get(*at).map_or("", |field| field.as_ref()))));
    }
    marks.sort_unstable();
    marks.dedup();
    Ok(marks)
}

fn unreadable(columns: &[String]) -> String {
    format!("the rhythm counts by {}, which this list does not have", columns.join(", "))
}

#[cfg(test)]
mod tests;

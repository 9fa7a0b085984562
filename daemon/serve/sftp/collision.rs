//! Under which name a complete upload becomes an arrival, where one of that name is in progress. The same content is a
//! success without a second arrival; other content follows the flow's rule. Whoever has a name's place among the unfinished
//! uploads is the only one, in any session and on any node, who can publish under it; so that place is taken first, then the
//! spool is asked.

use super::Sftp;
use super::transfer::fault_of;
use super::tree::unavailable;
use super::upload::Sealed;
use crate::host::spool::{Partial, SpoolError, Standing};
use crate::policy::agreement::{Collision, Exchange, Flow};
use crate::policy::arrival::{ArrivalId, versioned_name};
use crate::policy::path::{Name, Slug};
use crate::policy::reason::Reason;

/// Uploads of one name in progress at a time, under names made different.
const VERSIONS_MAX: u32 = 1_000;

/// How a complete upload goes on.
pub(super) enum Settled {
    /// As an arrival of this name, which is the one asked for, or one derived from it.
    As(Name),
    /// Not at all: this arrival has the same content.
    Same(ArrivalId),
}

/// What has the name already.
enum Met {
    Nobody,
    Same(ArrivalId),
    Other,
}

impl Sftp {
    /// Gives a complete upload the name it is published under. Where it fails, the upload is what it was.
    pub(super) fn settle(
        &self,
        exchange: &Exchange,
        flow: &Flow,
        name: &Name,
        sealed: &mut Sealed,
    ) -> Result<Settled, Reason> {
        let was = sealed.partial.name().clone();
        let settled = self.take_a_name(exchange, flow, name, sealed);
        if settled.is_err() {
            give_back(&mut sealed.partial, &was);
        }
        settled
    }

    fn take_a_name(
        &self,
        exchange: &Exchange,
        flow: &Flow,
        name: &Name,
        sealed: &mut Sealed,
    ) -> Result<Settled, Reason> {
        self.take_place(&exchange.name, name, &mut sealed.partial)?;
        match self.meet(&exchange.name, name, sealed)? {
            Met::Nobody => return Ok(Settled::As(name.clone())),
            Met::Same(id) => return Ok(Settled::Same(id)),
            Met::Other if flow.accept.collision == Collision::Reject => return Err(Reason::NameInUse),
            Met::Other => {}
        }
        for version in (2..=VERSIONS_MAX).map_while(|number| versioned_name(name, number)) {
            // A flow that takes one name only has no room for another.
            let same_flow = exchange.flow_for(self.session.institution(), &version).map(|flow| &flow.name);
            if same_flow != Some(&flow.name) {
                break;
            }
            match sealed.partial.take_name(&version) {
                Err(SpoolError::Exists(_)) => continue,
                other => other.map_err(|error| fault_of(&error))?,
            }
            match self.meet(&exchange.name, &version, sealed)? {
                Met::Nobody => return Ok(Settled::As(version)),
                Met::Same(id) => return Ok(Settled::Same(id)),
                Met::Other => {}
            }
        }
        Err(Reason::NameInUse)
    }

    /// An unfinished upload of that name which nobody goes on with makes room, as under RENAME everywhere.
    fn take_place(&self, exchange: &Slug, name: &Name, partial: &mut Partial) -> Result<(), Reason> {
        let taken = match partial.take_name(name) {
            Err(SpoolError::Exists(_)) => self
                .server
                .spool
                .open_partial(self.session.institution(), exchange, name)
                .and_then(|left| left.map_or(Ok(()), Partial::remove))
                .and_then(|()| partial.take_name(name)),
            other => other,
        };
        taken.map_err(|error| fault_of(&error))
    }

    fn meet(&self, exchange: &Slug, name: &Name, sealed: &mut Sealed) -> Result<Met, Reason> {
        let there = self.in_progress(exchange, name)?;
        let has_other_size = |there: &Standing| there.facts.size != sealed.envelope.length();
        if there.as_ref().is_some_and(|there| there.is_in_the_way() && has_other_size(there)) {
            return Ok(Met::Other);
        }
        let digest = sealed.digest().map_err(|error| unavailable(&error))?;
        match there {
            Some(there) if there.sha256.as_deref() == Some(digest) => return Ok(Met::Same(there.id)),
            Some(there) if there.is_in_the_way() => return Ok(Met::Other),
            Some(_) | None => {}
        }
        let (institution, now) = (self.session.institution(), self.server.clock.now());
        let finished = self.server.spool.finished(institution, exchange, name, digest, now);
        Ok(finished.map_or(Met::Nobody, Met::Same))
    }
}

/// As far as the disk lets it; an upload under the wrong name is still one that can be sent again.
pub(super) fn give_back(partial: &mut Partial, was: &Name) {
    if let Err(error) = partial.take_name(was) {
        tracing::warn!(%error, "an upload that was not published could not be given its name back");
    }
}

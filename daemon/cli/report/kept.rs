//! How long each kind of thing is kept, what was deleted for that in the span, and what is left now: whether retention was
//! carried out can be seen from what should not be there any more.

use jiff::{SignedDuration, Timestamp};

use super::facts::Kept;
use super::tally::Deletions;
use super::wording;
use crate::config::Config;
use crate::host::archive::Archive;
use crate::host::clock::Clock;
use crate::policy::arrival::State;
use crate::policy::path::Slug;
use crate::policy::retention::{Kind, Period};

/// Deletions come every hour, a batch at a time; whatever is later than this was not carried out.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// What lies there of one kind.
#[derive(Debug, Default)]
struct Left {
    count: u64,
    oldest: Option<Timestamp>,
}

impl Left {
    fn take(&mut self, since: Timestamp) {
        self.count += 1;
        self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
    }
}

/// All kinds.
pub fn kept(
    archive: &Archive,
    config: &Config,
    exchange: &Slug,
    (clock, deletions): (&Clock, &[Deletions]),
) -> anyhow::Result<Vec<Kept>> {
    let row = |kind: Kind| -> anyhow::Result<Kept> {
        let left = left(archive, kind, exchange)?;
        let period = config.retention.period(kind, Some(exchange));
        let length = match period {
            Period::After(length) => SignedDuration::try_from(length).ok(),
            Period::Never => None,
        };
        let oldest = left.as_ref().and_then(|left| left.oldest);
        let age = oldest.map(|oldest| clock.now().duration_since(oldest));
        let of_kind = deletions.iter().filter(|deleted| kind_of(&deleted.what) == Some(kind));
        let (deleted, deleted_bytes) = of_kind
            .fold((0, 0_u64), |(count, bytes), one| (count + one.count, bytes.saturating_add(one.bytes)));
        Ok(Kept {
            kind: kind.code(),
            what: wording::kind(kind),
            days: length.and_then(|length| u64::try_from(length.as_hours() / 24).ok()),
            deleted,
            deleted_bytes,
            left: left.as_ref().map(|left| left.count),
            oldest: oldest.map(|oldest| clock.local(oldest).date()),
            overdue: age.zip(length).is_some_and(|(age, length)| age > length.saturating_add(GRACE)),
        })
    };
    Kind::ALL.into_iter().map(row).collect()
}

/// None where it is not looked at: it belongs to no single exchange, or has no time of its own.
fn left(archive: &Archive, kind: Kind, exchange: &Slug) -> anyhow::Result<Option<Left>> {
    let mut left = Left::default();
    match kind {
        Kind::Refused => archive.arrivals(State::Refused, exchange, |_, since| left.take(since))?,
        Kind::Done => archive.arrivals(State::Done, exchange, |_, since| left.take(since))?,
        Kind::Result => archive.results(exchange, |since| left.take(since))?,
        Kind::Receipt => archive.receipts(exchange, |paper| left.take(paper.written))?,
        Kind::Partial | Kind::HeadCopy | Kind::Digest => return Ok(None),
    }
    Ok(Some(left))
}

/// As the records of deletions say it; `serve` has words of its own for the unfinished uploads that it removes.
fn kind_of(words: &str) -> Option<Kind> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.words() == words);
    kind.or_else(|| words.contains("unfinished").then_some(Kind::Partial))
}

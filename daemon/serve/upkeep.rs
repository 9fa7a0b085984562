//! Removes what has had its time and is `serve`'s to remove: unfinished uploads and its own log days. What a crash left half-made is `tidy`'s.
//! What has had its time is `policy::retention`'s question, whether the clock may be believed `host::guard`'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::Server;
use crate::host::control::{Answer, Operator};
use crate::host::spool::FileFacts;
use crate::policy::path::Slug;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::retention::{Kind, Thing};

/// How often what has expired is looked for.
const EVERY: Duration = Duration::from_secs(600);

/// An operator says that the clock is right.
pub async fn confirm_clock(server: Arc<Server>, operator: Operator, reason: String) -> Answer {
    Answer::of(spawn_blocking(move || server.upkeep.confirm(&server.log, &operator, &reason))).await
}

/// Removes what has expired, now and then.
pub async fn go_on(server: Arc<Server>) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = server.upkeep.confirmed() => {}
        }
        let server = Arc::clone(&server);
        if spawn_blocking(move || server.remove_expired()).await.is_err() {
            tracing::error!("upkeep failed");
        }
    }
}

impl Server {
    /// Nothing is removed by a clock that is not to be believed.
    fn remove_expired(&self) {
        let (Some(leave), config) = (self.upkeep.look(&self.log), self.config()) else { return };
        if !config.retention.any_legal_hold()
            && let Err(error) = self.log.expire(leave, config.machine.log.keep_days)
        {
            tracing::error!(%error, "expired log days could not be deleted");
        }
        let is_due = |exchange: &Slug, since| {
            let thing = Thing { kind: Kind::Partial, exchange: Some(exchange), since };
            self.config().retention.has_had_its_time(thing, leave)
        };
        let record = |institution: &Slug, exchange: &Slug, facts: &FileFacts, sha256: String| {
            record_expiry(self, institution, exchange, (facts, sha256))
        };
        if let Err(error) = self.spool.expire_partials(is_due, record) {
            tracing::error!(%error, "expired uploads could not be removed");
        }
    }
}

/// Without a record it stays until the next time.
fn record_expiry(
    server: &Server,
    institution: &Slug,
    exchange: &Slug,
    (facts, sha256): (&FileFacts, String),
) -> bool {
    let record = Record {
        institution: Some(institution.to_string()),
        exchange: Some(exchange.clone()),
        path: Some(format!("/{exchange}/in/{}", facts.name)),
        bytes: Some(facts.size),
        sha256: Some(sha256),
        detail: Some("unfinished for too long".to_owned()),
        ..Record::new(Event::Expire, Outcome::Ok)
    };
    let recorded = server.log.append(&record);
    if let Err(error) = &recorded {
        tracing::error!(%error, "an expired upload stays because its removal could not be recorded");
    }
    if recorded.is_ok() {
        server.upkeep.deleted(Kind::Partial);
    }
    recorded.is_ok()
}

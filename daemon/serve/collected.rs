//! Removes results that were downloaded to the end, in exchanges where that counts as collected, when their grace is over.
//! `sftp` marks them; the marks lie in the spool, so that any node goes on after any restart. No clock that is not to be
//! believed removes anything, nor is anything removed under a legal hold.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;

use super::Server;
use crate::config::Config;
use crate::host::spool::Mark;
use crate::policy::agreement::Collected;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::retention::{Kind, Period};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// Looks now and then.
pub async fn go_on(server: Arc<Server>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let server = Arc::clone(&server);
        if spawn_blocking(move || server.remove_collected()).await.is_err() {
            tracing::error!("removing what was collected failed");
        }
    }
}

impl Server {
    fn remove_collected(&self) {
        let marks = match self.spool.collected() {
            Ok(marks) => marks,
            Err(error) => return tracing::error!(%error, "what was collected cannot be listed"),
        };
        let (config, now) = (self.config(), self.clock.now());
        let due: Vec<&Mark> = marks.iter().filter(|mark| is_due(&config, mark, now)).collect();
        if due.is_empty() {
            return;
        }
        // By the time that is believed, which may be another.
        let Some(leave) = self.upkeep.look(&self.log) else { return };
        for mark in due.into_iter().filter(|mark| is_due(&config, mark, leave.now())) {
            match self.spool.remove_collected(mark, || self.record_removal(mark, &config)) {
                Ok(true) => self.upkeep.deleted(Kind::Result),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, path = mark.path(), institution = %mark.by.institution, "a collected result could not be removed");
                }
            }
        }
    }

    /// Without a record it stays until the next time.
    fn record_removal(&self, mark: &Mark, config: &Config) -> bool {
        let kept = Period::After(rule(config, mark).grace);
        let recorded = self.log.append(&Record {
            session: Some(mark.session.clone()),
            exchange: Some(mark.exchange.clone()),
            path: Some(mark.path()),
            bytes: Some(mark.size),
            detail: Some(format!("collected by this person at {}; kept for {kept} after that", mark.at)),
            ..Record::new(Event::Expire, Outcome::Ok).by(&mark.by)
        });
        if let Err(error) = &recorded {
            tracing::error!(%error, "a collected result stays because its removal could not be recorded");
        }
        recorded.is_ok()
    }
}

/// Of an exchange that the configuration has lost, what holds where an exchange says nothing.
fn rule(config: &Config, mark: &Mark) -> Collected {
    config.exchanges.get(&mark.exchange).map_or_else(Collected::default, |exchange| exchange.collected)
}

fn is_due(config: &Config, mark: &Mark, now: Timestamp) -> bool {
    let may_go = config.retention.period(Kind::Result, Some(&mark.exchange)) != Period::Never;
    let grace = SignedDuration::try_from(rule(config, mark).grace).unwrap_or(SignedDuration::MAX);
    may_go && now.duration_since(mark.at) >= grace
}

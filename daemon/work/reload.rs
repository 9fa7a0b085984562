//! Taking a changed configuration over while jobs run: as `config::successor` allows it, with a record of what it was and what it
//! is. Jobs that began before end under the one they began with; arrivals of what was removed are held when their turn comes.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::Workshop;
use crate::config::{self, Config, Successor};
use crate::host::process::Hangup;

impl Workshop {
    /// Takes over what lies in the configuration's folder, or says why not; then the one in force stays.
    pub async fn reload(self: &Arc<Self>, operator: String) -> Result<String, Vec<String>> {
        // One at a time, so that each has the one before it to compare with.
        let _turn = self.reloading.lock().await;
        let workshop = Arc::clone(self);
        let performed = spawn_blocking(move || workshop.reload_now(&operator)).await;
        performed.unwrap_or_else(|_| Err(vec!["it ended in a defect of this program".to_owned()]))
    }

    fn reload_now(&self, operator: &str) -> Result<String, Vec<String>> {
        let current = self.config();
        let taken = match config::successor(&current) {
            Ok(Successor { config, unread: None }) if config.files == current.files => {
                self.reloads.applied(None);
                return Ok("nothing has changed".to_owned());
            }
            Ok(Successor { config, unread }) => {
                self.take_over(&current, config, operator).and_then(|done| Successor::told(unread, done))
            }
            Err(problems) => Err(problems),
        };
        if let Err(problems) = &taken {
            for problem in problems {
                tracing::error!(problem, "the changed configuration is not in force, or not all of it");
            }
            self.reloads.turned_down(problems.first().map_or("", String::as_str));
            let record = config::turned_down(&self.config(), problems, operator.to_owned());
            if let Err(error) = self.log.append(&record) {
                tracing::error!(%error, "that a configuration was turned down could not be recorded");
            }
        }
        taken
    }

    fn take_over(&self, current: &Config, new: Config, operator: &str) -> Result<String, Vec<String>> {
        let told = |error: &dyn std::fmt::Display| vec![error.to_string()];
        self.spool.prepare(&new.pairs()).map_err(|error| told(&error))?;
        // Recorded before it is done: nothing happens under a configuration that the log does not know.
        let record = config::taken_over(Some(current), &new, operator.to_owned());
        self.log.append(&record).map_err(|error| told(&error))?;
        self.metrics.know(new.exchanges.values());
        self.config.send_replace(Arc::new(new));
        self.reloads.applied(Some(self.clock.now()));
        if let Err(error) = self.publish_key() {
            tracing::error!(%error, "the public key does not lie beside all receipts yet; the next start sees to it");
        }
        tracing::info!(operator, "the changed configuration is in force");
        Ok("in force for the jobs that begin from now on".to_owned())
    }
}

/// Reloads whenever SIGHUP says so. What comes of it stands in the program's log.
pub(super) async fn follow(workshop: &Arc<Workshop>, mut hangup: Hangup) {
    loop {
        hangup.requested().await;
        let _ = workshop.reload("SIGHUP".to_owned()).await;
    }
}

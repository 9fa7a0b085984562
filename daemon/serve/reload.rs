//! Taking a changed configuration over while sessions go on: as `config::successor` allows it, with a record of what it was and
//! what it is. What the change takes away from whom is for `sessions`.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{Server, algorithms};
use crate::config::{self, Config, Successor};
use crate::host::process::Hangup;

impl Server {
    /// Takes over what lies in the configuration's folder, or says why not; then the one in force stays.
    pub async fn reload(self: &Arc<Self>, operator: String) -> Result<String, Vec<String>> {
        // One at a time, so that each has the one before it to compare with.
        let _turn = self.reloading.lock().await;
        let current = self.config();
        let from = Arc::clone(&current);
        let loaded = spawn_blocking(move || config::successor(&from)).await;
        let loaded =
            loaded.unwrap_or_else(|_| Err(vec!["reading it ended in a defect of this program".to_owned()]));
        let taken = match loaded {
            Ok(Successor { config, unread: None }) if config.files == current.files => {
                self.reloads.applied(None);
                return Ok("nothing has changed".to_owned());
            }
            Ok(Successor { config, unread }) => self
                .take_over(&current, config, &operator)
                .await
                .and_then(|done| Successor::told(unread, done)),
            Err(problems) => Err(problems),
        };
        if let Err(problems) = &taken {
            for problem in problems {
                tracing::error!(problem, "the changed configuration is not in force, or not all of it");
            }
            self.reloads.turned_down(problems.first().map_or("", String::as_str));
            let record = config::turned_down(&self.config(), problems, operator);
            if let Err(error) = self.log.append_async(record).await {
                tracing::error!(%error, "that a configuration was turned down could not be recorded");
            }
        }
        taken
    }

    async fn take_over(
        self: &Arc<Self>,
        current: &Config,
        new: Config,
        operator: &str,
    ) -> Result<String, Vec<String>> {
        let server = Arc::clone(self);
        let pairs = new.pairs();
        let prepared = spawn_blocking(move || server.spool.prepare(&pairs)).await;
        match prepared {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(vec![error.to_string()]),
            Err(_) => return Err(vec!["preparing the spool ended in a defect of this program".to_owned()]),
        }
        // Recorded before it is done: nothing happens under a configuration that the log does not know.
        let record = config::taken_over(Some(current), &new, operator.to_owned());
        self.log.append_async(record).await.map_err(|error| vec![error.to_string()])?;
        self.metrics.know(new.institutions.keys());
        self.renew_ssh(&new);
        self.spool.keep_free(new.machine.limits.spool_reserve);
        let new = Arc::new(new);
        self.config.send_replace(Arc::clone(&new));
        self.reloads.applied(Some(self.clock.now()));
        // Here as well as in `guard`: who asked for it hears of its end when the sessions have ended.
        let cut = self.sessions.judge(&new, self.clock.today());
        tracing::info!(operator, cut, "the changed configuration is in force");
        Ok(format!("in force; sessions cut: {cut}"))
    }

    /// For the connections from now on; those that are open keep their algorithms and limits.
    fn renew_ssh(&self, config: &Config) {
        let mut ssh = self.ssh.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(host_key) = ssh.keys.first().cloned() {
            *ssh = Arc::new(algorithms::server_config(
                host_key,
                config.machine.algorithms,
                &config.machine.limits,
            ));
        }
    }
}

/// Reloads whenever SIGHUP says so. What comes of it stands in the program's log.
pub(super) async fn follow(server: Arc<Server>, mut hangup: Hangup) {
    loop {
        hangup.requested().await;
        let _ = server.reload("SIGHUP".to_owned()).await;
    }
}

//! Sees to the spool and the log while `serve` runs: how much room there is, that what a crash left half-made goes, and that a
//! log which this process cannot reach ends it. What has expired is removed by `upkeep`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use super::{ServeError, Server};
use crate::host::spool::{Orphans, Swept};
use crate::policy::record::{Event, Outcome, Record};

/// How often what a crash may have left is looked for; it goes when it has been seen unchanged for half a minute.
const EVERY: Duration = Duration::from_secs(10);
/// How often the log is asked whether it can be reached at all.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Sweeps now and then.
pub(super) async fn go_on(server: Arc<Server>) {
    let mut ticks = tokio::time::interval(EVERY);
    let orphans = Arc::new(Mutex::new(Orphans::default()));
    loop {
        ticks.tick().await;
        let (server, orphans) = (Arc::clone(&server), Arc::clone(&orphans));
        let done = spawn_blocking(move || {
            if let Some(fault) = measure(&server) {
                tracing::warn!(fault, "uploads are turned down");
            }
            let mut orphans = orphans.lock().unwrap_or_else(PoisonError::into_inner);
            match server.spool.sweep(&mut orphans, Instant::now()) {
                Ok(swept) => swept.into_iter().for_each(|swept| tell(&server, swept)),
                Err(error) => tracing::error!(%error, "what a crash left half-made could not be looked for"),
            }
        });
        if done.await.is_err() {
            tracing::error!("sweeping the spool failed");
        }
    }
}

/// Waits for a log folder that only a new process can reach. Whoever supervises this one starts it again.
pub(super) async fn log_is_out_of_reach(server: &Server) -> ServeError {
    let mut ticks = tokio::time::interval(LOG_EVERY);
    loop {
        ticks.tick().await;
        if server.log.is_out_of_reach() {
            return ServeError::LogReplaced(server.config().machine.log.directory.clone());
        }
    }
}

/// What was sent and could not be kept is a record; nobody was told that it had been kept.
fn tell(server: &Server, swept: Swept) {
    match swept {
        Swept::Rubble(path) => tracing::info!(path, "removed what a crash had left half-made"),
        Swept::Failed(institution, exchange, name) => {
            let record = Record {
                institution: Some(institution.to_string()),
                path: Some(format!("/{exchange}/in/{name}")),
                exchange: Some(exchange),
                detail: Some("an unfinished upload that the disk failed".to_owned()),
                ..Record::new(Event::Expire, Outcome::Ok)
            };
            if let Err(error) = server.log.append(&record) {
                tracing::error!(%error, "the removal of a failed upload could not be recorded");
            }
        }
    }
}

/// Tells the metrics how much room there is, and what is wrong with that.
pub(super) fn measure(server: &Server) -> Option<String> {
    let reserve = server.config().machine.limits.spool_reserve;
    let room = match server.spool.room() {
        Ok(room) => room,
        Err(error) => return Some(error.to_string()),
    };
    server.metrics.spool_room(reserve, room.free);
    if room.is_enough() {
        return None;
    }
    let free = bytesize::ByteSize(room.free).display().iec();
    Some(if room.files == 0 {
        "the spool is full: its file system has no room for more files, and uploads are refused".to_owned()
    } else {
        format!("the spool is full: {free} are free, and uploads must leave limits.spool-reserve")
    })
}

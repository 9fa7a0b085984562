//! The sessions that are live: who they are, for operators, and how they end before their client wants it. Whether one may
//! go on is decided by `policy::revocation`; it is asked when the configuration changes and twice a second, because days
//! pass as well.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::MissedTickBehavior;

use super::Server;
use super::connection::{Connection, Ended};
use super::session::Session;
use crate::config::Config;
use crate::host::control::{LiveSession, Target};
use crate::policy::revocation::{Live, revoked};

/// How often every session is judged again.
const JUDGE_EVERY: Duration = Duration::from_millis(500);
/// Sessions that are told about at a time.
const TOLD_MAX: usize = 10_000;

/// All of a process.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<BTreeMap<String, Entry>>);

/// One of them.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its connection.
    pub connection: Arc<Connection>,
    /// Whose it is.
    pub session: Arc<Session>,
    since: Timestamp,
}

/// A session is live while this is held.
#[derive(Debug)]
pub struct Present {
    sessions: Arc<Sessions>,
    id: String,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Sessions {
    /// Somebody logged in.
    pub fn enter(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        session: &Arc<Session>,
        since: Timestamp,
    ) -> Present {
        let id = connection.id.clone();
        let entry = Entry { connection: Arc::clone(connection), session: Arc::clone(session), since };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), entry);
        Present { sessions: Arc::clone(self), id }
    }

    /// Those that a target means, or all.
    pub fn find(&self, target: Option<&Target>) -> Vec<Entry> {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |entry: &&Entry| match target {
            None => true,
            Some(Target::Session(id)) => entry.connection.id == *id,
            Some(Target::Institution(name)) => entry.session.institution().as_str() == name,
        };
        live.values().filter(is_meant).take(TOLD_MAX).cloned().collect()
    }

    /// Cuts every session that may not go on, and says how many those are.
    pub fn judge(&self, config: &Config, today: Date) -> usize {
        let may_not_go_on = |entry: &Entry| {
            let Entry { connection, session, .. } = entry;
            let used = connection.used();
            // On a socket for both families an IPv4 peer shows up as ::ffff:a.b.c.d.
            let live = Live { who: session.who(), peer: session.peer.ip().to_canonical(), used: &used };
            let reason = revoked(&config.institutions, &config.exchanges, live, today)?;
            connection.end(Ended { reason: reason.code(), operator: None }).then_some(reason)
        };
        let mut cut = 0;
        for entry in self.find(None) {
            if let Some(reason) = may_not_go_on(&entry) {
                tracing::info!(session = entry.connection.id, reason = reason.code(), "session revoked");
                cut += 1;
            }
        }
        cut
    }
}

impl Entry {
    /// For operators.
    pub fn told(&self) -> LiveSession {
        let Self { connection, session, since } = self;
        let flow = &connection.flow;
        LiveSession {
            id: connection.id.clone(),
            institution: session.institution().to_string(),
            person: session.who().label.clone(),
            peer: session.peer.to_string(),
            client: session.client.clone(),
            since: *since,
            idle_seconds: connection.idle().as_secs(),
            uploads: flow.uploads.load(Ordering::Relaxed),
            downloads: flow.downloads.load(Ordering::Relaxed),
            received_bytes: flow.received.load(Ordering::Relaxed),
            sent_bytes: flow.sent.load(Ordering::Relaxed),
        }
    }
}

/// Judges all sessions again and again.
pub async fn guard(server: Arc<Server>) {
    let mut config = server.config.subscribe();
    let mut ticks = tokio::time::interval(JUDGE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = config.changed() => if changed.is_err() { return },
        }
        let config = Arc::clone(&config.borrow_and_update());
        server.sessions.judge(&config, server.clock.today());
    }
}

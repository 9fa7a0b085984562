//! Ends a channel whose client does not understand that its upload was refused. One that has closed the refused handle has
//! understood, and keeps its session; one that says nothing any more waits for an answer that it has been given already (SSH.NET
//! before 2025.1.0), and hears of the end only by the end of the channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use russh::ChannelId;
use tokio::task::AbortHandle;

use super::Sftp;
use crate::host::metrics::SessionEnd;
use crate::serve::Server;
use crate::serve::connection::Connection;

/// Silence on a connection, after which its client is taken to hang. Uploads that are still on their way over a slow line are
/// no silence.
const GRACE: Duration = Duration::from_secs(2);

/// The refused uploads of a session whose handles are open.
pub struct Grace {
    watched: Arc<Watched>,
    channel: (russh::server::Handle, ChannelId),
    server: Arc<Server>,
    connection: Arc<Connection>,
    watch: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Watched {
    open: AtomicUsize,
    /// A request is being answered.
    busy: AtomicBool,
    ended: AtomicBool,
}

impl Drop for Grace {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

impl Grace {
    /// Of a session on this channel.
    pub fn new(
        server: &Arc<Server>,
        connection: &Arc<Connection>,
        channel: (russh::server::Handle, ChannelId),
    ) -> Self {
        Self {
            watched: Arc::default(),
            channel,
            server: Arc::clone(server),
            connection: Arc::clone(connection),
            watch: None,
        }
    }

    /// An upload was refused, and its handle is open.
    pub fn begin(&mut self) {
        self.watched.busy.store(true, Ordering::Release);
        self.watched.open.fetch_add(1, Ordering::AcqRel);
        if self.watch.is_none() {
            let (sink, channel) = self.channel.clone();
            let (watched, connection) = (Arc::clone(&self.watched), Arc::clone(&self.connection));
            let server = Arc::clone(&self.server);
            // Ends with the silence, or with the session.
            let watch = tokio::spawn(async move {
                watched.falls_silent(&connection).await;
                tracing::info!(session = connection.id, "channel ended: its client ignores a refusal");
                server.metrics.session_ended(SessionEnd::RefusalIgnored);
                // The connection may be gone already.
                let _ = sink.exit_status_request(channel, 1).await;
                let _ = sink.eof(channel).await;
                let _ = sink.close(channel).await;
            });
            self.watch = Some(watch.abort_handle());
        }
    }

    /// The handle of a refused upload was closed.
    pub fn understood(&self) {
        let less = |open: usize| open.checked_sub(1);
        let _ = self.watched.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Requests have come.
    pub fn pause(&self) {
        if self.watch.is_some() {
            self.watched.busy.store(true, Ordering::Release);
        }
    }

    /// They are answered, however long that took.
    pub fn go_on(&self) {
        if self.watch.is_some() {
            self.connection.made_progress();
            self.watched.busy.store(false, Ordering::Release);
        }
    }

    /// The channel was ended.
    pub fn has_ended(&self) -> bool {
        self.watch.is_some() && self.watched.ended.load(Ordering::Acquire)
    }
}

impl Watched {
    /// Until the client falls silent with a refused upload open.
    async fn falls_silent(&self, connection: &Connection) {
        loop {
            let rest = GRACE.saturating_sub(connection.idle());
            tokio::time::sleep(if rest.is_zero() { GRACE } else { rest }).await;
            let hangs = self.open.load(Ordering::Acquire) > 0 && !self.busy.load(Ordering::Acquire);
            if hangs && connection.idle() >= GRACE {
                self.ended.store(true, Ordering::Release);
                return;
            }
        }
    }
}

impl Sftp {
    /// Whether this side ended the channel; what still comes on it is not looked at.
    pub fn has_ended(&self) -> bool {
        self.grace.has_ended()
    }
}

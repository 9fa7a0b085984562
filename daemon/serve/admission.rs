//! The one table of who has a place, who is under penalty, and who came without asking to log in, behind one short lock.
//! What is decided is `policy::admission`'s and `policy::penalties`'; this file asks the clock and chance, keeps the count
//! with guards, and cuts who must go for another.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::interval;

use super::Server;
use super::connection::Connection;
use crate::host::metrics::ConnectionRefusal;
use crate::host::spool::random;
use crate::policy::admission::{Arrival, Crowd, Crowded, SessionBound, Source, Ticket};
use crate::policy::path::Slug;
use crate::policy::penalties::{Conduct, Offence, Penalties};
use crate::policy::probes::{Probe, Probes, Tally};
use crate::policy::record::{Event, Outcome, Record};

/// How often gauges are set and it is asked whether probes must be told.
const TICK: Duration = Duration::from_secs(1);
/// Probes are told in the access log no more often than this.
const PROBES_EVERY: Duration = Duration::from_secs(60);

/// Who a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The peer; behind a proxy that is believed, the peer that the proxy named.
    pub peer: SocketAddr,
    /// That proxy.
    pub proxy: Option<IpAddr>,
    /// A monitoring probe or a load balancer: never penalised.
    pub exempt: bool,
}

/// Shared by all listeners.
#[derive(Debug, Default)]
pub struct Admission(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    crowd: Crowd,
    penalties: Penalties,
    connections: HashMap<Ticket, Weak<Connection>>,
    tally: Tally,
    /// Taken from the tally, and not in the access log yet.
    untold: Option<Probes>,
}

/// A connection's place among the others; free again when this is dropped, however that comes about.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.crowd.leaves(self.ticket);
        state.connections.remove(&self.ticket);
    }
}

impl Place {
    /// Its person has proven who it is.
    pub fn logs_in(&self, server: &Server, institution: &Slug) -> Result<(), SessionBound> {
        let bounds = server.config().machine.limits.bounds();
        self.admission.lock().crowd.logs_in(self.ticket, institution, &bounds)
    }

    /// Whether its connection was cut for another one.
    pub fn is_taken_away(&self) -> bool {
        self.admission.lock().crowd.is_going(self.ticket)
    }

    /// From now on this is what is cut when it must go for another. It may have had to go already.
    pub fn holds(&self, connection: &Arc<Connection>) {
        self.admission.lock().connections.insert(self.ticket, Arc::downgrade(connection));
        if self.is_taken_away() {
            connection.cut();
        }
    }
}

impl Admission {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a connection may wait for its login; if not, it is counted and told, and only has to be closed.
pub fn admit(server: &Server, origin: &Origin) -> Option<Place> {
    let config = server.config();
    let source = Source::of(origin.peer.ip());
    let bounds = config.machine.limits.bounds();
    let lot = usize::try_from(random() % 100).unwrap_or(0);
    let mut state = server.admission.lock();
    let penalised =
        config.machine.penalties.enabled && !origin.exempt && state.penalties.refuse(source, Instant::now());
    let arrival = if penalised { None } else { Some(state.crowd.arrives(source, &bounds, lot)) };
    let refusal = match arrival {
        Some(Arrival::Admitted(ticket)) => {
            return Some(Place { admission: Arc::clone(&server.admission), ticket });
        }
        Some(Arrival::InPlaceOf { ticket, victim }) => {
            let victim = state.connections.get(&victim).and_then(Weak::upgrade);
            // Not under the lock: dropping the last reference to a connection takes it.
            drop(state);
            server.metrics.connection_refused(ConnectionRefusal::Displaced);
            if let Some(victim) = victim {
                victim.cut();
            }
            return Some(Place { admission: Arc::clone(&server.admission), ticket });
        }
        Some(Arrival::Refused(Crowded::Connections)) => ConnectionRefusal::Full,
        Some(Arrival::Refused(Crowded::Source)) => ConnectionRefusal::Source,
        Some(Arrival::Refused(Crowded::EarlyDrop)) => ConnectionRefusal::EarlyDrop,
        None => ConnectionRefusal::Penalty,
    };
    state.tally.add(source, Probe::Refused, server.clock.now());
    drop(state);
    server.metrics.connection_refused(refusal);
    None
}

/// A connection ended: its source is penalised if it deserves that.
pub fn settle(server: &Server, origin: &Origin, conduct: Conduct) {
    let config = server.config();
    let rules = &config.machine.penalties;
    let Some(offence) = conduct.offence().filter(|_| rules.enabled && !origin.exempt) else { return };
    let source = Source::of(origin.peer.ip());
    server.metrics.penalty(offence);
    let newly_refused = {
        let (mut state, now) = (server.admission.lock(), Instant::now());
        let before = state.penalties.refuse(source, now);
        state.penalties.add(source, offence, rules, now);
        !before && state.penalties.refuse(source, now)
    };
    if offence == Offence::Crash {
        tracing::error!(%source, "a connection's handler panicked");
    }
    if newly_refused {
        tracing::warn!(%source, offence = offence.code(), "connections from here are refused for a while");
    }
}

/// A connection ended that never asked to log in.
pub fn came_silently(server: &Server, origin: &Origin) {
    server.metrics.probe(origin.exempt);
    server.admission.lock().tally.add(Source::of(origin.peer.ip()), Probe::Silent, server.clock.now());
}

/// Keeps the gauges right and tells the probes, until it is dropped.
pub async fn watch(server: Arc<Server>) {
    let mut ticks = interval(TICK);
    let mut told: Option<Instant> = None;
    loop {
        let now = ticks.tick().await.into_std();
        let (waiting, refused) = {
            let mut state = server.admission.lock();
            (state.crowd.waiting(), state.penalties.enforced(now))
        };
        server.metrics.admission(waiting, refused);
        if told.is_none_or(|told| now.duration_since(told) >= PROBES_EVERY) && tell_probes(&server).await {
            told = Some(now);
        }
    }
}

/// One record about all connections since the last one that never asked to log in. What cannot be recorded is kept for the
/// next time. Whether there was anything to tell.
pub async fn tell_probes(server: &Server) -> bool {
    let untold = {
        let mut state = server.admission.lock();
        if state.untold.is_none() {
            state.untold = state.tally.take();
        }
        state.untold.clone()
    };
    let Some(probes) = untold else { return false };
    let record = Record { probes: Some(probes), ..Record::new(Event::Probes, Outcome::Denied) };
    match server.log.append_async(record).await {
        Ok(()) => server.admission.lock().untold = None,
        Err(error) => tracing::error!(%error, "connections without a login could not be recorded"),
    }
    true
}

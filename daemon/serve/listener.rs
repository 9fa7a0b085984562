//! The accept loop: one task per connection, a deadline on each, an end that waits for all, and what is left to record and
//! to settle when one has ended. Who may have a place is `admission`'s question.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Server;
use super::admission::{Origin, Place, admit, came_silently, settle};
use super::connection::Connection;
use super::disorder::ConnectionError;
use super::proxy::{behind, direct, is_proxy};
use super::ssh::{Peer, say_goodbye};
use super::tap::Tap;
use crate::host::metrics::{ConnectionRefusal, Limit};
use crate::host::spool::random;
use crate::policy::account::LoginRefusal;
use crate::policy::incident::CAME_IN_OTHERWISE;
use crate::policy::penalties::Conduct;
use crate::policy::record::{Event, Outcome, Record};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// After an accept that failed (no descriptors, most likely), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Connections of proxies, beyond those that have a place, that may be waiting for their header.
const HEADERS_MAX: usize = 256;
/// What connections have to end by themselves when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Listens on an address. An IPv6 one is for IPv6 alone, so that `0.0.0.0` and `[::]` can stand beside each other, and
/// so that an institution's IPv4 networks mean what they say.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    // A restart must not wait for the last connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts on one address until `stop` says so, then ends all connections it accepted.
pub async fn accept(server: Arc<Server>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = told_to_stop(&mut stop) => break,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (server, ssh, stop) = (Arc::clone(&server), server.ssh(), stop.clone());
        let machine = &server.config().machine;
        if is_proxy(machine, address) {
            if connections.len() >= machine.limits.connections + HEADERS_MAX {
                server.metrics.connection_refused(ConnectionRefusal::Full);
                continue;
            }
            connections.spawn(async move { hand_on(&server, ssh, (socket, address), stop).await });
            continue;
        }
        let origin = direct(machine, address);
        let Some(place) = admit(&server, &origin) else { continue };
        let began = Instant::now();
        connections.spawn(async move { attend(&server, ssh, socket, (origin, place, began), stop).await });
    }
    drop(listener);
    let ended = timeout(STOP_GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        connections.shutdown().await;
    }
}

/// A connection from a proxy: only its header says whom it counts for.
async fn hand_on(
    server: &Arc<Server>,
    ssh: Arc<russh::server::Config>,
    (mut socket, proxy): (TcpStream, SocketAddr),
    stop: watch::Receiver<bool>,
) {
    let began = Instant::now();
    let config = server.config();
    let header = behind(&config.machine, proxy, &mut socket);
    let Ok(Some(origin)) = timeout(config.machine.limits.login_grace, header).await else {
        server.metrics.connection_refused(ConnectionRefusal::ProxyHeader);
        tracing::debug!(%proxy, "a proxy sent no PROXY header that can be read");
        return;
    };
    if let Some(place) = admit(server, &origin) {
        attend(server, ssh, socket, (origin, place, began), stop).await;
    }
}

/// Also when the one who would say so is gone.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection, from its first byte to its record.
async fn attend(
    server: &Arc<Server>,
    ssh: Arc<russh::server::Config>,
    socket: TcpStream,
    (origin, place, began): (Origin, Place, Instant),
    mut stop: watch::Receiver<bool>,
) {
    let _counted = server.metrics.connection();
    let Ok((socket, second)) = two_descriptors(socket) else { return };
    let id = format!("{:016x}", random());
    let connection = Arc::new(Connection::new(id, origin, place, (second, began)));
    connection.place.holds(&connection);
    let ended = run(server, ssh, socket, &connection, &mut stop).await;
    if let End::Disorder(error) = &ended {
        tracing::debug!(session = connection.id, %error, "connection ended");
    }
    settle_end(server, &connection, &ended);
    record_end(server, &connection).await;
}

/// How a connection ended.
enum End {
    /// In order.
    Order,
    /// Because its login took too long.
    LoginGrace,
    /// Because the server stops.
    Stop,
    /// By a fault of the peer or of this machine.
    Disorder(ConnectionError),
}

impl End {
    /// The library says so when the task that ran the connection is gone without a result: it panicked.
    fn is_crash(&self) -> bool {
        matches!(self, Self::Disorder(ConnectionError::Ssh(russh::Error::Join(_))))
    }
}

/// Runs SSH on a connection until one of them ends.
async fn run(
    server: &Arc<Server>,
    ssh: Arc<russh::server::Config>,
    socket: TcpStream,
    connection: &Arc<Connection>,
    stop: &mut watch::Receiver<bool>,
) -> End {
    let limits = &server.config().machine.limits;
    let socket = Tap::new(socket, Arc::clone(&ssh), Arc::clone(connection));
    let handler = Peer::new(Arc::clone(server), Arc::clone(connection));
    let (grace_ends, _) = connection.deadline(limits);
    let running = tokio::select! {
        running = russh::server::run_stream(ssh, socket, handler) => match running {
            Ok(running) => running,
            Err(error) => return End::Disorder(error),
        },
        () = sleep_until(grace_ends) => return End::LoginGrace,
        () = told_to_stop(stop) => return End::Stop,
    };
    let handle = running.handle();
    tokio::pin!(running);
    let mut cause = None;
    let ended = loop {
        let (deadline, why) = connection.deadline(limits);
        tokio::select! {
            ended = &mut running => break ended,
            () = sleep_until(deadline) => {
                // It may have moved on since the deadline was computed.
                if connection.deadline(limits).0 <= Instant::now() {
                    tracing::info!(session = connection.id, cause = why, "connection cut");
                    if connection.login().session.is_none() {
                        cause = Some(End::LoginGrace);
                    } else {
                        server.metrics.limit_reached(Limit::Idle);
                    }
                    connection.cut();
                    break running.await;
                }
            }
            () = told_to_stop(stop) => {
                let _ = timeout(Duration::from_secs(1), say_goodbye(&handle)).await;
                connection.cut();
                cause = Some(End::Stop);
                break running.await;
            }
        }
    };
    cause.unwrap_or_else(|| ended.map_or_else(End::Disorder, |()| End::Order))
}

/// The second descriptor is for cutting.
fn two_descriptors(socket: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    socket.set_nodelay(true)?;
    let socket = socket.into_std()?;
    let second = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, second))
}

/// Counts why there was no login, and what the source has to answer for.
fn settle_end(server: &Server, connection: &Connection, end: &End) {
    let login = connection.login();
    match end {
        End::Disorder(ConnectionError::Ssh(russh::Error::KeepaliveTimeout)) => {
            server.metrics.limit_reached(Limit::Keepalive);
        }
        // Whoever looks first, the library or `run`.
        End::Disorder(ConnectionError::Ssh(russh::Error::InactivityTimeout)) => {
            server.metrics.limit_reached(Limit::Idle);
        }
        End::Order | End::LoginGrace | End::Stop | End::Disorder(_) => {}
    }
    if login.session.is_none() && !connection.place.is_taken_away() {
        match end {
            End::LoginGrace => server.metrics.connection_refused(ConnectionRefusal::LoginGrace),
            // The library ends such a connection in order.
            End::Order if login.rejected >= server.config().machine.limits.auth_attempts => {
                server.metrics.connection_refused(ConnectionRefusal::Attempts);
            }
            End::Disorder(ConnectionError::Ssh(_)) => {
                server.metrics.connection_refused(ConnectionRefusal::Protocol);
            }
            End::Order | End::Stop | End::Disorder(_) => {}
        }
    }
    // What was cut for somebody else might have logged in: whoever displaces others must not have them penalised as well.
    if matches!(end, End::Stop) || connection.place.is_taken_away() && !end.is_crash() {
        return;
    }
    let conduct = Conduct {
        crashed: end.is_crash(),
        proven: login.proven,
        grace_exceeded: matches!(end, End::LoginGrace),
        unknown_user: login.refused.iter().any(|refused| refused.refusal == LoginRefusal::UnknownUser),
        asked: login.asked.is_some(),
    };
    settle(server, &connection.origin, conduct);
}

/// The keys that were refused, and the end of the session, or the login that never was. A connection that never asked to log
/// in has no record of its own; neither has one of a probe or load balancer that offered no key.
async fn record_end(server: &Server, connection: &Connection) {
    let login = connection.login();
    let offered = login.proven || !login.refused.is_empty();
    if !offered && (login.asked.is_none() || connection.origin.exempt) {
        came_silently(server, &connection.origin);
        return;
    }
    let denied = || Record {
        session: Some(connection.id.clone()),
        peer: Some(connection.origin.peer),
        proxy: connection.origin.proxy,
        ..Record::new(Event::Login, Outcome::Denied)
    };
    let mut records: Vec<Record> = login
        .refused
        .iter()
        .map(|refused| Record {
            institution: Some(refused.user.clone()),
            key_fingerprint: Some(refused.fingerprint.clone()),
            reason: Some(refused.refusal.code().to_owned()),
            // Who reads the log for incidents would else take each key of somebody's agent for a stranger's.
            detail: login.session.is_some().then(|| CAME_IN_OTHERWISE.to_owned()),
            ..denied()
        })
        .collect();
    records.extend(connection.take_broken_off());
    match login.session {
        Some(session) => {
            let ended = connection.ended();
            records.push(Record {
                reason: ended.map(|ended| ended.reason.to_owned()),
                operator: ended.and_then(|ended| ended.operator.clone()),
                ..session.record(Event::Logout, Outcome::Ok)
            });
        }
        None if !offered => {
            let reason = Some(LoginRefusal::NotProven.code().to_owned());
            records.push(Record { institution: login.asked, reason, ..denied() });
        }
        None => {}
    }
    for record in records {
        if let Err(error) = server.log.append_async(record).await {
            tracing::error!(%error, "the end of a connection could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    impl russh::server::Handler for Panics {
        type Error = ConnectionError;

        async fn auth_none(&mut self, _: &str) -> Result<russh::server::Auth, ConnectionError> {
            panic!("on purpose")
        }
    }

    struct Anyone;

    impl russh::client::Handler for Anyone {
        type Error = russh::Error;

        async fn check_server_key(
            &mut self,
            _: &russh::keys::PublicKeyOrCertificate,
        ) -> Result<bool, russh::Error> {
            Ok(true)
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_known_for_a_crash() {
        let key = russh::keys::PrivateKey::random(
            &mut russh::keys::key::safe_rng(),
            russh::keys::Algorithm::Ed25519,
        );
        let config = Arc::new(super::super::algorithms::server_config(
            key.unwrap(),
            crate::config::Algorithms::Compat,
            &crate::config::Limits::default(),
        ));
        let (client, server) = tokio::io::duplex(1 << 16);
        let asking = tokio::spawn(async move {
            let config = Arc::new(russh::client::Config::default());
            let mut client = russh::client::connect_stream(config, client, Anyone).await.unwrap();
            let _ = client.authenticate_none("agency").await;
        });
        let running = russh::server::run_stream(config, server, Panics).await.unwrap();
        let ended = timeout(Duration::from_secs(60), running).await.unwrap();
        assert!(End::Disorder(ended.unwrap_err()).is_crash());
        assert!(!End::Disorder(ConnectionError::Ssh(russh::Error::Disconnect)).is_crash());
        asking.await.unwrap();
    }

    #[tokio::test]
    async fn both_families_can_be_listened_on_at_one_port() {
        let v4 = bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = v4.local_addr().unwrap().port();
        match bind(SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port)) {
            Ok(_) => {}
            // A machine without IPv6 has nothing to show.
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::AddrInUse),
        }
    }
}

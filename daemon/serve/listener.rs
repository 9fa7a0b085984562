//! The accept loop: one task per connection, a bound on their number, a deadline on each, and an end that waits for all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Server;
use super::connection::Connection;
use super::ssh::{ConnectionError, Peer, say_goodbye};
use super::tap::Tap;
use crate::host::metrics::ConnectionRefusal;
use crate::host::spool::random;
use crate::policy::account::LoginRefusal;
use crate::policy::record::{Event, Outcome, Record};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// After an accept that failed (no descriptors, most likely), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
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
pub async fn accept(
    server: Arc<Server>,
    listener: TcpListener,
    places: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = told_to_stop(&mut stop) => break,
        };
        let (socket, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            server.metrics.connection_refused(ConnectionRefusal::Full);
            continue;
        };
        let (server, ssh, stop) = (Arc::clone(&server), server.ssh(), stop.clone());
        connections.spawn(async move {
            let _counted = server.metrics.connection();
            if let Err(error) = attend(&server, ssh, socket, stop).await {
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    let ended = timeout(STOP_GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        connections.shutdown().await;
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
    mut stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    let peer = socket.peer_addr()?;
    socket.set_nodelay(true)?;
    let socket = socket.into_std()?;
    let second = socket.try_clone()?;
    let socket = TcpStream::from_std(socket)?;
    let connection = Arc::new(Connection::new(format!("{:016x}", random()), peer, second));
    let handler = Peer::new(Arc::clone(server), Arc::clone(&connection));
    let limits = &server.config().machine.limits;
    let socket = Tap::new(socket, Arc::clone(&ssh), Arc::clone(&connection));
    let running = match timeout(limits.login_grace, russh::server::run_stream(ssh, socket, handler)).await {
        Ok(running) => {
            running.inspect_err(|_| server.metrics.connection_refused(ConnectionRefusal::Protocol))?
        }
        Err(_) => {
            server.metrics.connection_refused(ConnectionRefusal::LoginGrace);
            return Err(ConnectionError::NoIdentification);
        }
    };
    let handle = running.handle();
    tokio::pin!(running);
    let ended = loop {
        let (deadline, cause) = connection.deadline(limits);
        tokio::select! {
            ended = &mut running => break ended,
            () = sleep_until(deadline) => {
                // It may have moved on since the deadline was computed.
                if connection.deadline(limits).0 <= Instant::now() {
                    tracing::info!(session = connection.id, cause, "connection cut");
                    if connection.login().session.is_none() {
                        server.metrics.connection_refused(ConnectionRefusal::LoginGrace);
                    }
                    connection.cut();
                    break running.await;
                }
            }
            () = told_to_stop(&mut stop) => {
                let _ = timeout(Duration::from_secs(1), say_goodbye(&handle)).await;
                connection.cut();
                break running.await;
            }
        }
    };
    record_end(server, &connection).await;
    ended
}

/// The keys that were refused, and the end of the session, or the login that never was.
async fn record_end(server: &Server, connection: &Connection) {
    let login = connection.login();
    let denied = || Record {
        session: Some(connection.id.clone()),
        peer: Some(connection.peer),
        ..Record::new(Event::Login, Outcome::Denied)
    };
    let mut records: Vec<Record> = login
        .refused
        .iter()
        .map(|refused| Record {
            institution: Some(refused.user.clone()),
            key_fingerprint: Some(refused.fingerprint.clone()),
            reason: Some(refused.refusal.code().to_owned()),
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
        None if records.is_empty() => {
            records.push(Record { reason: Some(LoginRefusal::NotProven.code().to_owned()), ..denied() });
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

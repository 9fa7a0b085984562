//! Limits on how many come at once, each by itself, lowered so that it is soon met: from one source, of one institution, in
//! all. What a source has to answer for counts against it and against nobody else.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use crate::PATIENCE;
use crate::wire::{Wire, dial, new_source};
use crate::zone::Zone;

/// A connection from here, and whether it was given a place: the first that the server says is its version.
async fn is_greeted(zone: &Zone, source: Ipv4Addr) -> Option<Wire> {
    let mut wire = Wire::on(dial(zone.address, source).await.ok()?);
    let mut first = [0; 4];
    let came = timeout(PATIENCE, wire.socket.read_exact(&mut first)).await.unwrap();
    (came.is_ok() && &first == b"SSH-").then_some(wire)
}

async fn refused(zone: &Zone, cause: &str) -> f64 {
    zone.metric(&format!("dropzone_connections_refused_total{{cause=\"{cause}\"}}")).await
}

#[tokio::test]
async fn one_source_has_no_more_connections_waiting_for_a_login_than_allowed() {
    let zone = Zone::with("limits: {unauthenticated-per-source: 3}");
    let source = new_source();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(is_greeted(&zone, source).await.unwrap());
    }
    assert!(is_greeted(&zone, source).await.is_none());
    assert_eq!(refused(&zone, "source").await, 1.0);
    zone.lets_in_within_a_second().await;
}

#[tokio::test]
async fn where_too_many_wait_for_a_login_chance_refuses_some() {
    let zone = Zone::with("limits: {unauthenticated: \"3:100:3\"}");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(is_greeted(&zone, new_source()).await.unwrap());
    }
    assert!(is_greeted(&zone, new_source()).await.is_none());
    assert_eq!(refused(&zone, "early-drop").await, 1.0);
    drop(held);
    zone.lets_in_within_a_second().await;
}

#[tokio::test]
async fn who_has_most_connections_waiting_loses_one_to_somebody_else() {
    let zone = Zone::with("limits: {unauthenticated: \"3:100:3\"}");
    let source = new_source();
    let mut first = is_greeted(&zone, source).await.unwrap();
    let _held = [is_greeted(&zone, source).await.unwrap(), is_greeted(&zone, source).await.unwrap()];
    zone.log_in(1 << 20).await;
    assert!(refused(&zone, "displaced").await >= 1.0);
    assert!(first.drain().await.1, "the oldest is cut");
}

/// A session from here, if it is allowed: its user hears of a refusal only once its key is proven.
async fn session(zone: &Zone, source: Ipv4Addr) -> Option<Wire> {
    let wire = Wire::on(dial(zone.address, source).await.ok()?);
    let mut wire = wire.logged_in("agency", &zone.key).await.ok()?;
    wire.sftp(1 << 20, 1 << 15).await.is_ok().then_some(wire)
}

/// The same, once those that were there before are gone.
async fn session_at_last(zone: &Zone, source: Ipv4Addr) {
    for _ in 0..100 {
        if session(zone, source).await.is_some() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("no place becomes free");
}

#[tokio::test]
async fn one_source_has_no_more_sessions_than_allowed() {
    let zone = Zone::with("limits: {sessions-per-source: 2}");
    let source = new_source();
    let held = [session(&zone, source).await.unwrap(), session(&zone, source).await.unwrap()];
    assert!(session(&zone, source).await.is_none());
    zone.lets_in_within_a_second().await;
    drop(held);
    session_at_last(&zone, source).await;
}

#[tokio::test]
async fn one_institution_has_no_more_sessions_than_allowed() {
    let zone = Zone::with("limits: {sessions-per-institution: 2}");
    let held = [session(&zone, new_source()).await.unwrap(), session(&zone, new_source()).await.unwrap()];
    assert!(session(&zone, new_source()).await.is_none());
    drop(held);
    session_at_last(&zone, new_source()).await;
}

#[tokio::test]
async fn a_source_that_never_logs_in_is_refused_for_a_while_and_nobody_else_is() {
    let zone = Zone::start();
    let source = new_source();
    let mut greeted = 0;
    while greeted < 100 && is_greeted(&zone, source).await.is_some() {
        greeted += 1;
        // Its end is counted when the server has seen it.
        sleep(Duration::from_millis(20)).await;
    }
    assert!(greeted < 100, "never refused");
    assert!(refused(&zone, "penalty").await >= 1.0);
    zone.lets_in_within_a_second().await;
}

//! Before anybody is logged in: messages where they do not belong, lengths that are not true, lines without end.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::message::{
    DISCONNECT, EXT_INFO, KEX_ECDH_REPLY, KEXINIT, NEWKEYS, SERVICE_ACCEPT, UNIMPLEMENTED, USERAUTH_FAILURE,
    USERAUTH_PK_OK, kexinit, well_formed,
};
use crate::wire::{Wire, offer};
use crate::zone::Zone;

/// How far a connection has come before it is logged in.
#[derive(Debug, Clone, Copy)]
enum State {
    BeforeVersion,
    AfterVersion,
    AfterKexinit,
    AfterNewkeys,
    AfterServiceAccept,
}

impl State {
    const ALL: [Self; 5] = [
        Self::BeforeVersion,
        Self::AfterVersion,
        Self::AfterKexinit,
        Self::AfterNewkeys,
        Self::AfterServiceAccept,
    ];

    async fn reach(self, address: SocketAddr) -> Result<Wire> {
        match self {
            Self::BeforeVersion => Wire::connect(address).await,
            Self::AfterVersion => Wire::greet(address).await,
            Self::AfterKexinit => {
                let mut wire = Wire::greet(address).await?;
                wire.send(&kexinit()).await?;
                Ok(wire)
            }
            Self::AfterNewkeys => Wire::encrypted(address).await,
            Self::AfterServiceAccept => Wire::serviced(address).await,
        }
    }
}

/// What a server may say to somebody who is not logged in (RFC 4250 §4.1.2). Anything else would mean that it took part
/// in something.
const SAID_TO_STRANGERS: &[u8] = &[
    DISCONNECT,
    UNIMPLEMENTED,
    SERVICE_ACCEPT,
    EXT_INFO,
    KEXINIT,
    NEWKEYS,
    KEX_ECDH_REPLY,
    USERAUTH_FAILURE,
    USERAUTH_PK_OK,
];

#[tokio::test]
async fn no_message_in_any_state_before_authentication_gets_anybody_further() {
    // Random early drop would now and then take one of these away.
    let zone =
        Arc::new(Zone::with("limits: {unauthenticated: \"1000:30:1000\", unauthenticated-per-source: 1000}"));
    let at_rest = zone.at_rest().await;
    let mut attacks = JoinSet::new();
    for state in State::ALL {
        for kind in 1..=255_u8 {
            if attacks.len() == 8 {
                attacks.join_next().await.unwrap().unwrap();
            }
            let zone = Arc::clone(&zone);
            attacks.spawn(async move { send_out_of_place(&zone, state, kind).await });
        }
    }
    while let Some(attack) = attacks.join_next().await {
        attack.unwrap();
    }
    assert_eq!(zone.recorded("open-write") + zone.recorded("open-read"), 0);
    zone.is_unharmed(at_rest).await;
    zone.has_no_partials();
}

/// The message as it would be well-formed elsewhere, one of this type without a body, and the first again.
async fn send_out_of_place(zone: &Zone, state: State, kind: u8) {
    let mut wire = reach(zone, state).await;
    for message in [well_formed(kind), vec![kind], well_formed(kind)] {
        // The server may have cut the connection after the first.
        let _ = wire.send(&message).await;
    }
    wire.end().await;
    if matches!(state, State::BeforeVersion) {
        // What it says first is its version, which is no packet.
        return;
    }
    let (messages, ended) = wire.drain().await;
    assert!(ended, "{state:?}, message {kind}: still open after its end");
    for message in messages {
        let said = message[0];
        assert!(SAID_TO_STRANGERS.contains(&said), "{state:?}, message {kind}: answered {said}");
    }
}

/// Chance may refuse some of many: others get through.
async fn reach(zone: &Zone, state: State) -> Wire {
    for _ in 0..50 {
        if let Ok(wire) = state.reach(zone.address).await {
            return wire;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{state:?} cannot be reached: {}", zone.said());
}

/// More than the sockets of both sides hold.
const TOO_MUCH: usize = 64 << 20;

#[tokio::test]
async fn an_identification_line_without_end_is_cut() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    for line in [&b"SSH-2.0-"[..], b"", b"\n", b"\r\n", b"SSH-1.5-old\r\n", b"\0"] {
        let mut wire = Wire::connect(zone.address).await.unwrap();
        let _ = wire.raw(line).await;
        assert!(is_cut(&mut wire, &[b'A'; 4096]).await, "{line:?}");
    }
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn lines_before_the_identification_are_cut() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wire = Wire::connect(zone.address).await.unwrap();
    assert!(is_cut(&mut wire, b"debug\r\n").await);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn a_packet_beyond_256_kib_is_cut_at_its_header_before_authentication() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    for length in [(256 << 10) + 1024, 1 << 24, u32::MAX] {
        for reach in
            [State::AfterVersion, State::AfterKexinit, State::AfterNewkeys, State::AfterServiceAccept]
        {
            let mut wire = reach.reach(zone.address).await.unwrap();
            wire.raw(&length.to_be_bytes()).await.unwrap();
            // Nothing of its body is waited for.
            let (_, ended) = wire.drain().await;
            assert!(ended, "{reach:?}: {length}");
        }
    }
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn headers_of_256_kib_cost_no_more_than_they_say() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wires = Vec::new();
    for _ in 0..8 {
        let mut wire = Wire::greet(zone.address).await.unwrap();
        wire.raw(&(256_u32 << 10).to_be_bytes()).await.unwrap();
        wires.push(wire);
    }
    zone.lets_in_within_a_second().await;
    zone.holds_at_most(at_rest + crate::zone::SLACK).await;
    drop(wires);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn a_packet_whose_padding_or_length_is_not_possible_is_cut() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let packets: [&[u8]; 5] = [
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 1, 0, 0, 0, 0],
        &[0, 0, 0, 12, 255, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 12, 12, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 12, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for state in [State::AfterVersion, State::AfterKexinit, State::AfterNewkeys, State::AfterServiceAccept] {
        for packet in packets {
            let mut wire = state.reach(zone.address).await.unwrap();
            let _ = wire.raw(packet).await;
            wire.end().await;
            assert!(wire.drain().await.1, "{state:?} {packet:?}");
        }
    }
    zone.is_unharmed(at_rest).await;
}

/// Whether the server ends a connection on which this is sent again and again.
async fn is_cut(wire: &mut Wire, again: &[u8]) -> bool {
    for _ in 0..TOO_MUCH / again.len() {
        if wire.raw(again).await.is_err() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_stranger_cannot_fill_the_access_log() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let before = zone.logged_bytes();
    let user = "u".repeat(200_000);
    for _ in 0..10 {
        let mut wire = Wire::serviced(zone.address).await.unwrap();
        for _ in 0..20 {
            if wire.send(&offer(&user, &zone.key, false)).await.is_err() {
                break;
            }
        }
        wire.drain().await;
    }
    zone.is_unharmed(at_rest).await;
    let more = zone.logged_bytes() - before;
    assert!(more < 64 << 10, "{more} bytes");
}

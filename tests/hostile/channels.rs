//! Somebody with a key who misuses the connection protocol (RFC 4254): channels without end, data beyond the window, answers
//! that are never read, keys exchanged again and again.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::PATIENCE;
use crate::message::{
    CHANNEL_CLOSE, CHANNEL_DATA, CHANNEL_EXTENDED_DATA, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE,
    GLOBAL_REQUEST, about, channel_request, data, number, open_channel, string, well_formed,
};
use crate::sftp::{
    CLOSE, DOWNLOAD, INIT, OPEN, READ, REALPATH, UPLOAD, WRITE, open, packet, read, request, write,
};
use crate::wire::Wire;
use crate::zone::{SLACK, Zone};

#[tokio::test]
async fn of_10_000_channels_only_two_are_open_and_the_connection_is_cut() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let (mut confirmed, mut refused) = (0, 0);
    for ours in 0..10_000 {
        if wire.send(&open_channel("session", ours, 1 << 20, 1 << 15)).await.is_err() {
            break;
        }
        match wire.receive().await {
            Ok(answer) if answer[0] == CHANNEL_OPEN_CONFIRMATION => confirmed += 1,
            Ok(answer) => refused += usize::from(answer[0] == CHANNEL_OPEN_FAILURE),
            Err(_) => break,
        }
    }
    assert_eq!(confirmed, 2);
    assert!(refused <= 1000, "{refused} refusals");
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn channels_of_other_kinds_are_refused_and_cut_too() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let tcp = [string("127.0.0.1"), vec![0, 0, 0, 22], string("127.0.0.1"), vec![0, 0, 0, 22]].concat();
    for (kind, rest) in [
        ("x11", [string("127.0.0.1"), vec![0, 0, 0, 22]].concat()),
        ("direct-tcpip", tcp.clone()),
        ("forwarded-tcpip", tcp),
        ("direct-streamlocal@openssh.com", [string("/run/socket"), string(""), vec![0; 4]].concat()),
        ("auth-agent@openssh.com", Vec::new()),
        ("no-such-kind@example.org", Vec::new()),
    ] {
        let mut wire = zone.wire().await.unwrap();
        wire.send(&[open_channel(kind, 7, 1 << 20, 1 << 15), rest].concat()).await.unwrap();
        let answer = wire.receive().await.unwrap();
        assert_eq!(answer[0], CHANNEL_OPEN_FAILURE, "{kind}");
    }
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn data_beyond_the_window_fill_no_memory() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(1 << 20, 1 << 15).await.unwrap();
    wire.send(&data(channel, &request(OPEN, 1, &open("/pillar-3/in/list.age", UPLOAD)))).await.unwrap();
    // Not one of the window's grants is waited for; held back by the gate, they would all be memory.
    let mut most = 0;
    for piece in 0..256_u32 {
        let body = write("00000000", 1 + u64::from(piece) * 200_000, &vec![0; 200_000]);
        if wire.send(&data(channel, &request(WRITE, piece, &body))).await.is_err() {
            break;
        }
        most = most.max(zone.memory());
    }
    assert!(most <= at_rest + (8 << 20) + SLACK, "{} KiB more", (most - at_rest) >> 10);
    drop(wire);
    zone.is_unharmed(at_rest).await;
    zone.has_no_partials();
}

#[tokio::test]
async fn a_peer_that_never_reads_costs_what_one_socket_holds() {
    let zone = Zone::start();
    zone.put_result("big.age", &vec![7; 8 << 20]);
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(u32::MAX, 1 << 18).await.unwrap();
    wire.send(&data(channel, &request(OPEN, 1, &open("/pillar-3/out/big.age", DOWNLOAD)))).await.unwrap();
    let mut asked = Vec::new();
    for id in 0..1000 {
        asked.extend(request(READ, id, &read(0, 0, 261_120)));
    }
    // The window is as wide as it gets; the socket is never read.
    let unread = async {
        for piece in asked.chunks(30_000) {
            wire.send(&data(channel, piece)).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(Duration::from_secs(5), unread).await;
    zone.lets_in_within_a_second().await;
    let most = zone.memory();
    assert!(most <= at_rest + (32 << 20), "{} KiB more", (most - at_rest) >> 10);
    drop(wire);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn packets_of_one_byte_are_not_the_clients_to_demand() {
    let zone = Zone::start();
    zone.put_result("big.age", &vec![7; 1 << 20]);
    let at_rest = zone.at_rest().await;
    for later in [false, true] {
        let mut wire = zone.wire().await.unwrap();
        wire.send(&open_channel("session", 7, 1 << 30, if later { 1 << 15 } else { 1 })).await.unwrap();
        let opened = wire.expect(CHANNEL_OPEN_CONFIRMATION).await;
        assert_eq!(opened.is_ok(), later, "packets of one byte are no way to open a channel");
        let Ok(opened) = opened else { continue };
        let channel = number(&opened, 5);
        wire.send(&channel_request(channel, "subsystem", &string("sftp"))).await.unwrap();
        if later {
            // As if the server had opened the channel, and this confirmed it.
            let numbers = [7_u32, 1 << 30, 1].map(u32::to_be_bytes).concat();
            wire.send(&about(CHANNEL_OPEN_CONFIRMATION, channel, &numbers)).await.unwrap();
        }
        let asked = [
            packet(INIT, &3_u32.to_be_bytes()),
            request(OPEN, 1, &open("/pillar-3/out/big.age", DOWNLOAD)),
            (2..40).flat_map(|id| request(READ, id, &read(0, 0, 261_120))).collect(),
        ];
        let _ = wire.send(&data(channel, &asked.concat())).await;
        let mut bytes = 0;
        while let Ok(message) = wire.receive().await {
            bytes += usize::from(message[0] == CHANNEL_DATA);
            assert!(bytes < 10_000, "it sends byte by byte");
        }
    }
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn rekeying_again_and_again_stops_nobody_else() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let mut before = Wire::serviced(zone.address).await.unwrap();
    for _ in 0..200 {
        if wire.exchange_keys().await.is_err() {
            break;
        }
    }
    for _ in 0..200 {
        if before.exchange_keys().await.is_err() {
            break;
        }
    }
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn requests_in_the_middle_of_a_key_exchange_pile_up_nowhere() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(1 << 20, 1 << 15).await.unwrap();
    wire.send(&well_formed(crate::message::KEXINIT)).await.unwrap();
    // The exchange is never finished, and meanwhile only its own messages are allowed.
    let asked = data(channel, &request(REALPATH, 1, &string("/")));
    let mut sent = 0;
    while sent < 100_000 && wire.send(&asked).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 100_000, "nothing stops it");
    drop(wire);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn requests_that_change_nothing_are_answered_and_leave_nothing() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(1 << 20, 1 << 15).await.unwrap();
    for message in [
        data(channel, b""),
        about(CHANNEL_EXTENDED_DATA, channel, &[&[0, 0, 0, 1][..], &string("")].concat()),
        about(CHANNEL_EXTENDED_DATA, channel, &[&[0, 0, 0, 1][..], &string("stderr")].concat()),
        about(crate::message::CHANNEL_WINDOW_ADJUST, channel, &[0; 4]),
        about(crate::message::CHANNEL_WINDOW_ADJUST, channel, &[255; 4]),
        data(channel + 1000, b"no such channel"),
        about(CHANNEL_CLOSE, channel + 1000, b""),
        channel_request(channel + 1000, "subsystem", &string("sftp")),
        well_formed(GLOBAL_REQUEST),
    ] {
        for _ in 0..2000 {
            wire.send(&message).await.unwrap();
        }
    }
    // The session goes on.
    wire.send(&data(channel, &request(REALPATH, 77, &string("/")))).await.unwrap();
    let answered = async {
        loop {
            let message = wire.expect(CHANNEL_DATA).await.unwrap();
            if message.windows(5).any(|bytes| bytes == [104, 0, 0, 0, 77]) {
                break;
            }
        }
    };
    timeout(PATIENCE, answered).await.unwrap();
    drop(wire);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn every_message_after_the_login_leaves_the_server_as_it_was() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    for kind in 1..=255 {
        let mut wire = zone.wire().await.unwrap();
        wire.sftp(1 << 20, 1 << 15).await.unwrap();
        for message in [well_formed(kind), vec![kind]] {
            let _ = wire.send(&message).await;
        }
        wire.end().await;
        assert!(wire.drain().await.1, "{kind}");
    }
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn handles_that_are_opened_and_never_closed_end_with_the_connection() {
    let zone = Zone::start();
    zone.put_result("big.age", &[7; 1000]);
    let at_rest = zone.at_rest().await;
    let before = zone.open_files();
    for _ in 0..5 {
        let mut wire = zone.wire().await.unwrap();
        let channel = wire.sftp(1 << 20, 1 << 15).await.unwrap();
        for id in 0..200 {
            wire.send(&data(channel, &request(OPEN, id, &open("/pillar-3/out/big.age", DOWNLOAD))))
                .await
                .unwrap();
        }
        wire.send(&data(channel, &request(CLOSE, 999, &string("00000000")))).await.unwrap();
        wire.expect(CHANNEL_DATA).await.unwrap();
    }
    let start = Instant::now();
    while zone.open_files() > before && start.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(zone.open_files() <= before);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn messages_that_the_library_complains_about_do_not_fill_the_log() {
    let zone = Zone::start();
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(1 << 20, 1 << 15).await.unwrap();
    let before = zone.said().len();
    for message in [
        vec![81],
        vec![82],
        channel_request(channel, "no-such-request@example.org", b""),
        channel_request(channel, "signal", &string("NONSENSE")),
        open_channel("no-such-kind@example.org", 7, 1 << 20, 1 << 15),
        vec![200],
    ] {
        for _ in 0..1000 {
            wire.send(&message).await.unwrap();
        }
    }
    let handed = wire.exchange_keys().await;
    let more = zone.said().len() - before;
    assert!(more < 16 << 10, "{more} bytes, after {handed:?}:\n{}", &zone.said()[before..before + 1000]);
}

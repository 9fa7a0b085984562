//! Each limit by itself, lowered so that it is soon met: what it allows works, one more does not. The grace is `loris`'s,
//! floods are `flood`'s.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::PATIENCE;
use crate::message::{
    CHANNEL_CLOSE, CHANNEL_DATA, CHANNEL_WINDOW_ADJUST, DISCONNECT, IGNORE, USERAUTH_FAILURE, USERAUTH_PK_OK,
    USERAUTH_REQUEST, USERAUTH_SUCCESS, about, data, string,
};
use crate::sftp::{
    DOWNLOAD, OPEN, OPENDIR, READ, REALPATH, UPLOAD, WRITE, open, packet, read, request, string as field,
    write,
};
use crate::wire::{Wire, offer};
use crate::zone::Zone;

fn stranger() -> russh::keys::PrivateKey {
    russh::keys::PrivateKey::random(&mut russh::keys::key::safe_rng(), russh::keys::Algorithm::Ed25519)
        .unwrap()
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_before_a_word() {
    let zone = Zone::with("limits: {connections: 3}");
    let held = [zone.log_in(1 << 20).await, zone.log_in(1 << 20).await, zone.log_in(1 << 20).await];
    let mut one_more = Wire::connect(zone.address).await.unwrap();
    assert_eq!(one_more.drain().await, (Vec::new(), true));
    assert!(zone.metric("dropzone_connections_refused_total{cause=\"full\"}").await >= 1.0);
    drop(held);
    // One that ends makes room.
    zone.log_in(1 << 20).await;
}

#[tokio::test]
async fn rejected_authentications_are_counted_whatever_their_method() {
    let zone = Zone::with("limits: {auth-attempts: 3, key-probes: 100}");
    let by = |method: &str, rest: &[u8]| {
        let head = [string("agency"), string("ssh-connection"), string(method)].concat();
        [&[USERAUTH_REQUEST], &head[..], rest].concat()
    };
    let password = [&[0], &string("secret")[..]].concat();
    let unknown = [string(""), string("")].concat();
    for methods in [
        [by("none", &[]), by("none", &[]), by("none", &[])],
        [by("password", &password), by("password", &password), by("none", &[])],
        [by("keyboard-interactive", &unknown), by("hostbased", &[]), by("none", &[])],
    ] {
        let mut wire = Wire::serviced(zone.address).await.unwrap();
        for method in methods {
            wire.send(&method).await.unwrap();
            assert_eq!(wire.receive().await.unwrap()[0], USERAUTH_FAILURE);
        }
        let proven = wire.signed_request("agency", &zone.key);
        wire.send(&proven).await.unwrap();
        assert_eq!(wire.receive().await.unwrap()[0], DISCONNECT, "even the right key comes too late");
    }
    let mut wire = Wire::serviced(zone.address).await.unwrap();
    for _ in 0..3 {
        let wrong = wire.signed_request("agency", &stranger());
        wire.send(&wrong).await.unwrap();
        assert_eq!(wire.receive().await.unwrap()[0], USERAUTH_FAILURE);
    }
    let proven = wire.signed_request("agency", &zone.key);
    wire.send(&proven).await.unwrap();
    assert_eq!(wire.receive().await.unwrap()[0], DISCONNECT);
}

#[tokio::test]
async fn keys_are_not_probed_without_end_though_each_is_accepted() {
    let zone = Zone::with("limits: {key-probes: 4}");
    let at_rest = zone.at_rest().await;
    let mut wire = Wire::serviced(zone.address).await.unwrap();
    let mut accepted = 0;
    for _ in 0..1000 {
        if wire.send(&offer("agency", &zone.key, false)).await.is_err() {
            break;
        }
        match wire.receive().await {
            Ok(answer) if answer[0] == USERAUTH_PK_OK => accepted += 1,
            _ => break,
        }
    }
    assert_eq!(accepted, 4);
    assert!(zone.metric("dropzone_connections_refused_total{cause=\"attempts\"}").await >= 1.0);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn keys_and_names_that_nobody_has_are_not_probed_without_end_either() {
    let zone = Zone::with("limits: {key-probes: 4, auth-attempts: 100}");
    let at_rest = zone.at_rest().await;
    let mut wire = Wire::serviced(zone.address).await.unwrap();
    let mut rejected = 0;
    for number in 0..100 {
        let _ = wire.send(&offer(&format!("user{number}"), &stranger(), false)).await;
        match wire.receive().await {
            Ok(answer) if answer[0] == USERAUTH_FAILURE => rejected += 1,
            _ => break,
        }
    }
    assert_eq!(rejected, 4);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn so_many_keys_as_are_allowed_may_be_tried_before_the_right_one() {
    let zone = Zone::with("limits: {key-probes: 4, auth-attempts: 4}");
    let mut wire = Wire::serviced(zone.address).await.unwrap();
    for _ in 0..3 {
        wire.send(&offer("agency", &stranger(), false)).await.unwrap();
        assert_eq!(wire.receive().await.unwrap()[0], USERAUTH_FAILURE);
    }
    let proven = wire.signed_request("agency", &zone.key);
    wire.send(&proven).await.unwrap();
    assert_eq!(wire.receive().await.unwrap()[0], USERAUTH_SUCCESS);
}

#[tokio::test]
async fn a_connection_has_no_more_channels_than_allowed() {
    let zone = Zone::with("limits: {channels: 3}");
    let connection = zone.log_in(1 << 20).await;
    let mut channels = Vec::new();
    for _ in 0..3 {
        channels.push(zone.sftp(&connection).await.unwrap());
    }
    assert!(zone.sftp(&connection).await.is_err());
    for channel in &mut channels {
        channel.call(REALPATH, &field("/")).await;
    }
}

#[tokio::test]
async fn a_session_has_no_more_handles_than_allowed() {
    let zone = Zone::with("limits: {handles: 3}");
    zone.put_result("result.age", b"result");
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let first = sftp.call(OPEN, &open("/pillar-3/out/result.age", DOWNLOAD)).await.handle();
    sftp.call(OPEN, &open("/pillar-3/in/list.age", UPLOAD)).await.handle();
    sftp.call(OPENDIR, &field("/")).await.handle();
    assert_ne!(sftp.call(OPENDIR, &field("/")).await.status(), 0);
    assert_ne!(sftp.call(OPEN, &open("/pillar-3/out/result.age", DOWNLOAD)).await.status(), 0);
    assert_ne!(sftp.call(OPEN, &open("/pillar-3/in/other.age", UPLOAD)).await.status(), 0);
    // One that is closed makes room.
    assert_eq!(sftp.call(crate::sftp::CLOSE, &field(&first)).await.status(), 0);
    sftp.call(OPENDIR, &field("/")).await.handle();
}

#[tokio::test]
async fn a_channel_has_no_more_reads_outstanding_than_allowed() {
    let zone = Zone::with("limits: {outstanding-requests: 100}");
    zone.put_result("big.age", &vec![7; 1 << 20]);
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(1 << 20, 1 << 18).await.unwrap();
    wire.send(&data(channel, &request(OPEN, 1, &open("/pillar-3/out/big.age", DOWNLOAD)))).await.unwrap();
    wire.expect(CHANNEL_DATA).await.unwrap();
    // The window holds four answers; the rest wait, some of them in the library.
    for id in 0..90 {
        wire.send(&data(channel, &request(READ, id, &read(0, 0, 261_120)))).await.unwrap();
    }
    wire.send(&about(CHANNEL_WINDOW_ADJUST, channel, &(30_u32 << 20).to_be_bytes())).await.unwrap();
    let mut came = 0;
    while came < 90 * 261_120 {
        came += wire.expect(CHANNEL_DATA).await.unwrap().len();
    }
    for id in 0..300 {
        wire.send(&data(channel, &request(READ, id, &read(0, 0, 261_120)))).await.unwrap();
    }
    wire.send(&about(CHANNEL_WINDOW_ADJUST, channel, &(1_u32 << 30).to_be_bytes())).await.unwrap();
    let mut answered = 0;
    loop {
        match wire.receive().await.unwrap() {
            message if message[0] == CHANNEL_DATA => answered += message.len(),
            message if message[0] == CHANNEL_CLOSE => break,
            _ => {}
        }
    }
    assert!(answered < 200 * 261_120, "{} answers", answered / 261_120);
}

#[tokio::test]
async fn a_session_holds_no_more_in_memory_than_allowed() {
    let zone = Zone::with("limits: {unwritten-bytes: 1 MiB}");
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let handle = sftp.call(OPEN, &open("/pillar-3/in/list.age", UPLOAD)).await.handle();
    let mut held = 0;
    for piece in 0..20_u64 {
        // The first byte never comes, so nothing can be written.
        if sftp.call(WRITE, &write(&handle, 1 + piece * 200_000, &[0; 200_000])).await.status() != 0 {
            break;
        }
        held += 200_000;
    }
    assert!((800_000..=1 << 20).contains(&held), "{held}");
    assert_eq!(zone.files("partial"), Vec::<String>::new());
}

#[tokio::test]
async fn answers_that_are_not_read_are_held_up_to_4_mib() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(1024, 1024).await.unwrap();
    let asked = data(channel, &request(REALPATH, 1, &field(format!("/{}", "a".repeat(200)))).repeat(100));
    let mut sent = 0;
    while sent < 64 << 20 && wire.send(&asked).await.is_ok() {
        sent += asked.len();
    }
    assert!(sent < 64 << 20, "nothing stops it");
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn who_is_logged_in_and_moves_nothing_is_cut() {
    let zone = Zone::with("limits: {idle: 2s}");
    let mut wire = zone.wire().await.unwrap();
    let cut = async {
        // Messages that are no progress of any file or answer.
        while wire.send(&[vec![IGNORE], string("still here")].concat()).await.is_ok() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, cut).await.unwrap();
}

#[tokio::test]
async fn who_moves_something_now_and_then_is_not_cut() {
    let zone = Zone::with("limits: {idle: 2s}");
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    for _ in 0..6 {
        sleep(Duration::from_millis(700)).await;
        sftp.call(REALPATH, &field("/")).await;
    }
}

#[tokio::test]
async fn an_sftp_packet_may_have_256_kib_and_not_one_byte_more() {
    let zone = Zone::start();
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let handle = sftp.call(OPEN, &open("/pillar-3/in/list.age", UPLOAD)).await.handle();
    // Type, id, handle, offset and the length of the data come before them.
    let room = (256 << 10) - 1 - 4 - 12 - 8 - 4;
    assert_eq!(sftp.call(WRITE, &write(&handle, 1, &vec![0; room])).await.status(), 0);
    sftp.ask(WRITE, &write(&handle, 1, &vec![0; room + 1])).await;
    assert_eq!(sftp.rest().await, Vec::<Vec<u8>>::new(), "the channel ends");
    // Its length alone is enough.
    let mut other = zone.sftp(&connection).await.unwrap();
    let head = packet(WRITE, &[]);
    other.raw([&((256_u32 << 10) + 1).to_be_bytes(), &head[4..]].concat()).await;
    assert_eq!(other.rest().await.len(), 1, "the answer to INIT");
}

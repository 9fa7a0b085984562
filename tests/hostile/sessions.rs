//! Bounds on what one session may pile up: channels, handles, files held open, memory.

use std::time::Duration;

use crate::message::{CHANNEL_CLOSE, CHANNEL_EOF, CHANNEL_OPEN_FAILURE, about, data, open_channel};
use crate::sftp::{
    CLOSE, OPEN, OPENDIR, READ, REALPATH, RENAME, WRITE, age_file, open, read, request, string, write,
};
use crate::wire::Wire;
use crate::zone::Zone;

/// Asks for more than a window of 1 KiB has room for.
async fn ask_much(wire: &mut Wire, channel: u32) {
    let path = string(format!("/{}", "a".repeat(200)));
    wire.send(&data(channel, &request(REALPATH, 1, &path).repeat(10))).await.unwrap();
}

#[tokio::test]
async fn answers_that_nobody_reads_keep_their_channel_counted() {
    let zone = Zone::start();
    let mut wire = zone.wire().await.unwrap();
    for _ in 0..2 {
        let channel = wire.sftp(1024, 1024).await.unwrap();
        ask_much(&mut wire, channel).await;
        wire.send(&about(CHANNEL_EOF, channel, b"")).await.unwrap();
    }
    // Both have ended, with their answers still on the server.
    tokio::time::sleep(Duration::from_millis(500)).await;
    wire.send(&open_channel("session", 7, 1024, 1024)).await.unwrap();
    wire.expect(CHANNEL_OPEN_FAILURE).await.unwrap();
}

#[tokio::test]
async fn a_channel_closed_with_answers_unread_does_not_leave_the_others_waiting() {
    let zone = Zone::start();
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(1024, 1024).await.unwrap();
    ask_much(&mut wire, channel).await;
    wire.send(&about(CHANNEL_CLOSE, channel, b"")).await.unwrap();
    // Not served is fine, waiting for ever is not.
    assert!(wire.drain().await.1);
}

#[tokio::test]
async fn channels_cannot_be_opened_and_ended_without_end() {
    let zone = Zone::start();
    let connection = zone.log_in(1 << 20).await;
    let mut opened = 0;
    while opened < 1500
        && let Ok(channel) = connection.channel_open_session().await
    {
        opened += 1;
        // The server ends it then, and its place is free again.
        channel.eof().await.unwrap();
    }
    assert!(opened <= 1000, "{opened}");
}

#[tokio::test]
async fn reads_that_wait_keep_no_more_files_open_than_handles_are_allowed() {
    let zone = Zone::start();
    zone.put_result("big.age", &[7; 300_000]);
    let connection = zone.log_in(1024).await;
    let mut channel = zone.sftp(&connection).await.unwrap();
    let before = zone.open_files();
    for number in 0..200_u32 {
        channel.ask(OPEN, &open("/pillar-3/out/big.age", 1)).await;
        channel.ask(READ, &read(number, 0, 261_120)).await;
        channel.ask(CLOSE, &string(format!("{number:08x}"))).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let more = zone.open_files().saturating_sub(before);
    assert!(more <= 70, "{more}");
}

#[tokio::test]
async fn renamed_temporary_uploads_are_not_all_kept_open() {
    let zone = Zone::start();
    let connection = zone.log_in(1 << 20).await;
    let mut channel = zone.sftp(&connection).await.unwrap();
    let file = age_file();
    let before = zone.open_files();
    for number in 0..150 {
        let (name, next) =
            (format!("/pillar-3/in/{number}.age.part"), format!("/pillar-3/in/{number}.age.tmp"));
        let handle = channel.call(OPEN, &open(&name, 0x1a)).await.handle();
        assert_eq!(channel.call(WRITE, &write(&handle, 0, &file)).await.status(), 0);
        assert_eq!(channel.call(CLOSE, &string(&handle)).await.status(), 0);
        assert_eq!(channel.call(RENAME, &[string(&name), string(&next)].concat()).await.status(), 0);
    }
    let more = zone.open_files().saturating_sub(before);
    assert!(more <= 64 * 3 + 10, "{more}");
}

#[tokio::test]
async fn what_a_session_holds_in_memory_is_bounded_over_all_its_uploads() {
    let zone = Zone::start();
    let connection = zone.log_in(1 << 20).await;
    let mut channel = zone.sftp(&connection).await.unwrap();
    let mut held = 0;
    'refused: for number in 0..30 {
        let handle = channel.call(OPEN, &open(&format!("/pillar-3/in/{number}.age"), 0x1a)).await.handle();
        for piece in 0..3_u64 {
            let answer = channel.call(WRITE, &write(&handle, 1 + piece * 200_000, &[0; 200_000])).await;
            if answer.status() != 0 {
                break 'refused;
            }
            held += 200_000;
        }
    }
    assert!((4 << 20..=8 << 20).contains(&held), "{held}");
    let listing = channel.call(OPENDIR, &string("/")).await.handle();
    assert_eq!(listing.len(), 8, "the session goes on");
}

#[tokio::test]
async fn of_two_sessions_that_upload_one_name_only_the_first_publishes() {
    let zone = Zone::start();
    let (one, other) = (zone.log_in(1 << 20).await, zone.log_in(1 << 20).await);
    let (mut one, mut other) = (zone.sftp(&one).await.unwrap(), zone.sftp(&other).await.unwrap());
    let request = open("/pillar-3/in/list.age", 0x1a);
    let (first, second) =
        (one.call(OPEN, &request).await.handle(), other.call(OPEN, &request).await.handle());
    assert_eq!(one.call(WRITE, &write(&first, 0, &age_file())).await.status(), 0);
    assert_eq!(one.call(CLOSE, &string(&first)).await.status(), 0);
    assert_eq!(other.call(WRITE, &write(&second, 0, &age_file())).await.status(), 0);
    assert_ne!(other.call(CLOSE, &string(&second)).await.status(), 0, "the name is taken by now");
}

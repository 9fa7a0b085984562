//! Somebody with a key who misuses SFTP itself: requests in packets, lengths that are too large, handles of others, no
//! beginning or two of them.

use crate::message::{CHANNEL_REQUEST, data};
use crate::sftp::{
    CLOSE, DOWNLOAD, INIT, OPEN, OPENDIR, READ, REALPATH, REMOVE, UPLOAD, WRITE, age_file, open, packet,
    read, request, string, write,
};
use crate::zone::Zone;

/// Removals of the one result, one after the other, so that some begin wherever the server might start to read.
fn removals(bytes: usize) -> Vec<u8> {
    let one = request(REMOVE, 9, &string("/pillar-3/out/result.age"));
    one.iter().copied().cycle().take(bytes).collect()
}

#[tokio::test]
async fn nothing_in_the_body_of_a_write_of_300_kib_is_executed() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    zone.put_result("result.age", b"result");
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let handle = sftp.call(OPEN, &open("/pillar-3/in/list.age", UPLOAD)).await.handle();
    sftp.raw(request(WRITE, 2, &write(&handle, 0, &removals(300 << 10)))).await;
    // What follows the body would be requests again, if the channel went on.
    sftp.raw(removals(300 << 10)).await;
    let answers = sftp.rest().await;
    assert!(answers.iter().all(|answer| answer[1..5] != 9_u32.to_be_bytes()), "{answers:?}");
    assert_eq!(zone.results(), ["result.age"]);
    assert_eq!(zone.recorded("remove"), 0);
    zone.is_unharmed(at_rest).await;
    zone.has_no_partials();
}

#[tokio::test]
async fn nothing_in_the_body_of_a_write_that_is_refused_is_executed() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    zone.put_result("result.age", b"result");
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let handle = sftp.call(OPEN, &open("/pillar-3/in/list.age", UPLOAD)).await.handle();
    for length in [200_000, 255 << 10] {
        // Not encrypted, and for the second time, and on no handle at all: taken as bytes each time.
        for handle in [&handle[..], "ffffffff", ""] {
            assert_ne!(sftp.call(WRITE, &write(handle, 0, &removals(length))).await.status(), 0);
        }
    }
    assert_eq!(zone.results(), ["result.age"]);
    assert_eq!(zone.recorded("remove"), 0);
    zone.is_unharmed(at_rest).await;
    zone.has_no_partials();
}

#[tokio::test]
async fn a_string_that_is_longer_than_its_packet_takes_nothing_from_the_next() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    zone.put_result("result.age", b"result");
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let handle = sftp.call(OPEN, &open("/pillar-3/in/list.age", UPLOAD)).await.handle();
    let mut body = write(&handle, 0, b"");
    let end = body.len() - 4;
    body[end..].copy_from_slice(&64_u32.to_be_bytes());
    assert_eq!(sftp.call(WRITE, &body).await.status(), 5, "bad message");
    for kind in [OPEN, CLOSE, READ, WRITE, OPENDIR, REMOVE, REALPATH] {
        for body in [&b""[..], &[0, 0, 0], &[255, 255, 255, 255], &[0, 0, 0, 9, 65]] {
            assert_ne!(sftp.call(kind, body).await.status(), 0, "{kind} {body:?}");
        }
    }
    assert_eq!(zone.results(), ["result.age"]);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn a_read_of_4_gib_is_answered_with_what_fits_a_packet() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    zone.put_result("big.age", &vec![7; 1 << 20]);
    let connection = zone.log_in(1 << 22).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    sftp.call(OPEN, &open("/pillar-3/out/big.age", DOWNLOAD)).await.handle();
    let answer = sftp.call(READ, &read(0, 0, u32::MAX)).await;
    assert_eq!((answer.0, answer.1.len()), (103, 4 + (255 << 10)));
    for offset in [u64::MAX, u64::MAX - 1000, 1 << 63, (1 << 63) - 1, 1 << 20] {
        assert_eq!(sftp.call(READ, &read(0, offset, u32::MAX)).await.status(), 1, "end of file: {offset}");
    }
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn a_handle_means_nothing_in_another_session() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    zone.put_result("result.age", &[7; 1000]);
    let (one, two) = (zone.log_in(1 << 20).await, zone.log_in(1 << 20).await);
    let mut owner = zone.sftp(&one).await.unwrap();
    let upload = owner.call(OPEN, &open("/pillar-3/in/list.age", UPLOAD)).await.handle();
    let download = owner.call(OPEN, &open("/pillar-3/out/result.age", DOWNLOAD)).await.handle();
    // On another connection, and on another channel of the same one.
    for mut other in [zone.sftp(&two).await.unwrap(), zone.sftp(&one).await.unwrap()] {
        assert_ne!(other.call(WRITE, &write(&upload, 0, &age_file())).await.status(), 0);
        assert_ne!(other.call(READ, &read(1, 0, 1000)).await.status(), 0);
        assert_ne!(other.call(CLOSE, &string(&upload)).await.status(), 0);
        assert_ne!(other.call(CLOSE, &string(&download)).await.status(), 0);
    }
    assert_eq!(owner.call(READ, &read(1, 0, 1000)).await.0, 103, "still open for its owner");
    drop((one, two));
    zone.is_unharmed(at_rest).await;
    zone.has_no_partials();
}

#[tokio::test]
async fn nothing_is_answered_before_init() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    zone.put_result("result.age", b"result");
    let connection = zone.log_in(1 << 20).await;
    for asked in [
        request(REMOVE, 1, &string("/pillar-3/out/result.age")),
        request(REALPATH, 1, &string("/")),
        request(OPEN, 1, &open("/pillar-3/in/list.age", UPLOAD)),
        packet(0, &[0; 4]),
        packet(255, &[0; 4]),
    ] {
        let mut sftp = zone.silent_sftp(&connection).await.unwrap();
        sftp.raw([asked, packet(INIT, &3_u32.to_be_bytes())].concat()).await;
        assert_eq!(sftp.rest().await, Vec::<Vec<u8>>::new());
    }
    assert_eq!(zone.results(), ["result.age"]);
    zone.is_unharmed(at_rest).await;
    zone.has_no_partials();
}

#[tokio::test]
async fn a_second_init_ends_the_channel() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    zone.put_result("result.age", b"result");
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    sftp.call(REALPATH, &string("/")).await;
    let init = packet(INIT, &3_u32.to_be_bytes());
    sftp.raw([init, request(REMOVE, 2, &string("/pillar-3/out/result.age"))].concat()).await;
    assert_eq!(sftp.rest().await, Vec::<Vec<u8>>::new());
    assert_eq!(zone.results(), ["result.age"]);
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn of_100_000_reads_in_one_go_no_more_wait_than_are_allowed() {
    let zone = Zone::start();
    zone.put_result("big.age", &vec![7; 1 << 20]);
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let channel = wire.sftp(1 << 20, 1 << 15).await.unwrap();
    wire.send(&data(channel, &request(OPEN, 1, &open("/pillar-3/out/big.age", DOWNLOAD)))).await.unwrap();
    let asked: Vec<u8> = (0..100_000).flat_map(|id| request(READ, id, &read(0, 0, 261_120))).collect();
    for piece in asked.chunks(200_000) {
        // The window has room for four answers and gets no more.
        wire.send(&data(channel, piece)).await.unwrap();
    }
    let end = wire.expect(CHANNEL_REQUEST).await.unwrap();
    assert!(end.windows(11).any(|bytes| bytes == b"exit-status"));
    drop(wire);
    zone.is_unharmed(at_rest).await;
}

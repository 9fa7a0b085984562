//! Clients that do not understand, try again, or ask for too much: what each of them is told, and what it costs.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::sftp::{CLOSE, OPEN, REALPATH, RENAME, Sftp, UPLOAD, WRITE, age_file, open, string, write};
use crate::zone::Zone;

const FSETSTAT: u8 = 10;
const MKDIR: u8 = 14;
const STAT: u8 = 17;
const NO_SUCH_FILE: u32 = 2;
const FAILURE: u32 = 4;
/// WRITE, CREAT and EXCL.
const NEW: u32 = 0x2a;

const LIST: &str = "/pillar-3/in/list.age";

/// The answers to WRITE and CLOSE.
async fn put(sftp: &mut Sftp, path: &str, content: &[u8]) -> (u32, u32) {
    let handle = sftp.call(OPEN, &open(path, UPLOAD)).await.handle();
    let written = sftp.call(WRITE, &write(&handle, 0, content)).await.status();
    (written, sftp.call(CLOSE, &string(&handle)).await.status())
}

#[tokio::test]
async fn a_client_that_ignores_a_refusal_loses_its_channel_and_nothing_else() {
    let zone = Zone::start();
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let handle = sftp.call(OPEN, &open(LIST, UPLOAD)).await.handle();
    for at in 0..3 {
        let answer = sftp.call(WRITE, &write(&handle, at * 5, b"insz\n")).await;
        assert_ne!(answer.status(), 0, "every request on it fails");
    }
    assert_eq!(sftp.call(STAT, &string(LIST)).await.status(), NO_SUCH_FILE);
    let start = Instant::now();
    assert!(sftp.rest().await.is_empty(), "then the channel ends");
    assert!(start.elapsed() > Duration::from_secs(1), "but not at once: others had an answer to read");
    let mut sftp = zone.sftp(&connection).await.unwrap();
    assert_eq!(put(&mut sftp, LIST, &age_file()).await, (0, 0));
}

#[tokio::test]
async fn a_client_that_closes_what_was_refused_keeps_its_session() {
    let zone = Zone::start();
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let (written, closed) = put(&mut sftp, LIST, b"insz\n").await;
    assert!(written != 0 && closed != 0);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(sftp.call(STAT, &string(LIST)).await.status(), NO_SUCH_FILE);
    assert_eq!(put(&mut sftp, LIST, &age_file()).await, (0, 0));
}

#[tokio::test]
async fn the_same_content_again_is_a_success_and_other_content_is_told_so_at_once() {
    let zone = Zone::start();
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let file = age_file();
    for _ in 0..3 {
        assert_eq!(put(&mut sftp, LIST, &file).await, (0, 0));
    }
    let temporary = "/pillar-3/in/list.age.part";
    assert_eq!(put(&mut sftp, temporary, &file).await, (0, 0));
    assert_eq!(sftp.call(RENAME, &[string(temporary), string(LIST)].concat()).await.status(), 0);
    assert_eq!(sftp.call(OPEN, &open(LIST, NEW)).await.status(), FAILURE, "it is there");
    // Of the same size, so that nothing but the answers tells.
    let (written, closed) = put(&mut sftp, LIST, &age_file()).await;
    assert_eq!((written, closed), (FAILURE, FAILURE), "the header tells, before the end");
    assert_eq!(sftp.call(STAT, &string(LIST)).await.status(), NO_SUCH_FILE, "what was refused is gone");
    assert_eq!(put(&mut sftp, temporary, &age_file()).await, (0, 0));
    let renamed = sftp.call(RENAME, &[string(temporary), string(LIST)].concat()).await;
    assert_eq!(renamed.status(), FAILURE);
    let other = sftp.call(RENAME, &[string(temporary), string("/pillar-3/in/other.age")].concat()).await;
    assert_eq!(other.status(), 0, "an upload whose name is taken can have another");
    assert_eq!(zone.files("incoming").iter().filter(|name| *name == "payload.age").count(), 2);
    zone.has_no_partials();
}

#[tokio::test]
async fn of_two_temporary_uploads_renamed_to_one_name_at_once_one_is_published() {
    let zone = Zone::start();
    let mut sessions = Vec::new();
    for number in 0..4 {
        let connection = zone.log_in(1 << 20).await;
        let mut sftp = zone.sftp(&connection).await.unwrap();
        let temporary = format!("/pillar-3/in/{number}.age.part");
        assert_eq!(put(&mut sftp, &temporary, &age_file()).await, (0, 0));
        sftp.ask(RENAME, &[string(&temporary), string(LIST)].concat()).await;
        sessions.push((connection, sftp));
    }
    let mut published = 0;
    for (_connection, sftp) in &mut sessions {
        let answer = sftp.next().await.unwrap();
        published += usize::from(answer[5..9] == [0; 4]);
    }
    assert_eq!(published, 1);
    assert_eq!(zone.files("incoming").iter().filter(|name| *name == "payload.age").count(), 1);
}

#[tokio::test]
async fn an_upload_cut_to_nothing_is_inspected_from_its_first_byte_again() {
    let zone = Zone::start();
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let handle = sftp.call(OPEN, &open(LIST, UPLOAD)).await.handle();
    assert_eq!(sftp.call(WRITE, &write(&handle, 0, &age_file())).await.status(), 0);
    let size_0 = [string(&handle), 1_u32.to_be_bytes().to_vec(), vec![0; 8]].concat();
    assert_eq!(sftp.call(FSETSTAT, &size_0).await.status(), 0);
    assert_ne!(sftp.call(WRITE, &write(&handle, 0, b"insz\n85073003328\n")).await.status(), 0);
    zone.has_no_partials();
    let handle = sftp.call(OPEN, &open("/pillar-3/in/b.age", UPLOAD)).await.handle();
    assert_eq!(sftp.call(WRITE, &write(&handle, 0, &age_file())).await.status(), 0);
    let size_0 = [string(&handle), 1_u32.to_be_bytes().to_vec(), vec![0; 8]].concat();
    assert_eq!(sftp.call(FSETSTAT, &size_0).await.status(), 0);
    assert_eq!(sftp.call(WRITE, &write(&handle, 0, &age_file())).await.status(), 0);
    assert_eq!(sftp.call(CLOSE, &string(&handle)).await.status(), 0, "a file that begins anew is a file");
}

#[tokio::test]
async fn unfinished_uploads_are_bounded_in_number() {
    let zone = Zone::with("limits: {partials: 3}");
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    for number in 0..3 {
        assert_eq!(put(&mut sftp, &format!("/pillar-3/in/{number}.age.part"), &age_file()).await, (0, 0));
    }
    assert_eq!(sftp.call(OPEN, &open("/pillar-3/in/3.age.part", UPLOAD)).await.status(), FAILURE);
    assert_eq!(sftp.call(OPEN, &open("/pillar-3/in/0.age.part", UPLOAD)).await.handle().len(), 8);
    let rename = [string("/pillar-3/in/1.age.part"), string("/pillar-3/in/1.age")].concat();
    assert_eq!(sftp.call(RENAME, &rename).await.status(), 0);
    assert_eq!(put(&mut sftp, "/pillar-3/in/3.age.part", &age_file()).await, (0, 0), "there is room again");
}

#[tokio::test]
async fn a_session_that_is_turned_down_all_the_time_is_ended() {
    let zone = Zone::with("limits: {refusals-per-session: 20}");
    let connection = zone.log_in(1 << 20).await;
    let (mut one, mut other) = (zone.sftp(&connection).await.unwrap(), zone.sftp(&connection).await.unwrap());
    for _ in 0..20 {
        assert_ne!(one.call(MKDIR, &[string("/x"), vec![0; 4]].concat()).await.status(), 0);
    }
    assert_eq!(one.call(REALPATH, &string("/")).await.0, 104, "so many are allowed");
    one.ask(MKDIR, &[string("/x"), vec![0; 4]].concat()).await;
    assert!(other.rest().await.iter().all(|packet| packet[0] == 2), "the whole connection ends");
    zone.lets_in_within_a_second().await;
}

#[tokio::test]
async fn bytes_that_wait_for_others_are_bounded_over_all_sessions() {
    let zone = Zone::with("limits: {unwritten-bytes-in-all: 1 MiB}");
    let mut held = Vec::new();
    let mut taken = 0;
    for _ in 0..4 {
        let connection = zone.log_in(1 << 20).await;
        let mut sftp = zone.sftp(&connection).await.unwrap();
        let handle = sftp.call(OPEN, &open(LIST, UPLOAD)).await.handle();
        for piece in 0..2_u64 {
            let early = write(&handle, 1 + piece * 250_000, &[0; 250_000]);
            taken += usize::from(sftp.call(WRITE, &early).await.status() == 0);
        }
        held.push((connection, sftp));
    }
    assert_eq!(taken, 4, "four pieces of 250,000 bytes fit into 1 MiB");
    drop(held);
    sleep(Duration::from_secs(1)).await;
    let connection = zone.log_in(1 << 20).await;
    let mut sftp = zone.sftp(&connection).await.unwrap();
    let handle = sftp.call(OPEN, &open(LIST, UPLOAD)).await.handle();
    let early = write(&handle, 1, &[0; 250_000]);
    assert_eq!(sftp.call(WRITE, &early).await.status(), 0, "what a session held goes with it");
}

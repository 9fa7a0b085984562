//! Two things at once, each of them harmless: a limit that is met by the one and forgotten by the other, or that falls on
//! somebody else.

use std::time::Duration;

use tokio::time::sleep;

use crate::message::{
    CHANNEL_DATA, USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_REQUEST, data, string as text,
};
use crate::sftp::{CLOSE, OPEN, REALPATH, RENAME, UPLOAD, WRITE, age_file, open, request, string, write};
use crate::wire::{Wire, dial, new_source, offer};
use crate::zone::Zone;

/// WRITE alone: what is there is gone on with.
const GO_ON: u32 = 2;

#[tokio::test]
async fn answers_unread_on_one_channel_count_whatever_is_read_on_another() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let mut wire = zone.wire().await.unwrap();
    let unread = wire.another_sftp(7, 1024, 1024).await.unwrap();
    let read = wire.another_sftp(8, 1 << 30, 1 << 15).await.unwrap();
    let asked = data(unread, &request(REALPATH, 1, &string(format!("/{}", "a".repeat(200)))).repeat(100));
    let other = data(read, &request(REALPATH, 1, &string("/")));
    let mut sent = 0;
    while sent < 32 << 20 {
        // About 2 MiB of answers that wait, then one that does not.
        let mut can_send = true;
        for _ in 0..40 {
            can_send &= wire.send(&asked).await.is_ok();
            sent += asked.len();
        }
        if !can_send || wire.send(&other).await.is_err() || wire.expect(CHANNEL_DATA).await.is_err() {
            break;
        }
    }
    assert!(
        sent < 32 << 20,
        "nothing stops it: {} KiB more are held",
        zone.memory().saturating_sub(at_rest) >> 10
    );
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn who_is_displaced_by_others_is_not_penalised_for_it() {
    let zone = Zone::with("limits: {unauthenticated: \"6:100:100\"}");
    let office = new_source();
    let mut logins = Vec::new();
    for _ in 0..6 {
        let mut wire = Wire::on(dial(zone.address, office).await.unwrap()).with_service().await.unwrap();
        wire.send(&offer("agency", &zone.key, false)).await.unwrap();
        assert_eq!(wire.receive().await.unwrap()[0], USERAUTH_PK_OK, "a login like any other, on its way");
        logins.push(wire);
    }
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(Wire::greet(zone.address).await.unwrap());
    }
    let displaced = "dropzone_connections_refused_total{cause=\"displaced\"}";
    assert_eq!(zone.metric(displaced).await, 4.0);
    for wire in &mut logins[..4] {
        assert!(wire.drain().await.1);
    }
    drop(strangers);
    for _ in 0..50 {
        // Until the strangers have left their places; a penalty would last longer.
        let socket = dial(zone.address, office).await.unwrap();
        if Wire::on(socket).logged_in("agency", &zone.key).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("strangers had the office locked out");
}

#[tokio::test]
async fn uploads_opened_while_there_was_room_for_one_do_not_all_come_to_lie_on_the_disk() {
    let zone = Zone::with("limits: {partials: 5}");
    let connection = zone.log_in(1 << 20).await;
    let mut channel = zone.sftp(&connection).await.unwrap();
    let mut handles = Vec::new();
    for number in 0..20 {
        let opened = channel.call(OPEN, &open(&format!("/pillar-3/in/{number}.age.part"), UPLOAD)).await;
        handles.push(opened.handle());
    }
    let (mut taken, file) = (0, age_file());
    for handle in &handles {
        taken += usize::from(channel.call(WRITE, &write(handle, 0, &file)).await.status() == 0);
    }
    assert_eq!((taken, zone.files("partial").len()), (5, 5));
    // Those that are there can be begun anew.
    assert_eq!(channel.call(CLOSE, &string(&handles[0])).await.status(), 0);
    let anew = channel.call(OPEN, &open("/pillar-3/in/0.age.part", UPLOAD)).await.handle();
    assert_eq!(channel.call(WRITE, &write(&anew, 0, &file)).await.status(), 0);
}

#[tokio::test]
async fn a_file_is_not_read_again_and_again_for_a_name_that_is_in_use() {
    const SIZE: usize = 25 << 20;
    let zone = Zone::start();
    let connection = zone.log_in(1 << 24).await;
    let mut channel = zone.sftp(&connection).await.unwrap();
    let mut file = age::encrypt(&age::x25519::Identity::generate().to_public(), &vec![7; SIZE]).unwrap();
    for name in ["list.age", "other.age.part"] {
        let handle = channel.call(OPEN, &open(&format!("/pillar-3/in/{name}"), UPLOAD)).await.handle();
        for (number, part) in (0_u64..).zip(file.chunks(200_000)) {
            let written = channel.call(WRITE, &write(&handle, number * 200_000, part)).await;
            assert_eq!(written.status(), 0);
        }
        assert_eq!(channel.call(CLOSE, &string(&handle)).await.status(), 0);
        // The same header and length; only its digest tells the other file.
        *file.last_mut().unwrap() ^= 1;
    }
    let before = zone.bytes_read();
    for round in 0..20 {
        if round % 5 == 0 {
            // Another channel is no new beginning.
            channel.end().await;
            channel = zone.sftp(&connection).await.unwrap();
        }
        let handle = channel.call(OPEN, &open("/pillar-3/in/other.age.part", GO_ON)).await.handle();
        assert_eq!(channel.call(CLOSE, &string(&handle)).await.status(), 0);
        let names = [string("/pillar-3/in/other.age.part"), string("/pillar-3/in/list.age")].concat();
        assert_ne!(channel.call(RENAME, &names).await.status(), 0);
    }
    let read = zone.bytes_read() - before;
    // The flow takes 100 MiB.
    assert!(read < 300 << 20, "{} MiB were read", read >> 20);
    assert!(zone.files("partial").len() == 1, "it stays, to be renamed to another name");
}

#[tokio::test]
async fn who_asks_to_log_in_is_recorded_whatever_the_method() {
    let zone = Zone::start();
    let password = [&[0], &text("secret")[..]].concat();
    let nothing = [text(""), text("")].concat();
    for (method, rest) in [("none", &[][..]), ("password", &password), ("keyboard-interactive", &nothing)] {
        let before = zone.recorded("login");
        let mut wire = Wire::serviced(zone.address).await.unwrap();
        let head = [text("agency"), text("ssh-connection"), text(method)].concat();
        wire.send(&[&[USERAUTH_REQUEST], &head[..], rest].concat()).await.unwrap();
        assert_eq!(wire.receive().await.unwrap()[0], USERAUTH_FAILURE);
        drop(wire);
        for _ in 0..100 {
            if zone.recorded("login") > before {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(zone.recorded("login"), before + 1, "{method}");
    }
}

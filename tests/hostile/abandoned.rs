//! Peers that are gone in the middle of something. What was begun publishes nothing, and nothing of it stays but the partial
//! of an upload whose header had passed.

use std::time::Duration;

use crate::message::{CHANNEL_DATA, KEX_ECDH_INIT, KEXINIT, data, kexinit, string};
use crate::sftp::{CLOSE, OPEN, REALPATH, RENAME, UPLOAD, WRITE, age_file, open, request, write};
use crate::wire::{Wire, offer};
use crate::zone::Zone;

/// The session's channel and the requests that go over it, one after the other.
struct Session {
    wire: Wire,
    channel: u32,
}

impl Session {
    async fn begin(zone: &Zone) -> Self {
        let mut wire = zone.wire().await.unwrap();
        let channel = wire.sftp(1 << 20, 1 << 15).await.unwrap();
        wire.expect(CHANNEL_DATA).await.unwrap();
        Self { wire, channel }
    }

    async fn call(&mut self, request: &[u8]) {
        self.wire.send(&data(self.channel, request)).await.unwrap();
        self.wire.expect(CHANNEL_DATA).await.unwrap();
    }

    /// Sends a part of what would make one request, and is gone; with a reset, as when a machine goes down, or with an end.
    async fn leave(mut self, request: &[u8], part: usize, reset: bool) {
        let packet = self.wire.packet(&data(self.channel, request));
        self.wire.raw(&packet[..part.min(packet.len())]).await.unwrap();
        if reset {
            self.wire.socket.set_zero_linger().unwrap();
        }
    }
}

/// Nothing of it, the length only, half a packet, all of it.
const PARTS: [usize; 4] = [0, 4, 60, usize::MAX];

#[tokio::test]
async fn a_peer_gone_in_the_middle_of_an_upload_publishes_nothing() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let file = age_file();
    let path = "/pillar-3/in/list.age";
    let steps = |handle: &str| {
        [
            request(OPEN, 1, &open(path, UPLOAD)),
            request(WRITE, 2, &write(handle, 0, &file[..100])),
            request(WRITE, 3, &write(handle, 100, &file[100..])),
            request(CLOSE, 4, &string(handle)),
        ]
    };
    for reset in [false, true] {
        for part in PARTS {
            // The last step's last part would be a whole CLOSE, which publishes, as it should.
            for last in 0..steps("00000000").len() - usize::from(part == usize::MAX) {
                let mut session = Session::begin(&zone).await;
                let steps = steps("00000000");
                for step in &steps[..last] {
                    session.call(step).await;
                }
                session.leave(&steps[last], part, reset).await;
            }
        }
    }
    all_have_ended(&zone).await;
    assert!(zone.files("partial").iter().all(|name| name == "payload.age"), "{:?}", zone.files("partial"));
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn a_peer_gone_before_its_rename_publishes_nothing() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    for part in [0, 4, 60] {
        let mut session = Session::begin(&zone).await;
        for step in [
            request(OPEN, 1, &open("/pillar-3/in/list.age.part", UPLOAD)),
            request(WRITE, 2, &write("00000000", 0, &age_file())),
            request(CLOSE, 3, &string("00000000")),
        ] {
            session.call(&step).await;
        }
        let rename = [string("/pillar-3/in/list.age.part"), string("/pillar-3/in/list.age")].concat();
        session.leave(&request(RENAME, 4, &rename), part, part == 4).await;
    }
    all_have_ended(&zone).await;
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn a_peer_gone_in_the_middle_of_a_key_exchange_or_a_login_leaves_nothing() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let files = zone.open_files();
    for reset in [false, true] {
        for part in PARTS {
            for step in 0..6 {
                let mut wire = match step {
                    0 | 1 => Wire::greet(zone.address).await.unwrap(),
                    2 => Wire::encrypted(zone.address).await.unwrap(),
                    3 | 4 => Wire::serviced(zone.address).await.unwrap(),
                    _ => zone.wire().await.unwrap(),
                };
                let message = match step {
                    0 | 5 => kexinit(),
                    1 => {
                        wire.send(&kexinit()).await.unwrap();
                        wire.expect(KEXINIT).await.unwrap();
                        [vec![KEX_ECDH_INIT], string([9; 32])].concat()
                    }
                    2 => [vec![crate::message::SERVICE_REQUEST], string("ssh-userauth")].concat(),
                    3 => offer("agency", &zone.key, false),
                    _ => wire.signed_request("agency", &zone.key),
                };
                let packet = wire.packet(&message);
                wire.raw(&packet[..part.min(packet.len())]).await.unwrap();
                if reset {
                    wire.socket.set_zero_linger().unwrap();
                }
            }
        }
    }
    all_have_ended(&zone).await;
    assert!(zone.open_files() <= files, "{} descriptors, not {files}", zone.open_files());
    zone.is_unharmed(at_rest).await;
    zone.has_no_partials();
}

#[tokio::test]
async fn a_name_left_behind_by_a_lost_connection_can_be_taken_up_at_once() {
    let zone = Zone::start();
    for _ in 0..5 {
        let mut session = Session::begin(&zone).await;
        session.call(&request(OPEN, 1, &open("/pillar-3/in/list.age", UPLOAD))).await;
        session.call(&request(WRITE, 2, &write("00000000", 0, &age_file()))).await;
        session.leave(&request(REALPATH, 3, &string("/")), 0, true).await;
    }
    let mut session = Session::begin(&zone).await;
    for step in [
        request(OPEN, 1, &open("/pillar-3/in/list.age", UPLOAD)),
        request(WRITE, 2, &write("00000000", 0, &age_file())),
        request(CLOSE, 3, &string("00000000")),
    ] {
        session.call(&step).await;
    }
    assert_eq!(zone.files("incoming").len(), 2, "the file and its description");
}

/// Until `serve` counts no connection any more.
async fn all_have_ended(zone: &Zone) {
    for _ in 0..200 {
        if zone.metric("dropzone_connections").await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("connections stay open");
}

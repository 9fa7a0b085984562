//! Thousands of peers at once, from many addresses. What they take together is bounded, and somebody who may log in does.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::message::kexinit;
use crate::wire::{Wire, dial};
use crate::zone::Zone;

const SOURCES: u8 = 50;
const CONNECTIONS: usize = 2000;
const DURATION: Duration = Duration::from_secs(10);
/// How much more than at rest `serve` may hold meanwhile.
const MORE: usize = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_takes_bounded_memory_and_keeps_nobody_out() {
    let zone = Zone::start();
    let at_rest = zone.at_rest().await;
    let address = zone.address;
    let mut flood = JoinSet::new();
    for number in 0..CONNECTIONS {
        let source = Ipv4Addr::new(127, 50, 0, 1 + u8::try_from(number % usize::from(SOURCES)).unwrap());
        flood.spawn(async move {
            sleep(DURATION * u32::try_from(number).unwrap() / u32::try_from(CONNECTIONS).unwrap()).await;
            // Refused or not: what the server has kept is held until the end of the flood.
            let Ok(socket) = dial(address, source).await else { return };
            let mut wire = Wire::on(socket);
            match number % 4 {
                0 => {}
                1 => drop(wire.socket.write_all(b"SSH-2.0-flood\r\n").await),
                2 => {
                    let _ = wire.socket.write_all(b"SSH-2.0-flood\r\n").await;
                    let _ = wire.send(&kexinit()).await;
                }
                _ => {
                    let _ = wire.socket.write_all(b"SSH-2.0-flood\r\n").await;
                    let _ = wire.socket.write_all(&(256_u32 << 10).to_be_bytes()).await;
                    let _ = wire.socket.write_all(&[0; 200_000]).await;
                }
            }
            sleep(DURATION).await;
        });
    }
    let (mut most, mut ticks) = (0, interval(Duration::from_secs(1)));
    for _ in 0..DURATION.as_secs() {
        ticks.tick().await;
        most = most.max(zone.memory());
        zone.lets_in_within_a_second().await;
        most = most.max(zone.memory());
    }
    assert!(most <= at_rest + MORE, "{} KiB more", (most - at_rest) >> 10);
    flood.shutdown().await;
    zone.is_unharmed(at_rest).await;
    zone.has_no_partials();
}

//! Peers that take their time before they log in, each in another way. All are cut when the login grace is over, whatever
//! they send meanwhile.

use std::io::Result;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::PATIENCE;
use crate::message::{IGNORE, kexinit, string};
use crate::wire::{Wire, offer};
use crate::zone::Zone;

const GRACE: &str = "limits: {login-grace: 2s}";
/// Between two bytes or messages: well below any timer that starts again with each.
const PAUSE: Duration = Duration::from_millis(250);
/// Ten times the grace, in pauses.
const LONG: usize = 80;
const CUT: &str = "dropzone_connections_refused_total{cause=\"login-grace\"}";

#[derive(Debug, Clone, Copy)]
enum Loris {
    NoBytes,
    BannerByteByByte,
    BannerThenSilence,
    KexinitByteByByte,
    SilenceAfterKex,
    RequestsOneByOne,
}

const ALL: [Loris; 6] = [
    Loris::NoBytes,
    Loris::BannerByteByByte,
    Loris::BannerThenSilence,
    Loris::KexinitByteByByte,
    Loris::SilenceAfterKex,
    Loris::RequestsOneByOne,
];

#[tokio::test]
async fn whoever_is_slow_to_log_in_is_cut_at_the_end_of_the_grace() {
    let zone = Zone::with(GRACE);
    let at_rest = zone.at_rest().await;
    let (address, key) = (zone.address, &zone.key);
    let mut all = JoinSet::new();
    for loris in ALL {
        let key = key.clone();
        all.spawn(async move {
            let mut wire = match loris {
                Loris::NoBytes | Loris::BannerByteByByte => Wire::connect(address).await.unwrap(),
                Loris::BannerThenSilence | Loris::KexinitByteByByte => Wire::greet(address).await.unwrap(),
                Loris::SilenceAfterKex => Wire::encrypted(address).await.unwrap(),
                Loris::RequestsOneByOne => Wire::serviced(address).await.unwrap(),
            };
            // Its socket is read meanwhile, so that a cut is seen and the server never waits for room.
            let dribbled = async {
                for turn in 0..LONG {
                    sleep(PAUSE).await;
                    if go_on(loris, &mut wire, turn, &key).await.is_err() {
                        return true;
                    }
                }
                false
            };
            (loris, timeout(PATIENCE, dribbled).await.unwrap_or(false))
        });
    }
    while let Some(one) = all.join_next().await {
        let (loris, cut) = one.unwrap();
        assert!(cut, "{loris:?} was not cut");
    }
    assert_eq!(zone.metric(CUT).await, 6.0, "each was cut for this and nothing else");
    zone.is_unharmed(at_rest).await;
}

#[tokio::test]
async fn a_login_that_began_in_time_is_not_cut_by_the_grace() {
    let zone = Zone::with(GRACE);
    let connection = zone.log_in(1 << 20).await;
    sleep(Duration::from_secs(3)).await;
    assert!(zone.sftp(&connection).await.is_ok());
}

/// Sends a little more. An error once the server has cut the connection.
async fn go_on(loris: Loris, wire: &mut Wire, turn: usize, key: &russh::keys::PrivateKey) -> Result<()> {
    match loris {
        Loris::NoBytes | Loris::BannerThenSilence | Loris::SilenceAfterKex => {}
        Loris::BannerByteByByte => wire.raw(&b"SSH-2.0-".get(turn..=turn).unwrap_or(b"x")[..1]).await?,
        Loris::KexinitByteByByte => {
            let packet = wire.packet(&kexinit());
            wire.raw(&packet[turn..=turn]).await?;
        }
        Loris::RequestsOneByOne if turn.is_multiple_of(2) => {
            wire.send(&[vec![IGNORE], string("still here")].concat()).await?;
        }
        // A key that may log in, which is never proven.
        Loris::RequestsOneByOne => wire.send(&offer("agency", key, false)).await?,
    }
    take_what_came(wire).await
}

async fn take_what_came(wire: &mut Wire) -> Result<()> {
    let mut came = [0; 4096];
    match timeout(Duration::from_millis(1), wire.socket.read(&mut came)).await {
        Ok(Ok(0)) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

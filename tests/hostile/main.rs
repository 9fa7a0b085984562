//! Peers with bad intentions, against the real `serve`: without a key, with one, and many at once. After each attack a
//! legitimate login works, memory is back, and nothing was published.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod abandoned;
mod channels;
mod clients;
mod combined;
mod flood;
mod handshake;
mod limits;
mod loris;
mod message;
mod requests;
mod sessions;
mod sftp;
mod wire;
mod zone;

use std::time::Duration;

/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(20);

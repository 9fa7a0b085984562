//! The five published agreements, end to end: the exchange files as they are shipped, the real program at dates on which they
//! are in force or are not, real clients, made-up people. What leaves is compared with what `expect.py` computes from the
//! same lists.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and tells what it saw"
)]

#[expect(dead_code, reason = "the zone's own tests use what is left over")]
#[path = "../harness/mod.rs"]
mod harness;

mod feedback;
mod lommel;
mod mechelen;
mod people;
mod pillar;
mod protection;
mod scale;
mod shipped;

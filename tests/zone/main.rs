//! The promises of the drop zone, kept by the real program: each test lays out a zone of its own, starts `dropzone run` on
//! a loopback address of its own, and drives it with the programs that institutions and operators use.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and tells what it saw"
)]

mod agreement;
mod algorithms;
mod asking;
mod audit;
mod backup;
mod collected;
mod containment;
mod content;
mod delivery;
mod demo;
mod durability;
mod evenhanded;
mod evidence;
mod faults;
mod gate;
mod habits;
mod handoff;
#[path = "../harness/mod.rs"]
mod harness;
mod hold;
mod incidents;
mod isolation;
mod jobs;
mod kit;
mod limits;
mod logins;
mod operations;
mod paramiko;
mod passphrase;
mod paths;
mod postgres;
mod receipts;
mod record;
mod refusals;
mod replay;
mod report;
mod retention;
mod revocation;
mod scale;
mod smuggling;
mod space;

//! Several nodes, each with a `serve` and a `work` of its own, on one spool and one log folder: whatever is killed or stopped
//! in the middle, every list is delivered exactly once. Real programs, real signals.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and tells what it saw"
)]

mod apart;
#[expect(dead_code, reason = "the zone's own tests use what is left over")]
#[path = "../harness/mod.rs"]
mod harness;
mod node;
mod stopped;

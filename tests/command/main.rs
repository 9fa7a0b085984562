//! Programs of `command` jobs, honest and hostile, each run as `work` runs it: by the real program, which confines itself and
//! becomes the other. What a hostile one tries must come to nothing, and nothing of it may be left.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]

mod attacks;
mod bench;
#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "what these tests need of zones is a part of what others need")]
mod harness;
mod limits;
mod rows;
mod zones;

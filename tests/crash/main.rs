//! Nothing acknowledged is ever lost, whatever happens to the processes, the disk or the power: the real program on a disk
//! that can be told to forget, to fail, and to kill who uses it at any operation (`disk`).

#![expect(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and tells what it saw; of the harness only a part is used"
)]

mod cuts;
mod disk;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod kills;
mod model;
mod rounds;
mod zone;

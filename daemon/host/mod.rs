//! How the machine does it: spool, access log, receipts, metrics, systemd. The only place that knows `std::fs` and the wall
//! clock. It performs what `policy` decided and decides nothing itself.

pub mod archive;
pub mod backup;
pub mod clock;
pub mod confine;
pub mod containment;
pub mod control;
pub mod directory;
pub mod evidence;
pub mod files;
pub mod group;
pub mod guard;
pub mod http;
pub mod log;
pub mod metrics;
pub mod process;
pub mod program;
pub mod program_log;
pub mod question;
pub mod socket;
pub mod spool;
pub mod systemd;
pub mod upkeep;

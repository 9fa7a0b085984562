//! One file per subcommand. Each reads what it needs, says what it did, and returns the exit code; the codes are those of
//! sysexits.h.

pub mod backup;
pub mod check;
pub mod clock;
pub mod confined;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod exit;
pub mod hold;
pub mod incidents;
pub mod init;
pub mod kit;
pub mod log;
pub mod passphrase;
pub mod report;
pub mod restore;
pub mod run;
pub mod secrets;
pub mod serve;
pub mod status;
pub mod waiting;
pub mod work;

//! One file per subcommand. Each reads what it needs, says what it did, and returns the exit code; the codes are those of
//! sysexits.h.

pub mod check;
pub mod init;
pub mod secrets;

//! The exit codes of all commands, as sysexits.h has them: scripts and service managers go by them.

/// The command line is wrong.
pub const EX_USAGE: u8 = 64;
/// What was given is damaged, or a daemon turned it down.
pub const EX_DATAERR: u8 = 65;
/// What was asked for is not there.
pub const EX_NOINPUT: u8 = 66;
/// Something this needs, or somebody it asks, is not there now; trying again may help.
pub const EX_UNAVAILABLE: u8 = 69;
/// A defect of this program, or of what it was given to work with.
pub const EX_SOFTWARE: u8 = 70;
/// The user cannot have what is asked for there.
pub const EX_CANTCREAT: u8 = 73;
/// The machine failed, or did not let it be read.
pub const EX_IOERR: u8 = 74;
/// The configuration is wrong.
pub const EX_CONFIG: u8 = 78;

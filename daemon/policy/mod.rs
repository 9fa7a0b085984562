//! What is allowed: pure functions over plain values. No file, no network, no clock, no async, no logging. Time, state and
//! configuration come in; a verdict goes out.

pub mod account;
pub mod admission;
pub mod agreement;
pub mod arrival;
pub mod backup;
pub mod chain;
pub mod digest;
pub mod envelope;
pub mod evidence;
pub mod head;
pub mod incident;
pub mod job;
pub mod lease;
pub mod outgoing;
pub mod path;
pub mod penalties;
pub mod probes;
pub mod proxy;
pub mod published;
pub mod question;
pub mod reason;
pub mod receipt;
pub mod record;
pub mod replay;
pub mod request;
pub mod retention;
pub mod revocation;
pub mod rhythm;
pub mod rules;
pub mod search;
pub mod signature;
pub mod table;
pub mod trust;
pub mod upload;

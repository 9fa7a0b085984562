//! Decodes the cold requests, of which there is one packet each. READ and WRITE are read where they are answered.

use bytes::Bytes;
use russh_sftp::protocol::Packet;

use super::reply::Fault;
use crate::policy::reason::Reason;

/// The last type of draft-ietf-secsh-filexfer-02 §3 that a client sends.
const LAST_REQUEST: u8 = 20;
const EXTENDED: u8 = 200;

/// A whole packet, from its type on. A type that is no request is `Unsupported` and not looked into: what answers hold is
/// for clients to decode.
pub fn cold_request(frame: &[u8]) -> Result<Packet, Fault> {
    match frame.first() {
        Some(&kind) if kind <= LAST_REQUEST || kind == EXTENDED => {
            Packet::try_from(&mut Bytes::copy_from_slice(frame)).map_err(|_| Fault::BadMessage)
        }
        _ => Err(Reason::Unsupported.into()),
    }
}

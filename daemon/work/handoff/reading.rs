//! Reads a file that was handed in from its first byte to its last: to see what it is, and to copy it. The file is somebody else's
//! and may change between the two, which the digests tell; what follows from either is `handoff`'s question.

use std::fs::File;
use std::io::{Read, Seek};

use sha2::{Digest, Sha256};

use crate::host::spool::{Handed, Partial, SpoolError};
use crate::policy::agreement::Flow;
use crate::policy::digest::hex;
use crate::policy::envelope::{Envelope, Inspector};
use crate::policy::reason::Reason;

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// What a whole file comes to: its envelope and its header in binary form.
type Inspected = Result<(Envelope, Vec<u8>), Reason>;

/// Reads a file to its end, or to where it is refused. Gives its SHA-256 as well.
pub(super) fn inspect(file: &File, flow: &Flow, handed: &Handed) -> Result<(Inspected, String), SpoolError> {
    let (mut inspector, mut hasher, mut start) = (Inspector::default(), Sha256::new(), Vec::new());
    let mut buffer = vec![0; PIECE];
    let mut input = reopened(file)?.take(handed.look.size().saturating_add(1));
    loop {
        let count = input.read(&mut buffer).map_err(unreadable)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        if inspector.header().is_none() {
            start.extend_from_slice(bytes);
        }
        match inspector.feed(bytes) {
            Ok(Some(header)) if header.is_armored() && !flow.accept.armored => {
                return Ok((Err(Reason::ArmorNotAccepted), String::new()));
            }
            Ok(_) => {}
            Err(reason) => return Ok((Err(reason), String::new())),
        }
    }
    let sha256 = hex(&hasher.finalize());
    let header = inspector.header().map(|header| {
        start.truncate(usize::try_from(header.carried_by()).unwrap_or(usize::MAX));
        header.binary(&start)
    });
    let inspected = inspector.seal().map(|envelope| (envelope, header.unwrap_or_default()));
    Ok((inspected, sha256))
}

/// Copies a file, and gives the SHA-256 of what was copied. One that has grown since it was this long is not followed to its end,
/// which whoever writes to it can keep ahead of.
pub(super) fn copy(file: &File, partial: &mut Partial, size: u64) -> Result<String, SpoolError> {
    let (mut hasher, mut buffer, mut offset) = (Sha256::new(), vec![0; PIECE], 0_u64);
    let mut input = reopened(file)?.take(size.saturating_add(1));
    loop {
        let count = input.read(&mut buffer).map_err(unreadable)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hex(&hasher.finalize()));
        };
        hasher.update(bytes);
        partial.write_at(bytes, offset)?;
        offset = offset.saturating_add(count as u64);
    }
}

/// From its first byte.
fn reopened(mut file: &File) -> Result<&File, SpoolError> {
    file.rewind().map_err(unreadable)?;
    Ok(file)
}

fn unreadable(cause: std::io::Error) -> SpoolError {
    SpoolError::Io { attempted: "read", what: "what was handed in".to_owned(), cause }
}

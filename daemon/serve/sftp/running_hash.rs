//! The SHA-256 of an upload: along the way where it can be had there, else of what lies on the disk.

use std::ops::ControlFlow;

use sha2::{Digest, Sha256};

use crate::host::spool::{Partial, SpoolError};
use crate::policy::digest::hex;

/// SHA-256 along the way, as long as writes come in order.
#[derive(Debug)]
pub(super) struct RunningHash {
    hasher: Option<Sha256>,
    taken: u64,
}

impl Default for RunningHash {
    fn default() -> Self {
        Self { hasher: Some(Sha256::new()), taken: 0 }
    }
}

impl RunningHash {
    pub(super) fn lost() -> Self {
        Self { hasher: None, taken: 0 }
    }

    pub(super) fn update(&mut self, offset: u64, bytes: &[u8]) {
        match &mut self.hasher {
            Some(hasher) if offset == self.taken => {
                hasher.update(bytes);
                self.taken += bytes.len() as u64;
            }
            _ => self.hasher = None,
        }
    }

    pub(super) fn finish(&self, size: u64) -> Option<String> {
        self.hasher.as_ref().filter(|_| self.taken == size).map(|hasher| hex(&hasher.clone().finalize()))
    }
}

pub(super) fn hash_of(partial: &Partial) -> Result<String, SpoolError> {
    let mut hasher = Sha256::new();
    partial.read_through(|bytes| {
        hasher.update(bytes);
        ControlFlow::Continue(())
    })?;
    Ok(hex(&hasher.finalize()))
}

//! The extensions of OpenSSH's PROTOCOL that clients use: limits, fsync, posix-rename, statvfs, home-directory and
//! expand-path.

use std::collections::HashMap;

use bytes::BufMut;

use super::Sftp;
use super::framing::{DATA_MAX, Fields, PACKET_MAX};
use super::handles::Open;
use super::reply::{Answer, Fault};
use super::requests::real_path;
use super::tree::unavailable;
use crate::policy::path::NAME_MAX;
use crate::policy::reason::Reason;
use crate::policy::request::Action;

/// statvfs answers in units of this many bytes.
const BLOCK: u64 = 4096;
/// What it says of the number of files, where the spool has room for so many.
const FILES: u64 = 1_000_000;

/// What SSH_FXP_VERSION says: name and version.
pub(super) fn announced() -> HashMap<String, String> {
    [
        ("limits@openssh.com", "1"),
        ("fsync@openssh.com", "1"),
        ("posix-rename@openssh.com", "1"),
        ("statvfs@openssh.com", "2"),
        ("home-directory", "1"),
        ("expand-path@openssh.com", "1"),
    ]
    .map(|(name, version)| (name.to_owned(), version.to_owned()))
    .into()
}

impl Sftp {
    /// SSH_FXP_EXTENDED
    pub(super) async fn extended(&mut self, request: &str, data: &[u8]) -> Result<Answer, Fault> {
        let mut fields = Fields(data);
        match request {
            "limits@openssh.com" => Ok(self.limits()),
            "fsync@openssh.com" => self.fsync(fields.string().ok_or(Fault::BadMessage)?).await,
            "posix-rename@openssh.com" => {
                let (old, new) = (text(&mut fields)?, text(&mut fields)?);
                self.rename(old, new).await
            }
            "statvfs@openssh.com" => self.statvfs(text(&mut fields)?),
            "home-directory" => real_path("/"),
            "expand-path@openssh.com" => real_path(text(&mut fields)?),
            _ => Err(Reason::Unsupported.into()),
        }
    }

    fn limits(&self) -> Answer {
        let mut answer = Vec::with_capacity(32);
        for limit in [PACKET_MAX, DATA_MAX, DATA_MAX, self.server.config().machine.limits.handles] {
            answer.put_u64(limit as u64);
        }
        Answer::Extended(answer)
    }

    /// A file whose sync failed once cannot be trusted again: its upload is over.
    async fn fsync(&mut self, handle: &[u8]) -> Result<Answer, Fault> {
        match self.handles.find(handle) {
            // What waits in memory for the bytes before it cannot be promised.
            Some(Open::Upload(upload)) if upload.refused.is_none() && upload.held() > 0 => {
                Err(Reason::CutShort.into())
            }
            Some(Open::Upload(upload)) => match upload.sync() {
                Ok(()) => Ok(Answer::Done),
                Err(error) => Err(self.end_upload(handle, error.into()).await),
            },
            Some(Open::Download(_) | Open::Listing(_)) => Ok(Answer::Done),
            None => Err(Fault::BadMessage),
        }
    }

    /// The institution's room in an exchange, not the host's disk; and no more of that than uploads may take.
    fn statvfs(&self, path: &str) -> Result<Answer, Fault> {
        let (_, place) = self.resolve(path, Action::Stat)?;
        let institution = self.session.institution();
        let config = self.server.config();
        let flows = place
            .exchange()
            .and_then(|name| config.exchanges.get(name))
            .into_iter()
            .flat_map(|exchange| exchange.flows_from(institution));
        let room = flows.map(|flow| flow.accept.max_size).max().unwrap_or(0);
        let left = self.server.spool.room().map_err(|error| unavailable(&error))?;
        // Where no upload may begin, nothing is free.
        let free = if left.is_enough() { left.bytes.min(room) } else { 0 };
        let (blocks, free, free_files) = (room.div_ceil(BLOCK), free / BLOCK, left.files.min(FILES));
        let (id, flags) = (0, 0);
        let mut answer = Vec::with_capacity(88);
        for number in
            [BLOCK, BLOCK, blocks, free, free, FILES, free_files, free_files, id, flags, NAME_MAX as u64]
        {
            answer.put_u64(number);
        }
        Ok(Answer::Extended(answer))
    }
}

fn text<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Fault> {
    let bytes = fields.string().ok_or(Fault::BadMessage)?;
    std::str::from_utf8(bytes).map_err(|_| Reason::BadName.into())
}

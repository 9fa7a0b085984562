//! How much of what was answered waits in the library because its channel has no room. Each channel has its own count: what is
//! read on one says nothing about another. What is done with a client that asks on all the same is for `ssh`.

use std::collections::HashMap;

use russh::ChannelId;

use super::sftp::framing::Violation;

/// Answers that a client does not read are held for it up to this many bytes of each channel; a client that asks on is cut.
const UNREAD_MAX: usize = 4 << 20;

/// Of one connection, since its channels last had nothing that waits.
#[derive(Debug, Default)]
pub struct Unread(HashMap<ChannelId, usize>);

impl Unread {
    /// Answers are about to be sent on a channel, where others wait already or not.
    pub fn grows(&mut self, channel: ChannelId, (waits, bytes): (bool, usize)) -> Result<(), Violation> {
        if !waits {
            self.0.remove(&channel);
            return Ok(());
        }
        let unread = self.0.entry(channel).or_default();
        *unread += bytes;
        if *unread > UNREAD_MAX { Err(Violation::TooManyOutstanding) } else { Ok(()) }
    }

    /// The channel has ended.
    pub fn forget(&mut self, channel: ChannelId) {
        self.0.remove(&channel);
    }
}

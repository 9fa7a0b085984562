//! One SFTP session (version 3, draft-ietf-secsh-filexfer-02) on one channel: takes the channel's bytes, answers requests.
//! `framing` cuts packets, `requests` decides and performs the cold ones, `transfer` the hot ones and what they lead to,
//! `tree` says what is where, `reply` encodes. This code may wait for the disk, never for the client.

mod download;
mod extensions;
pub mod framing;
mod handles;
mod publish;
mod reply;
mod requests;
mod transfer;
mod tree;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use russh::ChannelId;
use russh_sftp::protocol::{Packet, Version};
use tokio::sync::mpsc;

use self::framing::{Fields, Frames, Violation};
use self::handles::Handles;
use self::reply::Replies;
use self::upload::Sealed;
use super::Server;
use super::connection::Connection;
use super::session::Session;
use crate::host::metrics::UploadOutcome;
use crate::host::spool::FileFacts;
use crate::policy::path::{Name, Slug};

/// Answers to what came in one SSH packet. Listings are the largest, and no client asks for many of them at once.
const REPLIES_MAX: usize = 8 << 20;

const INIT: u8 = 1;
const READ: u8 = 5;
const WRITE: u8 = 6;
const EXTENDED: u8 = 200;
/// The last type of draft-ietf-secsh-filexfer-02 §3 that a client sends.
const LAST_REQUEST: u8 = 20;

/// An SFTP session. It ends with its channel; uploads that are not closed by then publish nothing.
pub struct Sftp {
    server: Arc<Server>,
    session: Arc<Session>,
    frames: Frames,
    initialised: bool,
    handles: Handles,
    /// What this session published, for the questions that clients ask afterwards.
    published: HashMap<(Slug, Name), FileFacts>,
    /// Complete uploads under temporary names, held until they are renamed.
    sealed: HashMap<(Slug, Name), Sealed>,
    replies: Replies,
    reads: mpsc::Sender<download::Read>,
}

impl Drop for Sftp {
    /// What is still being uploaded stays for its institution to go on with.
    fn drop(&mut self) {
        for upload in self.handles.uploads().filter(|upload| upload.refused.is_none()) {
            self.server.metrics.upload(&upload.institution, UploadOutcome::Unfinished);
        }
    }
}

impl Sftp {
    /// Begins a session on a channel and the task that answers its reads.
    pub fn begin(
        server: &Arc<Server>,
        session: &Arc<Session>,
        connection: &Arc<Connection>,
        (sink, channel): (russh::server::Handle, ChannelId),
    ) -> Self {
        let limits = &server.config.machine.limits;
        let (reads, queue) = mpsc::channel(limits.outstanding_requests);
        // The task ends when `reads` is dropped with this session, or when the connection is gone.
        tokio::spawn(download::answer_reads(queue, sink, channel, Arc::clone(connection)));
        Self {
            server: Arc::clone(server),
            session: Arc::clone(session),
            frames: Frames::default(),
            initialised: false,
            handles: Handles::new(limits.handles),
            published: HashMap::new(),
            sealed: HashMap::new(),
            replies: Replies::default(),
            reads,
        }
    }

    /// Takes the next bytes of the channel and returns the answers that are ready.
    pub async fn receive(&mut self, mut data: &[u8]) -> Result<Bytes, Violation> {
        let mut frames = std::mem::take(&mut self.frames);
        while let Some(frame) = frames.next(&mut data)? {
            self.answer(frame).await?;
            if self.replies.len() > REPLIES_MAX {
                return Err(Violation::TooManyOutstanding);
            }
        }
        if self.handles.is_empty() {
            frames.release();
            self.replies.release();
        }
        self.frames = frames;
        Ok(self.replies.take())
    }

    async fn answer(&mut self, frame: &[u8]) -> Result<(), Violation> {
        let (&kind, body) = frame.split_first().ok_or(Violation::TooShort)?;
        if (kind == INIT) == self.initialised {
            return Err(Violation::OutOfSequence);
        }
        let mut fields = Fields(body);
        let id = fields.u32().ok_or(Violation::TooShort)?;
        match kind {
            INIT => {
                // In INIT the first field is the client's version; 3 is the lowest common one whatever it says.
                self.initialised = true;
                let extensions = extensions::announced();
                self.replies.push_packet(0, Packet::Version(Version { version: 3, extensions }));
            }
            WRITE => match self.write(fields).await {
                Ok(()) => self.replies.push_ok(id),
                Err(fault) => self.replies.push(id, Err(fault)),
            },
            READ => {
                let answer = self.read(id, fields)?;
                self.replies.push(id, answer);
            }
            _ => {
                let answer = self.answer_cold(kind, frame).await;
                self.replies.push(id, answer);
            }
        }
        Ok(())
    }
}

//! One SFTP session (version 3, draft-ietf-secsh-filexfer-02) on one channel: takes the channel's bytes, answers requests.
//! `framing` cuts packets, `decode` reads them, `requests` decides and performs the cold ones, `transfer` the hot ones; `opening`
//! is how an upload begins, `upload` one file coming in, `running_hash` its digest, `question` whether it is for this zone, `publish` how it becomes an
//! arrival, `renaming` how it gets another name, `collision` which one, `grace` what happens to a client that does not hear of a
//! refusal, `removal` what leaves again, `collecting` which results are collected by that or by being read to the end, `download` answers reads from `buffers`, `attributes` what is set; `tree` says what is
//! where, `handles` what is open, `extensions` what OpenSSH added, `reply` encodes. This code may wait for the disk, never for
//! the client.

mod attributes;
mod buffers;
mod collecting;
mod collision;
pub mod decode;
mod download;
mod extensions;
pub mod framing;
mod grace;
mod handles;
mod opening;
mod publish;
mod question;
mod removal;
mod renaming;
mod reply;
mod requests;
mod running_hash;
mod transfer;
mod tree;
mod upload;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use russh::ChannelId;
use russh_sftp::protocol::{Packet, Version};
use tokio::sync::mpsc;

use self::framing::{Fields, Frames, Violation};
use self::grace::Grace;
use self::handles::{Handles, Open};
use self::reply::Replies;
use self::upload::Sealed;
use super::Server;
use super::budget::Share;
use super::connection::Connection;
use super::session::Session;
use crate::host::metrics::UploadOutcome;
use crate::host::spool::FileFacts;
use crate::policy::path::{Name, Slug};
use crate::policy::record::{Event, Outcome, Record};

/// Answers to what came in one SSH packet. Listings are the largest, and no client asks for many of them at once.
const REPLIES_MAX: usize = 8 << 20;

const INIT: u8 = 1;
const READ: u8 = 5;
const WRITE: u8 = 6;

/// An SFTP session. It ends with its channel; uploads that are not closed by then publish nothing.
pub struct Sftp {
    server: Arc<Server>,
    session: Arc<Session>,
    connection: Arc<Connection>,
    frames: Frames,
    initialised: bool,
    handles: Handles,
    /// How many files for writing and for reading it counts in its connection's flow.
    told: (usize, usize),
    /// What this session published, for the questions that clients ask afterwards.
    published: HashMap<(Slug, Name), FileFacts>,
    /// Names under which something of this session was refused last: gone for it, also where an arrival has the same name.
    refused: HashSet<(Slug, Name)>,
    /// Complete uploads under temporary names, held until they are renamed.
    sealed: HashMap<(Slug, Name), Sealed>,
    /// Results that were read in part, by handles that are closed.
    reading: collecting::Reading,
    memory: Share,
    grace: Grace,
    replies: Replies,
    reads: mpsc::Sender<download::Read>,
}

impl Drop for Sftp {
    /// What is still open broke off; an upload stays for its institution to go on with.
    fn drop(&mut self) {
        self.tell_open((0, 0));
        if self.memory.is_taken() {
            self.take_memory(0);
        }
        for open in self.handles.all() {
            let (path, exchange, bytes, what) = match open {
                Open::Upload(upload) if upload.refused.is_none() => {
                    self.server.metrics.upload(&upload.institution, UploadOutcome::Unfinished);
                    let path = transfer::path_of(&upload.exchange, &upload.name);
                    (path, &upload.exchange, upload.size(), "upload broken off")
                }
                Open::Download(download) => {
                    let sent = download.sent.bytes();
                    self.server.metrics.sent(self.session.institution(), sent);
                    (download.path.to_string(), &download.exchange, sent, "download broken off")
                }
                Open::Upload(_) | Open::Listing(_) => continue,
            };
            self.connection.breaks_off(Record {
                path: Some(path),
                exchange: Some(exchange.clone()),
                bytes: Some(bytes),
                detail: Some(what.to_owned()),
                ..self.session.record(Event::Close, Outcome::Failed)
            });
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
        let limits = &server.config().machine.limits;
        let (reads, queue) = mpsc::channel(limits.outstanding_requests);
        // The task ends when `reads` is dropped with this session, or when the connection is gone.
        let grace = Grace::new(server, connection, (sink.clone(), channel));
        tokio::spawn(download::answer_reads(queue, sink, channel, Arc::clone(connection)));
        Self {
            server: Arc::clone(server),
            session: Arc::clone(session),
            connection: Arc::clone(connection),
            frames: Frames::default(),
            initialised: false,
            handles: Handles::new(limits.handles),
            told: (0, 0),
            published: HashMap::new(),
            refused: HashSet::new(),
            sealed: HashMap::new(),
            reading: collecting::Reading::default(),
            memory: Share::of(&server.memory),
            grace,
            replies: Replies::default(),
            reads,
        }
    }

    /// Takes the next bytes of the channel and returns the answers that are ready.
    pub async fn receive(&mut self, mut data: &[u8]) -> Result<Bytes, Violation> {
        self.grace.pause();
        let mut frames = std::mem::take(&mut self.frames);
        while let Some(frame) = frames.next(&mut data)? {
            if self.connection.ended().is_some() {
                return Err(Violation::Ended);
            }
            self.answer(frame).await?;
            // Thousands of requests fit into one SSH packet, and most are answered without a wait: others get their turn.
            tokio::task::coop::consume_budget().await;
            if self.replies.len() > REPLIES_MAX {
                return Err(Violation::TooManyOutstanding);
            }
            if self.connection.is_spent() {
                return Err(Violation::TooManyRefusals);
            }
        }
        self.grace.go_on();
        if self.handles.is_empty() {
            frames.release();
            self.replies.release();
        }
        self.frames = frames;
        Ok(self.replies.take())
    }

    /// Keeps the connection's count of open files up to date.
    fn tell_open(&mut self, now: (usize, usize)) {
        let tell = |count: &AtomicUsize, before: usize, now: usize| {
            // Wraps around where there are fewer, and comes out right.
            count.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        };
        tell(&self.connection.flow.uploads, self.told.0, now.0);
        tell(&self.connection.flow.downloads, self.told.1, now.1);
        self.told = now;
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
                let answer = self.answer_cold(frame).await;
                // Nothing else opens or closes a file.
                self.tell_open(self.handles.files());
                self.replies.push(id, answer);
            }
        }
        Ok(())
    }
}

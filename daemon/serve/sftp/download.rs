//! The task that answers READ. It may wait for the client, which the request loop may not: so reads queue here, bounded in
//! number, and each answer is made when there is room to send it.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use russh::ChannelId;
use tokio::sync::mpsc;
use tokio::task::block_in_place;

use super::framing::DATA_MAX;
use super::reply::{DATA_FIELDS, begin_data, encoded_end, encoded_refusal, finish_data};
use crate::host::files::read_full_at;
use crate::policy::reason::Reason;
use crate::serve::connection::Connection;

/// One READ that waits for its turn.
#[derive(Debug)]
pub struct Read {
    /// The request's id.
    pub id: u32,
    /// The open file.
    pub file: Arc<File>,
    /// Where to read.
    pub offset: u64,
    /// How much at most.
    pub length: u32,
    /// Counts what was sent.
    pub sent: Arc<AtomicU64>,
}

/// Answers reads until the channel's session ends.
pub async fn answer_reads(
    mut reads: mpsc::Receiver<Read>,
    sink: russh::server::Handle,
    channel: ChannelId,
    connection: Arc<Connection>,
) {
    while let Some(read) = reads.recv().await {
        let answer = block_in_place(|| answer(&read));
        let length = answer.len() as u64;
        if sink.data(channel, answer).await.is_err() {
            break;
        }
        connection.flows(|flow| flow.sent += length);
        connection.made_progress();
    }
}

fn answer(read: &Read) -> Bytes {
    let wanted = usize::try_from(read.length).unwrap_or(DATA_MAX).min(DATA_MAX);
    if i64::try_from(read.offset.saturating_add(wanted as u64)).is_err() {
        // Behind any file's end, and no offset that the system takes.
        return encoded_end(read.id);
    }
    let mut buffer = begin_data(wanted);
    let filled =
        buffer.get_mut(DATA_FIELDS..).map_or(Ok(0), |room| read_full_at(&read.file, room, read.offset));
    match filled {
        // Short only at the end: some clients take a short answer for it.
        Ok(0) => encoded_end(read.id),
        Ok(filled) => {
            read.sent.fetch_add(filled as u64, Ordering::Relaxed);
            finish_data(buffer, read.id, filled)
        }
        Err(error) => {
            tracing::error!(%error, "reading a result failed");
            encoded_refusal(read.id, &Reason::Unavailable)
        }
    }
}

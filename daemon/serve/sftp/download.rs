//! The task that answers READ. It may wait for the client, which the request loop may not: so reads queue here, bounded in
//! number, and each answer is made when there is room to send it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use russh::ChannelId;
use tokio::sync::mpsc;
use tokio::task::block_in_place;

use super::buffers::Buffers;
use super::framing::DATA_MAX;
use super::reply::{DATA_FIELDS, data_fields, encoded_end, encoded_refusal};
use crate::host::files::{read_at_hand, read_full_at};
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
    pub sent: Arc<Sent>,
}

/// What of a file was sent.
#[derive(Debug, Default)]
pub struct Sent {
    bytes: AtomicU64,
    parts: Mutex<Parts>,
}

/// Where the parts begin that were sent, and where each ends; those that touch are one. Clients read in order, or in a few
/// parts at once.
#[derive(Debug, Default)]
struct Parts(BTreeMap<u64, u64>);

/// More parts than any client reads at once; of a file read in more, nobody can say that all of it was sent.
const PARTS_MAX: usize = 64;

impl Sent {
    /// One part, for tests of what counts them.
    #[cfg(test)]
    pub fn of(offset: u64, length: u64) -> Self {
        let sent = Self::default();
        sent.add(offset, length);
        sent
    }

    /// Bytes, those that were asked for twice included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether all of a file of this size was.
    pub fn is_whole(&self, size: u64) -> bool {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        size == 0 || parts.0.get(&0).is_some_and(|end| *end >= size)
    }

    /// Adds what was sent of the same file through another handle.
    pub fn absorb(&self, other: &Self) {
        let others = other.parts.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        others.into_iter().for_each(|(start, end)| parts.add(start, end));
    }

    fn add(&self, offset: u64, length: u64) {
        self.bytes.fetch_add(length, Ordering::Relaxed);
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).add(offset, offset.saturating_add(length));
    }
}

impl Parts {
    fn add(&mut self, mut start: u64, mut end: u64) {
        if let Some((&before, &its_end)) = self.0.range(..=start).next_back()
            && its_end >= start
        {
            (start, end) = (before, end.max(its_end));
        }
        while let Some((&next, &its_end)) = self.0.range(start..=end).next() {
            self.0.remove(&next);
            end = end.max(its_end);
        }
        if self.0.len() < PARTS_MAX {
            self.0.insert(start, end);
        }
    }
}

/// Answers reads until the channel's session ends.
pub async fn answer_reads(
    mut reads: mpsc::Receiver<Read>,
    sink: russh::server::Handle,
    channel: ChannelId,
    connection: Arc<Connection>,
) {
    let mut buffers = Buffers::default();
    loop {
        let next = match reads.try_recv() {
            Ok(read) => Some(read),
            Err(_) => {
                buffers.release();
                reads.recv().await
            }
        };
        let Some(read) = next else { break };
        let answer = answer(&read, &buffers);
        let length = answer.len();
        if sink.data(channel, answer).await.is_err() {
            break;
        }
        connection.flow.sent(length);
        connection.made_progress();
    }
}

fn answer(read: &Read, buffers: &Buffers) -> Bytes {
    let wanted = usize::try_from(read.length).unwrap_or(DATA_MAX).min(DATA_MAX);
    if i64::try_from(read.offset.saturating_add(wanted as u64)).is_err() {
        // Behind any file's end, and no offset that the system takes.
        return encoded_end(read.id);
    }
    let mut buffer = buffers.take(DATA_FIELDS + wanted);
    let room = buffer.room().get_mut(DATA_FIELDS..DATA_FIELDS + wanted).unwrap_or_default();
    match fill(&read.file, room, read.offset) {
        // Short only at the end: some clients take a short answer for it.
        Ok(0) => encoded_end(read.id),
        Ok(filled) => {
            read.sent.add(read.offset, filled as u64);
            if let Some(fields) = buffer.room().first_chunk_mut() {
                *fields = data_fields(read.id, filled);
            }
            buffer.send(DATA_FIELDS + filled)
        }
        Err(error) => {
            tracing::error!(%error, "reading a result failed");
            encoded_refusal(read.id, &Reason::Unavailable)
        }
    }
}

/// Most of a result that was just made, or that is read in order, lies in memory: only for the rest, this thread's other
/// tasks are handed to another one, which costs more than such a read.
fn fill(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    let there = read_at_hand(file, room, offset);
    match room.get_mut(there..) {
        Some(rest) if !rest.is_empty() => {
            let more = block_in_place(|| read_full_at(file, rest, offset.saturating_add(there as u64)))?;
            Ok(there + more)
        }
        Some(_) | None => Ok(there),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_was_sent_whole_when_its_parts_leave_no_gap() {
        for (reads, whole) in [
            (vec![(0, 40), (40, 60)], true),
            (vec![(40, 60), (0, 40)], true),
            (vec![(0, 40), (41, 59)], false),
            (vec![(50, 50), (0, 30), (20, 40)], true),
            (vec![(0, 100), (0, 100)], true),
            (vec![(1, 99)], false),
            (vec![(80, 20), (0, 20), (40, 20), (20, 20), (60, 20)], true),
            (vec![], false),
        ] {
            let sent = Sent::default();
            reads.iter().for_each(|(offset, length)| sent.add(*offset, *length));
            assert_eq!(sent.is_whole(100), whole, "{reads:?}");
        }
        assert!(Sent::default().is_whole(0));
    }

    #[test]
    fn what_was_sent_through_several_handles_counts_together() {
        let (one, other) = (Sent::default(), Sent::default());
        one.add(0, 60);
        other.add(50, 50);
        one.absorb(&other);
        assert!(one.is_whole(100) && !other.is_whole(100) && !one.is_whole(101));
    }

    #[test]
    fn parts_are_bounded_in_number() {
        let sent = Sent::default();
        (0..10_000).for_each(|at| sent.add(at * 10, 5));
        assert_eq!(sent.parts.lock().unwrap().0.len(), PARTS_MAX);
        assert!(!sent.is_whole(100_000));
    }
}

//! Memory for answers to READ, which are large and many: what one was sent from serves the next. New memory for each would
//! have to be cleared, and the system would take it back and give it out again with every one. What is kept is bounded, and
//! given back as soon as nothing waits to be read; how an answer looks is `reply`'s business.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

/// Buffers that are kept for the next answers, as many as there are answers on their way to the connection.
const KEPT_MAX: usize = 8;

type Shelf = Mutex<Vec<Vec<u8>>>;

/// The buffers of one session.
#[derive(Debug, Default)]
pub struct Buffers(Arc<Shelf>);

/// One of them, on loan. What lies in it is what an earlier answer of the same session held.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    shelf: Weak<Shelf>,
}

impl Buffers {
    /// One with room for so many bytes.
    pub fn take(&self, length: usize) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = kept.unwrap_or_default();
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        Buffer { bytes, shelf: Arc::downgrade(&self.0) }
    }

    /// Gives all memory back; what is on loan does not come here again.
    pub fn release(&mut self) {
        *self = Self::default();
    }
}

impl Buffer {
    /// All of its room, which may be more than was asked for.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Its first bytes, to be sent. Nothing behind them is.
    pub fn send(self, length: usize) -> Bytes {
        let mut all = Bytes::from_owner(self);
        all.truncate(length);
        all
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(shelf) = self.shelf.upgrade() else { return };
        let mut kept = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(buffers: &Buffers) -> usize {
        buffers.0.lock().unwrap().len()
    }

    #[test]
    fn a_buffer_serves_again_once_what_it_held_was_sent() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(100);
        buffer.room()[..3].copy_from_slice(b"abc");
        let sent = buffer.send(3);
        assert_eq!(sent, b"abc"[..]);
        let rest = sent.slice(1..);
        drop(sent);
        assert_eq!(kept(&buffers), 0, "a part of it is still to be sent");
        drop(rest);
        assert_eq!(kept(&buffers), 1);
        assert_eq!(buffers.take(200).room().len(), 200);
    }

    #[test]
    fn what_is_kept_is_bounded_and_given_back() {
        let mut buffers = Buffers::default();
        let loans: Vec<_> = (0..KEPT_MAX * 2).map(|_| buffers.take(10)).collect();
        let late = buffers.take(10);
        drop(loans);
        assert_eq!(kept(&buffers), KEPT_MAX);
        buffers.release();
        drop(late);
        assert_eq!(kept(&buffers), 0);
    }
}

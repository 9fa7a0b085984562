//! What comes on a channel after SSH: however the stream is cut, the same packets come out of it, and each of them is decoded
//! or refused. Of READ and WRITE, our own reader and russh-sftp's think the same.

#![no_main]

use dropzone::serve::sftp::decode::cold_request;
use dropzone::serve::sftp::framing::{DATA_MAX, Fields, Frames, PACKET_MAX, Violation};
use libfuzzer_sys::fuzz_target;
use russh_sftp::protocol::Packet;

const READ: u8 = 5;
const WRITE: u8 = 6;

// The first byte says into how large pieces the rest is cut.
fuzz_target!(|input: &[u8]| {
    let Some((&piece, stream)) = input.split_first() else { return };
    let whole = frames_of(stream, stream.len().max(1));
    let cut = frames_of(stream, usize::from(piece).max(1));
    assert_eq!(whole, cut, "the pieces it came in make a difference");
    for frame in &whole.0 {
        assert!((1..=PACKET_MAX).contains(&frame.len()));
        decode(frame);
    }
});

/// The packets up to the end or to a violation.
fn frames_of(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Violation>) {
    let (mut frames, mut found) = (Frames::default(), Vec::new());
    for mut input in stream.chunks(piece) {
        loop {
            match frames.next(&mut input) {
                Ok(Some(frame)) => found.push(frame.to_vec()),
                Ok(None) => break,
                Err(violation) => return (found, Some(violation)),
            }
        }
        assert!(input.is_empty(), "what was not handed on is held");
        frames.release();
    }
    (found, None)
}

fn decode(frame: &[u8]) {
    let mut fields = Fields(&frame[1..]);
    let id = fields.u32();
    let hot = (id, fields.string(), fields.u64());
    match (frame[0], cold_request(frame)) {
        (WRITE, Ok(Packet::Write(write))) => {
            assert_eq!((Some(write.id), Some(write.offset)), (hot.0, hot.2));
            let data = fields.string();
            assert_eq!(data, Some(write.data.as_slice()));
            assert!(data.is_some_and(|data| data.len() <= DATA_MAX + 1024));
        }
        (READ, Ok(Packet::Read(read))) => {
            assert_eq!((Some(read.id), Some(read.offset), Some(read.len)), (hot.0, hot.2, fields.u32()));
        }
        (_, Ok(_) | Err(_)) => {}
    }
}

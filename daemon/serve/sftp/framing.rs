//! Cuts the channel's byte stream into SFTP packets (draft-ietf-secsh-filexfer-02 §3): a length, a type, a body. A packet
//! that lies whole in what just came is handed on where it lies; only one that is cut in two is copied.

/// Largest packet after its length field, as OpenSSH's server has it.
pub const PACKET_MAX: usize = 256 * 1024;
/// Largest READ or WRITE payload, as OpenSSH's server announces it.
pub const DATA_MAX: usize = 255 * 1024;

const LENGTH: usize = 4;

/// The peer broke the protocol in a way after which the stream cannot be followed; the channel ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A packet longer than [`PACKET_MAX`].
    #[error("sftp packet too large")]
    TooLarge,
    /// A packet without type, or a request without id.
    #[error("sftp packet too short")]
    TooShort,
    /// A request before INIT, or a second INIT.
    #[error("sftp requests out of sequence")]
    OutOfSequence,
    /// More requests without their answers being read than a client can need.
    #[error("too many outstanding sftp requests")]
    TooManyOutstanding,
    /// The session was revoked or kicked; what it had asked for before is not performed any more.
    #[error("the session was ended")]
    Ended,
    /// More requests turned down within a minute than a client at work can have. The whole connection ends.
    #[error("too many sftp requests turned down")]
    TooManyRefusals,
}

/// Keeps the beginning of a packet until the rest of it comes. At most one packet is held.
#[derive(Debug, Default)]
pub struct Frames {
    held: Vec<u8>,
    handed_out: bool,
}

impl Frames {
    /// The next whole packet, without its length field; `None` when `input` is used up.
    pub fn next<'s, 'd: 's>(&'s mut self, input: &mut &'d [u8]) -> Result<Option<&'s [u8]>, Violation> {
        if self.handed_out {
            self.held.clear();
            self.handed_out = false;
        }
        if self.held.is_empty()
            && let Some(length) = length_of(input)?
            && let Some((packet, rest)) = input.get(LENGTH..).and_then(|body| body.split_at_checked(length))
        {
            *input = rest;
            return Ok(Some(packet));
        }
        self.fill(LENGTH, input);
        let Some(length) = length_of(&self.held)? else { return Ok(None) };
        self.fill(LENGTH + length, input);
        if self.held.len() < LENGTH + length {
            return Ok(None);
        }
        self.handed_out = true;
        Ok(self.held.get(LENGTH..))
    }

    /// Gives the memory back that a large packet needed.
    pub fn release(&mut self) {
        if self.held.is_empty() || self.handed_out {
            *self = Self::default();
        }
    }

    fn fill(&mut self, wanted: usize, input: &mut &[u8]) {
        let missing = wanted.saturating_sub(self.held.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.held.extend_from_slice(taken);
        *input = rest;
    }
}

fn length_of(bytes: &[u8]) -> Result<Option<usize>, Violation> {
    let Some(length) = bytes.first_chunk::<LENGTH>() else { return Ok(None) };
    match usize::try_from(u32::from_be_bytes(*length)) {
        Ok(0) => Err(Violation::TooShort),
        Ok(length) if length <= PACKET_MAX => Ok(Some(length)),
        Ok(_) | Err(_) => Err(Violation::TooLarge),
    }
}

/// Reads the fields of the two hot requests; the cold ones are russh-sftp's to decode.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// uint32
    pub fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    /// uint64
    pub fn u64(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// string (RFC 4251 §5)
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames_of(stream: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, Violation> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for mut input in stream.chunks(piece) {
            while let Some(frame) = frames.next(&mut input)? {
                found.push(frame.to_vec());
            }
        }
        Ok(found)
    }

    fn stream_of(packets: &[Vec<u8>]) -> Vec<u8> {
        let framed = |packet: &Vec<u8>| {
            [&u32::try_from(packet.len()).unwrap().to_be_bytes(), packet.as_slice()].concat()
        };
        packets.iter().flat_map(framed).collect()
    }

    /// The packets before the end or a violation, of a stream that comes in pieces of these lengths and then whole.
    fn followed(mut stream: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Option<Violation>) {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (mut input, rest) = stream.split_at(cut.min(stream.len()));
            stream = rest;
            loop {
                match frames.next(&mut input) {
                    Ok(Some(frame)) => found.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(violation) => return (found, Some(violation)),
                }
            }
            frames.release();
        }
        (found, None)
    }

    #[test]
    fn a_packet_too_large_or_empty_is_a_violation_as_soon_as_its_length_is_there() {
        let length = u32::try_from(PACKET_MAX).unwrap();
        assert_eq!(frames_of(&(length + 1).to_be_bytes(), 4), Err(Violation::TooLarge));
        assert_eq!(frames_of(&u32::MAX.to_be_bytes(), 1), Err(Violation::TooLarge));
        assert_eq!(frames_of(&0_u32.to_be_bytes(), 4), Err(Violation::TooShort));
        assert_eq!(frames_of(&length.to_be_bytes(), 4), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn packets_survive_however_the_stream_is_cut(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..20), piece in 1usize..300)
        {
            let mut stream = Vec::new();
            for packet in &packets {
                stream.extend(u32::try_from(packet.len()).unwrap().to_be_bytes());
                stream.extend(packet);
            }
            prop_assert_eq!(frames_of(&stream, piece), Ok(packets));
        }

        #[test]
        fn a_length_that_no_packet_has_is_a_violation_behind_any_packets_and_in_any_pieces(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..6),
            impossible in prop_oneof![Just(0), (PACKET_MAX as u32 + 1)..=u32::MAX],
            behind in proptest::collection::vec(any::<u8>(), 0..40),
            cuts in proptest::collection::vec(1usize..40, 0..40))
        {
            let mut stream = stream_of(&packets);
            stream.extend(impossible.to_be_bytes());
            stream.extend(behind);
            let violation = if impossible == 0 { Violation::TooShort } else { Violation::TooLarge };
            prop_assert_eq!(followed(&stream, &cuts), (packets, Some(violation)));
        }

        #[test]
        fn any_stream_is_followed_the_same_however_it_is_cut(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..80), 0..8),
            rest in proptest::collection::vec(any::<u8>(), 0..60),
            cuts in proptest::collection::vec(1usize..90, 0..60))
        {
            let stream = [stream_of(&packets), rest].concat();
            let (whole, cut) = (followed(&stream, &[]), followed(&stream, &cuts));
            prop_assert_eq!(&whole, &cut);
            prop_assert!(cut.0.starts_with(&packets));
        }

        #[test]
        fn any_bytes_are_followed_or_refused(stream in proptest::collection::vec(any::<u8>(), 0..600), piece in 1usize..100) {
            let _ = frames_of(&stream, piece);
        }
    }
}

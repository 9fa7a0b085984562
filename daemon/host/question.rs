//! How "is it for us?" travels from one process to the other over a Unix socket: one question and its answer per
//! connection. The question is the length of the header (4 bytes, big-endian), then the header in its binary form; the
//! answer is one byte. Both ends are written here, so that neither side has to know the other; each sets its own time limit.

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::policy::envelope::HEADER_MAX;
use crate::policy::question::Answer;

/// Asks at a socket. Whatever is no answer is an error.
pub async fn ask(socket: &Path, header: &[u8]) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    let length = u32::try_from(header.len()).map_err(|_| wrong("the header is too long to ask about"))?;
    stream.write_all(&[&length.to_be_bytes(), header].concat()).await?;
    let byte = stream.read_u8().await?;
    Answer::from_byte(byte).ok_or_else(|| wrong("what came is no answer"))
}

/// Takes a question: the header that it is about, of at most [`HEADER_MAX`] bytes.
pub async fn take(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if !(1..=HEADER_MAX).contains(&length) {
        return Err(wrong("no header has this length"));
    }
    let mut header = vec![0; length];
    from.read_exact(&mut header).await?;
    Ok(header)
}

/// Answers it.
pub async fn answer(to: &mut (impl AsyncWrite + Unpin), answer: Answer) -> io::Result<()> {
    to.write_u8(answer.byte()).await
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_of_any_other_form_is_an_error_before_memory_is_taken_for_it() {
        let header = vec![b'x'; HEADER_MAX];
        let framed = |length: u32, bytes: &[u8]| [&length.to_be_bytes(), bytes].concat();
        let taken = take(&mut framed(HEADER_MAX as u32, &header).as_slice()).await;
        assert_eq!(taken.unwrap(), header);
        for (what, frame) in [
            ("nothing", vec![]),
            ("half a length", vec![0, 0]),
            ("no header", framed(0, b"")),
            ("too much", framed(HEADER_MAX as u32 + 1, &header)),
            ("as much as can be said", framed(u32::MAX, &header)),
            ("less than promised", framed(100, b"short")),
        ] {
            assert!(take(&mut frame.as_slice()).await.is_err(), "{what}");
        }
    }
}

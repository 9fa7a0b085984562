//! Answers whether a header opens with the zone's identities. `serve` asks while an upload comes in, so that a file for
//! somebody else is refused at its beginning. Nothing but the answer leaves: no file key, and no word on why not. The one
//! who asks is not trusted: questions have a size, a time and a number, and the header is scanned again before age sees it.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::spawn_blocking;

use super::Workshop;
use super::open::opens;
use crate::host::question;
use crate::host::socket::Socket;
use crate::policy::question::Answer;

/// Questions at a time.
const AT_ONCE: usize = 16;
/// From accept to close, whatever the other side does. Less than `serve` waits, so that one whose turn comes late is heard.
const LIFETIME: Duration = Duration::from_secs(1);

/// Answers until it is dropped, and the socket with it.
pub(super) async fn answer_questions(workshop: &Arc<Workshop>, socket: Socket) {
    let attend = |stream| {
        let workshop = Arc::clone(workshop);
        async move {
            match tokio::time::timeout(LIFETIME, answer(workshop, stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a question was not answered"),
                Err(_) => tracing::debug!("a question took too long"),
            }
        }
    };
    socket.attend(AT_ONCE, attend).await;
}

async fn answer(workshop: Arc<Workshop>, mut stream: UnixStream) -> std::io::Result<()> {
    let header = question::take(&mut stream).await?;
    let deciding = spawn_blocking(move || opens(&header, &workshop.identities));
    // A panic in a parser is an answer too: this is no header.
    let answer = deciding.await.unwrap_or(Answer::Unreadable);
    question::answer(&mut stream, answer).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinSet;

    use super::*;
    use crate::work::tests::Zone;

    /// A zone whose questions are answered, and a header for it.
    async fn answering() -> (tempfile::TempDir, JoinSet<()>, Vec<u8>) {
        let zone = Zone::new();
        let header = zone.header();
        let (folder, workshop) = zone.into_parts();
        let socket = Socket::bind(&workshop.config().machine.sockets.work).await.unwrap();
        let workshop = Arc::new(workshop);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { answer_questions(&workshop, socket).await });
        (folder, tasks, header)
    }

    async fn ask(path: &Path, header: &[u8]) -> Answer {
        tokio::time::timeout(Duration::from_secs(30), question::ask(path, header)).await.unwrap().unwrap()
    }

    /// What comes back for these bytes: nothing, however long the other side listens.
    async fn silence_after(path: &Path, bytes: &[u8], end: bool) {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let written = stream.write_all(bytes).await;
        if end {
            // It may be closed already.
            let _ = stream.shutdown().await;
        }
        let mut said = Vec::new();
        let read =
            tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await.unwrap();
        assert!(said.is_empty(), "{written:?} {read:?} {said:?}");
    }

    #[tokio::test]
    async fn bad_frames_get_no_answer_and_the_next_question_does() {
        let (folder, _tasks, header) = answering().await;
        let path = folder.path().join("work.sock");
        let framed = |length: u32, bytes: &[u8]| [&length.to_be_bytes(), bytes].concat();
        for (bytes, end) in [
            (framed(u32::MAX, &[b'x'; 300_000]), false),
            (framed(65_537, &header), false),
            (framed(0, b""), false),
            (framed(1000, &header[..50]), true),
            (vec![0], true),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
            (Vec::new(), true),
        ] {
            silence_after(&path, &bytes, end).await;
            assert_eq!(ask(&path, &header).await, Answer::Opens);
        }
        assert_eq!(ask(&path, b"age-encryption.org/v1\n").await, Answer::Unreadable);
        assert_eq!(ask(&path, &[b'\n'; 65_536]).await, Answer::Unreadable);
    }

    #[tokio::test]
    async fn those_who_ask_nothing_hold_up_nobody_for_longer_than_their_time() {
        let (folder, _tasks, header) = answering().await;
        let path = folder.path().join("work.sock");
        let mut mute = Vec::new();
        for _ in 0..2 * AT_ONCE {
            mute.push(UnixStream::connect(&path).await.unwrap());
        }
        assert_eq!(ask(&path, &header).await, Answer::Opens, "as soon as the first ones were cut");
        let mut nothing = [0];
        let end = tokio::time::timeout(Duration::from_secs(30), mute[0].read(&mut nothing)).await;
        assert_eq!(end.unwrap().unwrap(), 0, "cut");
    }
}

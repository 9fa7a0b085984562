//! Asks `work` whether a file that is coming in is for this zone, for only `work` holds the identities. The upload waits
//! for the answer, so the wait is short, and where `work` has let it pass once it is not tried again for a while. What holds
//! without an answer is `policy::question`'s rule.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::metrics::Questions;
use crate::host::question;
use crate::policy::question::Answer;

/// How long an upload waits for an answer, which takes well under a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nobody waits again once somebody did in vain: a session with many files would wait for each of them.
const REST: Duration = Duration::from_secs(5);

/// The job side, as far as it can be asked.
pub struct JobSide {
    socket: PathBuf,
    questions: Questions,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_away: bool,
    rests_until: Option<Instant>,
}

impl JobSide {
    /// Which answers at this socket.
    pub fn new(socket: PathBuf, questions: Questions) -> Self {
        Self { socket, questions, patience: PATIENCE, state: Mutex::default() }
    }

    /// Whether a header is for this zone; none where nobody answers in time, or what comes is no answer.
    pub async fn ask(&self, header: &[u8]) -> Option<Answer> {
        let began = Instant::now();
        let rests = self.with_state(|state| state.rests_until.is_some_and(|until| began < until));
        let answer = if rests { None } else { self.ask_now(header).await };
        self.questions.asked(answer, began.elapsed());
        answer
    }

    async fn ask_now(&self, header: &[u8]) -> Option<Answer> {
        let (answer, rests_until, error) =
            match tokio::time::timeout(self.patience, question::ask(&self.socket, header)).await {
                Ok(Ok(answer)) => (Some(answer), None, None),
                Ok(Err(error)) => (None, None, Some(error.to_string())),
                Err(_) => (None, Some(Instant::now() + REST), Some("no answer in time".to_owned())),
            };
        let was_away = self.with_state(|state| {
            state.rests_until = rests_until;
            std::mem::replace(&mut state.is_away, answer.is_none())
        });
        let socket = self.socket.display();
        match error {
            Some(error) if !was_away => {
                tracing::warn!(%socket, error, "work cannot be asked whether uploads are for this zone; `accept.unasked` of each flow decides");
            }
            None if was_away => tracing::info!(%socket, "work answers again"),
            Some(_) | None => {}
        }
        answer
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use crate::host::clock::Clock;
    use crate::host::metrics::ServeMetrics;

    /// The job side at a socket in a folder.
    pub fn at(folder: &std::path::Path) -> JobSide {
        let metrics = ServeMetrics::new([].iter(), &Clock::system()).unwrap();
        JobSide::new(folder.join("work.sock"), metrics.questions())
    }

    #[tokio::test]
    async fn where_nobody_is_there_is_no_answer_and_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let job_side = at(folder.path());
        assert_eq!(job_side.ask(b"header").await, None);
        assert!(job_side.with_state(|state| state.rests_until.is_none() && state.is_away));
    }

    #[tokio::test]
    async fn garbage_is_no_answer_and_the_next_question_is_asked_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let job_side = at(folder.path());
        let listener = UnixListener::bind(folder.path().join("work.sock")).unwrap();
        for (said, answer) in [(&b"\0"[..], None), (b"", None), (b"yes", None), (b"Y", Some(Answer::Opens))] {
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut question = [0; 4 + 6];
                stream.read_exact(&mut question).await.unwrap();
                assert_eq!(&question, b"\0\0\0\x06header");
                stream.write_all(said).await.unwrap();
            };
            let (asked, ()) = tokio::join!(job_side.ask(b"header"), serve);
            assert_eq!(asked, answer, "{said:?}");
        }
    }

    #[tokio::test]
    async fn silence_is_waited_for_once_and_then_not_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let job_side = JobSide { patience: Duration::from_millis(20), ..at(folder.path()) };
        let mute = UnixListener::bind(folder.path().join("work.sock")).unwrap();
        let waited_for = async || {
            assert_eq!(job_side.ask(b"header").await, None);
            // What was not even tried did not come here.
            tokio::time::timeout(Duration::from_millis(200), mute.accept()).await.is_ok()
        };
        assert!(waited_for().await);
        assert!(!waited_for().await);
        assert!(!waited_for().await);
        job_side.with_state(|state| state.rests_until = Some(Instant::now()));
        assert!(waited_for().await, "the rest is over");
    }
}

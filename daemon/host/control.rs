//! How an operator's command reaches a daemon: one request and one answer per connection of a Unix socket, each a line of
//! JSON. Who may connect says `socket`; who asked is what the kernel says (SO_PEERCRED). What a request does is for the
//! daemons.

use std::fmt;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::socket::Socket;
use super::spool::{HandingOver, PassphraseKey};
use crate::policy::arrival::ArrivalId;
use crate::policy::incident::case::CaseId;
use crate::policy::passphrase::{Locked, Meant, Shown};
use crate::policy::record::printable;

/// Requests at a time.
const AT_ONCE: usize = 8;
/// Longest request, in bytes.
const REQUEST_MAX: u64 = 4 << 10;
/// Of most answers, in bytes.
const ANSWER_ROOM: usize = 16 << 10;
/// Longest answer, in bytes.
const ANSWER_MAX: u64 = 16 << 20;
/// From accept to the whole request.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// From the request to its answer, which the other side has taken: a reload reads every file of the zone.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// What an operator may be called, in characters.
const NAME_MAX: usize = 64;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Request {
    /// What is asked for.
    pub ask: Ask,
    /// What the one who asks says to be called: behind a shared account, the kernel knows no better.
    #[serde(default)]
    pub name: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// To take the changed configuration over.
    Reload,
    /// Which sessions are live.
    Sessions,
    /// To cut sessions.
    Kick(Target),
    /// To believe a clock that had jumped, for this reason.
    ConfirmClock(String),
    /// To change the course of an arrival.
    Arrival(Change),
    /// Which passphrases wait to be handed out.
    Passphrases,
    /// The passphrase of a result.
    Passphrase(Meant),
    /// Not to keep this one any longer, for it was shown.
    PassphraseShown(PassphraseKey),
    /// To close an incident.
    CloseIncident(Closing),
}

/// Which incident is dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Closing {
    /// Which.
    pub incident: CaseId,
    /// What came of it, in the operator's words.
    pub reason: String,
}

/// What is to become of an arrival that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Change {
    /// What.
    pub course: Course,
    /// Which arrival.
    pub arrival: ArrivalId,
    /// Why, in the operator's words.
    pub reason: String,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// A held one is worked on again.
    Release,
    /// A held one is removed.
    Discard,
    /// A deferred one is tried now; a held one is released.
    Retry,
}

/// Which sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The one with this id.
    Session(String),
    /// All of an institution.
    Institution(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done; what, in words.
    Done(String),
    /// It was not; why, one line each.
    Refused(Vec<String>),
    /// The sessions that are live, or that were cut.
    Sessions(Vec<LiveSession>),
    /// The passphrases that wait, but for themselves.
    Passphrases(Vec<PassphraseRow>),
    /// A passphrase. Nothing else that goes this way is a secret.
    Passphrase(Box<Shown>),
}

/// A passphrase that waits to be handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PassphraseRow {
    /// What it opens.
    pub locked: Locked,
    /// What is known of handing it to a program, where that failed.
    pub handing_over: Option<HandingOver>,
}

impl Answer {
    /// What came of something that was done in a thread of its own.
    pub async fn of(doing: JoinHandle<Result<String, impl fmt::Display>>) -> Self {
        match doing.await {
            Ok(Ok(told)) => Self::Done(told),
            Ok(Err(error)) => Self::Refused(vec![error.to_string()]),
            Err(_) => Self::Refused(vec!["it ended in a defect of this program".to_owned()]),
        }
    }
}

/// What came of a reload.
impl From<Result<String, Vec<String>>> for Answer {
    fn from(reloaded: Result<String, Vec<String>>) -> Self {
        match reloaded {
            Ok(told) => Self::Done(told),
            Err(problems) => Self::Refused(problems),
        }
    }
}

/// A session, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LiveSession {
    /// Its id, which records call `session`.
    pub id: String,
    /// The institution.
    pub institution: String,
    /// The label of the person's key.
    pub person: String,
    /// The peer's address and port.
    pub peer: String,
    /// The client's identification string.
    pub client: String,
    /// When it logged in.
    pub since: Timestamp,
    /// How long nothing has moved.
    pub idle_seconds: u64,
    /// Files open for writing.
    pub uploads: usize,
    /// Files open for reading.
    pub downloads: usize,
    /// SFTP bytes that came in.
    pub received_bytes: u64,
    /// SFTP bytes that went out.
    pub sent_bytes: u64,
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    user: u32,
    name: Option<String>,
}

/// For records.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.user)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, ", by own account {name}"))
    }
}

impl Operator {
    /// The user, as the kernel knows it.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// `user` is the kernel's word; the name is the peer's own.
    pub fn new(user: u32, name: Option<&str>) -> Self {
        let name = name.map(|name| printable(name, NAME_MAX));
        Self { user, name: name.filter(|name| !name.is_empty()) }
    }
}

/// Answers requests until it is dropped, and the socket with it.
pub async fn serve<F>(socket: Socket, perform: impl Fn(Ask, Operator) -> F + Send + Sync + 'static)
where
    F: Future<Output = Answer> + Send,
{
    let perform = Arc::new(perform);
    let attend = |stream| {
        let perform = Arc::clone(&perform);
        async move {
            if let Err(error) = answer(stream, &*perform).await {
                tracing::warn!(%error, "a request at the control socket was not answered");
            }
        }
    };
    socket.attend(AT_ONCE, attend).await;
}

async fn answer<F>(
    mut stream: UnixStream,
    perform: &(impl Fn(Ask, Operator) -> F + Send + Sync),
) -> io::Result<()>
where
    F: Future<Output = Answer> + Send,
{
    let user = stream.peer_cred()?.uid();
    let mut line = Vec::new();
    let mut reader = tokio::io::BufReader::new((&mut stream).take(REQUEST_MAX));
    tokio::time::timeout(REQUEST_TIME, reader.read_until(b'\n', &mut line)).await??;
    let answering = async {
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(Request { ask, name }) => perform(ask, Operator::new(user, name.as_deref())).await,
            Err(error) => Answer::Refused(vec![format!("not a request: {error}")]),
        };
        // Large enough for a passphrase and all about it: what is reallocated leaves a copy behind.
        let mut line = Zeroizing::new(Vec::with_capacity(ANSWER_ROOM));
        serde_json::to_writer(&mut *line, &answer)?;
        line.push(b'\n');
        stream.write_all(&line).await
    };
    tokio::time::timeout(ANSWER_TIME, answering).await?
}

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("it does not run: nobody answers at {path}", path = .0.display())]
    Absent(PathBuf),
    /// The socket may not be opened.
    #[error(
        "{path} may not be opened by this user; run the command as root, or as the user or in the group of the zone",
        path = .0.display()
    )]
    Forbidden(PathBuf),
    /// Anything else.
    #[error("no answer came from {path}: {cause}", path = .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// Asks the daemon at a socket. Blocks, for a bounded time.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, AskError> {
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::Absent(path.to_owned()),
        io::ErrorKind::PermissionDenied => AskError::Forbidden(path.to_owned()),
        _ => AskError::Io { path: path.to_owned(), cause },
    };
    let mut stream = net::UnixStream::connect(path).map_err(failed)?;
    let patience = Some(REQUEST_TIME + ANSWER_TIME);
    stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)).map_err(failed)?;
    let mut exchange = || {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = Zeroizing::new(Vec::with_capacity(ANSWER_ROOM));
        BufReader::new((&stream).take(ANSWER_MAX)).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            // A stranger's connection is closed without a word.
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        Ok(serde_json::from_slice(&answer)?)
    };
    exchange().map_err(failed)
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    async fn served() -> (tempfile::TempDir, PathBuf, JoinSet<()>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let socket = Socket::bind(&path).await.unwrap();
        let mut tasks = JoinSet::new();
        let perform =
            |ask: Ask, operator: Operator| async move { Answer::Done(format!("{ask:?} for {operator}")) };
        tasks.spawn(serve(socket, perform));
        (folder, path, tasks)
    }

    async fn say(path: &Path, text: Vec<u8>) -> Vec<u8> {
        let path = path.to_owned();
        let said = tokio::task::spawn_blocking(move || {
            let mut stream = net::UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            // What is too long is not read to its end.
            let _ = stream.write_all(&text);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            answer
        });
        said.await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_is_answered_and_the_kernel_says_whose_it_is() {
        let (_folder, path, _tasks) = served().await;
        let request =
            Request { ask: Ask::Kick(Target::Session("1".into())), name: Some("al\nice".repeat(30)) };
        let asking = tokio::task::spawn_blocking(move || ask(&path, &request).unwrap());
        let Answer::Done(told) = asking.await.unwrap() else { panic!("not done") };
        let user = rustix::process::geteuid().as_raw();
        assert!(
            told.starts_with(&format!("Kick(Session(\"1\")) for uid {user}, by own account al iceal ice")),
            "{told}"
        );
        assert!(told.len() < 150 && !told.contains('\n'), "{told}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_no_request_is_told_so_or_cut() {
        let (_folder, path, _tasks) = served().await;
        for text in ["\n", "{}\n", "{\"ask\": \"stop\"}\n", "{\"ask\": \"reload\", \"x\": 1}\n"] {
            let answer = String::from_utf8(say(&path, text.into()).await).unwrap();
            assert!(answer.starts_with("{\"refused\":[\"not a request"), "{text}: {answer}");
        }
        let answer = say(&path, [vec![b' '; 5000], b"{\"ask\": \"reload\"}\n".to_vec()].concat()).await;
        assert!(!String::from_utf8_lossy(&answer).contains("Reload"), "too long a request was performed");
    }

    #[test]
    fn a_daemon_that_does_not_run_is_told_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.sock");
        let request = Request { ask: Ask::Reload, name: None };
        assert!(matches!(ask(&path, &request), Err(AskError::Absent(_))));
        drop(net::UnixListener::bind(&path).unwrap());
        assert!(matches!(ask(&path, &request), Err(AskError::Absent(_))), "a crash left it");
    }
}

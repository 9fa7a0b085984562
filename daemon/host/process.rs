//! What a daemon process does to itself when it starts, and when it is time to stop.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// File descriptors a process may take when the machine allows more: 512 sessions with 64 handles each, and some.
const DESCRIPTORS: u64 = 65_536;

/// Why a process cannot be made fit, or cannot learn when to stop.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {cause}")]
pub struct ProcessError {
    doing: &'static str,
    #[source]
    cause: io::Error,
}

fn failed<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> ProcessError {
    move |cause| ProcessError { doing, cause: cause.into() }
}

/// Files are for the user and the group only, memory is dumped nowhere and read by no other process of this user, no program
/// that this one could start has more rights than it, and as many files may be open as the machine allows. Comes before the
/// first thread, which would not be bound by all of it.
pub fn prepare() -> Result<(), ProcessError> {
    share_with_group_only();
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, no_core).map_err(failed("turn core dumps off"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("forbid other processes to read this one's memory"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wish = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wish) {
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wish), ..limit })
            .map_err(failed("raise the number of open files"))?;
    }
    Ok(())
}

/// The number of the user that started this program.
pub fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The two daemons may run as two users of one group.
pub fn share_with_group_only() {
    rustix::process::umask(Mode::from_raw_mode(0o007));
}

/// When the configuration is to be read again: SIGHUP.
pub struct Hangup(Signal);

impl Hangup {
    /// From now on the signal no longer ends the process.
    pub fn listen() -> Result<Self, ProcessError> {
        Ok(Self(signal(SignalKind::hangup()).map_err(failed("listen for SIGHUP"))?))
    }

    /// Waits for the next one; several that come at once are one.
    pub async fn requested(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// When it is time to stop: SIGTERM, SIGINT, or the end of the process that started this one.
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
    parent: Option<pipe::Receiver>,
}

impl Shutdown {
    /// From now on the signals no longer end the process by themselves. With `stop_with_parent`, stdin must be a pipe
    /// whose other end the parent holds and never writes to: it closes when the parent ends, however that ends.
    pub fn listen(stop_with_parent: bool) -> Result<Self, ProcessError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed("listen for SIGTERM"))?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed("listen for SIGINT"))?,
            parent: stop_with_parent.then(parent).transpose()?,
        })
    }

    /// The same, and the end of whoever holds the other end of this pipe. For daemons inside the process of somebody else.
    pub fn with(holder: pipe::Receiver) -> Result<Self, ProcessError> {
        Ok(Self { parent: Some(holder), ..Self::listen(false)? })
    }

    /// Waits for it, and says what it was.
    pub async fn requested(&mut self) -> &'static str {
        let Self { terminate, interrupt, parent } = self;
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = ended(parent.as_mut()) => "the parent process ended",
        }
    }
}

fn parent() -> Result<pipe::Receiver, ProcessError> {
    // Not tokio's stdin: that is read by a thread which keeps the process from ending.
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed("duplicate stdin"))?;
    pipe::Receiver::from_owned_fd(stdin)
        .map_err(failed("watch stdin for the parent's end (--stop-with-parent needs a pipe there)"))
}

async fn ended(parent: Option<&mut pipe::Receiver>) {
    let Some(parent) = parent else { return std::future::pending().await };
    let mut ignored = [0; 64];
    while parent.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Set in the process that prepares itself: what it does to itself would bind the other tests as well.
    const PREPARING: &str = "DROPZONE_TEST_PREPARING";

    #[test]
    fn a_prepared_process_leaves_no_dump_is_read_by_none_and_gains_no_privileges() {
        if std::env::var_os(PREPARING).is_some() {
            prepare().unwrap();
            let no_core = Rlimit { current: Some(0), maximum: Some(0) };
            assert_eq!(rustix::process::getrlimit(Resource::Core), no_core);
            assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
            let later = std::thread::spawn(|| rustix::thread::no_new_privs().unwrap());
            assert!(later.join().unwrap(), "the threads that come later are bound as well");
            return;
        }
        let name =
            "host::process::tests::a_prepared_process_leaves_no_dump_is_read_by_none_and_gains_no_privileges";
        let itself = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(PREPARING, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&itself.stdout);
        assert!(itself.status.success() && told.contains("1 passed"), "{told}");
    }

    #[tokio::test]
    async fn the_end_of_the_parent_is_the_end_of_the_pipe_and_nothing_else_is() {
        let (mut held, watched) = pipe::pipe().unwrap();
        let mut shutdown = Shutdown { parent: Some(watched), ..Shutdown::listen(false).unwrap() };
        tokio::io::AsyncWriteExt::write_all(&mut held, b"noise").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), shutdown.requested()).await;
        assert!(early.is_err(), "{early:?}");
        drop(held);
        let reason = tokio::time::timeout(Duration::from_secs(5), shutdown.requested()).await;
        assert_eq!(reason.unwrap(), "the parent process ended");
    }
}

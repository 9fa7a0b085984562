//! A Unix socket of this zone: made when its process starts, in place of one that a crash left; open to the zone's own
//! users and nobody else, and to so many of them at a time; gone when its process ends. What is said over it is for others.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// For the user and the group only.
const MODE: u32 = 0o660;
/// After a failed accept: most likely descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Why a process has no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("the socket {path} is in use; is another dropzone running on this zone?", path = .0.display())]
    InUse(PathBuf),
    /// There is something else of that name.
    #[error("{path} is there and is no socket; move it away, or name another path under `sockets` in dropzone.yaml", path = .0.display())]
    Occupied(PathBuf),
    /// The operating system refused.
    #[error(
        "cannot make the socket {path}: {cause}; make its folder (mode 2770, group of the zone), let this user write to it, \
         or name another path under `sockets` in dropzone.yaml",
        path = .path.display()
    )]
    Io {
        /// Where.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// A socket that this process listens on. Dropped, it is gone.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what we made, and not what somebody may have put in its place.
    node: (u64, u64),
    us: Us,
}

impl Socket {
    /// Listens at a path. What a crash left there is replaced, but only if nobody answers. Two processes that do this at once
    /// are kept apart by other means: one access log has one writer.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |cause| SocketError::Io { path: path.to_owned(), cause };
        clear(path).await?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(MODE)).map_err(failed)?;
        let facts = std::fs::symlink_metadata(path).map_err(failed)?;
        let user = rustix::process::geteuid().as_raw();
        let us = Us { user, groups: [rustix::process::getegid().as_raw(), facts.gid()] };
        Ok(Self { listener, path: path.to_owned(), node: (facts.dev(), facts.ino()), us })
    }

    /// Attends to connections until it is dropped, `at_once` of them at a time; more wait in the kernel's queue.
    pub async fn attend<F>(self, at_once: usize, attend: impl Fn(UnixStream) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(at_once));
        let mut open = JoinSet::new();
        loop {
            let place = Arc::clone(&room).acquire_owned().await;
            let attending = attend(self.accept().await);
            while open.try_join_next().is_some() {}
            open.spawn(async move {
                let _place = place;
                attending.await;
            });
        }
    }

    /// The next connection of somebody who belongs to the zone.
    async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?, stream))) {
                Ok((peer, stream)) if self.us.admit(peer.uid(), peer.gid()) => return stream,
                Ok((peer, _)) => {
                    let (path, user, group) = (self.path.display(), peer.uid(), peer.gid());
                    tracing::warn!(%path, user, group, "a stranger's connection was refused");
                }
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let facts = std::fs::symlink_metadata(&self.path);
        if facts.is_ok_and(|facts| (facts.dev(), facts.ino()) == self.node)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket stays; the next start replaces it");
        }
    }
}

/// Makes room at a path.
async fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |cause| SocketError::Io { path: path.to_owned(), cause };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(facts) if !facts.file_type().is_socket() => return Err(SocketError::Occupied(path.to_owned())),
        Ok(_) => {}
    }
    // Refused is the one answer that says that nobody listens; a queue that is full, for one, does not.
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

/// Who belongs to the zone, beside root, who could become any of them.
#[derive(Debug)]
struct Us {
    user: u32,
    groups: [u32; 2],
}

impl Us {
    fn admit(&self, user: u32, group: u32) -> bool {
        user == 0 || user == self.user || self.groups.contains(&group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_a_crash_left_is_replaced_and_one_that_answers_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a crash leaves it");
        let socket = Socket::bind(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert!(matches!(Socket::bind(&path).await, Err(SocketError::InUse(_))));
        let (asked, taken) = tokio::join!(UnixStream::connect(&path), socket.accept());
        assert!(asked.is_ok() && taken.peer_cred().is_ok(), "the first one still answers");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_or_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.sock");
        std::fs::write(&path, "kept").unwrap();
        assert!(matches!(Socket::bind(&path).await, Err(SocketError::Occupied(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
        std::fs::remove_file(&path).unwrap();
        let socket = Socket::bind(&path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(socket);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
        let error = Socket::bind(&folder.path().join("none/work.sock")).await.unwrap_err();
        assert!(error.to_string().contains("make its folder"), "{error}");
    }

    #[test]
    fn only_the_zones_users_its_group_and_root_are_admitted() {
        let us = Us { user: 990, groups: [991, 992] };
        for (user, group, admitted) in [
            (990, 100, true),
            (989, 991, true),
            (989, 992, true),
            (0, 0, true),
            (989, 100, false),
            // What another user namespace's users look like.
            (65_534, 65_534, false),
        ] {
            assert_eq!(us.admit(user, group), admitted, "{user}:{group}");
        }
    }
}

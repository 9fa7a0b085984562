//! Why a connection ends in disorder. What is done about it is for `listener`.

use super::sftp::framing::Violation;
use crate::host::log::LogError;

/// Why a connection ends in disorder.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The SSH transport.
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    /// The SFTP stream.
    #[error(transparent)]
    Sftp(#[from] Violation),
    /// The login could not be recorded.
    #[error(transparent)]
    Log(#[from] LogError),
    /// More keys offered than a person has.
    #[error("too many keys offered")]
    TooManyKeys,
    /// More channels opened, one after the other, than a connection is good for.
    #[error("too many channels opened")]
    TooManyChannels,
    /// More requests turned down within a minute than a client at work can have.
    #[error("too many requests turned down")]
    TooManyRefusals,
    /// A channel was closed by its client while answers waited for room in it; they would block all other channels.
    #[error("channel closed with answers unread")]
    AnswersUnread,
    /// The socket.
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
}

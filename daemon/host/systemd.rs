//! Telling systemd how far a daemon is (sd_notify(3)). Without a service manager, nothing happens.

use sd_notify::NotifyState;

/// Whether systemd, or what stands in for it, is told through an abstract Unix socket, which no file system shows.
pub fn listens_abstractly() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| path.as_encoded_bytes().starts_with(b"@"))
}

/// The daemon serves.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What the daemon does at the moment, for `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The daemon stops in order.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told; with Type=notify it will think that the start failed");
    }
}

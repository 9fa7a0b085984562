//! A connection's byte stream, listened to until the client has said which algorithms it can do. It changes nothing, and
//! what it hears is `negotiation`'s to understand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::negotiation::{Heard, Listener};

/// The stream that russh reads and writes.
#[derive(Debug)]
pub struct Tap<S> {
    stream: S,
    listener: Option<Listener>,
    ssh: Arc<russh::server::Config>,
    connection: Arc<Connection>,
}

impl<S> Tap<S> {
    /// What is heard is told to `connection`.
    pub fn new(stream: S, ssh: Arc<russh::server::Config>, connection: Arc<Connection>) -> Self {
        Self { stream, listener: Some(Listener::default()), ssh, connection }
    }

    fn listen(&mut self, bytes: &[u8]) {
        let Some(listener) = &mut self.listener else { return };
        match listener.hear(bytes, &self.ssh.preferred) {
            Heard::More => return,
            Heard::All(negotiated) => self.connection.secured_with(negotiated),
            Heard::Nothing => {}
        }
        self.listener = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.listener.is_some() {
            self.listen(buffer.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! The loopback listener for monitoring: `/metrics`, `/healthz` (the process answers) and `/readyz` (it can do its work;
//! if not, 503 with one reason per line). What is measured is `host::metrics`'s business; who is ready says the caller.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 16;
/// From accept to close, whatever the other side does.
const LIFETIME: Duration = Duration::from_secs(10);
/// After a failed accept: most likely descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Why monitoring cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The metrics tell who exchanges with whom: they are for this machine only.
    #[error(
        "metrics address {0} is not a loopback address: use 127.0.0.1 or [::1] in `metrics` of dropzone.yaml"
    )]
    NotLoopback(SocketAddr),
    /// The port is taken or not allowed.
    #[error(
        "cannot listen on {address} for metrics: {cause}; choose another port in `metrics` of dropzone.yaml"
    )]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The operating system's answer.
        #[source]
        cause: io::Error,
    },
}

/// Whether a process can do its work: nothing, or the reasons why not, one line each.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Listens at once; the future serves until it is dropped. Returns the address with the port that port 0 became.
pub async fn listen(
    address: SocketAddr,
    registry: Registry,
    readiness: impl Fn() -> Vec<String> + Send + Sync + 'static,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send + 'static), HttpError> {
    listen_for(address, registry, Arc::new(readiness), LIFETIME).await
}

async fn listen_for(
    address: SocketAddr,
    registry: Registry,
    readiness: Readiness,
    lifetime: Duration,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send + 'static), HttpError> {
    if !address.ip().is_loopback() {
        return Err(HttpError::NotLoopback(address));
    }
    let failed = |cause| HttpError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(registry)
        .merge(Router::new().route("/readyz", get(readyz)).with_state(readiness))
        .route("/healthz", get(|| async { ([CLOSE], "ok\n") }))
        .fallback(|| async { (StatusCode::NOT_FOUND, [CLOSE], "see /metrics, /healthz and /readyz\n") });
    let listener = Bounded { listener, room: Arc::new(Semaphore::new(CONNECTIONS)), lifetime };
    Ok((address, async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    }))
}

/// One answer per connection, so that a scraper that idles takes no room.
const CLOSE: (HeaderName, &str) = (CONNECTION, "close");

async fn metrics(State(registry): State<Registry>) -> (StatusCode, [(HeaderName, &'static str); 2], String) {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, [CLOSE, (CONTENT_TYPE, TEXT_FORMAT)], text),
        Err(error) => {
            let text = format!("the metrics cannot be written: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, [CLOSE, (CONTENT_TYPE, "text/plain")], text)
        }
    }
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, [(HeaderName, &'static str); 1], String) {
    let reasons = readiness();
    if reasons.is_empty() {
        (StatusCode::OK, [CLOSE], "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, [CLOSE], reasons.join("\n") + "\n")
    }
}

/// A listener whose connections are few and short.
struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    lifetime: Duration,
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let room = Arc::clone(&self.room).acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let end = Box::pin(tokio::time::sleep(self.lifetime));
                    return (Connection { stream, end, _room: room }, peer);
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use prometheus::IntCounter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn served(lifetime: Duration, red: Arc<AtomicBool>) -> SocketAddr {
        let registry = Registry::new();
        let counter = IntCounter::new("dropzone_sneezes_total", "Sneezes").unwrap();
        counter.inc();
        registry.register(Box::new(counter)).unwrap();
        let readiness: Readiness = Arc::new(move || match red.load(Ordering::Relaxed) {
            true => vec!["the access log cannot be written".into(), "the spool is full".into()],
            false => vec![],
        });
        let any = "127.0.0.1:0".parse().unwrap();
        let (address, serving) = listen_for(any, registry, readiness, lifetime).await.unwrap();
        tokio::spawn(serving);
        address
    }

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_health_and_readiness_are_told() {
        let red = Arc::new(AtomicBool::new(false));
        let address = served(LIFETIME, Arc::clone(&red)).await;
        let metrics = fetch(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 OK") && metrics.contains("dropzone_sneezes_total 1\n"));
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(fetch(address, "/healthz").await.ends_with("\r\n\r\nok\n"));
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        red.store(true, Ordering::Relaxed);
        let answer = fetch(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\nthe access log cannot be written\nthe spool is full\n"),
            "{answer}"
        );
        assert!(fetch(address, "/").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn silent_connections_are_cut_and_do_not_keep_others_out() {
        let address = served(Duration::from_millis(200), Arc::default()).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS * 2 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(fetch(address, "/healthz").await.ends_with("ok\n"));
        let mut buffer = [0; 16];
        let cut = silent[0].read(&mut buffer);
        assert!(matches!(tokio::time::timeout(Duration::from_secs(5), cut).await, Ok(Ok(0) | Err(_))));
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_is_refused() {
        for address in ["0.0.0.0:0", "192.0.2.1:9721", "[::]:0"] {
            let refused = listen(address.parse().unwrap(), Registry::new(), Vec::new).await;
            assert!(matches!(refused, Err(HttpError::NotLoopback(_))), "{address}");
        }
    }
}

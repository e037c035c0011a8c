//! One connection: TLS, HTTP, and an end for those that stall.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::handlers::{self, State};
use crate::log;

/// Longest a client may take for its TLS handshake, or for a request's headers (slow-loris clients). An idle connection is
/// closed after it too.
const HEADERS_MAX: Duration = Duration::from_secs(20);
/// Longest a client may leave sent bytes unacknowledged, or its window shut. Spanning tree holds ports for 50 s.
const STALL_MAX: Duration = Duration::from_secs(120);
/// Longest one connection may last; the largest layer over a slow line fits, and resumes if it does not.
const CONNECTION_MAX: Duration = Duration::from_secs(6 * 3600);
/// Most headers of one request, and most bytes of them together.
const HEADERS_COUNT_MAX: usize = 64;
const HEADERS_BYTES_MAX: usize = 64 << 10;

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// By TLS: what is sent to it is for it alone.
    pub(super) tls: bool,
}

impl Peer {
    fn by_tls(address: SocketAddr) -> Self {
        Self { address, tls: true }
    }

    fn in_clear(address: SocketAddr) -> Self {
        Self {
            address,
            tls: false,
        }
    }
}

/// The certificate in use: replaced when it is renewed.
pub(super) type Certificate = Arc<watch::Sender<Arc<ServerConfig>>>;

/// What all connections share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) state: Arc<State>,
    /// One for each connection.
    pub(super) places: Arc<Semaphore>,
    /// Changes when the server is to end, and goes away when it has ended.
    pub(super) ended: watch::Receiver<()>,
}

/// Takes connections from `listener` for as long as it is polled.
pub(super) async fn accept(
    listener: TcpListener,
    certificate: Option<Certificate>,
    shared: &Shared,
) {
    loop {
        let Ok(place) = shared.places.clone().acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, mostly: wait for connections to end.
                log::say(format_args!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let tls = certificate.as_ref().map(|current| current.borrow().clone());
        let shared = shared.clone();
        tokio::spawn(async move {
            let served = tokio::time::timeout(CONNECTION_MAX, serve(stream, peer, tls, shared));
            if served.await.is_err() {
                log::say(format_args!("{peer}: ended after {CONNECTION_MAX:?}"));
            }
            drop(place);
        });
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    shared: Shared,
) {
    // Small answers must not wait for acknowledgements. Neither option is needed for what is right.
    let _ = stream.set_nodelay(true);
    let stall = u32::try_from(STALL_MAX.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, stall);
    let Some(tls) = tls else {
        return converse(stream, Peer::in_clear(peer), shared).await;
    };
    let mut ended = shared.ended.clone();
    let hands_shaken = tokio::select! {
        shaken = handshake(stream, tls) => shaken,
        _ = ended.changed() => return,
    };
    match hands_shaken {
        Ok(stream) => converse(stream, Peer::by_tls(peer), shared).await,
        Err(error) => log::say(format_args!(
            "{peer}: no TLS connection: {}",
            log::clean(&error.to_string())
        )),
    }
}

async fn handshake(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let accepting = TlsAcceptor::from(tls).accept(stream);
    tokio::time::timeout(HEADERS_MAX, accepting)
        .await
        .map_err(std::io::Error::other)?
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send, peer: Peer, shared: Shared) {
    let state = shared.state;
    let service = service_fn(|request| handlers::answer(state.clone(), peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_headers(HEADERS_COUNT_MAX)
        .max_buf_size(HEADERS_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut ended = shared.ended;
    // Errors here are clients that go away or speak no HTTP; there is nobody to tell.
    tokio::select! {
        _ = &mut connection => return,
        _ = ended.changed() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        _ = ended.changed() => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;
    use crate::fixture;

    /// How long the server keeps up with a client that sends `text` and then nothing; time passes by itself.
    async fn patience_with(text: &[u8]) -> (Duration, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let now = "2026-11-23T22:00:00Z".parse().unwrap();
        let site = fixture::site(&folder.path().join("site"), now);
        let (_ending, ended) = watch::channel(());
        let shared = Shared {
            state: Arc::new(State::open(site, Arc::new(move || now)).unwrap()),
            places: Arc::new(Semaphore::new(1)),
            ended,
        };
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(text).await.unwrap();
        let start = Instant::now();
        converse(server, Peer::in_clear(([127, 0, 0, 1], 1).into()), shared).await;
        let took = start.elapsed();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        (took, answer)
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_send_nothing_are_let_go() {
        for text in [&b""[..], b"GET /v1/plan HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
            let (took, _) = patience_with(text).await;
            assert!(took <= HEADERS_MAX + Duration::from_secs(1), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_nothing_more_to_ask_is_closed() {
        let (took, answer) = patience_with(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with(b"HTTP/1.1 404"));
        assert!(took <= HEADERS_MAX + Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for_long() {
        let text = b"POST /v1/plan HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{";
        let (took, answer) = patience_with(text).await;
        assert!(answer.starts_with(b"HTTP/1.1 408"));
        assert!(took <= Duration::from_secs(60), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn more_headers_than_a_client_needs_are_refused() {
        let many = "X-Many: 1\r\n".repeat(HEADERS_COUNT_MAX + 1);
        let text = format!("GET /nothing HTTP/1.1\r\nHost: a\r\n{many}\r\n");
        let (_, answer) = patience_with(text.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 431"));
    }
}

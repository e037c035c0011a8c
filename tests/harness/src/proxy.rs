//! A proxy, by TLS or plain HTTP, that does to answers what its script says.
//!
//! It stands between stage 1 and a real server, as a mirror or an attacker would: stage 1 trusts signatures, not the way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, LOCATION, RANGE};
use hyper::http::response::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// What is done to one answer.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The bit is turned in the byte at this offset of the *file*, whatever range was asked for.
    Flip(u64),
    /// The connection ends after this many bytes of the body.
    CutAfter(usize),
    /// Nothing more is sent after this many bytes of the body, and the connection stays.
    StallAfter(usize),
    /// One byte every so often after this many bytes of the body.
    DripAfter(usize, Duration),
    /// No answer at all, and the connection stays.
    Silence,
    /// A range is answered with the whole file.
    WholeFile,
    /// A range is answered as if another had been asked for.
    OtherRange,
    /// The answer ends early, as if the file were this long.
    Short(usize),
    /// Another body.
    Replace(Vec<u8>),
    /// The body as this makes it of the real one, for a site in this folder.
    Alter(fn(Vec<u8>, &Path) -> Vec<u8>, PathBuf),
    /// This many bytes too many, of nothing.
    Endless(usize),
    /// Bytes of nothing after the body, for as long as somebody reads.
    Flood,
    /// A header field of this many bytes.
    Header(usize),
    /// An error of the server.
    Status(u16),
    /// To another place.
    Redirect(String),
}

/// Which fault: from path and number of the request, counted from 0.
pub type Script = dyn Fn(&str, usize) -> Fault + Send + Sync;

/// A running proxy; it ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    tls: bool,
    requests: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Proxy {
    /// Starts a proxy on loopback in front of `upstream`, which speaks plain HTTP.
    ///
    /// # Panics
    /// There is no port.
    #[must_use]
    pub fn start(upstream: SocketAddr, script: Box<Script>) -> Self {
        Self::start_on(([127, 0, 0, 1], 0).into(), upstream, script, None)
    }

    /// Starts a proxy on this address, over TLS if there is a configuration for it.
    ///
    /// # Panics
    /// The port is taken.
    #[must_use]
    pub fn start_on(
        address: SocketAddr,
        upstream: SocketAddr,
        script: Box<Script>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .expect("a port");
        let proxy = Self {
            address: listener.local_addr().expect("an address"),
            tls: tls.is_some(),
            requests: Arc::default(),
            sent: Arc::default(),
            _runtime: runtime,
        };
        let shared = Arc::new(Shared {
            upstream,
            script,
            requests: proxy.requests.clone(),
            sent: proxy.sent.clone(),
        });
        proxy
            ._runtime
            .spawn(accept(listener, tls.map(TlsAcceptor::from), shared));
        proxy
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Requests answered so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Bytes of bodies sent so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

struct Shared {
    upstream: SocketAddr,
    script: Box<Script>,
    requests: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, shared).await,
                // A client that refuses our certificate is what some tests wait for.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(request, shared.clone()));
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Clients that leave in the middle are what some tests are about.
    let _ = builder
        .max_buf_size(1 << 20)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Body = http_body_util::StreamBody<Pieces>;

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, Infallible> {
    let number = shared.requests.fetch_add(1, Ordering::SeqCst);
    let fault = (shared.script)(request.uri().path(), number);
    Ok(forward(request, fault, &shared)
        .await
        .unwrap_or_else(|error| {
            let words = format!("the proxy cannot reach its server: {error}").into_bytes();
            let mut response = Response::new(pieces(words, Then::End, &shared));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }))
}

async fn forward(
    request: Request<Incoming>,
    fault: Fault,
    shared: &Shared,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut head, body) = request.into_parts();
    match fault {
        Fault::WholeFile => drop(head.headers.remove(RANGE)),
        Fault::OtherRange if head.headers.contains_key(RANGE) => {
            head.headers
                .insert(RANGE, HeaderValue::from_static("bytes=1-"));
        }
        Fault::Silence => std::future::pending().await,
        _ => {}
    }
    let request = Request::from_parts(head, Full::new(body.collect().await?.to_bytes()));
    let (mut head, mut bytes) = upstream(shared.upstream, request).await?;
    let start = first_byte(&head);
    let mut then = Then::End;
    let mut declared = Some(bytes.len());
    match fault {
        Fault::None | Fault::WholeFile | Fault::OtherRange | Fault::Silence => {}
        Fault::Flip(offset) => {
            let at = offset.checked_sub(start);
            let at = at.and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1;
            }
        }
        Fault::CutAfter(after) => bytes.truncate(after),
        Fault::StallAfter(after) => {
            bytes.truncate(after);
            then = Then::Stall;
        }
        Fault::DripAfter(after, every) => {
            let rest = bytes.split_off(after.min(bytes.len()));
            then = Then::Drip(rest, every);
        }
        Fault::Short(bytes_max) => {
            bytes.truncate(bytes_max);
            declared = Some(bytes.len());
        }
        Fault::Replace(other) => {
            declared = Some(other.len());
            bytes = other;
        }
        Fault::Alter(alter, site) => {
            bytes = alter(bytes, &site);
            declared = Some(bytes.len());
        }
        Fault::Endless(more) => {
            bytes.resize(bytes.len() + more, 0);
            declared = Some(bytes.len());
        }
        Fault::Flood => (then, declared) = (Then::Flood, None),
        Fault::Header(size) => {
            let value = HeaderValue::from_str(&"x".repeat(size))?;
            head.headers.insert("x-long", value);
        }
        Fault::Status(status) => head.status = StatusCode::from_u16(status)?,
        Fault::Redirect(place) => {
            head.status = StatusCode::FOUND;
            head.headers
                .insert(LOCATION, HeaderValue::from_str(&place)?);
        }
    }
    head.headers.remove(CONTENT_LENGTH);
    if let Some(declared) = declared {
        head.headers.insert(CONTENT_LENGTH, declared.into());
    }
    Ok(Response::from_parts(head, pieces(bytes, then, shared)))
}

/// The real answer.
async fn upstream(
    server: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(Parts, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head, body.collect().await?.to_bytes().to_vec()))
}

/// Offset in the file of an answer's first byte.
fn first_byte(head: &Parts) -> u64 {
    let range = head.headers.get(CONTENT_RANGE);
    let range = range.and_then(|range| range.to_str().ok()?.strip_prefix("bytes "));
    let start = range.and_then(|range| range.split('-').next()?.parse().ok());
    start.unwrap_or(0)
}

/// What follows a body.
enum Then {
    End,
    Stall,
    Drip(Vec<u8>, Duration),
    Flood,
}

/// A body that comes as the fault wants it.
fn pieces(bytes: Vec<u8>, then: Then, shared: &Shared) -> Body {
    /// Bytes handed over at a time.
    const PIECE_BYTES: usize = 64 << 10;
    let (sender, receiver) = mpsc::channel(1);
    let sent = shared.sent.clone();
    // Whoever stops reading ends it.
    tokio::spawn(async move {
        let send = async |piece: Bytes| {
            let length = piece.len() as u64;
            sender.send(piece).await?;
            sent.fetch_add(length, Ordering::SeqCst);
            Ok::<_, mpsc::error::SendError<Bytes>>(())
        };
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            send(bytes.split_to(bytes.len().min(PIECE_BYTES))).await?;
        }
        match then {
            Then::End => {}
            Then::Stall => sender.closed().await,
            Then::Drip(bytes, every) => {
                for byte in bytes {
                    tokio::time::sleep(every).await;
                    send(Bytes::from(vec![byte])).await?;
                }
            }
            Then::Flood => loop {
                send(Bytes::from_static(&[0; PIECE_BYTES])).await?;
            },
        }
        Ok::<_, mpsc::error::SendError<Bytes>>(())
    });
    http_body_util::StreamBody::new(Pieces(receiver))
}

/// The pieces of a body. It ends with its sender, which breaks the connection if less came than was declared.
struct Pieces(mpsc::Receiver<Bytes>);

impl futures_core::Stream for Pieces {
    type Item = Result<hyper::body::Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}

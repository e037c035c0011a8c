//! A proxy over plain HTTP that does to answers what its script says.
//!
//! It stands between stage 1 and a real server, as a mirror or an attacker would: stage 1 trusts signatures, not the way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

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
    /// A range is answered with the whole file.
    WholeFile,
    /// Another body.
    Replace(Vec<u8>),
    /// This many bytes too many, of nothing.
    Endless(usize),
    /// An error of the server.
    Status(u16),
}

/// Which fault: from path and number of the request, counted from 0.
pub type Script = dyn Fn(&str, usize) -> Fault + Send + Sync;

/// A running proxy; it ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Proxy {
    /// Starts a proxy on loopback in front of `upstream`, which speaks plain HTTP.
    ///
    /// # Panics
    /// There is no port.
    #[must_use]
    pub fn start(upstream: SocketAddr, script: Box<Script>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let (script, count) = (Arc::new(script), requests.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, count) = (script.clone(), count.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(upstream, request, script.as_ref().as_ref(), &count));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, requests, _runtime: runtime }
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests answered so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

type Body = http_body_util::Either<Full<Bytes>, http_body_util::StreamBody<Partial>>;

async fn answer(
    upstream: SocketAddr,
    request: Request<Incoming>,
    script: &Script,
    count: &AtomicUsize,
) -> Result<Response<Body>, Infallible> {
    let fault = script(request.uri().path(), count.fetch_add(1, Ordering::SeqCst));
    let answered = forward(upstream, request, &fault).await;
    Ok(answered.unwrap_or_else(|error| {
        let mut response = Response::new(whole(format!("the proxy cannot reach its server: {error}").into_bytes()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    }))
}

fn whole(bytes: Vec<u8>) -> Body {
    Body::Left(Full::new(bytes.into()))
}

async fn forward(
    upstream: SocketAddr,
    request: Request<Incoming>,
    fault: &Fault,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut head, body) = request.into_parts();
    if matches!(fault, Fault::WholeFile) {
        head.headers.remove(RANGE);
    }
    let request = Request::from_parts(head, Full::new(body.collect().await?.to_bytes()));
    let stream = TcpStream::connect(upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (mut head, body) = sender.send_request(request).await?.into_parts();
    let mut bytes = body.collect().await?.to_bytes().to_vec();
    head.headers.remove(CONTENT_LENGTH);
    let start = head
        .headers
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let declared = bytes.len();
    match fault {
        Fault::None | Fault::WholeFile => {}
        Fault::Flip(offset) => {
            let at = offset.checked_sub(start).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1;
            }
        }
        Fault::Replace(other) => bytes.clone_from(other),
        Fault::Endless(more) => bytes.resize(bytes.len() + more, 0),
        Fault::Status(status) => head.status = StatusCode::from_u16(*status)?,
        Fault::CutAfter(after) | Fault::StallAfter(after) => {
            head.headers.insert(CONTENT_LENGTH, declared.into());
            bytes.truncate(*after);
            let then_stall = matches!(fault, Fault::StallAfter(_));
            let partial = Partial { bytes: Some(bytes.into()), then_stall };
            return Ok(Response::from_parts(head, Body::Right(http_body_util::StreamBody::new(partial))));
        }
    }
    Ok(Response::from_parts(head, whole(bytes)))
}

/// A body that breaks off, or stops.
pub struct Partial {
    bytes: Option<Bytes>,
    then_stall: bool,
}

impl futures_core::Stream for Partial {
    type Item = Result<hyper::body::Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        match (self.bytes.take(), self.then_stall) {
            (Some(bytes), _) => std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes)))),
            (None, true) => std::task::Poll::Pending,
            (None, false) => std::task::Poll::Ready(None),
        }
    }
}

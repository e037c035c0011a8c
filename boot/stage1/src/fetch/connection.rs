//! HTTP/1.1 over one connection, with a bound on everything that comes back: header, bytes, silence and time.
//!
//! Redirects are not followed: whoever answers must be whoever was asked.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use towline_contract::api::{self, ErrorBody};
use towline_contract::event::Event;
use towline_contract::trust::EventSigner;

use super::{FetchError, Patience, Server};

/// Largest body of an error answer, in bytes.
const ERROR_BYTES_MAX: u64 = 16 << 10;
/// Most header fields of an answer. Ours has six.
const HEADERS_MAX: usize = 64;
/// Largest header of an answer, and most bytes of a body that are read at once.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What is posted.
struct Content {
    /// Its content type.
    kind: &'static str,
    bytes: Bytes,
    /// The signature of an event.
    signature: Option<String>,
}

impl Content {
    fn new(kind: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            kind,
            bytes: bytes.into(),
            signature: None,
        }
    }
}

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// A connection to one server, for one request after the other.
pub struct Connection {
    server: Server,
    sender: SendRequest<Full<Bytes>>,
    patience: Patience,
}

impl Connection {
    /// Starts over a stream to `server`, which [`super::Client`] made, or a test.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn start<S>(
        server: &Server,
        stream: S,
        patience: Patience,
    ) -> Result<Self, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| FetchError::broken(server, cause))?;
        // It ends with its sender; what it would report, the requests report.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self {
            server: server.clone(),
            sender,
            patience,
        })
    }

    /// The server it goes to.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Gets a small file; `None` when there is none.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn find(&mut self, path: &str, max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let document = self.document(path, None, max);
        match document.await {
            Err(FetchError::Status { status: 404, .. }) => Ok(None),
            document => document.map(Some),
        }
    }

    /// Gets a small file.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        self.document(path, None, max).await
    }

    /// Posts JSON and takes a small answer.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn post(
        &mut self,
        path: &str,
        json: Vec<u8>,
        max: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let content = Content::new(JSON, json);
        self.document(path, Some(content), max).await
    }

    /// Posts what is sealed and takes a small answer, which is sealed as well.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn post_sealed(
        &mut self,
        path: &str,
        sealed: Vec<u8>,
        max: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let content = Content::new(OCTETS, sealed);
        self.document(path, Some(content), max).await
    }

    /// Reports an event, signed by `signer` if there is one. The server's answer has nothing in it.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn post_event(
        &mut self,
        event: &Event,
        signer: Option<&EventSigner>,
    ) -> Result<(), FetchError> {
        let json = serde_json::to_vec(event).unwrap_or_default();
        let content = Content {
            signature: signer.map(|it| it.header(&json)),
            ..Content::new(JSON, json)
        };
        let answer = self.document(api::EVENTS_PATH, Some(content), ERROR_BYTES_MAX);
        answer.await.map(drop)
    }

    /// Gets a file from byte `start` on, as a stream. A server that ignores the range is read from its beginning, and what
    /// comes before `start` is passed over.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn stream(mut self, path: &str, start: u64) -> Result<Stream, FetchError> {
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let response = self.send(path, range.as_deref(), None).await?;
        let skip = match response.status() {
            StatusCode::OK => start,
            StatusCode::PARTIAL_CONTENT => {
                self.check_range(&response, start)?;
                0
            }
            _ => return Err(self.refused(path, response).await),
        };
        Ok(Stream {
            body: response.into_body(),
            skip,
            connection: self,
        })
    }

    /// An answer that begins elsewhere than asked is of no use.
    fn check_range(&self, response: &Response<Incoming>, start: u64) -> Result<(), FetchError> {
        let found = response.headers().get(CONTENT_RANGE);
        let found = found.map(|value| value.as_bytes().escape_ascii().to_string());
        let found = found.unwrap_or_default();
        if found.starts_with(&format!("bytes {start}-")) {
            return Ok(());
        }
        Err(FetchError::Range {
            server: self.server.to_string(),
            found,
            wanted: start,
        })
    }

    /// A whole small answer, within the time that one may take.
    async fn document(
        &mut self,
        path: &str,
        content: Option<Content>,
        max: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let limit = self.patience.document;
        let slow = FetchError::slow(&self.server, path, limit);
        let answered = async {
            let response = self.send(path, None, content).await?;
            if !response.status().is_success() {
                return Err(self.refused(path, response).await);
            }
            self.read(path, response.into_body(), max).await
        };
        timeout(limit, answered).await.unwrap_or(Err(slow))
    }

    async fn send(
        &mut self,
        path: &str,
        range: Option<&str>,
        content: Option<Content>,
    ) -> Result<Response<Incoming>, FetchError> {
        let mut request = Request::builder()
            .method(content.as_ref().map_or(Method::GET, |_| Method::POST))
            .uri(self.server.path(path))
            .header(HOST, self.server.authority());
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let mut body = Bytes::new();
        if let Some(content) = content {
            request = request.header(CONTENT_TYPE, content.kind);
            if let Some(signature) = content.signature {
                request = request.header(api::EVENT_SIGNATURE_HEADER, signature);
            }
            body = content.bytes;
        }
        let request = request.body(Full::new(body)).map_err(|_| FetchError::Url {
            url: format!("{}{path}", self.server),
            cause: None,
        })?;
        let answered = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let limit = self.patience.stall;
        timeout(limit, answered)
            .await
            .map_err(|_| FetchError::stalled(&self.server, limit))?
            .map_err(|cause| FetchError::broken(&self.server, cause))
    }

    /// The server's no, with its words when they can be read.
    async fn refused(&self, path: &str, response: Response<Incoming>) -> FetchError {
        let status = response.status().as_u16();
        let body = self
            .read(path, response.into_body(), ERROR_BYTES_MAX)
            .await
            .ok();
        let body: Option<ErrorBody> = body.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        FetchError::Status {
            server: self.server.to_string(),
            path: path.to_owned(),
            status,
            body,
        }
    }

    async fn read(&self, path: &str, mut body: Incoming, max: u64) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(&mut body).await? {
            if bytes.len() as u64 + piece.len() as u64 > max {
                return Err(FetchError::TooLarge {
                    server: self.server.to_string(),
                    path: path.to_owned(),
                    max,
                });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// The next piece of a body, `None` at its end.
    async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, FetchError> {
        let limit: Duration = self.patience.stall;
        loop {
            let frame = timeout(limit, body.frame())
                .await
                .map_err(|_| FetchError::stalled(&self.server, limit))?;
            match frame.transpose() {
                Ok(None) => return Ok(None),
                Err(cause) => return Err(FetchError::broken(&self.server, cause)),
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
            }
        }
    }
}

/// A file on its way.
pub struct Stream {
    body: Incoming,
    skip: u64,
    connection: Connection,
}

impl Stream {
    /// Bytes before the wanted ones that the server sends all the same.
    #[must_use]
    pub fn skip(&self) -> u64 {
        self.skip
    }

    /// The next bytes from where the range was to begin, `None` at the end.
    ///
    /// # Errors
    /// The connection broke or stalled.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let Some(mut piece) = self.connection.piece(&mut self.body).await? else {
                return Ok(None);
            };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX);
            let rest = piece.split_off(skipped.min(piece.len()));
            self.skip -= piece.len() as u64;
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
    }
}

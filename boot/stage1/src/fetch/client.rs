//! HTTP/1.1 to one server, with a bound on everything that comes back.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use towline_contract::api::{self, ErrorBody};
use towline_contract::event::Event;

use super::FetchError;
use super::tls::{TlsTime, client_config};

/// Longest to connect to one address, or to shake hands for TLS (in software, on a slow machine).
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// Longest without a single byte. Satellite links and spanning tree come back within it.
pub(super) const STALL_MAX: Duration = Duration::from_secs(30);
/// Longest body of an error answer, in bytes.
const ERROR_BYTES_MAX: u64 = 16 << 10;
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// A server or mirror: the base URL that its paths are appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    uri: Uri,
}

impl Server {
    /// Reads a base URL.
    ///
    /// # Errors
    /// Not http or https, or without a host.
    pub fn parse(url: &str) -> Result<Self, FetchError> {
        let bad = || FetchError::Url {
            url: url.chars().take(200).collect(),
        };
        let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| bad())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if !known || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(bad());
        }
        Ok(Self { uri })
    }

    fn https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    fn host(&self) -> &str {
        self.uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.uri
            .port_u16()
            .unwrap_or(if self.https() { 443 } else { 80 })
    }

    /// The path of a request: that of the base URL with `path` appended.
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.uri.path().trim_end_matches('/'))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri.to_string().trim_end_matches('/'))
    }
}

/// Makes connections, all with the same authorities and the same knowledge of the time.
#[derive(Clone)]
pub struct Client {
    authorities: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    /// A client that accepts certificates by these PEM authorities; without any it speaks plain HTTP only.
    ///
    /// # Errors
    /// An authority cannot be read.
    pub fn new(authorities: &[String], time: TlsTime) -> Result<Self, FetchError> {
        let tls = if authorities.is_empty() {
            None
        } else {
            Some(client_config(authorities, time)?)
        };
        Ok(Self {
            authorities: authorities.to_vec(),
            tls,
        })
    }

    /// The same client once the time is known: its connections are checked in full.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn at(&self, time: TlsTime) -> Result<Self, FetchError> {
        Self::new(&self.authorities, time)
    }

    /// Connects to `server`, trying its addresses in turn.
    ///
    /// # Errors
    /// Name, address or certificate.
    pub async fn connect(&self, server: &Server) -> Result<Connection, FetchError> {
        let stream = tcp(server).await?;
        let failed = |cause| FetchError::Tls {
            server: server.to_string(),
            cause,
        };
        let sender = if server.https() {
            let none = || io::Error::other("no certificate authority is stamped on this medium");
            let tls = self.tls.clone().ok_or_else(none).map_err(failed)?;
            let name = ServerName::try_from(server.host().to_owned());
            let name = name.map_err(|error| failed(io::Error::other(error)))?;
            let shaking = tokio_rustls::TlsConnector::from(tls).connect(name, stream);
            let stream = timeout(CONNECT_MAX, shaking)
                .await
                .map_err(|_| stalled(server, CONNECT_MAX))?;
            start(server, stream.map_err(failed)?).await?
        } else {
            start(server, stream).await?
        };
        Ok(Connection {
            server: server.clone(),
            sender,
        })
    }
}

async fn tcp(server: &Server) -> Result<TcpStream, FetchError> {
    let resolved = tokio::net::lookup_host((server.host(), server.port())).await;
    let addresses = resolved.map_err(|cause| FetchError::Resolve {
        host: server.host().to_owned(),
        cause,
    })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.take(ADDRESSES_MAX) {
        match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small and must not wait; a failure costs time only.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(FetchError::Connect {
        server: server.to_string(),
        cause: last,
    })
}

async fn start<S>(server: &Server, stream: S) -> Result<SendRequest<Full<Bytes>>, FetchError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_headers(64)
        .max_buf_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|cause| FetchError::Broken {
            server: server.to_string(),
            cause,
        })?;
    // It ends with its sender; what it would report, the requests report.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn stalled(server: &Server, limit: Duration) -> FetchError {
    FetchError::Stalled {
        server: server.to_string(),
        seconds: limit.as_secs(),
    }
}

/// A connection to one server, for one request after the other.
pub struct Connection {
    server: Server,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
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
        let response = self.send(Method::GET, path, None, Bytes::new()).await?;
        if response.status() == StatusCode::NOT_FOUND {
            // The body must go before the connection can be used again.
            read(&self.server, path, response.into_body(), ERROR_BYTES_MAX).await?;
            return Ok(None);
        }
        self.take(path, response, max).await.map(Some)
    }

    /// Gets a small file.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        let response = self.send(Method::GET, path, None, Bytes::new()).await?;
        self.take(path, response, max).await
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
        let response = self.send(Method::POST, path, None, json.into()).await?;
        self.take(path, response, max).await
    }

    /// Gets a file from byte `start` on, as a stream. A server that ignores the range is read from its beginning:
    /// [`Stream::skip`] says how many bytes to pass over.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn stream(mut self, path: &str, start: u64) -> Result<Stream, FetchError> {
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let response = self
            .send(Method::GET, path, range.as_deref(), Bytes::new())
            .await?;
        let skip = match response.status() {
            StatusCode::OK => start,
            StatusCode::PARTIAL_CONTENT => {
                let found = response
                    .headers()
                    .get(CONTENT_RANGE)
                    .map(|v| v.as_bytes().escape_ascii().to_string());
                let found = found.unwrap_or_default();
                if !found.starts_with(&format!("bytes {start}-")) {
                    return Err(FetchError::Range {
                        server: self.server.to_string(),
                        found,
                        wanted: start,
                    });
                }
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

    /// Reports an event. The server's answer has nothing in it.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn post_event(&mut self, event: &Event) -> Result<(), FetchError> {
        let json = serde_json::to_vec(event).unwrap_or_default();
        self.post(api::EVENTS_PATH, json, ERROR_BYTES_MAX)
            .await
            .map(drop)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        range: Option<&str>,
        body: Bytes,
    ) -> Result<Response<Incoming>, FetchError> {
        let authority = self
            .server
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        let mut request = Request::builder()
            .method(&method)
            .uri(self.server.path(path))
            .header(HOST, authority);
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|_| FetchError::Url {
            url: format!("{}{path}", self.server),
        })?;
        let broken = |cause| FetchError::Broken {
            server: self.server.to_string(),
            cause,
        };
        self.sender.ready().await.map_err(broken)?;
        let answer = timeout(STALL_MAX, self.sender.send_request(request)).await;
        answer
            .map_err(|_| stalled(&self.server, STALL_MAX))?
            .map_err(broken)
    }

    async fn take(
        &self,
        path: &str,
        response: Response<Incoming>,
        max: u64,
    ) -> Result<Vec<u8>, FetchError> {
        if !response.status().is_success() {
            return Err(self.refused(path, response).await);
        }
        read(&self.server, path, response.into_body(), max).await
    }

    /// The server's no, with its words when they can be read.
    async fn refused(&self, path: &str, response: Response<Incoming>) -> FetchError {
        let status = response.status().as_u16();
        let body = read(&self.server, path, response.into_body(), ERROR_BYTES_MAX)
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
}

async fn read(
    server: &Server,
    path: &str,
    mut body: Incoming,
    max: u64,
) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(piece) = piece(server, &mut body).await? {
        if bytes.len() as u64 + piece.len() as u64 > max {
            return Err(FetchError::TooLarge {
                server: server.to_string(),
                path: path.to_owned(),
                max,
            });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The next piece of a body, `None` at its end.
async fn piece(server: &Server, body: &mut Incoming) -> Result<Option<Bytes>, FetchError> {
    loop {
        let frame = timeout(STALL_MAX, body.frame())
            .await
            .map_err(|_| stalled(server, STALL_MAX))?;
        match frame {
            None => return Ok(None),
            Some(Err(cause)) => {
                return Err(FetchError::Broken {
                    server: server.to_string(),
                    cause,
                });
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
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
    /// The next bytes from where the range began, `None` at the end.
    ///
    /// # Errors
    /// The connection broke or stalled.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let Some(mut piece) = piece(&self.connection.server, &mut self.body).await? else {
                return Ok(None);
            };
            let skipped = self.skip.min(piece.len() as u64);
            self.skip -= skipped;
            let rest = piece.split_off(
                usize::try_from(skipped)
                    .unwrap_or(usize::MAX)
                    .min(piece.len()),
            );
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_a_scheme_we_speak_and_a_host() {
        let server = Server::parse("https://backup.example:8443/").unwrap();
        assert_eq!(server.to_string(), "https://backup.example:8443");
        assert_eq!(
            (server.host(), server.port(), server.path("/v1/plan")),
            ("backup.example", 8443, "/v1/plan".into())
        );
        let server = Server::parse("http://[::1]:80/towline").unwrap();
        assert_eq!(
            (server.host(), server.path("/v1/plan")),
            ("::1", "/towline/v1/plan".into())
        );
        for bad in [
            "ftp://x",
            "https://",
            "backup.example",
            "/v1",
            "https://x/?q",
        ] {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }
}

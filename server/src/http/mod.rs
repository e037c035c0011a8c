//! HTTP/1.1: listeners, connections, and their limits.

mod answer;
mod files;
mod handlers;

use std::net::SocketAddr;
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
use towline_contract::Timestamp;

use crate::site::{Site, SiteError, offset};
use crate::{catalogue, tls};

pub use handlers::State;

/// Most connections at a time; the next waits.
const CONNECTIONS_MAX: usize = 1024;
/// Longest a client may take for its TLS handshake, or for the headers of a request.
const HEADERS_MAX: Duration = Duration::from_secs(20);
/// Longest one connection may last; the largest layer over a slow line fits, and resumes if it does not.
const CONNECTION_MAX: Duration = Duration::from_secs(6 * 3600);
/// How often the freshness of the catalogue is looked at.
const REFRESH_EVERY: Duration = Duration::from_secs(600);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not to be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// See the cause.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The system has no threads or files left.
    #[error("cannot start the server's runtime")]
    Runtime(#[source] std::io::Error),
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// HTTPS.
    pub https: SocketAddr,
    /// Plain HTTP, when it is configured.
    pub http: Option<SocketAddr>,
}

/// Serves `site` until `stop` completes. Calls `ready` once it listens.
///
/// # Errors
/// See [`ServeError`]. Faults of single connections are logged, not returned.
pub async fn serve(
    site: Site,
    clock: fn() -> Timestamp,
    ready: impl FnOnce(Bound),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let config = &site.config;
    let https = bind(config.listen).await?;
    let http = match config.http_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    catalogue::refresh(&site, clock()).map_err(SiteError::from)?;
    let certificate = certificate(&site, clock)?;
    let state = Arc::new(State::open(site, clock)?);
    ready(Bound {
        https: address(&https)?,
        http: http.as_ref().map(address).transpose()?,
    });
    let (ending, ended) = watch::channel(());
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let plain = async {
        match http {
            Some(listener) => accept(listener, None, &state, &places, &ended).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = accept(https, Some(certificate.clone()), &state, &places, &ended) => {}
        () = plain => {}
        () = keep_fresh(&state, &certificate) => {}
        () = stop => {}
    }
    drop(ending);
    Ok(())
}

/// The certificate in use: replaced when it is renewed.
type Certificate = Arc<watch::Sender<Arc<ServerConfig>>>;

fn certificate(site: &Site, clock: fn() -> Timestamp) -> Result<Certificate, SiteError> {
    let config = tls::server_config(
        &site.authority(),
        &site.config.server_names,
        offset(clock()),
    )?;
    Ok(Arc::new(watch::channel(config).0))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| ServeError::Listen { address, cause })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, ServeError> {
    listener.local_addr().map_err(ServeError::Runtime)
}

/// Signs snapshot and timestamp again in time, and makes new certificates.
async fn keep_fresh(state: &State, certificate: &Certificate) {
    let mut made = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(REFRESH_EVERY).await;
        match catalogue::refresh(&state.site, (state.clock)()) {
            Ok(true) => eprintln!("serve: signed snapshot and timestamp again"),
            Ok(false) => {}
            Err(error) => eprintln!("serve: cannot sign the catalogue again: {}", chain(&error)),
        }
        if made.elapsed() < tls::renew_after() {
            continue;
        }
        let site = &state.site;
        match tls::server_config(
            &site.authority(),
            &site.config.server_names,
            offset((state.clock)()),
        ) {
            Ok(config) => {
                certificate.send_replace(config);
                made = tokio::time::Instant::now();
            }
            Err(error) => eprintln!("serve: cannot renew the certificate: {}", chain(&error)),
        }
    }
}

async fn accept(
    listener: TcpListener,
    certificate: Option<Certificate>,
    state: &Arc<State>,
    places: &Arc<Semaphore>,
    ended: &watch::Receiver<()>,
) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, mostly: wait for connections to end.
                eprintln!("serve: cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let tls = certificate.as_ref().map(|current| current.borrow().clone());
        let (state, mut ended) = (state.clone(), ended.clone());
        tokio::spawn(async move {
            let _place = place;
            let served = async {
                // Small answers must not wait for acknowledgements.
                let _ = stream.set_nodelay(true);
                match tls {
                    None => converse(stream, peer, state).await,
                    Some(tls) => match handshake(stream, tls).await {
                        Ok(stream) => converse(stream, peer, state).await,
                        Err(error) => eprintln!("serve: {peer}: no TLS connection: {error}"),
                    },
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION_MAX, served) => {}
                _ = ended.changed() => {}
            }
        });
    }
}

async fn handshake(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
) -> std::io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let accepting = TlsAcceptor::from(tls).accept(stream);
    tokio::time::timeout(HEADERS_MAX, accepting)
        .await
        .map_err(std::io::Error::other)?
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    peer: SocketAddr,
    state: Arc<State>,
) {
    let service = service_fn(|request| handlers::answer(state.clone(), peer, request));
    // Errors here are clients that go away or speak no HTTP; there is nobody to tell.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An error with its causes on one line, for the log; control characters are escaped.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.escape_debug().to_string()
}

//! HTTP/1.1: listeners, connections, and their limits.

mod answer;
mod body;
mod connection;
mod events;
mod files;
mod fresh;
mod handlers;
mod hosts;
mod makings;
mod metrics;
mod pool;
mod recovery;
mod route;
mod seal_keys;
mod sealed;
mod taken;
mod views;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use towline_contract::Timestamp;

use crate::site::{Site, SiteError};
use connection::Shared;
use handlers::State;

/// Most connections at a time; the next waits in the kernel.
const CONNECTIONS_MAX: u32 = 1024;
/// Longest that running answers may take once the server is told to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Tells the time; the only clock of the server.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

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

/// Serves `site` until `stop` completes, then lets running answers end. Calls `ready` once it listens; a port of 0 in the
/// configuration is a free one, which `ready` learns.
///
/// # Errors
/// See [`ServeError`]. Faults of single connections are logged, not returned.
pub async fn serve(
    site: Site,
    clock: Clock,
    ready: impl FnOnce(Bound),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let https = bind(site.config.listen).await?;
    let http = match site.config.http_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let bound = Bound {
        https: address(&https)?,
        http: http.as_ref().map(address).transpose()?,
    };
    let state = Arc::new(State::open(site, clock)?);
    let certificate = fresh::start(&state)?;
    ready(bound);

    let (ending, ended) = watch::channel(());
    let shared = Shared {
        state: state.clone(),
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
        ended,
    };
    let plain = async {
        match http {
            Some(listener) => connection::accept(listener, None, &shared).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = connection::accept(https, Some(certificate.clone()), &shared) => {}
        () = plain => {}
        () = fresh::keep(&state, &certificate) => {}
        () = stop => {}
    }
    let _ = ending.send(());
    let all_gone = shared.places.acquire_many(CONNECTIONS_MAX);
    // What takes longer is cut off when `ending` goes, and the client resumes elsewhere or later.
    let _ = tokio::time::timeout(STOP_MAX, all_gone).await;
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| ServeError::Listen { address, cause })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, ServeError> {
    listener.local_addr().map_err(ServeError::Runtime)
}

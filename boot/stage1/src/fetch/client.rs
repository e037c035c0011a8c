//! Connecting: names, addresses and TLS. What goes over a connection is [`super::connection`]'s.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls::{TlsTime, client_config};
use super::{Connection, FetchError, Patience, Server};

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Makes connections, all with the same authorities, the same knowledge of the time and the same patience.
#[derive(Clone)]
pub struct Client {
    authorities: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
    patience: Patience,
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
            patience: Patience::default(),
        })
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The same client once the time is known: its connections are checked in full. No TLS session made before is resumed.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn at(&self, time: TlsTime) -> Result<Self, FetchError> {
        Ok(Self::new(&self.authorities, time)?.with_patience(self.patience))
    }

    /// How long this client waits.
    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// Connects to `server`, trying its addresses in turn.
    ///
    /// # Errors
    /// Name, address or certificate.
    pub async fn connect(&self, server: &Server) -> Result<Connection, FetchError> {
        let stream = self.tcp(server).await?;
        if !server.https() {
            return Connection::start(server, stream, self.patience).await;
        }
        let failed = |cause| FetchError::Tls {
            server: server.to_string(),
            cause,
        };
        let none = || io::Error::other("no certificate authority is stamped on this medium");
        let tls = self.tls.clone().ok_or_else(none).map_err(failed)?;
        let name = ServerName::try_from(server.host().to_owned());
        let name = name.map_err(|error| failed(io::Error::other(error)))?;
        let shaking = tokio_rustls::TlsConnector::from(tls).connect(name, stream);
        let limit = self.patience.connect;
        let stream = timeout(limit, shaking)
            .await
            .map_err(|_| FetchError::stalled(server, limit))?;
        Connection::start(server, stream.map_err(failed)?, self.patience).await
    }

    async fn tcp(&self, server: &Server) -> Result<TcpStream, FetchError> {
        let limit = self.patience.connect;
        let unresolved = |cause| FetchError::Resolve {
            host: server.host().to_owned(),
            cause,
        };
        let resolving = tokio::net::lookup_host((server.host(), server.port()));
        let addresses = timeout(limit, resolving)
            .await
            .map_err(|_| unresolved(io::ErrorKind::TimedOut.into()))?
            .map_err(unresolved)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses.take(ADDRESSES_MAX) {
            match timeout(limit, TcpStream::connect(address)).await {
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
}

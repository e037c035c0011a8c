//! Whoever ends the machine's TLS and begins its own to the server, as a load balancer or an intercepting proxy does: it changes
//! nothing, and remembers every byte that it reads.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// It runs until dropped.
pub struct Eavesdropper {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    heard: Mutex<Vec<u8>>,
}

impl Shared {
    fn hear(&self, bytes: &[u8]) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.extend_from_slice(bytes);
    }
}

impl Eavesdropper {
    /// Starts on loopback, with `tls` for machines, before `upstream`, a server of the authority `ca`.
    ///
    /// # Panics
    /// There is no port, or `ca` is no certificate.
    #[must_use]
    pub fn start(upstream: SocketAddr, ca: &str, tls: Arc<ServerConfig>) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("a certificate");
        roots.add(ca).expect("an authority");
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            heard: Mutex::default(),
        });
        let eavesdropper = Self {
            address: listener.local_addr().expect("an address"),
            shared: shared.clone(),
            _runtime: runtime,
        };
        let (acceptor, connector) = (TlsAcceptor::from(tls), TlsConnector::from(Arc::new(client)));
        eavesdropper._runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, connector) = (acceptor.clone(), connector.clone());
                let shared = shared.clone();
                // Either side may end it at any time.
                tokio::spawn(async move { pass(stream, &acceptor, &connector, &shared).await });
            }
        });
        eavesdropper
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// From now on it stands before another server.
    pub fn turn_to(&self, upstream: SocketAddr) {
        let mut current = self.shared.upstream.lock();
        *current.as_deref_mut().expect("no panic") = upstream;
    }

    /// Whether it read these bytes, in either direction.
    #[must_use]
    pub fn heard(&self, bytes: &[u8]) -> bool {
        self.all().windows(bytes.len()).any(|it| it == bytes)
    }

    /// All that it read, in either direction, as it came.
    #[must_use]
    pub fn all(&self) -> Vec<u8> {
        let heard = self.shared.heard.lock();
        heard.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    shared: &Shared,
) -> std::io::Result<()> {
    let upstream = *shared
        .upstream
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let machine = acceptor.accept(stream).await?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let server = connector
        .connect(name, TcpStream::connect(upstream).await?)
        .await?;
    let (from_machine, to_machine) = tokio::io::split(machine);
    let (from_server, to_server) = tokio::io::split(server);
    tokio::select! {
        done = copy(from_machine, to_server, shared) => done,
        done = copy(from_server, to_machine, shared) => done,
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    while let length @ 1.. = from.read(&mut piece).await? {
        let read = &piece[..length];
        shared.hear(read);
        to.write_all(read).await?;
        to.flush().await?;
    }
    Ok(())
}

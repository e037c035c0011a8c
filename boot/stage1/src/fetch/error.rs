//! Why something could not be fetched.

use std::io;

use towline_contract::Digest;
use towline_contract::api::ErrorBody;
use towline_contract::trust::{ChunkError, TrustError};

use crate::place::PlaceError;

/// Why something could not be fetched. Text from the network is in it as it came: whoever prints it escapes it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No server is known.
    #[error("no server is stamped on this medium or named on the command line")]
    NoServer,
    /// Not a URL we can use.
    #[error("{url:?} is no http or https URL with a host")]
    Url {
        /// What was given.
        url: String,
    },
    /// The stamp has no root of trust.
    #[error("no root of trust is stamped on this medium")]
    NoRoot,
    /// A certificate authority in the stamp cannot be read.
    #[error("a certificate authority on this medium cannot be used")]
    Authority(#[source] rustls::Error),
    /// The name does not resolve.
    #[error("the name {host} cannot be resolved")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// No connection.
    #[error("{server} cannot be reached")]
    Connect {
        /// Its URL.
        server: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// No TLS connection: certificate, name or protocol.
    #[error("the TLS connection to {server} is refused")]
    Tls {
        /// Its URL.
        server: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the connection to {server} broke")]
    Broken {
        /// Its URL.
        server: String,
        /// Why.
        #[source]
        cause: hyper::Error,
    },
    /// Nothing came for too long.
    #[error("{server} sent nothing for {seconds} s")]
    Stalled {
        /// Its URL.
        server: String,
        /// How long.
        seconds: u64,
    },
    /// The server said no.
    #[error("{server} answered {status} to {path}{}", said(.body.as_ref()))]
    Status {
        /// Its URL.
        server: String,
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: u16,
        /// The server's own words.
        body: Option<ErrorBody>,
    },
    /// More than was asked for.
    #[error("{server} sent more than {max} bytes for {path}")]
    TooLarge {
        /// Its URL.
        server: String,
        /// What was asked for.
        path: String,
        /// Most bytes allowed.
        max: u64,
    },
    /// Fewer bytes than the layer has.
    #[error("{server} ended its answer after {got} of {want} bytes")]
    Truncated {
        /// Its URL.
        server: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that should have.
        want: u64,
    },
    /// A range that was not asked for.
    #[error("{server} answered with the range {found:?} instead of one from byte {wanted}")]
    Range {
        /// Its URL.
        server: String,
        /// `Content-Range` as it came.
        found: String,
        /// First byte asked for.
        wanted: u64,
    },
    /// What came is not trusted.
    #[error("what {server} sent is not trusted")]
    Trust {
        /// Its URL.
        server: String,
        /// Why.
        #[source]
        cause: Box<TrustError>,
    },
    /// Every mirror sent wrong bytes.
    #[error("layer {layer} is not trusted: every mirror sent wrong bytes ({digest})", digest = digest.short())]
    EveryMirrorLies {
        /// Target name.
        layer: String,
        /// SHA-256 that is signed.
        digest: Digest,
        /// The last one's.
        #[source]
        cause: Box<ChunkError>,
    },
    /// No mirror got further for too long.
    #[error(
        "layer {layer} stopped after {got} of {want} bytes, and no mirror went on for {seconds} s"
    )]
    GaveUp {
        /// Target name.
        layer: String,
        /// Verified bytes.
        got: u64,
        /// Bytes of the layer.
        want: u64,
        /// How long it was tried.
        seconds: u64,
        /// The last failure.
        #[source]
        cause: Box<FetchError>,
    },
    /// The layer cannot be placed, or may not hold what it holds.
    #[error(transparent)]
    Place(Box<PlaceError>),
    /// The kernel has no random bytes.
    #[error("the kernel has no random bytes")]
    Random(#[source] io::Error),
}

impl From<PlaceError> for FetchError {
    fn from(error: PlaceError) -> Self {
        Self::Place(Box::new(error))
    }
}

fn said(body: Option<&ErrorBody>) -> String {
    match body {
        Some(ErrorBody {
            message,
            next: Some(next),
        }) => format!(": {message} (next: {next})"),
        Some(ErrorBody {
            message,
            next: None,
        }) => format!(": {message}"),
        None => String::new(),
    }
}

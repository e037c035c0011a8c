//! Why something could not be fetched.

use std::io;
use std::time::Duration;

use towline_contract::Digest;
use towline_contract::api::ErrorBody;
use towline_contract::base_url::BaseUrlError;
use towline_contract::trust::{ChunkError, TrustError};

use super::Server;
use crate::place::PlaceError;

/// Why something could not be fetched. Text from the network is in it as it came: whoever prints it escapes it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No server is known.
    #[error("no server is stamped on this medium or named on the command line")]
    NoServer,
    /// Not a URL we can use.
    #[error("{url:?} is no URL of a server")]
    Url {
        /// What was given.
        url: String,
        /// The rule of base URLs it breaks, if that is it.
        #[source]
        cause: Option<BaseUrlError>,
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
    /// Something came all the time, and too little.
    #[error("{server} did not send all of {path} within {seconds} s")]
    Slow {
        /// Its URL.
        server: String,
        /// What was asked for.
        path: String,
        /// How long it had.
        seconds: u64,
    },
    /// Less came than another mirror may send.
    #[error("{server} sends only {rate} bytes a second")]
    TooSlow {
        /// Its URL.
        server: String,
        /// Bytes a second.
        rate: u64,
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
    /// A recovery code would be sent where others can read it.
    #[error("a recovery code is sent over https:// only, and the server is {0}")]
    CodeInClear(String),
    /// Its plan names no key to seal a recovery code to.
    #[error("{0} names no key that a recovery code can be sealed to")]
    NoKey(String),
    /// It wanted a code, and when it was asked once more, none.
    #[error("no recovery is open for this machine at {0} any more")]
    NoRecovery(String),
    /// An answer that is not of the shape it should have.
    #[error("the answer of {server} to {path} cannot be read: {why}")]
    Answer {
        /// Its URL.
        server: String,
        /// What was asked for.
        path: &'static str,
        /// Where and why.
        why: String,
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

impl FetchError {
    pub(super) fn stalled(server: &Server, limit: Duration) -> Self {
        let (server, seconds) = (server.to_string(), limit.as_secs());
        Self::Stalled { server, seconds }
    }

    pub(super) fn slow(server: &Server, path: &str, limit: Duration) -> Self {
        let (server, path, seconds) = (server.to_string(), path.to_owned(), limit.as_secs());
        Self::Slow {
            server,
            path,
            seconds,
        }
    }

    pub(super) fn broken(server: &Server, cause: hyper::Error) -> Self {
        let server = server.to_string();
        Self::Broken { server, cause }
    }

    pub(super) fn untrusted(server: &Server, cause: TrustError) -> Self {
        let (server, cause) = (server.to_string(), Box::new(cause));
        Self::Trust { server, cause }
    }

    /// Whether asking the same server again, as it is, would be answered the same: it was reached, and it refuses or is
    /// refused. All else may pass: servers restart, cables come back.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                (300..500).contains(status) && ![408, 425, 429].contains(status)
            }
            Self::Tls { cause, .. } => is_certificate(cause),
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Stalled { .. }
            | Self::Slow { .. }
            | Self::TooSlow { .. }
            | Self::Truncated { .. }
            | Self::Range { .. } => false,
            _ => true,
        }
    }

    /// Whether the server understood an event, said no, and would again. Who stands before a server that is just starting, or
    /// between, answers without its words, or that there is no such path.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Status {
            status,
            body: Some(_),
            ..
        } = self
        else {
            return false;
        };
        (400..500).contains(status) && ![404, 408, 425, 429].contains(status)
    }

    /// Whether the catalogue seems to have changed between two answers; asking again settles it.
    pub(super) fn is_between_versions(&self) -> bool {
        let Self::Trust { cause, .. } = self else {
            return false;
        };
        matches!(
            **cause,
            TrustError::Version { .. }
                | TrustError::Digest { .. }
                | TrustError::Sha512 { .. }
                | TrustError::Length { .. }
        )
    }

    /// Which of several servers' failures a person should see: the higher, the more there is to decide.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::Trust { cause, .. } if matches!(**cause, TrustError::Expired(_)) => 4,
            Self::Trust { .. } => 3,
            Self::Status { .. } | Self::Tls { .. } => 2,
            _ => 1,
        }
    }
}

/// A certificate that is refused, rather than a handshake that broke off.
fn is_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|it| it.downcast_ref());
    matches!(
        cause,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> FetchError {
        FetchError::Status {
            server: "https://backup.example".into(),
            path: "/v1/plan".into(),
            status,
            body: Some(ErrorBody {
                message: "no such host".into(),
                next: Some("enrol it".into()),
            }),
        }
    }

    #[test]
    fn a_refusal_has_the_servers_words() {
        assert_eq!(
            status(404).to_string(),
            "https://backup.example answered 404 to /v1/plan: no such host (next: enrol it)"
        );
    }

    #[test]
    fn a_server_that_restarts_is_asked_again_and_one_that_refuses_is_not() {
        for passing in [429, 500, 502, 503] {
            assert!(!status(passing).is_final(), "{passing}");
        }
        for last in [301, 400, 403, 404] {
            assert!(status(last).is_final(), "{last}");
        }
        let is_refusal = |it| status(it).is_refusal();
        assert!([400, 403, 409, 413].into_iter().all(is_refusal));
        assert!(![302, 404, 408, 429, 500, 503].into_iter().any(is_refusal));
        let broke = |cause| FetchError::Tls {
            server: "https://backup.example".into(),
            cause,
        };
        assert!(!broke(io::ErrorKind::ConnectionReset.into()).is_final());
        let unknown = rustls::CertificateError::UnknownIssuer;
        let refused = rustls::Error::InvalidCertificate(unknown);
        assert!(broke(io::Error::new(io::ErrorKind::InvalidData, refused)).is_final());
    }
}

//! HTTP(S) by ureq, with this system's authorities.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::http::StatusCode;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, BodyReader};

use super::FetchError;

/// How URLs begin that TLS protects.
const TLS: &str = "https://";

/// Where distributions keep the authorities that the system trusts: Debian, Red Hat, SUSE.
const SYSTEM_AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// Longest that a connection may take to come about, TLS included.
const CONNECT_WAIT: Duration = Duration::from_secs(30);

/// Longest that nothing comes. A server that fetches what it is asked for from elsewhere first may take most of it.
const READ_WAIT: Duration = Duration::from_secs(60);

/// Slowest that a file may come, in bytes a second: a server that sends a byte a minute must not keep a build for ever.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// Most redirections: from a project's page to its mirror's host and to a signed address there are three.
const REDIRECTS_MAX: u32 = 5;

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// No authorities to check servers by.
#[derive(Debug, thiserror::Error)]
#[error("{path} has no certificates to check the server by")]
pub struct NoAuthorities {
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be read, if it cannot.
    #[source]
    pub cause: Option<io::Error>,
}

/// The authorities in the file `chosen`, or those that this system trusts.
///
/// # Errors
/// The file cannot be read or has none.
pub fn authorities(chosen: Option<&Path>) -> Result<RootCerts, NoAuthorities> {
    let system = || {
        SYSTEM_AUTHORITIES
            .iter()
            .map(Path::new)
            .find(|it| it.exists())
    };
    let path = chosen
        .or_else(system)
        .unwrap_or(Path::new(SYSTEM_AUTHORITIES[0]));
    let failed = |cause| NoAuthorities {
        path: path.to_owned(),
        cause,
    };
    let pem = fs::read(path).map_err(|cause| failed(Some(cause)))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(failed(None)),
        false => Ok(RootCerts::Specific(Arc::new(certificates))),
    }
}

/// TLS with these authorities, by ring.
#[must_use]
pub fn tls(roots: RootCerts) -> TlsConfig {
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

/// The authorities for what `url` leads to. HTTP needs none; a redirection to TLS then finds no authority that it knows.
fn roots(url: &str) -> Result<RootCerts, NoAuthorities> {
    match authorities(chosen().as_deref()) {
        Err(_) if !url.starts_with(TLS) => Ok(RootCerts::Specific(Arc::new(Vec::new()))),
        found => found,
    }
}

/// A client for `url`, good for as long as `wait`. What it answers with vouches for itself, so a plain `http://` will do; but
/// what should come by TLS comes by TLS, wherever redirections lead. The environment's proxies are used.
fn agent(url: &str, roots: RootCerts, wait: Duration) -> Agent {
    Agent::config_builder()
        .tls_config(tls(roots))
        .https_only(url.starts_with(TLS))
        .http_status_as_error(false)
        .max_redirects(REDIRECTS_MAX)
        .timeout_connect(Some(CONNECT_WAIT))
        .timeout_per_read(Some(READ_WAIT))
        .timeout_global(Some(wait))
        .user_agent(concat!("towline/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// Longest that so many bytes may take, all redirections included.
fn whole_wait(bytes_max: u64) -> Duration {
    CONNECT_WAIT + READ_WAIT + Duration::from_secs(bytes_max / BYTES_PER_SECOND_MIN)
}

/// The file that `SSL_CERT_FILE` names, as OpenSSL and most programs have it.
fn chosen() -> Option<PathBuf> {
    std::env::var_os("SSL_CERT_FILE")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// What a server sends, bounded.
pub(super) struct Answer {
    url: String,
    bytes_max: u64,
    /// Bytes that were announced.
    want: Option<u64>,
    got: u64,
    reader: BodyReader<'static>,
    buffer: Vec<u8>,
}

impl Answer {
    /// Asks for `url`, whose answer may have `bytes_max` bytes, and take what these may take, or `left` if that is less.
    pub(super) fn to(
        url: &str,
        bytes_max: u64,
        left: Option<Duration>,
    ) -> Result<Self, FetchError> {
        let wait = whole_wait(bytes_max);
        let agent = agent(url, roots(url)?, left.map_or(wait, |left| left.min(wait)));
        Self::by(&agent, url, bytes_max)
    }

    fn by(agent: &Agent, url: &str, bytes_max: u64) -> Result<Self, FetchError> {
        let asked = agent.get(url).call();
        let answer = asked.map_err(|cause| FetchError::Unreachable {
            url: url.to_owned(),
            cause: Box::new(cause),
        })?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(FetchError::Status {
                url: url.to_owned(),
                status: status.as_u16(),
            });
        }
        let body = answer.into_body();
        let answer = Self {
            url: url.to_owned(),
            bytes_max,
            want: body.content_length(),
            got: 0,
            reader: body.into_reader(),
            buffer: vec![0; BUFFER_BYTES],
        };
        answer.check_size(answer.want.unwrap_or(0))?;
        Ok(answer)
    }

    /// The next bytes; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, FetchError> {
        let read = self.reader.read(&mut self.buffer);
        let length = read.map_err(|cause| FetchError::Stopped {
            url: self.url.clone(),
            got: self.got,
            want: self.want,
            cause,
        })?;
        self.got += length as u64;
        self.check_size(self.got)?;
        Ok((length > 0).then(|| &self.buffer[..length]))
    }

    fn check_size(&self, bytes: u64) -> Result<(), FetchError> {
        if bytes <= self.bytes_max {
            return Ok(());
        }
        Err(FetchError::TooLarge {
            url: self.url.clone(),
            bytes_max: self.bytes_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    fn none() -> RootCerts {
        RootCerts::Specific(Arc::new(Vec::new()))
    }

    #[test]
    fn a_server_that_sends_without_an_end_in_sight_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
            let mut sent = stream.write_all(head);
            while sent.is_ok() {
                std::thread::sleep(Duration::from_millis(20));
                sent = stream.write_all(b"x");
            }
        });
        let start = Instant::now();
        let agent = agent(&url, none(), Duration::from_secs(1));
        let mut answer = Answer::by(&agent, &url, 1_000_000).unwrap();
        let error = loop {
            match answer.next() {
                Ok(more) => assert!(more.is_some(), "it never ends"),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, FetchError::Stopped { got: 1.., .. }),
            "{error}"
        );
        assert!(start.elapsed() < READ_WAIT / 2, "{:?}", start.elapsed());
    }

    #[test]
    fn the_time_that_a_file_may_take_follows_its_bound() {
        assert_eq!(whole_wait(16 << 10), Duration::from_secs(90));
        assert_eq!(whole_wait(1 << 30), Duration::from_secs(90 + 16_384));
    }

    #[test]
    fn what_should_come_by_tls_does_not_come_without_it() {
        // What a redirection leads to is asked for by the same client.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = format!("http://{}/", listener.local_addr().unwrap());
        let agent = agent("https://downloads.example/", none(), READ_WAIT);
        let Err(error) = Answer::by(&agent, &plain, 1) else {
            panic!("refused")
        };
        let text = format!("{error:?}");
        assert!(text.contains("RequireHttpsOnly"), "{text}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody came");
    }
}

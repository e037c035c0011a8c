//! The base URL of a server or mirror.

use std::fmt;

use hyper::Uri;
use towline_contract::base_url;

use super::FetchError;

/// Longest part of a URL that a message repeats, in characters.
const SHOWN_CHARS: usize = 200;

/// A server or mirror: the base URL that its paths are appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    uri: Uri,
}

impl Server {
    /// Reads a base URL.
    ///
    /// # Errors
    /// It is none ([`towline_contract::base_url`]).
    pub fn parse(url: &str) -> Result<Self, FetchError> {
        let bad = |cause| FetchError::Url {
            url: url.chars().take(SHOWN_CHARS).collect(),
            cause: Some(cause),
        };
        let uri = base_url::parse(url).map_err(bad)?;
        Ok(Self { uri })
    }

    /// Whether the connection is by TLS.
    pub(crate) fn https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Name or address, an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        self.uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.uri
            .port_u16()
            .unwrap_or(if self.https() { 443 } else { 80 })
    }

    /// The `Host` of a request.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |it| it.as_str())
    }

    /// The path of a request: that of the base URL with `path` appended.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.uri.path().trim_end_matches('/'))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri.to_string().trim_end_matches('/'))
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
            "https://user:secret@x/",
        ] {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }
}

//! Base URLs of servers and mirrors: the one judgement of what a machine can be told to fetch from.

use http::Uri;

use crate::limits::URL_BYTES_MAX;

/// Why a text is no base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It would surprise a log or a terminal.
    #[error("it has more than {URL_BYTES_MAX} bytes")]
    Long,
    /// Spaces, control characters, or others that must be percent-encoded.
    #[error("it has spaces, or characters that must be percent-encoded")]
    Characters,
    /// Another scheme, or none.
    #[error("it begins with neither https:// nor http://")]
    Scheme,
    /// Not a URL behind its scheme, or one without a host.
    #[error("it has no host that can be understood")]
    Host,
    /// A port that is none.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// `user@`, which nothing here sends and every log would show.
    #[error("it has a user name or password")]
    User,
    /// What is appended to it would be lost behind these.
    #[error("it has a query or fragment")]
    Query,
}

impl BaseUrlError {
    /// Whether a plan with such a mirror is no plan of ours. Any other mirror that cannot be used is passed over.
    #[must_use]
    pub fn is_malformed(self) -> bool {
        matches!(self, Self::Long | Self::Characters | Self::Scheme)
    }
}

/// Reads a base URL: `http` or `https`, a host, perhaps a port and a path; nothing else.
///
/// # Errors
/// The first rule that it breaks.
pub fn parse(text: &str) -> Result<Uri, BaseUrlError> {
    if text.len() > URL_BYTES_MAX {
        return Err(BaseUrlError::Long);
    }
    if !text.bytes().all(|it| it.is_ascii_graphic()) {
        return Err(BaseUrlError::Characters);
    }
    let behind = text.strip_prefix("https://");
    let behind = behind.or_else(|| text.strip_prefix("http://"));
    if behind
        .ok_or(BaseUrlError::Scheme)?
        .trim_end_matches('/')
        .is_empty()
    {
        return Err(BaseUrlError::Host);
    }
    // Uri drops a fragment without a word.
    if text.contains(['?', '#']) {
        return Err(BaseUrlError::Query);
    }
    let uri: Uri = text
        .trim_end_matches('/')
        .parse()
        .map_err(|_| BaseUrlError::Host)?;
    let authority = uri.authority().ok_or(BaseUrlError::Host)?;
    if authority.as_str().contains('@') {
        return Err(BaseUrlError::User);
    }
    if authority.host().is_empty() {
        return Err(BaseUrlError::Host);
    }
    let port = authority.as_str().strip_prefix(authority.host());
    if port != Some("") && authority.port_u16().is_none_or(|it| it == 0) {
        return Err(BaseUrlError::Port);
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_a_scheme_a_host_and_perhaps_a_port_and_a_path() {
        for good in [
            "https://backup.example",
            "https://backup.example:8443/",
            "http://192.0.2.1/towline/layers",
            "http://[2001:db8::1]:80",
            "http://[::1]",
        ] {
            parse(good).unwrap();
        }
    }

    #[test]
    fn whatever_else_a_url_may_have_is_refused_with_the_rule() {
        let long = format!("https://{}", "x".repeat(URL_BYTES_MAX));
        for (bad, why) in [
            (long.as_str(), BaseUrlError::Long),
            ("https://a.example/ b", BaseUrlError::Characters),
            ("https://a\u{1b}[2J", BaseUrlError::Characters),
            ("ftp://a", BaseUrlError::Scheme),
            ("a.example", BaseUrlError::Scheme),
            ("file:///etc/shadow", BaseUrlError::Scheme),
            ("https://", BaseUrlError::Host),
            ("https:///path", BaseUrlError::Host),
            ("https://:8443", BaseUrlError::Host),
            ("https://a:port", BaseUrlError::Port),
            ("https://a:0", BaseUrlError::Port),
            ("https://a:99999", BaseUrlError::Port),
            ("https://u@mirror.example", BaseUrlError::User),
            ("https://u:secret@mirror.example/x", BaseUrlError::User),
            ("https://a/?x", BaseUrlError::Query),
            ("https://a/#x", BaseUrlError::Query),
        ] {
            assert_eq!(parse(bad), Err(why), "{bad}");
        }
    }
}

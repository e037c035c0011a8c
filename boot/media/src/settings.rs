//! From an operator's words and files to validated [`Settings`].
//!
//! Everything stage 1 would refuse is refused here, at the desk, rather than at the dead machine. Nothing here opens a
//! file or reads a clock.

mod network;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use towline_contract::Secret;
use towline_contract::base_url;
use towline_contract::recovery::{Code, NotACode};
use towline_contract::stamp::Settings;
use towline_contract::trust::{TrustError, TrustedRoot};
use url::Url;

pub use network::network;

/// Longest server URL, host name or token, in bytes.
const TEXT_BYTES_MAX: usize = 2048;

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// Why a setting is refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a server's base URL.
    #[error("{url:?} is no server: {what}")]
    Server {
        /// What was given.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// Not a root that verifies with its own keys.
    #[error("the root metadata is not trusted")]
    Root(#[from] TrustError),
    /// Not text, which the stamp keeps byte for byte.
    #[error("{0} is not UTF-8 text")]
    NotText(&'static str),
    /// Not a list of PEM certificates.
    #[error("the CA file cannot be used: {0}")]
    Ca(String),
    /// Not a network setting.
    #[error("network {text:?} is refused: {what}")]
    Network {
        /// What was given.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// Not a host's name.
    #[error(
        "{0:?} is no host name: letters, digits and - . + ~ : _ only, at most 128, not starting with a dot"
    )]
    Host(String),
    /// Not a token.
    #[error("the token is no recovery code")]
    Token(#[source] NotACode),
    /// No machine could speak with a server.
    #[error(
        "{0} cannot be reached: without a CA certificate the machine believes no https:// server"
    )]
    NoCa(String),
}

/// A server's base URL: `https://` or `http://`, no credentials, query or fragment; without a slash at the end. Plans and
/// layers are trusted by their signatures on either; plain HTTP lets others read along, and never carries a secret.
///
/// # Errors
/// It is something else.
pub fn server(text: &str) -> Result<String, SettingsError> {
    let refuse = |what: &str| SettingsError::Server {
        url: text.to_owned(),
        what: what.to_owned(),
    };
    if text.len() > TEXT_BYTES_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(refuse("it is too long, or has spaces"));
    }
    // A host in other letters becomes ASCII, as in any browser; then it is decided whether machines can use it.
    let url = Url::parse(text).map_err(|cause| refuse(&cause.to_string()))?;
    base_url::parse(url.as_str()).map_err(|cause| refuse(&cause.to_string()))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The root metadata, verified with its own keys, byte for byte.
///
/// # Errors
/// It is no root, or too few of its keys have signed it.
pub fn root(bytes: &[u8]) -> Result<String, SettingsError> {
    TrustedRoot::from_stamp(bytes)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| SettingsError::NotText("the root metadata"))
}

/// The certificates of a PEM file, one text each.
///
/// # Errors
/// There is none, or something that is none, a private key above all.
pub fn ca(bytes: &[u8]) -> Result<Vec<String>, SettingsError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SettingsError::NotText("the CA file"))?;
    if text.contains("PRIVATE KEY-----") {
        return Err(SettingsError::Ca(
            "it has a private key, which must not go onto a medium".into(),
        ));
    }
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find(PEM_BEGIN) {
        let block = &rest[begin..];
        let end = block
            .find(PEM_END)
            .ok_or_else(|| SettingsError::Ca("a certificate is cut off".into()))?;
        let (block, after) = block.split_at(end + PEM_END.len());
        let certificate = CertificateDer::from_pem_slice(block.as_bytes())
            .map_err(|cause| SettingsError::Ca(cause.to_string()))?;
        // As stage 1 takes them in: one that it cannot use would stop every boot.
        rustls::RootCertStore::empty()
            .add(certificate)
            .map_err(|cause| SettingsError::Ca(cause.to_string()))?;
        blocks.push(format!("{block}\n"));
        rest = after;
    }
    if blocks.is_empty() {
        return Err(SettingsError::Ca("it has no PEM certificate".into()));
    }
    Ok(blocks)
}

/// A host's name, as it stands in a target's name.
///
/// # Errors
/// It has letters that a target's name cannot have.
pub fn host(text: &str) -> Result<String, SettingsError> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-.+~:_".contains(&b);
    let good =
        (1..=128).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(letter);
    if good {
        Ok(text.to_owned())
    } else {
        Err(SettingsError::Host(text.to_owned()))
    }
}

/// The recovery code in a file of one line, as codes are printed. It is not repeated in errors.
///
/// # Errors
/// The file has something else.
pub fn token(bytes: &[u8]) -> Result<Secret, SettingsError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SettingsError::NotText("the token file"))?;
    let code: Code = text.trim_end().parse().map_err(SettingsError::Token)?;
    Ok(code.to_string().into())
}

/// Checks what the settings say together.
///
/// # Errors
/// A server is asked over TLS, and no authority is there to check its certificate against: stage 1 has none of its own.
pub fn check(settings: &Settings) -> Result<(), SettingsError> {
    let over_tls = |url: &&String| url.starts_with("https:");
    match settings.servers.iter().find(over_tls) {
        Some(server) if settings.ca.is_empty() => Err(SettingsError::NoCa(server.clone())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_web_url_and_nothing_more() {
        assert_eq!(
            server("https://backup.example:8443/").unwrap(),
            "https://backup.example:8443"
        );
        assert_eq!(
            server("https://[2001:db8::1]/towline").unwrap(),
            "https://[2001:db8::1]/towline"
        );
        for bad in [
            "ftp://backup.example",
            "backup.example",
            "https://",
            "https://user@backup.example",
            "https://backup.example/?a=b",
            "https://backup.example/#x",
            "https://backup.example/a b",
            "file:///etc/passwd",
        ] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_root_that_its_own_keys_have_not_signed_is_refused() {
        let golden = include_bytes!("../../contract/tests/golden/v1/1.root.json");
        assert_eq!(root(golden).unwrap().as_bytes(), golden);
        let text = std::str::from_utf8(golden).unwrap();
        let changed = text.replacen("\"version\": 1", "\"version\": 2", 1);
        assert!(changed != text, "the version was changed");
        assert!(matches!(
            root(changed.as_bytes()),
            Err(SettingsError::Root(_))
        ));
        assert!(matches!(root(b"{}"), Err(SettingsError::Root(_))));
    }

    #[test]
    fn a_private_key_never_goes_onto_a_medium() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        let refused = ca(pem.as_bytes()).unwrap_err();
        assert!(refused.to_string().contains("private key"), "{refused}");
    }

    #[test]
    fn a_ca_file_gives_its_certificates_and_a_broken_one_is_refused() {
        let key = rcgen::KeyPair::generate().unwrap();
        let one = rcgen::CertificateParams::default().self_signed(&key);
        let one = one.unwrap().pem().replace("\r\n", "\n");
        assert_eq!(
            ca(format!("about it\n{one}{one}").as_bytes()).unwrap(),
            [one.clone(), one.clone()]
        );
        let with = |body: &str| format!("{PEM_BEGIN}\n{body}\n{PEM_END}\n");
        for bad in [
            "",
            PEM_BEGIN,
            "MAA=",
            &with("!!!"),
            &with("MAA="),
            &one[..99],
        ] {
            assert!(ca(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_that_is_no_recovery_code_is_refused() {
        assert_eq!(&*token(b"k7qf 2m9x tr4p\n").unwrap(), "K7QF-2M9X-TR4P");
        for bad in [
            &b""[..],
            b"\n",
            b"abc-123\n",
            b"K7QF-2M9X-TR4P\nx\n",
            b"\xff",
        ] {
            assert!(token(bad).is_err());
        }
    }

    #[test]
    fn an_https_server_without_an_authority_is_refused() {
        let with = |server: &str, ca: &[&str]| Settings {
            servers: vec!["http://a.example".into(), server.into()],
            ca: ca.iter().map(ToString::to_string).collect(),
            ..Settings::default()
        };
        let refused = check(&with("https://b.example", &[])).unwrap_err();
        assert!(refused.to_string().contains("https://b.example"));
        assert!(check(&with("https://b.example", &["a certificate"])).is_ok());
        assert!(check(&with("http://b.example", &[])).is_ok());
    }

    #[test]
    fn a_host_cannot_leave_its_place() {
        assert_eq!(host("db1.example").unwrap(), "db1.example");
        for bad in ["", "..", "a/b", "a b", ".a"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}

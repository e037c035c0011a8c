//! The site's certificate authority, and the server's short-lived certificate.
//!
//! Media are stamped with the authority's certificate. The server's own is made anew whenever it starts, and again before it
//! expires, so that no one has to remember it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::keys::write_private;

/// Validity of a site's authority, in days.
const AUTHORITY_DAYS: i64 = 10 * 365;
/// Validity of the server's certificate, in days.
const SERVER_DAYS: i64 = 30;
/// How long a certificate is used before the next one is made.
pub const RENEW_AFTER: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// Certificates are valid from this long before they are made, for clocks that are a little behind.
const BACKDATED_DAYS: i64 = 1;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the authority cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A certificate cannot be made; the names are the usual cause.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// rustls refuses what was made.
    #[error("cannot use the certificate that was made")]
    Use(#[from] rustls::Error),
    /// The authority's file holds no certificate.
    #[error("{0} holds no PEM certificate")]
    NoCertificate(PathBuf),
}

/// Makes a site's authority in `dir`: `ca.pem`, and `ca.key` which only its owner can read.
///
/// # Errors
/// See [`TlsError`].
pub fn create_authority(dir: &Path, site: &str, now: OffsetDateTime) -> Result<(), TlsError> {
    let key = KeyPair::generate()?;
    let certificate = authority(&key, &format!("Towline site {site}"), now)?;
    let secret = Zeroizing::new(key.serialize_pem());
    write(&dir.join("ca.key"), |path| {
        write_private(path, secret.as_bytes())
    })?;
    write(&dir.join("ca.pem"), |path| {
        std::fs::write(path, certificate.pem())
    })
}

/// The certificate of an authority that signs end entities only.
pub(crate) fn authority(
    key: &KeyPair,
    name: &str,
    now: OffsetDateTime,
) -> Result<Certificate, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - Duration::days(BACKDATED_DAYS);
    params.not_after = now + Duration::days(AUTHORITY_DAYS);
    Ok(params.self_signed(key)?)
}

/// A TLS configuration with a new certificate for `names`, signed by the authority in `dir`.
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let issued = issue(dir, names, now)?;
    let ca = CertificateDer::from_pem_slice(issued.ca_pem.as_bytes())
        .map_err(|_| TlsError::NoCertificate(dir.join("ca.pem")))?;
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![issued.certificate.der().clone(), ca], secret)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The same for another server of the site, such as one for backups: its certificate and its key, each as PEM.
///
/// # Errors
/// See [`TlsError`].
pub fn server_files(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<(String, Zeroizing<String>), TlsError> {
    let issued = issue(dir, names, now)?;
    let key = Zeroizing::new(issued.key.serialize_pem());
    Ok((issued.certificate.pem(), key))
}

/// A new certificate for a server.
struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
    ca_pem: String,
}

fn issue(dir: &Path, names: &[String], now: OffsetDateTime) -> Result<Issued, TlsError> {
    let ca_pem = read(&dir.join("ca.pem"))?;
    let ca_key = KeyPair::from_pem(&Zeroizing::new(read(&dir.join("ca.key"))?))?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key)?;

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(
        DnType::CommonName,
        names.first().map_or("towline", String::as_str),
    );
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - Duration::days(BACKDATED_DAYS);
    params.not_after = now + Duration::days(SERVER_DAYS);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Issued {
        certificate,
        key,
        ca_pem,
    })
}

pub(crate) fn read(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|cause| TlsError::File {
        path: path.into(),
        cause,
    })
}

pub(crate) fn write(
    path: &Path,
    work: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), TlsError> {
    work(path).map_err(|cause| TlsError::File {
        path: path.into(),
        cause,
    })
}

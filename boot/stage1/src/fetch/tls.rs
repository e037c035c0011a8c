//! TLS on machines whose clock is wrong.
//!
//! A certificate's chain and name are always checked. Its *dates* can only be checked once the time is known: until a
//! signed plan has brought it ([`TlsTime::Proven`]), dates may fail, and only public things travel. Afterwards connections
//! are made anew and checked in full. The system clock is never asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use towline_contract::Timestamp;

use super::FetchError;

/// Certificates in one chain whose dates may be stepped around, each at both ends.
const DATE_STEPS_MAX: usize = 16;

/// What is known of the time.
#[derive(Clone, Copy, Debug)]
pub enum TlsTime {
    /// Nothing that is proven: dates may fail.
    Unproven,
    /// A signed, fresh plan said `time` at the moment `since`.
    Proven {
        /// The plan's time.
        time: Timestamp,
        /// When it was verified, on the clock that only counts.
        since: Instant,
    },
}

impl TlsTime {
    /// The proven time now.
    #[must_use]
    pub fn now(self) -> Option<Timestamp> {
        match self {
            Self::Unproven => None,
            Self::Proven { time, since } => {
                let passed = jiff::SignedDuration::try_from(since.elapsed()).ok()?;
                time.saturating_add(passed).ok()
            }
        }
    }
}

/// The client configuration for these authorities and what is known of the time.
///
/// # Errors
/// A PEM text holds no certificate, or there is none at all.
pub fn client_config(
    authorities: &[String],
    time: TlsTime,
) -> Result<Arc<ClientConfig>, FetchError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier {
        inner: web_pki(authorities, &provider).map_err(FetchError::Authority)?,
        time,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(FetchError::Authority)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn web_pki(
    authorities: &[String],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for pem in authorities {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate =
                certificate.map_err(|_| Error::General("it is no PEM certificate".into()))?;
            roots.add(certificate)?;
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// The verifier of `webpki`, asked at a time that we know or choose.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    time: TlsTime,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _system_time: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let at = |time| {
            self.inner.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                time,
            )
        };
        if let Some(now) = self.time.now() {
            let seconds = u64::try_from(now.as_second()).unwrap_or(0);
            return at(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        }
        // No time is known: ask at moments at which the certificates themselves say that they are valid.
        let mut time = UnixTime::since_unix_epoch(Duration::ZERO);
        for _ in 0..DATE_STEPS_MAX {
            match at(time) {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) => {
                    time = not_before;
                }
                other => return other,
            }
        }
        at(time)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proven_time_goes_on_and_unproven_time_is_none() {
        assert_eq!(TlsTime::Unproven.now(), None);
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        let since = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let now = TlsTime::Proven { time, since }.now().unwrap();
        assert!(now.duration_since(time) >= jiff::SignedDuration::from_secs(60));
    }

    #[test]
    fn authorities_that_are_no_certificates_are_refused() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        assert!(matches!(
            client_config(&[pem], TlsTime::Unproven),
            Err(FetchError::Authority(_))
        ));
        assert!(matches!(
            client_config(&[], TlsTime::Unproven),
            Err(FetchError::Authority(_))
        ));
    }
}

//! Certificates with any dates and names, signed by authorities made for one test.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// From when to when a certificate is valid: `2020..2021` is the year 2020.
pub type Years = std::ops::Range<i32>;

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// From this one to below the root.
    path: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// A root, valid for a century.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(authority(name, 2000..2100), key);
        Self {
            issuer: issuer.expect("an authority"),
            path: Vec::new(),
        }
    }

    /// An authority below this one.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn intermediate(&self, name: &str, valid: Years) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::signed_by(authority(name, valid), key, &self.issuer);
        let issuer = issuer.expect("an authority");
        let mut path = vec![issuer.der().clone()];
        path.extend(self.path.iter().cloned());
        Self { issuer, path }
    }

    /// Its certificate, as it is stamped on a medium.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What a server with these names, valid for these years, shows.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn server(&self, names: &[&str], valid: Years) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        dates(&mut params, valid);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let mut path = vec![certificate.der().clone()];
        path.extend(self.path.iter().cloned());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(path, key);
        Arc::new(config.expect("a certificate with its key"))
    }
}

fn authority(name: &str, valid: Years) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    dates(&mut params, valid);
    params
}

fn dates(params: &mut CertificateParams, valid: Years) {
    let january = |year| -> OffsetDateTime { rcgen::date_time_ymd(year, 1, 1) };
    (params.not_before, params.not_after) = (january(valid.start), january(valid.end));
}

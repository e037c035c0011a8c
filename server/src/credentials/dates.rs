//! Until when certificates are good, for the operator who opens a recovery.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use towline_contract::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::client_ca::CLIENT_CA_FILE;
use crate::site::Site;

/// Until when a certificate is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GoodUntil {
    /// What it is for.
    pub what: &'static str,
    /// Its file.
    pub file: PathBuf,
    /// Until when; none when the file has no certificate that can be read.
    pub until: Option<Timestamp>,
}

/// Until when the site's authorities are good: for the server, for clients, and for the agents' servers.
#[must_use]
pub fn of(site: &Site) -> Vec<GoodUntil> {
    let authority = site.authority();
    let files = [
        ("authority of this server", authority.join("ca.pem")),
        (
            "authority of client certificates",
            authority.join(CLIENT_CA_FILE),
        ),
        ("authorities of the agents' servers", agent_ca(site)),
    ];
    let row = |(what, file): (_, PathBuf)| GoodUntil {
        what,
        until: until(&file),
        file,
    };
    files.map(row).into()
}

/// The file with the authorities of the agents' servers.
#[must_use]
pub(super) fn agent_ca(site: &Site) -> PathBuf {
    match &site.config.credentials.agent_ca {
        Some(path) => site.relative(path),
        None => site.authority().join("ca.pem"),
    }
}

/// When the first of the file's certificates expires.
fn until(path: &Path) -> Option<Timestamp> {
    let pem = fs::read(path).ok()?;
    let expires = CertificateDer::pem_slice_iter(&pem).map(|der| {
        let der = der.ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
    });
    let expires: Option<Vec<_>> = expires.collect();
    expires?.into_iter().min()
}

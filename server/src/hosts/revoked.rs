//! Hosts whose key an operator has revoked: one file each in the site's `state/revoked`. It stops the key at this server; what
//! stops it at the machines is the catalogue, which does not name it any more.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;
use towline_contract::trust::{KeyId, is_host_id};

use crate::private::{self, PrivateError};
use crate::site::Site;

/// Largest record, in bytes.
const BYTES_MAX: u64 = 4 << 10;

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// When.
    pub time: Timestamp,
    /// Identifier of the key.
    pub key: KeyId,
}

/// Whether the host's key is revoked.
///
/// # Errors
/// The record cannot be read.
pub fn read(site: &Site, host: &str) -> Result<Option<Revoked>, PrivateError> {
    match is_host_id(host) {
        true => private::read(&folder(site).join(name(host)), BYTES_MAX),
        false => Ok(None),
    }
}

/// Writes that it is.
pub(super) fn write(site: &Site, host: &str, revoked: &Revoked) -> Result<(), PrivateError> {
    private::lock(&folder(site))?.write(&name(host), revoked, BYTES_MAX)
}

/// The host has another key, or is gone.
///
/// # Errors
/// The record cannot be removed.
pub fn forget(site: &Site, host: &str) -> Result<(), PrivateError> {
    if is_host_id(host) {
        private::lock(&folder(site))?.remove(&name(host))?;
    }
    Ok(())
}

fn name(host: &str) -> String {
    format!("{host}.json")
}

fn folder(site: &Site) -> PathBuf {
    site.state().join("revoked")
}

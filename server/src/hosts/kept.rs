//! Sessions that an operator keeps, whatever the rules say: one file a host in the site's `state/sessions`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use towline_contract::trust::is_host_id;

use crate::private::{self, PrivateError};
use crate::site::Site;

/// Most sessions of one host that are kept by hand: they are in the list that each of its recoveries reads.
pub const KEPT_MAX: usize = 200;

/// Largest file, in bytes: 200 names of at most 128 letters.
const BYTES_MAX: u64 = 64 << 10;

/// Versions of the host's sessions that are kept.
///
/// # Errors
/// The file cannot be read.
pub fn read(site: &Site, host: &str) -> Result<BTreeSet<String>, PrivateError> {
    match is_host_id(host) {
        true => Ok(private::read(&path(site, host), BYTES_MAX)?.unwrap_or_default()),
        false => Ok(BTreeSet::new()),
    }
}

/// Keeps the session, or lets the rules decide again; says whether that is new. None when too many are kept.
///
/// # Errors
/// The file cannot be read or written.
pub fn set(
    site: &Site,
    host: &str,
    version: &str,
    keep: bool,
) -> Result<Option<bool>, PrivateError> {
    let folder = private::lock(&folder(site))?;
    let mut kept = read(site, host)?;
    let is_new = match keep {
        true => kept.insert(version.to_owned()),
        false => kept.remove(version),
    };
    if kept.len() > KEPT_MAX {
        return Ok(None);
    }
    if is_new {
        folder.write(&format!("{host}.json"), &kept, BYTES_MAX)?;
    }
    Ok(Some(is_new))
}

fn path(site: &Site, host: &str) -> PathBuf {
    folder(site).join(format!("{host}.json"))
}

fn folder(site: &Site) -> PathBuf {
    site.state().join("sessions")
}

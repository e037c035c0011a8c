//! The view of one host: what one machine reads of the catalogue, composed when it asks, as large for a fleet of ten as of
//! ten thousand.
//!
//! The same roles sign the same versions with the same dates; only what is about other hosts is left out: their files in the
//! snapshot, their keys in `hosts`. The same catalogue gives the same bytes, so that nothing of it is stored.

use std::collections::BTreeMap;

use towline_contract::Digest;
use towline_contract::plan::TimestampRef;
use towline_contract::trust::metadata::{FileRef, Snapshot, Targets, Timestamp as TimestampFile};
use towline_contract::trust::{HOSTS_ROLE, SignedView, TIMESTAMP_FILE, host_role, sign};

use super::Result;
use crate::keys;
use crate::site::Site;

/// What is composed of a view; its other files are the catalogue's own.
#[derive(Clone, Debug)]
pub struct HostView {
    /// What a plan for this machine names.
    pub timestamp: TimestampRef,
    /// `timestamp.json`, the snapshot, and what names the host, by the names of their files.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Composes the view of `host`, or of a machine that is no host yet.
///
/// # Errors
/// A key of the server cannot be read.
pub fn host_view(site: &Site, current: &SignedView, host: Option<&str>) -> Result<HostView> {
    let key = |name: &str| keys::read(&site.key_path(name));
    let role = host.map(host_role);
    let mut files = BTreeMap::new();
    let mut snapshot: Snapshot = current.snapshot().clone();
    let is_other = |file: &str| {
        let named = file.strip_suffix(".json").unwrap_or(file);
        named.starts_with("host-") && Some(named) != role.as_deref()
    };
    snapshot.meta.retain(|file, _| !is_other(file));
    if let Some(hosts) = current.role(HOSTS_ROLE) {
        let (version, bytes) = (hosts.header.version, {
            sign(&only(hosts, role.as_deref()), &[&key(HOSTS_ROLE)?])?
        });
        let reference = FileRef::of(version, &bytes);
        snapshot
            .meta
            .insert(format!("{HOSTS_ROLE}.json"), reference);
        files.insert(format!("{version}.{HOSTS_ROLE}.json"), bytes);
    }
    let version = snapshot.header.version;
    let bytes = sign(&snapshot, &[&key("snapshot")?])?;
    let reference = FileRef::of(version, &bytes);
    files.insert(format!("{version}.snapshot.json"), bytes);
    let (version, expires) = (current.timestamp_version(), current.online_expiry().0);
    let timestamp = TimestampFile::new(version, expires, reference);
    let bytes = sign(&timestamp, &[&key("timestamp")?])?;
    let timestamp = TimestampRef {
        version,
        digest: Digest::of(&bytes),
    };
    files.insert(TIMESTAMP_FILE.into(), bytes);
    Ok(HostView { timestamp, files })
}

/// The view of `host`, verified as its machine does.
///
/// # Errors
/// See [`super::CatalogueError`].
pub fn view_of(site: &Site, host: Option<&str>) -> Result<SignedView> {
    let files = host_view(site, &super::view(&site.store)?, host)?.files;
    super::verified(&site.store, |file, max| match files.get(file) {
        Some(bytes) => Ok(bytes.clone()),
        None => super::metadata(&site.store, file, max),
    })
}

/// `hosts` with the delegation to this role alone.
fn only(hosts: &Targets, role: Option<&str>) -> Targets {
    let mut one = hosts.clone();
    if let Some(delegations) = &mut one.delegations {
        delegations.roles.retain(|it| Some(&*it.name) == role);
        let named = delegations.roles.iter().flat_map(|it| &it.role.keyids);
        let named: Vec<_> = named.cloned().collect();
        delegations.keys.retain(|id, _| named.contains(id));
    }
    one.delegations = one.delegations.filter(|it| !it.roles.is_empty());
    one
}

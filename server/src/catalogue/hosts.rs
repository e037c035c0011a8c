//! Hosts in the catalogue: their keys, signed by the registrar's key, and their sessions, signed by themselves.

use towline_contract::Timestamp;
use towline_contract::trust::metadata::{FileRef, Targets};
use towline_contract::trust::{
    HOSTS_ROLE, PublicKey, SignedView, host_paths, host_role, host_sessions,
};

use super::change::{TARGETS, change, put_online};
use super::publish::put_layer;
use super::{CatalogueError, NewLayer, Published, Result, metadata, published, view};
use crate::site::Site;
use crate::store::{Put, Store};

/// A host's signed list of sessions, as the snapshot names it.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// The envelope.
    pub bytes: Vec<u8>,
    /// What it says.
    pub sessions: Targets,
}

/// Names the host's key in the catalogue, for its own sessions and nothing else; says whether that is new.
///
/// # Errors
/// See [`CatalogueError`]; another key for a host that has one is refused.
pub fn approve(site: &Site, host: &str, key: &PublicKey, now: Timestamp) -> Result<bool> {
    let _lock = site.store.lock()?;
    let current = view(&site.store)?;
    match current.host_key(host) {
        Some(known) if known == key => return Ok(false),
        Some(known) => {
            return Err(CatalogueError::OtherKey {
                host: host.into(),
                known: known.id(),
                found: key.id(),
            });
        }
        None => {}
    }
    // A site of before there was a registrar names hosts in its targets.
    let registrar = match current.delegates_to(HOSTS_ROLE) {
        true => HOSTS_ROLE,
        false => TARGETS,
    };
    change(site, &current, now, &[registrar], |_, document| {
        let paths = host_paths(host);
        document.set_delegation(&host_role(host), std::slice::from_ref(key), 1, &[&paths]);
    })?;
    Ok(true)
}

/// The newest list of the host's sessions; none before the first.
///
/// # Errors
/// It is missing, or not what the snapshot and the host's key say.
pub fn host_file(store: &Store, view: &SignedView, host: &str) -> Result<Option<HostFile>> {
    let Some((name, max)) = view.host_file(host) else {
        return Ok(None);
    };
    let key = view
        .host_key(host)
        .ok_or_else(|| CatalogueError::Missing(format!("key of host {host}")))?;
    let bytes = metadata(store, &name, max)?;
    // As machines verify it, against the snapshot too.
    view.clone().with_host(host, &bytes)?;
    let sessions = host_sessions(&bytes, host, key)?;
    Ok(Some(HostFile { bytes, sessions }))
}

/// The sessions that the host itself signed, with their manifests; those of the operators are in
/// [`super::layers`] and go before them.
///
/// # Errors
/// The list or a manifest is missing or damaged.
pub fn host_layers(store: &Store, view: &SignedView, host: &str) -> Result<Vec<Published>> {
    let Some(file) = host_file(store, view, host)? else {
        return Ok(Vec::new());
    };
    let own = file.sessions.targets.iter();
    own.filter(|(name, _)| !view.layers().contains_key(*name))
        .map(|(name, file)| published(store, name, file))
        .collect()
}

/// Stores a session's layer and the host's next list, then signs snapshot and timestamp. Until its last step nothing has
/// changed for machines. The caller holds the store's lock, and has verified both.
///
/// # Errors
/// See [`CatalogueError`].
pub fn add_session(
    site: &Site,
    current: &SignedView,
    host: &str,
    next: &HostFile,
    layer: &NewLayer,
    now: Timestamp,
) -> Result<()> {
    let store = &site.store;
    put_layer(store, layer)?;
    let (role, version) = (host_role(host), next.sessions.header.version);
    let path = store.metadata_path(&format!("{version}.{role}.json"));
    // A file of this number that is there already is left over from an interrupted upload: the snapshot names an older
    // one, so that no machine has taken it.
    if store.create(&path, &mut next.bytes.as_slice())? == Put::Exists {
        store.replace(&path, &next.bytes)?;
    }
    let mut files = current.files().clone();
    files.insert(format!("{role}.json"), FileRef::of(version, &next.bytes));
    put_online(site, current, files, now)
}

//! Hosts in the catalogue: their keys, signed by the registrar's key, and their sessions, signed by themselves.

use towline_contract::Timestamp;
use towline_contract::trust::metadata::{FileRef, Targets};
use towline_contract::trust::{
    HOSTS_ROLE, PublicKey, SignedView, SigningKey, host_paths, host_role, host_sessions,
    next_sessions, sign,
};
use zeroize::Zeroizing;

use super::change::{Signing, TARGETS, change};
use super::publish::put_layer;
use super::{CatalogueError, NewLayer, Published, Result, metadata, published, view};
use crate::keys::KeyError;
use crate::site::Site;
use crate::store::{Put, Store};

/// A host's signed list of sessions, as the snapshot names it.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// The envelope.
    pub bytes: Vec<u8>,
    /// What it says.
    pub sessions: Targets,
    /// Who signed it, when that is not the host's own key but the one before.
    pub predecessor: Option<PublicKey>,
}

/// Whether a host may have another key than the catalogue names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// No: a name has one key.
    No,
    /// Yes, for an operator has said so. Its sessions stay as they are until it signs them anew.
    Yes,
}

/// Names the host's key in the catalogue, for its own sessions and nothing else; says whether that is new.
///
/// # Errors
/// See [`CatalogueError`]; another key for a host that has one is refused, unless one may follow the other.
pub fn approve(
    site: &Site,
    host: &str,
    key: &PublicKey,
    succession: Succession,
    now: Timestamp,
) -> Result<bool> {
    let _lock = site.store.lock()?;
    approve_locked(site, host, key, succession, now)
}

/// The same for a caller that has the store's lock.
///
/// # Errors
/// See [`approve`].
pub fn approve_locked(
    site: &Site,
    host: &str,
    key: &PublicKey,
    succession: Succession,
    now: Timestamp,
) -> Result<bool> {
    let current = view(&site.store)?;
    let mut keys = vec![key.clone()];
    match current.host_key(host) {
        Some(known) if known == key => return Ok(false),
        Some(known) if succession == Succession::No => {
            return Err(CatalogueError::OtherKey {
                host: host.into(),
                known: known.id(),
                found: key.id(),
            });
        }
        Some(_) => {
            let file = host_file(&site.store, &current, host)?;
            keys.extend(
                file.map(|it| match (it.predecessor, current.host_key(host)) {
                    (None, Some(known)) => known.clone(),
                    (before, _) => before.unwrap_or_else(|| key.clone()),
                }),
            );
        }
        None => {}
    }
    let registrar = [registrar(&current, host)];
    change(site, &current, now, &registrar, name(host, &keys))?;
    Ok(true)
}

/// The role that names this host, or would: a site of before there was a registrar names hosts in its targets.
fn registrar(current: &SignedView, host: &str) -> &'static str {
    let role = host_role(host);
    let hosts = current.role(HOSTS_ROLE);
    let named = |it: &Targets| {
        let roles = it.delegations.iter().flat_map(|it| &it.roles);
        roles.into_iter().any(|it| it.name == role)
    };
    match hosts {
        Some(hosts) if named(hosts) || !named(current.targets()) => HOSTS_ROLE,
        _ => TARGETS,
    }
}

/// Has a document name these keys for the host's own sessions and nothing else.
fn name(host: &str, keys: &[PublicKey]) -> impl Fn(&str, &mut Targets) {
    move |_, document| document.set_delegation(&host_role(host), keys, 1, &[&host_paths(host)])
}

/// Takes the host's key out of the catalogue, and keeps its sessions: a key that nobody has signs the list once more.
///
/// # Errors
/// See [`CatalogueError`].
pub fn freeze(site: &Site, host: &str, now: Timestamp) -> Result<()> {
    let _lock = site.store.lock()?;
    let current = view(&site.store)?;
    let Some(file) = host_file(&site.store, &current, host)? else {
        return unname(site, &current, host, now);
    };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(KeyError::Random)?;
    let once = SigningKey::generate(*seed);
    let sessions = next_sessions(Some(file.sessions));
    let bytes = sign(&sessions, &[&once])?;
    let list = put_list(&site.store, host, sessions.header.version, &bytes)?;
    let (keys, registrar) = ([once.public()], [registrar(&current, host)]);
    Signing::now(site)?.change(&current, now, &registrar, name(host, &keys), Some(list))
}

/// Takes the host out of the catalogue, with its sessions.
///
/// # Errors
/// See [`CatalogueError`].
pub fn remove(site: &Site, host: &str, now: Timestamp) -> Result<()> {
    let _lock = site.store.lock()?;
    unname(site, &view(&site.store)?, host, now)
}

fn unname(site: &Site, current: &SignedView, host: &str, now: Timestamp) -> Result<()> {
    let (role, registrar) = (host_role(host), [registrar(current, host)]);
    let list = (format!("{role}.json"), None);
    let edit = |_: &str, document: &mut Targets| document.drop_delegation(&role);
    Signing::now(site)?.change(current, now, &registrar, edit, Some(list))
}

/// The newest list of the host's sessions; none before the first.
///
/// # Errors
/// It is missing, or not what the snapshot and the host's key say.
pub fn host_file(store: &Store, view: &SignedView, host: &str) -> Result<Option<HostFile>> {
    let Some((name, max)) = view.host_file(host) else {
        return Ok(None);
    };
    let (key, before) = view
        .host_keys(host)
        .ok_or_else(|| CatalogueError::Missing(format!("key of host {host}")))?;
    let bytes = metadata(store, &name, max)?;
    // As machines verify it, against the snapshot too.
    view.check_host(host, &bytes)?;
    let (sessions, predecessor) = match (host_sessions(&bytes, host, key), before) {
        (Err(_), Some(before)) => (host_sessions(&bytes, host, before)?, Some(before.clone())),
        (own, _) => (own?, None),
    };
    Ok(Some(HostFile {
        bytes,
        sessions,
        predecessor,
    }))
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
    let list = put_list(store, host, next.sessions.header.version, &next.bytes)?;
    match current.host_keys(host) {
        // The list is the host's own now: the key before it is of no use any more.
        Some((key, Some(_))) => {
            let (keys, registrar) = ([key.clone()], [registrar(current, host)]);
            Signing::now(site)?.change(current, now, &registrar, name(host, &keys), Some(list))
        }
        _ => {
            let mut files = current.files().clone();
            files.extend(list.1.map(|file| (list.0, file)));
            Signing::now(site)?.put_online(current, files, now)
        }
    }
}

/// Stores a host's list; what the next snapshot says of it.
fn put_list(
    store: &Store,
    host: &str,
    version: u64,
    bytes: &[u8],
) -> Result<(String, Option<FileRef>)> {
    let role = host_role(host);
    let path = store.metadata_path(&format!("{version}.{role}.json"));
    // A file of this number that is there already is left over from an interrupted upload: the snapshot names an older
    // one, so that no machine has taken it.
    if store.create(&path, &mut &bytes[..])? == Put::Exists {
        store.replace(&path, bytes)?;
    }
    Ok((format!("{role}.json"), Some(FileRef::of(version, bytes))))
}

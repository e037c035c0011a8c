//! New keys for roles, and new dates.
//!
//! A new key waits in `keys/ROLE.key.next` until the catalogue names it; meanwhile whatever the role signs is signed by both keys.
//! So at any moment, also after an interruption, the catalogue is right, and the command can be run again: it goes on where it was.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use towline_contract::Timestamp;
use towline_contract::plan::PLAN_ROLE;
use towline_contract::trust::metadata::{Role, RoleName, Root};
use towline_contract::trust::{
    Envelope, KeyId, PublicKey, SignedView, SigningKey, TrustError, TrustedRoot, role_paths,
};

use super::change::{TARGETS, after_days, change, delegate, put_online};
use super::to_sign::{self, Waiting};
use super::{CatalogueError, Result, metadata, newest_root, verified, view};
use crate::keys::{self, KeyError};
use crate::site::Site;
use crate::store::Put;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new key; of the root, new ones in place of these, or of all.
    Rotate(Vec<KeyId>),
    /// The same keys, another date.
    Renew,
}

/// A change of one role's keys, or of its date.
pub struct Rotation<'a> {
    /// The role, as in the catalogue.
    pub role: &'a str,
    /// What is to be done.
    pub change: Change,
    /// Root keys that may sign.
    pub root_keys: Vec<SigningKey>,
    /// Makes a new root key in the file of this name.
    pub new_root_key: &'a mut dyn FnMut(&Path) -> std::result::Result<SigningKey, KeyError>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Files of new keys; those of the root's are to be taken away.
    pub keys: Vec<PathBuf>,
    /// Version of the root afterwards.
    pub root: u64,
}

/// Changes a role's keys or date in the catalogue.
///
/// # Errors
/// See [`CatalogueError`]; [`CatalogueError::ToSign`] when keys that are elsewhere must sign first: then run it again.
pub fn rotate(site: &Site, mut rotation: Rotation<'_>, now: Timestamp) -> Result<Rotated> {
    let _lock = site.store.lock()?;
    let role = rotation.role;
    let top = serde_json::from_value(role.into()).ok();
    match (top, &rotation.change) {
        (Some(RoleName::Root), _) | (Some(_), Change::Rotate(_)) => {
            let top = top.unwrap_or(RoleName::Root);
            root_change(site, top, &mut rotation, now)
        }
        (None, _) if role != PLAN_ROLE && role_paths(role).is_none() => {
            Err(CatalogueError::Role(format!("there is no role {role:?}")))
        }
        (_, Change::Renew) => renew(site, role, now),
        (None, Change::Rotate(_)) => delegated(site, role, now),
    }
}

/// Signs a role's documents again with a new date.
fn renew(site: &Site, role: &str, now: Timestamp) -> Result<Rotated> {
    let current = view(&site.store)?;
    match role {
        PLAN_ROLE => {
            let why = "plans live for minutes: the role has no date of its own";
            return Err(CatalogueError::Role(why.into()));
        }
        "snapshot" | "timestamp" => put_online(site, &current, current.files().clone(), now)?,
        TARGETS => change(site, &current, now, &[TARGETS], |_, _| {})?,
        _ if !current.delegates_to(role) => return Err(no_role(role)),
        _ => change(site, &current, now, &[role], |_, _| {})?,
    }
    rotated(site, Vec::new())
}

/// A new key for a role that the targets name.
fn delegated(site: &Site, role: &str, now: Timestamp) -> Result<Rotated> {
    let current = view(&site.store)?;
    if !current.delegates_to(role) {
        return Err(no_role(role));
    }
    let next = keys::read_or_create(&site.next_key_path(role))?;
    if !names(&current, role, &next) {
        let roles: &[&str] = match current.role(role) {
            Some(_) => &[TARGETS, role],
            None => &[TARGETS],
        };
        change(site, &current, now, roles, |it, document| {
            if it == TARGETS {
                delegate(document, role, &next);
            }
        })?;
    }
    take_over(site, role)
}

fn no_role(role: &str) -> CatalogueError {
    CatalogueError::Role(format!(
        "the catalogue has no role {role:?}; a site of older date signs all layers by its targets"
    ))
}

/// Whether this is the one key that the targets name for the role.
fn names(current: &SignedView, role: &str, key: &SigningKey) -> bool {
    let delegations = current.targets().delegations.iter();
    let mut roles = delegations.flat_map(|it| &it.roles);
    roles.any(|it| it.name == role && it.role.keyids == [key.public().id()])
}

/// The next root: with other keys for `role`, or with the same ones and another date.
fn root_change(
    site: &Site,
    role: RoleName,
    rotation: &mut Rotation<'_>,
    now: Timestamp,
) -> Result<Rotated> {
    let waiting = Waiting::open(site)?;
    let trusted = newest_root(&site.store)?;
    let ended = format!("{}.root.json", trusted.version());
    let interrupted = waiting.get(&ended)?.is_some();
    if !interrupted {
        let next = next_root(site, role, rotation, &trusted, &waiting, now)?;
        let bytes = next.to_bytes();
        let after = match trusted.clone().rotate(&bytes) {
            Ok(after) => after,
            Err(error) => {
                let lacking = waiting.lacking(&trusted.next_file(), error)?;
                return Err(CatalogueError::ToSign(vec![lacking]));
            }
        };
        sign_with_both(site, role, &trusted, &after, now)?;
        let path = site.store.metadata_path(&trusted.next_file());
        if site.store.create(&path, &mut &bytes[..])? == Put::Exists {
            return Err(CatalogueError::NoNumber("root".into()));
        }
    }
    let newest = newest_root(&site.store)?;
    let made = match role {
        RoleName::Root => rotated(site, new_root_files(site, &newest))?,
        _ if site.next_key_path(role.as_str()).exists() => take_over(site, role.as_str())?,
        _ => rotated(site, Vec::new())?,
    };
    to_sign::forget(site, &format!("{}.root.json", newest.version()))?;
    Ok(made)
}

/// The next root with all the signatures that can be made here. It waits from now on, so that what another machine signs, or an
/// interrupted command has signed, is not lost.
fn next_root(
    site: &Site,
    role: RoleName,
    rotation: &mut Rotation<'_>,
    trusted: &TrustedRoot,
    waiting: &Waiting,
    now: Timestamp,
) -> Result<Envelope> {
    let (current, name) = (trusted.document(), trusted.next_file());
    let waits = waiting.get(&name)?;
    let mut made = Vec::new();
    let mut envelope = match waits {
        Some(envelope) => {
            let wanted: Root = read(&envelope, &name)?;
            let same = changed(current, role, rotation, &wanted);
            if !same || wanted.header.expires <= now {
                return Err(CatalogueError::Waits(site.to_sign().join(&name)));
            }
            envelope
        }
        None => {
            let mut next = current.clone();
            next.header.version += 1;
            next.header.expires = after_days(now, site.config.valid_days.root);
            if let Change::Rotate(replaced) = &rotation.change {
                let keys = match role {
                    RoleName::Root => {
                        let make = &mut *rotation.new_root_key;
                        new_root_keys(site, current, replaced, make, &mut made)?
                    }
                    _ => vec![keys::read_or_create(&site.next_key_path(role.as_str()))?.public()],
                };
                let threshold = role_of(current, role).threshold;
                next.set_role(role, &keys, threshold);
            }
            Envelope::unsigned(&next)?
        }
    };
    let wanted: Root = read(&envelope, &name)?;
    let signers = [current, &wanted].map(|it| role_of(it, RoleName::Root).keyids);
    let signers: BTreeSet<_> = signers.concat().into_iter().collect();
    for key in rotation.root_keys.iter().chain(&made) {
        if signers.contains(&key.public().id()) {
            envelope.add_signature(key)?;
        }
    }
    waiting.put(&name, &envelope)?;
    Ok(envelope)
}

/// Whether `wanted` is what this rotation would make of `current`, but for its date and new keys.
fn changed(current: &Root, role: RoleName, rotation: &Rotation<'_>, wanted: &Root) -> bool {
    let mut expected = current.clone();
    expected.header.version += 1;
    expected.header.expires = wanted.header.expires;
    let (before, after) = (role_of(current, role), role_of(wanted, role));
    match rotation.change {
        Change::Renew => expected == *wanted,
        Change::Rotate(_) => {
            let keys = after.keyids.iter().filter_map(|id| wanted.keys.get(id));
            let keys: Vec<PublicKey> = keys.cloned().collect();
            expected.set_role(role, &keys, before.threshold);
            expected == *wanted && before.keyids != after.keyids
        }
    }
}

/// The root's keys, with new ones in place of `replaced`, or of all.
fn new_root_keys(
    site: &Site,
    current: &Root,
    replaced: &[KeyId],
    make: &mut dyn FnMut(&Path) -> std::result::Result<SigningKey, KeyError>,
    made: &mut Vec<SigningKey>,
) -> Result<Vec<PublicKey>> {
    let role = role_of(current, RoleName::Root);
    if let Some(unknown) = replaced.iter().find(|id| !role.keyids.contains(id)) {
        let why = format!("the root has no key {}", unknown.fingerprint());
        return Err(CatalogueError::Role(why));
    }
    let stays = |id: &&KeyId| !replaced.is_empty() && !replaced.contains(id);
    let kept = role.keyids.iter().filter(stays);
    let mut keys: Vec<_> = kept
        .filter_map(|id| current.keys.get(id).cloned())
        .collect();
    let mut number = 0;
    while keys.len() < role.keyids.len() {
        number += 1;
        let path = site.key_path(&format!("root-{number}"));
        // A key that was taken away keeps its number, by what its public half is kept in.
        if path.exists() || keys::public_path(&path).exists() {
            continue;
        }
        let key = make(&path)?;
        keys.push(key.public());
        made.push(key);
    }
    Ok(keys)
}

/// Signs what `role` signs with the key of before, if it is here, and with the one that follows.
fn sign_with_both(
    site: &Site,
    role: RoleName,
    before: &TrustedRoot,
    after: &TrustedRoot,
    now: Timestamp,
) -> Result<()> {
    let store = &site.store;
    let under = |root: &TrustedRoot| verified(root.clone(), |file, max| metadata(store, file, max));
    // When the key of before is lost, and this was interrupted, the catalogue is right under the next root only.
    let current = under(before).or_else(|_| under(after))?;
    match role {
        _ if !site.next_key_path(role.as_str()).exists() => Ok(()),
        RoleName::Root => Ok(()),
        RoleName::Targets => change(site, &current, now, &[TARGETS], |_, _| {}),
        RoleName::Snapshot | RoleName::Timestamp => {
            put_online(site, &current, current.files().clone(), now)
        }
    }
}

/// The key that followed is the role's key from now on.
fn take_over(site: &Site, role: &str) -> Result<Rotated> {
    let (next, key) = (site.next_key_path(role), site.key_path(role));
    let moved = fs::rename(&next, &key).and_then(|()| {
        let folder = key.parent().unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    });
    moved.map_err(|cause| KeyError::File {
        what: "rename",
        path: next,
        cause,
    })?;
    rotated(site, vec![key])
}

/// Files of root keys on this machine that the root before this one did not have.
fn new_root_files(site: &Site, newest: &TrustedRoot) -> Vec<PathBuf> {
    let ids = role_of(newest.document(), RoleName::Root).keyids;
    let all = keys::root_keys(&site.keys()).into_iter();
    let named = all.filter(|it| it.public.as_ref().is_some_and(|it| ids.contains(&it.id())));
    named.map(|it| it.path).filter(|it| it.exists()).collect()
}

fn rotated(site: &Site, keys: Vec<PathBuf>) -> Result<Rotated> {
    let root = newest_root(&site.store)?.version();
    Ok(Rotated { keys, root })
}

fn role_of(root: &Root, role: RoleName) -> Role {
    let none = Role {
        keyids: Vec::new(),
        threshold: 0,
    };
    root.roles.get(role.as_str()).cloned().unwrap_or(none)
}

fn read(envelope: &Envelope, name: &str) -> Result<Root> {
    let root = serde_json::from_value(envelope.signed.clone());
    Ok(root.map_err(|source| TrustError::Json {
        what: name.into(),
        source,
    })?)
}

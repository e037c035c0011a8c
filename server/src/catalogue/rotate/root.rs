//! The next root: with other keys for some roles, or with the same ones and another date.

use std::collections::BTreeSet;
use std::path::PathBuf;

use towline_contract::Timestamp;
use towline_contract::trust::metadata::{Role, RoleName, Root};
use towline_contract::trust::{Envelope, KeyId, PublicKey, SigningKey, TrustError, TrustedRoot};

use super::{Change, Rotation, next_key, take_over};
use crate::catalogue::change::{Signing, TARGETS, after_days};
use crate::catalogue::to_sign::{self, Waiting};
use crate::catalogue::{CatalogueError, Result, metadata, newest_root, verified};
use crate::keys;
use crate::site::Site;
use crate::store::Put;

/// Has the next root name new keys for these roles, or have a new date; the files of the new keys.
pub(super) fn change(
    site: &Site,
    roles: &[RoleName],
    rotation: &mut Rotation<'_>,
    now: Timestamp,
) -> Result<Vec<PathBuf>> {
    let waiting = Waiting::open(site)?;
    let before = newest_root(&site.store)?;
    let mut made = finish(site, &before)?;
    let is_done = |role: &RoleName| made.iter().any(|it| *it == site.key_path(role.as_str()));
    if rotation.change != Change::Renew && roles.iter().all(is_done) {
        return Ok(made);
    }
    let next = next_root(site, roles, rotation, &before, &waiting, now)?;
    let bytes = next.to_bytes();
    let after = match before.clone().rotate(&bytes) {
        Ok(after) => after,
        Err(error) => {
            let lacking = waiting.lacking(&before.next_file(), error)?;
            return Err(CatalogueError::ToSign(vec![lacking]));
        }
    };
    sign_with_both(site, roles, &before, &after, now)?;
    let path = site.store.metadata_path(&before.next_file());
    if site.store.create(&path, &mut &bytes[..])? == Put::Exists {
        return Err(CatalogueError::NoNumber("root".into()));
    }
    made.extend(finish(site, &after)?);
    made.extend(new_root_keys_here(site, &before, &after));
    Ok(made)
}

/// What is left to do once this root is in the store: keys that it names take their places, and it waits no more.
fn finish(site: &Site, root: &TrustedRoot) -> Result<Vec<PathBuf>> {
    let mut taken = Vec::new();
    for role in [RoleName::Targets, RoleName::Snapshot, RoleName::Timestamp] {
        let named = role_of(root.document(), role).keyids;
        let next = site.next_key(role.as_str())?;
        if next.is_some_and(|key| named == [key.public().id()]) {
            taken.push(take_over(site, role.as_str())?);
        }
    }
    to_sign::forget(site, &format!("{}.root.json", root.version()))?;
    Ok(taken)
}

/// The next root with all the signatures that can be made here. It waits from now on, so that what another machine signs, or an
/// interrupted command has signed, is not lost.
fn next_root(
    site: &Site,
    roles: &[RoleName],
    rotation: &mut Rotation<'_>,
    before: &TrustedRoot,
    waiting: &Waiting,
    now: Timestamp,
) -> Result<Envelope> {
    let (current, name) = (before.document(), before.next_file());
    let latest = after_days(now, site.config.valid_days.root);
    let mut made = Vec::new();
    let (wanted, mut envelope) = match waiting.get(&name)? {
        Some(envelope) => {
            let wanted = read(&envelope, &name)?;
            let in_time = wanted.header.expires > now && wanted.header.expires <= latest;
            if !in_time || expected(site, roles, &rotation.change, current, &wanted)? != wanted {
                return Err(CatalogueError::Waits(site.to_sign().join(&name)));
            }
            (wanted, envelope)
        }
        None => {
            let mut next = current.clone();
            next.header.version += 1;
            next.header.expires = latest;
            make_keys(site, roles, rotation, &mut next, &mut made)?;
            let envelope = Envelope::unsigned(&next)?;
            (next, envelope)
        }
    };
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

/// Has `next` name new keys for these roles; new root keys are in `made` too.
fn make_keys(
    site: &Site,
    roles: &[RoleName],
    rotation: &mut Rotation<'_>,
    next: &mut Root,
    made: &mut Vec<SigningKey>,
) -> Result<()> {
    let Change::Rotate(replaced) = rotation.change.clone() else {
        return Ok(());
    };
    for role in roles {
        let Role { keyids, threshold } = role_of(next, *role);
        let mut keys = Vec::new();
        if *role == RoleName::Root {
            keys = kept(next, &replaced)?;
            let mut number = keyids.len();
            while keys.len() < keyids.len() {
                number += 1;
                let path = site.key_path(&format!("root-{number}"));
                // A key that was taken away keeps its number, by what its public half is kept in.
                if path.exists() || keys::public_path(&path).exists() {
                    continue;
                }
                let key = (rotation.new_root_key)(&path)?;
                keys.push(key.public());
                made.push(key);
            }
        } else {
            keys.push(next_key(site, role.as_str(), |_| false)?.public());
        }
        next.set_role(*role, &keys, threshold);
    }
    Ok(())
}

/// What this rotation makes of `current`, but for its date, when the new keys are those of `wanted`, whose halves are here. The
/// root that waits has been elsewhere: whatever else it names was not asked for. (`current` itself, which `wanted` is not, when
/// that is about other roles.)
fn expected(
    site: &Site,
    roles: &[RoleName],
    change: &Change,
    current: &Root,
    wanted: &Root,
) -> Result<Root> {
    let mut expected = current.clone();
    expected.header.version += 1;
    expected.header.expires = wanted.header.expires;
    let Change::Rotate(replaced) = change else {
        return Ok(expected);
    };
    for role in roles {
        let Role { keyids, threshold } = role_of(current, *role);
        let keys = if *role == RoleName::Root {
            let here = keys::root_keys(&site.keys());
            let is_here = |key: &PublicKey| here.iter().any(|it| it.public.as_ref() == Some(key));
            let new = role_of(wanted, *role).keyids;
            let new = new.iter().filter(|id| !keyids.contains(id));
            let new = new.filter_map(|id| wanted.keys.get(id));
            let mut keys = kept(current, replaced)?;
            keys.extend(new.filter(|key| is_here(key)).cloned());
            keys.truncate(keyids.len());
            keys
        } else {
            match site.next_key(role.as_str())? {
                Some(next) => vec![next.public()],
                // It waits for something else.
                None if role_of(wanted, *role).keyids == keyids => return Ok(current.clone()),
                None => {
                    let path = site.next_key_path(role.as_str());
                    return Err(CatalogueError::Role(format!(
                        "a root waits that names the key {}, which is not there",
                        path.display()
                    )));
                }
            }
        };
        expected.set_role(*role, &keys, threshold);
    }
    Ok(expected)
}

/// The root's keys without those that are replaced; none when all are.
fn kept(current: &Root, replaced: &[KeyId]) -> Result<Vec<PublicKey>> {
    let ids = role_of(current, RoleName::Root).keyids;
    if let Some(unknown) = replaced.iter().find(|id| !ids.contains(id)) {
        let why = format!("the root has no key {}", unknown.fingerprint());
        return Err(CatalogueError::Role(why));
    }
    let stays = |id: &&KeyId| !replaced.is_empty() && !replaced.contains(id);
    let kept = ids.iter().filter(stays);
    Ok(kept
        .filter_map(|id| current.keys.get(id).cloned())
        .collect())
}

/// Signs what the roles sign with the keys of before, those that are here, and with those that follow: right under both roots.
fn sign_with_both(
    site: &Site,
    roles: &[RoleName],
    before: &TrustedRoot,
    after: &TrustedRoot,
    now: Timestamp,
) -> Result<()> {
    let rotating: Vec<_> = roles.iter().map(|it| it.as_str()).collect();
    let is_new = |role: &&&str| site.next_key_path(role).exists();
    let Some(_) = rotating.iter().find(is_new) else {
        return Ok(());
    };
    let store = &site.store;
    let under = |root: &TrustedRoot| verified(root.clone(), |file, max| metadata(store, file, max));
    // When a key of before is lost, and this was interrupted, the catalogue is right under the next root only.
    let current = under(before).or_else(|_| under(after))?;
    let signing = Signing {
        site,
        root: after.clone(),
        rotating: &rotating,
    };
    match rotating.contains(&TARGETS) {
        true => signing.change(&current, now, &[TARGETS], |_, _| {}, None),
        false => signing.put_online(&current, current.files().clone(), now),
    }
}

/// Files of root keys on this machine that came with this root.
fn new_root_keys_here(site: &Site, before: &TrustedRoot, after: &TrustedRoot) -> Vec<PathBuf> {
    let [old, new] = [before, after].map(|it| role_of(it.document(), RoleName::Root).keyids);
    let is_new = |id: KeyId| new.contains(&id) && !old.contains(&id);
    let all = keys::root_keys(&site.keys()).into_iter();
    let named = all.filter(|it| it.public.as_ref().is_some_and(|it| is_new(it.id())));
    named.map(|it| it.path).filter(|it| it.exists()).collect()
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

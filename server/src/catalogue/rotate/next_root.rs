//! What the next root says: the keys that stay, those that are new, and whether a root that waits says the same.

use std::collections::BTreeSet;

use towline_contract::Timestamp;
use towline_contract::limits::ROLE_KEYS_MAX;
use towline_contract::trust::metadata::{Role, RoleName, Root};
use towline_contract::trust::{Envelope, KeyId, PublicKey, SigningKey, TrustError, TrustedRoot};

use super::{Change, Rotation, Size, next_key};
use crate::catalogue::to_sign::Waiting;
use crate::catalogue::written::after_days;
use crate::catalogue::{CatalogueError, Result};
use crate::keys;
use crate::site::Site;

/// Whether the role's keys have numbers: those of the root, several, and those that were made elsewhere.
fn is_numbered(role: RoleName, keys: usize, rotation: &Rotation<'_>) -> bool {
    let several = keys > 1 || !rotation.new_keys.is_empty() || rotation.size.is_some();
    role == RoleName::Root || (role == RoleName::Targets && several)
}

/// How many keys the role is to have beside those that stay, and how many must sign.
fn wanted(
    current: &Role,
    role: RoleName,
    kept: usize,
    rotation: &Rotation<'_>,
) -> Result<(usize, u32)> {
    let (before, given) = (current.keyids.len(), rotation.new_keys.len());
    let threshold = rotation.size.map_or(current.threshold, |it| it.threshold);
    let keys = match (rotation.size, given) {
        (
            Some(Size {
                keys: Some(keys), ..
            }),
            _,
        ) => keys,
        (Some(_), 1..) => kept + given,
        _ => before,
    };
    let refused = |why: String| Err(CatalogueError::Role(why));
    if given > 0 && kept + given != keys {
        let found = kept + given;
        return refused(format!(
            "{role} has {before} keys, and with those that were given it would have {found}: give a new key for each that is replaced, or say how many are to sign"
        ));
    }
    if kept > keys || keys > ROLE_KEYS_MAX || threshold == 0 || u64::from(threshold) > keys as u64 {
        return refused(format!(
            "{role} cannot have {keys} keys of which {threshold} must sign, when {kept} of now stay"
        ));
    }
    Ok((keys - kept, threshold))
}

/// The next root with all the signatures that can be made here, and the keys that were made for it. It waits from now on, so
/// that what another machine signs, or an interrupted command has signed, is not lost.
pub(super) fn next_root(
    site: &Site,
    roles: &[RoleName],
    rotation: &mut Rotation<'_>,
    before: &TrustedRoot,
    waiting: &Waiting<'_>,
    now: Timestamp,
) -> Result<(Envelope, Vec<SigningKey>)> {
    let (current, name) = (before.document(), before.next_file());
    let latest = after_days(now, site.config.valid_days.root);
    let mut made = Vec::new();
    let (wanted, mut envelope) = match waiting.get(&name)? {
        Some(envelope) => {
            let wanted = read(&envelope, &name)?;
            let in_time = wanted.header.expires > now && wanted.header.expires <= latest;
            if !in_time || expected(site, roles, rotation, current, &wanted)? != wanted {
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
    for key in &rotation.root_keys {
        if signers.contains(&key.public().id()) {
            key.sign(&mut envelope)?;
        }
    }
    for key in &made {
        if signers.contains(&key.public().id()) {
            envelope.add_signature(key)?;
        }
    }
    waiting.put(&name, &envelope)?;
    Ok((envelope, made))
}

/// Has `next` name new keys for these roles; those that can be read by nobody yet are in `made` too.
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
        let before = role_of(next, *role);
        if !is_numbered(*role, before.keyids.len(), rotation) {
            let key = next_key(site, role.as_str(), |_| false)?;
            next.set_role(*role, &[key.public()], before.threshold);
            continue;
        }
        let mut keys = kept(next, *role, &replaced)?;
        let (new, threshold) = wanted(&before, *role, keys.len(), rotation)?;
        let (folder, name) = (site.keys(), role.as_str());
        let free = || keys::free_path(&folder, name, before.keyids.len() + 1);
        if rotation.new_keys.is_empty() {
            for _ in 0..new {
                let key = (rotation.make_key)(&free()?)?;
                keys.push(key.public());
                made.push(key);
            }
        } else {
            keys.extend(rotation.new_keys.iter().cloned());
            check_different(*role, &keys)?;
            let known = keys::offline_keys(&folder, name);
            for key in &rotation.new_keys {
                if !known.iter().any(|it| it.public.as_ref() == Some(key)) {
                    keys::write_public(&keys::public_path(&free()?), key)?;
                }
            }
        }
        next.set_role(*role, &keys, threshold);
    }
    Ok(())
}

/// A key counts once, however often it is named.
fn check_different(role: RoleName, keys: &[PublicKey]) -> Result<()> {
    let different: BTreeSet<_> = keys.iter().map(PublicKey::id).collect();
    match different.len() == keys.len() {
        true => Ok(()),
        false => Err(CatalogueError::Role(format!(
            "{role} would have one key twice"
        ))),
    }
}

/// What this rotation makes of `current`, but for its date, when the new keys are those of `wanted_root`, whose halves are here. The
/// root that waits has been elsewhere: whatever else it names was not asked for. (`current` itself, which `wanted_root` is not, when
/// that is about other roles.)
fn expected(
    site: &Site,
    roles: &[RoleName],
    rotation: &Rotation<'_>,
    current: &Root,
    wanted_root: &Root,
) -> Result<Root> {
    let mut expected = current.clone();
    expected.header.version += 1;
    expected.header.expires = wanted_root.header.expires;
    let Change::Rotate(replaced) = &rotation.change else {
        return Ok(expected);
    };
    for role in roles {
        let before = role_of(current, *role);
        let new = role_of(wanted_root, *role).keyids;
        let (keys, threshold) = if is_numbered(*role, before.keyids.len(), rotation) {
            let mut keys = kept(current, *role, replaced)?;
            let (count, threshold) = wanted(&before, *role, keys.len(), rotation)?;
            let here = keys::offline_keys(&site.keys(), role.as_str());
            let is_new = |key: &&PublicKey| match rotation.new_keys.as_slice() {
                [] => here.iter().any(|it| it.public.as_ref() == Some(key)),
                given => given.contains(key),
            };
            let new = new.iter().filter(|id| !before.keyids.contains(id));
            let new = new.filter_map(|id| wanted_root.keys.get(id));
            keys.extend(new.filter(is_new).take(count).cloned());
            (keys, threshold)
        } else {
            match site.next_key(role.as_str())? {
                Some(next) => (vec![next.public()], before.threshold),
                // It waits for something else.
                None if new == before.keyids => return Ok(current.clone()),
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

/// The role's keys without those that are replaced; none when all are.
fn kept(current: &Root, role: RoleName, replaced: &[KeyId]) -> Result<Vec<PublicKey>> {
    let ids = role_of(current, role).keyids;
    if let Some(unknown) = replaced.iter().find(|id| !ids.contains(id)) {
        let unknown = unknown.fingerprint();
        let why = format!("{unknown} is no key of {role}");
        return Err(CatalogueError::Role(why));
    }
    let stays = |id: &&KeyId| !replaced.is_empty() && !replaced.contains(id);
    let kept = ids.iter().filter(stays);
    Ok(kept
        .filter_map(|id| current.keys.get(id).cloned())
        .collect())
}

pub(super) fn role_of(root: &Root, role: RoleName) -> Role {
    let none = Role {
        keyids: Vec::new(),
        threshold: 0,
    };
    root.roles.get(role.as_str()).cloned().unwrap_or(none)
}

pub(super) fn read(envelope: &Envelope, name: &str) -> Result<Root> {
    let root = serde_json::from_value(envelope.signed.clone());
    Ok(root.map_err(|source| TrustError::Json {
        what: name.into(),
        source,
    })?)
}

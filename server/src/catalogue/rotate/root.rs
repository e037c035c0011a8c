//! The next root: with other keys for some roles, or with the same ones and another date.

use std::collections::BTreeSet;
use std::path::PathBuf;

use towline_contract::Timestamp;
use towline_contract::limits::{METADATA_BYTES_MAX, ROLE_KEYS_MAX};
use towline_contract::trust::metadata::{Role, RoleName, Root};
use towline_contract::trust::{
    Envelope, KeyId, PublicKey, SignedView, SigningKey, TrustError, TrustedRoot,
};

use super::{Change, Rotation, Size, next_key, remove, take_over};
use crate::catalogue::change::{Signing, TARGETS, after_days, required_of_targets};
use crate::catalogue::to_sign::{self, Required, Waiting};
use crate::catalogue::{CatalogueError, Result, metadata, newest_root, verified};
use crate::keys::{self, OfflineKey};
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
    let is_done = |role: &RoleName| {
        let taken = made.iter().any(|it| *it == site.key_path(role.as_str()));
        taken || is_given(before.document(), *role, rotation)
    };
    if rotation.change != Change::Renew && roles.iter().all(is_done) {
        return Ok(made);
    }
    let (next, new) = next_root(site, roles, rotation, &before, &waiting, now)?;
    let root = read(&next, &before.next_file())?;
    let mut lacking = Vec::new();
    for required in [before.document(), &root].map(required) {
        let found = waiting.lacking(&before.next_file(), &next, &required)?;
        lacking.extend(found.filter(|it| !lacking.contains(it)));
    }
    drop(waiting);
    let rotating: Vec<_> = roles.iter().map(|it| it.as_str()).collect();
    let signing = Signing {
        targets: required_of_targets(&root),
        rotating: &rotating,
        made: &new,
        ..Signing::under(site, before.clone())
    };
    if !lacking.is_empty() {
        // All that is to be signed elsewhere at once.
        let current = under(site, &before)?;
        if signs_targets(&signing, &current)? {
            match signing.signed(&current, now, &[TARGETS], |_, _| {}) {
                Err(CatalogueError::ToSign(more)) => lacking.extend(more),
                signed => signed.map(drop)?,
            }
        }
        return Err(CatalogueError::ToSign(lacking));
    }
    let bytes = next.to_bytes();
    let after = before.clone().rotate(&bytes)?;
    let signing = Signing {
        root: after.clone(),
        ..signing
    };
    sign_with_both(&signing, &before, now)?;
    let path = site.store.metadata_path(&before.next_file());
    if site.store.create(&path, &mut &bytes[..])? == Put::Exists {
        return Err(CatalogueError::NoNumber("root".into()));
    }
    made.extend(finish(site, &after)?);
    made.extend(new_keys_here(site, &before, &after));
    Ok(made)
}

/// Who must sign as a root of this document.
fn required(root: &Root) -> Required {
    Required::of(&role_of(root, RoleName::Root), &root.keys)
}

/// Whether the role has the keys already that were made elsewhere, and is of the size that is asked for.
fn is_given(root: &Root, role: RoleName, rotation: &Rotation<'_>) -> bool {
    let Role { keyids, threshold } = role_of(root, role);
    let mut given = rotation.new_keys.iter();
    let as_wanted = rotation.size.is_none_or(|it| it.threshold == threshold);
    given.len() > 0 && given.all(|it| keyids.contains(&it.id())) && as_wanted
}

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
    drop_single(site, root.document())?;
    to_sign::forget(site, &format!("{}.root.json", root.version()))?;
    Ok(taken)
}

/// The one key of the targets that was here is of no use when others, which have numbers, took its place.
fn drop_single(site: &Site, root: &Root) -> Result<()> {
    let named = role_of(root, RoleName::Targets).keyids;
    let is_named = |it: &OfflineKey| {
        it.public
            .as_ref()
            .is_some_and(|it| named.contains(&it.id()))
    };
    let single = site.key_path(TARGETS);
    let (single, numbered): (Vec<_>, Vec<_>) = keys::offline_keys(&site.keys(), TARGETS)
        .into_iter()
        .partition(|it| it.path == single);
    match single.as_slice() {
        [it] if it.public.is_some() && !is_named(it) && numbered.iter().any(is_named) => {
            remove(&it.path)?;
            remove(&keys::public_path(&it.path))
        }
        _ => Ok(()),
    }
}

/// The next root with all the signatures that can be made here, and the keys that were made for it. It waits from now on, so
/// that what another machine signs, or an interrupted command has signed, is not lost.
fn next_root(
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

/// Signs what the roles sign with the keys of before, those that are here, and with those that follow: right under both roots.
fn sign_with_both(signing: &Signing<'_>, before: &TrustedRoot, now: Timestamp) -> Result<()> {
    let (site, after) = (signing.site, &signing.root);
    // When a key of before is lost, and this was interrupted, the catalogue is right under the next root only.
    let current = under(site, before).or_else(|_| under(site, after))?;
    if signs_targets(signing, &current)? {
        return signing.change(&current, now, &[TARGETS], |_, _| {}, None);
    }
    let is_new = |role: &&str| *role != TARGETS && site.next_key_path(role).exists();
    match signing.rotating.iter().any(is_new) {
        true => signing.put_online(&current, current.files().clone(), now),
        false => Ok(()),
    }
}

/// Whether the targets must be signed anew for the next root: those of now are not, by keys that it names.
fn signs_targets(signing: &Signing<'_>, current: &SignedView) -> Result<bool> {
    if !signing.rotating.contains(&TARGETS) {
        return Ok(false);
    }
    let name = format!("{}.{TARGETS}.json", current.targets().header.version);
    let bytes = metadata(&signing.site.store, &name, METADATA_BYTES_MAX)?;
    let envelope = Envelope::parse(&bytes, &name, METADATA_BYTES_MAX)?;
    let Required { keys, threshold } = &signing.targets;
    Ok(envelope.require_signers(&name, keys, *threshold).is_err())
}

fn under(site: &Site, root: &TrustedRoot) -> Result<SignedView> {
    let store = &site.store;
    verified(root.clone(), |file, max| metadata(store, file, max))
}

/// Files of numbered keys on this machine that came with this root.
fn new_keys_here(site: &Site, before: &TrustedRoot, after: &TrustedRoot) -> Vec<PathBuf> {
    let of = |role: RoleName| {
        let [old, new] = [before, after].map(|it| role_of(it.document(), role).keyids);
        let is_new = move |id: KeyId| new.contains(&id) && !old.contains(&id);
        let all = keys::offline_keys(&site.keys(), role.as_str()).into_iter();
        let single = site.key_path(role.as_str());
        let all = all.filter(move |it| it.path != single);
        let named = all.filter(move |it| it.public.as_ref().is_some_and(|it| is_new(it.id())));
        named.map(|it| it.path).filter(|it| it.exists())
    };
    of(RoleName::Root).chain(of(RoleName::Targets)).collect()
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

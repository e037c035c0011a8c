//! The next root: with other keys for some roles, or with the same ones and another date.

use std::path::PathBuf;

use towline_contract::Timestamp;
use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::trust::metadata::{Role, RoleName, Root};
use towline_contract::trust::{Envelope, KeyId, SignedView, TrustedRoot};

use super::next_root::{next_root, read, role_of};
use super::{Change, Rotation, remove, take_over};
use crate::catalogue::change::{Signing, TARGETS, required_of_targets};
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

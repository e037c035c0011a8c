//! New keys for roles, and new dates.
//!
//! A new key waits in `keys/ROLE.key.next` until the catalogue names it; meanwhile whatever the role signs is signed by both keys.
//! So the catalogue is right before and after, also when the command is interrupted: run again, it goes on where it was. Of a
//! new key that was made elsewhere the public half alone is here, and what it must sign waits.

mod next_root;
mod progress;
mod root;

use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::{fs, io};

use towline_contract::Timestamp;
use towline_contract::plan::PLAN_ROLE;
use towline_contract::trust::metadata::{Delegations, RoleName, Targets};
use towline_contract::trust::{HOSTS_ROLE, KeyId, PublicKey, SignedView, SigningKey, role_paths};

use self::progress::Progress;
use super::change::{Signing, TARGETS, change, delegate};
use super::to_sign::Waiting;
use super::{CatalogueError, Result, newest_root, view};
use crate::keys::{self, KeyError, Signer};
use crate::site::Site;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new key for each role; for the root, new ones in place of these, or of all.
    Rotate(Vec<KeyId>),
    /// The same keys, another date.
    Renew,
}

/// How many keys a role is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Keys; none when there are to be as many as are given, or as before.
    pub keys: Option<usize>,
    /// How many must sign.
    pub threshold: u32,
}

/// A change of roles' keys, or of their dates.
pub struct Rotation<'a> {
    /// The roles, as in the catalogue. Those that the root names are changed in one root.
    pub roles: &'a [&'a str],
    /// What is to be done.
    pub change: Change,
    /// Public halves of the new keys, which were made elsewhere; none when they are to be made here. Of one role alone.
    pub new_keys: Vec<PublicKey>,
    /// How many keys the role is to have, and how many must sign; none when that stays. Of root or targets alone.
    pub size: Option<Size>,
    /// Root keys that may sign.
    pub root_keys: Vec<Signer>,
    /// Makes a new key that belongs elsewhere in the file of this name: of the root, or one of several of the targets.
    pub make_key: &'a mut dyn FnMut(&Path) -> std::result::Result<SigningKey, KeyError>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Files of new keys; those that the server does not need are to be taken away.
    pub keys: Vec<PathBuf>,
    /// Version of the root afterwards.
    pub root: u64,
}

/// Changes roles' keys or dates in the catalogue.
///
/// # Errors
/// See [`CatalogueError`]; [`CatalogueError::ToSign`] when keys that are elsewhere must sign first: then run it again.
pub fn rotate(site: &Site, mut rotation: Rotation<'_>, now: Timestamp) -> Result<Rotated> {
    let _lock = site.store.lock()?;
    let roles = rotation.roles;
    for role in roles {
        check(role, &rotation)?;
    }
    let mut keys = Vec::new();
    let mut progress = Progress::open(site, &rotation)?;
    let left: Vec<_> = roles
        .iter()
        .copied()
        .filter(|it| !progress.has(it))
        .collect();
    if left.contains(&"root") {
        keys.extend(root::change(site, &[RoleName::Root], &mut rotation, now)?);
        progress.did(&["root"], roles)?;
    }
    let (by_root, others): (Vec<_>, Vec<_>) = left
        .into_iter()
        .filter(|it| *it != "root")
        .partition(|it| top(it).is_some());
    if rotation.change == Change::Renew {
        for role in by_root.into_iter().chain(others) {
            renew(site, role, now)?;
            progress.did(&[role], roles)?;
        }
    } else {
        if !by_root.is_empty() {
            let top: Vec<_> = by_root.iter().filter_map(|role| top(role)).collect();
            keys.extend(root::change(site, &top, &mut rotation, now)?);
            progress.did(&by_root, roles)?;
        }
        if !others.is_empty() {
            keys.extend(delegated(site, &others, &rotation.new_keys, now)?);
            progress.did(&others, roles)?;
        }
    }
    let root = newest_root(&site.store)?.version();
    Ok(Rotated { keys, root })
}

/// The role of this name, if the root names its keys.
fn top(role: &str) -> Option<RoleName> {
    serde_json::from_value(role.into()).ok()
}

/// Whether there is such a role, and it can be changed like this.
fn check(role: &str, rotation: &Rotation<'_>) -> Result<()> {
    let refused = |why: String| Err(CatalogueError::Role(why));
    if top(role).is_none() && role != PLAN_ROLE && role_paths(role).is_none() {
        return refused(format!("there is no role {role:?}"));
    }
    if role == PLAN_ROLE && rotation.change == Change::Renew {
        return refused("plans live for minutes: the role has no date of its own".into());
    }
    let (given, roles) = (rotation.new_keys.len(), rotation.roles.len());
    if rotation.size.is_some() && (roles > 1 || !["root", TARGETS].contains(&role)) {
        return refused("the number of keys is changed of root alone, or of targets alone".into());
    }
    if given == 0 {
        return Ok(());
    }
    if ["snapshot", "timestamp", HOSTS_ROLE, PLAN_ROLE].contains(&role) {
        return refused(format!(
            "the server signs by itself for {role}: its new key is made there"
        ));
    }
    if roles > 1 {
        return refused(format!("new keys were given for {roles} roles at once"));
    }
    match top(role) {
        None if given > 1 => refused(format!("{role} has one key, and {given} were given")),
        _ => Ok(()),
    }
}

/// Signs a role's documents again with a new date.
fn renew(site: &Site, role: &str, now: Timestamp) -> Result<()> {
    let current = view(&site.store)?;
    match role {
        "snapshot" | "timestamp" => {
            Signing::now(site)?.put_online(&current, current.files().clone(), now)
        }
        TARGETS => change(site, &current, now, &[TARGETS], |_, _| {}),
        _ if !current.delegates_to(role) => Err(no_role(role)),
        _ => change(site, &current, now, &[role], |_, _| {}),
    }
}

/// New keys for roles that the targets name, in one document; the files of those that were made here.
fn delegated(
    site: &Site,
    roles: &[&str],
    new_keys: &[PublicKey],
    now: Timestamp,
) -> Result<Vec<PathBuf>> {
    let current = view(&site.store)?;
    if let Some(role) = roles.iter().find(|it| !current.delegates_to(it)) {
        return Err(no_role(role));
    }
    if let (&[role], [elsewhere]) = (roles, new_keys) {
        if !names(current.targets(), role, elsewhere) {
            name(site, &current, &[(role, elsewhere.clone())], now)?;
        }
        return leave(site, role, elsewhere).map(|()| Vec::new());
    }
    let waits = waiting_targets(site, &current)?;
    let mut next = Vec::new();
    for role in roles.iter().copied() {
        let left = site.next_key(role)?;
        if left.is_some_and(|key| names(current.targets(), role, &key.public())) {
            continue;
        }
        let key = next_key(site, role, |key| {
            let public = key.public();
            waits.as_ref().is_some_and(|it| names(it, role, &public))
        })?;
        next.push((role, key.public()));
    }
    if !next.is_empty() {
        name(site, &current, &next, now)?;
    }
    roles.iter().map(|role| take_over(site, role)).collect()
}

/// Has the targets name these keys for the roles, and the keys sign what the roles have signed.
fn name(
    site: &Site,
    current: &SignedView,
    keys: &[(&str, PublicKey)],
    now: Timestamp,
) -> Result<()> {
    let rotating: Vec<_> = keys.iter().map(|(role, _)| *role).collect();
    let signs = |role: &&str| current.role(role).is_some();
    let roles = rotating.iter().copied().filter(signs);
    let roles: Vec<_> = std::iter::once(TARGETS).chain(roles).collect();
    let signing = Signing {
        rotating: &rotating,
        ..Signing::now(site)?
    };
    let edit = |it: &str, document: &mut Targets| {
        if it == TARGETS {
            for (role, key) in keys {
                delegate(document, role, from_ref(key), 1);
            }
        }
    };
    signing.change(current, now, &roles, edit, None)
}

fn no_role(role: &str) -> CatalogueError {
    CatalogueError::Role(format!(
        "the catalogue has no role {role:?}; a site of older date signs all layers by its targets"
    ))
}

/// The targets that wait for a signature, if any do.
fn waiting_targets(site: &Site, current: &SignedView) -> Result<Option<Targets>> {
    let name = format!("{}.{TARGETS}.json", current.targets().header.version + 1);
    let envelope = Waiting::open(site)?.get(&name)?;
    Ok(envelope.and_then(|it| serde_json::from_value(it.signed).ok()))
}

/// Whether this is the one key that the targets name for the role.
fn names(targets: &Targets, role: &str, key: &PublicKey) -> bool {
    let delegations: Option<&Delegations> = targets.delegations.as_ref();
    let mut roles = delegations.iter().flat_map(|it| &it.roles);
    roles.any(|it| it.name == role && it.role.keyids == [key.id()])
}

/// The key that is to follow: a new one, unless something waits for the one that is there. What a change that was given up has
/// left is of no use: others may have seen it since.
fn next_key(
    site: &Site,
    role: &str,
    is_waited_for: impl Fn(&SigningKey) -> bool,
) -> Result<SigningKey> {
    let path = site.next_key_path(role);
    if let Some(left) = site.next_key(role)? {
        if is_waited_for(&left) {
            return Ok(left);
        }
        remove(&path)?;
    }
    Ok(keys::create(&path)?)
}

/// The key that followed is the role's key from now on; its file.
fn take_over(site: &Site, role: &str) -> Result<PathBuf> {
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
    // That of a key before it, which was elsewhere.
    remove(&keys::public_path(&key))?;
    Ok(key)
}

/// The role's key is elsewhere from now on: its public half stays here, and no key of before.
fn leave(site: &Site, role: &str, key: &PublicKey) -> Result<()> {
    let path = site.key_path(role);
    keys::write_public(&keys::public_path(&path), key)?;
    remove(&path)?;
    remove(&site.next_key_path(role))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(KeyError::File {
            what: "remove",
            path: path.into(),
            cause,
        })?,
        _ => Ok(()),
    }
}

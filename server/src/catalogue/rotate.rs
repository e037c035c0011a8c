//! New keys for roles, and new dates.
//!
//! A new key waits in `keys/ROLE.key.next` until the catalogue names it; meanwhile whatever the role signs is signed by both keys.
//! So the catalogue is right before and after, also when the command is interrupted: run again, it goes on where it was.

mod root;

use std::fs;
use std::path::{Path, PathBuf};

use towline_contract::Timestamp;
use towline_contract::plan::PLAN_ROLE;
use towline_contract::trust::metadata::{Delegations, RoleName, Targets};
use towline_contract::trust::{KeyId, SignedView, SigningKey, role_paths};

use super::change::{Signing, TARGETS, change, delegate};
use super::to_sign::Waiting;
use super::{CatalogueError, Result, newest_root, view};
use crate::keys::{self, KeyError};
use crate::site::Site;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new key for each role; for the root, new ones in place of these, or of all.
    Rotate(Vec<KeyId>),
    /// The same keys, another date.
    Renew,
}

/// A change of roles' keys, or of their dates.
pub struct Rotation<'a> {
    /// The roles, as in the catalogue. Those that the root names are changed in one root.
    pub roles: &'a [&'a str],
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
        check(role, &rotation.change)?;
    }
    let mut keys = Vec::new();
    if roles.contains(&"root") {
        keys.extend(root::change(site, &[RoleName::Root], &mut rotation, now)?);
    }
    let renews = rotation.change == Change::Renew;
    let top = roles.iter().filter_map(|role| top(role));
    let top: Vec<_> = top.filter(|role| *role != RoleName::Root).collect();
    if !top.is_empty() && !renews {
        keys.extend(root::change(site, &top, &mut rotation, now)?);
    }
    for role in roles.iter().copied().filter(|it| *it != "root") {
        match (renews, top.iter().any(|it| it.as_str() == role)) {
            (true, _) => renew(site, role, now)?,
            (false, true) => {}
            (false, false) => keys.push(delegated(site, role, now)?),
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
fn check(role: &str, change: &Change) -> Result<()> {
    if top(role).is_none() && role != PLAN_ROLE && role_paths(role).is_none() {
        return Err(CatalogueError::Role(format!("there is no role {role:?}")));
    }
    if role == PLAN_ROLE && *change == Change::Renew {
        let why = "plans live for minutes: the role has no date of its own";
        return Err(CatalogueError::Role(why.into()));
    }
    Ok(())
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

/// A new key for a role that the targets name; its file.
fn delegated(site: &Site, role: &str, now: Timestamp) -> Result<PathBuf> {
    let current = view(&site.store)?;
    if !current.delegates_to(role) {
        return Err(no_role(role));
    }
    let left = site.next_key(role)?;
    if left.is_some_and(|key| names(current.targets(), role, &key)) {
        return take_over(site, role);
    }
    let waits = waiting_targets(site, &current)?;
    let next = next_key(site, role, |key| {
        waits.as_ref().is_some_and(|it| names(it, role, key))
    })?;
    let roles: &[&str] = match current.role(role) {
        Some(_) => &[TARGETS, role],
        None => &[TARGETS],
    };
    let signing = Signing {
        rotating: &[role],
        ..Signing::now(site)?
    };
    let edit = |it: &str, document: &mut Targets| {
        if it == TARGETS {
            delegate(document, role, &next);
        }
    };
    signing.change(&current, now, roles, edit, None)?;
    take_over(site, role)
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
fn names(targets: &Targets, role: &str, key: &SigningKey) -> bool {
    let delegations: Option<&Delegations> = targets.delegations.as_ref();
    let mut roles = delegations.iter().flat_map(|it| &it.roles);
    roles.any(|it| it.name == role && it.role.keyids == [key.public().id()])
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
        fs::remove_file(&path).map_err(|cause| KeyError::File {
            what: "remove",
            path: path.clone(),
            cause,
        })?;
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
    Ok(key)
}

//! Signing: the first catalogue, its changes, and keeping it fresh.

use std::collections::BTreeMap;
use std::slice::from_ref;

use jiff::SignedDuration;
use serde::Serialize;
use towline_contract::Timestamp;
use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::plan::PLAN_ROLE;
use towline_contract::trust::metadata::Timestamp as TimestampFile;
use towline_contract::trust::metadata::{FileRef, RoleName, Root, Snapshot, Targets};
use towline_contract::trust::{
    BASE_ROLE, HOSTS_ROLE, SignedView, SigningKey, TIMESTAMP_FILE, TrustedRoot, role_paths, sign,
};

use super::to_sign::{self, Waiting};
use super::{CatalogueError, LEFT_OVER_MAX, Result, metadata, newest_root, verified, view};
use crate::config::ValidDays;
use crate::keys::KeyError;
use crate::site::Site;
use crate::store::{Put, Store};

/// The keys of a new site.
pub struct FirstKeys {
    /// Keys of the root role.
    pub root: Vec<SigningKey>,
    /// How many of them must sign.
    pub root_threshold: u32,
    /// Key of the targets role.
    pub targets: SigningKey,
    /// Key that signs rescue systems and kernels.
    pub base: SigningKey,
    /// Key that names hosts' keys.
    pub hosts: SigningKey,
    /// Key of the snapshot role.
    pub snapshot: SigningKey,
    /// Key of the timestamp role.
    pub timestamp: SigningKey,
    /// Key that signs plans.
    pub plan: SigningKey,
}

/// What a snapshot says of other files, by name.
type Files = BTreeMap<String, FileRef>;

/// The role that every snapshot names, and that names the others.
pub(super) const TARGETS: &str = "targets";

/// The keys that keep a catalogue fresh.
struct Online<'a> {
    snapshot: &'a [SigningKey],
    timestamp: &'a [SigningKey],
}

/// Writes the first, empty catalogue of a site.
///
/// # Errors
/// See [`CatalogueError`].
pub fn create(store: &Store, keys: &FirstKeys, valid: ValidDays, now: Timestamp) -> Result<()> {
    let mut root = Root::new(1, after_days(now, valid.root));
    let publics: Vec<_> = keys.root.iter().map(SigningKey::public).collect();
    root.set_role(RoleName::Root, &publics, keys.root_threshold);
    root.set_role(RoleName::Targets, &[keys.targets.public()], 1);
    root.set_role(RoleName::Snapshot, &[keys.snapshot.public()], 1);
    root.set_role(RoleName::Timestamp, &[keys.timestamp.public()], 1);
    let signers: Vec<_> = keys.root.iter().collect();
    store.create(
        &store.metadata_path("1.root.json"),
        &mut sign(&root, &signers)?.as_slice(),
    )?;

    let mut targets = Targets::new(1, after_days(now, valid.targets));
    delegate(&mut targets, PLAN_ROLE, &keys.plan);
    delegate(&mut targets, BASE_ROLE, &keys.base);
    delegate(&mut targets, HOSTS_ROLE, &keys.hosts);
    let mut files = Files::new();
    let mut put = |role: &str, targets: Targets, key| -> Result<()> {
        let keys = from_ref(key);
        files.insert(file_of(role), put_targets(store, role, targets, keys)?);
        Ok(())
    };
    put(TARGETS, targets, &keys.targets)?;
    for (role, key) in [(BASE_ROLE, &keys.base), (HOSTS_ROLE, &keys.hosts)] {
        let expires = after_days(now, days_of(role, valid));
        put(role, Targets::new(1, expires), key)?;
    }
    let online = Online {
        snapshot: from_ref(&keys.snapshot),
        timestamp: from_ref(&keys.timestamp),
    };
    let root = newest_root(store)?;
    put_snapshot(store, &root, (1, 1), files, &online, valid, now)
}

/// Signs snapshot and timestamp, and what names the hosts, again when less than half of their time is left; says whether it
/// did.
///
/// # Errors
/// See [`CatalogueError`].
pub fn refresh(site: &Site, now: Timestamp) -> Result<bool> {
    let valid = site.config.valid_days;
    let soon = |days: u32| now.saturating_add(SignedDuration::from_hours(i64::from(days) * 12));
    let _lock = site.store.lock()?;
    let current = view(&site.store)?;
    let (timestamp, snapshot) = current.online_expiry();
    let is_old = |expires, days| expires <= soon(days).unwrap_or(now);
    let hosts = current.role(HOSTS_ROLE).map(|it| it.header.expires);
    let hosts = match hosts.is_some_and(|it| is_old(it, days_of(HOSTS_ROLE, valid))) {
        true => change(site, &current, now, &[HOSTS_ROLE], |_, _| {}).map(|()| true),
        false => Ok(false),
    };
    // Also when the registrar's key is away: the others must not grow old with it.
    let is_due = is_old(timestamp, valid.timestamp) || is_old(snapshot, valid.snapshot);
    if is_due && !matches!(hosts, Ok(true)) {
        Signing::now(site)?.put_online(&current, current.files().clone(), now)?;
    }
    hosts.map(|signed| signed || is_due)
}

/// Signs a new document of each of `roles`, the targets role or one by kind, after `edit`; then snapshot and timestamp. The
/// caller holds the store's lock.
pub(super) fn change(
    site: &Site,
    current: &SignedView,
    now: Timestamp,
    roles: &[&str],
    edit: impl Fn(&str, &mut Targets),
) -> Result<()> {
    Signing::now(site)?.change(current, now, roles, edit, None)
}

/// With which keys a change is signed, and under which root the catalogue must be right afterwards.
pub(super) struct Signing<'a> {
    pub(super) site: &'a Site,
    pub(super) root: TrustedRoot,
    /// Roles whose next key signs without their own: the change, or the root, names it.
    pub(super) rotating: &'a [&'a str],
}

impl<'a> Signing<'a> {
    /// As the catalogue is now.
    pub(super) fn now(site: &'a Site) -> Result<Self> {
        Ok(Self {
            site,
            root: newest_root(&site.store)?,
            rotating: &[],
        })
    }

    fn keys(&self, role: &str) -> std::result::Result<Vec<SigningKey>, KeyError> {
        match (self.site.signing_keys(role), self.site.next_key(role)?) {
            (Err(error), Some(next)) if error.is_elsewhere() && self.rotating.contains(&role) => {
                Ok(vec![next])
            }
            (keys, _) => keys,
        }
    }

    /// Signs a new document of each of `roles`, as [`change`] does, with one more file in the new snapshot, or one less.
    pub(super) fn change(
        &self,
        current: &SignedView,
        now: Timestamp,
        roles: &[&str],
        edit: impl Fn(&str, &mut Targets),
        more: Option<(String, Option<FileRef>)>,
    ) -> Result<()> {
        let site = self.site;
        let signed = self.signed(current, now, roles, edit)?;
        let mut files = current.files().clone();
        match more {
            Some((name, Some(file))) => files.extend([(name, file)]),
            Some((name, None)) => files.retain(|it, _| *it != name),
            None => {}
        }
        for (role, document, by) in &signed {
            let reference = match by {
                Signed::Here(keys) => put_targets(&site.store, role, document.clone(), keys)?,
                Signed::Elsewhere(bytes) => put_signed(&site.store, role, document, bytes)?,
            };
            files.insert(file_of(role), reference);
        }
        self.put_online(current, files, now)?;
        for (role, document, _) in &signed {
            to_sign::forget(site, &numbered(role, document.header.version))?;
        }
        Ok(())
    }

    /// All the signatures, before anything is written.
    fn signed<'r>(
        &self,
        current: &SignedView,
        now: Timestamp,
        roles: &[&'r str],
        edit: impl Fn(&str, &mut Targets),
    ) -> Result<Vec<(&'r str, Targets, Signed)>> {
        let site = self.site;
        let (mut signed, mut lacking) = (Vec::new(), Vec::new());
        for role in roles {
            let mut document = next_document(site, current, role, now);
            edit(role, &mut document);
            match self.keys(role) {
                Err(error) if error.is_elsewhere() && *role != HOSTS_ROLE => {
                    let waiting = Waiting::open(site)?;
                    match waiting.targets(site, current, role, &document, now)? {
                        Ok(bytes) => signed.push((*role, document, Signed::Elsewhere(bytes))),
                        Err(to_sign) => lacking.push(to_sign),
                    }
                }
                keys => signed.push((*role, document, Signed::Here(keys?))),
            }
        }
        match lacking.is_empty() {
            true => Ok(signed),
            false => Err(CatalogueError::ToSign(lacking)),
        }
    }

    /// Signs a snapshot that names `files`, and the timestamp. The caller holds the store's lock.
    pub(super) fn put_online(
        &self,
        current: &SignedView,
        files: Files,
        now: Timestamp,
    ) -> Result<()> {
        let online = Online {
            snapshot: &self.keys("snapshot")?,
            timestamp: &self.keys("timestamp")?,
        };
        let versions = (
            current.snapshot_version() + 1,
            current.timestamp_version() + 1,
        );
        let valid = self.site.config.valid_days;
        put_snapshot(
            &self.site.store,
            &self.root,
            versions,
            files,
            &online,
            valid,
            now,
        )
    }
}

/// Who signs a document.
enum Signed {
    /// Keys of this machine.
    Here(Vec<SigningKey>),
    /// Others did: its bytes.
    Elsewhere(Vec<u8>),
}

/// The document that follows the role's current one, not changed yet.
fn next_document(site: &Site, current: &SignedView, role: &str, now: Timestamp) -> Targets {
    let mut document = match (role, current.role(role)) {
        (TARGETS, _) => current.targets().clone(),
        (_, Some(document)) => document.clone(),
        _ => Targets::new(0, now),
    };
    document.header.version += 1;
    document.header.expires = after_days(now, days_of(role, site.config.valid_days));
    document
}

/// `document` signed by the keys of `role` on this machine.
pub(super) fn signed(site: &Site, role: &str, document: &impl Serialize) -> Result<Vec<u8>> {
    let keys = site.signing_keys(role)?;
    let keys: Vec<_> = keys.iter().collect();
    Ok(sign(document, &keys)?)
}

/// Has the targets delegate to this role by kind.
pub(super) fn delegate(targets: &mut Targets, role: &str, key: &SigningKey) {
    let paths = match role {
        PLAN_ROLE => vec!["plan/*".into()],
        _ => role_paths(role).unwrap_or_default(),
    };
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    targets.set_delegation(role, &[key.public()], 1, &paths);
}

/// A role's name in a snapshot.
fn file_of(role: &str) -> String {
    format!("{role}.json")
}

/// How long a role's document is valid: what the server signs by itself for as long as its snapshot, all else for longer.
fn days_of(role: &str, valid: ValidDays) -> u32 {
    match role {
        HOSTS_ROLE => valid.snapshot,
        _ => valid.targets,
    }
}

/// Writes targets under the first free number from its own on.
fn put_targets(
    store: &Store,
    role: &str,
    mut targets: Targets,
    keys: &[SigningKey],
) -> Result<FileRef> {
    let keys: Vec<_> = keys.iter().collect();
    let first = targets.header.version;
    for version in first..first + LEFT_OVER_MAX {
        targets.header.version = version;
        let bytes = small_enough(sign(&targets, &keys)?, role)?;
        let path = store.metadata_path(&numbered(role, version));
        if store.create(&path, &mut bytes.as_slice())? == Put::Created {
            return Ok(FileRef::of(version, &bytes));
        }
    }
    Err(CatalogueError::NoNumber(role.into()))
}

/// Writes targets that were signed elsewhere under their own number. What an interrupted change left there, no snapshot names.
fn put_signed(store: &Store, role: &str, targets: &Targets, bytes: &[u8]) -> Result<FileRef> {
    let version = targets.header.version;
    store.replace(&store.metadata_path(&numbered(role, version)), bytes)?;
    Ok(FileRef::of(version, bytes))
}

/// Name of a version of a role's file.
fn numbered(role: &str, version: u64) -> String {
    format!("{version}.{role}.json")
}

/// Writes a snapshot under the first free number, then moves the timestamp to it.
fn put_snapshot(
    store: &Store,
    root: &TrustedRoot,
    (first, timestamp_version): (u64, u64),
    files: Files,
    keys: &Online<'_>,
    valid: ValidDays,
    now: Timestamp,
) -> Result<()> {
    let Some(targets) = files.get(&file_of(TARGETS)).cloned() else {
        return Err(CatalogueError::Missing(file_of(TARGETS)));
    };
    let mut snapshot = Snapshot::new(first, after_days(now, valid.snapshot), targets);
    snapshot.meta = files;
    for version in first..first + LEFT_OVER_MAX {
        snapshot.header.version = version;
        let by: Vec<_> = keys.snapshot.iter().collect();
        let bytes = small_enough(sign(&snapshot, &by)?, "snapshot")?;
        let path = store.metadata_path(&numbered("snapshot", version));
        if store.create(&path, &mut bytes.as_slice())? == Put::Created {
            let reference = FileRef::of(version, &bytes);
            let expires = after_days(now, valid.timestamp);
            let timestamp = TimestampFile::new(timestamp_version, expires, reference);
            let by: Vec<_> = keys.timestamp.iter().collect();
            let bytes = sign(&timestamp, &by)?;
            // As machines read it: what is not right is never named.
            verified(root.clone(), |file, max| match file {
                TIMESTAMP_FILE => Ok(bytes.clone()),
                file => metadata(store, file, max),
            })?;
            return Ok(store.replace(&store.metadata_path(TIMESTAMP_FILE), &bytes)?);
        }
    }
    Err(CatalogueError::NoNumber("snapshot".into()))
}

/// What machines would not read is not written.
fn small_enough(bytes: Vec<u8>, role: &str) -> Result<Vec<u8>> {
    let found = bytes.len() as u64;
    match found <= METADATA_BYTES_MAX {
        true => Ok(bytes),
        false => Err(CatalogueError::TooLarge {
            role: role.into(),
            found,
        }),
    }
}

/// `days` after `now`; the end of time when there are too many.
pub(super) fn after_days(now: Timestamp, days: u32) -> Timestamp {
    now.saturating_add(SignedDuration::from_hours(i64::from(days) * 24))
        .unwrap_or(Timestamp::MAX)
}

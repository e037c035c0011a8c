//! Signing: the first catalogue, its changes, and keeping it fresh.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use towline_contract::Timestamp;
use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::plan::PLAN_ROLE;
use towline_contract::trust::metadata::Timestamp as TimestampFile;
use towline_contract::trust::metadata::{FileRef, RoleName, Root, Snapshot, Targets};
use towline_contract::trust::{SignedView, SigningKey, TIMESTAMP_FILE, sign};

use super::{CatalogueError, LEFT_OVER_MAX, Result, view};
use crate::config::ValidDays;
use crate::keys;
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
    /// Key of the snapshot role.
    pub snapshot: SigningKey,
    /// Key of the timestamp role.
    pub timestamp: SigningKey,
    /// Key that signs plans.
    pub plan: SigningKey,
}

/// What a snapshot says of other files, by name.
type Files = BTreeMap<String, FileRef>;

/// The one that each snapshot names.
const TARGETS_FILE: &str = "targets.json";

/// The keys that keep a catalogue fresh.
struct Online<'a> {
    snapshot: &'a SigningKey,
    timestamp: &'a SigningKey,
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
    targets.set_delegation(PLAN_ROLE, &[keys.plan.public()], 1, &["plan/*"]);
    let targets = put_targets(store, targets, &keys.targets)?;
    let online = Online {
        snapshot: &keys.snapshot,
        timestamp: &keys.timestamp,
    };
    let files = Files::from([(TARGETS_FILE.into(), targets)]);
    put_snapshot(store, 1, 1, files, &online, valid, now)
}

/// Signs snapshot and timestamp again when less than half of their time is left; says whether it did.
///
/// # Errors
/// See [`CatalogueError`].
pub fn refresh(site: &Site, now: Timestamp) -> Result<bool> {
    let valid = site.config.valid_days;
    let soon = |days: u32| now.saturating_add(SignedDuration::from_hours(i64::from(days) * 12));
    let _lock = site.store.lock()?;
    let current = view(&site.store)?;
    let (timestamp, snapshot) = current.online_expiry();
    if timestamp > soon(valid.timestamp).unwrap_or(now)
        && snapshot > soon(valid.snapshot).unwrap_or(now)
    {
        return Ok(false);
    }
    put_online(site, &current, current.files().clone(), now)?;
    Ok(true)
}

/// Signs a new targets file after `edit`, then snapshot and timestamp. The caller holds the store's lock.
pub(super) fn change(
    site: &Site,
    current: &SignedView,
    now: Timestamp,
    edit: impl FnOnce(&mut Targets),
) -> Result<()> {
    let key = keys::read(&site.key_path("targets"))?;
    let mut targets = current.targets().clone();
    targets.header.version += 1;
    targets.header.expires = after_days(now, site.config.valid_days.targets);
    edit(&mut targets);
    let reference = put_targets(&site.store, targets, &key)?;
    let mut files = current.files().clone();
    files.insert(TARGETS_FILE.into(), reference);
    put_online(site, current, files, now)
}

/// Signs a snapshot that names `files`, and the timestamp. The caller holds the store's lock.
pub(super) fn put_online(
    site: &Site,
    current: &SignedView,
    files: Files,
    now: Timestamp,
) -> Result<()> {
    let (snapshot, timestamp) = (
        keys::read(&site.key_path("snapshot"))?,
        keys::read(&site.key_path("timestamp"))?,
    );
    let online = Online {
        snapshot: &snapshot,
        timestamp: &timestamp,
    };
    let (snapshot, timestamp) = (
        current.snapshot_version() + 1,
        current.timestamp_version() + 1,
    );
    put_snapshot(
        &site.store,
        snapshot,
        timestamp,
        files,
        &online,
        site.config.valid_days,
        now,
    )
}

/// Writes targets under the first free number from its own on.
fn put_targets(store: &Store, mut targets: Targets, key: &SigningKey) -> Result<FileRef> {
    let first = targets.header.version;
    for version in first..first + LEFT_OVER_MAX {
        targets.header.version = version;
        let bytes = small_enough(sign(&targets, &[key])?, RoleName::Targets)?;
        let path = store.metadata_path(&format!("{version}.targets.json"));
        if store.create(&path, &mut bytes.as_slice())? == Put::Created {
            return Ok(FileRef::of(version, &bytes));
        }
    }
    Err(CatalogueError::NoNumber(RoleName::Targets))
}

/// Writes a snapshot under the first free number, then moves the timestamp to it.
fn put_snapshot(
    store: &Store,
    first: u64,
    timestamp_version: u64,
    files: Files,
    keys: &Online<'_>,
    valid: ValidDays,
    now: Timestamp,
) -> Result<()> {
    let Some(targets) = files.get(TARGETS_FILE).cloned() else {
        return Err(CatalogueError::Missing(TARGETS_FILE.into()));
    };
    let mut snapshot = Snapshot::new(first, after_days(now, valid.snapshot), targets);
    snapshot.meta = files;
    for version in first..first + LEFT_OVER_MAX {
        snapshot.header.version = version;
        let bytes = small_enough(sign(&snapshot, &[keys.snapshot])?, RoleName::Snapshot)?;
        let path = store.metadata_path(&format!("{version}.snapshot.json"));
        if store.create(&path, &mut bytes.as_slice())? == Put::Created {
            let reference = FileRef::of(version, &bytes);
            let expires = after_days(now, valid.timestamp);
            let timestamp = TimestampFile::new(timestamp_version, expires, reference);
            let bytes = sign(&timestamp, &[keys.timestamp])?;
            return Ok(store.replace(&store.metadata_path(TIMESTAMP_FILE), &bytes)?);
        }
    }
    Err(CatalogueError::NoNumber(RoleName::Snapshot))
}

/// What machines would not read is not written.
fn small_enough(bytes: Vec<u8>, role: RoleName) -> Result<Vec<u8>> {
    let found = bytes.len() as u64;
    match found <= METADATA_BYTES_MAX {
        true => Ok(bytes),
        false => Err(CatalogueError::TooLarge { role, found }),
    }
}

/// `days` after `now`; the end of time when there are too many.
fn after_days(now: Timestamp, days: u32) -> Timestamp {
    now.saturating_add(SignedDuration::from_hours(i64::from(days) * 24))
        .unwrap_or(Timestamp::MAX)
}

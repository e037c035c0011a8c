//! The catalogue: TUF metadata in the store, made, changed and kept fresh.
//!
//! Every change writes new numbered files and then moves `timestamp.json`; until that, nothing has changed. A number left
//! over from an interrupted change is skipped, never written over.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::SignedDuration;
use towline_contract::Timestamp;
use towline_contract::limits::{MANIFEST_BYTES_MAX, METADATA_BYTES_MAX, ROOT_BYTES_MAX};
use towline_contract::manifest::{Kind, Manifest, ManifestError};
use towline_contract::plan::PLAN_ROLE;
use towline_contract::trust::metadata::Timestamp as TimestampFile;
use towline_contract::trust::metadata::{FileRef, RoleName, Root, Snapshot, TargetFile, Targets};
use towline_contract::trust::{
    SignedView, SigningKey, TIMESTAMP_FILE, TargetName, TrustError, TrustedRoot, sign,
};

use crate::config::ValidDays;
use crate::keys::{self, KeyError};
use crate::site::Site;
use crate::store::{Put, Store, StoreError};

/// Numbers that an interrupted change may have left over before one is free.
const LEFT_OVER_MAX: u64 = 1000;

/// Why the catalogue cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file that should be there is not.
    #[error("the store has no {0}")]
    Missing(String),
    /// See the cause.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalogue in the store does not verify, or cannot be signed.
    #[error("the catalogue in the store is not trusted")]
    Trust(#[from] TrustError),
    /// See the cause.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A manifest in the store cannot be read.
    #[error("the manifest of {target} in the store cannot be used")]
    Manifest {
        /// The layer.
        target: String,
        /// Why.
        #[source]
        cause: ManifestError,
    },
    /// Another layer has that name and version.
    #[error("{target} is published already with digest {published}, and this one has {found}")]
    Taken {
        /// The layer.
        target: String,
        /// Digest in the catalogue.
        published: String,
        /// Digest of the new one.
        found: String,
    },
    /// Nothing has that name and version.
    #[error("no layer {name} {version} is published")]
    Unknown {
        /// Name asked for.
        name: String,
        /// Version asked for.
        version: String,
    },
    /// No number is free.
    #[error("{LEFT_OVER_MAX} numbers of {0} are taken by interrupted changes")]
    NoNumber(RoleName),
}

type Result<T> = std::result::Result<T, CatalogueError>;

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
    put_snapshot(store, 1, 1, targets, &online, valid, now)
}

/// The keys that keep a catalogue fresh.
struct Online<'a> {
    snapshot: &'a SigningKey,
    timestamp: &'a SigningKey,
}

/// The catalogue as it is now: verified from the store's first root on, as a machine would.
///
/// # Errors
/// See [`CatalogueError`].
pub fn view(store: &Store) -> Result<SignedView> {
    let mut root = TrustedRoot::from_stamp(&metadata(store, "1.root.json", ROOT_BYTES_MAX)?)?;
    while let Some(bytes) = store.read(&store.metadata_path(&root.next_file()), root.max_bytes())? {
        root = root.rotate(&bytes)?;
    }
    let max = root.timestamp_max_bytes();
    let timestamp = root.timestamp(&metadata(store, TIMESTAMP_FILE, max)?)?;
    let bytes = metadata(store, &timestamp.next_file(), timestamp.max_bytes())?;
    let snapshot = timestamp.snapshot(&bytes)?;
    let bytes = metadata(store, &snapshot.next_file(), snapshot.max_bytes())?;
    Ok(snapshot.targets(&bytes)?)
}

/// A layer of the catalogue with its manifest.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its name.
    pub target: TargetName,
    /// What it is.
    pub manifest: Manifest,
}

/// The layers of `view` with their manifests, by kind, name and version.
///
/// # Errors
/// A manifest is missing or damaged.
pub fn layers(store: &Store, view: &SignedView) -> Result<Vec<Published>> {
    let read = |(name, file): (&String, &TargetFile)| {
        let custom = file
            .layer()
            .ok_or_else(|| CatalogueError::Missing(format!("manifest of {name}")))?;
        let digest = custom.manifest.sha256;
        let bytes = store.read(&store.manifest_path(&digest), MANIFEST_BYTES_MAX)?;
        let bytes = bytes.filter(|bytes| towline_contract::Digest::of(bytes) == digest);
        let bytes =
            bytes.ok_or_else(|| CatalogueError::Missing(format!("manifest {digest} of {name}")))?;
        let manifest = Manifest::parse(&bytes).map_err(|cause| CatalogueError::Manifest {
            target: name.clone(),
            cause,
        })?;
        let target = name
            .parse()
            .map_err(|_| CatalogueError::Missing(format!("layer named {name}")))?;
        Ok(Published { target, manifest })
    };
    // The catalogue may hold files that are no layers; those are not ours.
    view.layers()
        .iter()
        .filter(|(_, file)| file.layer().is_some())
        .map(read)
        .collect()
}

/// A layer to publish: a file and its manifest.
#[derive(Clone, Debug)]
pub struct NewLayer<'a> {
    /// The stored bytes.
    pub path: &'a Path,
    /// What it is.
    pub manifest: Manifest,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
}

/// Stores layers and signs them into the catalogue; returns those that were new. They must have been verified.
///
/// # Errors
/// See [`CatalogueError`]. A name and version that is taken by other bytes is refused, and nothing is changed.
pub fn publish(site: &Site, new: &[NewLayer<'_>], now: Timestamp) -> Result<Vec<String>> {
    let store = &site.store;
    let _lock = store.lock()?;
    let current = view(store)?;
    let mut added = Vec::new();
    for layer in new {
        let target = layer.manifest.target_name();
        match current.layers().get(&target).and_then(TargetFile::sha256) {
            Some(published) if published == layer.manifest.digest => {}
            Some(published) => {
                let (published, found) = (published.to_string(), layer.manifest.digest.to_string());
                return Err(CatalogueError::Taken {
                    target,
                    published,
                    found,
                });
            }
            None => added.push((target, layer)),
        }
    }
    for (_, layer) in &added {
        put_layer(store, layer)?;
    }
    if !added.is_empty() {
        change(site, &current, now, |targets| {
            for (target, layer) in &added {
                let file = TargetFile::of_layer(&layer.manifest, &layer.manifest_bytes);
                targets.insert(target.clone(), file);
            }
        })?;
    }
    Ok(added.into_iter().map(|(target, _)| target).collect())
}

/// Takes the layers called `name` with `version` out of the catalogue; returns their targets. Their bytes stay in the
/// store: machines that boot just now may still fetch them.
///
/// # Errors
/// See [`CatalogueError`].
pub fn retire(
    site: &Site,
    kind: Option<Kind>,
    name: &str,
    version: &str,
    now: Timestamp,
) -> Result<Vec<String>> {
    let _lock = site.store.lock()?;
    let current = view(&site.store)?;
    let matches = |target: &TargetName| {
        target.name == name
            && target.version == version
            && kind.is_none_or(|kind| kind == target.kind)
    };
    let gone: Vec<String> = current
        .layers()
        .keys()
        .filter(|key| key.parse().is_ok_and(|target| matches(&target)))
        .cloned()
        .collect();
    if gone.is_empty() {
        return Err(CatalogueError::Unknown {
            name: name.into(),
            version: version.into(),
        });
    }
    change(site, &current, now, |targets| {
        targets.retain(|key, _| !gone.contains(key))
    })?;
    Ok(gone)
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
    let version = current.targets().header.version;
    let bytes = metadata(
        &site.store,
        &format!("{version}.targets.json"),
        METADATA_BYTES_MAX,
    )?;
    put_online(site, &current, FileRef::of(version, &bytes), now)?;
    Ok(true)
}

/// Signs a new targets file after `edit`, then snapshot and timestamp.
fn change(
    site: &Site,
    current: &SignedView,
    now: Timestamp,
    edit: impl FnOnce(&mut BTreeMap<String, TargetFile>),
) -> Result<()> {
    let key = keys::read(&site.key_path("targets"))?;
    let mut targets = current.targets().clone();
    targets.header.version += 1;
    targets.header.expires = after_days(now, site.config.valid_days.targets);
    edit(&mut targets.targets);
    let reference = put_targets(&site.store, targets, &key)?;
    put_online(site, current, reference, now)
}

fn put_online(site: &Site, current: &SignedView, targets: FileRef, now: Timestamp) -> Result<()> {
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
        targets,
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
        let bytes = sign(&targets, &[key])?;
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
    targets: FileRef,
    keys: &Online<'_>,
    valid: ValidDays,
    now: Timestamp,
) -> Result<()> {
    let mut snapshot = Snapshot::new(first, after_days(now, valid.snapshot), targets);
    for version in first..first + LEFT_OVER_MAX {
        snapshot.header.version = version;
        let bytes = sign(&snapshot, &[keys.snapshot])?;
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

fn put_layer(store: &Store, layer: &NewLayer<'_>) -> Result<()> {
    let path = store.layer_path(&layer.manifest.digest);
    let missing = |_| CatalogueError::Missing(layer.path.display().to_string());
    let mut file = std::fs::File::open(layer.path).map_err(missing)?;
    store.create(&path, &mut file)?;
    let digest = towline_contract::Digest::of(&layer.manifest_bytes);
    store.create(
        &store.manifest_path(&digest),
        &mut layer.manifest_bytes.as_slice(),
    )?;
    Ok(())
}

fn metadata(store: &Store, file: &str, max: u64) -> Result<Vec<u8>> {
    let bytes = store.read(&store.metadata_path(file), max)?;
    bytes.ok_or_else(|| CatalogueError::Missing(file.into()))
}

/// `days` after `now`; the end of time when there are too many.
fn after_days(now: Timestamp, days: u32) -> Timestamp {
    now.saturating_add(SignedDuration::from_hours(i64::from(days) * 24))
        .unwrap_or(Timestamp::MAX)
}

//! Writing: each document under its own number, the timestamp last, once the whole is right as machines read it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use towline_contract::Timestamp;
use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::trust::metadata::Timestamp as TimestampFile;
use towline_contract::trust::metadata::{FileRef, Snapshot, Targets};
use towline_contract::trust::{HOSTS_ROLE, SigningKey, TIMESTAMP_FILE, TrustedRoot, sign};

use super::change::TARGETS;
use super::{CatalogueError, LEFT_OVER_MAX, Result, metadata, verified};
use crate::config::ValidDays;
use crate::store::{Put, Store};

/// What a snapshot says of other files, by name.
pub(super) type Files = BTreeMap<String, FileRef>;

/// The keys that keep a catalogue fresh.
pub(super) struct Online<'a> {
    pub(super) snapshot: &'a [SigningKey],
    pub(super) timestamp: &'a [SigningKey],
}

/// A role's name in a snapshot.
pub(super) fn file_of(role: &str) -> String {
    format!("{role}.json")
}

/// How long a role's document is valid: what the server signs by itself for as long as its snapshot, all else for longer.
pub(super) fn days_of(role: &str, valid: ValidDays) -> u32 {
    match role {
        HOSTS_ROLE => valid.snapshot,
        _ => valid.targets,
    }
}

/// Writes targets under the first free number from its own on.
pub(super) fn put_targets(
    store: &Store,
    role: &str,
    mut targets: Targets,
    keys: &[&SigningKey],
) -> Result<FileRef> {
    let first = targets.header.version;
    for version in first..first + LEFT_OVER_MAX {
        targets.header.version = version;
        let bytes = small_enough(sign(&targets, keys)?, role)?;
        let path = store.metadata_path(&numbered(role, version));
        if store.create(&path, &mut bytes.as_slice())? == Put::Created {
            return Ok(FileRef::of(version, &bytes));
        }
    }
    Err(CatalogueError::NoNumber(role.into()))
}

/// Writes targets that were signed elsewhere under their own number. What an interrupted change left there, no snapshot names.
pub(super) fn put_signed(
    store: &Store,
    role: &str,
    targets: &Targets,
    bytes: &[u8],
) -> Result<FileRef> {
    let version = targets.header.version;
    store.replace(&store.metadata_path(&numbered(role, version)), bytes)?;
    Ok(FileRef::of(version, bytes))
}

/// Name of a version of a role's file.
pub(super) fn numbered(role: &str, version: u64) -> String {
    format!("{version}.{role}.json")
}

/// Writes a snapshot under the first free number, then moves the timestamp to it.
pub(super) fn put_snapshot(
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

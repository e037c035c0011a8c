//! Rollback against what a client trusted before: for clients that keep their files. A medium keeps none; what these checks
//! do elsewhere, the plan's nonce does there.
//!
//! A stored file counts only while the *current* root still names its keys: one whose keys were rotated away is no evidence,
//! which is how a repository recovers after a thief of its keys has signed versions of the far future.

use super::envelope::Envelope;
use super::error::TrustError;
use super::metadata::{FileRef, RoleName, Snapshot};
use super::view::{TrustedRoot, TrustedSnapshot, TrustedTimestamp, check_header};
use crate::Digest;
use crate::limits::METADATA_BYTES_MAX;

/// A snapshot that was trusted before, whatever timestamp names now.
#[derive(Clone, Debug)]
pub struct StoredSnapshot(Snapshot);

impl TrustedRoot {
    /// A snapshot from earlier, for [`TrustedSnapshot::not_before`].
    ///
    /// # Errors
    /// Not signed by the keys that this root names for snapshots, or malformed: then there is nothing to compare with.
    pub fn stored_snapshot(&self, bytes: &[u8]) -> Result<StoredSnapshot, TrustError> {
        let what = "the stored snapshot";
        let envelope = Envelope::parse(bytes, what, METADATA_BYTES_MAX)?;
        let snapshot: Snapshot = self.take(envelope, RoleName::Snapshot, what)?;
        check_header(&snapshot.header, what)?;
        Ok(StoredSnapshot(snapshot))
    }
}

impl TrustedTimestamp {
    /// Which timestamp to go on with, when `stored` was trusted before: the new one, or the stored one if both are of one
    /// version, for a version has one content.
    ///
    /// # Errors
    /// [`TrustError::Rollback`]: the new one, or the snapshot it names, is older.
    pub fn after(self, stored: Option<Self>) -> Result<Self, TrustError> {
        let Some(stored) = stored else {
            return Ok(self);
        };
        let version = |it: &Self| it.timestamp.header.version;
        not_older("timestamp.json", version(&self), version(&stored))?;
        if version(&self) == version(&stored) {
            return Ok(stored);
        }
        let (found, before) = (self.snapshot.version, stored.snapshot.version);
        not_older("snapshot.json", found, before)?;
        Ok(self)
    }

    /// SHA-256 of the timestamp file.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.timestamp_digest
    }
}

impl TrustedSnapshot {
    /// This snapshot, unless a file that `stored`, which was trusted before, names is older now, or gone.
    ///
    /// # Errors
    /// [`TrustError::Rollback`], or [`TrustError::Malformed`] for a file that is gone.
    pub fn not_before(self, stored: &StoredSnapshot) -> Result<Self, TrustError> {
        let what = "snapshot.json";
        let version = |it: &Snapshot| it.header.version;
        not_older(what, version(&self.snapshot), version(&stored.0))?;
        for (file, FileRef { version, .. }) in &stored.0.meta {
            let now = self.snapshot.meta.get(file);
            let now = now.ok_or_else(|| TrustError::Malformed {
                what: what.into(),
                why: format!("it names {file:?} no more"),
            })?;
            not_older(file, now.version, *version)?;
        }
        Ok(self)
    }
}

fn not_older(what: &str, found: u64, stored: u64) -> Result<(), TrustError> {
    if found >= stored {
        return Ok(());
    }
    Err(TrustError::Rollback {
        what: what.escape_debug().to_string(),
        found,
        stored,
    })
}

//! The documents that a view is made of, for showing and for making their next versions.

use super::SignedView;
use crate::trust::metadata::{Header, Root, Snapshot, Targets};
use crate::{Digest, Timestamp};

impl SignedView {
    /// The root document.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The targets document, without what hosts sign.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Version of the timestamp.
    #[must_use]
    pub fn timestamp_version(&self) -> u64 {
        self.timestamp.header.version
    }

    /// Version of the snapshot.
    #[must_use]
    pub fn snapshot_version(&self) -> u64 {
        self.snapshot.header.version
    }

    /// The snapshot document.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// When timestamp and snapshot expire: what a server signs again in time.
    #[must_use]
    pub fn online_expiry(&self) -> (Timestamp, Timestamp) {
        (self.timestamp.header.expires, self.snapshot.header.expires)
    }

    /// SHA-256 of the timestamp file.
    #[must_use]
    pub fn timestamp_digest(&self) -> &Digest {
        &self.timestamp_digest
    }

    /// Role, version and expiry of each top role's document.
    #[must_use]
    pub fn headers(&self) -> [&Header; 4] {
        [
            &self.root.header,
            &self.timestamp.header,
            &self.snapshot.header,
            &self.targets.header,
        ]
    }
}

//! The client: from a stamped root to a catalogue whose signatures, versions, lengths and digests are right.
//!
//! It follows section 5 of the TUF specification with two differences, both because a medium has no memory: versions are
//! compared with those that the documents themselves name, not with stored ones, and dates are checked last, against the
//! time in a signed plan that echoes a fresh nonce. Every type says which file to fetch next and how large it may be.

mod documents;

use std::collections::BTreeMap;

use super::envelope::{Envelope, Signers};
use super::error::TrustError;
use super::file::{check_file, file_ref, max_bytes};
use super::metadata::{FileRef, Header, RoleName, Root, Snapshot, TargetFile, Targets, Timestamp};
use super::search::signed_targets;
use super::signers::{one_role, root_signers};
use crate::Digest;
use crate::limits::{
    METADATA_BYTES_MAX, ROOT_BYTES_MAX, ROOT_ROTATIONS_MAX, TIMESTAMP_BYTES_MAX, VERSION_MAX,
};

/// The one metadata file without a version in its name.
pub const TIMESTAMP_FILE: &str = "timestamp.json";

/// A root that is trusted: the stamped one, or one that the chain of rotations led to.
#[derive(Clone, Debug)]
pub struct TrustedRoot {
    root: Root,
    rotations: u32,
}

impl TrustedRoot {
    /// Trusts the root from the stamp, which whoever holds the medium has chosen. It must be signed by its own keys.
    ///
    /// # Errors
    /// No well-formed root, or not signed by as many of its own keys as it asks for.
    pub fn from_stamp(bytes: &[u8]) -> Result<Self, TrustError> {
        let what = "the stamped root";
        let envelope = Envelope::parse(bytes, what, ROOT_BYTES_MAX)?;
        let root = read_root(&envelope, what)?;
        envelope.verify(what, &root_signers(&root, RoleName::Root, what)?)?;
        Ok(Self { root, rotations: 0 })
    }

    /// Version of this root.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.root.header.version
    }

    /// Name of the next version's file, `N.root.json`. When the server does not have it, this root is the newest: go on
    /// with [`TIMESTAMP_FILE`].
    #[must_use]
    pub fn next_file(&self) -> String {
        format!("{}.root.json", self.version().saturating_add(1))
    }

    /// Most bytes to read of [`Self::next_file`].
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        ROOT_BYTES_MAX
    }

    /// Most bytes to read of [`TIMESTAMP_FILE`].
    #[must_use]
    pub fn timestamp_max_bytes(&self) -> u64 {
        TIMESTAMP_BYTES_MAX
    }

    /// Follows one rotation: `bytes` is the next version, signed by this root's keys and by its own.
    ///
    /// # Errors
    /// Not signed by both, not the very next version, or one rotation too many.
    pub fn rotate(self, bytes: &[u8]) -> Result<Self, TrustError> {
        if self.rotations == ROOT_ROTATIONS_MAX {
            let max = ROOT_ROTATIONS_MAX;
            return Err(TrustError::TooManyRotations { max });
        }
        let wanted = self.version().saturating_add(1);
        let what = self.next_file();
        let envelope = Envelope::parse(bytes, &what, ROOT_BYTES_MAX)?;
        envelope.verify(&what, &root_signers(&self.root, RoleName::Root, &what)?)?;
        let root = read_root(&envelope, &what)?;
        envelope.verify(&what, &root_signers(&root, RoleName::Root, &what)?)?;
        require_version(&what, root.header.version, wanted)?;
        Ok(Self {
            root,
            rotations: self.rotations + 1,
        })
    }

    /// Takes `timestamp.json`.
    ///
    /// # Errors
    /// Not signed by the timestamp role's keys, or malformed.
    pub fn timestamp(self, bytes: &[u8]) -> Result<TrustedTimestamp, TrustError> {
        let envelope = Envelope::parse(bytes, TIMESTAMP_FILE, TIMESTAMP_BYTES_MAX)?;
        let timestamp: Timestamp = self.take(envelope, RoleName::Timestamp, TIMESTAMP_FILE)?;
        check_header(&timestamp.header, TIMESTAMP_FILE)?;
        let snapshot = file_ref(&timestamp.meta, "snapshot.json", TIMESTAMP_FILE)?.clone();
        Ok(TrustedTimestamp {
            root: self,
            timestamp,
            timestamp_digest: Digest::of(bytes),
            snapshot,
        })
    }

    /// Targets that are signed by this root's keys, whatever snapshot they belong to: for those who make the snapshot.
    ///
    /// # Errors
    /// Not signed by the targets role's keys, or malformed.
    pub fn targets_to_publish(&self, bytes: &[u8]) -> Result<Targets, TrustError> {
        let what = "targets.json";
        self.read_targets(Envelope::parse(bytes, what, METADATA_BYTES_MAX)?, what)
    }

    /// The root document, for showing and for making its next version.
    #[must_use]
    pub fn document(&self) -> &Root {
        &self.root
    }

    fn read_targets(&self, envelope: Envelope, what: &str) -> Result<Targets, TrustError> {
        let signers = root_signers(&self.root, RoleName::Targets, what)?;
        signed_targets(envelope, what, &signers)
    }

    /// The document in `envelope`, once the keys of `role` are seen to have signed it.
    pub(super) fn take<T: serde::de::DeserializeOwned>(
        &self,
        envelope: Envelope,
        role: RoleName,
        what: &str,
    ) -> Result<T, TrustError> {
        envelope.verify(what, &root_signers(&self.root, role, what)?)?;
        envelope.require_type(what, role.as_str())?;
        envelope.read(what)
    }
}

/// A timestamp under a trusted root.
#[derive(Clone, Debug)]
pub struct TrustedTimestamp {
    root: TrustedRoot,
    pub(super) timestamp: Timestamp,
    pub(super) timestamp_digest: Digest,
    pub(super) snapshot: FileRef,
}

impl TrustedTimestamp {
    /// Name of the file to fetch next, `N.snapshot.json`.
    #[must_use]
    pub fn next_file(&self) -> String {
        format!("{}.snapshot.json", self.snapshot.version)
    }

    /// Most bytes to read of it.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        max_bytes(&self.snapshot)
    }

    /// Takes the snapshot.
    ///
    /// # Errors
    /// Not the file that the timestamp names, not signed by the snapshot role's keys, or malformed.
    pub fn snapshot(self, bytes: &[u8]) -> Result<TrustedSnapshot, TrustError> {
        let what = self.next_file();
        let envelope = Envelope::parse(bytes, &what, self.max_bytes())?;
        check_file(&what, &self.snapshot, bytes)?;
        let snapshot: Snapshot = self.root.take(envelope, RoleName::Snapshot, &what)?;
        check_header(&snapshot.header, &what)?;
        require_version(&what, snapshot.header.version, self.snapshot.version)?;
        let targets = file_ref(&snapshot.meta, "targets.json", &what)?.clone();
        Ok(TrustedSnapshot {
            root: self.root,
            timestamp: self.timestamp,
            timestamp_digest: self.timestamp_digest,
            snapshot,
            targets,
        })
    }
}

/// A snapshot that a trusted timestamp names.
#[derive(Clone, Debug)]
pub struct TrustedSnapshot {
    root: TrustedRoot,
    timestamp: Timestamp,
    timestamp_digest: Digest,
    pub(super) snapshot: Snapshot,
    targets: FileRef,
}

impl TrustedSnapshot {
    /// Name of the file to fetch next, `N.targets.json`.
    #[must_use]
    pub fn next_file(&self) -> String {
        format!("{}.targets.json", self.targets.version)
    }

    /// Most bytes to read of it.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        max_bytes(&self.targets)
    }

    /// Takes the targets, which completes the view.
    ///
    /// # Errors
    /// Not the file that the snapshot names, not signed by the targets role's keys, or malformed.
    pub fn targets(self, bytes: &[u8]) -> Result<SignedView, TrustError> {
        let what = self.next_file();
        let envelope = Envelope::parse(bytes, &what, self.max_bytes())?;
        check_file(&what, &self.targets, bytes)?;
        let targets = self.root.read_targets(envelope, &what)?;
        require_version(&what, targets.header.version, self.targets.version)?;
        Ok(SignedView {
            root: self.root.root,
            timestamp: self.timestamp,
            timestamp_digest: self.timestamp_digest,
            snapshot: self.snapshot,
            layers: targets.targets.clone(),
            targets,
            roles: BTreeMap::new(),
        })
    }
}

/// A catalogue whose signatures, versions, lengths and digests are right. Its dates are *not* checked yet:
/// [`Self::plan`] does that, as does [`Self::check_expiry`] where there is a clock to trust.
#[derive(Clone, Debug)]
pub struct SignedView {
    root: Root,
    timestamp: Timestamp,
    timestamp_digest: Digest,
    pub(super) snapshot: Snapshot,
    pub(super) targets: Targets,
    /// The documents of roles by kind that were added.
    pub(super) roles: BTreeMap<String, Targets>,
    /// The targets role's own layers, and those of roles and hosts that were added.
    pub(super) layers: BTreeMap<String, TargetFile>,
}

impl SignedView {
    /// The signed layers, by target name.
    #[must_use]
    pub fn layers(&self) -> &BTreeMap<String, TargetFile> {
        &self.layers
    }

    /// Keys and threshold of the role `name` that the targets delegate to.
    pub(super) fn delegated_signers(&self, name: &str) -> Result<Signers<'_>, TrustError> {
        one_role(self.targets.delegations.as_ref(), name)
    }
}

fn read_root(envelope: &Envelope, what: &str) -> Result<Root, TrustError> {
    envelope.require_type(what, RoleName::Root.as_str())?;
    let root: Root = envelope.clone().read(what)?;
    check_header(&root.header, what)?;
    for role in [
        RoleName::Root,
        RoleName::Timestamp,
        RoleName::Snapshot,
        RoleName::Targets,
    ] {
        root_signers(&root, role, what)?;
    }
    if !root.consistent_snapshot {
        return Err(TrustError::Malformed {
            what: what.into(),
            why: "consistent_snapshot must be true".into(),
        });
    }
    Ok(root)
}

pub(super) fn check_header(header: &Header, what: &str) -> Result<(), TrustError> {
    let why = if header.spec_version.split('.').next() != Some("1") {
        format!("spec_version {:?} is not 1.x", header.spec_version)
    } else if header.version == 0 || header.version > VERSION_MAX {
        format!("versions are 1 to {VERSION_MAX}, not {}", header.version)
    } else {
        return Ok(());
    };
    let what = what.into();
    Err(TrustError::Malformed { what, why })
}

pub(super) fn require_version(what: &str, found: u64, wanted: u64) -> Result<(), TrustError> {
    if found == wanted {
        return Ok(());
    }
    let what = what.into();
    Err(TrustError::Version {
        what,
        found,
        wanted,
    })
}

//! TUF 1.0 metadata of the four top roles, read and written.
//!
//! Fields this program does not know are tolerated and take no part in any decision. What is read here is only shape;
//! [`super::TrustedRoot`] and those after it decide what is trusted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::TrustError;
use super::file::sha256;
use super::keys::{KeyId, PublicKey};
use crate::limits::{DELEGATIONS_MAX, TARGETS_MAX};
use crate::{Digest, Timestamp as Time};

/// Version of the specification that this code writes; it reads every 1.x.
pub const SPEC_VERSION: &str = "1.0.31";

/// The top roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Keys and thresholds of all top roles.
    Root,
    /// The version of the snapshot.
    Timestamp,
    /// The version of the targets.
    Snapshot,
    /// The layers.
    Targets,
}

impl RoleName {
    /// The name as in `_type` and in file names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }
}

impl std::fmt::Display for RoleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the top roles' documents have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The role.
    #[serde(rename = "_type")]
    pub role: RoleName,
    /// [`SPEC_VERSION`].
    pub spec_version: String,
    /// Counts up from 1.
    pub version: u64,
    /// Not to be relied on at this time and later.
    #[serde(with = "tuf_time")]
    pub expires: Time,
}

impl Header {
    fn new(role: RoleName, version: u64, expires: Time) -> Self {
        Self {
            role,
            spec_version: SPEC_VERSION.into(),
            version,
            expires,
        }
    }
}

/// Keys that sign for a role, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Identifiers of the keys.
    pub keyids: Vec<KeyId>,
    /// How many different keys must sign.
    pub threshold: u32,
}

/// `root.json`: the keys of the top roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Type, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// Whether files are named by their versions; required here.
    pub consistent_snapshot: bool,
    /// The keys that `roles` names.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// Keys and threshold of each top role, by its name.
    pub roles: BTreeMap<String, Role>,
}

impl Root {
    /// A root without keys.
    #[must_use]
    pub fn new(version: u64, expires: Time) -> Self {
        Self {
            header: Header::new(RoleName::Root, version, expires),
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }

    /// Gives `role` these keys and this threshold. Keys that no role names any more are dropped.
    pub fn set_role(&mut self, role: RoleName, keys: &[PublicKey], threshold: u32) {
        let keyids: Vec<_> = keys.iter().map(PublicKey::id).collect();
        self.keys
            .extend(keyids.iter().cloned().zip(keys.iter().cloned()));
        self.roles
            .insert(role.to_string(), Role { keyids, threshold });
        let named: BTreeSet<_> = self.roles.values().flat_map(|r| r.keyids.clone()).collect();
        self.keys.retain(|id, _| named.contains(id));
    }
}

/// What one metadata file says about another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Its version.
    pub version: u64,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub length: Option<u64>,
    /// Its digests by the names of the hashes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hashes: Option<BTreeMap<String, String>>,
}

impl FileRef {
    /// The reference to `bytes`, which are a file of that version.
    #[must_use]
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self {
            version,
            length: Some(bytes.len() as u64),
            hashes: Some(sha256(&Digest::of(bytes))),
        }
    }
}

/// `timestamp.json`: which snapshot is the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Type, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// `snapshot.json` and nothing else.
    pub meta: BTreeMap<String, FileRef>,
}

impl Timestamp {
    /// The timestamp that names this snapshot.
    #[must_use]
    pub fn new(version: u64, expires: Time, snapshot: FileRef) -> Self {
        Self {
            header: Header::new(RoleName::Timestamp, version, expires),
            meta: BTreeMap::from([("snapshot.json".into(), snapshot)]),
        }
    }
}

/// `N.snapshot.json`: which targets belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Type, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// `targets.json`, and files of delegated roles.
    pub meta: BTreeMap<String, FileRef>,
}

impl Snapshot {
    /// The snapshot that names these targets.
    #[must_use]
    pub fn new(version: u64, expires: Time, targets: FileRef) -> Self {
        Self {
            header: Header::new(RoleName::Snapshot, version, expires),
            meta: BTreeMap::from([("targets.json".into(), targets)]),
        }
    }
}

/// `N.targets.json`: the layers, and the roles that the targets role names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Type, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// The layers by name.
    pub targets: BTreeMap<String, TargetFile>,
    /// Roles with keys of their own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delegations: Option<Delegations>,
}

impl Targets {
    /// Refuses more targets, or more delegations, than a document may have.
    pub(super) fn check_counts(&self, what: &str) -> Result<(), TrustError> {
        let delegations = self.delegations.as_ref();
        let roles = delegations.map_or(0, |it| it.roles.len());
        let keys = delegations.map_or(0, |it| it.keys.len());
        check_count(what, "targets", self.targets.len(), TARGETS_MAX)?;
        check_count(what, "delegated roles", roles, DELEGATIONS_MAX)?;
        check_count(what, "keys", keys, DELEGATIONS_MAX)
    }

    /// Targets without layers.
    #[must_use]
    pub fn new(version: u64, expires: Time) -> Self {
        Self {
            header: Header::new(RoleName::Targets, version, expires),
            targets: BTreeMap::new(),
            delegations: None,
        }
    }

    /// Gives the delegated role `name` these keys, threshold and paths (terminating), in place of what it had. Keys that
    /// no role names any more are dropped.
    pub fn set_delegation(
        &mut self,
        name: &str,
        keys: &[PublicKey],
        threshold: u32,
        paths: &[&str],
    ) {
        let delegations = self.delegations.get_or_insert_default();
        let keyids: Vec<_> = keys.iter().map(PublicKey::id).collect();
        delegations
            .keys
            .extend(keyids.iter().cloned().zip(keys.iter().cloned()));
        delegations.roles.retain(|role| role.name != name);
        delegations.roles.push(DelegatedRole {
            name: name.into(),
            role: Role { keyids, threshold },
            terminating: true,
            paths: Some(paths.iter().map(ToString::to_string).collect()),
            path_hash_prefixes: None,
        });
        delegations.drop_keys();
    }

    /// Takes the delegated role `name` away, with the keys that no role names any more.
    pub fn drop_delegation(&mut self, name: &str) {
        if let Some(delegations) = &mut self.delegations {
            delegations.roles.retain(|role| role.name != name);
            delegations.drop_keys();
        }
    }
}

/// The roles that targets name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegations {
    /// The keys that `roles` name.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// The roles, in order of precedence.
    pub roles: Vec<DelegatedRole>,
}

impl Delegations {
    /// Drops the keys that no role names.
    fn drop_keys(&mut self) {
        let roles = self.roles.iter();
        let named: BTreeSet<_> = roles.flat_map(|r| &r.role.keyids).cloned().collect();
        self.keys.retain(|id, _| named.contains(id));
    }
}

/// One delegated role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name.
    pub name: String,
    /// Its keys and threshold.
    #[serde(flatten)]
    pub role: Role,
    /// Whether the search for a target of its paths ends with it.
    pub terminating: bool,
    /// Patterns of the target names it may sign; `*` does not match `/`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paths: Option<Vec<String>>,
    /// In place of `paths`: what the SHA-256 of the target names begin with, in hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_hash_prefixes: Option<Vec<String>>,
}

/// Refuses more of something than a document may have.
pub(super) fn check_count(
    what: &str,
    of: &'static str,
    found: usize,
    max: usize,
) -> Result<(), TrustError> {
    if found <= max {
        return Ok(());
    }
    let what = what.into();
    Err(TrustError::TooMany {
        what,
        of,
        found,
        max,
    })
}

/// One signed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Its size in bytes.
    pub length: u64,
    /// Its digests by the names of the hashes.
    pub hashes: BTreeMap<String, String>,
    /// For a layer, [`super::LayerCustom`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub custom: Option<Value>,
}

/// Times as TUF writes them: `2026-11-23T22:30:00Z`, whole seconds in UTC.
mod tuf_time {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::Timestamp as Time;

    pub(super) fn serialize<S: Serializer>(time: &Time, s: S) -> Result<S::Ok, S::Error> {
        // A time in whole seconds that came from one: always in range.
        let whole = Time::from_second(time.as_second()).unwrap_or(*time);
        s.collect_str(&whole)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Time, D::Error> {
        let text = String::deserialize(d)?;
        let shaped = text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
        let parsed = shaped.then(|| text.parse().ok()).flatten();
        parsed.ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is no time of the form YYYY-MM-DDTHH:MM:SSZ"
            ))
        })
    }
}

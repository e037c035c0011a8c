//! What a signed target says of a layer: its name, and the `custom` part beside length and digest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::sha256;
use super::metadata::TargetFile;
use crate::Digest;
use crate::manifest::{Kind, Manifest};

/// A layer's name as a signed target: `KIND/NAME/VERSION/ARCHITECTURE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetName {
    /// What the layer is for.
    pub kind: Kind,
    /// Name; of a host layer, the host's identifier.
    pub name: String,
    /// Version; of a host layer, the session.
    pub version: String,
    /// Debian's name of the architecture, or `all`.
    pub architecture: String,
}

impl FromStr for TargetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("{text:?} is not of the form KIND/NAME/VERSION/ARCHITECTURE");
        let parts: Vec<_> = text.split('/').collect();
        let [kind, name, version, architecture] = parts[..] else {
            return Err(bad());
        };
        let kind = serde_json::from_value(Value::from(kind)).map_err(|_| bad())?;
        if [name, version, architecture]
            .iter()
            .any(|part| !is_part(part))
        {
            return Err(bad());
        }
        Ok(Self {
            kind,
            name: name.into(),
            version: version.into(),
            architecture: architecture.into(),
        })
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            version,
            architecture,
        } = self;
        write!(f, "{kind}/{name}/{version}/{architecture}")
    }
}

/// Letters that can neither leave a directory nor confuse a terminal.
pub(super) fn is_part(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-.+~:_".contains(&b);
    (1..=128).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(letter)
}

/// A layer's `custom` in the targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerCustom {
    /// What the layer is for.
    pub kind: Kind,
    /// The layer's manifest.
    pub manifest: ManifestRef,
}

/// A manifest's length and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRef {
    /// Its size in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl TargetFile {
    /// The target of the layer with this manifest, which is stored as `manifest_bytes`.
    #[must_use]
    pub fn of_layer(manifest: &Manifest, manifest_bytes: &[u8]) -> Self {
        let custom = LayerCustom {
            kind: manifest.kind,
            manifest: ManifestRef {
                length: manifest_bytes.len() as u64,
                sha256: Digest::of(manifest_bytes),
            },
        };
        Self {
            length: manifest.stored_bytes,
            hashes: sha256(&manifest.digest),
            custom: serde_json::to_value(custom).ok(),
        }
    }

    /// The `custom` part of a layer.
    #[must_use]
    pub fn layer(&self) -> Option<LayerCustom> {
        serde_json::from_value(self.custom.clone()?).ok()
    }
}

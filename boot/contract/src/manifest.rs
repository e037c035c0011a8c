//! The manifest: what one layer is, said before its bytes are fetched.
//!
//! A JSON document beside the layer, named by its digest in the signed targets. `docs/formats/layer.md` specifies it.
//! [`crate::trust`] checks a manifest against the signed target before anyone may read it.

mod consistency;
mod memory;
mod parts;
mod placement;

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::handover::IMAGES_DIR;
use crate::lanes::Bounds;
use crate::session::Session;
use crate::{Digest, Timestamp, limits};

pub use memory::memory_bytes;
pub use parts::Part;
pub use placement::{PLACES_ON_TARGET, Placement, unplaceable};

/// The format version this code writes, and the newest it reads.
pub const MANIFEST_FORMAT: u32 = 1;

/// What a layer is for; it decides what the layer may contain ([`crate::lanes`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A kernel image, its modules and firmware.
    Kernel,
    /// The rescue system's userland.
    Base,
    /// A backup agent.
    Agent,
    /// ReaR configuration and disk layout of one host at one session.
    Host,
    /// Secrets made for one boot.
    Credentials,
    /// Anything else an operator adds; held to the agent's rules.
    Extra,
}

impl Kind {
    /// The name used in manifests, target names and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Base => "base",
            Self::Agent => "agent",
            Self::Host => "host",
            Self::Credentials => "credentials",
            Self::Extra => "extra",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the stored bytes are compressed. Always one frame, so that the kernel reads them too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Plain newc.
    None,
    /// One gzip member (RFC 1952).
    Gzip,
    /// One zstd frame (RFC 8878), window at most 2^[`limits::ZSTD_WINDOW_LOG_MAX`].
    Zstd,
}

/// The squashfs inside a layer of the `image` form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Name of the image's entry in the archive: `towline/images/NN-KIND.squashfs`, of two digits and the layer's own kind.
    /// The digits are for people: images are stacked in the chain's order, the base's over the kernel's.
    pub path: String,
    /// Size of the squashfs, in bytes.
    pub bytes: u64,
    /// Size of the files inside, in bytes.
    pub content_bytes: u64,
}

/// A package that files of the layer come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Name, as its distribution spells it; of a release that its makers offer on a page, the layer's.
    pub name: String,
    /// Version, as its distribution or its makers spell it.
    pub version: String,
    /// Architecture (`amd64`, `all`); `upstream` of such a release.
    pub architecture: String,
}

/// A command that the rescue system runs to show that the layer is there and works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is shown.
    pub name: String,
    /// Program and arguments; run without a shell, within 60 seconds; exit status 0 is a pass.
    pub command: Vec<String>,
}

/// What a layer brings or needs, for the chain check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// Shared library names (`DT_SONAME`, or the file name a `DT_NEEDED` asks for), sorted.
    pub libraries: Vec<String>,
    /// Programs by absolute path (interpreters, `#!` lines) or bare name (looked up in `PATH`), sorted.
    pub programs: Vec<String>,
    /// Kernel modules by name (with `_`, never `-`), those built into a kernel included, sorted; and the options (`CONFIG_…`) of
    /// a kernel that say what it can read of layers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
}

/// What one layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// What the layer is for.
    pub kind: Kind,
    /// Name, unique within its kind: lower-case letters, digits, `-`, `.` and `+`.
    pub name: String,
    /// Version, of the same letters and `~`, `:`.
    pub version: String,
    /// Debian's name of the architecture (`amd64`), or `all`.
    pub architecture: String,
    /// Newest modification time among the layer's sources: the same inputs give the same manifest.
    pub created: Timestamp,
    /// SHA-256 of the stored bytes: the layer's name in the store.
    pub digest: Digest,
    /// Size as stored, in bytes.
    pub stored_bytes: u64,
    /// Size of the newc archive, in bytes.
    pub unpacked_bytes: u64,
    /// Entries in the archive.
    pub entries: u64,
    /// How the stored bytes are compressed.
    pub compression: Compression,
    /// SHA-256 of each [`limits::CHUNK_BYTES`] of the stored bytes; the last piece may be shorter.
    pub chunks: Vec<Digest>,
    /// Where the layer goes.
    pub placement: Placement,
    /// Set for layers of the `image` form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<Image>,
    /// Kernel release (`uname -r`) of a kernel layer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kernel_release: Option<String>,
    /// Programs and libraries inside.
    #[serde(default)]
    pub provides: Needs,
    /// Programs and libraries that must come from this layer or an earlier one.
    #[serde(default)]
    pub requires: Needs,
    /// Files that agent and extra layers may replace, by name; base layers only.
    #[serde(default)]
    pub replaceable: Vec<String>,
    /// Packages the files come from, sorted.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// Commands that show the layer works; not of host and credentials layers, whose content is data.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// How the agent is used; agent layers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<Agent>,
    /// The session a host layer describes; host layers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<Session>,
    /// What the site's policy keeps layers of this kind to: no part of the document, but of what is verified about it.
    #[serde(skip)]
    pub bounds: Bounds,
}

/// Why a document is no usable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`limits::MANIFEST_BYTES_MAX`].
    #[error("a manifest of {bytes} bytes is larger than {max}", max = limits::MANIFEST_BYTES_MAX)]
    TooLarge {
        /// Size in bytes.
        bytes: u64,
    },
    /// Not JSON of this shape.
    #[error("not a layer manifest")]
    Json(#[from] serde_json::Error),
    /// A newer format.
    #[error(
        "manifest format {found} is newer than {MANIFEST_FORMAT}; this program is too old for the layer"
    )]
    Format {
        /// The version found.
        found: u32,
    },
    /// Fields that contradict one another or exceed a limit.
    #[error("manifest of {kind} layer {name}: {what}")]
    Inconsistent {
        /// Kind of the layer.
        kind: Kind,
        /// Name of the layer.
        name: String,
        /// What is wrong, with both sides.
        what: String,
    },
}

impl Manifest {
    /// Reads a manifest and checks that it agrees with itself and with the limits. This says nothing about trust:
    /// [`crate::trust::Verified`]`<`[`crate::trust::Chain`]`>::manifest` does.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > limits::MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge {
                bytes: bytes.len() as u64,
            });
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format: found } = serde_json::from_slice(bytes)?;
        if found != MANIFEST_FORMAT {
            return Err(ManifestError::Format { found });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        match manifest.inconsistency() {
            None => Ok(manifest),
            Some(what) => Err(ManifestError::Inconsistent {
                kind: manifest.kind,
                name: manifest.name,
                what,
            }),
        }
    }

    /// The bytes to store: JSON, one field a line, ended by a newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Name of the layer as a signed target: `KIND/NAME/VERSION/ARCHITECTURE`.
    #[must_use]
    pub fn target_name(&self) -> String {
        format!(
            "{}/{}/{}/{}",
            self.kind, self.name, self.version, self.architecture
        )
    }

    /// Bytes of the chunk with this index; `None` past the end.
    #[must_use]
    pub fn chunk_bytes(&self, index: usize) -> Option<u64> {
        let start = (index as u64).checked_mul(limits::CHUNK_BYTES)?;
        (start < self.stored_bytes).then(|| (self.stored_bytes - start).min(limits::CHUNK_BYTES))
    }
}

/// The kind of the layer whose image has this name in an archive; `None` for names that no image may have.
#[must_use]
pub fn image_kind(path: &str) -> Option<Kind> {
    let name = path.strip_prefix(IMAGES_DIR)?.strip_prefix('/')?;
    let (number, kind) = name.strip_suffix(".squashfs")?.split_once('-')?;
    let two_digits = number.len() == 2 && number.bytes().all(|it| it.is_ascii_digit());
    let mut kinds = Part::Image.kinds().iter().copied();
    kinds.find(|it| two_digits && it.as_str() == kind)
}

#[cfg(test)]
mod tests;

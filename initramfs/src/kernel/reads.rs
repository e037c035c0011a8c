//! What a kernel can unpack and mount of what layers are made of, by its configuration.
//!
//! A kernel layer says it in its manifest, among the modules that it provides (`docs/formats/layer.md`): by the names of the
//! options that are set. A kernel whose configuration nobody knows says none of them, and nothing is decided by that.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use towline_contract::manifest::{Compression, Kind, Manifest};

use crate::compressed;
use crate::stored::{self, StoredError};

/// The kernel takes an initramfs at all: without it, none of the others means anything.
pub const INITRAMFS: &str = "CONFIG_BLK_DEV_INITRD";
/// It unpacks gzip in an initramfs.
const GZIP: &str = "CONFIG_RD_GZIP";
/// It unpacks zstd in an initramfs: Linux 5.9 and later.
const ZSTD: &str = "CONFIG_RD_ZSTD";
/// Its squashfs reads the blocks of images.
pub const SQUASHFS_ZSTD: &str = "CONFIG_SQUASHFS_ZSTD";

/// All of them, sorted. Each is `y` or not: none can be a module.
const OPTIONS: [&str; 4] = [INITRAMFS, GZIP, ZSTD, SQUASHFS_ZSTD];

/// What the names of options begin with, and those of no modules.
const PREFIX: &str = "CONFIG_";

/// Largest configuration that is read, in bytes: Debian 12's has 261,000.
pub(super) const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// Why it is not known what a kernel reads.
#[derive(Debug, thiserror::Error)]
pub enum ReadsError {
    /// The file cannot be read.
    #[error("cannot read kernel configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is something else.
    #[error("{path} is neither a kernel layer (.layer) nor a kernel's configuration: {what}")]
    NoConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The layer's manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] StoredError),
    /// The layer has no kernel.
    #[error("{path} is a layer of kind {kind}, and should be a kernel's")]
    NoKernel {
        /// The layer.
        path: PathBuf,
        /// Its kind.
        kind: Kind,
    },
    /// The layer was built without its kernel's configuration.
    #[error(
        "{path} does not say what its kernel reads, for its configuration was not there when it was built"
    )]
    Unknown {
        /// The layer.
        path: PathBuf,
    },
}

/// The options that a kernel has, of those that matter to layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads(BTreeSet<&'static str>);

impl Reads {
    /// By a kernel's configuration (`boot/config-RELEASE`); none when it is something else.
    #[must_use]
    pub fn of_config(text: &[u8]) -> Option<Self> {
        let mut set = BTreeSet::new();
        let mut is_config = false;
        for line in text.split(|byte| *byte == b'\n') {
            let Some((name, value)) = std::str::from_utf8(line).ok().and_then(option) else {
                continue;
            };
            is_config = true;
            // As for Kconfig itself, the last line about an option counts.
            if let Some(known) = OPTIONS.into_iter().find(|it| *it == name) {
                match value {
                    "y" => set.insert(known),
                    _ => set.remove(known),
                };
            }
        }
        is_config.then_some(Self(set))
    }

    /// By the manifest of a kernel layer; none when it does not say.
    #[must_use]
    pub fn of_manifest(kernel: &Manifest) -> Option<Self> {
        let provided = &kernel.provides.modules;
        let is_set = |name: &&str| provided.iter().any(|it| it == name);
        let set: BTreeSet<_> = OPTIONS.into_iter().filter(is_set).collect();
        set.contains(INITRAMFS).then_some(Self(set))
    }

    /// By the file at `path`: a kernel layer, whose manifest lies beside it, or a configuration, compressed or not
    /// (`/proc/config.gz`).
    ///
    /// # Errors
    /// See [`ReadsError`].
    pub fn of_file(path: &Path) -> Result<Self, ReadsError> {
        let file = Self::file_at(path);
        if file != path {
            let manifest = stored::read_manifest(&file)?;
            let path = path.to_owned();
            return match manifest.kind {
                Kind::Kernel => Self::of_manifest(&manifest).ok_or(ReadsError::Unknown { path }),
                kind => Err(ReadsError::NoKernel { path, kind }),
            };
        }
        let text = config_at(path).map_err(|cause| ReadsError::Read {
            path: path.to_owned(),
            cause,
        })?;
        let no_config = |what: String| ReadsError::NoConfig {
            path: path.to_owned(),
            what,
        };
        if text.len() as u64 > CONFIG_BYTES_MAX {
            let what = format!("it has more than {CONFIG_BYTES_MAX} bytes");
            return Err(no_config(what));
        }
        Self::of_config(&text)
            .ok_or_else(|| no_config("no line of it sets a CONFIG_ option".into()))
    }

    /// The very file that is read for `path`.
    #[must_use]
    pub fn file_at(path: &Path) -> PathBuf {
        match path.extension() {
            Some(end) if end == "layer" => stored::manifest_path(path),
            _ => path.to_owned(),
        }
    }

    /// The names of the options that it has, sorted, for a manifest.
    pub fn options(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }

    /// Whether it has this option.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.0.contains(option)
    }

    /// The option that it lacks to unpack an archive that is compressed so; none when it can.
    #[must_use]
    pub fn lacks(&self, compression: Compression) -> Option<&'static str> {
        let needed = match compression {
            Compression::None => return None,
            Compression::Gzip => GZIP,
            Compression::Zstd => ZSTD,
        };
        (!self.has(needed)).then_some(needed)
    }

    /// The best compression that it can unpack.
    #[must_use]
    pub fn best(&self) -> Compression {
        let by_size = [Compression::Zstd, Compression::Gzip];
        let found = by_size.into_iter().find(|it| self.lacks(*it).is_none());
        found.unwrap_or(Compression::None)
    }
}

/// The option that a line is about, and its value: `CONFIG_X=y`, `# CONFIG_X is not set`.
fn option(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_end();
    let unset = line
        .strip_prefix("# ")
        .and_then(|it| it.strip_suffix(" is not set"));
    let (name, value) = unset
        .map(|name| (name, "n"))
        .or_else(|| line.split_once('='))?;
    name.starts_with(PREFIX).then_some((name, value))
}

/// The configuration in a file, or a little more than it may have.
fn config_at(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let stream = compressed::all_members(BufReader::new(File::open(path)?))?;
    stream.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of Debian 12's `boot/config-6.1.0-56-amd64` that matter, and some around them.
    const DEBIAN: &str = "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 6.1.192 Kernel Configuration\n#\n\
                          CONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0\"\n# CONFIG_IKCONFIG is not set\n\
                          CONFIG_BLK_DEV_INITRD=y\nCONFIG_INITRAMFS_SOURCE=\"\"\nCONFIG_RD_GZIP=y\nCONFIG_RD_BZIP2=y\n\
                          CONFIG_RD_ZSTD=y\nCONFIG_SQUASHFS=m\nCONFIG_SQUASHFS_ZSTD=y\n";

    fn reads(text: &str) -> Reads {
        Reads::of_config(text.as_bytes()).expect("a configuration")
    }

    #[test]
    fn debians_kernel_reads_all_and_gets_zstd() {
        let found = reads(DEBIAN);
        assert_eq!(found.options().collect::<Vec<_>>(), OPTIONS);
        assert_eq!(found.best(), Compression::Zstd);
        assert!(OPTIONS.is_sorted(), "a manifest has them in this order");
    }

    #[test]
    fn what_is_not_set_or_a_module_or_not_named_is_not_there_and_the_last_line_counts() {
        for (change, to, best) in [
            ("RD_ZSTD=y", "RD_ZSTD=m", Compression::Gzip),
            (
                "CONFIG_RD_ZSTD=y",
                "# CONFIG_RD_ZSTD is not set",
                Compression::Gzip,
            ),
            ("CONFIG_RD_ZSTD=y\n", "", Compression::Gzip),
            ("CONFIG_RD_ZSTD=y", "#CONFIG_RD_ZSTD=y", Compression::Gzip),
            (
                "CONFIG_RD_ZSTD=y",
                "CONFIG_RD_ZSTD=y\n# CONFIG_RD_ZSTD is not set",
                Compression::Gzip,
            ),
            (
                "CONFIG_RD_ZSTD=y",
                "# CONFIG_RD_ZSTD is not set\nCONFIG_RD_ZSTD=y",
                Compression::Zstd,
            ),
            ("CONFIG_RD_ZSTD=y", "CONFIG_RD_ZSTD=y\r", Compression::Zstd),
            ("RD_", "OTHER_", Compression::None),
        ] {
            let found = reads(&DEBIAN.replace(change, to));
            assert_eq!(found.best(), best, "{change:?} -> {to:?}");
        }
    }

    #[test]
    fn a_compression_that_the_kernel_lacks_is_named_by_its_option() {
        let old = reads("CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\n");
        assert_eq!(old.lacks(Compression::Zstd), Some("CONFIG_RD_ZSTD"));
        assert_eq!(old.lacks(Compression::Gzip), None);
        assert_eq!(old.lacks(Compression::None), None);
        assert!(!old.has(SQUASHFS_ZSTD));
    }

    #[test]
    fn other_files_are_no_configuration() {
        for text in [
            &b""[..],
            b"\x7fELF\0\xFF\xFE",
            b"# CONFIG_X\n",
            b"x=y\n",
            b" CONFIG_X=y",
        ] {
            assert_eq!(Reads::of_config(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_configuration_is_read_compressed_too_and_a_huge_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            Reads::of_file(&path)
        };
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        assert_eq!(at("config", DEBIAN.as_bytes()).unwrap(), reads(DEBIAN));
        let packed = at("config.zst", &zstd(DEBIAN.as_bytes()));
        assert_eq!(packed.unwrap(), reads(DEBIAN));
        let huge = DEBIAN.repeat(20_000);
        let refused = at("huge.zst", &zstd(huge.as_bytes())).unwrap_err();
        assert!(
            refused.to_string().contains("more than 4194304 bytes"),
            "{refused}"
        );
        let refused = at("recipe.toml", b"kind = \"base\"\n").unwrap_err();
        assert!(
            refused.to_string().contains("neither a kernel layer"),
            "{refused}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, line in "(# )?CONFIG_RD_[A-Z]{0,5}(=[ymn]?| is not set)?") {
            let text = [bytes, line.into_bytes()].join(&b'\n');
            if let Some(found) = Reads::of_config(&text) {
                proptest::prop_assert_eq!(found.lacks(found.best()), None);
            }
        }
    }
}

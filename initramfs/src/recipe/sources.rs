//! The kinds of sources, and their fields.

mod check;
mod parse;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::input::{Download, Input};

/// Where entries come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Packages by name, with all they depend on.
    Apt(AptSource),
    /// Package files.
    Deb(DebSource),
    /// Package files of rpm.
    Rpm(DebSource),
    /// A kernel package and a selection of its modules.
    Kernel(Box<KernelSource>),
    /// A tar archive.
    Tar(TarSource),
    /// A self-extracting archive of makeself, which is not run.
    Run(TarSource),
    /// An initramfs image.
    Initrd(ImageSource),
    /// The squashfs of a live system.
    LiveImage(ImageSource),
    /// A directory of this machine.
    Directory(DirectorySource),
    /// Programs of this machine, or of another root, with their libraries.
    Program(ProgramSource),
    /// Certificates of a package and of files in one file.
    Certificates(CertificatesSource),
    /// One file.
    File(FileSource),
    /// Symbolic links.
    Links(LinksSource),
    /// Empty directories.
    Directories(DirectoriesSource),
}

/// Which files of packages to take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AptSource {
    /// Names of packages.
    pub packages: Vec<String>,
    /// Packages that count as installed: they and what only they need stay out.
    pub without: Vec<String>,
    /// Where the files go in the layer.
    pub to: String,
    /// Globs of files that stay out.
    pub exclude: Vec<String>,
    /// Globs of files that stay in although `exclude` matches them.
    pub include: Vec<String>,
    /// Take only these programs, with the libraries they need from the same packages, and what `include` matches.
    pub programs: Vec<String>,
    /// Libraries that the programs load while they run, by name.
    pub dlopen: Vec<String>,
    /// Put the programs and their libraries into this directory, where they meet no other versions; a script at the
    /// program's own path starts it.
    pub private: Option<String>,
}

/// Package files, of Debian or of rpm; other fields as in [`AptSource`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DebSource {
    /// The files.
    pub files: Vec<Input>,
    /// Where the files go in the layer.
    pub to: String,
    /// Globs of files that stay out.
    pub exclude: Vec<String>,
    /// Globs of files that stay in although `exclude` matches them.
    pub include: Vec<String>,
    /// Take only these programs with their libraries.
    pub programs: Vec<String>,
    /// Libraries that the programs load while they run.
    pub dlopen: Vec<String>,
    /// Private directory of the programs.
    pub private: Option<String>,
}

/// A kernel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct KernelSource {
    /// Name of a package, or of one that depends on the newest.
    pub package: Option<String>,
    /// A package file.
    pub file: Option<Input>,
    /// A kernel image that came without a package; with `initrd` or `live-image`.
    pub image: Option<Input>,
    /// The initramfs that has the modules of `image`.
    pub initrd: Option<Input>,
    /// The squashfs that has them.
    pub live_image: Option<Input>,
    /// Modules to take, by name, or by glob over the path below `kernel/`.
    pub modules: Vec<String>,
    /// Globs of modules that are taken only when another needs them.
    pub without: Vec<String>,
    /// Modules that also lie beside the image, with `modules.dep`: what must be loaded before an image can be mounted.
    pub plain: Vec<String>,
}

/// A tar archive, plain or compressed by gzip, xz, zstd or bzip2; or those in an archive of makeself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TarSource {
    /// The archive.
    pub file: Input,
    /// Where it goes in the layer.
    #[serde(default)]
    pub to: String,
    /// Leading parts of each name that are dropped; entries with no more parts than that stay out.
    #[serde(default)]
    pub strip: usize,
    /// Globs of files that stay out, relative to the root of the layer.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Globs of files that stay in although `exclude` matches them.
    #[serde(default)]
    pub include: Vec<String>,
    /// Keep owners; without it all belong to root.
    #[serde(default)]
    pub keep_owners: bool,
}

/// The image of a whole system: an initramfs, such as ReaR's rescue system, or the squashfs of a live system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageSource {
    /// The image.
    pub file: Input,
    /// Where it goes in the layer.
    #[serde(default)]
    pub to: String,
    /// Globs of files that stay out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Globs of files that stay in although `exclude` matches them.
    #[serde(default)]
    pub include: Vec<String>,
}

/// A directory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DirectorySource {
    /// Path relative to the recipe.
    pub path: String,
    /// Where it goes in the layer.
    #[serde(default)]
    pub to: String,
    /// Globs of files that stay out, relative to the root of the layer.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Globs of files that stay in although `exclude` matches them.
    #[serde(default)]
    pub include: Vec<String>,
    /// Keep permission bits; without it files are 0644, or 0755 when their owner may execute them, directories 0755.
    #[serde(default)]
    pub keep_modes: bool,
}

/// Programs of this machine, or of a system in a folder of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProgramSource {
    /// Absolute paths in the root.
    pub programs: Vec<String>,
    /// A folder with the system that they are taken from, relative to the recipe; without it, this machine.
    #[serde(default)]
    pub root: Option<String>,
    /// Libraries that they load while they run, by name.
    #[serde(default)]
    pub dlopen: Vec<String>,
    /// Private directory, as in [`AptSource`].
    #[serde(default)]
    pub private: Option<String>,
}

/// Certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CertificatesSource {
    /// Package that has them below `usr/share/ca-certificates`.
    #[serde(default)]
    pub package: Option<String>,
    /// Files of them, in PEM; after those of the package.
    #[serde(default)]
    pub files: Vec<Input>,
    /// The file to make.
    pub path: String,
}

/// One file.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// Path in the layer.
    pub path: String,
    /// What is in it.
    pub content: FileContent,
    /// Text added at its end.
    pub append: String,
    /// Permission bits; none takes those of what is copied, or 0644.
    pub mode: Option<u32>,
}

/// Where a file's content comes from.
#[derive(Clone, Debug)]
pub enum FileContent {
    /// The recipe itself.
    Text(String),
    /// Another file.
    From(Input),
    /// A file that the layer has already.
    Copy(String),
}

/// Symbolic links: path in the layer = what it points to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinksSource {
    /// The links.
    pub links: BTreeMap<String, String>,
}

/// Empty directories.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DirectoriesSource {
    /// Paths in the layer.
    pub paths: Vec<String>,
    /// Permission bits; none is 0755.
    #[serde(default, deserialize_with = "octal")]
    pub mode: Option<u32>,
}

impl Source {
    /// The name of its type in recipes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Apt(_) => "apt",
            Self::Deb(_) => "deb",
            Self::Rpm(_) => "rpm",
            Self::Kernel(_) => "kernel",
            Self::Tar(_) => "tar",
            Self::Run(_) => "run",
            Self::Initrd(_) => "initrd",
            Self::LiveImage(_) => "live-image",
            Self::Directory(_) => "directory",
            Self::Program(_) => "program",
            Self::Certificates(_) => "certificates",
            Self::File(_) => "file",
            Self::Links(_) => "links",
            Self::Directories(_) => "directories",
        }
    }

    /// The files that it fetches.
    pub(super) fn downloads_mut(&mut self) -> impl Iterator<Item = &mut Download> {
        let inputs = self.inputs_mut().into_iter();
        inputs.filter_map(|input| match input {
            Input::Fetched(download) => Some(download),
            Input::Beside(_) => None,
        })
    }
}

/// Permission bits as octal text, `"0644"`.
pub(super) fn octal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match u32::from_str_radix(&text, 8) {
        Ok(mode @ 0..=0o7777) => Ok(Some(mode)),
        _ => Err(serde::de::Error::custom(format!(
            "mode {text:?} is not octal, such as \"0644\""
        ))),
    }
}

//! The kinds of sources, and their fields.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::input::{Download, Input};
use super::variables::{Unfilled, Variables};

/// The types, as messages list them.
const TYPES: &str = "apt, deb, rpm, kernel, tar, run, initrd, live-image, directory, program, certificates, file, links, directories";

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFile {
    path: String,
    content: Option<String>,
    from: Option<Input>,
    copy: Option<String>,
    #[serde(default)]
    append: String,
    #[serde(default, deserialize_with = "octal")]
    mode: Option<u32>,
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

    /// Reads a source's table.
    pub(super) fn parse(
        table: Spanned<DeValue<'_>>,
        variables: Variables<'_>,
    ) -> Result<Self, Fault> {
        let span = table.span();
        let DeValue::Table(mut table) = table.into_inner() else {
            return Err("a source must be a table".to_owned().into());
        };
        let kind = table
            .remove("type")
            .ok_or_else(|| format!("`type` is missing; it is one of {TYPES}"))?;
        let at = Some(kind.span().start);
        let fault = |what| Fault { at, what };
        let kind = kind.get_ref().as_str();
        let kind = kind
            .ok_or_else(|| fault("`type` must be a string".into()))?
            .to_owned();
        let table = Spanned::new(span, table);
        let mut source = match kind.as_str() {
            "apt" => Self::Apt(fields(table)?),
            "deb" => Self::Deb(fields(table)?),
            "rpm" => Self::Rpm(fields(table)?),
            "kernel" => Self::Kernel(fields(table)?),
            "tar" => Self::Tar(fields(table)?),
            "run" => Self::Run(fields(table)?),
            "initrd" => Self::Initrd(fields(table)?),
            "live-image" => Self::LiveImage(fields(table)?),
            "directory" => Self::Directory(fields(table)?),
            "program" => Self::Program(fields(table)?),
            "certificates" => Self::Certificates(fields(table)?),
            "file" => Self::File(file(fields(table)?)?),
            "links" => Self::Links(fields(table)?),
            "directories" => Self::Directories(fields(table)?),
            other => return Err(fault(format!("type {other:?} is not one of {TYPES}"))),
        };
        source.fill(variables).map_err(|cause| cause.to_string())?;
        source.check()?;
        Ok(source)
    }

    /// Fills variables into paths of this machine, and into what is fetched.
    fn fill(&mut self, variables: Variables<'_>) -> Result<(), Unfilled> {
        match self {
            Self::Directory(source) => variables.fill_all([&mut source.path]),
            Self::Program(source) => {
                variables.fill_all(source.programs.iter_mut().chain(&mut source.root))
            }
            other => {
                let mut inputs = other.inputs_mut().into_iter();
                inputs.try_for_each(|input| input.fill(variables))
            }
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

    pub(super) fn check(&self) -> Result<(), String> {
        self.inputs().into_iter().try_for_each(Input::check)?;
        match self {
            Self::Apt(source) if source.packages.is_empty() => {
                Err("`packages` is missing or empty".into())
            }
            Self::Apt(source) => {
                place_of_programs(&source.to, &source.programs)?;
                names(source.packages.iter().chain(&source.without))
            }
            Self::Deb(source) | Self::Rpm(source) if source.files.is_empty() => {
                Err("`files` is missing or empty".into())
            }
            Self::Deb(source) | Self::Rpm(source) => {
                place_of_programs(&source.to, &source.programs)
            }
            Self::Kernel(source) => kernel(source),
            Self::Certificates(source) if source.package.is_none() && source.files.is_empty() => {
                Err("neither `package` nor `files` says which".into())
            }
            Self::Certificates(source) => names(&source.package),
            _ => Ok(()),
        }
    }
}

/// What is wrong with a source, and where in the recipe's text, if not with all of it.
pub(super) struct Fault {
    pub(super) at: Option<usize>,
    pub(super) what: String,
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self { at: None, what }
    }
}

fn fields<T: DeserializeOwned>(table: Spanned<DeTable<'_>>) -> Result<T, Fault> {
    T::deserialize(toml::Deserializer::from(table)).map_err(|cause| Fault {
        at: cause.span().map(|span| span.start),
        what: cause.message().to_owned(),
    })
}

/// Programs look for their libraries at paths of their own.
fn place_of_programs(to: &str, programs: &[String]) -> Result<(), String> {
    match to.is_empty() || programs.is_empty() {
        true => Ok(()),
        false => Err(
            "`programs` cannot go elsewhere by `to`; `private` gives them a folder of their own"
                .into(),
        ),
    }
}

/// Refuses what is no name of a Debian package (Debian policy 5.6.1) before it becomes an argument of apt.
fn names<'a>(packages: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let good = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(letter)
    };
    match packages.into_iter().find(|name| !good(name)) {
        Some(name) => Err(format!("{name:?} is no name of a package")),
        None => Ok(()),
    }
}

fn kernel(source: &KernelSource) -> Result<(), String> {
    let from = [
        source.package.is_some(),
        source.file.is_some(),
        source.initrd.is_some(),
        source.live_image.is_some(),
    ];
    if from.into_iter().filter(|is_there| *is_there).count() != 1 {
        return Err(
            "exactly one of `package`, `file`, `initrd` and `live-image` must be there".into(),
        );
    }
    let has_modules = source.initrd.is_some() || source.live_image.is_some();
    if source.image.is_some() != has_modules {
        return Err("`image` must be there together with `initrd` or `live-image`".into());
    }
    names(&source.package)
}

fn file(raw: RawFile) -> Result<FileSource, String> {
    let content = match (raw.content, raw.from, raw.copy) {
        (Some(text), None, None) => FileContent::Text(text),
        (None, Some(path), None) => FileContent::From(path),
        (None, None, Some(path)) => FileContent::Copy(path),
        _ => return Err("exactly one of `content`, `from` and `copy` must be there".into()),
    };
    Ok(FileSource {
        path: raw.path,
        content,
        append: raw.append,
        mode: raw.mode,
    })
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

//! Recipes: TOML files that say what a layer is made of. `docs/how-to/recipes.md` explains each field.
//!
//! Parsing opens nothing but the recipe; unknown fields are refused with the line they are near.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use towline_contract::Timestamp;
use towline_contract::manifest::{Check, Compression, Kind, Placement};

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read recipe {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Not TOML, or a field that is missing, unknown or of another type.
    #[error("recipe {path}, line {line}: {what}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A source with a missing, unknown or wrong field.
    #[error("recipe {path}, line {line}: source {number}: {what}")]
    Source {
        /// The file.
        path: PathBuf,
        /// Line where the source begins, counted from 1.
        line: usize,
        /// Number of the source, counted from 1.
        number: usize,
        /// What is wrong.
        what: String,
    },
    /// A variable without a value.
    #[error("recipe {path} uses ${{{name}}}, which has no value")]
    Variable {
        /// The file.
        path: PathBuf,
        /// Name of the variable.
        name: String,
    },
}

/// How the entries are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As entries of the archive.
    Files,
    /// As one squashfs in the archive.
    Image,
}

/// What a layer is made of and how.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The file it was read from.
    pub path: PathBuf,
    /// What the layer is for.
    pub kind: Kind,
    /// Name of the layer.
    pub name: String,
    /// Version, with placeholders that the build fills: `${date}`, `${package.NAME}`.
    pub version: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Form of the layer.
    pub form: Form,
    /// How the archive is compressed; an archive around an image is not.
    pub compression: Compression,
    /// Compression level, of zstd (1–22) or gzip (1–9).
    pub level: i32,
    /// Where the layer goes.
    pub placement: Placement,
    /// The time of entries that have none of their own, and of the layer.
    pub time: Option<Timestamp>,
    /// What of the sources' files stays out, by globs.
    pub exclude: Vec<String>,
    /// What stays in although `exclude` matches it.
    pub include: Vec<String>,
    /// Globs of entries that stay beside the image, as plain entries.
    pub plain: Vec<String>,
    /// Libraries that come from an earlier layer.
    pub from_earlier_layers: Vec<String>,
    /// Files that later layers may replace.
    pub replaceable: Vec<String>,
    /// The sources, in order.
    pub sources: Vec<NumberedSource>,
    /// Commands that show the layer works.
    pub checks: Vec<Check>,
}

/// A source and where the recipe has it.
#[derive(Clone, Debug)]
pub struct NumberedSource {
    /// Number, counted from 1.
    pub number: usize,
    /// Line where it begins, counted from 1.
    pub line: usize,
    /// The source.
    pub source: Source,
}

/// Where entries come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Packages by name, with all they depend on.
    Apt(AptSource),
    /// Package files.
    Deb(DebSource),
    /// A kernel package and a selection of its modules.
    Kernel(KernelSource),
    /// A directory of this machine.
    Directory(DirectorySource),
    /// Programs of this machine with their libraries.
    Program(ProgramSource),
    /// The certificates of a package in one file.
    Certificates(CertificatesSource),
    /// One file.
    File(FileSource),
    /// Symbolic links.
    Links(LinksSource),
    /// Empty directories.
    Directories(DirectoriesSource),
}

impl Source {
    /// The name of its type in recipes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Apt(_) => "apt",
            Self::Deb(_) => "deb",
            Self::Kernel(_) => "kernel",
            Self::Directory(_) => "directory",
            Self::Program(_) => "program",
            Self::Certificates(_) => "certificates",
            Self::File(_) => "file",
            Self::Links(_) => "links",
            Self::Directories(_) => "directories",
        }
    }
}

/// Which files of packages to take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AptSource {
    /// Names of packages.
    pub packages: Vec<String>,
    /// Packages that count as installed: they and what only they need stay out.
    pub without: Vec<String>,
    /// Globs of files that stay out.
    pub exclude: Vec<String>,
    /// Globs of files that stay in although `exclude` matches them.
    pub include: Vec<String>,
    /// Take only these programs, with the libraries they need from the same packages, and what `include` matches.
    pub programs: Vec<String>,
    /// Put the programs and their libraries into this directory, where they meet no other versions; a script at the
    /// program's own path starts it.
    pub private: Option<String>,
}

/// Package files; other fields as in [`AptSource`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DebSource {
    /// Paths relative to the recipe.
    pub files: Vec<String>,
    /// Globs of files that stay out.
    pub exclude: Vec<String>,
    /// Globs of files that stay in although `exclude` matches them.
    pub include: Vec<String>,
    /// Take only these programs with their libraries.
    pub programs: Vec<String>,
    /// Private directory of the programs.
    pub private: Option<String>,
}

/// A kernel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct KernelSource {
    /// Name of a package, or of one that depends on the newest.
    pub package: Option<String>,
    /// A package file, relative to the recipe.
    pub file: Option<String>,
    /// Modules to take, by name, or by glob over the path below `kernel/`.
    pub modules: Vec<String>,
    /// Globs of modules that are taken only when another needs them.
    pub without: Vec<String>,
    /// Modules that also lie beside the image, with `modules.dep`: what must be loaded before an image can be mounted.
    pub plain: Vec<String>,
}

/// A directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DirectorySource {
    /// Path relative to the recipe.
    pub path: String,
    /// Where it goes in the layer.
    pub to: String,
    /// Globs of files that stay out, relative to the root of the layer.
    pub exclude: Vec<String>,
    /// Globs of files that stay in although `exclude` matches them.
    pub include: Vec<String>,
    /// Keep permission bits; without it files are 0644, or 0755 when their owner may execute them, directories 0755.
    pub keep_modes: bool,
}

/// Programs of this machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ProgramSource {
    /// Absolute paths.
    pub programs: Vec<String>,
    /// Private directory, as in [`AptSource`].
    pub private: Option<String>,
}

/// Certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CertificatesSource {
    /// Package that has them below `usr/share/ca-certificates`.
    pub package: String,
    /// The file to make.
    pub path: String,
}

/// One file; exactly one of `content`, `from` and `copy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FileSource {
    /// Path in the layer.
    pub path: String,
    /// Its text.
    pub content: Option<String>,
    /// A file of this machine, relative to the recipe.
    pub from: Option<String>,
    /// A file that the layer already has.
    pub copy: Option<String>,
    /// Text added at its end.
    pub append: String,
    /// Permission bits, octal (`"0644"`).
    pub mode: Option<String>,
}

/// Symbolic links: path in the layer = what it points to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LinksSource {
    /// The links.
    pub links: BTreeMap<String, String>,
}

/// Empty directories.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DirectoriesSource {
    /// Paths in the layer.
    pub paths: Vec<String>,
    /// Permission bits, octal.
    pub mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    kind: Kind,
    name: String,
    version: String,
    architecture: Option<String>,
    form: Option<Form>,
    compression: Option<Compression>,
    level: Option<Spanned<i32>>,
    placement: Option<Placement>,
    time: Option<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    plain: Vec<String>,
    #[serde(default)]
    from_earlier_layers: Vec<String>,
    #[serde(default)]
    replaceable: Vec<String>,
    #[serde(default)]
    source: Vec<Spanned<toml::Table>>,
    #[serde(default)]
    check: Vec<Check>,
}

impl Recipe {
    /// Reads the recipe at `path`. `settings` are the values of its variables.
    ///
    /// # Errors
    /// See [`RecipeError`].
    pub fn read(path: &Path, settings: &BTreeMap<String, String>) -> Result<Self, RecipeError> {
        let text = fs::read_to_string(path).map_err(|cause| RecipeError::Read {
            path: path.to_owned(),
            cause,
        })?;
        Self::parse(path, &text, settings)
    }

    /// The recipe in `text`, as if read from `path`.
    ///
    /// # Errors
    /// See [`RecipeError`].
    pub fn parse(
        path: &Path,
        text: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<Self, RecipeError> {
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let syntax = |offset: usize, what: String| RecipeError::Syntax {
            path: path.to_owned(),
            line: line_of(offset),
            what,
        };
        let raw: Raw = toml::from_str(text).map_err(|cause| {
            let at = cause.span().map_or(0, |span| span.start);
            syntax(at, cause.message().to_owned())
        })?;
        let form = raw.form.unwrap_or(match raw.kind {
            Kind::Kernel | Kind::Base => Form::Image,
            _ => Form::Files,
        });
        let compression = raw.compression.unwrap_or(Compression::Zstd);
        let top = if compression == Compression::Gzip && form == Form::Files {
            9
        } else {
            22
        };
        let level = match &raw.level {
            None => 9.max(top.min(15)).min(top),
            Some(level) if (1..=top).contains(level.get_ref()) => *level.get_ref(),
            Some(level) => {
                let what = format!("level {} is not between 1 and {top}", level.get_ref());
                return Err(syntax(level.span().start, what));
            }
        };
        let time = raw.time.map(|time| time.parse::<Timestamp>()).transpose();
        let variables = Variables { path, settings };
        let sources = raw.source.into_iter().enumerate().map(|(index, table)| {
            let (line, number) = (line_of(table.span().start), index + 1);
            let source = source(table.into_inner(), &variables);
            let source = source.map_err(|what| RecipeError::Source {
                path: path.to_owned(),
                line,
                number,
                what,
            })?;
            Ok(NumberedSource {
                number,
                line,
                source,
            })
        });
        Ok(Self {
            path: path.to_owned(),
            kind: raw.kind,
            name: variables.fill(&raw.name)?,
            version: variables.fill_known(&raw.version),
            architecture: raw.architecture.unwrap_or_else(|| match raw.kind {
                Kind::Host | Kind::Credentials => "all".to_owned(),
                _ => "amd64".to_owned(),
            }),
            form,
            compression,
            level,
            placement: raw.placement.unwrap_or(Placement::Ram),
            time: time.map_err(|cause| syntax(0, format!("time: {cause}")))?,
            exclude: raw.exclude,
            include: raw.include,
            plain: raw.plain,
            from_earlier_layers: raw.from_earlier_layers,
            replaceable: raw.replaceable,
            sources: sources.collect::<Result<_, RecipeError>>()?,
            checks: raw.check,
        })
    }

    /// `path` of the recipe as one of this machine.
    #[must_use]
    pub fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

fn source(mut table: toml::Table, variables: &Variables<'_>) -> Result<Source, String> {
    let kind = table.remove("type").ok_or("field `type` is missing")?;
    let kind = kind.as_str().ok_or("`type` must be a string")?;
    Ok(match kind {
        "apt" => Source::Apt(fields(table)?),
        "deb" => {
            let mut source: DebSource = fields(table)?;
            variables.fill_all(&mut source.files)?;
            Source::Deb(source)
        }
        "kernel" => {
            let mut source: KernelSource = fields(table)?;
            variables.fill_all(&mut source.file)?;
            if source.package.is_some() == source.file.is_some() {
                return Err("one of `package` and `file` must be there".into());
            }
            Source::Kernel(source)
        }
        "directory" => {
            let mut source: DirectorySource = fields(table)?;
            variables.fill_all(std::iter::once(&mut source.path))?;
            if source.path.is_empty() {
                return Err("field `path` is missing".into());
            }
            Source::Directory(source)
        }
        "program" => {
            let mut source: ProgramSource = fields(table)?;
            variables.fill_all(&mut source.programs)?;
            Source::Program(source)
        }
        "certificates" => Source::Certificates(fields(table)?),
        "file" => {
            let mut source: FileSource = fields(table)?;
            variables.fill_all(&mut source.from)?;
            let given = [
                source.content.is_some(),
                source.from.is_some(),
                source.copy.is_some(),
            ];
            if given.into_iter().filter(|given| *given).count() != 1 {
                return Err("exactly one of `content`, `from` and `copy` must be there".into());
            }
            check_mode(source.mode.as_deref())?;
            Source::File(source)
        }
        "links" => Source::Links(fields(table)?),
        "directories" => {
            let source: DirectoriesSource = fields(table)?;
            check_mode(source.mode.as_deref())?;
            Source::Directories(source)
        }
        other => {
            let known =
                "apt, deb, kernel, directory, program, certificates, file, links, directories";
            return Err(format!("type {other:?} is not one of {known}"));
        }
    })
}

fn fields<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    table
        .try_into()
        .map_err(|cause: toml::de::Error| cause.message().to_owned())
}

/// Permission bits in a recipe's octal text.
#[must_use]
pub fn mode(text: Option<&str>, default: u32) -> u32 {
    text.and_then(|text| u32::from_str_radix(text, 8).ok())
        .unwrap_or(default)
}

fn check_mode(text: Option<&str>) -> Result<(), String> {
    match text.map(|text| u32::from_str_radix(text, 8)) {
        None | Some(Ok(0..=0o7777)) => Ok(()),
        Some(_) => Err(format!(
            "mode {:?} is not octal, such as \"0644\"",
            text.unwrap_or_default()
        )),
    }
}

struct Variables<'a> {
    path: &'a Path,
    settings: &'a BTreeMap<String, String>,
}

impl Variables<'_> {
    /// `text` with the variables replaced that have values.
    fn fill_known(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.settings {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        text
    }

    fn fill(&self, text: &str) -> Result<String, RecipeError> {
        let text = self.fill_known(text);
        match text.split_once("${") {
            None => Ok(text),
            Some((_, rest)) => Err(RecipeError::Variable {
                path: self.path.to_owned(),
                name: rest.split('}').next().unwrap_or_default().to_owned(),
            }),
        }
    }

    fn fill_all<'t>(&self, texts: impl IntoIterator<Item = &'t mut String>) -> Result<(), String> {
        for text in texts {
            let filled = self.fill_known(text);
            if let Some((_, rest)) = filled.split_once("${") {
                let name = rest.split('}').next().unwrap_or_default();
                return Err(format!(
                    "${{{name}}} has no value; give it with `--set {name}=VALUE`"
                ));
            }
            *text = filled;
        }
        Ok(())
    }
}

//! Recipes: TOML files that say what a layer is made of. `docs/how-to/recipes.md` explains each field.
//!
//! Parsing opens nothing but the recipe; unknown fields are refused with the line they are near.

mod input;
mod overrides;
mod page;
mod released;
mod sources;
mod track;
mod variables;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use towline_contract::Timestamp;
use towline_contract::agent::Agent;
use towline_contract::manifest::{Check, Compression, Kind, Part, Placement};
use towline_contract::session::Session;

pub use input::{Download, Input, Proof, Release};
pub use overrides::{Permissions, Strip};
pub use page::{NoVersion, Page, PageError};
pub use sources::*;
pub use track::Track;
use variables::Variables;
pub(crate) use variables::unfilled;

/// Compression level when the recipe names none: small, and still minutes rather than hours for a kernel's modules.
const LEVEL: i32 = 15;

/// Highest level of zstd, and of gzip.
const LEVEL_MAX: (i32, i32) = (22, 9);

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
    /// Somebody has set a version that is none.
    #[error("recipe {path} cannot be of the release that `--set version=` names: {why}")]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: NoVersion,
    },
    /// What should be its release is none.
    #[error("recipe {path} cannot be of that release: {why}")]
    Release {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: NoVersion,
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
    /// Version, with placeholders that the build fills: `${date}`, `${package.NAME}`, `${kernel.version}`.
    pub version: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Form of the layer.
    pub form: Form,
    /// How the archive is compressed: if nothing is said, by what [`Recipe::for_kernel`] reads. An archive around an image
    /// is not.
    pub compression: Option<Compression>,
    /// The kernel that is to read the layer: a kernel layer, or a configuration, beside the recipe.
    pub for_kernel: Option<String>,
    /// Where the layer goes.
    pub placement: Placement,
    /// Compression level, of zstd (1–22) or gzip (1–9).
    pub level: i32,
    /// The time of entries that have none of their own, and of the layer.
    pub time: Option<Timestamp>,
    /// What of the sources' files stays out, by globs.
    pub exclude: Vec<String>,
    /// What stays in although `exclude` matches it.
    pub include: Vec<String>,
    /// What goes beside, but for what `include` matches.
    pub strip: Vec<Strip>,
    /// Globs of entries that stay beside the image, as plain entries.
    pub plain: Vec<String>,
    /// Globs of libraries, and paths of interpreters, that come from an earlier layer.
    pub from_earlier_layers: Vec<String>,
    /// Programs that are needed beside those that the layer's own files tell, by name or absolute path. Recipes in files have
    /// none: `towline capture` says what a layout needs.
    pub programs: Vec<String>,
    /// Files that later layers may replace.
    pub replaceable: Vec<String>,
    /// How the agent is used; of agent layers.
    pub agent: Option<Agent>,
    /// The session that is described; of host layers. Recipes in files have none: `towline capture` says it.
    pub session: Option<Session>,
    /// The sources, in order.
    pub sources: Vec<NumberedSource>,
    /// Owners and permission bits that differ from the sources', in order.
    pub permissions: Vec<Permissions>,
    /// Commands that show the layer works.
    pub checks: Vec<Check>,
    /// How it follows what it is made of; none if it does not.
    pub track: Option<Track>,
    /// The version of the release that it fetches, of a recipe with a page; none before that is known.
    pub release: Option<String>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    kind: Kind,
    name: Spanned<String>,
    version: String,
    architecture: Option<String>,
    form: Option<Form>,
    compression: Option<Compression>,
    for_kernel: Option<Spanned<String>>,
    level: Option<Spanned<i32>>,
    placement: Option<Spanned<Placement>>,
    time: Option<Spanned<String>>,
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
    agent: Option<Agent>,
    #[serde(default)]
    strip: Vec<Strip>,
    #[serde(default)]
    permissions: Vec<Spanned<Permissions>>,
    #[serde(default)]
    check: Vec<Check>,
    track: Option<Spanned<track::Table>>,
}

impl Raw {
    /// What the kind may not have is told before anything is built.
    fn check_parts(&self, at: &Place<'_>) -> Result<(), RecipeError> {
        let parts = [
            (Part::Agent, self.agent.is_some()),
            (Part::Checks, !self.check.is_empty()),
            (Part::Image, self.form == Some(Form::Image)),
            (Part::Replaceable, !self.replaceable.is_empty()),
        ];
        let mut there = parts.into_iter().filter(|(_, is_there)| *is_there);
        match there.find_map(|(part, _)| part.refusal(self.kind)) {
            Some(why) => Err(at.error(0, &format!("this {} layer is refused: {why}", self.kind))),
            None => Ok(()),
        }
    }

    /// Where the layer goes: into memory, if nothing else is said.
    fn placement(&self, at: &Place<'_>) -> Result<Placement, RecipeError> {
        let Some(given) = &self.placement else {
            return Ok(Placement::Ram);
        };
        match given.get_ref().refusal(self.kind) {
            Some(why) => Err(at.error(
                given.span().start,
                &format!("this {} layer is refused: {why}", self.kind),
            )),
            None => Ok(*given.get_ref()),
        }
    }
}

impl Recipe {
    /// Reads the recipe at `path`. `settings` are the values of its variables.
    ///
    /// # Errors
    /// See [`RecipeError`].
    pub fn read(path: &Path, settings: &BTreeMap<String, String>) -> Result<Self, RecipeError> {
        Self::parse(path, &text(path)?, settings)
    }

    /// The names of the variables that the recipe at `path` uses, those that the build gives values to among them.
    ///
    /// # Errors
    /// See [`RecipeError`].
    pub fn variables(path: &Path) -> Result<BTreeSet<String>, RecipeError> {
        let used = RefCell::new(BTreeSet::new());
        Self::parse_with(path, &text(path)?, Variables::Noted(&used))?;
        Ok(used.into_inner())
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
        Self::parse_with(path, text, Variables::Of(settings))
    }

    fn parse_with(path: &Path, text: &str, variables: Variables<'_>) -> Result<Self, RecipeError> {
        let at = Place { path, text };
        let syntax = |cause: toml::de::Error| {
            at.error(cause.span().map_or(0, |span| span.start), cause.message())
        };
        let mut document = DeTable::parse(text).map_err(syntax)?;
        let source = document.get_mut().remove("source");
        let raw = Raw::deserialize(toml::Deserializer::from(document)).map_err(syntax)?;
        raw.check_parts(&at)?;
        let track = track::checked(raw.track.as_ref(), raw.kind, &at)?;
        let (variables, release) = match track.as_ref().and_then(|it| it.page.as_ref()) {
            Some(_) => variables.but_version(),
            None => (variables, None),
        };
        let placement = raw.placement(&at)?;
        let form = raw.form.unwrap_or(match raw.kind {
            Kind::Kernel | Kind::Base => Form::Image,
            _ => Form::Files,
        });
        let architecture = raw.architecture.unwrap_or_else(|| match raw.kind {
            Kind::Host | Kind::Credentials => "all".to_owned(),
            _ => "amd64".to_owned(),
        });
        let time = raw
            .time
            .map(|time| match time.get_ref().parse::<Timestamp>() {
                Ok(found) => Ok(found),
                Err(cause) => Err(at.error(time.span().start, &format!("time: {cause}"))),
            });
        let filled = |text: Spanned<String>| {
            let filled = variables.fill(text.get_ref());
            filled.map_err(|cause| at.error(text.span().start, &cause.to_string()))
        };
        let recipe = Self {
            path: path.to_owned(),
            kind: raw.kind,
            name: filled(raw.name)?,
            version: variables.fill_known(&raw.version),
            architecture,
            form,
            compression: raw.compression,
            for_kernel: raw.for_kernel.map(filled).transpose()?,
            placement,
            level: level(raw.level, form, raw.compression, &at)?,
            time: time.transpose()?,
            exclude: raw.exclude,
            include: raw.include,
            strip: raw.strip,
            plain: raw.plain,
            from_earlier_layers: raw.from_earlier_layers,
            programs: Vec::new(),
            replaceable: raw.replaceable,
            agent: raw.agent,
            session: None,
            sources: sources(source, variables, &at)?,
            permissions: permissions(raw.permissions, &at)?,
            checks: raw.check,
            track,
            release: None,
        };
        match variables {
            Variables::ButVersion(_) => recipe.with_page(release),
            _ => Ok(recipe),
        }
    }

    /// Takes this level in place of the recipe's own.
    ///
    /// # Errors
    /// There is no such level.
    pub fn set_level(&mut self, level: i32) -> Result<(), String> {
        let max = level_max(self.form, self.compression);
        if !(1..=max).contains(&level) {
            return Err(format!("level {level} is not from 1 to {max}"));
        }
        self.level = level;
        Ok(())
    }

    /// A name for files about its layer, whatever the version.
    pub(crate) fn file_name(&self) -> String {
        format!("{}-{}-{}", self.kind, self.name, self.architecture)
    }

    /// `path` of the recipe as one of this machine.
    #[must_use]
    pub fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

fn text(path: &Path) -> Result<String, RecipeError> {
    fs::read_to_string(path).map_err(|cause| RecipeError::Read {
        path: path.to_owned(),
        cause,
    })
}

fn level(
    given: Option<Spanned<i32>>,
    form: Form,
    compression: Option<Compression>,
    at: &Place<'_>,
) -> Result<i32, RecipeError> {
    let max = level_max(form, compression);
    match given {
        None => Ok(LEVEL.min(max)),
        Some(level) if (1..=max).contains(level.get_ref()) => Ok(level.into_inner()),
        Some(level) => Err(at.error(
            level.span().start,
            &format!("level {} is not from 1 to {max}", level.get_ref()),
        )),
    }
}

/// The highest level of what compresses the layer's files. Where the kernel decides that it is gzip, a higher one is gzip's highest.
fn level_max(form: Form, compression: Option<Compression>) -> i32 {
    let gzip = form == Form::Files && compression == Some(Compression::Gzip);
    if gzip { LEVEL_MAX.1 } else { LEVEL_MAX.0 }
}

fn permissions(
    given: Vec<Spanned<Permissions>>,
    at: &Place<'_>,
) -> Result<Vec<Permissions>, RecipeError> {
    let checked = given.into_iter().map(|it| match it.get_ref().check() {
        Ok(()) => Ok(it.into_inner()),
        Err(what) => Err(at.error(it.span().start, &what)),
    });
    checked.collect()
}

/// The sources in the array of tables that the recipe has. They keep their places in the text, for messages.
fn sources(
    array: Option<Spanned<DeValue<'_>>>,
    variables: Variables<'_>,
    at: &Place<'_>,
) -> Result<Vec<NumberedSource>, RecipeError> {
    let Some(array) = array else {
        return Ok(Vec::new());
    };
    let start = array.span().start;
    let DeValue::Array(tables) = array.into_inner() else {
        return Err(at.error(start, "`source` must be [[source]] tables"));
    };
    let mut sources = Vec::new();
    for (number, table) in (1..).zip(tables) {
        let line = at.line(table.span().start);
        let source = Source::parse(table, variables).map_err(|fault| RecipeError::Source {
            path: at.path.to_owned(),
            line,
            number,
            what: match fault.at.map(|offset| at.line(offset)) {
                Some(inner) if inner > line => format!("{} (line {inner})", fault.what),
                _ => fault.what,
            },
        })?;
        sources.push(NumberedSource {
            number,
            line,
            source,
        });
    }
    Ok(sources)
}

/// A recipe's text, to name lines of it.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1
    }

    fn error(&self, offset: usize, what: &str) -> RecipeError {
        RecipeError::Syntax {
            path: self.path.to_owned(),
            line: self.line(offset),
            what: what.to_owned(),
        }
    }
}

//! Recipes: TOML files that say what a layer is made of. `docs/how-to/recipes.md` explains each field.
//!
//! Parsing opens nothing but the recipe; unknown fields are refused with the line they are near.

mod error;
mod input;
mod level;
mod overrides;
mod page;
mod parse;
mod place;
mod released;
mod sources;
mod track;
mod variables;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use towline_contract::Timestamp;
use towline_contract::agent::Agent;
use towline_contract::manifest::{Check, Compression, Kind, Placement};
use towline_contract::session::Session;

pub use error::RecipeError;
pub use input::{Download, Input, Proof, Release};
pub use overrides::{Permissions, Strip};
pub use page::{NoVersion, Page, PageError};
use place::Place;
pub use sources::*;
pub use track::Track;
use variables::Variables;
pub(crate) use variables::unfilled;

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

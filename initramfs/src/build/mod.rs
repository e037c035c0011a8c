//! From a recipe to a finished layer: a file named after it, and its manifest beside it.
//!
//! Both appear whole or not at all: they are written under temporary names, synced, and renamed; the manifest last.

mod describe;
mod for_kernel;
mod pack;
mod sources;
mod unchanged;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;
use towline_contract::manifest::{Kind, Manifest, ManifestError};

use crate::assemble::{Assembler, Assembly, SourceError, files};
use crate::filter::glob_set;
use crate::image::ImageError;
use crate::kernel::ReadsError;
use crate::libraries::{self, Findings, LibraryError, Missing};
use crate::listing::Listings;
use crate::recipe::{Form, NumberedSource, Recipe};
use crate::scratch::Scratch;
use crate::tree::TreeError;
use crate::write::WriteError;
use for_kernel::{ForKernel, compression, name_of};
use pack::pack;
pub use unchanged::build_if_changed;

/// Why a layer cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A source of the recipe.
    #[error("recipe {recipe}, line {line}: source {number} ({kind})")]
    Source {
        /// The recipe.
        recipe: PathBuf,
        /// Line where the source begins.
        line: usize,
        /// Number of the source.
        number: usize,
        /// Its type.
        kind: &'static str,
        /// Why.
        #[source]
        cause: Box<SourceError>,
    },
    /// The recipe as a whole.
    #[error("recipe {recipe}: {what}")]
    Recipe {
        /// The recipe.
        recipe: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Something that the layer needs is nowhere.
    #[error("the layer lacks {}", libraries::list(.0))]
    Missing(Vec<Missing>),
    /// What the kernel reads that the layer is to be for is not known.
    #[error(transparent)]
    ForKernel(#[from] ReadsError),
    /// The kernel that the layer is for could not read it.
    #[error("recipe {recipe}: {what} is not for {kernel}, which has no {option}")]
    Unread {
        /// The recipe.
        recipe: PathBuf,
        /// What the recipe wants.
        what: String,
        /// The kernel.
        kernel: String,
        /// The option of its configuration.
        option: &'static str,
        /// What to do.
        instead: String,
    },
    /// A file of the layer cannot be understood.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// An entry does not fit.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The image cannot be made.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The archive cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The manifest would not be valid.
    #[error("the layer's manifest is not valid")]
    Manifest(#[from] ManifestError),
    /// The output folder.
    #[error("cannot write to {path}")]
    Output {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Where to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for the layer and its manifest.
    pub out: PathBuf,
    /// Folder for downloaded packages and images of earlier builds, which may be deleted, and which builds may share.
    pub cache: PathBuf,
    /// Longest that what the recipe fetches by URLs may take, all together; none where somebody waits, and can end it.
    pub fetch_wait: Option<Duration>,
}

/// A finished layer.
#[derive(Clone, Debug)]
pub struct Built {
    /// The layer's file.
    pub layer: PathBuf,
    /// Its manifest's file.
    pub manifest_file: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
}

/// The files of a finished layer.
struct Files {
    layer: File,
    manifest: File,
}

/// Builds the layer of `recipe`; `talk` hears what is going on.
///
/// # Errors
/// See [`BuildError`].
pub fn build(
    recipe: &Recipe,
    options: &Options,
    talk: &mut dyn FnMut(&str),
) -> Result<Built, BuildError> {
    build_files(recipe, options, Listings::new(), talk).map(|(built, _)| built)
}

/// The same, and the files: their paths may be another build's a moment later. Folders of `listings` are not looked at again.
fn build_files(
    recipe: &Recipe,
    options: &Options,
    listings: Listings,
    talk: &mut dyn FnMut(&str),
) -> Result<(Built, Files), BuildError> {
    if let Some(page) = recipe.page_to_ask() {
        return Err(BuildError::Recipe {
            recipe: recipe.path.clone(),
            what: format!("nobody has asked {} for the newest version", page.url),
        });
    }
    for numbered in &recipe.sources {
        files::check(recipe, &numbered.source).map_err(|cause| source(recipe, numbered, cause))?;
    }
    let named = ForKernel::named(recipe)?;
    if recipe.kind != Kind::Kernel {
        compression(recipe, named.as_ref())?; // before the work begins
    }
    let out = &options.out;
    std::fs::create_dir_all(out).map_err(|cause| output(out, cause))?;
    let scratch = Scratch::new(out).map_err(|cause| output(out, cause))?;
    let mut assembly = assemble(recipe, options, listings, talk)?;
    libraries::link_sonames(&mut assembly.tree)?;
    let findings = libraries::survey(&assembly.tree, &assembly.private)?;
    refuse_missing(recipe, &findings)?;

    let time = match recipe.time {
        Some(time) => u32::try_from(time.as_second()).unwrap_or(0),
        None => assembly.time,
    };
    // What a kernel has with it is true of it, whatever is said.
    let kernel = ForKernel::own(&assembly).or(named);
    let how = compression(recipe, kernel.as_ref())?;
    assembly.reads = kernel.map(|it| it.reads);
    match recipe.form {
        Form::Image => talk("making the image"),
        Form::Files => talk(&format!(
            "writing the archive, compression {}",
            name_of(how)
        )),
    }
    let file = NamedTempFile::new_in(scratch.path()).map_err(|cause| output(out, cause))?;
    let cache = &options.cache;
    let mut packed = pack(recipe, assembly, how, time, file.as_file(), cache, talk)?;
    let stored = packed.write(recipe, time, &file, cache, talk)?;
    let manifest = describe::manifest(recipe, packed, findings, &stored, time)?;
    publish(file, manifest, out, scratch.path())
}

fn output(path: &Path, cause: io::Error) -> BuildError {
    BuildError::Output {
        path: path.to_owned(),
        cause,
    }
}

fn source(recipe: &Recipe, numbered: &NumberedSource, cause: SourceError) -> BuildError {
    BuildError::Source {
        recipe: recipe.path.clone(),
        line: numbered.line,
        number: numbered.number,
        kind: numbered.source.name(),
        cause: Box::new(cause),
    }
}

fn assemble(
    recipe: &Recipe,
    options: &Options,
    listings: Listings,
    talk: &mut dyn FnMut(&str),
) -> Result<Assembly, BuildError> {
    let whole = |cause: SourceError| BuildError::Recipe {
        recipe: recipe.path.clone(),
        what: cause.to_string(),
    };
    let mut assembler =
        Assembler::new(recipe, &options.cache, options.fetch_wait, talk).map_err(whole)?;
    assembler.listings = listings;
    for numbered in &recipe.sources {
        assembler
            .add(&numbered.source)
            .map_err(|cause| source(recipe, numbered, cause))?;
    }
    assembler.finish().map_err(whole)
}

/// Libraries must be in the layer unless the recipe says where they come from; interpreters may come from the base.
fn refuse_missing(recipe: &Recipe, findings: &Findings) -> Result<(), BuildError> {
    let earlier = glob_set(&recipe.from_earlier_layers).map_err(|cause| BuildError::Recipe {
        recipe: recipe.path.clone(),
        what: cause.to_string(),
    })?;
    let is_excused = |missing: &&Missing| {
        earlier.is_match(missing.what.trim_start_matches('/'))
            || (!missing.library && recipe.kind != Kind::Base)
    };
    let missing: Vec<_> = findings
        .missing
        .iter()
        .filter(|missing| !is_excused(missing))
        .cloned()
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(BuildError::Missing(missing))
    }
}

/// Gives the layer and the manifest their names.
fn publish(
    file: NamedTempFile,
    manifest: Manifest,
    out: &Path,
    scratch: &Path,
) -> Result<(Built, Files), BuildError> {
    let name = format!(
        "{}-{}-{}-{}",
        manifest.kind, manifest.name, manifest.version, manifest.architecture
    );
    let layer = out.join(format!("{name}.layer"));
    let manifest_file = out.join(format!("{name}.manifest.json"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| output(&path, cause)
    };
    let mut document = NamedTempFile::new_in(scratch).map_err(failed(out))?;
    document
        .write_all(&manifest.to_bytes())
        .map_err(failed(&manifest_file))?;
    let files = Files {
        layer: put(file, &layer).map_err(failed(&layer))?,
        manifest: put(document, &manifest_file).map_err(failed(&manifest_file))?,
    };
    File::open(out)
        .and_then(|dir| dir.sync_all())
        .map_err(failed(out))?;
    let built = Built {
        layer,
        manifest_file,
        manifest,
    };
    Ok((built, files))
}

/// Gives a finished file its name.
fn put(file: NamedTempFile, path: &Path) -> io::Result<File> {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)
}

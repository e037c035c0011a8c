//! From a recipe's sources to one tree.

mod archives;
mod certificates;
mod directory;
mod entries;
pub(crate) mod files;
mod packages;
mod programs;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use towline_contract::manifest::Package;

use crate::apt::{Apt, AptError};
use crate::content::{Content, Spool};
use crate::deb::DebError;
use crate::fetch::{self, Copies, FetchError};
use crate::filter::{Filter, glob_set};
use crate::initrd::InitrdError;
use crate::kernel::{KernelError, Reads};
use crate::libraries::LibraryError;
use crate::listing::Listings;
use crate::makeself::MakeselfError;
use crate::recipe::{Input, Permissions, Recipe, Source};
use crate::rpm::RpmError;
use crate::squashfs::SquashfsError;
use crate::tarball::TarError;
use crate::tree::{Entry, Node, Tree, TreeError};
pub use certificates::CertificatesFault;
use packages::Format;

/// What went wrong with one source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Packages cannot be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A package cannot be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A package of rpm cannot be unpacked.
    #[error(transparent)]
    Rpm(#[from] RpmError),
    /// A file cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A kernel cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Programs or libraries are missing.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// An initramfs cannot be unpacked.
    #[error(transparent)]
    Initrd(#[from] InitrdError),
    /// A live image cannot be unpacked.
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    /// An archive cannot be unpacked.
    #[error("cannot unpack {path}")]
    Tar {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: TarError,
    },
    /// An archive of makeself cannot be unpacked.
    #[error(transparent)]
    Makeself(#[from] MakeselfError),
    /// An entry does not fit.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A glob that is not valid.
    #[error(transparent)]
    Glob(#[from] globset::Error),
    /// A file or folder of this machine.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Permissions whose globs match no entry.
    #[error("permissions: nothing in the layer matches {0}")]
    NoMatch(String),
    /// A file of the layer that is not there.
    #[error("the layer has no file {0} at this point")]
    NoFile(String),
    /// A file of certificate authorities that cannot be taken.
    #[error("{}: {fault}", .path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: CertificatesFault,
    },
    /// A package without what it is there for.
    #[error("package {package} has no {what}")]
    Lacks {
        /// The package.
        package: String,
        /// What is missing.
        what: String,
    },
}

/// All sources of a recipe together.
#[derive(Debug, Default)]
pub struct Assembly {
    /// The tree.
    pub tree: Tree,
    /// What lies beside the image.
    pub plain: Tree,
    /// Packages, and the paths in the tree that came from each.
    pub packages: BTreeMap<Package, BTreeSet<Vec<u8>>>,
    /// Kernel release.
    pub kernel_release: Option<String>,
    /// Names of the kernel's modules, built in or in the tree, sorted.
    pub modules: Vec<String>,
    /// What the kernel can unpack and mount, if there is one and that is known.
    pub reads: Option<Reads>,
    /// Directories of programs that have their own libraries.
    pub private: Vec<String>,
    /// Newest time of the sources, in seconds since 1970.
    pub time: u32,
    /// Values for the placeholders of the recipe's version, beside those of the packages.
    pub placeholders: BTreeMap<String, String>,
    /// Fetched files. Contents of the trees are read from them when the layer is written.
    pub(crate) fetched: Copies,
}

/// Adds sources to an [`Assembly`].
pub struct Assembler<'a> {
    recipe: &'a Recipe,
    cache: &'a Path,
    spool: Spool,
    filter: Filter,
    stripped: Filter,
    talk: &'a mut dyn FnMut(&str),
    assembly: Assembly,
    /// Folders that were looked at already; each is taken by the first source that has it.
    pub(crate) listings: Listings,
}

impl<'a> Assembler<'a> {
    /// An empty assembly for `recipe`. Packages are kept in `cache`; what is fetched by URLs may take `fetch_wait`, all together;
    /// `talk` hears what is going on.
    ///
    /// # Errors
    /// No temporary file can be made, or a glob of the recipe is not valid.
    pub fn new(
        recipe: &'a Recipe,
        cache: &'a Path,
        fetch_wait: Option<Duration>,
        talk: &'a mut dyn FnMut(&str),
    ) -> Result<Self, SourceError> {
        let spool = Spool::new().map_err(|cause| SourceError::Read {
            path: std::env::temp_dir(),
            cause,
        })?;
        Ok(Self {
            recipe,
            cache,
            spool,
            filter: Filter::new(&recipe.include, &recipe.exclude)?,
            stripped: stripped(recipe)?,
            talk,
            assembly: Assembly {
                fetched: Copies::within(fetch_wait),
                ..Assembly::default()
            },
            listings: Listings::new(),
        })
    }

    /// Adds one source.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn add(&mut self, source: &Source) -> Result<(), SourceError> {
        match source {
            Source::Apt(source) => {
                (self.talk)(&format!("resolving {} packages", source.packages.len()));
                let files = self.apt()?.closure(&source.packages, &source.without)?;
                self.packages(Format::Deb, &files, source)
            }
            Source::Deb(source) => self.package_files(Format::Deb, source),
            Source::Rpm(source) => self.package_files(Format::Rpm, source),
            Source::Kernel(source) => self.kernel(source),
            Source::Tar(source) => self.tar(source),
            Source::Run(source) => self.run(source),
            Source::Initrd(source) => self.initrd(source),
            Source::LiveImage(source) => self.live_image(source),
            Source::Directory(source) => self.directory(source),
            Source::Program(source) => self.programs_of_machine(source),
            Source::Certificates(source) => self.certificates(source),
            Source::File(source) => self.file(source),
            Source::Links(source) => self.links(source),
            Source::Directories(source) => self.directories(source),
        }
    }

    /// The assembly, with what the recipe leaves out left out, and with its owners and permissions.
    ///
    /// # Errors
    /// Permissions for nothing.
    pub fn finish(self) -> Result<Assembly, SourceError> {
        let mut assembly = self.assembly;
        let is_kept = |path: &[u8]| self.filter.keeps(path) && self.stripped.keeps(path);
        assembly.tree.retain(|path, _| is_kept(path));
        for permissions in &self.recipe.permissions {
            set_permissions(&mut assembly.tree, permissions)?;
        }
        let (tree, plain) = (&assembly.tree, &assembly.plain);
        let is_there = |path: &Vec<u8>| tree.get(path).or_else(|| plain.get(path)).is_some();
        assembly
            .packages
            .retain(|_, paths| paths.iter().any(is_there));
        Ok(assembly)
    }

    /// The file of a source; fetched, if need be, which is this build's own then.
    fn input(&mut self, input: &Input) -> Result<PathBuf, SourceError> {
        match input {
            Input::Beside(path) => Ok(self.recipe.beside(path)),
            Input::Fetched(download) => {
                let folder = fetch::folder(self.cache);
                let fetched = &mut self.assembly.fetched;
                Ok(fetched.fetch(download, &folder, self.talk)?)
            }
        }
    }

    /// Adds the entries of `tree` below `to`, as far as they pass the filter there; gives the real paths of those that are no
    /// directories.
    fn graft(
        &mut self,
        tree: &Tree,
        to: &str,
        filter: &Filter,
    ) -> Result<BTreeSet<Vec<u8>>, TreeError> {
        let to = to.trim_matches('/').as_bytes();
        let mut places = BTreeSet::new();
        for (path, entry) in tree.iter() {
            let place = [to, path].join(b"/".as_slice());
            if filter.keeps(&place) {
                let real = self.assembly.tree.insert(&place, entry.clone())?;
                if !matches!(entry.node, Node::Directory { .. }) {
                    places.insert(real);
                }
            }
        }
        Ok(places)
    }

    fn apt(&self) -> Result<Apt, AptError> {
        Apt::new(self.cache)
    }

    fn note_time(&mut self, time: u32) {
        self.assembly.time = self.assembly.time.max(time);
    }
}

/// What `strip` leaves. It only takes away: what the recipe excludes is not brought back by what stays of documents.
fn stripped(recipe: &Recipe) -> Result<Filter, globset::Error> {
    let strip = || recipe.strip.iter();
    let texts = |globs: &[&str]| {
        globs
            .iter()
            .map(|glob| (*glob).to_owned())
            .collect::<Vec<_>>()
    };
    let exclude: Vec<_> = strip().flat_map(|it| texts(it.exclude())).collect();
    let stays = strip().flat_map(|it| texts(it.include()));
    let include: Vec<_> = stays.chain(recipe.include.iter().cloned()).collect();
    Filter::new(&include, &exclude)
}

/// Gives the entries that the globs match their owner, group and mode. A file has one owner and one mode, whatever names it
/// has: those that the globs do not match get them too.
fn set_permissions(tree: &mut Tree, permissions: &Permissions) -> Result<(), SourceError> {
    for glob in &permissions.paths {
        let globs = glob_set(std::slice::from_ref(glob))?;
        let is_match = |path: &[u8]| globs.is_match(String::from_utf8_lossy(path).as_ref());
        let matches = || tree.iter().filter(|(path, _)| is_match(path));
        if matches().next().is_none() {
            return Err(SourceError::NoMatch(glob.clone()));
        }
        let files: HashSet<_> = matches().filter_map(|(_, entry)| file(entry)).collect();
        tree.for_each(|path, entry| {
            if is_match(path) || file(entry).is_some_and(|it| files.contains(&it)) {
                set(entry, permissions);
            }
        });
    }
    Ok(())
}

/// What tells a file: all its names have it.
fn file(entry: &Entry) -> Option<*const Content> {
    match &entry.node {
        Node::File(content) => Some(Arc::as_ptr(content)),
        _ => None,
    }
}

fn set(entry: &mut Entry, permissions: &Permissions) {
    let mode = match entry.node {
        Node::Directory { .. } => permissions.directory_mode,
        Node::Symlink(_) => None,
        Node::File(_) | Node::Special { .. } => permissions.mode,
    };
    let meta = &mut entry.meta;
    meta.mode = mode.unwrap_or(meta.mode);
    meta.uid = permissions.owner.unwrap_or(meta.uid);
    meta.gid = permissions.group.unwrap_or(meta.gid);
}

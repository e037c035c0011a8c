//! From a recipe's sources to one tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use towline_contract::manifest::Package;

use crate::apt::{Apt, AptError};
use crate::content::{Content, Spool};
use crate::deb::{self, DebError};
use crate::filter::Filter;
use crate::kernel::{Kernel, KernelError, Selection};
use crate::libraries::{self, LibraryError, Machine};
use crate::recipe::{
    AptSource, CertificatesSource, DirectoriesSource, DirectorySource, FileSource, KernelSource,
    LinksSource, ProgramSource, Recipe, Source, mode,
};
use crate::tree::{Meta, Node, Tree, TreeError, display};

/// What went wrong with one source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Packages cannot be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A package cannot be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A kernel cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Libraries are missing.
    #[error(transparent)]
    Library(#[from] LibraryError),
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
    /// A file of the layer that is not there.
    #[error("the layer has no file {0}")]
    NoFile(String),
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
    /// Packages, and the paths that came from each.
    pub packages: BTreeMap<Package, BTreeSet<Vec<u8>>>,
    /// Kernel release.
    pub kernel_release: Option<String>,
    /// Directories of programs that have their own libraries.
    pub private: Vec<String>,
    /// Newest time of the sources, in seconds since 1970.
    pub time: u32,
    /// Values for the placeholders of the recipe's version, beside those of the packages.
    pub placeholders: BTreeMap<String, String>,
}

/// Adds sources to an [`Assembly`].
pub struct Assembler<'a> {
    recipe: &'a Recipe,
    cache: &'a Path,
    spool: Spool,
    filter: Filter,
    talk: &'a mut dyn FnMut(&str),
    assembly: Assembly,
}

impl<'a> Assembler<'a> {
    /// An empty assembly for `recipe`. Packages are kept in `cache`; `talk` hears what is going on.
    ///
    /// # Errors
    /// No temporary file can be made, or a glob of the recipe is not valid.
    pub fn new(
        recipe: &'a Recipe,
        cache: &'a Path,
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
            talk,
            assembly: Assembly::default(),
        })
    }

    /// The assembly, with what the recipe leaves out left out.
    #[must_use]
    pub fn finish(self) -> Assembly {
        let mut assembly = self.assembly;
        assembly.tree.retain(|path, _| self.filter.keeps(path));
        let tree = &assembly.tree;
        assembly
            .packages
            .retain(|_, paths| paths.iter().any(|path| tree.get(path).is_some()));
        assembly
    }

    /// Adds one source.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn add(&mut self, source: &Source) -> Result<(), SourceError> {
        match source {
            Source::Apt(source) => {
                (self.talk)(&format!("packages: {}", source.packages.join(" ")));
                let files = Apt::new(self.cache)?.closure(&source.packages, &source.without)?;
                self.packages(&files, source)
            }
            Source::Deb(source) => {
                let files: Vec<_> = source
                    .files
                    .iter()
                    .map(|file| self.recipe.beside(file))
                    .collect();
                let rules = AptSource {
                    exclude: source.exclude.clone(),
                    include: source.include.clone(),
                    programs: source.programs.clone(),
                    private: source.private.clone(),
                    ..AptSource::default()
                };
                self.packages(&files, &rules)
            }
            Source::Kernel(source) => self.kernel(source),
            Source::Directory(source) => self.directory(source),
            Source::Program(source) => self.programs(source),
            Source::Certificates(source) => self.certificates(source),
            Source::File(source) => self.file(source),
            Source::Links(source) => self.links(source),
            Source::Directories(source) => self.directories(source),
        }
    }

    fn packages(&mut self, files: &[PathBuf], rules: &AptSource) -> Result<(), SourceError> {
        if rules.programs.is_empty() {
            let filter = Filter::new(&rules.include, &rules.exclude)?;
            (self.talk)(&format!("unpacking {} packages", files.len()));
            for file in files {
                let mut paths = BTreeSet::new();
                let package = deb::unpack(
                    file,
                    &filter,
                    &mut self.spool,
                    &mut self.assembly.tree,
                    &mut |path| {
                        paths.insert(path);
                    },
                )?;
                self.assembly.packages.insert(package, paths);
            }
            self.note_time();
            return Ok(());
        }
        // The programs' closure is taken from a tree of the packages alone.
        let mut tree = merged_usr()?;
        let mut packages = BTreeMap::new();
        for file in files {
            let mut paths = BTreeSet::new();
            let package = deb::unpack(
                file,
                &Filter::default(),
                &mut self.spool,
                &mut tree,
                &mut |path| {
                    paths.insert(path);
                },
            )?;
            packages.insert(package, paths);
        }
        let taken = self.take_programs(&tree, &rules.programs, rules.private.as_deref())?;
        let only = Filter::only(&rules.include, &rules.exclude)?;
        let extra: Vec<_> = tree
            .iter()
            .filter(|(path, _)| !rules.include.is_empty() && only.keeps(path))
            .collect();
        for (path, entry) in &extra {
            self.assembly.tree.insert(path, (*entry).clone())?;
        }
        for (package, mut paths) in packages {
            paths.retain(|path| {
                taken.contains(path) || extra.iter().any(|(extra, _)| extra == path)
            });
            if !paths.is_empty() {
                // Private programs lie elsewhere; the package is named as long as the layer is.
                let anchor = self
                    .assembly
                    .tree
                    .iter()
                    .next()
                    .map(|(path, _)| path.to_vec());
                self.assembly
                    .packages
                    .insert(package, anchor.into_iter().collect());
            }
        }
        self.note_time();
        Ok(())
    }

    /// Takes programs and their libraries out of `root`; gives the real paths of what was taken.
    fn take_programs(
        &mut self,
        root: &dyn libraries::Root,
        programs: &[String],
        private: Option<&str>,
    ) -> Result<BTreeSet<Vec<u8>>, SourceError> {
        let mut taken = BTreeSet::new();
        for program in programs {
            let program = program.trim_start_matches('/');
            for path in libraries::closure(root, program, &[])? {
                let (real, content) = root
                    .find(&path)
                    .ok_or_else(|| LibraryError::NoProgram(path.clone()))?;
                taken.insert(real.clone().into_bytes());
                let name = path.rsplit('/').next().unwrap_or(&path);
                let place = match private {
                    Some(dir) if path == program => format!("{dir}/{name}"),
                    Some(dir) => format!("{dir}/lib/{name}"),
                    None => path.clone(),
                };
                let meta = Meta::root(0o755);
                self.assembly.tree.insert(
                    place.as_bytes(),
                    crate::tree::Entry {
                        meta,
                        node: Node::File(content),
                    },
                )?;
            }
            if let Some(dir) = private {
                self.launcher(root, program, dir)?;
            }
        }
        self.assembly
            .private
            .extend(private.map(|dir| dir.trim_matches('/').to_owned()));
        Ok(taken)
    }

    /// A script at the program's own path that starts it with its own loader and libraries.
    fn launcher(
        &mut self,
        root: &dyn libraries::Root,
        program: &str,
        dir: &str,
    ) -> Result<(), SourceError> {
        let (real, content) = root
            .find(program)
            .ok_or_else(|| LibraryError::NoProgram(program.to_owned()))?;
        let elf =
            crate::elf::read(&content).map_err(|cause| LibraryError::Read { path: real, cause })?;
        let name = program.rsplit('/').next().unwrap_or(program);
        let dir = dir.trim_matches('/');
        let command = match elf.and_then(|elf| elf.interpreter) {
            Some(loader) => {
                let loader = loader.rsplit('/').next().unwrap_or(&loader).to_owned();
                format!(
                    "/{dir}/lib/{loader} --inhibit-cache --library-path /{dir}/lib /{dir}/{name}"
                )
            }
            None => format!("/{dir}/{name}"),
        };
        let script = format!(
            "#!/bin/sh\n# {name} with the loader and libraries it was made for.\nexec {command} \"$@\"\n"
        );
        let content = Content::from_bytes(script.into_bytes());
        self.assembly
            .tree
            .file(program.as_bytes(), Meta::root(0o755), content)?;
        Ok(())
    }

    fn programs(&mut self, source: &ProgramSource) -> Result<(), SourceError> {
        self.take_programs(&Machine, &source.programs, source.private.as_deref())
            .map(drop)
    }

    fn kernel(&mut self, source: &KernelSource) -> Result<(), SourceError> {
        let file = match (&source.file, &source.package) {
            (Some(file), _) => self.recipe.beside(file),
            (None, Some(package)) => {
                (self.talk)(&format!("kernel: {package}"));
                Apt::new(self.cache)?.kernel(package)?
            }
            (None, None) => return Err(SourceError::NoFile("of a kernel package".into())),
        };
        let kernel = Kernel::open(&file, &mut self.spool)?;
        let selection = Selection {
            modules: source.modules.clone(),
            without: source.without.clone(),
        };
        let plain = Selection {
            modules: source.plain.clone(),
            without: vec![],
        };
        let plain = kernel.select(&plain)?;
        let mut names = kernel.select(&selection)?;
        names.extend(plain.iter().cloned());
        (self.talk)(&format!(
            "kernel {}: {} modules",
            kernel.release,
            names.len()
        ));
        let tree = kernel.modules(&names)?;

        let image = format!("boot/vmlinuz-{}", kernel.release);
        let meta = Meta {
            mtime: Some(kernel.time),
            ..Meta::root(0o644)
        };
        self.assembly
            .plain
            .file(image.as_bytes(), meta, kernel.image().clone())?;
        for (path, entry) in tree.iter() {
            let is_early =
                plain.contains(&crate::kernel::module_name(&display(path)).unwrap_or_default());
            if is_early || path.ends_with(b"/modules.dep") {
                self.assembly.plain.insert(path, entry.clone())?;
            }
        }
        self.assembly.tree.merge(tree)?;
        self.assembly.time = self.assembly.time.max(kernel.time);
        let paths = self
            .assembly
            .tree
            .iter()
            .map(|(path, _)| path.to_vec())
            .take(1)
            .collect();
        let values = [
            ("kernel.version", &kernel.package.version),
            ("kernel.release", &kernel.release),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.clone()));
        self.assembly.placeholders.extend(values);
        self.assembly.packages.insert(kernel.package, paths);
        self.assembly.kernel_release = Some(kernel.release);
        Ok(())
    }

    fn directory(&mut self, source: &DirectorySource) -> Result<(), SourceError> {
        let from = self.recipe.beside(&source.path);
        let filter = Filter::new(&source.include, &source.exclude)?;
        let to = source.to.trim_matches('/');
        let newest = crate::directory::add(
            &from,
            to,
            &filter,
            source.keep_modes,
            &mut self.assembly.tree,
        )?;
        self.assembly.time = self.assembly.time.max(newest);
        Ok(())
    }

    fn certificates(&mut self, source: &CertificatesSource) -> Result<(), SourceError> {
        let name = std::slice::from_ref(&source.package);
        let files = Apt::new(self.cache)?.only(name)?;
        let wanted = Filter::only(&["usr/share/ca-certificates/**/*.crt".to_owned()], &[])?;
        let mut tree = Tree::new();
        let mut bundle = Vec::new();
        let mut package = None;
        for file in &files {
            package = Some(deb::unpack(
                file,
                &wanted,
                &mut self.spool,
                &mut tree,
                &mut |_| {},
            )?);
        }
        for (path, entry) in tree.iter() {
            let Node::File(content) = &entry.node else {
                continue;
            };
            bundle.extend(content.read().map_err(|cause| SourceError::Read {
                path: display(path).into(),
                cause,
            })?);
            if bundle.last() != Some(&b'\n') {
                bundle.push(b'\n');
            }
        }
        if bundle.is_empty() {
            return Err(SourceError::Lacks {
                package: source.package.clone(),
                what: "certificates".into(),
            });
        }
        let meta = Meta {
            mtime: tree.newest(),
            ..Meta::root(0o644)
        };
        self.assembly.time = self.assembly.time.max(tree.newest().unwrap_or(0));
        let path =
            self.assembly
                .tree
                .file(source.path.as_bytes(), meta, Content::from_bytes(bundle))?;
        if let Some(package) = package {
            self.assembly
                .packages
                .entry(package)
                .or_default()
                .insert(path);
        }
        Ok(())
    }

    fn file(&mut self, source: &FileSource) -> Result<(), SourceError> {
        let mut permissions = 0o644;
        let content = if let Some(text) = &source.content {
            Content::from_bytes(format!("{text}{}", source.append).into_bytes())
        } else if let Some(from) = &source.from {
            let path = self.recipe.beside(from);
            let read = |cause| SourceError::Read {
                path: path.clone(),
                cause,
            };
            let metadata = path.metadata().map_err(read)?;
            permissions = crate::directory::plain_mode(&metadata);
            let mut bytes = fs::read(&path).map_err(read)?;
            bytes.extend_from_slice(source.append.as_bytes());
            Content::from_bytes(bytes)
        } else {
            let copy = source.copy.as_deref().unwrap_or_default();
            let missing = || SourceError::NoFile(copy.to_owned());
            let (_, entry) = self
                .assembly
                .tree
                .find(copy.as_bytes())
                .ok_or_else(missing)?;
            let Node::File(content) = &entry.node else {
                return Err(missing());
            };
            permissions = entry.meta.mode;
            let mut bytes = content.read().map_err(|cause| SourceError::Read {
                path: copy.into(),
                cause,
            })?;
            bytes.extend_from_slice(source.append.as_bytes());
            Content::from_bytes(bytes)
        };
        let meta = Meta::root(mode(source.mode.as_deref(), permissions));
        self.assembly
            .tree
            .file(source.path.as_bytes(), meta, content)?;
        Ok(())
    }

    fn links(&mut self, source: &LinksSource) -> Result<(), SourceError> {
        for (path, target) in &source.links {
            self.assembly
                .tree
                .symlink(path.as_bytes(), Meta::root(0o777), target.as_bytes())?;
        }
        Ok(())
    }

    fn directories(&mut self, source: &DirectoriesSource) -> Result<(), SourceError> {
        for path in &source.paths {
            let meta = Meta::root(mode(source.mode.as_deref(), 0o755));
            self.assembly.tree.directory(path.as_bytes(), meta)?;
        }
        Ok(())
    }

    fn note_time(&mut self) {
        self.assembly.time = self
            .assembly
            .time
            .max(self.assembly.tree.newest().unwrap_or(0));
    }
}

/// A tree with the links of a merged `/usr`, as every Debian since 12 has them.
fn merged_usr() -> Result<Tree, TreeError> {
    let mut tree = Tree::new();
    for dir in ["bin", "sbin", "lib", "lib64"] {
        let target = format!("usr/{dir}");
        tree.symlink(
            dir.as_bytes(),
            Meta::root(0o777),
            Path::new(&target).as_os_str().as_bytes(),
        )?;
    }
    Ok(tree)
}

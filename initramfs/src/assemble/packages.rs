//! Sources that are packages: whole ones, programs out of them, kernels, certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use towline_contract::manifest::Package;

use crate::content::Spool;
use crate::deb;
use crate::filter::Filter;
use crate::kernel::{Kernel, ModulesIn, Selection};
use crate::recipe::{AptSource, DebSource, KernelSource};
use crate::rpm::{self, Names};
use crate::tree::{Meta, Node, Tree, TreeError};

use super::programs::Wanted;
use super::{Assembler, SourceError};

/// The kinds of packages.
#[derive(Clone, Copy)]
pub(super) enum Format {
    Deb,
    Rpm,
}

/// Unpacks packages of one kind.
struct Packages {
    format: Format,
    /// Users and groups that the layer knows, for packages that name them.
    names: Names,
    /// What the layer does not have as a package says.
    notes: Vec<String>,
}

impl Packages {
    /// Adds a package's files to `tree`; gives the package and the real paths of its files.
    fn unpack(
        &mut self,
        file: &Path,
        filter: &Filter,
        spool: &mut Spool,
        tree: &mut Tree,
    ) -> Result<(Package, BTreeSet<Vec<u8>>), SourceError> {
        let mut paths = BTreeSet::new();
        let mut added = |path| {
            paths.insert(path);
        };
        let package = match self.format {
            Format::Deb => deb::unpack(file, filter, spool, tree, &mut added)?,
            Format::Rpm => {
                let (names, notes) = (&self.names, &mut self.notes);
                rpm::unpack(file, names, filter, spool, tree, &mut added, notes)?
            }
        };
        Ok((package, paths))
    }
}

impl Assembler<'_> {
    /// Adds the files of packages that the recipe names as files.
    pub(super) fn package_files(
        &mut self,
        format: Format,
        source: &DebSource,
    ) -> Result<(), SourceError> {
        let files = source.files.iter().map(|file| self.input(file));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let rules = AptSource {
            exclude: source.exclude.clone(),
            include: source.include.clone(),
            to: source.to.clone(),
            programs: source.programs.clone(),
            dlopen: source.dlopen.clone(),
            private: source.private.clone(),
            ..AptSource::default()
        };
        self.packages(format, &files, &rules)
    }

    /// Adds the files of packages, or only the programs that the rules name.
    pub(super) fn packages(
        &mut self,
        format: Format,
        files: &[PathBuf],
        rules: &AptSource,
    ) -> Result<(), SourceError> {
        let mut packages = Packages {
            format,
            names: Names::of(&self.assembly.tree),
            notes: Vec::new(),
        };
        match rules.programs.is_empty() {
            true => self.whole_packages(&mut packages, files, rules)?,
            false => self.programs_of_packages(&mut packages, files, rules)?,
        }
        for note in packages.notes {
            (self.talk)(&note);
        }
        Ok(())
    }

    fn whole_packages(
        &mut self,
        packages: &mut Packages,
        files: &[PathBuf],
        rules: &AptSource,
    ) -> Result<(), SourceError> {
        let filter = Filter::new(&rules.include, &rules.exclude)?;
        (self.talk)(&format!("unpacking {} packages", files.len()));
        for file in files {
            let (package, paths) = if rules.to.is_empty() {
                let tree = &mut self.assembly.tree;
                packages.unpack(file, &filter, &mut self.spool, tree)?
            } else {
                let (mut tree, all) = (Tree::new(), Filter::default());
                let (package, _) = packages.unpack(file, &all, &mut self.spool, &mut tree)?;
                (package, self.graft(&tree, &rules.to, &filter)?)
            };
            self.assembly.packages.insert(package, paths);
        }
        self.note_time(self.assembly.tree.newest().unwrap_or(0));
        Ok(())
    }

    /// Adds programs and their libraries out of packages, which are unpacked aside.
    fn programs_of_packages(
        &mut self,
        packages: &mut Packages,
        files: &[PathBuf],
        rules: &AptSource,
    ) -> Result<(), SourceError> {
        let mut tree = merged_usr()?;
        let mut unpacked = BTreeMap::new();
        for file in files {
            let all = Filter::default();
            let (package, paths) = packages.unpack(file, &all, &mut self.spool, &mut tree)?;
            unpacked.insert(package, paths);
        }
        let wanted = Wanted {
            programs: &rules.programs,
            dlopen: &rules.dlopen,
            private: rules.private.as_deref(),
        };
        let mut taken = self.take_programs(&tree, &wanted)?;
        let filter = Filter::only(&rules.include, &rules.exclude)?;
        for (path, entry) in tree.iter().filter(|(path, _)| filter.keeps(path)) {
            if !matches!(entry.node, Node::Directory { .. }) {
                let place = self.assembly.tree.insert(path, entry.clone())?;
                taken.insert(path.to_vec(), place);
            }
        }
        for (package, paths) in unpacked {
            let places: BTreeSet<_> = paths
                .iter()
                .filter_map(|path| taken.get(path).cloned())
                .collect();
            if !places.is_empty() {
                self.assembly.packages.insert(package, places);
            }
        }
        self.note_time(tree.newest().unwrap_or(0));
        Ok(())
    }

    /// Adds a kernel's modules, and beside the image the kernel itself and what must be loaded before.
    pub(super) fn kernel(&mut self, source: &KernelSource) -> Result<(), SourceError> {
        let kernel = self.unpack_kernel(source)?;
        let selection = Selection {
            modules: source.modules.clone(),
            without: source.without.clone(),
        };
        let plain = kernel.select(&Selection {
            modules: source.plain.clone(),
            without: vec![],
        })?;
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
        let image = self
            .assembly
            .plain
            .file(image.as_bytes(), meta, kernel.image().clone())?;
        for path in kernel.paths(&plain) {
            // The index is the whole one: unpacked over the image, it must not hide what only the image has.
            for path in [path, kernel.path("modules.dep")] {
                if let Some(entry) = tree.get(path.as_bytes()) {
                    self.assembly.plain.insert(path.as_bytes(), entry.clone())?;
                }
            }
        }
        self.assembly.tree.merge(tree)?;
        self.note_time(kernel.time);
        // Without a package the release is all that is known of its version.
        let package = kernel.package.as_ref();
        let version = package.map_or(&kernel.release, |it| &it.version);
        let values = [
            ("kernel.version", version),
            ("kernel.release", &kernel.release),
        ];
        self.assembly
            .placeholders
            .extend(values.map(|(name, value)| (name.to_owned(), value.clone())));
        self.assembly.modules = kernel.provided(&names);
        self.assembly.reads = kernel.reads;
        if let Some(package) = kernel.package {
            self.assembly
                .packages
                .insert(package, BTreeSet::from([image]));
        }
        self.assembly.kernel_release = Some(kernel.release);
        Ok(())
    }

    fn unpack_kernel(&mut self, source: &KernelSource) -> Result<Kernel, SourceError> {
        let loose = match (&source.image, &source.initrd, &source.live_image) {
            (Some(image), Some(file), _) => Some((image, ModulesIn::Initramfs, file)),
            (Some(image), None, Some(file)) => Some((image, ModulesIn::Squashfs, file)),
            _ => None,
        };
        if let Some((image, kind, file)) = loose {
            let (image, file) = (self.input(image)?, self.input(file)?);
            return Ok(Kernel::loose(&image, kind, &file, &mut self.spool)?);
        }
        let file = match (&source.file, &source.package) {
            (Some(file), _) => self.input(file)?,
            (None, package) => self.apt()?.kernel(package.as_deref().unwrap_or_default())?,
        };
        Ok(Kernel::open(&file, &mut self.spool)?)
    }
}

/// A tree with the links of a merged `/usr`, as every Debian since 12 has them.
fn merged_usr() -> Result<Tree, TreeError> {
    let mut tree = Tree::new();
    for dir in ["bin", "sbin", "lib", "lib64"] {
        tree.symlink(
            dir.as_bytes(),
            Meta::root(0o777),
            format!("usr/{dir}").as_bytes(),
        )?;
    }
    Ok(tree)
}

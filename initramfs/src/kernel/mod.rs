//! Kernels from Debian packages, or from a kernel image and the initramfs or live system that has its modules: a selection of
//! modules with all they depend on, and their indexes.
//!
//! What a module needs is in its `.modinfo` section; `depmod` (kmod) writes the indexes of the selection. The medium and
//! the kernel layer use the same functions, so that they fit.

mod drives;
mod error;
mod in_image;
mod indexes;
mod loose;
mod modinfo;
mod reads;
mod selection;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use towline_contract::manifest::Package;

use crate::content::{Content, Spool};
use crate::deb;
use crate::filter::Filter;
use crate::tree::{Meta, Node, Tree, TreeError};
pub use drives::{Drives, drives};
pub use error::KernelError;
pub use loose::ModulesIn;
use modinfo::ModInfo;
pub use reads::{INITRAMFS, Reads, ReadsError, SQUASHFS_ZSTD};
pub use selection::Selection;

#[derive(Debug)]
struct Module {
    /// Below `lib/modules/RELEASE/`: `kernel/fs/ext4/ext4.ko`.
    path: String,
    content: Arc<Content>,
    info: ModInfo,
}

/// A kernel, unpacked.
#[derive(Debug)]
pub struct Kernel {
    /// What `uname -r` will say.
    pub release: String,
    /// The package, if it came in one.
    pub package: Option<Package>,
    /// The newest time among its files, in seconds since 1970.
    pub time: u32,
    /// What it can unpack and mount; none when its configuration is nowhere.
    pub reads: Option<Reads>,
    image: Arc<Content>,
    lists: Vec<(String, Arc<Content>)>,
    modules: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
    /// Modules by the aliases that soft dependencies use.
    aliases: HashMap<String, Vec<String>>,
}

impl Kernel {
    /// Unpacks the kernel package at `path`.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn open(path: &Path, spool: &mut Spool) -> Result<Self, KernelError> {
        let mut wanted = vec!["boot/vmlinuz-*".to_owned()];
        wanted.extend(WANTED.map(str::to_owned));
        let mut tree = modules_tree()?;
        let package = deb::unpack(
            path,
            &Filter::only(&wanted, &[])?,
            spool,
            &mut tree,
            &mut |_| {},
        )?;
        let no_kernel = |what: &str| KernelError::NoKernel {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let mut images = files(&tree, "boot/vmlinuz-");
        let (Some((release, image)), None) = (images.next(), images.next()) else {
            return Err(no_kernel("it should have one boot/vmlinuz-RELEASE"));
        };
        let kernel = Self::of_tree(release, Arc::clone(image), Some(package), &tree)?;
        if kernel.modules.is_empty() {
            return Err(no_kernel("it has no modules"));
        }
        Ok(kernel)
    }

    /// The kernel `release` with the modules in `tree`.
    fn of_tree(
        release: &str,
        image: Arc<Content>,
        package: Option<Package>,
        tree: &Tree,
    ) -> Result<Self, KernelError> {
        let mut kernel = Self {
            release: release.to_owned(),
            package,
            time: tree.newest().unwrap_or(0),
            reads: reads_of(release, tree, &image)?,
            image,
            lists: Vec::new(),
            modules: BTreeMap::new(),
            builtin: BTreeSet::new(),
            aliases: HashMap::new(),
        };
        let prefix = format!("{MODULES_DIR}/{release}/");
        for (name, content) in files(tree, &prefix) {
            kernel.add(name, content)?;
        }
        Ok(kernel)
    }

    fn add(&mut self, path: &str, content: &Arc<Content>) -> Result<(), KernelError> {
        let failed = |cause| KernelError::Module {
            module: path.to_owned(),
            cause,
        };
        let Some(name) = module_name(path) else {
            if path.starts_with("modules.") {
                self.lists.push((path.to_owned(), Arc::clone(content)));
            }
            if path == "modules.builtin" {
                let text = String::from_utf8(content.read().map_err(failed)?);
                let text = text.map_err(|cause| failed(io::Error::other(cause)))?;
                self.builtin = text.lines().filter_map(module_name).collect();
            }
            return Ok(());
        };
        let info = modinfo::read(path, content).map_err(failed)?;
        for alias in &info.aliases {
            self.aliases
                .entry(alias.replace('-', "_"))
                .or_default()
                .push(name.clone());
        }
        let module = Module {
            path: path.to_owned(),
            content: Arc::clone(content),
            info,
        };
        self.modules.insert(name, module);
        Ok(())
    }

    /// The kernel image (`vmlinuz`).
    #[must_use]
    pub fn image(&self) -> &Content {
        &self.image
    }

    /// Names of all that the kernel has with the modules of `names`: these and the built-in ones, sorted.
    #[must_use]
    pub fn provided(&self, names: &BTreeSet<String>) -> Vec<String> {
        self.builtin.union(names).cloned().collect()
    }

    /// The modules of `names` below `usr/lib/modules/RELEASE`, with indexes for just these.
    ///
    /// # Errors
    /// `depmod` fails, or a module cannot be read.
    pub fn modules(&self, names: &BTreeSet<String>) -> Result<Tree, KernelError> {
        let meta = |mode| Meta {
            mtime: Some(self.time),
            ..Meta::root(mode)
        };
        let mut tree = Tree::new();
        for name in names {
            if let Some(module) = self.modules.get(name) {
                let content = (*module.content).clone();
                tree.file(self.path(&module.path).as_bytes(), meta(0o644), content)?;
            }
        }
        for (name, content) in self.indexes(names)? {
            tree.file(self.path(&name).as_bytes(), meta(0o644), content)?;
        }
        Ok(tree)
    }

    /// The path in a layer of something in the directory of the kernel's modules.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        format!("{MODULES_DIR}/{}/{name}", self.release)
    }

    /// The paths in a layer of the modules of `names`.
    pub fn paths<'a>(&'a self, names: &'a BTreeSet<String>) -> impl Iterator<Item = String> + 'a {
        let modules = names.iter().filter_map(|name| self.modules.get(name));
        modules.map(|module| self.path(&module.path))
    }

    /// The indexes of these modules.
    fn indexes(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, Content>, KernelError> {
        let modules = names.iter().filter_map(|name| self.modules.get(name));
        let modules = modules.map(|module| (module.path.as_str(), &*module.content));
        let lists = self
            .lists
            .iter()
            .map(|(path, content)| (path.as_str(), &**content));
        indexes::by_depmod(&self.release, modules.chain(lists))
    }
}

/// Where modules and the kernel's configuration are in packages, initramfs images and live systems.
const WANTED: [&str; 3] = ["lib/modules", "usr/lib/modules", "boot/config-*"];

/// Where modules are in a layer, with a merged `/usr`.
const MODULES_DIR: &str = "usr/lib/modules";

/// What the kernel `release` can read, by its configuration in `tree`: Debian and SUSE have it in `boot`, Red Hat beside
/// the modules, others in the image itself. What is no configuration, or too large for one, tells nothing.
fn reads_of(release: &str, tree: &Tree, image: &Content) -> Result<Option<Reads>, KernelError> {
    let paths = [
        format!("boot/config-{release}"),
        format!("{MODULES_DIR}/{release}/config"),
    ];
    for path in paths {
        let Some(Node::File(content)) = tree.get(path.as_bytes()).map(|it| &it.node) else {
            continue;
        };
        if content.len() <= reads::CONFIG_BYTES_MAX {
            let text = content.read();
            let text = text.map_err(|cause| KernelError::Config { path, cause })?;
            return Ok(Reads::of_config(&text));
        }
    }
    Ok(in_image::config(image).and_then(|text| Reads::of_config(&text)))
}

/// A tree that takes modules from either place.
fn modules_tree() -> Result<Tree, TreeError> {
    let mut tree = Tree::new();
    tree.symlink(b"lib", Meta::root(0o777), b"usr/lib")?;
    Ok(tree)
}

/// The regular files of `tree` whose path begins with `prefix`, by the rest of it.
fn files<'a>(tree: &'a Tree, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Arc<Content>)> {
    tree.iter().filter_map(move |(path, entry)| {
        let rest = std::str::from_utf8(path).ok()?.strip_prefix(prefix)?;
        match &entry.node {
            Node::File(content) => Some((rest, content)),
            _ => None,
        }
    })
}

/// `e1000e` of `kernel/drivers/…/e1000e.ko.xz`; the kernel takes `-` for `_`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let name = &file[..file.find(".ko")?];
    Some(name.replace('-', "_"))
}

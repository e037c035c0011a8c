//! Layers for another kernel: kept exactly as stored, after the same judgement entry by entry.
//!
//! The stored layers, one after the other, are an initramfs that the chain's own kernel unpacks. It checks nothing, so
//! everything is checked here, in the pass that receives the bytes, and by the code that places layers in the running
//! kernel: names are made, without content, in two trees.
//! - The *root*, as it would be placed here: images mounted, and the plain layers over them.
//! - The *initramfs*, as the other kernel will have it: all plain entries, those beside images too, for [`crate::assemble`]
//!   starts there.
//!
//! Both are gone before the kernel is loaded, which takes more memory than they did.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use towline_contract::lanes::{EntryPath, LayerItem, LayerReader};
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::trust::Verified;

use super::PlaceError;
use super::layer::{LayerSink, Placer};
use super::root::{Mounting, Root, open_tree, require_init};
use super::unpack::{Fill, Unpacker};

/// Where a kernel layer has its kernel: a plain file beside the image, with the release behind it.
const KERNEL_PREFIX: &str = "boot/vmlinuz-";

/// Where the plain entries of all layers are, by name.
const INITRAMFS: &str = "initramfs";

/// A chain for another kernel in the making.
pub struct KexecPlacing {
    dir: PathBuf,
    mounting: Mounting,
    layers: Vec<PathBuf>,
    root: Root,
    initramfs: OwnedFd,
}

/// A complete chain for another kernel.
#[derive(Debug)]
pub struct KexecChain {
    /// The kernel.
    pub kernel: PathBuf,
    /// The stored layers, in order; each is a multiple of four bytes long.
    pub layers: Vec<PathBuf>,
}

impl KexecPlacing {
    /// Starts in `dir`, a file system in memory.
    ///
    /// # Errors
    /// It cannot be made or mounted.
    pub fn create(dir: &Path, mounting: Mounting) -> Result<Self, PlaceError> {
        let root = Root::filled(dir, mounting, Fill::Names)?;
        let initramfs = dir.join(INITRAMFS);
        fs::create_dir_all(&initramfs).map_err(|cause| PlaceError::Mount {
            what: "make",
            path: initramfs.display().to_string(),
            cause,
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            mounting,
            layers: Vec::new(),
            root,
            initramfs: open_tree(&initramfs)?,
        })
    }

    /// Takes the next layer of the chain.
    ///
    /// # Errors
    /// Its file cannot be made, or the images before it cannot be mounted.
    pub fn layer(&mut self, manifest: &Verified<Manifest>) -> Result<LayerSink<'_>, PlaceError> {
        let layer = manifest.target_name();
        let judges = self.judges(manifest, &layer)?;
        let path = self.dir.join(format!("{:02}.layer", self.layers.len()));
        let write = |cause| PlaceError::Write {
            what: "write",
            path: path.display().to_string(),
            layer: layer.clone(),
            cause,
        };
        let stored = File::create(&path).map_err(write)?;
        self.layers.push(path.clone());
        let release = manifest.kernel_release.as_ref();
        let release = release.filter(|_| manifest.kind == Kind::Kernel);
        let placer = Keeper {
            layer,
            path,
            stored,
            bytes: 0,
            judges,
            kernel_entry: release.map(|it| format!("{KERNEL_PREFIX}{it}")),
            kernel: self.dir.join("vmlinuz"),
            kernel_file: None,
        };
        LayerSink::new(manifest, self.root.replaceable(), Box::new(placer))
    }

    /// What judges the entries of a layer by where they would lie. Plain entries from before the first image (a kernel's)
    /// have nothing below them but the initramfs.
    fn judges(
        &mut self,
        manifest: &Manifest,
        layer: &str,
    ) -> Result<Vec<Box<dyn Placer>>, PlaceError> {
        self.root.note_replaceable(manifest);
        let tree = self.initramfs.try_clone();
        let tree = tree.map_err(|cause| PlaceError::Mount {
            what: "open",
            path: self.dir.join(INITRAMFS).display().to_string(),
            cause,
        })?;
        let unpacker = Unpacker::new(tree, layer.to_owned(), Fill::Names);
        let mut judges: Vec<Box<dyn Placer>> = vec![Box::new(unpacker)];
        if manifest.image.is_some() || self.root.has_images() {
            judges.push(self.root.placer(manifest)?);
        }
        Ok(judges)
    }

    /// Ends the chain.
    ///
    /// # Errors
    /// It has no kernel, or nothing to start.
    pub fn finish(mut self) -> Result<KexecChain, PlaceError> {
        let kernel = self.dir.join("vmlinuz");
        if !kernel.exists() {
            return Err(PlaceError::Incomplete(
                "no kernel layer of the chain has boot/vmlinuz- with the release it names".into(),
            ));
        }
        if self.mounting == Mounting::Real {
            match self.root.has_images() {
                true => require_init(self.root.tree()?)?,
                false => require_init(&self.initramfs)?,
            }
        }
        self.root.dissolve();
        // As with the root: what stays costs memory only.
        let _ = fs::remove_dir_all(self.dir.join(INITRAMFS));
        Ok(KexecChain {
            kernel,
            layers: self.layers,
        })
    }
}

/// Keeps a layer's stored bytes, and the kernel in it.
struct Keeper {
    layer: String,
    path: PathBuf,
    stored: File,
    bytes: u64,
    /// They refuse what may not lie where it does.
    judges: Vec<Box<dyn Placer>>,
    /// Name of the entry that is the kernel, in a kernel layer.
    kernel_entry: Option<String>,
    /// Where it goes.
    kernel: PathBuf,
    kernel_file: Option<File>,
}

impl Keeper {
    fn failed(&self, cause: std::io::Error) -> PlaceError {
        let (path, layer) = (self.path.display().to_string(), self.layer.clone());
        PlaceError::Write {
            what: "write",
            path,
            layer,
            cause,
        }
    }
}

impl Placer for Keeper {
    fn stored(&mut self, chunk: &[u8]) -> Result<(), PlaceError> {
        self.bytes += chunk.len() as u64;
        let written = self.stored.write_all(chunk);
        written.map_err(|cause| self.failed(cause))
    }

    fn item(&mut self, item: LayerItem<'_>, reader: &LayerReader) -> Result<(), PlaceError> {
        for judge in &mut self.judges {
            judge.item(item.clone(), reader)?;
        }
        let is_kernel = |path: &EntryPath| {
            let entry = self.kernel_entry.as_ref();
            entry.is_some_and(|it| it.as_bytes() == path.as_bytes())
        };
        match item {
            LayerItem::FileStart { path, .. } if is_kernel(&path) => {
                let file = File::create(&self.kernel);
                self.kernel_file = Some(file.map_err(|cause| self.failed(cause))?);
            }
            LayerItem::FileData(bytes) => {
                if let Some(file) = &mut self.kernel_file {
                    let written = file.write_all(bytes);
                    written.map_err(|cause| self.failed(cause))?;
                }
            }
            LayerItem::FileEnd => self.kernel_file = None,
            _ => {}
        }
        Ok(())
    }

    /// The kernel wants the next layer to begin at a multiple of four bytes.
    fn finish(&mut self) -> Result<(), PlaceError> {
        for judge in &mut self.judges {
            judge.finish()?;
        }
        let missing = self.bytes.next_multiple_of(4) - self.bytes;
        let padding = [0; 3];
        let written = self
            .stored
            .write_all(&padding[..usize::try_from(missing).unwrap_or(0)]);
        written.map_err(|cause| self.failed(cause))
    }
}

//! Layers for another kernel: kept exactly as stored, after the same judgement entry by entry.
//!
//! The stored layers, one after the other, are an initramfs that the chain's own kernel unpacks. It checks nothing, so
//! everything is checked here, in the pass that receives the bytes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use towline_contract::lanes::{EntryPath, LayerItem, LayerReader};
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::trust::Verified;

use super::PlaceError;
use super::layer::{LayerSink, Placer};
use super::root::Mounting;

/// Where a kernel layer has its kernel: a plain file beside the image, with the release behind it.
const KERNEL_PREFIX: &str = "boot/vmlinuz-";

/// A chain for another kernel in the making.
pub struct KexecPlacing {
    dir: PathBuf,
    layers: Vec<PathBuf>,
    replaceable: Vec<String>,
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
        let failed = |what, cause| PlaceError::Mount {
            what,
            path: dir.display().to_string(),
            cause,
        };
        fs::create_dir_all(dir).map_err(|cause| failed("make", cause))?;
        if mounting == Mounting::Real {
            rustix::mount::mount(
                "towline",
                dir,
                "tmpfs",
                MountFlags::empty(),
                Some(c"size=95%,mode=0755"),
            )
            .map_err(|errno| failed("mount memory on", errno.into()))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            layers: Vec::new(),
            replaceable: Vec::new(),
        })
    }

    /// Takes the next layer of the chain.
    ///
    /// # Errors
    /// Its file cannot be made.
    pub fn layer(&mut self, manifest: &Verified<Manifest>) -> Result<LayerSink<'_>, PlaceError> {
        if manifest.kind == Kind::Base {
            self.replaceable.clone_from(&manifest.replaceable);
        }
        let layer = manifest.target_name();
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
            kernel_entry: release.map(|it| format!("{KERNEL_PREFIX}{it}")),
            kernel: self.dir.join("vmlinuz"),
            kernel_file: None,
        };
        LayerSink::new(manifest, &self.replaceable, Box::new(placer))
    }

    /// Ends the chain.
    ///
    /// # Errors
    /// It has no kernel.
    pub fn finish(self) -> Result<KexecChain, PlaceError> {
        let kernel = self.dir.join("vmlinuz");
        if !kernel.exists() {
            return Err(PlaceError::Incomplete(
                "no kernel layer of the chain has boot/vmlinuz- with the release it names".into(),
            ));
        }
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

    fn item(&mut self, item: LayerItem<'_>, _: &LayerReader) -> Result<(), PlaceError> {
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
        let missing = self.bytes.next_multiple_of(4) - self.bytes;
        let padding = [0; 3];
        let written = self
            .stored
            .write_all(&padding[..usize::try_from(missing).unwrap_or(0)]);
        written.map_err(|cause| self.failed(cause))
    }
}

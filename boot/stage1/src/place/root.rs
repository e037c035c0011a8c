//! The rescue system's root, made of layers while they download.
//!
//! ```text
//! DIR            a tmpfs of most of the memory
//! DIR/images/    squashfs files as they came, mounted read-only under DIR/mounts/NAME
//! DIR/upper/     what plain layers bring, and what the rescue system writes
//! DIR/root/      images and upper as one tree: the new root
//! ```
//! A layer with an image brings its image only: what lies beside it is for boot loaders that unpack layers themselves.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use towline_contract::lanes::{LayerItem, LayerReader};
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::trust::Verified;

use super::layer::{LayerSink, Placer};
use super::unpack::{Fill, Unpacker};
use super::{PlaceError, stack};

/// What is made in a root's directory.
const FOLDERS: &[&str] = &["images", "mounts", "upper", "work", "root"];

/// Whether file systems are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounting {
    /// As on a machine that boots.
    Real,
    /// Nothing is mounted: images are written, and plain layers unpacked in a folder without them. For tests and for
    /// looking at a chain on an ordinary machine.
    None,
}

/// A root in the making.
pub struct Root {
    dir: PathBuf,
    mounting: Mounting,
    fill: Fill,
    /// In the chain's order, each with a name of its own: there is one kernel and one base, and images are named by kind.
    images: Vec<PathBuf>,
    replaceable: Vec<String>,
    /// Open once the images are stacked.
    tree: Option<OwnedFd>,
}

/// A complete root.
#[derive(Debug)]
pub struct PlacedRoot {
    /// Where it is.
    pub path: PathBuf,
}

impl Root {
    /// Starts a root in `dir`, which is made if need be.
    ///
    /// # Errors
    /// It cannot be made or mounted.
    pub fn create(dir: &Path, mounting: Mounting) -> Result<Self, PlaceError> {
        Self::filled(dir, mounting, Fill::Whole)
    }

    /// The same for a root that is started, or of which only the names are made.
    pub(super) fn filled(dir: &Path, mounting: Mounting, fill: Fill) -> Result<Self, PlaceError> {
        let failed = |what, path: &Path, cause| PlaceError::Mount {
            what,
            path: path.display().to_string(),
            cause,
        };
        fs::create_dir_all(dir).map_err(|cause| failed("make", dir, cause))?;
        if mounting == Mounting::Real {
            // All of the memory, nearly: what does not fit must fail here, with a message, and not be cut off.
            rustix::mount::mount(
                "towline",
                dir,
                "tmpfs",
                MountFlags::empty(),
                Some(c"size=95%,mode=0755,nr_inodes=1m"),
            )
            .map_err(|errno| failed("mount memory on", dir, errno.into()))?;
        }
        for folder in FOLDERS {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(|cause| failed("make", &path, cause))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            mounting,
            fill,
            images: Vec::new(),
            replaceable: Vec::new(),
            tree: None,
        })
    }

    /// Takes the next layer of the chain.
    ///
    /// # Errors
    /// An image comes after plain layers, or the images cannot be mounted.
    pub fn layer(&mut self, manifest: &Verified<Manifest>) -> Result<LayerSink<'_>, PlaceError> {
        self.note_replaceable(manifest);
        let placer = self.placer(manifest)?;
        LayerSink::new(manifest, &self.replaceable, placer)
    }

    /// Only what the *base* says is replaceable counts.
    pub(super) fn note_replaceable(&mut self, manifest: &Manifest) {
        if manifest.kind == Kind::Base {
            self.replaceable.clone_from(&manifest.replaceable);
        }
    }

    pub(super) fn replaceable(&self) -> &[String] {
        &self.replaceable
    }

    pub(super) fn has_images(&self) -> bool {
        !self.images.is_empty()
    }

    /// What places the entries of the next layer of the chain.
    pub(super) fn placer(&mut self, manifest: &Manifest) -> Result<Box<dyn Placer>, PlaceError> {
        let layer = manifest.target_name();
        Ok(if let Some(image) = &manifest.image {
            if self.tree.is_some() {
                return Err(PlaceError::Incomplete(format!(
                    "image layer {layer} comes after a layer of plain files"
                )));
            }
            let name = image.path.rsplit('/').next().unwrap_or(&image.path);
            let path = self.dir.join("images").join(name);
            self.images.push(path.clone());
            Box::new(ImagePlacer {
                layer,
                path,
                file: None,
            })
        } else {
            Box::new(Unpacker::new(self.tree()?, layer, self.fill))
        })
    }

    /// Ends the root: it must have something to start.
    ///
    /// # Errors
    /// It cannot be mounted, or has no `sbin/init`.
    pub fn finish(mut self) -> Result<PlacedRoot, PlaceError> {
        let tree = self.tree()?;
        if self.mounting == Mounting::Real {
            require_init(&tree)?;
        }
        Ok(PlacedRoot { path: self.path() })
    }

    /// Ends a root that was made to judge layers only: its mounts and its memory are given back.
    pub(super) fn dissolve(self) {
        let Self {
            dir,
            mounting,
            images,
            tree,
            ..
        } = self;
        drop(tree);
        if mounting == Mounting::Real {
            stack::unmount_images(&images, &dir);
        }
        for folder in FOLDERS {
            // What stays costs memory, and its absence is not relied upon.
            let _ = fs::remove_dir_all(dir.join(folder));
        }
    }

    fn path(&self) -> PathBuf {
        let stacked = self.mounting == Mounting::Real && !self.images.is_empty();
        self.dir.join(if stacked { "root" } else { "upper" })
    }

    /// The tree that plain layers go into; stacks the images when the first one comes.
    pub(super) fn tree(&mut self) -> Result<OwnedFd, PlaceError> {
        if self.tree.is_none() {
            if self.mounting == Mounting::Real && !self.images.is_empty() {
                stack::mount_images(&self.images, &self.dir)?;
            }
            self.tree = Some(open_tree(&self.path())?);
        }
        let tree = self
            .tree
            .as_ref()
            .ok_or_else(|| PlaceError::Incomplete("there is no tree".into()))?;
        tree.try_clone().map_err(|cause| PlaceError::Mount {
            what: "open",
            path: "the new root".into(),
            cause,
        })
    }
}

/// Opens the directory that entries are placed in.
pub(super) fn open_tree(path: &Path) -> Result<OwnedFd, PlaceError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| PlaceError::Mount {
        what: "open",
        path: path.display().to_string(),
        cause: errno.into(),
    })
}

/// Whether `tree` has something to start.
pub(super) fn require_init(tree: impl AsFd) -> Result<(), PlaceError> {
    use rustix::fs::{ResolveFlags, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat2(
        tree,
        "sbin/init",
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    );
    found.map(drop).map_err(|errno| {
        PlaceError::Incomplete(format!("the chain has no sbin/init to start ({errno})"))
    })
}

/// Writes a layer's image to a file as it comes, and passes over the rest.
struct ImagePlacer {
    layer: String,
    path: PathBuf,
    file: Option<File>,
}

impl ImagePlacer {
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

impl Placer for ImagePlacer {
    fn item(&mut self, item: LayerItem<'_>, _: &LayerReader) -> Result<(), PlaceError> {
        match item {
            LayerItem::FileStart { image: true, .. } => {
                self.file = Some(File::create(&self.path).map_err(|cause| self.failed(cause))?);
            }
            LayerItem::FileData(bytes) => {
                if let Some(file) = &mut self.file {
                    let written = file.write_all(bytes);
                    written.map_err(|cause| self.failed(cause))?;
                }
            }
            LayerItem::FileEnd => self.file = None,
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), PlaceError> {
        if self.path.exists() {
            return Ok(());
        }
        Err(PlaceError::Incomplete(format!(
            "layer {} lacks the image that its manifest names",
            self.layer
        )))
    }
}

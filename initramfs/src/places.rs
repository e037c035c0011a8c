//! Where the entries of a stored layer go: what the chain's tree looks like, without unpacking anything.
//!
//! A layer's image counts with what lies beside it: in place the image alone is mounted, but a kernel that unpacks the
//! layer by itself has both.

use std::fs::File;
use std::io;
use std::path::Path;

use towline_contract::lanes::{EntryPath, LayerItem};
use towline_contract::manifest::Manifest;

use crate::items::items;
use crate::squashfs::inode::What;
use crate::squashfs::walk::entries;
use crate::stored::StoredError;

/// One path of a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Relative to the root, without a leading slash.
    pub path: Vec<u8>,
    /// Whether it is a directory; otherwise a file, link or node.
    pub directory: bool,
}

impl Place {
    /// A path.
    #[must_use]
    pub fn new(path: &[u8], directory: bool) -> Self {
        Self {
            path: path.to_owned(),
            directory,
        }
    }
}

/// The paths of the layer at `path`, in its order; those in its image come last. The image itself is none of them.
///
/// # Errors
/// The layer cannot be read or breaks a rule of its kind, or its image is no squashfs that can be read.
pub fn places(path: &Path, manifest: &Manifest) -> Result<Vec<Place>, StoredError> {
    let mut places = Vec::new();
    let image = items(path, manifest, |item| match item {
        LayerItem::FileData(_) | LayerItem::FileEnd => {}
        LayerItem::Directory { path, .. } => add(&mut places, &path, true),
        LayerItem::FileStart { path, .. }
        | LayerItem::Symlink { path, .. }
        | LayerItem::Hardlink { path, .. }
        | LayerItem::Node { path, .. } => add(&mut places, &path, false),
    })?;
    if let Some(image) = image {
        let inside = inside(image).map_err(|cause| StoredError::Image {
            path: path.to_owned(),
            cause,
        })?;
        places.extend(inside);
    }
    Ok(places)
}

/// Adds a plain entry; the way to the image is no part of the tree.
fn add(places: &mut Vec<Place>, path: &EntryPath, directory: bool) {
    if path.components().next() != Some(b"towline") {
        places.push(Place::new(path.as_bytes(), directory));
    }
}

/// The paths in a squashfs.
fn inside(image: File) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    entries(image, |found| {
        let directory = matches!(found.inode.what, What::Directory(_));
        places.push(Place::new(found.path, directory));
        Ok(())
    })?;
    Ok(places)
}

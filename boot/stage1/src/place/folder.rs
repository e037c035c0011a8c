//! A layer in a folder of its own, away from any other's: on the disk of a machine that is recovered.

use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use towline_contract::manifest::Manifest;
use towline_contract::trust::Verified;

use super::unpack::{Fill, Unpacker};
use super::{LayerSink, PlaceError};

/// Takes a layer into `folder`, which exists, is empty and is no link. The rules for its kind hold as they do in memory.
///
/// # Errors
/// The folder cannot be opened, or the layer's compression is unknown.
pub fn layer_in(
    folder: &Path,
    manifest: &Verified<Manifest>,
) -> Result<LayerSink<'static>, PlaceError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tree = open(folder, flags, Mode::empty()).map_err(|errno| PlaceError::Mount {
        what: "open",
        path: folder.display().to_string(),
        cause: errno.into(),
    })?;
    let unpacker = Unpacker::new(tree, manifest.target_name(), Fill::Whole);
    LayerSink::new(manifest, &[], Box::new(unpacker))
}

//! The entries of a stored layer as its rules let them through, and its image apart, in a file of its own.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use towline_contract::lanes::{LayerItem, LayerReader};
use towline_contract::manifest::Manifest;

use crate::stored::{StoredError, unpack};

/// Calls `take` for every entry of the layer at `path` that is no part of its image, and gives the image, if it has one, from
/// its start.
///
/// # Errors
/// The layer cannot be read or breaks a rule of its kind, or there is no room for the image.
pub(crate) fn items(
    path: &Path,
    manifest: &Manifest,
    mut take: impl FnMut(LayerItem<'_>),
) -> Result<Option<File>, StoredError> {
    let mut reader = LayerReader::new(manifest, &[]);
    let mut image: Option<File> = None;
    let mut in_image = false;
    unpack(path, manifest.compression, |mut bytes| {
        while let Some(item) = reader.next(&mut bytes)? {
            match item {
                LayerItem::FileStart { image: true, .. } => {
                    image = Some(tempfile::tempfile().map_err(temporary)?);
                    in_image = true;
                }
                LayerItem::FileData(data) if in_image => {
                    if let Some(image) = &mut image {
                        image.write_all(data).map_err(temporary)?;
                    }
                }
                LayerItem::FileEnd if in_image => in_image = false,
                other => take(other),
            }
        }
        Ok(())
    })?;
    reader.finish()?;
    if let Some(image) = &mut image {
        image.rewind().map_err(temporary)?;
    }
    Ok(image)
}

fn temporary(cause: io::Error) -> StoredError {
    StoredError::Temporary {
        path: std::env::temp_dir(),
        cause,
    }
}

//! The entries of a stored layer as its rules let them through, and its image apart, in a file of its own.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use towline_contract::lanes::{EntryPath, LayerItem, LayerReader};
use towline_contract::manifest::Manifest;

use crate::squashfs::inode::What;
use crate::squashfs::walk::entries;
use crate::stored::{StoredError, unpack};

/// Calls `take` for every entry of the layer at `path` that is no part of its image, and gives the image, if it has one.
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
    Ok(image)
}

/// Hears of a file: its path, and its bytes if they were wanted.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&str, Option<Vec<u8>>);

/// Calls `each` for every file and link of the layer at `path`, in its image too, with the bytes of those files that are
/// `wanted` and have at most `bytes_max`. Paths that are no text are passed over.
///
/// # Errors
/// As [`items`], or the image is no squashfs that can be read.
pub(crate) fn files(
    path: &Path,
    manifest: &Manifest,
    bytes_max: u64,
    wanted: &dyn Fn(&str) -> bool,
    each: Each<'_>,
) -> Result<(), StoredError> {
    let text = |path: &EntryPath| std::str::from_utf8(path.as_bytes()).map(str::to_owned).ok();
    let mut file: Option<(String, Option<Vec<u8>>)> = None;
    let image = items(path, manifest, |item| match item {
        LayerItem::FileStart { path, bytes, .. } => {
            let is_wanted = |path: &String| bytes <= bytes_max && wanted(path);
            file = text(&path).map(|path| {
                let bytes = is_wanted(&path).then(Vec::new);
                (path, bytes)
            });
        }
        LayerItem::FileData(data) => {
            if let Some((_, Some(bytes))) = &mut file {
                bytes.extend_from_slice(data);
            }
        }
        LayerItem::FileEnd => {
            if let Some((path, bytes)) = file.take() {
                each(&path, bytes);
            }
        }
        LayerItem::Symlink { path, .. } | LayerItem::Hardlink { path, .. } => {
            if let Some(path) = text(&path) {
                each(&path, None);
            }
        }
        LayerItem::Directory { .. } | LayerItem::Node { .. } => {}
    })?;
    let Some(image) = image else { return Ok(()) };
    inside(image, bytes_max, wanted, each).map_err(|cause| StoredError::Image {
        path: path.to_owned(),
        cause,
    })
}

/// The same for a squashfs.
fn inside(
    image: File,
    bytes_max: u64,
    wanted: &dyn Fn(&str) -> bool,
    each: Each<'_>,
) -> io::Result<()> {
    entries(image, |mut found| {
        let Ok(path) = std::str::from_utf8(found.path) else {
            return Ok(());
        };
        match &found.inode.what {
            What::File(content) if content.bytes <= bytes_max && wanted(path) => {
                let mut bytes = Vec::new();
                found.content(content, |block| {
                    bytes.extend_from_slice(block);
                    Ok(())
                })?;
                each(path, Some(bytes));
            }
            What::File(_) | What::Symlink(_) => each(path, None),
            What::Directory(_) | What::Special { .. } => {}
        }
        Ok(())
    })
}

fn temporary(cause: io::Error) -> StoredError {
    StoredError::Temporary {
        path: std::env::temp_dir(),
        cause,
    }
}

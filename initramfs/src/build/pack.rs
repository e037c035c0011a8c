//! What is written as a layer: plain entries, or an image with some of them around it.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;
use towline_contract::handover::IMAGES_DIR;
use towline_contract::manifest::{Compression, Image, Kind};

use super::BuildError;
use crate::assemble::Assembly;
use crate::content::Content;
use crate::filter::glob_set;
use crate::image::{self, Index, Making, Place};
use crate::recipe::{Form, Recipe};
use crate::tree::{Meta, Tree};
use crate::write::{self, Stored, WriteError};

/// Keeps the layer with its image for the next build.
fn keep(index: Index, layer: &Path, dir: &Path, talk: &mut dyn FnMut(&str)) {
    if let Err(error) = index.keep(layer, dir) {
        let dir = dir.display();
        talk(&format!(
            "blocks are not kept for the next build: cannot write to {dir}: {error}"
        ));
    }
}

/// What goes into the archive.
pub(super) struct Packed {
    tree: Tree,
    pub(super) compression: Compression,
    pub(super) image: Option<Image>,
    /// Where in the layer's file the image is already.
    there: Option<Range<u64>>,
    /// Where the blocks of the image are.
    index: Option<Index>,
    pub(super) assembly: Assembly,
}

impl Packed {
    /// Writes the layer, and keeps its image for the next build.
    pub(super) fn write(
        &mut self,
        recipe: &Recipe,
        time: u32,
        file: &NamedTempFile,
        cache: &Path,
        talk: &mut dyn FnMut(&str),
    ) -> Result<Stored, BuildError> {
        let layer = file.as_file();
        let stored = match self.there.take() {
            Some(there) => write::write_around(there, &self.tree, time, layer),
            None => write::write(&self.tree, time, self.compression, recipe.level, layer),
        }?;
        if let Some(index) = self.index.take() {
            keep(index, file.path(), &kept(recipe, cache), talk);
        }
        Ok(stored)
    }
}

/// Decides what goes into the archive; an image is made now, at its place in the file `layer`.
pub(super) fn pack(
    recipe: &Recipe,
    mut assembly: Assembly,
    compression: Compression,
    time: u32,
    layer: &File,
    cache: &Path,
    talk: &mut dyn FnMut(&str),
) -> Result<Packed, BuildError> {
    let mut tree = std::mem::take(&mut assembly.tree);
    let plain = std::mem::take(&mut assembly.plain);
    if recipe.form == Form::Files {
        tree.merge(plain)?;
        return Ok(Packed {
            tree,
            compression,
            image: None,
            there: None,
            index: None,
            assembly,
        });
    }
    let globs = glob_set(&recipe.plain).map_err(|cause| BuildError::Recipe {
        recipe: recipe.path.clone(),
        what: cause.to_string(),
    })?;
    let mut beside = tree.split(|path| globs.is_match(String::from_utf8_lossy(path).as_ref()));
    beside.merge(plain)?;
    let number = if recipe.kind == Kind::Kernel { 10 } else { 20 };
    let path = format!("{IMAGES_DIR}/{number}-{}.squashfs", recipe.kind);
    let meta = Meta::root(0o644);
    let placed = beside.file(path.as_bytes(), meta, Content::from_bytes([]))?;
    let making = Making {
        time,
        level: recipe.level,
        kept: Some(&kept(recipe, cache)),
    };
    // The image is written where it belongs in the layer; the rest comes around it.
    let at = write::body_at(&beside, time, &placed)?;
    let made = image::write(&tree, making, Place { file: layer, at })?;
    let same = layer.try_clone().map_err(WriteError::Output)?;
    let image = Content::of_part(Arc::new(same), at, made.bytes);
    beside.file(&placed, meta, image)?;
    if made.blocks.found > 0 {
        let (found, all) = (
            made.blocks.found,
            made.blocks.found + made.blocks.compressed,
        );
        talk(&format!(
            "{found} of {all} blocks of the image are those of an earlier build"
        ));
    }
    Ok(Packed {
        tree: beside,
        compression: Compression::None,
        image: Some(Image {
            path,
            bytes: made.bytes,
            content_bytes: made.content_bytes,
        }),
        there: Some(at..at + made.bytes),
        index: made.index,
        assembly,
    })
}

/// The folder with what is kept of an earlier build of this layer.
fn kept(recipe: &Recipe, cache: &Path) -> PathBuf {
    let (kind, name, architecture) = (recipe.kind, &recipe.name, &recipe.architecture);
    cache
        .join("images")
        .join(format!("{kind}-{name}-{architecture}"))
}

#[cfg(test)]
mod tests;

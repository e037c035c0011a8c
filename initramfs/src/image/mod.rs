//! The `image` form: most of the tree as one squashfs, kept compressed in memory by the rescue system.
//!
//! The bytes depend on the tree and the level alone. Which bytes are compressed together is decided first ([`plan`]); all cores
//! compress blocks, or find them among those of an earlier build ([`data`], [`kept`]); the tables come last ([`inodes`]). Why neither
//! mksquashfs nor a crate: `docs/decisions/images-by-an-own-writer.md`.

mod copies;
mod data;
mod folders;
mod inodes;
mod kept;
mod listing;
mod metadata;
mod plan;
mod superblock;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::parallel;
use crate::tree::{Node, Tree, display};
use copies::Copies;
pub use data::Blocks;
use data::Way;
use folders::Folders;
use inodes::Inodes;
pub use kept::Index;
use kept::Kept;
use plan::{Plan, Sharing};

/// Size of the blocks that are compressed one by one, in bytes. Larger blocks pack better and cost more to read a
/// small piece of.
const BLOCK_BYTES: usize = 256 << 10;

/// Lowest level whose blocks are kept: below it, finding a block again takes about as long as compressing it.
const KEPT_LEVEL_MIN: i32 = 6;

/// Images end at a multiple of this, in bytes: loop devices have no parts of a page.
const PADDED_TO: u64 = 4096;

/// Why an image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// An entry that squashfs cannot hold.
    #[error("the image cannot hold {path}")]
    Entry {
        /// Its path in the layer.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file cannot be read, or was changed meanwhile.
    #[error("cannot read the content of {path}")]
    Content {
        /// Its path in the layer.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Writing the image failed.
    #[error("cannot write the image into the layer")]
    Write(#[source] io::Error),
}

impl ImageError {
    fn content(path: &[u8], cause: io::Error) -> Self {
        let path = display(path);
        Self::Content { path, cause }
    }

    fn entry(path: &[u8], cause: io::Error) -> Self {
        let path = display(path);
        Self::Entry { path, cause }
    }
}

/// How an image is made.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// Time of entries that have none, in seconds since 1970.
    pub time: u32,
    /// Level of zstd.
    pub level: i32,
    /// Folder with what was kept of an earlier build.
    pub kept: Option<&'a Path>,
}

/// Where an image is written.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file, which ends with the image.
    pub file: &'a File,
    /// Where in it the image begins, in bytes.
    pub at: u64,
}

impl Place<'_> {
    /// Writes bytes that begin at `at` in the image.
    fn write(self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at + at)
    }
}

/// What came of making an image.
#[derive(Debug)]
pub struct Made {
    /// Its size.
    pub bytes: u64,
    /// Sum of the files' sizes.
    pub content_bytes: u64,
    /// Where its blocks came from.
    pub blocks: Blocks,
    /// Where they are, for the next build; none at levels at which that is not worth it.
    pub index: Option<Index>,
}

/// Makes a squashfs of zstd blocks from `tree`.
///
/// # Errors
/// See [`ImageError`].
pub fn write(tree: &Tree, making: Making<'_>, place: Place<'_>) -> Result<Made, ImageError> {
    write_with_workers(tree, making, parallel::workers(), place)
}

/// The same with this number of workers, which does not change a byte.
fn write_with_workers(
    tree: &Tree,
    making: Making<'_>,
    workers: usize,
    place: Place<'_>,
) -> Result<Made, ImageError> {
    let is_kept = making.level >= KEPT_LEVEL_MIN;
    let earlier = making.kept.filter(|_| is_kept).and_then(Kept::open);
    let sharing = match is_kept {
        true => Sharing::APART,
        false => Sharing::FULL,
    };
    let plan = Plan::new(tree, Copies::find(tree, workers)?, sharing);
    let way = Way {
        level: making.level,
        earlier: earlier.as_ref(),
    };
    let mut index = Index::default();
    let data = data::write(&plan.blocks, way, workers, &mut index, place)?;
    let tables = Inodes::new(&plan, &data, making.time).map_err(ImageError::Write)?;
    let tables = tables.write(&Folders::of(tree))?;
    let bytes = superblock::finish(place, making.time, &plan, &data, &tables);
    Ok(Made {
        bytes: bytes.map_err(ImageError::Write)?,
        content_bytes: content_bytes(tree),
        blocks: data.came,
        index: is_kept.then_some(index),
    })
}

/// The sum of the files' sizes, each as often as it has names.
fn content_bytes(tree: &Tree) -> u64 {
    let sizes = tree.iter().map(|(_, entry)| match &entry.node {
        Node::File(content) => content.len(),
        _ => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests;

//! The `image` form: most of the tree as one squashfs, kept compressed in memory by the rescue system.
//!
//! Written by the backhand crate, block after block, so that the bytes depend on the tree alone and no program of the
//! machine is used; the blocks are compressed on all cores before it asks for them, and kept for the next build. Why not
//! mksquashfs: `docs/decisions/images-by-backhand.md`.

mod ahead;
mod blocks;
mod kept;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::kind::{Kind, LE_V4_0};
use backhand::{BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader};
use towline_contract::digest::Hasher;
use towline_contract::newc::mode;

use crate::content::{Content, ContentReader};
use crate::parallel;
use crate::tree::{Entry, Node, Tree, display};
pub use ahead::Blocks;
use ahead::{Ahead, Ready};
use blocks::Block;
use kept::{Keeper, Kept, Key};

/// Size of the blocks that are compressed one by one, in bytes. Larger blocks pack better and cost more to read a
/// small piece of.
const BLOCK_BYTES: u32 = 256 << 10;

/// Lowest level whose blocks are kept: below it, finding a block again takes about as long as compressing it.
const KEPT_LEVEL_MIN: i32 = 6;

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
    #[error("cannot write the image")]
    Write(#[source] io::Error),
}

impl ImageError {
    fn write(error: BackhandError) -> Self {
        match io_error(error).downcast::<Unreadable>() {
            Ok(Unreadable { path, cause }) => Self::Content { path, cause },
            Err(error) => Self::Write(error),
        }
    }
}

/// A file that cannot be read, on its way through backhand, which knows [`io::Error`] only.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the content of {path}")]
struct Unreadable {
    path: String,
    cause: io::Error,
}

impl Unreadable {
    fn error(path: &[u8], cause: io::Error) -> io::Error {
        io::Error::other(Self {
            path: display(path),
            cause,
        })
    }
}

/// The system's own error where there is one.
pub(crate) fn io_error(error: BackhandError) -> io::Error {
    match error {
        BackhandError::StdIo(error) => error,
        error => io::Error::other(error),
    }
}

/// How an image is made.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// Time of entries that have none, in seconds since 1970.
    pub time: u32,
    /// Level of zstd.
    pub level: i32,
    /// File with the blocks that an earlier build compressed, for this build and the next.
    pub kept: Option<&'a Path>,
}

/// What came of making an image.
#[derive(Debug)]
pub struct Made {
    /// Sum of the files' sizes.
    pub content_bytes: u64,
    /// Where its blocks came from.
    pub blocks: Blocks,
    /// Why the blocks are not kept for the next build, which the image does not depend on.
    pub not_kept: Option<io::Error>,
}

/// Writes `tree` to `file` as a squashfs of zstd blocks.
///
/// # Errors
/// See [`ImageError`].
pub fn write(tree: &Tree, making: Making<'_>, file: &File) -> Result<Made, ImageError> {
    write_with_workers(tree, making, parallel::workers(), file)
}

/// The same with this number of workers, which does not change a byte.
fn write_with_workers(
    tree: &Tree,
    making: Making<'_>,
    workers: usize,
    file: &File,
) -> Result<Made, ImageError> {
    let kept = making.kept.filter(|_| making.level >= KEPT_LEVEL_MIN);
    let earlier = kept.and_then(Kept::open);
    let (keeper, not_kept) = match kept.map(Keeper::new).transpose() {
        Ok(keeper) => (keeper, None),
        Err(error) => (None, Some(error)),
    };
    let blocks = &blocks::blocks(tree, BLOCK_BYTES as usize);
    let way = Way {
        level: making.level,
        // Blocks that may be read serve also where none may be written.
        has_keys: keeper.is_some() || earlier.is_some(),
        earlier: earlier.as_ref(),
    };
    let worker = || {
        let mut compressor = None;
        move |number| way.ready(&blocks[number], &mut compressor)
    };
    parallel::in_order(blocks.len(), workers, worker, |ready| {
        let lent = Ahead::lend(ready, keeper);
        let content_bytes = write_tree(tree, making, lent.compressor(), file)?;
        let (keeper, blocks) = lent.finish();
        let kept = keeper.map_or(Ok(()), |keeper| keeper.finish(earlier.as_ref()));
        Ok(Made {
            content_bytes,
            blocks,
            not_kept: not_kept.or(kept.err()),
        })
    })
}

/// The way from a block to what is stored.
#[derive(Clone, Copy)]
struct Way<'a> {
    level: i32,
    has_keys: bool,
    earlier: Option<&'a Kept>,
}

impl Way<'_> {
    /// Reads a block, and finds it among those of an earlier build or compresses it.
    fn ready(
        self,
        block: &Block<'_>,
        compressor: &mut Option<zstd::bulk::Compressor<'static>>,
    ) -> io::Result<Ready> {
        let bytes = block.read()?;
        let key = self.has_keys.then(|| self.key(&bytes));
        let is_hole = block.may_be_hole && bytes.iter().all(|byte| *byte == 0);
        let found = self
            .earlier
            .zip(key)
            .and_then(|(kept, key)| kept.find(&key, &bytes));
        let was_found = found.is_some();
        let stored = match found {
            _ if is_hole => Vec::new(),
            Some(stored) => stored,
            None => match compressor {
                Some(compressor) => compressor,
                None => compressor.insert(zstd::bulk::Compressor::new(self.level)?),
            }
            .compress(&bytes)?,
        };
        Ok(Ready {
            bytes,
            stored,
            key,
            was_found,
            is_hole,
        })
    }

    /// The digest of a block and of all that decides what is stored for it.
    fn key(self, bytes: &[u8]) -> Key {
        let version = zstd::zstd_safe::version_number();
        let mut hasher = Hasher::default();
        hasher.update(format!("zstd {version}, level {}\n", self.level).as_bytes());
        hasher.update(bytes);
        *hasher.finish().as_bytes()
    }
}

/// Gives the sum of the files' sizes.
fn write_tree(
    tree: &Tree,
    making: Making<'_>,
    ahead: &'static Ahead,
    file: &File,
) -> Result<u64, ImageError> {
    let mut writer = writer(making, ahead)?;
    let mut content_bytes = 0;
    for (path, entry) in tree.iter() {
        if let Node::File(content) = &entry.node {
            content_bytes += content.len();
        }
        push(&mut writer, path, entry, making.time).map_err(|cause| ImageError::Entry {
            path: display(path),
            cause: io_error(cause),
        })?;
    }
    writer.write(file).map_err(ImageError::write)?;
    Ok(content_bytes)
}

fn writer<'c>(
    making: Making<'_>,
    ahead: &'static Ahead,
) -> Result<FilesystemWriter<'c, 'c, 'c>, ImageError> {
    let options = CompressionOptions::Zstd(Zstd {
        compression_level: making.level.unsigned_abs(),
    });
    let compressor =
        FilesystemCompressor::new(Compressor::Zstd, Some(options)).map_err(ImageError::write)?;
    let mut writer = FilesystemWriter::default();
    writer.set_kind(Kind::new_v4_with_const(ahead, LE_V4_0));
    writer.set_compressor(compressor);
    writer.set_block_size(BLOCK_BYTES);
    writer.set_time(making.time);
    writer.set_root_mode(0o755);
    // It compares contents by a short hash only, and few files of a rescue system are twice there.
    writer.set_no_duplicate_files(false);
    Ok(writer)
}

fn push<'c>(
    writer: &mut FilesystemWriter<'c, 'c, 'c>,
    name: &'c [u8],
    entry: &'c Entry,
    time: u32,
) -> Result<(), BackhandError> {
    let path = Path::new(OsStr::from_bytes(name));
    let header = NodeHeader {
        permissions: u16::try_from(entry.meta.mode & 0o7777).unwrap_or_default(),
        uid: entry.meta.uid,
        gid: entry.meta.gid,
        mtime: entry.meta.mtime.unwrap_or(time),
    };
    match &entry.node {
        Node::Directory { .. } => writer.push_dir(path, header),
        Node::File(content) => writer.push_file(
            Lazy {
                path: name,
                state: LazyState::Closed(content),
            },
            path,
            header,
        ),
        Node::Symlink(target) => writer.push_symlink(OsStr::from_bytes(target), path, header),
        Node::Special {
            file_type,
            major,
            minor,
        } => match *file_type {
            mode::S_IFBLK => writer.push_block_device(device(*major, *minor), path, header),
            mode::S_IFCHR => writer.push_char_device(device(*major, *minor), path, header),
            mode::S_IFIFO => writer.push_fifo(path, header),
            _ => writer.push_socket(path, header),
        },
    }
}

/// A device number as squashfs stores it (`new_encode_dev`, linux/kdev_t.h).
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// A content that is opened when it is first read, and closed at its end: there are thousands.
struct Lazy<'a> {
    path: &'a [u8],
    state: LazyState<'a>,
}

enum LazyState<'a> {
    Closed(&'a Content),
    Open(ContentReader<'a>),
    Done,
}

impl LazyState<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Closed(content) = *self {
            *self = Self::Open(content.reader()?);
        }
        let Self::Open(reader) = self else {
            return Ok(0);
        };
        let read = reader.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            *self = Self::Done;
        }
        Ok(read)
    }
}

impl Read for Lazy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.state.read(buffer);
        read.map_err(|cause| Unreadable::error(self.path, cause))
    }
}

#[cfg(test)]
mod tests;

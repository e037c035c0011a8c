//! The `image` form: most of the tree as one squashfs, kept compressed in memory by the rescue system.
//!
//! Written by the backhand crate, block after block, so that the bytes depend on the tree alone and no program of the
//! machine is used. Why not mksquashfs: `docs/decisions/images-by-backhand.md`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::kind::{Kind, LE_V4_0};
use backhand::{BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader};
use towline_contract::newc::mode;

use crate::content::{Content, ContentReader};
use crate::tree::{Entry, Node, Tree, display};

/// Size of the blocks that are compressed one by one, in bytes. Larger blocks pack better and cost more to read a
/// small piece of.
const BLOCK_BYTES: u32 = 256 << 10;

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
    /// Reading a file or writing the image failed.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
}

impl ImageError {
    fn write(error: BackhandError) -> Self {
        Self::Write(io_error(error))
    }
}

/// The system's own error where there is one.
pub(crate) fn io_error(error: BackhandError) -> io::Error {
    match error {
        BackhandError::StdIo(error) => error,
        error => io::Error::other(error),
    }
}

/// Writes `tree` to `file` as a squashfs of zstd blocks. Entries without a time get `time`. Gives the sum of the files'
/// sizes.
///
/// # Errors
/// See [`ImageError`].
pub fn write(tree: &Tree, time: u32, level: i32, file: &File) -> Result<u64, ImageError> {
    let mut writer = writer(time, level)?;
    let mut content_bytes = 0;
    for (path, entry) in tree.iter() {
        if let Node::File(content) = &entry.node {
            content_bytes += content.len();
        }
        push(&mut writer, path, entry, time).map_err(|cause| ImageError::Entry {
            path: display(path),
            cause: io_error(cause),
        })?;
    }
    writer.write(file).map_err(ImageError::write)?;
    Ok(content_bytes)
}

fn writer<'c>(time: u32, level: i32) -> Result<FilesystemWriter<'c, 'c, 'c>, ImageError> {
    let options = CompressionOptions::Zstd(Zstd {
        compression_level: level.unsigned_abs(),
    });
    let compressor =
        FilesystemCompressor::new(Compressor::Zstd, Some(options)).map_err(ImageError::write)?;
    let mut writer = FilesystemWriter::default();
    writer.set_kind(
        Kind::from_const(LE_V4_0)
            .map_err(|_| ImageError::write(BackhandError::InvalidCompressionOption))?,
    );
    writer.set_compressor(compressor);
    writer.set_block_size(BLOCK_BYTES);
    writer.set_time(time);
    writer.set_root_mode(0o755);
    // It compares contents by a short hash only, and few files of a rescue system are twice there.
    writer.set_no_duplicate_files(false);
    Ok(writer)
}

fn push<'c>(
    writer: &mut FilesystemWriter<'c, 'c, 'c>,
    path: &[u8],
    entry: &'c Entry,
    time: u32,
) -> Result<(), BackhandError> {
    let path = Path::new(OsStr::from_bytes(path));
    let header = NodeHeader {
        permissions: u16::try_from(entry.meta.mode & 0o7777).unwrap_or_default(),
        uid: entry.meta.uid,
        gid: entry.meta.gid,
        mtime: entry.meta.mtime.unwrap_or(time),
    };
    match &entry.node {
        Node::Directory { .. } => writer.push_dir(path, header),
        Node::File(content) => writer.push_file(Lazy::Closed(content), path, header),
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
enum Lazy<'a> {
    Closed(&'a Content),
    Open(ContentReader<'a>),
    Done,
}

impl Read for Lazy<'_> {
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

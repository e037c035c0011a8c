//! From a tree to stored bytes: newc records, one compressed frame, digests, padding.
//!
//! The same tree gives the same bytes on any machine: order, numbers and times come from the tree alone, and zstd always
//! splits its work as if for several threads, so that their number does not matter.

mod output;
mod records;

use std::fs::File;
use std::io::{self, Write};

use towline_contract::Digest;
use towline_contract::limits::ZSTD_WINDOW_LOG_MAX;
use towline_contract::manifest::Compression;
use towline_contract::newc;

use crate::tree::Tree;
use output::{ChunkHasher, write_archive};
use records::{archive_bytes, records};

/// Most compressing threads: each holds several megabytes of input.
const THREADS_MAX: usize = 8;

/// Why a layer cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Writing to the layer's file failed.
    #[error("cannot write the layer")]
    Output(#[source] io::Error),
    /// A file cannot be read, or has another size than when the tree was read.
    #[error("cannot read the content of {path}")]
    Content {
        /// Its path in the layer.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// An entry that newc cannot hold.
    #[error("newc cannot hold {path}: {what}")]
    Entry {
        /// Its path in the layer.
        path: String,
        /// What is wrong.
        what: String,
    },
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of the stored bytes.
    pub digest: Digest,
    /// SHA-256 of each chunk of the stored bytes.
    pub chunks: Vec<Digest>,
    /// Stored bytes, padding included; a multiple of 4.
    pub stored_bytes: u64,
    /// Bytes of the archive.
    pub unpacked_bytes: u64,
    /// Entries in the archive, without the trailer.
    pub entries: u64,
}

/// Writes `tree` to `file` as one compressed newc archive. Entries without a time get `time` (seconds since 1970).
///
/// # Errors
/// See [`WriteError`].
pub fn write(
    tree: &Tree,
    time: u32,
    compression: Compression,
    level: i32,
    file: &File,
) -> Result<Stored, WriteError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    write_with_threads(tree, time, compression, level, threads, file)
}

/// The same with this number of compressing threads, which does not change a byte.
fn write_with_threads(
    tree: &Tree,
    time: u32,
    compression: Compression,
    level: i32,
    threads: usize,
    file: &File,
) -> Result<Stored, WriteError> {
    let records = records(tree, time)?;
    let unpacked_bytes = archive_bytes(&records);
    let mut out = ChunkHasher::new(file);
    match compression {
        Compression::None => write_archive(&records, &mut out)?,
        Compression::Gzip => {
            let level = flate2::Compression::new(level.unsigned_abs().min(9));
            // GzBuilder's defaults: no name, time 0.
            let mut encoder = flate2::GzBuilder::new().write(&mut out, level);
            write_archive(&records, &mut encoder)?;
            encoder.finish().map_err(WriteError::Output)?;
        }
        Compression::Zstd => {
            let mut encoder = zstd_encoder(&mut out, level, threads, unpacked_bytes)
                .map_err(WriteError::Output)?;
            write_archive(&records, &mut encoder)?;
            encoder.finish().map_err(WriteError::Output)?;
        }
    }
    let padding = newc::padding(out.bytes);
    out.write_all(padding).map_err(WriteError::Output)?;
    let (digest, chunks, stored_bytes) = out.finish();
    Ok(Stored {
        digest,
        chunks,
        stored_bytes,
        unpacked_bytes,
        entries: records.len() as u64,
    })
}

fn zstd_encoder<W: Write>(
    out: W,
    level: i32,
    threads: usize,
    bytes: u64,
) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, level)?;
    // Never 0: without threads zstd does not split its work, and gives other bytes.
    let threads = threads.clamp(1, THREADS_MAX);
    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(bytes))?;
    if level > 19 {
        encoder.window_log(ZSTD_WINDOW_LOG_MAX)?;
    }
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use crate::tree::Meta;

    #[test]
    fn the_number_of_threads_does_not_change_a_byte() {
        // Several of zstd's jobs of 8 MiB, neither all equal nor noise.
        let numbers = (0..3_000_000_u64)
            .flat_map(|n| (n * n).to_le_bytes())
            .collect::<Vec<_>>();
        let mut tree = Tree::new();
        tree.file(b"numbers", Meta::root(0o644), Content::from_bytes(numbers))
            .unwrap();
        let written = |threads| {
            let file = tempfile::tempfile().unwrap();
            write_with_threads(&tree, 0, Compression::Zstd, 3, threads, &file).unwrap()
        };
        let one = written(1);
        assert_eq!(one, written(2));
        assert_eq!(one, written(7));
        assert_eq!(one, written(0));
    }
}

//! From a tree to stored bytes: newc records, one compressed frame, digests, padding.
//!
//! The same tree gives the same bytes on any machine: order, numbers and times come from the tree alone, and work is always
//! split in the same way, so that the number of cores does not matter.

mod archive;
mod gzip;
mod output;
mod records;

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

use towline_contract::Digest;
use towline_contract::limits::ZSTD_WINDOW_LOG_MAX;
use towline_contract::manifest::Compression;
use towline_contract::newc;
use zstd::zstd_safe::{CParameter, Strategy};

use crate::parallel::{self, FEW, in_order};
use crate::tree::{Tree, display};
use archive::{Archive, PART_BYTES, PIECE_BYTES};
use gzip::Member;
use output::ChunkHasher;
use records::{Order, records};

/// Logarithm of the window of ordinary levels: 16 MiB, which is what the machine that unpacks the layer holds in memory.
/// (Smaller layers have smaller windows: zstd knows their size.)
const WINDOW_LOG: u32 = 24;

/// What one core compresses at a time, at levels that take seconds for it, in bytes. zstd would take two to four times as much,
/// which leaves cores idle, and takes memory that they do not: for 0.6 % of the size at level 15.
const JOB_BYTES: u32 = 16 << 20;

/// The same at the quickest levels, where zstd would take more: in one of these the search goes back to its beginning, and to the
/// megabytes before it that are gone through once more.
const QUICKEST_JOB_BYTES: u32 = 6 << 20;

/// Highest level without a search for distant matches. Looking for them takes a fifth of the time at level 3, in turns, for
/// which all cores wait.
const LEVEL_QUICKEST_MAX: i32 = 3;

/// The search of level 3: one table, which with the bytes it leads to stays in a core's cache (512 KiB), for matches of 6 bytes
/// and more. zstd has two tables there, for 1.2 of the time and 0.97 of the size.
const LEVEL_3: [CParameter; 3] = [
    CParameter::Strategy(Strategy::ZSTD_fast),
    CParameter::HashLog(17),
    CParameter::MinMatch(6),
];

/// The search for distant matches at quick levels: long ones only, among fewer places. Half of its time for two thirds of what it
/// saves.
const DISTANT: [CParameter; 3] = [
    CParameter::LdmHashLog(17),
    CParameter::LdmHashRateLog(8),
    CParameter::LdmMinMatch(128),
];

/// Highest level that takes less time; zstd's own jobs are small there.
const LEVEL_QUICK_MAX: i32 = 9;

/// Highest level with the ordinary window; zstd calls those above it "ultra", because they take memory on both sides.
const LEVEL_ORDINARY_MAX: i32 = 19;

/// Why a layer cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Writing to the layer's file failed.
    #[error("cannot write the layer")]
    Output(#[source] io::Error),
    /// A file cannot be read, or was changed since the tree was read.
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

/// Where the bytes of the file `path` begin in an archive of `tree` that is not compressed, which does not depend on how many they
/// are: so they can be there before the archive.
///
/// # Errors
/// See [`WriteError`].
pub fn body_at(tree: &Tree, time: u32, path: &[u8]) -> Result<u64, WriteError> {
    let order = order(Compression::None, 0);
    let archive = Archive::new(records(tree, time, order)?, PART_BYTES);
    archive.body_at(path).ok_or_else(|| WriteError::Entry {
        path: display(path),
        what: "it has no such file".into(),
    })
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
    let workers = parallel::workers();
    write_with_workers(tree, time, compression, level, workers, file, 0..0)
}

/// The same without compression, around what is `there` in the file already as it is to be: that is only read.
///
/// # Errors
/// See [`WriteError`].
pub fn write_around(
    there: Range<u64>,
    tree: &Tree,
    time: u32,
    file: &File,
) -> Result<Stored, WriteError> {
    let workers = parallel::workers();
    write_with_workers(tree, time, Compression::None, 0, workers, file, there)
}

/// The same with this number of workers, which does not change a byte.
fn write_with_workers(
    tree: &Tree,
    time: u32,
    compression: Compression,
    level: i32,
    workers: usize,
    file: &File,
    there: Range<u64>,
) -> Result<Stored, WriteError> {
    let piece_bytes = match compression {
        Compression::Gzip => PIECE_BYTES,
        Compression::None | Compression::Zstd => PART_BYTES,
    };
    let archive = Archive::new(records(tree, time, order(compression, level))?, piece_bytes);
    let mut out = ChunkHasher::new(file, there).map_err(WriteError::Output)?;
    match compression {
        Compression::None => copy(&archive, workers, &mut out)?,
        Compression::Zstd => {
            let mut encoder = zstd_encoder(&mut out, level, workers, archive.bytes)
                .map_err(WriteError::Output)?;
            copy(&archive, workers, &mut encoder)?;
            encoder.finish().map_err(WriteError::Output)?;
        }
        Compression::Gzip => gzip(&archive, level, workers, &mut out)?,
    }
    let padding = newc::padding(out.bytes);
    out.write_all(padding).map_err(WriteError::Output)?;
    let (digest, chunks, stored_bytes) = out.finish().map_err(WriteError::Output)?;
    Ok(Stored {
        digest,
        chunks,
        stored_bytes,
        unpacked_bytes: archive.bytes,
        entries: archive.entries(),
    })
}

/// The order that packs best.
fn order(compression: Compression, level: i32) -> Order {
    match compression {
        Compression::Zstd if finds_distant(level) => Order::ProgramsLast,
        _ => Order::Paths,
    }
}

/// Whether zstd looks for distant matches at this level.
fn finds_distant(level: i32) -> bool {
    level > LEVEL_QUICKEST_MAX
}

/// Writes the pieces, which all cores read, one after the other.
fn copy(archive: &Archive<'_>, workers: usize, out: &mut impl Write) -> Result<(), WriteError> {
    let read = || |number| archive.piece(number);
    in_order(archive.pieces(), workers, FEW, read, |mut pieces| {
        pieces.try_for_each(|piece| out.write_all(&piece?).map_err(WriteError::Output))
    })
}

fn gzip(
    archive: &Archive<'_>,
    level: i32,
    workers: usize,
    out: &mut impl Write,
) -> Result<(), WriteError> {
    let deflated = |number| {
        let piece = archive.piece(number)?;
        gzip::deflate(&piece, level).map_err(WriteError::Output)
    };
    in_order(
        archive.pieces(),
        workers,
        FEW,
        || deflated,
        |mut pieces| {
            let mut member = Member::new(out).map_err(WriteError::Output)?;
            pieces.try_for_each(|piece| member.write(&piece?).map_err(WriteError::Output))?;
            member.finish().map_err(WriteError::Output)
        },
    )
}

fn zstd_encoder<W: Write>(
    out: W,
    level: i32,
    workers: usize,
    bytes: u64,
) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, level)?;
    // Never 0: without threads of its own zstd does not split its work, and gives other bytes.
    encoder.multithread(u32::try_from(workers.max(1)).unwrap_or(1))?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(bytes))?;
    let window_log = if level > LEVEL_ORDINARY_MAX {
        ZSTD_WINDOW_LOG_MAX
    } else {
        WINDOW_LOG
    };
    encoder.window_log(window_log)?;
    if !finds_distant(level) {
        encoder.set_parameter(CParameter::JobSize(QUICKEST_JOB_BYTES))?;
        let own: &[_] = if level == 3 { &LEVEL_3 } else { &[] };
        for parameter in own {
            encoder.set_parameter(*parameter)?;
        }
        return Ok(encoder);
    }
    if level > LEVEL_QUICK_MAX {
        encoder.set_parameter(CParameter::JobSize(JOB_BYTES))?;
    } else {
        for parameter in DISTANT {
            encoder.set_parameter(parameter)?;
        }
    }
    // Finds again what stands megabytes before, for a tenth of the time that a higher level would take.
    encoder.long_distance_matching(true)?;
    Ok(encoder)
}

#[cfg(test)]
mod tests;

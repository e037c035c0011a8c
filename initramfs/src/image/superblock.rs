//! The end of an image: its tables, and the superblock that says where they are.

use std::io;

use super::data::{Data, Stored};
use super::inodes::Tables;
use super::metadata::Metadata;
use super::plan::Plan;
use super::{BLOCK_BYTES, PADDED_TO, Place};
use crate::squashfs::format::{MAGIC, NOWHERE, SUPERBLOCK_BYTES, VERSION, ZSTD};

/// No block has the ends of several files (`SQUASHFS_NO_FRAG`).
const NO_FRAGMENTS: u16 = 1 << 4;

/// Copies are there once (`SQUASHFS_DUPLICATE`).
const DUPLICATES: u16 = 1 << 6;

/// There are no extended attributes (`SQUASHFS_NO_XATTR`).
const NO_ATTRIBUTES: u16 = 1 << 9;

/// Writes the tables behind the data, and the superblock before it; gives the image's size.
///
/// # Errors
/// Writing fails, or a table is longer than squashfs has numbers for.
pub(super) fn finish(
    place: Place<'_>,
    time: u32,
    plan: &Plan<'_>,
    data: &Data,
    tables: &Tables,
) -> io::Result<u64> {
    let mut end = End {
        place,
        at: data.end,
    };
    let inodes_at = end.add(&tables.inodes)?;
    let lists_at = end.add(&tables.lists)?;
    let fragments_at = end.table(fragments(plan, data))?;
    let ids_at = end.table(tables.ids.iter().map(|id| id.to_le_bytes().to_vec()))?;
    let flags = match plan.fragments {
        0 => NO_FRAGMENTS,
        _ => 0,
    };
    let root = u64::from(tables.root.block) << 16 | u64::from(tables.root.offset);

    let mut superblock = Vec::with_capacity(SUPERBLOCK_BYTES);
    superblock.extend(MAGIC);
    for number in [tables.count, time, number(BLOCK_BYTES)?, plan.fragments] {
        superblock.extend(number.to_le_bytes());
    }
    let ids = u16::try_from(tables.ids.len()).map_err(io::Error::other)?;
    let block_log = u16::try_from(BLOCK_BYTES.ilog2()).map_err(io::Error::other)?;
    let flags = flags | DUPLICATES | NO_ATTRIBUTES;
    for number in [ZSTD, block_log, flags, ids, VERSION.0, VERSION.1] {
        superblock.extend(number.to_le_bytes());
    }
    // No attributes, and no table by which NFS finds inodes.
    for number in [
        root,
        end.at,
        ids_at,
        NOWHERE,
        inodes_at,
        lists_at,
        fragments_at,
        NOWHERE,
    ] {
        superblock.extend(number.to_le_bytes());
    }
    place.write(&superblock, 0)?;
    let bytes = end.at.next_multiple_of(PADDED_TO);
    place.file.set_len(place.at + bytes)?;
    Ok(bytes)
}

fn number(count: usize) -> io::Result<u32> {
    u32::try_from(count).map_err(io::Error::other)
}

/// Where each shared block is.
fn fragments(plan: &Plan<'_>, data: &Data) -> impl Iterator<Item = Vec<u8>> {
    let blocks = plan.blocks.iter().zip(&data.blocks);
    let shared = blocks.filter(|(block, _)| block.is_shared);
    shared.map(|(_, Stored { at, size, .. })| {
        let mut record = at.to_le_bytes().to_vec();
        record.extend(size.to_le_bytes());
        record.extend([0; 4]);
        record
    })
}

/// The end of the image, which grows.
struct End<'a> {
    place: Place<'a>,
    at: u64,
}

impl End<'_> {
    /// Adds bytes; says where they begin.
    fn add(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.at;
        self.place.write(bytes, at)?;
        self.at += bytes.len() as u64;
        Ok(at)
    }

    /// Adds a table of records; says where the positions of its blocks are.
    fn table(&mut self, records: impl Iterator<Item = Vec<u8>>) -> io::Result<u64> {
        let mut table = Metadata::new()?;
        for record in records {
            table.add(&record)?;
        }
        let (table, positions_at) = table.finish_with_positions(self.at)?;
        self.add(&table)?;
        Ok(positions_at)
    }
}

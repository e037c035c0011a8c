//! The first bytes of a squashfs: where its tables are, and how it is compressed (Linux fs/squashfs/squashfs_fs.h).

use super::blocks::Compression;
use super::format::{MAGIC, NOWHERE, SUPERBLOCK_BYTES, VERSION};

/// Binary logarithms of the smallest and the largest size that blocks may have.
const BLOCK_LOG: std::ops::RangeInclusive<u16> = 12..=20;

/// What a superblock says, as far as it is needed. Positions are in bytes from the start of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Superblock {
    pub(super) compression: Compression,
    pub(super) block_bytes: usize,
    /// Length of the image; a file may have more, as padding.
    pub(super) bytes: u64,
    /// Where the root directory's inode is.
    pub(super) root: u64,
    pub(super) ids: Table,
    pub(super) inodes: u64,
    pub(super) directories: u64,
    pub(super) fragments: Table,
}

/// A table of records that have numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) at: u64,
    /// Number of records.
    pub(super) records: u32,
}

impl Superblock {
    /// Reads it, or says in words why the image is not read.
    pub(super) fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Self, String> {
        if !bytes.starts_with(MAGIC) {
            return Err("it is no squashfs".into());
        }
        let version = (u16_at(bytes, 28), u16_at(bytes, 30));
        if version != VERSION {
            let (major, minor) = version;
            return Err(format!(
                "it is a squashfs of version {major}.{minor}, and Linux reads 4.0"
            ));
        }
        let (block_bytes, block_log) = (u32_at(bytes, 12), u16_at(bytes, 22));
        if !BLOCK_LOG.contains(&block_log) || block_bytes != 1 << block_log {
            return Err(format!(
                "its blocks of {block_bytes} bytes contradict their logarithm {block_log}"
            ));
        }
        let fragments = match u64_at(bytes, 80) {
            NOWHERE => Table { at: 0, records: 0 },
            at => Table {
                at,
                records: u32_at(bytes, 16),
            },
        };
        Ok(Self {
            compression: Compression::of(u16_at(bytes, 20))?,
            block_bytes: 1 << block_log,
            bytes: u64_at(bytes, 40),
            root: u64_at(bytes, 32),
            ids: Table {
                at: u64_at(bytes, 48),
                records: u16_at(bytes, 26).into(),
            },
            inodes: u64_at(bytes, 64),
            directories: u64_at(bytes, 72),
            fragments,
        })
    }
}

/// The number at `at`, which lies within `bytes`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The number at `at`, which lies within `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The number at `at`, which lies within `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

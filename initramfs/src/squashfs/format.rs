//! Numbers of squashfs 4.0 that its reader and its writer share (Linux `fs/squashfs/squashfs_fs.h`). All are little-endian.

/// Size of the superblock, in bytes.
pub(crate) const SUPERBLOCK_BYTES: usize = 96;

/// `hsqs`, which only images of little-endian machines begin with; those of version 4 all are.
pub(crate) const MAGIC: &[u8; 4] = b"hsqs";

/// The only version that Linux reads: major and minor part.
pub(crate) const VERSION: (u16, u16) = (4, 0);

/// Number of zstd among the compressions.
pub(crate) const ZSTD: u16 = 6;

/// Most bytes of a block of metadata (`SQUASHFS_METADATA_SIZE`).
pub(crate) const METADATA_BYTES: usize = 8192;

/// In the size of a block of metadata: it is stored as it is.
pub(crate) const METADATA_PLAIN: u16 = 1 << 15;

/// In the size of a block of a file: it is stored as it is.
pub(crate) const DATA_PLAIN: u32 = 1 << 24;

/// A number that says: there is none (`SQUASHFS_INVALID_FRAG`, `SQUASHFS_INVALID_XATTR`).
pub(crate) const NONE: u32 = u32::MAX;

/// A position that says: there is none (`SQUASHFS_INVALID_BLK`).
pub(crate) const NOWHERE: u64 = u64::MAX;

/// Bytes that a directory is longer than its list: two entries that are in no list, `.` and `..`.
pub(crate) const NOT_LISTED: u32 = 3;

/// Most entries below one header of a directory's list (`SQUASHFS_DIR_COUNT`).
pub(crate) const ENTRIES_OF_HEADER_MAX: u32 = 256;

/// Longest name (`SQUASHFS_NAME_LEN`).
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// Types of inodes, each short; the long ones are greater by [`LONG`].
pub(crate) mod kind {
    pub(crate) const DIRECTORY: u16 = 1;
    pub(crate) const FILE: u16 = 2;
    pub(crate) const SYMLINK: u16 = 3;
    pub(crate) const BLOCK_DEVICE: u16 = 4;
    pub(crate) const CHARACTER_DEVICE: u16 = 5;
    pub(crate) const FIFO: u16 = 6;
    pub(crate) const SOCKET: u16 = 7;
    pub(crate) const LONG: u16 = 7;
}

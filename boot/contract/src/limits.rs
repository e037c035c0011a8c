//! Named bounds on everything that comes from the network or a disk.

/// Largest TUF metadata file of one role, in bytes. A root with a dozen keys is 8 KB; targets of thousands of layers, 2 MB.
pub const METADATA_BYTES_MAX: u64 = 4 << 20;

/// Largest root file, in bytes. A root with a dozen keys is 8 KB.
pub const ROOT_BYTES_MAX: u64 = 512 << 10;

/// Largest timestamp file, in bytes. One with a signature is 1 KB.
pub const TIMESTAMP_BYTES_MAX: u64 = 64 << 10;

/// Most root versions a medium follows in one boot. One rotation a month for 20 years is 240.
pub const ROOT_ROTATIONS_MAX: u32 = 256;

/// Largest version of a document: the largest integer that every JSON reader has exactly (RFC 7493, section 2.2). It leaves
/// no room for a number after which none can come.
pub const VERSION_MAX: u64 = (1 << 53) - 1;

/// Most signatures on one document. A root of [`ROLE_KEYS_MAX`] keys that replaces all of them has twice as many.
pub const SIGNATURES_MAX: usize = 2 * ROLE_KEYS_MAX;

/// Most keys of one role. Each costs a verification; an administration with a dozen officers has a dozen.
pub const ROLE_KEYS_MAX: usize = 64;

/// Most targets in one document: 200 bytes each fill [`METADATA_BYTES_MAX`], and shorter entries are of no layer.
pub const TARGETS_MAX: usize = 20_000;

/// Most delegated roles, and keys for them, in one document: 300 bytes each fill [`METADATA_BYTES_MAX`].
pub const DELEGATIONS_MAX: usize = 16_384;

/// Most delegated roles that the search for one target looks into, which bounds its depth as well: what python-tuf allows.
/// A target of a host is found in three.
pub const DELEGATED_ROLES_MAX: usize = 32;

/// Largest manifest, in bytes: 4096 chunk digests of 64 hex digits, and a few thousand packages.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Largest plan, in bytes.
pub const PLAN_BYTES_MAX: u64 = 256 << 10;

/// Longest kernel command line in a plan, in bytes: x86's `COMMAND_LINE_SIZE` less its NUL (asm/setup.h).
pub const COMMAND_LINE_BYTES_MAX: usize = 2047;

/// Most mirrors in a plan.
pub const MIRRORS_MAX: usize = 16;

/// Longest URL in a plan, in bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// Most layers in one chain.
pub const CHAIN_LAYERS_MAX: usize = 16;

/// Size of one verified piece of a layer, in stored bytes (the last one may be shorter).
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Largest stored layer, in bytes (4 GiB).
pub const LAYER_STORED_BYTES_MAX: u64 = 4 << 30;

/// Largest credentials layer, in bytes: one chunk, so that it is verified in one piece.
pub const CREDENTIALS_BYTES_MAX: u64 = CHUNK_BYTES;

/// Largest unpacked layer, in bytes (16 GiB); a decompression bomb is refused by the smaller figure in its manifest.
pub const LAYER_UNPACKED_BYTES_MAX: u64 = 16 << 30;

/// Most entries in one layer.
pub const LAYER_ENTRIES_MAX: u64 = 1_000_000;

/// Longest name of a newc entry in bytes, without the NUL: the kernel's `PATH_MAX` (linux/limits.h) less one.
pub const NAME_BYTES_MAX: usize = 4095;

/// Longest symbolic link target in bytes (`PATH_MAX` less one).
pub const LINK_BYTES_MAX: u64 = 4095;

/// Largest file one newc record can hold, in bytes (4 GiB − 1).
///
/// `c_filesize` is eight hex digits: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
pub const NEWC_FILE_BYTES_MAX: u64 = 0xFFFF_FFFF;

/// Largest zstd window accepted, as a power of two: the Linux kernel's own limit for an initramfs (lib/decompress_unzstd.c).
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Flags of a gzip header (RFC 1952, 2.3.1) that a layer may have: text, and a name. What other flags announce Linux takes for
/// compressed data (lib/decompress_inflate.c), so that by kexec such a layer would be another one than was judged.
pub const GZIP_FLAGS: u8 = 0b0000_1001;

/// Where a gzip header has its flags.
pub const GZIP_FLAGS_AT: usize = 3;

/// Longest a plan may live, in seconds. It crosses the network once.
pub const PLAN_SECONDS_MAX: i64 = 15 * 60;

/// Most paths in one list of a site's layer policy, and bytes of each. A careful operator names a dozen.
pub const POLICY_PATHS_MAX: usize = 256;
/// See [`POLICY_PATHS_MAX`].
pub const POLICY_PATH_BYTES_MAX: usize = 1024;

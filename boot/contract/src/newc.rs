//! The cpio *newc* format, as the Linux kernel reads it: encoding of records, and a decoder that is fed bytes.
//!
//! Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. The decoder holds one header and one name
//! at most, whatever the archive's size; what an entry may be is decided by [`crate::lanes`], not here.

mod decoder;

use crate::limits::NAME_BYTES_MAX;

pub use decoder::{Decoder, Item};

/// Bytes in a newc header: the magic and thirteen fields of eight hex digits.
pub const HEADER_BYTES: usize = 110;

const MAGIC: &[u8; 6] = b"070701";
const TRAILER: &[u8] = b"TRAILER!!!";

/// Mask and values of the file type in [`Entry::mode`] (inode(7)).
pub mod mode {
    #![expect(missing_docs, reason = "the names are those of inode(7)")]
    pub const S_IFMT: u32 = 0o170_000;
    pub const S_IFSOCK: u32 = 0o140_000;
    pub const S_IFLNK: u32 = 0o120_000;
    pub const S_IFREG: u32 = 0o100_000;
    pub const S_IFBLK: u32 = 0o060_000;
    pub const S_IFDIR: u32 = 0o040_000;
    pub const S_IFCHR: u32 = 0o020_000;
    pub const S_IFIFO: u32 = 0o010_000;
    pub const S_ISUID: u32 = 0o4000;
    pub const S_ISGID: u32 = 0o2000;
    pub const S_ISVTX: u32 = 0o1000;
}

/// One record's header and name. The body (file content or link target) follows as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Name as stored: relative, without a NUL.
    pub name: Vec<u8>,
    /// Inode number; equal numbers on one device with `links > 1` make hard links.
    pub inode: u32,
    /// File type and permission bits (inode(7)).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names of this inode in the archive.
    pub links: u32,
    /// Modification time, in seconds since 1970.
    pub mtime: u32,
    /// Bytes of body.
    pub bytes: u32,
    /// Number of the device that the inode was on, major part; 0 in what is written here, so that the same tree gives the
    /// same bytes.
    pub device_major: u32,
    /// Number of that device, minor part.
    pub device_minor: u32,
    /// Device number of a device node, major part.
    pub rdev_major: u32,
    /// Device number of a device node, minor part.
    pub rdev_minor: u32,
}

impl Entry {
    /// The file type bits.
    #[must_use]
    pub fn file_type(&self) -> u32 {
        self.mode & mode::S_IFMT
    }

    /// Name for people: bytes that are not UTF-8 and control characters escaped.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.name.escape_ascii().to_string()
    }

    /// Header, name and padding, ready to be followed by the body and [`padding`] for it.
    ///
    /// # Errors
    /// A name that is empty, too long or has a NUL.
    pub fn encode(&self) -> Result<Vec<u8>, NewcError> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || self.name.contains(&0) {
            return Err(NewcError::Name {
                bytes: self.name.len(),
            });
        }
        Ok(self.encode_unchecked())
    }

    fn encode_unchecked(&self) -> Vec<u8> {
        let fields = [
            self.inode,
            self.mode,
            self.uid,
            self.gid,
            self.links,
            self.mtime,
            self.bytes,
            self.device_major,
            self.device_minor,
            self.rdev_major,
            self.rdev_minor,
            u32::try_from(self.name.len() + 1).unwrap_or(u32::MAX),
            0, // c_check is 0 in newc
        ];
        let mut out = Vec::with_capacity(HEADER_BYTES + self.name.len() + 4);
        out.extend_from_slice(MAGIC);
        for field in fields {
            out.extend_from_slice(&digits(field));
        }
        out.extend_from_slice(&self.name);
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }
}

/// A field as eight hex digits.
fn digits(field: u32) -> [u8; 8] {
    std::array::from_fn(|at| b"0123456789ABCDEF"[(field >> (28 - 4 * at) & 15) as usize])
}

/// The record that ends an archive.
#[must_use]
pub fn trailer() -> Vec<u8> {
    Entry {
        name: TRAILER.to_vec(),
        links: 1,
        ..Entry::default()
    }
    .encode_unchecked()
}

/// Zero bytes that follow a body of `bytes` bytes, so that the next header is aligned to 4.
#[must_use]
pub fn padding(bytes: u64) -> &'static [u8] {
    &[0; 3][..usize::try_from(bytes.next_multiple_of(4) - bytes).unwrap_or(0)]
}

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewcError {
    /// A header does not start with `070701`.
    #[error("no newc header at byte {offset} of the archive")]
    Magic {
        /// Offset in the unpacked archive, in bytes.
        offset: u64,
    },
    /// A header field is not eight hex digits.
    #[error("a newc header field is not hexadecimal at byte {offset} of the archive")]
    Field {
        /// Offset of the header, in bytes.
        offset: u64,
    },
    /// A name that is empty, longer than the kernel takes, or not ended by its only NUL.
    #[error("an entry's name of {bytes} bytes is empty, too long, or has a NUL inside")]
    Name {
        /// Length in bytes.
        bytes: usize,
    },
    /// A trailer with a body, which Linux passes over with whatever follows, or one that is a link, which is none for Linux:
    /// it would go on with the next archive as if it were the same one.
    #[error("the trailer before byte {offset} of the archive has content, or is a link")]
    Trailer {
        /// Offset in the unpacked archive, in bytes.
        offset: u64,
    },
    /// Bytes other than zero padding after the trailer.
    #[error("the archive goes on after its trailer, at byte {offset}")]
    AfterTrailer {
        /// Offset in the unpacked archive, in bytes.
        offset: u64,
    },
    /// Padding between records that is not zero.
    #[error("padding before byte {offset} of the archive is not zero")]
    Padding {
        /// Offset in the unpacked archive, in bytes.
        offset: u64,
    },
    /// The bytes ended before the trailer.
    #[error("the archive ends after {got} bytes, before its trailer")]
    Truncated {
        /// Bytes seen.
        got: u64,
    },
}

#[cfg(test)]
mod tests;

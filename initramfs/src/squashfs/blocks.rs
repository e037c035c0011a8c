//! Compressed blocks. None unpacks to more than its reader says, so that an image cannot fill memory.

use std::io::{self, Read};

use crate::xz::Xz;

/// Largest dictionary of xz: that of the largest block, which Linux has room for (`fs/squashfs/xz_wrapper.c`).
const DICTIONARY_BYTES_MAX: u64 = 1 << 20;

/// How the blocks of an image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    /// By its number in the superblock; what is not read is told by name.
    pub(super) fn of(number: u16) -> Result<Self, String> {
        let name = match number {
            1 => return Ok(Self::Gzip),
            4 => return Ok(Self::Xz),
            6 => return Ok(Self::Zstd),
            2 => "lzma",
            3 => "lzo",
            5 => "lz4",
            other => return Err(format!("its compression has the unknown number {other}")),
        };
        Err(format!(
            "its compression is {name}, and only gzip, xz and zstd are read: unpack it (unsquashfs) and pack it again (mksquashfs -comp zstd)"
        ))
    }

    /// Unpacks one block, of at most `bytes_max` bytes.
    pub(super) fn unpack(self, stored: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
        let bytes = match self {
            // The name is history: the format is zlib's.
            Self::Gzip => bounded(flate2::read::ZlibDecoder::new(stored), bytes_max)?,
            Self::Xz => bounded(Xz::one_block(stored, DICTIONARY_BYTES_MAX), bytes_max)?,
            Self::Zstd => zstd::bulk::decompress(stored, bytes_max)?,
        };
        match bytes.len() <= bytes_max {
            true => Ok(bytes),
            false => Err(damaged(format!(
                "a block unpacks to more than {bytes_max} bytes"
            ))),
        }
    }
}

/// All that `reader` gives, up to one byte too much.
fn bounded(reader: impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(bytes_max);
    reader.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What no program that makes images would have written.
pub(super) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_unpacks_to_more_than_it_may_have_is_refused_in_every_compression() {
        use std::io::Write as _;
        let zeros = vec![0; 10_000];
        let mut gzip = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&zeros).unwrap();
        let options = lzma_rust2::XzOptions::with_preset(0);
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        xz.write_all(&zeros).unwrap();
        for (compression, stored) in [
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Xz, xz.finish().unwrap()),
            (Compression::Zstd, zstd::bulk::compress(&zeros, 1).unwrap()),
        ] {
            assert_eq!(compression.unpack(&stored, 10_000).unwrap(), zeros);
            assert!(
                compression.unpack(&stored, 9_999).is_err(),
                "{compression:?}"
            );
        }
    }
}

//! Compressed streams, told by their first bytes: what archives of all kinds come in.

use std::io::{self, BufRead, Read};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magic {
    None,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

/// First bytes of each format: RFC 1952, the .xz file format 2.1.1.1, RFC 8878, and the "BZh" of bzip2.
const MAGICS: [(&[u8], Magic); 4] = [
    (&[0x1F, 0x8B], Magic::Gzip),
    (&[0xFD, b'7', b'z', b'X', b'Z', 0], Magic::Xz),
    (&[0x28, 0xB5, 0x2F, 0xFD], Magic::Zstd),
    (b"BZh", Magic::Bzip2),
];

/// Reads what `stored` holds, decompressed: one member or frame; what follows it is left in `stored`.
///
/// # Errors
/// The first bytes cannot be read.
pub fn one_member<'a>(stored: &'a mut dyn BufRead) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match magic(stored)? {
        Magic::None => Box::new(stored),
        Magic::Gzip => Box::new(flate2::bufread::GzDecoder::new(stored)),
        Magic::Xz => Box::new(lzma_rust2::XzReader::new(stored, false)),
        Magic::Zstd => Box::new(zstd::Decoder::with_buffer(stored)?.single_frame()),
        Magic::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(stored)),
    })
}

/// Reads all that `stored` holds, decompressed, however many members or frames it has.
///
/// # Errors
/// The first bytes cannot be read.
pub fn all_members<'a>(mut stored: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match magic(&mut stored)? {
        Magic::None => Box::new(stored),
        Magic::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Magic::Xz => Box::new(lzma_rust2::XzReader::new(stored, true)),
        Magic::Zstd => Box::new(zstd::Decoder::with_buffer(stored)?),
        Magic::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stored)),
    })
}

fn magic(stored: &mut (impl BufRead + ?Sized)) -> io::Result<Magic> {
    let start = stored.fill_buf()?;
    let found = MAGICS.iter().find(|(bytes, _)| start.starts_with(bytes));
    Ok(found.map_or(Magic::None, |(_, magic)| *magic))
}

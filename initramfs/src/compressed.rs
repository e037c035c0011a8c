//! Compressed streams, told by their first bytes: what archives of all kinds come in.
//!
//! Invariants: a stream gives no more than a layer may have, whatever is left out of it; and it is read to its end, where
//! compressions have their checks.

use std::io::{self, BufRead, Read};

use towline_contract::limits::LAYER_UNPACKED_BYTES_MAX;

use crate::xz::Xz;

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
pub fn one_member<'a>(stored: &'a mut dyn BufRead) -> io::Result<Bounded<'a>> {
    Ok(Bounded::new(match magic(stored)? {
        Magic::None => Box::new(stored),
        Magic::Gzip => Box::new(flate2::bufread::GzDecoder::new(stored)),
        Magic::Xz => Box::new(Xz::one(stored)),
        Magic::Zstd => Box::new(zstd::Decoder::with_buffer(stored)?.single_frame()),
        Magic::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(stored)),
    }))
}

/// Reads all that `stored` holds, decompressed, however many members or frames it has.
///
/// # Errors
/// The first bytes cannot be read.
pub fn all_members<'a>(mut stored: impl BufRead + 'a) -> io::Result<Bounded<'a>> {
    Ok(Bounded::new(match magic(&mut stored)? {
        Magic::None => Box::new(stored),
        Magic::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Magic::Xz => Box::new(Xz::all(stored)),
        Magic::Zstd => Box::new(zstd::Decoder::with_buffer(stored)?),
        Magic::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stored)),
    }))
}

/// A decompressed stream.
pub struct Bounded<'a> {
    stream: Box<dyn Read + 'a>,
    /// Bytes that it may still give.
    left: u64,
}

impl<'a> Bounded<'a> {
    fn new(stream: Box<dyn Read + 'a>) -> Self {
        let left = LAYER_UNPACKED_BYTES_MAX;
        Self { stream, left }
    }
}

/// Reads the rest of a stream, which no archive needs: at its end the compression says whether what came is what was
/// compressed.
///
/// # Errors
/// It is not, or there is too much.
pub fn finish(stream: &mut impl Read) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(drop)
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        let left = self.left.checked_sub(length as u64);
        self.left = left.ok_or_else(|| {
            io::Error::other(format!(
                "it unpacks to more than {LAYER_UNPACKED_BYTES_MAX} bytes"
            ))
        })?;
        Ok(length)
    }
}

fn magic(stored: &mut (impl BufRead + ?Sized)) -> io::Result<Magic> {
    let start = stored.fill_buf()?;
    let found = MAGICS.iter().find(|(bytes, _)| start.starts_with(bytes));
    Ok(found.map_or(Magic::None, |(_, magic)| *magic))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_stream_that_unpacks_to_more_than_a_layer_may_have_is_refused() {
        let bomb = zstd::encode_all(io::repeat(0).take(1 << 20), 1).unwrap();
        let stream = |left| {
            let mut stream = all_members(BufReader::new(bomb.as_slice())).unwrap();
            stream.left = left;
            stream
        };
        finish(&mut stream(1 << 20)).unwrap();
        let refused = finish(&mut stream((1 << 20) - 1)).unwrap_err().to_string();
        assert!(refused.contains("unpacks to more than"), "{refused}");
    }

    #[test]
    fn a_changed_checksum_behind_the_content_is_found_in_every_compression_that_has_one() {
        use std::io::Write as _;
        let content = b"content of no length to speak of\n".repeat(100);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
        zstd.include_checksum(true).unwrap();
        zstd.write_all(&content).unwrap();
        let zstd = zstd.finish().unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&content).unwrap();
        let bzip2 = bzip2.finish().unwrap();
        // From the end: gzip has the CRC before the size (RFC 1952, 2.3), zstd nothing behind it (RFC 8878, 3.1.1), and
        // bzip2 at most seven bits.
        for (name, whole, from_end) in [("gzip", gzip, 8), ("zstd", zstd, 1), ("bzip2", bzip2, 3)] {
            let run = |bytes: &[u8]| {
                let mut stream = all_members(bytes).unwrap();
                // As an archive does, whose end comes first.
                stream.read_exact(&mut vec![0; content.len()])?;
                finish(&mut stream)
            };
            run(&whole).unwrap();
            let mut damaged = whole.clone();
            damaged[whole.len() - from_end] ^= 1;
            assert!(run(&damaged).is_err(), "{name}");
        }
    }
}

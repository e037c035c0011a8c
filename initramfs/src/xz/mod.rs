//! Xz with a bound on its memory, which the reader of the crate has not: a header of a block names a dictionary of up to 4 GiB,
//! and the crate fills one of that size with zeros before the first byte.
//!
//! So what the crate reads is followed here, as far as the file format has it (xz file format 1.2.1, chapters 2 and 3, and the
//! chunks of LZMA2), and each block's header is looked at before the crate has all of it. Invariants: no byte is read ahead, and
//! what this reader takes for another place than the crate does is refused.

use std::io::{self, Read};

/// Largest dictionary of packages, archives and modules, in bytes. `xz -9` has 64 MiB; what is made with more is rare.
pub(crate) const DICTIONARY_BYTES_MAX: u64 = 192 << 20;

/// The LZMA2 filter, which is the last of each block (5.3.1), and its longest property.
const LZMA2: (u8, u8) = (0x21, 40);

/// Delta and the filters for programs (5.3.2, 5.3.3): none takes memory.
const OTHER_FILTERS: std::ops::RangeInclusive<u8> = 0x03..=0x0B;

/// A decompressed stream, or several.
pub(crate) struct Xz<R: Read>(lzma_rust2::XzReader<Followed<R>>);

impl<R: Read> Xz<R> {
    /// One stream; what follows it is left in `stored`.
    pub(crate) fn one(stored: R) -> Self {
        Self::new(stored, false, DICTIONARY_BYTES_MAX, u64::MAX)
    }

    /// All streams there are.
    pub(crate) fn all(stored: R) -> Self {
        Self::new(stored, true, DICTIONARY_BYTES_MAX, u64::MAX)
    }

    /// One stream of one block, with a dictionary of at most `dictionary_max` bytes.
    pub(crate) fn one_block(stored: R, dictionary_max: u64) -> Self {
        Self::new(stored, false, dictionary_max, 1)
    }

    fn new(stored: R, several: bool, dictionary_max: u64, blocks_max: u64) -> Self {
        let followed = Followed {
            stored,
            dictionary_max,
            blocks_max,
            part: Part::StreamHeader,
            left: STREAM_HEADER_BYTES,
            held: Vec::new(),
            check_bytes: 0,
            blocks: 0,
        };
        Self(lzma_rust2::XzReader::new(followed, several))
    }
}

impl<R: Read> Read for Xz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match buffer.is_empty() {
            true => Ok(0), // the crate would take it for a block's end
            false => self.0.read(buffer),
        }
    }
}

/// Header of a stream (2.1.1).
const STREAM_HEADER_BYTES: u64 = 12;

/// CRC of the index and footer of a stream (4.5, 2.1.2).
const STREAM_END_BYTES: u64 = 4 + 12;

/// Where in a file the next byte lies.
#[derive(Clone, Copy)]
enum Part {
    StreamHeader,
    /// The first byte of a block's header, or of the index.
    HeaderSize,
    BlockHeader,
    /// The control byte of a chunk; the block has this many bytes before it.
    Chunk(u64),
    /// The sizes of a chunk, and its control byte.
    ChunkSizes(u64, u8),
    ChunkData(u64),
    /// Padding and check.
    BlockEnd,
    /// A byte of the numbers in the index.
    Index(Index),
    StreamEnd,
    /// A byte of padding, or the first of a stream.
    Between,
    Refused,
}

#[derive(Clone, Copy)]
struct Index {
    /// Bytes before.
    bytes: u64,
    /// Numbers that are still to come.
    numbers: u64,
}

/// What the crate reads from.
struct Followed<R> {
    stored: R,
    dictionary_max: u64,
    blocks_max: u64,
    part: Part,
    /// Bytes of the part that are still to come.
    left: u64,
    /// The part's bytes so far, if they are looked at.
    held: Vec<u8>,
    check_bytes: u64,
    blocks: u64,
}

impl<R: Read> Read for Followed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stored.read(buffer)?;
        let followed = self.follow(&buffer[..length]);
        if followed.is_err() {
            (self.part, self.left) = (Part::Refused, 0);
        }
        followed.map(|()| length)
    }
}

impl<R> Followed<R> {
    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            while self.left == 0 {
                let held = std::mem::take(&mut self.held);
                (self.part, self.left) = self.next(&held)?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let length = usize::try_from(self.left).map_or(bytes.len(), |it| it.min(bytes.len()));
            let (now, later) = bytes.split_at(length);
            if !self.part.passed() {
                self.held.extend_from_slice(now);
            }
            self.left -= length as u64;
            bytes = later;
        }
    }

    /// What follows the part whose bytes are `held`, and its length.
    fn next(&mut self, held: &[u8]) -> io::Result<(Part, u64)> {
        Ok(match self.part {
            Part::StreamHeader => {
                self.check_bytes = match held[7] {
                    0 => 0,
                    1 => 4,
                    4 => 8,
                    10 => 32,
                    _ => return Err(damaged("an unknown check")),
                };
                self.blocks = 0;
                (Part::HeaderSize, 1)
            }
            Part::HeaderSize if held[0] == 0 => {
                // Their number, and two of each block.
                let numbers = 1 + 2 * self.blocks;
                (Part::Index(Index { bytes: 1, numbers }), 1)
            }
            Part::HeaderSize => (Part::BlockHeader, (u64::from(held[0]) + 1) * 4 - 1),
            Part::BlockHeader => {
                let needed = dictionary(held).ok_or_else(|| damaged("an unknown filter"))?;
                if needed > self.dictionary_max {
                    return Err(io::Error::other(format!(
                        "its xz dictionary of {needed} bytes is larger than the {} that are allowed: pack it again by `xz -9`, or less",
                        self.dictionary_max
                    )));
                }
                self.blocks += 1;
                if self.blocks > self.blocks_max {
                    return Err(damaged("more blocks than one"));
                }
                (Part::Chunk(0), 1)
            }
            Part::Chunk(before) => match held[0] {
                0 => (Part::BlockEnd, padding(before + 1) + self.check_bytes),
                control @ (1 | 2) => (Part::ChunkSizes(before + 1, control), 2),
                control @ 0x80.. => (Part::ChunkSizes(before + 1, control), 4),
                _ => return Err(damaged("an unknown chunk")),
            },
            Part::ChunkSizes(before, control) => {
                // The last of the sizes is that of what is stored; properties lie before it.
                let size = [held[held.len() - 2], held[held.len() - 1]];
                let bytes = u64::from(u16::from_be_bytes(size)) + 1 + u64::from(control >= 0xC0);
                (Part::ChunkData(before + held.len() as u64 + bytes), bytes)
            }
            Part::ChunkData(before) => (Part::Chunk(before), 1),
            Part::BlockEnd => (Part::HeaderSize, 1),
            Part::Index(Index { bytes, numbers }) => {
                let last = held[0] & 0x80 == 0;
                // The crate makes room for as many as the first number says.
                if numbers == 1 + 2 * self.blocks {
                    let shift = u32::try_from(7 * (bytes - 1)).unwrap_or(u32::MAX);
                    let rest = self.blocks.checked_shr(shift).unwrap_or(0);
                    if u64::from(held[0] & 0x7F) != rest & 0x7F || last != (rest >> 7 == 0) {
                        return Err(damaged("an index of other blocks"));
                    }
                }
                let (bytes, numbers) = (bytes + 1, numbers - u64::from(last));
                match numbers {
                    0 => (Part::StreamEnd, padding(bytes) + STREAM_END_BYTES),
                    _ => (Part::Index(Index { bytes, numbers }), 1),
                }
            }
            Part::StreamEnd => (Part::Between, 1),
            Part::Between if held[0] == 0 => (Part::Between, 1),
            Part::Between => {
                self.held.extend_from_slice(held);
                (Part::StreamHeader, STREAM_HEADER_BYTES - 1)
            }
            Part::Refused => return Err(damaged("what was refused")),
        })
    }
}

impl Part {
    /// Whether its bytes are not looked at.
    fn passed(self) -> bool {
        matches!(self, Self::ChunkData(_) | Self::BlockEnd | Self::StreamEnd)
    }
}

/// Up to the next multiple of four.
fn padding(bytes: u64) -> u64 {
    bytes.wrapping_neg() % 4
}

/// The size of the dictionary by a block's header (3.1), which is given without its first byte.
fn dictionary(header: &[u8]) -> Option<u64> {
    let (flags, mut rest) = header.split_first()?;
    for size in [0x40, 0x80] {
        if flags & size != 0 {
            let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
            rest = &rest[end + 1..];
        }
    }
    for _ in 0..flags & 3 {
        let (&[id, size], properties) = rest.split_first_chunk()?;
        if !OTHER_FILTERS.contains(&id) {
            return None;
        }
        rest = properties.get(usize::from(size)..)?;
    }
    let (id, longest) = LZMA2;
    match *rest {
        [first, 1, 40, ..] if first == id => Some(u64::from(u32::MAX)),
        [first, 1, bits, ..] if first == id && bits < longest => {
            Some((2 | u64::from(bits & 1)) << (bits / 2 + 11))
        }
        _ => None,
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its xz has {what}"))
}

#[cfg(test)]
mod tests;

//! Tables of an image: rows of bytes in compressed blocks of 8 KiB, any place of which can be named.

use std::io;

use crate::squashfs::format::{METADATA_BYTES, METADATA_PLAIN};

/// Level of zstd for tables, whatever files are compressed with: they are a hundredth of an image, and one core makes them.
const LEVEL: i32 = 6;

/// A place in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the block begins, from the start of the table.
    pub(super) block: u32,
    /// How far in the unpacked block.
    pub(super) offset: u16,
}

/// A table while it is written.
pub(super) struct Metadata {
    compressor: zstd::bulk::Compressor<'static>,
    stored: Vec<u8>,
    /// Where each block begins.
    starts: Vec<u64>,
    block: Vec<u8>,
}

impl Metadata {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
            stored: Vec::new(),
            starts: Vec::new(),
            block: Vec::with_capacity(METADATA_BYTES),
        })
    }

    /// Where the next byte will be.
    ///
    /// # Errors
    /// The table is longer than squashfs has numbers for (4 GiB).
    pub(super) fn place(&self) -> io::Result<Place> {
        Ok(Place {
            block: u32::try_from(self.stored.len()).map_err(io::Error::other)?,
            // Less than a block.
            offset: u16::try_from(self.block.len()).map_err(io::Error::other)?,
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// zstd fails.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = METADATA_BYTES - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == METADATA_BYTES {
                self.close()?;
            }
        }
        Ok(())
    }

    /// The table.
    ///
    /// # Errors
    /// zstd fails.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.close()?;
        Ok(self.stored)
    }

    /// The table that begins at `at` in the image, and behind it the positions of its blocks; and where these begin.
    ///
    /// # Errors
    /// zstd fails.
    pub(super) fn finish_with_positions(mut self, at: u64) -> io::Result<(Vec<u8>, u64)> {
        self.close()?;
        let positions_at = at + self.stored.len() as u64;
        for start in self.starts {
            self.stored.extend_from_slice(&(at + start).to_le_bytes());
        }
        Ok((self.stored, positions_at))
    }

    /// Ends a block, if there is anything in it.
    fn close(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = self.compressor.compress(&self.block)?;
        let (bytes, flag) = match packed.len() < self.block.len() {
            true => (&packed, 0),
            false => (&self.block, METADATA_PLAIN),
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        self.starts.push(self.stored.len() as u64);
        self.stored
            .extend_from_slice(&(length | flag).to_le_bytes());
        self.stored.extend_from_slice(bytes);
        self.block.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_the_block_that_has_its_byte() {
        let mut table = Metadata::new().unwrap();
        table.add(&[7; METADATA_BYTES - 1]).unwrap();
        let place = table.place().unwrap();
        assert_eq!(
            (place.block, usize::from(place.offset)),
            (0, METADATA_BYTES - 1)
        );
        table.add(&[8]).unwrap();
        let place = table.place().unwrap();
        assert_eq!(place.offset, 0);
        assert_eq!(place.block as usize, table.stored.len());
        table.add(b"noise, which grows").unwrap();
        let (stored, at) = table.finish_with_positions(1000).unwrap();
        let positions = &stored[usize::try_from(at - 1000).unwrap()..];
        let second = 1000 + u64::from(place.block);
        assert_eq!(
            positions,
            [1000_u64.to_le_bytes(), second.to_le_bytes()].concat()
        );
        let plain = &stored[place.block as usize..];
        assert_eq!(&plain[..2], (18 | METADATA_PLAIN).to_le_bytes());
        assert_eq!(&plain[2..20], b"noise, which grows");
    }
}

//! One gzip member whose pieces are compressed on all cores.
//!
//! Each piece ends on a byte, by an empty block (RFC 1951, 3.2.4, as zlib's `Z_SYNC_FLUSH` makes it), so that they stand one
//! after the other; and no piece refers to the one before.

use std::io::{self, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Header of a member without name, time or system (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty last block (RFC 1951, 3.2.6): fixed codes, and at once their end.
const END: [u8; 2] = [3, 0];

/// A piece that is compressed.
pub(super) struct Deflated {
    stored: Vec<u8>,
    crc: Crc,
}

/// Compresses one piece.
pub(super) fn deflate(bytes: &[u8], level: i32) -> io::Result<Deflated> {
    let mut crc = Crc::new();
    crc.update(bytes);
    let level = Compression::new(level.unsigned_abs().min(9));
    let mut compress = Compress::new(level, false);
    let mut stored = Vec::with_capacity(bytes.len() / 2 + 1024);
    loop {
        let read = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let status = compress.compress_vec(&bytes[read..], &mut stored, FlushCompress::Sync);
        let status = status.map_err(io::Error::other)?;
        // Room that is left over means that all is out.
        if status != Status::Ok || stored.len() < stored.capacity() {
            return Ok(Deflated { stored, crc });
        }
        stored.reserve(bytes.len() / 2 + 1024);
    }
}

/// Writes the member of these pieces.
pub(super) struct Member<W> {
    out: W,
    crc: Crc,
}

impl<W: Write> Member<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let crc = Crc::new();
        Ok(Self { out, crc })
    }

    pub(super) fn write(&mut self, piece: &Deflated) -> io::Result<()> {
        self.crc.combine(&piece.crc);
        self.out.write_all(&piece.stored)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&END)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())
    }
}

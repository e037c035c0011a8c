//! The way out: records into the compressor in large pieces, stored bytes into the file and the digests.

use std::fs::File;
use std::io::{self, Write};

use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::limits::CHUNK_BYTES;
use towline_contract::newc;

use super::WriteError;
use super::records::{Body, Record};
use crate::content::Content;
use crate::tree::display;

/// Bytes gathered before they go on.
const BUFFER_BYTES: usize = 1 << 18;

/// Writes the records and the trailer.
pub(super) fn write_archive(
    records: &[Record<'_>],
    out: &mut impl Write,
) -> Result<(), WriteError> {
    let mut out = Gather::new(out);
    for record in records {
        out.write(&record.header)?;
        match record.body {
            Body::None => {}
            Body::Bytes(bytes) => out.write(bytes)?,
            Body::Content(content) => out.content(record.path, content)?,
        }
        out.write(newc::padding(record.body.len()))?;
    }
    out.write(&newc::trailer())?;
    out.flush()
}

/// Gathers headers and contents in one buffer: files are read straight into it, and the compressor gets large pieces.
struct Gather<'a, W> {
    out: &'a mut W,
    buffer: Vec<u8>,
    used: usize,
}

impl<'a, W: Write> Gather<'a, W> {
    fn new(out: &'a mut W) -> Self {
        Self {
            out,
            buffer: vec![0; BUFFER_BYTES],
            used: 0,
        }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.out
            .write_all(&self.buffer[..self.used])
            .map_err(WriteError::Output)?;
        self.used = 0;
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            if self.used == self.buffer.len() {
                self.flush()?;
            }
            let take = bytes.len().min(self.buffer.len() - self.used);
            self.buffer[self.used..self.used + take].copy_from_slice(&bytes[..take]);
            self.used += take;
            bytes = &bytes[take..];
        }
        Ok(())
    }

    fn content(&mut self, path: &[u8], content: &Content) -> Result<(), WriteError> {
        let failed = |cause| WriteError::Content {
            path: display(path),
            cause,
        };
        if content.is_empty() {
            return Ok(());
        }
        let open = content.open().map_err(failed)?;
        let mut at = 0;
        while at < content.len() {
            if self.used == self.buffer.len() {
                self.flush()?;
            }
            let room = self.buffer.len() - self.used;
            let take = usize::try_from(content.len() - at).map_or(room, |left| left.min(room));
            open.read_exact_at(&mut self.buffer[self.used..self.used + take], at)
                .map_err(failed)?;
            self.used += take;
            at += take as u64;
        }
        Ok(())
    }
}

/// Passes bytes on to a file and hashes them, whole and by chunk.
pub(super) struct ChunkHasher<'a> {
    file: &'a File,
    whole: Hasher,
    chunk: Hasher,
    chunks: Vec<Digest>,
    /// Bytes so far.
    pub(super) bytes: u64,
}

impl<'a> ChunkHasher<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self {
            file,
            whole: Hasher::default(),
            chunk: Hasher::default(),
            chunks: Vec::new(),
            bytes: 0,
        }
    }

    /// The digest of all, the digests of the chunks, and the number of bytes.
    pub(super) fn finish(mut self) -> (Digest, Vec<Digest>, u64) {
        if !self.bytes.is_multiple_of(CHUNK_BYTES) {
            self.chunks.push(self.chunk.finish());
        }
        (self.whole.finish(), self.chunks, self.bytes)
    }
}

impl Write for ChunkHasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = CHUNK_BYTES - self.bytes % CHUNK_BYTES;
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let written = self.file.write(&bytes[..room])?;
        let bytes = &bytes[..written];
        self.whole.update(bytes);
        self.chunk.update(bytes);
        self.bytes += written as u64;
        if written > 0 && self.bytes.is_multiple_of(CHUNK_BYTES) {
            self.chunks.push(std::mem::take(&mut self.chunk).finish());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

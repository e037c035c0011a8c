//! The way out: stored bytes into the file and the digests.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::limits::CHUNK_BYTES;

/// [`CHUNK_BYTES`] as the length of a buffer.
const CHUNK: usize = 1 << 20;
const _: () = assert!(CHUNK as u64 == CHUNK_BYTES);

/// Chunks that may wait to be hashed.
const WAITING_MAX: usize = 2;

/// Passes bytes on to a file and hashes them: whole here, by chunk on another core.
pub(super) struct ChunkHasher<'a> {
    file: &'a File,
    whole: Hasher,
    chunk: Vec<u8>,
    chunks: SyncSender<Vec<u8>>,
    digests: JoinHandle<Vec<Digest>>,
    /// Bytes so far.
    pub(super) bytes: u64,
}

impl<'a> ChunkHasher<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        let (chunks, waiting) = sync_channel(WAITING_MAX);
        Self {
            file,
            whole: Hasher::default(),
            chunk: new_chunk(),
            chunks,
            digests: std::thread::spawn(move || digests(&waiting)),
            bytes: 0,
        }
    }

    /// The digest of all, the digests of the chunks, and the number of bytes.
    pub(super) fn finish(mut self) -> io::Result<(Digest, Vec<Digest>, u64)> {
        if !self.chunk.is_empty() {
            self.hand_over()?;
        }
        drop(self.chunks);
        let digests = self.digests.join();
        let digests = digests.map_err(|_| io::Error::other("hashing ended early"))?;
        Ok((self.whole.finish(), digests, self.bytes))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, new_chunk());
        self.chunks.send(chunk).map_err(io::Error::other)
    }
}

fn new_chunk() -> Vec<u8> {
    Vec::with_capacity(CHUNK)
}

fn digests(chunks: &Receiver<Vec<u8>>) -> Vec<Digest> {
    chunks.iter().map(|chunk| Digest::of(&chunk)).collect()
}

impl Write for ChunkHasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let written = self.file.write(&bytes[..room.min(bytes.len())])?;
        let bytes = &bytes[..written];
        self.whole.update(bytes);
        self.chunk.extend_from_slice(bytes);
        self.bytes += written as u64;
        if self.chunk.len() == CHUNK {
            self.hand_over()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

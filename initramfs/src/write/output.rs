//! The way out: stored bytes into the file and the digests.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::limits::CHUNK_BYTES;

/// [`CHUNK_BYTES`] as the length of a buffer.
const CHUNK: usize = 1 << 20;
const _: () = assert!(CHUNK as u64 == CHUNK_BYTES);

/// Chunks that may wait to be hashed.
const WAITING_MAX: usize = 2;

/// A chunk on its way to both digests.
type Chunk = Arc<Vec<u8>>;

/// Passes bytes on to a file; they are hashed on other cores, whole and by chunk.
pub(super) struct ChunkHasher<'a> {
    file: &'a File,
    chunk: Vec<u8>,
    whole: Worker<Digest>,
    chunks: Worker<Vec<Digest>>,
    /// Bytes so far.
    pub(super) bytes: u64,
}

/// A thread that makes something of all chunks.
struct Worker<T> {
    sender: SyncSender<Chunk>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Worker<T> {
    fn new(work: fn(&Receiver<Chunk>) -> T) -> Self {
        let (sender, chunks) = sync_channel(WAITING_MAX);
        let thread = thread::spawn(move || work(&chunks));
        Self { sender, thread }
    }

    fn send(&self, chunk: Chunk) -> io::Result<()> {
        self.sender.send(chunk).map_err(io::Error::other)
    }

    fn finish(self) -> io::Result<T> {
        drop(self.sender);
        let made = self.thread.join();
        made.map_err(|_| io::Error::other("hashing ended early"))
    }
}

impl<'a> ChunkHasher<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self {
            file,
            chunk: Vec::with_capacity(CHUNK),
            whole: Worker::new(whole),
            chunks: Worker::new(each),
            bytes: 0,
        }
    }

    /// The digest of all, the digests of the chunks, and the number of bytes.
    pub(super) fn finish(mut self) -> io::Result<(Digest, Vec<Digest>, u64)> {
        if !self.chunk.is_empty() {
            self.hand_over()?;
        }
        Ok((self.whole.finish()?, self.chunks.finish()?, self.bytes))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let next = Vec::with_capacity(CHUNK);
        let chunk = Arc::new(std::mem::replace(&mut self.chunk, next));
        self.whole.send(Arc::clone(&chunk))?;
        self.chunks.send(chunk)
    }
}

fn whole(chunks: &Receiver<Chunk>) -> Digest {
    let mut hasher = Hasher::default();
    chunks.iter().for_each(|chunk| hasher.update(&chunk));
    hasher.finish()
}

fn each(chunks: &Receiver<Chunk>) -> Vec<Digest> {
    chunks.iter().map(|chunk| Digest::of(&chunk)).collect()
}

impl Write for ChunkHasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let written = self.file.write(&bytes[..room.min(bytes.len())])?;
        self.chunk.extend_from_slice(&bytes[..written]);
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

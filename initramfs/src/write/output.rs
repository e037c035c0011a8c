//! The way out: stored bytes into the file and the digests.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::fs::Advice;
use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::limits::CHUNK_BYTES;

/// Bytes that are handed over at a time.
const PART: usize = 1 << 18;
const _: () = assert!(CHUNK_BYTES.is_multiple_of(PART as u64));

/// Parts that may wait to be hashed.
const WAITING_MAX: usize = 4;

/// Bytes after which the disk begins with them: who syncs the finished file waits for the last of it only.
const BEGUN_AFTER: u64 = 16 << 20;

/// Bytes on their way to both digests.
type Part = Arc<Vec<u8>>;

/// Passes bytes on to a file; they are hashed on other cores, whole and by chunk, while the disk writes those before them.
pub(super) struct ChunkHasher<'a> {
    file: &'a File,
    part: Vec<u8>,
    whole: Worker<Part, Digest>,
    chunks: Worker<Part, Vec<Digest>>,
    disk: Worker<Range<u64>, ()>,
    /// The part of the file that is there already.
    there: Range<u64>,
    /// Bytes that the disk was told of.
    begun: u64,
    /// Bytes so far.
    pub(super) bytes: u64,
}

/// A thread that makes a `T` of all that it is sent.
struct Worker<S, T> {
    sender: SyncSender<S>,
    thread: JoinHandle<T>,
}

impl<S: Send + 'static, T: Send + 'static> Worker<S, T> {
    fn new(work: impl FnOnce(&Receiver<S>) -> T + Send + 'static) -> Self {
        let (sender, sent) = sync_channel(WAITING_MAX);
        let thread = thread::spawn(move || work(&sent));
        Self { sender, thread }
    }

    fn send(&self, what: S) -> io::Result<()> {
        let sent = self.sender.send(what);
        sent.map_err(|_| io::Error::other("a thread that writes the layer ended early"))
    }

    fn finish(self) -> io::Result<T> {
        drop(self.sender);
        let made = self.thread.join();
        made.map_err(|_| io::Error::other("a thread that writes the layer ended early"))
    }
}

impl<'a> ChunkHasher<'a> {
    /// From the start of the file, wherever somebody stopped who wrote to it. What is `there` is what will be passed on.
    pub(super) fn new(mut file: &'a File, there: Range<u64>) -> io::Result<Self> {
        file.rewind()?;
        let same = file.try_clone()?;
        Ok(Self {
            file,
            part: Vec::with_capacity(PART),
            whole: Worker::new(whole),
            chunks: Worker::new(each),
            disk: Worker::new(move |ranges| begin(&same, ranges)),
            there,
            begun: 0,
            bytes: 0,
        })
    }

    /// The digest of all, the digests of the chunks, and the number of bytes.
    pub(super) fn finish(mut self) -> io::Result<(Digest, Vec<Digest>, u64)> {
        if !self.part.is_empty() {
            self.hand_over()?;
        }
        self.disk.finish()?;
        Ok((self.whole.finish()?, self.chunks.finish()?, self.bytes))
    }

    /// Has the first of these bytes in the file, and says how many.
    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Range { start, end } = self.there;
        let boundary = if self.bytes < start { start } else { end };
        let before = boundary.checked_sub(self.bytes).filter(|it| *it > 0);
        let before = before.and_then(|it| usize::try_from(it).ok());
        let bytes = &bytes[..before.unwrap_or(usize::MAX).min(bytes.len())];
        if self.there.contains(&self.bytes) {
            let length = i64::try_from(bytes.len()).map_err(io::Error::other)?;
            self.file.seek_relative(length)?;
            return Ok(bytes.len());
        }
        self.file.write(bytes)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let next = Vec::with_capacity(PART);
        let part = Arc::new(std::mem::replace(&mut self.part, next));
        self.whole.send(Arc::clone(&part))?;
        self.chunks.send(part)?;
        let new = self.begun..self.bytes;
        // A disk that is still busy is told after the next part.
        if new.end - new.start >= BEGUN_AFTER && self.disk.sender.try_send(new).is_ok() {
            self.begun = self.bytes;
        }
        Ok(())
    }
}

fn whole(parts: &Receiver<Part>) -> Digest {
    let mut hasher = Hasher::default();
    parts.iter().for_each(|part| hasher.update(&part));
    hasher.finish()
}

/// Chunks are full but for the last one, and so are their parts.
fn each(parts: &Receiver<Part>) -> Vec<Digest> {
    let mut digests = Vec::new();
    let (mut chunk, mut bytes) = (Hasher::default(), 0);
    for part in parts {
        chunk.update(&part);
        bytes += part.len() as u64;
        if bytes == CHUNK_BYTES {
            digests.push(std::mem::take(&mut chunk).finish());
            bytes = 0;
        }
    }
    if bytes > 0 {
        digests.push(chunk.finish());
    }
    digests
}

/// Has the kernel write these parts of the file now, and does not wait for it: advice, of which an error means nothing. (Linux
/// does so before it lets go of pages that are not needed; these it keeps, for they are being written.)
fn begin(file: &File, ranges: &Receiver<Range<u64>>) {
    for range in ranges {
        let bytes = NonZeroU64::new(range.end - range.start);
        let _ = rustix::fs::fadvise(file, range.start, bytes, Advice::DontNeed);
    }
}

impl Write for ChunkHasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PART - self.part.len();
        let written = self.pass_on(&bytes[..room.min(bytes.len())])?;
        self.part.extend_from_slice(&bytes[..written]);
        self.bytes += written as u64;
        if self.part.len() == PART {
            self.hand_over()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

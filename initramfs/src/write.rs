//! From a tree to stored bytes: newc records, one compressed frame, digests, padding.
//!
//! The same tree gives the same bytes on any machine: order, numbers and times come from the tree alone, and zstd always
//! splits its work as if for several threads, so that their number does not matter.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use towline_contract::Digest;
use towline_contract::digest::Hasher;
use towline_contract::limits::{CHUNK_BYTES, NEWC_FILE_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};
use towline_contract::manifest::Compression;
use towline_contract::newc::{self, mode};

use crate::content::Content;
use crate::tree::{Entry, Node, Tree, display};

/// Bytes read from a file at once.
const BUFFER_BYTES: usize = 1 << 18;

/// Most compressing threads: each holds several megabytes of input.
const THREADS_MAX: usize = 8;

/// Why a layer cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Writing to the layer's file failed.
    #[error("cannot write the layer")]
    Output(#[source] io::Error),
    /// A file cannot be read, or has another size than when the tree was read.
    #[error("cannot read the content of {path}")]
    Content {
        /// Its path in the layer.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// An entry that newc cannot hold.
    #[error("newc cannot hold {path}: {what}")]
    Entry {
        /// Its path in the layer.
        path: String,
        /// What is wrong.
        what: String,
    },
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of the stored bytes.
    pub digest: Digest,
    /// SHA-256 of each chunk of the stored bytes.
    pub chunks: Vec<Digest>,
    /// Stored bytes, padding included; a multiple of 4.
    pub stored_bytes: u64,
    /// Bytes of the archive.
    pub unpacked_bytes: u64,
    /// Entries in the archive, without the trailer.
    pub entries: u64,
}

/// Writes `tree` to `file` as one compressed newc archive. Entries without a time get `time` (seconds since 1970).
///
/// # Errors
/// See [`WriteError`].
pub fn write(
    tree: &Tree,
    time: u32,
    compression: Compression,
    level: i32,
    file: &File,
) -> Result<Stored, WriteError> {
    let records = records(tree, time)?;
    let unpacked_bytes = archive_bytes(&records);
    let mut out = ChunkHasher::new(file);
    match compression {
        Compression::None => write_archive(&records, &mut out)?,
        Compression::Gzip => {
            let level = flate2::Compression::new(level.unsigned_abs().min(9));
            // GzBuilder's defaults: no name, time 0.
            let mut encoder = flate2::GzBuilder::new().write(&mut out, level);
            write_archive(&records, &mut encoder)?;
            encoder.finish().map_err(WriteError::Output)?;
        }
        Compression::Zstd => {
            let mut encoder =
                zstd_encoder(&mut out, level, unpacked_bytes).map_err(WriteError::Output)?;
            write_archive(&records, &mut encoder)?;
            encoder.finish().map_err(WriteError::Output)?;
        }
    }
    let padding = newc::padding(out.bytes);
    out.write_all(padding).map_err(WriteError::Output)?;
    let (digest, chunks, stored_bytes) = out.finish();
    Ok(Stored {
        digest,
        chunks,
        stored_bytes,
        unpacked_bytes,
        entries: records.len() as u64,
    })
}

fn zstd_encoder<W: Write>(out: W, level: i32, bytes: u64) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, level)?;
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX);
    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(bytes))?;
    if level > 19 {
        encoder.window_log(ZSTD_WINDOW_LOG_MAX)?;
    }
    Ok(encoder)
}

/// A header that is ready, and the body that follows it.
struct Record<'a> {
    path: &'a [u8],
    header: Vec<u8>,
    body: Body<'a>,
}

enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    Content(&'a Content),
}

impl Body<'_> {
    fn len(&self) -> u64 {
        match self {
            Body::None => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Content(content) => content.len(),
        }
    }
}

/// Decides all headers: inode numbers count up, the first name of a file has its bytes.
fn records(tree: &Tree, time: u32) -> Result<Vec<Record<'_>>, WriteError> {
    let mut names: HashMap<*const Content, u32> = HashMap::new();
    for (_, entry) in tree.iter() {
        if let Node::File(content) = &entry.node {
            *names.entry(Arc::as_ptr(content)).or_default() += 1;
        }
    }
    let mut inodes: HashMap<*const Content, u32> = HashMap::new();
    let mut next_inode = 1;
    let mut records = Vec::with_capacity(tree.len());
    for (path, entry) in tree.iter() {
        let (links, seen) = match &entry.node {
            Node::File(content) => {
                let links = names.get(&Arc::as_ptr(content)).copied().unwrap_or(1);
                (links, inodes.get(&Arc::as_ptr(content)).copied())
            }
            Node::Directory { .. } => (2, None),
            _ => (1, None),
        };
        let inode = seen.unwrap_or(next_inode);
        if seen.is_none() {
            next_inode += 1;
            if let Node::File(content) = &entry.node {
                inodes.insert(Arc::as_ptr(content), inode);
            }
        }
        let body = match &entry.node {
            Node::File(content) if seen.is_none() => Body::Content(content),
            Node::Symlink(target) => Body::Bytes(target),
            _ => Body::None,
        };
        let header = header(path, entry, time, inode, links, body.len())?;
        records.push(Record { path, header, body });
    }
    Ok(records)
}

fn header(
    path: &[u8],
    entry: &Entry,
    time: u32,
    inode: u32,
    links: u32,
    bytes: u64,
) -> Result<Vec<u8>, WriteError> {
    let refuse = |what: String| WriteError::Entry {
        path: display(path),
        what,
    };
    let (file_type, rdev_major, rdev_minor) = match &entry.node {
        Node::Directory { .. } => (mode::S_IFDIR, 0, 0),
        Node::File(_) => (mode::S_IFREG, 0, 0),
        Node::Symlink(_) => (mode::S_IFLNK, 0, 0),
        Node::Special {
            file_type,
            major,
            minor,
        } => (*file_type, *major, *minor),
    };
    let permissions = if matches!(entry.node, Node::Symlink(_)) {
        0o777
    } else {
        entry.meta.mode
    };
    newc::Entry {
        name: path.to_vec(),
        inode,
        mode: file_type | permissions,
        uid: entry.meta.uid,
        gid: entry.meta.gid,
        links,
        mtime: entry.meta.mtime.unwrap_or(time),
        bytes: u32::try_from(bytes)
            .map_err(|_| refuse(format!("{bytes} bytes are more than {NEWC_FILE_BYTES_MAX}")))?,
        rdev_major,
        rdev_minor,
    }
    .encode()
    .map_err(|cause| refuse(cause.to_string()))
}

fn archive_bytes(records: &[Record<'_>]) -> u64 {
    let one =
        |record: &Record<'_>| record.header.len() as u64 + record.body.len().next_multiple_of(4);
    records.iter().map(one).sum::<u64>() + newc::trailer().len() as u64
}

fn write_archive(records: &[Record<'_>], out: &mut impl Write) -> Result<(), WriteError> {
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
struct ChunkHasher<'a> {
    file: &'a File,
    whole: Hasher,
    chunk: Hasher,
    chunks: Vec<Digest>,
    bytes: u64,
}

impl<'a> ChunkHasher<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            file,
            whole: Hasher::default(),
            chunk: Hasher::default(),
            chunks: Vec::new(),
            bytes: 0,
        }
    }

    fn finish(mut self) -> (Digest, Vec<Digest>, u64) {
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

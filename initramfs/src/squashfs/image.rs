//! An open image: its metadata, which is read where it is asked for, and the contents of its files.
//!
//! Nothing is read ahead: the image's own numbers of records decide nothing about memory. The blocks that are kept for the next
//! reader have a bound.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use super::blocks::damaged;
use super::format::{DATA_PLAIN, METADATA_BYTES, METADATA_PLAIN, SUPERBLOCK_BYTES};
use super::inode::Content;
use super::superblock::{Superblock, Table, u16_at, u32_at, u64_at};

/// Blocks of metadata that are kept: 32 MiB. An image of a desktop has some 1,000.
const METADATA_KEPT: usize = 4096;

/// Blocks with ends of files that are kept. They lie in the order of the files; equal files are the exception.
const FRAGMENTS_KEPT: usize = 16;

/// A block of metadata, and where the next one is.
struct Metadata {
    bytes: Vec<u8>,
    next: u64,
}

/// A place in metadata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where the block is in the file.
    pub(super) block: u64,
    /// How far in the unpacked block.
    pub(super) offset: usize,
}

/// An open image.
pub(super) struct Image {
    file: File,
    pub(super) superblock: Superblock,
    metadata: HashMap<u64, Rc<Metadata>>,
    fragments: VecDeque<(u64, Rc<Vec<u8>>)>,
}

impl Image {
    /// The image in `file`, or in words why it is none that can be read.
    pub(super) fn open(file: File) -> io::Result<Result<Self, String>> {
        let mut start = [0; SUPERBLOCK_BYTES];
        match file.read_exact_at(&mut start, 0) {
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {}
            other => other?,
        }
        let superblock = match Superblock::parse(&start) {
            Ok(superblock) => superblock,
            Err(why) => return Ok(Err(why)),
        };
        let (found, bytes) = (file.metadata()?.len(), superblock.bytes);
        if found < bytes {
            return Ok(Err(format!(
                "it has {found} of {bytes} bytes: fetch it again"
            )));
        }
        Ok(Ok(Self {
            file,
            superblock,
            metadata: HashMap::new(),
            fragments: VecDeque::new(),
        }))
    }

    /// Fills `buffer` with the metadata at `place`, and moves it on.
    pub(super) fn take(&mut self, place: &mut Place, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let block = self.metadata(place.block)?;
            let rest = block.bytes.get(place.offset..);
            let rest = rest.ok_or_else(|| damaged("a place in its tables lies behind a block"))?;
            let length = rest.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(length);
            now.copy_from_slice(&rest[..length]);
            buffer = later;
            place.offset += length;
            if place.offset == block.bytes.len() {
                let (block, offset) = (block.next, 0);
                *place = Place { block, offset };
            }
        }
        Ok(())
    }

    fn metadata(&mut self, at: u64) -> io::Result<Rc<Metadata>> {
        if let Some(block) = self.metadata.get(&at) {
            return Ok(Rc::clone(block));
        }
        let mut size = [0; 2];
        self.read(at, &mut size)?;
        let size = u16_at(&size, 0);
        let length = usize::from(size & !METADATA_PLAIN);
        if length == 0 || length > METADATA_BYTES {
            return Err(damaged(format!("a block of its tables has {length} bytes")));
        }
        let mut bytes = vec![0; length];
        self.read(at.saturating_add(2), &mut bytes)?;
        if size & METADATA_PLAIN == 0 {
            let compression = self.superblock.compression;
            bytes = compression.unpack(&bytes, METADATA_BYTES)?;
        }
        if bytes.is_empty() {
            return Err(damaged("a block of its tables is empty"));
        }
        if self.metadata.len() == METADATA_KEPT {
            self.metadata.clear();
        }
        let next = at.saturating_add(2 + length as u64);
        let block = Rc::new(Metadata { bytes, next });
        self.metadata.insert(at, Rc::clone(&block));
        Ok(block)
    }

    /// Fills `record` with the record `number` of a table.
    fn record(&mut self, table: Table, number: u32, record: &mut [u8]) -> io::Result<()> {
        if number >= table.records {
            let records = table.records;
            let what = format!("it names record {number} of a table of {records}");
            return Err(damaged(what));
        }
        // Records never lie across blocks: their sizes are powers of two.
        let each = METADATA_BYTES / record.len();
        let number = number as usize;
        let mut pointer = [0; 8];
        let at = table.at.saturating_add((number / each * 8) as u64);
        self.read(at, &mut pointer)?;
        let mut place = Place {
            block: u64_at(&pointer, 0),
            offset: number % each * record.len(),
        };
        self.take(&mut place, record)
    }

    /// A user or group, by its number in the image's own list.
    pub(super) fn id(&mut self, number: u16) -> io::Result<u32> {
        let mut record = [0; 4];
        self.record(self.superblock.ids, number.into(), &mut record)?;
        Ok(u32_at(&record, 0))
    }

    /// Gives the bytes of a file to `take`, block by block.
    pub(super) fn content(
        &mut self,
        content: &Content,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let block_bytes = self.superblock.block_bytes;
        let (mut sizes, mut at) = (content.sizes, content.at);
        let mut left = content.bytes;
        while left > 0 {
            let length = usize::try_from(left).map_or(block_bytes, |left| left.min(block_bytes));
            match content.fragment.filter(|_| length < block_bytes) {
                Some((number, offset)) => {
                    let fragment = self.fragment(number)?;
                    let end = (offset as usize).saturating_add(length);
                    let bytes = fragment.get(offset as usize..end);
                    take(bytes.ok_or_else(|| damaged("its end lies behind its block"))?)?;
                }
                None => {
                    let mut size = [0; 4];
                    self.take(&mut sizes, &mut size)?;
                    let size = u32_at(&size, 0);
                    let block = match size {
                        0 => vec![0; length],
                        size => self.block(at, size)?,
                    };
                    if block.len() != length {
                        let found = block.len();
                        let what = format!("a block of it has {found} bytes, and not {length}");
                        return Err(damaged(what));
                    }
                    take(&block)?;
                    at = at.saturating_add((size & !DATA_PLAIN).into());
                }
            }
            left -= length as u64;
        }
        Ok(())
    }

    /// A block of files' contents.
    fn block(&self, at: u64, size: u32) -> io::Result<Vec<u8>> {
        let block_bytes = self.superblock.block_bytes;
        let length = (size & !DATA_PLAIN) as usize;
        if length > block_bytes {
            let what =
                format!("a block of it is stored as {length} bytes, of {block_bytes} at most");
            return Err(damaged(what));
        }
        let mut bytes = vec![0; length];
        self.read(at, &mut bytes)?;
        match size & DATA_PLAIN {
            0 => self.superblock.compression.unpack(&bytes, block_bytes),
            _ => Ok(bytes),
        }
    }

    /// A block with the ends of several files.
    fn fragment(&mut self, number: u32) -> io::Result<Rc<Vec<u8>>> {
        let mut record = [0; 16];
        self.record(self.superblock.fragments, number, &mut record)?;
        let (at, size) = (u64_at(&record, 0), u32_at(&record, 8));
        if let Some((_, block)) = self.fragments.iter().find(|(there, _)| *there == at) {
            return Ok(Rc::clone(block));
        }
        let block = Rc::new(self.block(at, size)?);
        if self.fragments.len() == FRAGMENTS_KEPT {
            self.fragments.pop_front();
        }
        self.fragments.push_back((at, Rc::clone(&block)));
        Ok(block)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let read = self.file.read_exact_at(buffer, at);
        read.map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
            // A position that no file can have.
            io::ErrorKind::InvalidInput => damaged("it names a place that lies behind its end"),
            _ => cause,
        })
    }
}

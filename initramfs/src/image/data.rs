//! The contents of files: blocks that all cores read and compress, and that are written in their order.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::kept::{Index, Kept, Key, Unpacker};
use super::plan::Block;
use super::{ImageError, KEPT_LEVEL_MIN, Place};
use crate::parallel::{self, Ahead, InOrder};
use crate::squashfs::format::{DATA_PLAIN, SUPERBLOCK_BYTES};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A block that is found takes a hundredth of the time of one that is compressed: many of those may wait for one of these, as long as
/// they are small. With eight workers, at level 9, and bytes that do not become shorter, a whole process had 92 MiB.
const AHEAD: Ahead<Result<Ready, ImageError>> = Ahead {
    results: 512,
    bytes: 4 << 20,
    held: |ready| ready.as_ref().map_or(0, |ready| ready.stored.len()),
};

/// Where a block is in the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) at: u64,
    /// How long it is there, and [`DATA_PLAIN`] if it is not compressed; 0 for a hole, whose bytes are all zero.
    pub(super) size: u32,
    /// Bytes of files in it.
    pub(super) bytes: u64,
}

/// The blocks of an image that were written.
pub(super) struct Data {
    pub(super) blocks: Vec<Stored>,
    /// Where the last one ends.
    pub(super) end: u64,
    pub(super) came: Blocks,
}

/// How many blocks came which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Found among those of an earlier build.
    pub found: usize,
    /// Compressed now.
    pub compressed: usize,
}

/// The way from a block to what is stored.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    /// Level of zstd.
    pub(super) level: i32,
    /// Blocks of an earlier build.
    pub(super) earlier: Option<&'a Kept>,
}

/// Writes all blocks behind the place of the superblock, and notes in `index` where they are.
///
/// # Errors
/// A file cannot be read or has changed, or writing fails.
pub(super) fn write(
    blocks: &[Block<'_>],
    way: Way<'_>,
    workers: usize,
    index: &mut Index,
    place: Place<'_>,
) -> Result<Data, ImageError> {
    let worker = || {
        let mut worker = Worker::new(way);
        move |number: usize| worker.ready(&blocks[number])
    };
    parallel::in_order_within(blocks.len(), workers, &AHEAD, worker, |ready| {
        in_order(ready, index, place)
    })
}

fn in_order(
    ready: InOrder<'_, Result<Ready, ImageError>>,
    index: &mut Index,
    place: Place<'_>,
) -> Result<Data, ImageError> {
    let mut data = Data {
        blocks: Vec::new(),
        end: SUPERBLOCK_BYTES as u64,
        came: Blocks::default(),
    };
    let mut file = place.file;
    file.seek(SeekFrom::Start(place.at + data.end))
        .map_err(ImageError::Write)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    for ready in ready {
        let ready = ready?;
        out.write_all(&ready.stored).map_err(ImageError::Write)?;
        if let Some(key) = ready.key {
            let at = place.at + data.end;
            index.add(key, at, &ready.stored, ready.was_found);
        }
        data.add(&ready);
    }
    out.flush().map_err(ImageError::Write)?;
    Ok(data)
}

impl Data {
    fn add(&mut self, ready: &Ready) {
        // A block has 256 KiB.
        let length = u32::try_from(ready.stored.len()).unwrap_or_default();
        let is_plain = ready.stored.len() == ready.bytes;
        self.blocks.push(Stored {
            at: self.end,
            size: if is_plain {
                length | DATA_PLAIN
            } else {
                length
            },
            bytes: ready.bytes as u64,
        });
        self.end += u64::from(length);
        match ready.was_found {
            true => self.came.found += 1,
            false => self.came.compressed += usize::from(length > 0),
        }
    }
}

/// A block that is ready to be written.
struct Ready {
    /// Nothing for a hole; as many bytes as the block has, if they are the block's own.
    stored: Vec<u8>,
    bytes: usize,
    key: Option<Key>,
    was_found: bool,
}

/// What a core needs for its blocks.
struct Worker<'a> {
    way: Way<'a>,
    /// By which keys differ when something else would be stored for the same bytes.
    seed: u64,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    unpacker: Unpacker,
    bytes: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(way: Way<'a>) -> Self {
        let version = u64::from(zstd::zstd_safe::version_number());
        Self {
            way,
            seed: version << 32 | u64::from(way.level.unsigned_abs()),
            compressor: None,
            unpacker: Unpacker::default(),
            bytes: Vec::new(),
        }
    }

    /// Reads a block, and finds it among those of an earlier build or compresses it.
    fn ready(&mut self, block: &Block<'_>) -> Result<Ready, ImageError> {
        block.read(&mut self.bytes)?;
        let bytes = &self.bytes;
        let mut ready = Ready {
            stored: Vec::new(),
            bytes: bytes.len(),
            key: None,
            was_found: false,
        };
        if !block.is_shared && bytes.iter().all(|byte| *byte == 0) {
            return Ok(ready);
        }
        let is_kept = self.way.level >= KEPT_LEVEL_MIN;
        ready.key = is_kept.then(|| xxh3_128_with_seed(bytes, self.seed));
        let earlier = self.way.earlier.zip(ready.key);
        if let Some(stored) =
            earlier.and_then(|(kept, key)| kept.find(key, bytes, &mut self.unpacker))
        {
            ready.stored = stored;
            ready.was_found = true;
            return Ok(ready);
        }
        ready.stored = self.compress().map_err(ImageError::Write)?;
        Ok(ready)
    }

    /// The block that was read, compressed if that makes it shorter.
    fn compress(&mut self) -> io::Result<Vec<u8>> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(self.way.level)?),
        };
        let mut stored = compressor.compress(&self.bytes)?;
        // It has room for a block that does not become shorter.
        stored.shrink_to_fit();
        Ok(match stored.len() < self.bytes.len() {
            true => stored,
            false => self.bytes.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_holds_no_more_than_its_bytes() {
        let way = Way {
            level: 6,
            earlier: None,
        };
        let mut worker = Worker::new(way);
        worker.bytes = vec![7; 200_000];
        let stored = worker.compress().unwrap();
        assert!(stored.capacity() < 1000, "{}", stored.capacity());
    }

    #[test]
    fn another_level_has_other_keys() {
        let seed = |level| {
            let way = Way {
                level,
                earlier: None,
            };
            Worker::new(way).seed
        };
        assert_ne!(seed(15), seed(16));
    }
}

//! What one build keeps of an image for the next build of the same layer, so that only the blocks that changed are compressed again.
//!
//! One folder a layer: [`LAYER`], the layer itself (under a second name, which takes no room), and [`INDEX`]: a record for each
//! block ([`RECORD_BYTES`]: its key, the XXH3 of its stored bytes, where it begins in the layer, how long it is); then the SHA-256 of the
//! records, their number, and [`MAGIC`]. Numbers are little-endian. Nobody is believed for a hash: a block that was found is unpacked
//! and compared, so that one which finds quickly is enough.
//!
//! Invariants: what is damaged is not found, and what is found unpacks to the very block, so that these files can change no
//! content of a layer. Each is replaced as a whole, so that two builds at once, somebody who deletes them, or an index of another
//! layer, cost time only.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use towline_contract::Digest;
use towline_contract::limits::{LAYER_ENTRIES_MAX, LAYER_UNPACKED_BYTES_MAX};
use xxhash_rust::xxh3::xxh3_128;
use zstd::zstd_safe::{DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective};

use super::BLOCK_BYTES;
use crate::scratch::Scratch;

/// The layer of an earlier build.
const LAYER: &str = "layer";

/// Where its blocks are.
const INDEX: &str = "index";

/// The last bytes of the index.
const MAGIC: &[u8; 16] = b"towline blocks 4";

/// Key, digest, offset and length of one block.
const RECORD_BYTES: usize = 16 + 16 + 8 + 4;

/// Digest of the records, their number, the magic.
const FOOTER_BYTES: usize = 32 + 8 + 16;

/// Most blocks of one file: those of the largest layer, each file of which has one that is not full.
const BLOCKS_MAX: u64 = LAYER_ENTRIES_MAX + LAYER_UNPACKED_BYTES_MAX / BLOCK_BYTES as u64;

/// Most bytes of a stored block: of squashfs's largest block, if it grew a little.
const STORED_BYTES_MAX: u32 = 2 << 20;

/// What a block is found by: the XXH3 of its bytes, seeded with the way it is compressed.
pub(super) type Key = u128;

/// What unpacks blocks that were found, to be compared.
#[derive(Default)]
pub(super) struct Unpacker {
    unpacker: Option<DCtx<'static>>,
    buffer: Vec<u8>,
}

impl Unpacker {
    /// Whether `stored` is a way to store `bytes`: themselves, or fewer that Linux unpacks to them.
    fn gives(&mut self, stored: &[u8], bytes: &[u8]) -> bool {
        match stored.len().cmp(&bytes.len()) {
            Ordering::Less => self.unpacks(stored, bytes).unwrap_or_default(),
            Ordering::Equal => stored == bytes,
            Ordering::Greater => false,
        }
    }

    /// Whether one frame unpacks to `bytes` as Linux reads it (`zstd_uncompress`, fs/squashfs/zstd_wrapper.c): with room for a
    /// window of one block, and none for another page when all bytes are there. So the last of them must not come before the
    /// frame's last byte: behind it there may be a checksum, or blocks of nothing.
    fn unpacks(&mut self, stored: &[u8], bytes: &[u8]) -> Result<bool, ErrorCode> {
        let Some((rest, last)) = stored.split_last_chunk::<1>() else {
            return Ok(false);
        };
        let unpacker = self.unpacker.get_or_insert_with(DCtx::create);
        unpacker.reset(ResetDirective::SessionAndParameters)?;
        unpacker.set_parameter(DParameter::WindowLogMax(BLOCK_BYTES.ilog2()))?;
        self.buffer.resize(bytes.len(), 0);
        let mut unpacked = OutBuffer::around(self.buffer.as_mut_slice());
        let mut input = InBuffer::around(rest);
        unpacker.decompress_stream(&mut unpacked, &mut input)?;
        if input.pos() < rest.len() || unpacked.pos() == bytes.len() {
            return Ok(false);
        }
        let left = unpacker.decompress_stream(&mut unpacked, &mut InBuffer::around(last))?;
        Ok(left == 0 && unpacked.as_slice() == bytes)
    }
}

/// Blocks of an earlier build.
pub(super) struct Kept {
    file: File,
    places: HashMap<Key, Place>,
}

/// Where a stored block is, and what it must be.
#[derive(Clone, Copy)]
struct Place {
    hash: u128,
    at: u64,
    bytes: u32,
}

impl Kept {
    /// The blocks in the folder `dir`; none when there is no such folder, or the index is not whole.
    pub(super) fn open(dir: &Path) -> Option<Self> {
        let places = places(&open(&dir.join(INDEX))?)?;
        let file = open(&dir.join(LAYER))?;
        Some(Self { file, places })
    }

    /// What was stored for the block with this key. It is what unpacks to `bytes`, whoever wrote the file.
    pub(super) fn find(&self, key: Key, bytes: &[u8], unpacker: &mut Unpacker) -> Option<Vec<u8>> {
        let stored = self.stored(key)?;
        unpacker.gives(&stored, bytes).then_some(stored)
    }

    /// The stored bytes as they were written.
    fn stored(&self, key: Key) -> Option<Vec<u8>> {
        let place = self.places.get(&key)?;
        let mut stored = vec![0; usize::try_from(place.bytes).ok()?];
        self.file.read_exact_at(&mut stored, place.at).ok()?;
        (xxh3_128(&stored) == place.hash).then_some(stored)
    }
}

/// A file, and nothing that others could keep a build waiting by.
fn open(path: &Path) -> Option<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path);
    file.ok()
        .filter(|it| it.metadata().is_ok_and(|it| it.is_file()))
}

/// What the records say, if they are whole.
fn places(file: &File) -> Option<HashMap<Key, Place>> {
    let end = file.metadata().ok()?.len();
    let footer_at = end.checked_sub(FOOTER_BYTES as u64)?;
    let mut footer = [0; FOOTER_BYTES];
    file.read_exact_at(&mut footer, footer_at).ok()?;
    let (digest, footer) = footer.split_first_chunk::<32>()?;
    let (count, magic) = footer.split_first_chunk::<8>()?;
    let count = u64::from_le_bytes(*count);
    if magic != MAGIC || count > BLOCKS_MAX {
        return None;
    }
    let records_bytes = count * RECORD_BYTES as u64;
    let records_at = footer_at.checked_sub(records_bytes)?;
    let mut records = vec![0; usize::try_from(records_bytes).ok()?];
    file.read_exact_at(&mut records, records_at).ok()?;
    if Digest::of(&records).as_bytes() != digest {
        return None;
    }
    records.chunks_exact(RECORD_BYTES).map(place).collect()
}

fn place(record: &[u8]) -> Option<(Key, Place)> {
    let (key, rest) = record.split_first_chunk::<16>()?;
    let (hash, rest) = rest.split_first_chunk::<16>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let place = Place {
        hash: u128::from_le_bytes(*hash),
        at: u64::from_le_bytes(*at),
        bytes: u32::from_le_bytes(rest.try_into().ok()?),
    };
    (place.bytes <= STORED_BYTES_MAX).then_some((Key::from_le_bytes(*key), place))
}

/// The blocks of this build's image.
#[derive(Debug, Default)]
pub struct Index {
    records: Vec<u8>,
    keys: HashSet<Key>,
    /// Whether there are blocks that the earlier build had not.
    has_new: bool,
}

impl Index {
    /// Adds a block that begins at `at` in the layer, and was found or is new.
    pub(super) fn add(&mut self, key: Key, at: u64, stored: &[u8], was_found: bool) {
        if !self.keys.insert(key) {
            return;
        }
        self.has_new |= !was_found;
        // A block has at most 256 KiB.
        let bytes = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        self.records.extend(key.to_le_bytes());
        self.records.extend(xxh3_128(stored).to_le_bytes());
        self.records.extend(at.to_le_bytes());
        self.records.extend(bytes.to_le_bytes());
    }

    /// Keeps the finished layer at `layer` in the folder `dir`, in place of an earlier one. That one stays when it has all these
    /// blocks: a layer that loses a name has changed for those who ask `stat`, and would be built again.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn keep(mut self, layer: &Path, dir: &Path) -> io::Result<()> {
        if !self.has_new {
            return Ok(());
        }
        fs::create_dir_all(dir)?;
        let scratch = Scratch::new(dir)?;
        let name = scratch.path().join(LAYER);
        // Where the layer cannot have a second name, on another file system, there is a copy.
        fs::hard_link(layer, &name).or_else(|_| copy(layer, &name))?;
        let count = (self.records.len() / RECORD_BYTES) as u64;
        let digest = Digest::of(&self.records);
        self.records.extend(digest.as_bytes());
        self.records.extend(count.to_le_bytes());
        self.records.extend(MAGIC);
        let index = scratch.path().join(INDEX);
        fs::write(&index, &self.records)?;
        fs::rename(name, dir.join(LAYER))?;
        fs::rename(index, dir.join(INDEX))
    }
}

/// Copies a file for all who may read the folder: the layer itself is nobody else's until it is published.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut File::create_new(to)?).map(drop)
}

#[cfg(test)]
mod tests;

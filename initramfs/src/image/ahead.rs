//! Compressing an image's blocks on all cores, before the writer asks for them.
//!
//! Invariant: the writer gets what it would have had by compressing the block itself. It hands over the bytes of a block; they
//! are compared with those that were compressed ahead, and another block is compressed on the spot.

use std::io;
use std::iter::Peekable;
use std::sync::{Mutex, PoisonError};

use backhand::compression::{CompressionAction, Compressor, DefaultCompressor};
use backhand::kind::Kind;
use backhand::{BackhandError, FilesystemCompressor, SuperBlock};

use super::kept::{Keeper, Key};
use crate::parallel::InOrder;

/// A block that was compressed ahead.
pub(super) struct Ready {
    /// Its bytes, and what is stored.
    pub(super) bytes: Vec<u8>,
    pub(super) stored: Vec<u8>,
    /// By which it is kept for the next build, if it is.
    pub(super) key: Option<Key>,
    /// Whether an earlier build had kept it.
    pub(super) was_found: bool,
    /// Whether the writer leaves it out.
    pub(super) is_hole: bool,
}

/// The blocks, and where they are kept for the next build.
struct State {
    ready: Peekable<InOrder<io::Result<Ready>>>,
    keeper: Option<Keeper>,
    blocks: Blocks,
}

/// How many blocks came which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Found among those of an earlier build.
    pub found: usize,
    /// Compressed ahead.
    pub compressed: usize,
    /// Compressed when the writer asked: its tables, and whatever it cuts in another way than was foreseen.
    pub on_the_spot: usize,
}

/// What backhand takes for a compressor.
pub(super) struct Ahead(Mutex<Option<State>>);

impl Ahead {
    /// A compressor that has `ready` at hand. It stays for the life of the program, empty once it was finished: some hundred
    /// bytes an image, because backhand wants a compressor that no writer outlives.
    pub(super) fn lend(ready: InOrder<io::Result<Ready>>, keeper: Option<Keeper>) -> Lent {
        let state = State {
            ready: ready.peekable(),
            keeper,
            blocks: Blocks::default(),
        };
        Lent(Box::leak(Box::new(Self(Mutex::new(Some(state))))))
    }

    fn take(&self) -> Option<State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A compressor while an image is written. Whatever ends the writing, the workers do not wait for ever.
pub(super) struct Lent(&'static Ahead);

impl Lent {
    /// For the writer.
    pub(super) fn compressor(&self) -> &'static Ahead {
        self.0
    }

    /// Lets go of the blocks, and gives what keeps them.
    pub(super) fn finish(self) -> (Option<Keeper>, Blocks) {
        match self.0.take() {
            Some(state) => (state.keeper, state.blocks),
            None => (None, Blocks::default()),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl State {
    /// What was stored for `bytes`, if they are the next block.
    fn take(&mut self, bytes: &[u8]) -> Option<io::Result<Vec<u8>>> {
        self.pass_holes();
        let is_next = |ready: &io::Result<Ready>| match ready {
            Ok(ready) => ready.bytes == bytes,
            Err(_) => true,
        };
        let Some(ready) = self.ready.next_if(is_next) else {
            self.blocks.on_the_spot += 1;
            return None;
        };
        Some(ready.map(|ready| {
            match ready.was_found {
                true => self.blocks.found += 1,
                false => self.blocks.compressed += 1,
            }
            if let (Some(keeper), Some(key)) = (&mut self.keeper, &ready.key) {
                keeper.add(key, &ready.stored, ready.was_found);
            }
            ready.stored
        }))
    }

    /// The writer never asks for holes.
    fn pass_holes(&mut self) {
        let is_hole = |ready: &io::Result<Ready>| ready.as_ref().is_ok_and(|ready| ready.is_hole);
        while self.ready.next_if(is_hole).is_some() {}
    }
}

impl CompressionAction for Ahead {
    type Error = BackhandError;
    type Compressor = Compressor;
    type FilesystemCompressor = FilesystemCompressor;
    type SuperBlock = SuperBlock;

    fn decompress(
        &self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        compressor: Compressor,
    ) -> Result<(), BackhandError> {
        DefaultCompressor.decompress(bytes, out, compressor)
    }

    fn compress(
        &self,
        bytes: &[u8],
        with: FilesystemCompressor,
        block_bytes: u32,
    ) -> Result<Vec<u8>, BackhandError> {
        let mut state = self.0.lock().map_err(|_| BackhandError::MutexPoisoned)?;
        match state.as_mut().and_then(|state| state.take(bytes)) {
            Some(stored) => Ok(stored?),
            // The tables of the image, which come of its writer.
            None => DefaultCompressor.compress(bytes, with, block_bytes),
        }
    }

    fn compression_options(
        &self,
        superblock: &mut SuperBlock,
        kind: &Kind,
        with: FilesystemCompressor,
    ) -> Result<Option<Vec<u8>>, BackhandError> {
        DefaultCompressor.compression_options(superblock, kind, with)
    }
}

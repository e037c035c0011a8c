//! Which bytes of which files are compressed together, decided from paths and sizes alone.
//!
//! Larger files are cut into blocks, the last as short as it is; smaller ones share blocks, in the order of their paths.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use towline_contract::Digest;

use super::copies::Copies;
use super::{BLOCK_BYTES, ImageError};
use crate::content::Content;
use crate::tree::{Node, Tree};

/// How far small files share blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    /// Files of fewer bytes do.
    below: u64,
    /// Bytes after which a shared block ends on average, if it may end before it is full.
    mean: Option<u64>,
}

impl Sharing {
    /// As much as there is room: what is smallest.
    pub(super) const FULL: Self = Self {
        below: BLOCK_BYTES as u64,
        mean: None,
    };

    /// Little, so that few other files are compressed again with one that has changed: 64 KiB.
    pub(super) const APART: Self = Self {
        below: 64 << 10,
        mean: Some(64 << 10),
    };

    /// Whether a block ends before this file. A lot decides, which each path draws for itself, so that blocks begin at the same
    /// files whatever comes and goes elsewhere; the larger a file, the likelier.
    fn ends_before(self, path: &[u8], bytes: u64) -> bool {
        let [first, second, third, fourth, ..] = *Digest::of(path).as_bytes();
        let lot = u32::from_le_bytes([first, second, third, fourth]);
        self.mean
            .is_some_and(|mean| u64::from(lot) * mean < bytes << 32)
    }
}

/// Bytes that are compressed together.
#[derive(Default)]
pub(super) struct Block<'a> {
    parts: Vec<Part<'a>>,
    bytes: usize,
    /// Whether files share it.
    pub(super) is_shared: bool,
}

/// A part of a file.
struct Part<'a> {
    path: &'a [u8],
    content: &'a Content,
    range: Range<u64>,
}

impl Part<'_> {
    /// Its length, of a block at most.
    fn bytes(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX)
    }
}

impl<'a> Block<'a> {
    fn shared() -> Self {
        Self {
            is_shared: true,
            ..Self::default()
        }
    }

    fn add(&mut self, path: &'a [u8], content: &'a Content, range: Range<u64>) {
        let part = Part {
            path,
            content,
            range,
        };
        self.bytes += part.bytes();
        self.parts.push(part);
    }

    /// Reads its bytes into `bytes`, in place of what was there.
    ///
    /// # Errors
    /// A file cannot be read or has changed.
    pub(super) fn read(&self, bytes: &mut Vec<u8>) -> Result<(), ImageError> {
        bytes.resize(self.bytes, 0);
        let mut rest = bytes.as_mut_slice();
        for part in &self.parts {
            let (here, after) = rest.split_at_mut(part.bytes());
            let open = part.content.open();
            open.and_then(|open| open.read_exact_at(here, part.range.start))
                .map_err(|cause| ImageError::content(part.path, cause))?;
            rest = after;
        }
        Ok(())
    }
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// In blocks of its own, by their numbers; in none, if there are no bytes.
    Own { blocks: Range<usize> },
    /// In a block with others: the number of it among those, and where in its bytes.
    Shared { fragment: u32, at: u32 },
}

/// All blocks in the order in which they are written, and where each file is.
pub(super) struct Plan<'a> {
    pub(super) blocks: Vec<Block<'a>>,
    /// How many of them are shared.
    pub(super) fragments: u32,
    files: HashMap<*const Content, Placed>,
    copies: Copies,
}

impl<'a> Plan<'a> {
    pub(super) fn new(tree: &'a Tree, copies: Copies, sharing: Sharing) -> Self {
        let mut plan = Self {
            blocks: Vec::new(),
            fragments: 0,
            files: HashMap::new(),
            copies,
        };
        let mut shared = Block::shared();
        for (path, content) in files(tree) {
            let bytes = content.len();
            if plan.copies.original(content) != &raw const *content {
                continue;
            }
            if bytes == 0 || bytes >= sharing.below {
                plan.cut(path, content);
                continue;
            }
            let is_full = shared.bytes as u64 + bytes > BLOCK_BYTES as u64;
            if is_full || sharing.ends_before(path, bytes) {
                plan.close(std::mem::replace(&mut shared, Block::shared()));
            }
            shared.add(path, content, 0..bytes);
        }
        plan.close(shared);
        plan
    }

    /// Where the bytes of a file of the tree are.
    pub(super) fn placed(&self, content: &Content) -> Placed {
        self.files[&self.copies.original(content)].clone()
    }

    /// A file that shares no block.
    fn cut(&mut self, path: &'a [u8], content: &'a Content) {
        let first = self.blocks.len();
        for at in (0..content.len()).step_by(BLOCK_BYTES) {
            let mut block = Block::default();
            block.add(
                path,
                content,
                at..content.len().min(at + BLOCK_BYTES as u64),
            );
            self.blocks.push(block);
        }
        let blocks = first..self.blocks.len();
        self.files.insert(content, Placed::Own { blocks });
    }

    /// Files that share this block, which may be none.
    fn close(&mut self, block: Block<'a>) {
        let mut at = 0;
        for part in &block.parts {
            let fragment = self.fragments;
            self.files
                .insert(part.content, Placed::Shared { fragment, at });
            // A part of a block.
            at += u32::try_from(part.bytes()).unwrap_or_default();
        }
        if at > 0 {
            self.blocks.push(block);
            self.fragments += 1;
        }
    }
}

/// The files of a tree in the order of their paths; one with several names by its first.
pub(super) fn files(tree: &Tree) -> impl Iterator<Item = (&[u8], &Content)> {
    let mut seen = HashSet::new();
    tree.iter()
        .filter_map(move |(path, entry)| match &entry.node {
            Node::File(content) if seen.insert(Arc::as_ptr(content)) => Some((path, &**content)),
            _ => None,
        })
}

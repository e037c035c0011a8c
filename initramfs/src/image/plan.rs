//! Which bytes of which files are compressed together, decided from paths and sizes alone.
//!
//! Larger files are cut into blocks, the last as short as it is; smaller ones, in the order of their paths, share the blocks behind
//! those.

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
    /// A shared block has at most so many bytes; files of fewer share one.
    most: u64,
    /// And at least so many, unless the next file would not fit.
    least: u64,
}

impl Sharing {
    /// As much as there is room: what is smallest.
    pub(super) const FULL: Self = Self {
        most: BLOCK_BYTES as u64,
        least: BLOCK_BYTES as u64,
    };

    /// Little, so that few other files are compressed again with one that has changed.
    pub(super) const APART: Self = Self {
        most: 48 << 10,
        least: 24 << 10,
    };

    /// How many of these files share a block, the first of them at any rate. Where there is a choice the block ends with a folder,
    /// and then where a lot is lowest that each path draws for itself: so that blocks begin at the same files again soon behind
    /// one that came, went or grew.
    fn together(self, files: &[(&[u8], &Content)]) -> usize {
        let mut bytes = 0;
        let mut best = None;
        for (count, (path, content)) in files.iter().enumerate() {
            if count > 0 && bytes >= self.least {
                let in_same_folder = folder(path) == folder(files[count - 1].0);
                let place = (in_same_folder, lot(path), count);
                best = Some(best.map_or(place, |best| place.min(best)));
            }
            bytes += content.len();
            if count > 0 && bytes > self.most {
                return best.map_or(count, |(_, _, count)| count);
            }
        }
        files.len()
    }
}

fn folder(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    &path[..slash.unwrap_or(0)]
}

fn lot(path: &[u8]) -> [u8; 32] {
    *Digest::of(path).as_bytes()
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
        let mut sharing_files = Vec::new();
        for (path, content) in files(tree) {
            let bytes = content.len();
            if plan.copies.original(content) != &raw const *content {
                continue;
            }
            if bytes == 0 || bytes >= sharing.most {
                plan.cut(path, content);
            } else {
                sharing_files.push((path, content));
            }
        }
        let mut rest = sharing_files.as_slice();
        while !rest.is_empty() {
            let (together, after) = rest.split_at(sharing.together(rest));
            plan.share(together);
            rest = after;
        }
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

    /// Files that share a block.
    fn share(&mut self, files: &[(&'a [u8], &'a Content)]) {
        let mut block = Block {
            is_shared: true,
            ..Block::default()
        };
        let fragment = self.fragments;
        for (path, content) in files {
            // A part of a block.
            let at = u32::try_from(block.bytes).unwrap_or_default();
            self.files.insert(*content, Placed::Shared { fragment, at });
            block.add(path, content, 0..content.len());
        }
        self.blocks.push(block);
        self.fragments += 1;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Paths in folders, and their sizes: none is like its neighbour's.
    fn sizes() -> BTreeMap<Vec<u8>, usize> {
        let size = |number: usize| number * number * 7919 % 20_000 + 1;
        let path = |number: usize| format!("usr/{}/{number}", number / 37 % 50).into_bytes();
        (0..3000)
            .map(|number| (path(number), size(number)))
            .collect()
    }

    /// The paths and sizes that share blocks, block by block.
    fn blocks(sizes: &BTreeMap<Vec<u8>, usize>, sharing: Sharing) -> Vec<Vec<(Vec<u8>, usize)>> {
        let mut tree = Tree::new();
        for (path, bytes) in sizes {
            let content = Content::from_bytes(vec![0; *bytes]);
            tree.file(path, crate::tree::Meta::root(0o644), content)
                .unwrap();
        }
        let plan = Plan::new(&tree, Copies::default(), sharing);
        let part = |part: &Part<'_>| (part.path.to_vec(), part.bytes());
        let blocks = plan.blocks.iter();
        blocks
            .map(|it| it.parts.iter().map(part).collect())
            .collect()
    }

    #[test]
    fn shared_blocks_have_like_sizes_and_end_with_folders_where_they_can() {
        let sizes = sizes();
        let blocks = blocks(&sizes, Sharing::APART);
        let bytes = |block: &[(_, usize)]| block.iter().map(|part| part.1 as u64).sum::<u64>();
        for (number, block) in blocks.iter().enumerate() {
            let (bytes, next) = (bytes(block), blocks.get(number + 1));
            assert!(bytes <= Sharing::APART.most);
            let is_least = bytes >= Sharing::APART.least;
            let has_room = next.is_some_and(|next| bytes + next[0].1 as u64 <= Sharing::APART.most);
            assert!(is_least || !has_room, "{bytes}");
        }
        let all: u64 = blocks.iter().map(|block| bytes(block)).sum();
        assert_eq!(all, sizes.values().map(|bytes| *bytes as u64).sum::<u64>());
        let folders = blocks.windows(2).filter(|pair| {
            let (last, next) = (&pair[0].last().unwrap().0, &pair[1][0].0);
            folder(last) != folder(next)
        });
        // Without preferring them, some 12 of 49.
        let folders = folders.count();
        assert!(folders > 30, "{folders}");
    }

    #[test]
    fn blocks_are_the_same_again_soon_behind_a_file_that_came_went_or_grew() {
        let before = sizes();
        let old: HashSet<_> = blocks(&before, Sharing::APART).into_iter().collect();
        let paths: Vec<_> = before.keys().cloned().collect();
        let mut new = 0;
        let changes = paths.iter().step_by(97);
        for (number, path) in changes.clone().enumerate() {
            let mut after = before.clone();
            match number % 3 {
                0 => drop(after.remove(path)),
                1 => drop(after.insert([path.as_slice(), b"-new"].concat(), 5000)),
                _ => *after.get_mut(path).unwrap() += 3000,
            }
            let after = blocks(&after, Sharing::APART);
            new += after.iter().filter(|block| !old.contains(*block)).count();
        }
        let changes = changes.count();
        assert!(new < 2 * changes, "{new} blocks of {changes} changes");
    }
}

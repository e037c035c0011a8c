//! The blocks that an image consists of, decided from sizes alone: which bytes of which files are compressed together.
//!
//! Follows what the backhand crate does with the files (its `DataWriter::add_bytes`, in the order of their paths): a file of a
//! whole block or more is cut into blocks, the last as short as it is; smaller files share blocks, as many as fit, in order.
//! Nothing wrong comes of it when backhand does otherwise one day: blocks that it does not ask for are not used.

use std::io;

use super::Unreadable;
use crate::content::Content;
use crate::tree::{Node, Tree};

/// Bytes that are compressed together.
pub(super) struct Block<'a> {
    parts: Vec<Part<'a>>,
    bytes: usize,
    /// Whether it becomes a hole when all its bytes are zero.
    pub(super) may_be_hole: bool,
}

/// A part of a file.
struct Part<'a> {
    path: &'a [u8],
    content: &'a Content,
    at: u64,
    bytes: usize,
}

impl Block<'_> {
    /// Its bytes.
    ///
    /// # Errors
    /// A file cannot be read or has changed: [`Unreadable`].
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        let mut rest = bytes.as_mut_slice();
        for part in &self.parts {
            let (here, after) = rest.split_at_mut(part.bytes);
            let open = part.content.open();
            open.and_then(|open| open.read_exact_at(here, part.at))
                .map_err(|cause| Unreadable::error(part.path, cause))?;
            rest = after;
        }
        Ok(bytes)
    }
}

/// All blocks of at most `block_bytes` of an image of `tree`, in the order in which they are written.
pub(super) fn blocks(tree: &Tree, block_bytes: usize) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut shared = shared_block();
    for (path, content) in contents(tree) {
        match usize::try_from(content.len()) {
            Ok(0) => {}
            Ok(bytes) if bytes < block_bytes => {
                if shared.bytes + bytes > block_bytes {
                    blocks.push(std::mem::replace(&mut shared, shared_block()));
                }
                shared.bytes += bytes;
                let at = 0;
                shared.parts.push(Part {
                    path,
                    content,
                    at,
                    bytes,
                });
            }
            _ => blocks.extend(cut(path, content, block_bytes)),
        }
    }
    if shared.bytes > 0 {
        blocks.push(shared);
    }
    blocks
}

fn shared_block<'a>() -> Block<'a> {
    Block {
        parts: Vec::new(),
        bytes: 0,
        may_be_hole: false,
    }
}

/// The files in the order of their paths, component by component.
fn contents(tree: &Tree) -> Vec<(&[u8], &Content)> {
    let mut files = Vec::new();
    for (path, entry) in tree.iter() {
        if let Node::File(content) = &entry.node {
            let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            files.push((components, (path, &**content)));
        }
    }
    files.sort_by(|one, other| one.0.cmp(&other.0));
    files.into_iter().map(|(_, file)| file).collect()
}

/// The blocks of a file that shares none.
fn cut<'a>(
    path: &'a [u8],
    content: &'a Content,
    block_bytes: usize,
) -> impl Iterator<Item = Block<'a>> {
    (0..content.len()).step_by(block_bytes).map(move |at| {
        let left = usize::try_from(content.len() - at).unwrap_or(usize::MAX);
        let bytes = left.min(block_bytes);
        Block {
            parts: vec![Part {
                path,
                content,
                at,
                bytes,
            }],
            bytes,
            may_be_hole: true,
        }
    })
}

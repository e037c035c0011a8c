//! The tree that becomes a layer: entries by path, in one fixed order, with nothing that depends on this machine.
//!
//! Invariants: every parent of an entry is a directory entry, and no parent is a symbolic link. A path is resolved
//! through the links that the tree already has, so Debian's `lib/udev/…` goes to `usr/lib/udev/…` once
//! `lib -> usr/lib` is there. (The kernel would replace the link by a directory, and no program would start.)

mod entry;
mod error;
mod links;
mod parts;
mod path;

use std::collections::BTreeMap;
use std::sync::Arc;

use towline_contract::limits::{LAYER_ENTRIES_MAX, NAME_BYTES_MAX};

use crate::content::Content;
pub use entry::{Entry, Meta, Node};
pub use error::TreeError;
pub use path::display;
use path::{normalise, parents};

/// Bytes of a name that is too long which a message shows.
const START_BYTES: usize = 40;

/// Most bytes of all names and links together, so that a small archive cannot fill memory with them: 500 for each of a
/// million entries.
pub(crate) const NAMES_BYTES_MAX: u64 = 500 * LAYER_ENTRIES_MAX;

/// The tree.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Bytes of the names and links that came in so far.
    names_bytes: u64,
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries in the order of their paths' bytes, every parent before what lies in it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_slice(), entry))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at exactly this path.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Paths of all that lies in a directory, relative to it; of the whole tree when `dir` is empty.
    pub fn below<'a>(&'a self, dir: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let start = match dir {
            b"" => Vec::new(),
            dir => [dir, b"/"].concat(),
        };
        let from = start.clone();
        let paths = self.entries.range(from..).map(|(path, _)| path.as_slice());
        let length = start.len();
        paths
            .take_while(move |path| path.starts_with(&start))
            .map(move |path| &path[length..])
    }

    /// Puts an entry at `path`, resolved through the links of the tree; missing parents are made. Gives the real path.
    ///
    /// What is there is replaced, except that a directory stays, and a directory's place can only be taken by one.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn insert(&mut self, path: &[u8], entry: Entry) -> Result<Vec<u8>, TreeError> {
        let wanted = normalise(path).ok_or_else(|| TreeError::Path(display(path)))?;
        let is_directory = matches!(entry.node, Node::Directory { .. });
        let real = self.resolve(&wanted, is_directory)?;
        if real.is_empty() {
            return Ok(real);
        }
        self.make_parents(&real)?;
        self.check_room(&real, &entry.node)?;
        if let Some(there) = self.entries.get_mut(&real) {
            match (&there.node, &entry.node) {
                (Node::Directory { implied: true }, Node::Directory { .. }) => *there = entry,
                (Node::Directory { .. }, Node::Directory { .. }) => {}
                (Node::Directory { .. }, _) | (_, Node::Directory { .. }) => {
                    return Err(TreeError::Clash {
                        path: display(&real),
                        there: there.node.name(),
                        new: entry.node.name(),
                    });
                }
                _ => *there = entry,
            }
        } else {
            self.entries.insert(real.clone(), entry);
        }
        Ok(real)
    }

    /// A regular file.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn file(
        &mut self,
        path: &[u8],
        meta: Meta,
        content: Content,
    ) -> Result<Vec<u8>, TreeError> {
        let node = Node::File(Arc::new(content));
        self.insert(path, Entry { meta, node })
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn symlink(
        &mut self,
        path: &[u8],
        meta: Meta,
        target: &[u8],
    ) -> Result<Vec<u8>, TreeError> {
        let node = Node::Symlink(target.to_vec());
        self.insert(path, Entry { meta, node })
    }

    /// A directory whose owner and mode are set even if it exists.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn directory(&mut self, path: &[u8], meta: Meta) -> Result<Vec<u8>, TreeError> {
        let node = Node::Directory { implied: false };
        let real = self.insert(path, Entry { meta, node })?;
        if let Some(entry) = self.entries.get_mut(&real) {
            entry.meta = meta;
        }
        Ok(real)
    }

    /// Another name of the file at `target`.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<Vec<u8>, TreeError> {
        let found = self.find(target).map(|(_, entry)| entry.clone());
        match found {
            Some(entry) if matches!(entry.node, Node::File(_)) => self.insert(path, entry),
            _ => Err(TreeError::Hardlink {
                path: display(path),
                target: display(target),
            }),
        }
    }

    /// Gives the file at exactly this path the content `after`, if it still has `before`.
    pub(crate) fn refill(&mut self, path: &[u8], before: &Arc<Content>, after: &Arc<Content>) {
        if let Some(Node::File(content)) = self.entries.get_mut(path).map(|it| &mut it.node)
            && Arc::ptr_eq(content, before)
        {
            *content = Arc::clone(after);
        }
    }

    /// Adds all entries of `other`.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn merge(&mut self, other: Self) -> Result<(), TreeError> {
        for (path, entry) in other.entries {
            self.insert(&path, entry)?;
        }
        Ok(())
    }

    /// Calls `change` with each entry, which may change all but its path.
    pub(crate) fn for_each(&mut self, mut change: impl FnMut(&[u8], &mut Entry)) {
        for (path, entry) in &mut self.entries {
            change(path, entry);
        }
    }

    /// Newest modification time of the entries that have one.
    #[must_use]
    pub fn newest(&self) -> Option<u32> {
        self.entries
            .values()
            .filter_map(|entry| entry.meta.mtime)
            .max()
    }

    /// Refuses what would not fit, before it takes more memory.
    fn check_room(&mut self, path: &[u8], node: &Node) -> Result<(), TreeError> {
        let target: &[u8] = match node {
            Node::Symlink(target) => target,
            _ => b"",
        };
        if let Some(long) = [path, target].iter().find(|it| it.len() > NAME_BYTES_MAX) {
            let start = display(&long[..START_BYTES]);
            return Err(TreeError::Long { start });
        }
        self.names_bytes += (path.len() + target.len()) as u64;
        match self.entries.len() as u64 > LAYER_ENTRIES_MAX || self.names_bytes > NAMES_BYTES_MAX {
            true => Err(TreeError::Full),
            false => Ok(()),
        }
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<(), TreeError> {
        if parents(path)
            .next_back()
            .is_none_or(|it| self.is_directory(it))
        {
            return Ok(());
        }
        for parent in parents(path) {
            match self.entries.get(parent).map(|entry| &entry.node) {
                Some(Node::Directory { .. }) => {}
                Some(_) => {
                    return Err(TreeError::Parent {
                        path: display(path),
                        parent: display(parent),
                    });
                }
                None => {
                    let node = Node::Directory { implied: true };
                    let meta = Meta::root(0o755);
                    self.check_room(parent, &node)?;
                    self.entries.insert(parent.to_vec(), Entry { meta, node });
                }
            }
        }
        Ok(())
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        let there = self.entries.get(path).map(|entry| &entry.node);
        matches!(there, Some(Node::Directory { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_names_than_memory_should_hold_are_refused() {
        let mut tree = Tree::new();
        let meta = Meta::root(0o777);
        tree.symlink(b"a/link", meta, b"to").unwrap();
        assert_eq!(tree.names_bytes, 1 + 6 + 2, "folder, name and target");
        tree.names_bytes = NAMES_BYTES_MAX - 7;
        tree.symlink(b"b", meta, b"target").unwrap();
        assert_eq!(tree.symlink(b"c", meta, b""), Err(TreeError::Full));
        let folders = b"d/".repeat(1000);
        tree.names_bytes = NAMES_BYTES_MAX - 10_000;
        assert_eq!(tree.symlink(&folders, meta, b""), Err(TreeError::Full));
    }
}

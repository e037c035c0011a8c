//! The tree that becomes a layer: entries by path, in one fixed order, with nothing that depends on this machine.
//!
//! Invariants: every parent of an entry is a directory entry, and no parent is a symbolic link. A path is resolved
//! through the links that the tree already has, so Debian's `lib/udev/…` goes to `usr/lib/udev/…` once
//! `lib -> usr/lib` is there. (The kernel would replace the link by a directory, and no program would start.)

mod path;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use towline_contract::limits::{LAYER_ENTRIES_MAX, NAME_BYTES_MAX};

use crate::content::Content;
pub use path::display;
use path::{components, normalise, parents};

/// Most symbolic links followed for one path: Linux's own limit (path_resolution(7)).
const LINKS_FOLLOWED_MAX: usize = 40;

/// Bytes of a name that is too long which a message shows.
const START_BYTES: usize = 40;

/// Most bytes of all names and links together, so that a small archive cannot fill memory with them: 500 for each of a
/// million entries.
pub(crate) const NAMES_BYTES_MAX: u64 = 500 * LAYER_ENTRIES_MAX;

/// Owner, permissions and time of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970; none takes the time of the whole layer.
    pub mtime: Option<u32>,
}

impl Meta {
    /// Root's, with these permission bits and the layer's time.
    #[must_use]
    pub fn root(mode: u32) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            mtime: None,
        }
    }
}

/// What an entry is.
#[derive(Clone, Debug)]
pub enum Node {
    /// A directory; `implied` when no source named it, so that the first that does sets its owner and mode.
    Directory {
        /// Made only because something lies in it.
        implied: bool,
    },
    /// A regular file. Entries that share the same [`Arc`] are hard links of one file.
    File(Arc<Content>),
    /// A symbolic link and where it points.
    Symlink(Vec<u8>),
    /// A device node, fifo or socket.
    Special {
        /// File type bits (inode(7)).
        file_type: u32,
        /// Device number, major part.
        major: u32,
        /// Device number, minor part.
        minor: u32,
    },
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Owner, permissions and time.
    pub meta: Meta,
    /// What it is.
    pub node: Node,
}

/// Why an entry does not fit into the tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Not a path below the root.
    #[error("{0} is no path below the root of the layer")]
    Path(String),
    /// A circle of symbolic links.
    #[error("{0} leads through more than {LINKS_FOLLOWED_MAX} symbolic links")]
    Links(String),
    /// A parent is a file.
    #[error("{path} cannot be made: {parent} is no directory")]
    Parent {
        /// The entry.
        path: String,
        /// The parent that is in the way.
        parent: String,
    },
    /// A directory where something else is, or the other way round.
    #[error("{path} is {there} already and cannot become {new}")]
    Clash {
        /// The entry.
        path: String,
        /// What is there.
        there: &'static str,
        /// What should come there.
        new: &'static str,
    },
    /// A name or a link that no archive of the kernel's can have.
    #[error("{start}… has more than {NAME_BYTES_MAX} bytes")]
    Long {
        /// Where it begins.
        start: String,
    },
    /// More than a layer may have.
    #[error(
        "there are more than {LAYER_ENTRIES_MAX} entries, or {NAMES_BYTES_MAX} bytes of names and links"
    )]
    Full,
    /// A hard link to something that is no file of the tree.
    #[error("{path} is a hard link to {target}, which is no regular file of the layer")]
    Hardlink {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
}

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

    /// The entry that a process would find at `path`, all symbolic links followed, and its real path.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<(Vec<u8>, &Entry)> {
        let real = self.resolve(&normalise(path)?, true).ok()?;
        let entry = self.entries.get(&real)?;
        Some((real, entry))
    }

    /// The entry that a process would find at `path`, which may go up with `..`, and its real path.
    #[must_use]
    pub fn follow(&self, path: &[u8]) -> Option<(Vec<u8>, &Entry)> {
        let real = self.resolve(path, true).ok()?;
        let entry = self.entries.get(&real)?;
        Some((real, entry))
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

    /// Whether a symbolic link at `path` to `target` would lead to its own place, through the links that the tree has.
    #[must_use]
    pub fn leads_to_itself(&self, path: &[u8], target: &[u8]) -> bool {
        let place = normalise(path).and_then(|path| self.resolve(&path, false).ok());
        let Some(place) = place else { return false };
        let (folder, _) = place.split_at(place.iter().rposition(|b| *b == b'/').unwrap_or(0));
        let from = if target.starts_with(b"/") {
            b""
        } else {
            folder
        };
        let goal = [from, target].join(b"/".as_slice());
        self.resolve(&goal, false).is_ok_and(|goal| goal == place)
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

    /// Keeps the entries for which `keep` says so. A directory stays while something that is kept lies in it.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &Entry) -> bool) {
        let mut needed: HashSet<Vec<u8>> = HashSet::new();
        let mut gone = Vec::new();
        // Backwards, what lies in a directory comes before it.
        for (path, entry) in self.entries.iter().rev() {
            if needed.contains(path) || keep(path, entry) {
                needed.extend(parents(path).map(<[u8]>::to_vec));
            } else {
                gone.push(path.clone());
            }
        }
        for path in gone {
            self.entries.remove(&path);
        }
    }

    /// Takes out the entries for which `take` says so and what lies in them, with directories leading to them, into a tree of their
    /// own.
    #[must_use]
    pub fn split(&mut self, mut take: impl FnMut(&[u8]) -> bool) -> Self {
        let mut taken = Self::new();
        let mut paths: BTreeSet<Vec<u8>> = BTreeSet::new();
        for path in self.entries.keys() {
            if parents(path).any(|parent| paths.contains(parent)) || take(path) {
                paths.insert(path.clone());
            }
        }
        for path in paths {
            for parent in parents(&path) {
                if let Some(entry) = self.entries.get(parent) {
                    taken
                        .entries
                        .entry(parent.to_vec())
                        .or_insert_with(|| entry.clone());
                }
            }
            if let Some(entry) = self.entries.remove(&path) {
                taken.entries.insert(path, entry);
            }
        }
        taken
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

    /// Whether `path` is known to be a real one without a look at each of its parents: those of an entry are directories.
    fn is_real(&self, path: &[u8], follow_last: bool) -> bool {
        match self.entries.get(path).map(|entry| &entry.node) {
            Some(Node::Symlink(_)) => !follow_last,
            Some(_) => true,
            None => {
                let parent = parents(path).next_back();
                let name = parent.map_or(path, |it| &path[it.len() + 1..]);
                let is_name = ![b"".as_slice(), b".", b".."].contains(&name);
                is_name && parent.is_none_or(|it| self.is_directory(it))
            }
        }
    }

    /// The real path that `path` leads to through the links of the tree; what does not exist is taken as it is.
    fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Vec<u8>, TreeError> {
        match self.is_real(path, follow_last) {
            true => Ok(path.to_vec()),
            false => self.resolve_by_parts(path, follow_last),
        }
    }

    fn resolve_by_parts(&self, path: &[u8], follow_last: bool) -> Result<Vec<u8>, TreeError> {
        let mut todo: Vec<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        todo.reverse();
        let mut done: Vec<u8> = Vec::with_capacity(path.len());
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            let parent_length = done.len();
            if part == b".." {
                done.truncate(done.iter().rposition(|b| *b == b'/').unwrap_or(0));
                continue;
            }
            if !done.is_empty() {
                done.push(b'/');
            }
            done.extend_from_slice(&part);
            let Some(Node::Symlink(target)) = self.entries.get(&done).map(|entry| &entry.node)
            else {
                continue;
            };
            if todo.is_empty() && !follow_last {
                continue;
            }
            followed += 1;
            if followed > LINKS_FOLLOWED_MAX {
                return Err(TreeError::Links(display(path)));
            }
            done.truncate(if target.starts_with(b"/") {
                0
            } else {
                parent_length
            });
            todo.extend(components(target).map(<[u8]>::to_vec).rev());
        }
        Ok(done)
    }
}

impl Node {
    /// The name of its type for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "a directory",
            Self::File(_) => "a file",
            Self::Symlink(_) => "a symbolic link",
            Self::Special { .. } => "a device node, fifo or socket",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_path_that_is_taken_for_real_is_the_one_that_its_parts_lead_to(
            entries in proptest::collection::vec(("[ab/.]{1,6}", proptest::option::of("[ab/.]{1,4}")), 0..12),
            path in "[ab/.]{0,8}",
            follow_last: bool,
        ) {
            let mut tree = Tree::new();
            let meta = Meta::root(0o755);
            for (path, link) in entries {
                let _ = match link {
                    Some(target) => tree.symlink(path.as_bytes(), meta, target.as_bytes()),
                    None => tree.directory(path.as_bytes(), meta),
                };
            }
            if tree.is_real(path.as_bytes(), follow_last) {
                let parts = tree.resolve_by_parts(path.as_bytes(), follow_last);
                proptest::prop_assert_eq!(parts.unwrap(), path.as_bytes());
            }
        }
    }

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

//! A tree by its directories, each with the names in it.

use std::collections::HashMap;

use crate::tree::{Entry, Meta, Node, Tree};

/// A directory.
pub(super) struct Folder<'a> {
    pub(super) path: &'a [u8],
    pub(super) meta: Meta,
    /// The directory in which it is; none for the root.
    pub(super) parent: Option<usize>,
    /// What is in it, in the order of the names.
    pub(super) names: Vec<(&'a [u8], Holds<'a>)>,
}

/// What a name in a directory stands for.
#[derive(Clone, Copy)]
pub(super) enum Holds<'a> {
    /// A directory, by its number.
    Folder(usize),
    /// Anything else.
    Other(&'a Entry),
}

/// All directories of a tree in the order of their paths, the root first.
pub(super) struct Folders<'a>(Vec<Folder<'a>>);

impl<'a> Folders<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        let root = Folder {
            path: b"",
            meta: Meta::root(0o755),
            parent: None,
            names: Vec::new(),
        };
        let mut folders = vec![root];
        let mut numbers: HashMap<&[u8], usize> = HashMap::from([(b"".as_slice(), 0)]);
        for (path, entry) in tree.iter() {
            let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => (&path[..slash], &path[slash + 1..]),
                None => (b"".as_slice(), path),
            };
            // Every parent is a directory of the tree, and comes before.
            let above = numbers[above];
            let holds = match entry.node {
                Node::Directory { .. } => {
                    numbers.insert(path, folders.len());
                    folders.push(Folder {
                        path,
                        meta: entry.meta,
                        parent: Some(above),
                        names: Vec::new(),
                    });
                    Holds::Folder(folders.len() - 1)
                }
                _ => Holds::Other(entry),
            };
            folders[above].names.push((name, holds));
        }
        Self(folders)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// With their numbers, each after those that are in it.
    pub(super) fn last_to_first(&self) -> impl Iterator<Item = (usize, &Folder<'a>)> {
        self.0.iter().enumerate().rev()
    }

    /// All that are no directories.
    pub(super) fn others(&self) -> impl Iterator<Item = &'a Entry> {
        let names = self.0.iter().flat_map(|folder| &folder.names);
        names.filter_map(|(_, holds)| match *holds {
            Holds::Other(entry) => Some(entry),
            Holds::Folder(_) => None,
        })
    }
}

impl Folder<'_> {
    /// The path of what has this name in it.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        match self.path.is_empty() {
            true => name.to_vec(),
            false => [self.path, name].join(b"/".as_slice()),
        }
    }
}

//! The way through an image: every entry once, each directory before what is in it.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use towline_contract::limits::{LAYER_ENTRIES_MAX, NAME_BYTES_MAX};

use super::blocks::damaged;
use super::image::Image;
use super::inode::{Content, Directory, Inode, Named, What};
use crate::tarball::in_entry;
use crate::tree::{NAMES_BYTES_MAX, TreeError, display};

/// Bytes of a path that is too long which a message shows.
const START_BYTES: usize = 40;

/// Why the way ends early.
pub(crate) enum Fault {
    /// The image cannot be read, or is damaged.
    Read(io::Error),
    /// An entry that no layer can have.
    Tree(TreeError),
}

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Self {
        Self::Read(cause)
    }
}

impl From<TreeError> for Fault {
    fn from(cause: TreeError) -> Self {
        Self::Tree(cause)
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Read(cause) => cause,
            Fault::Tree(cause) => Self::other(cause),
        }
    }
}

/// An entry of an image.
pub(crate) struct Found<'a> {
    /// Relative to the root.
    pub(crate) path: &'a [u8],
    pub(crate) inode: &'a Inode,
    /// By which two names of one file are known.
    pub(super) reference: u64,
    image: &'a mut Image,
}

impl Found<'_> {
    /// Gives the bytes of a file to `take`, block by block: as many as the file says that it has, whatever that is.
    ///
    /// # Errors
    /// The image is damaged, or `take` fails.
    pub(crate) fn content(
        &mut self,
        content: &Content,
        take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.image.content(content, take)
    }
}

/// Calls `each` for every entry of the layer's image in `file`.
///
/// # Errors
/// The image cannot be read or is damaged, has more than a layer may have, or `each` fails.
pub(crate) fn entries(
    file: File,
    mut each: impl FnMut(Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut image = Image::open(file)?.map_err(damaged)?;
    Ok(walk(&mut image, &mut |found| Ok(each(found)?))?)
}

/// Calls `each` for every entry but the root. Errors name the entry.
pub(super) fn walk(
    image: &mut Image,
    each: &mut dyn FnMut(Found<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let root = image.superblock.root;
    // Its owner and mode are the layer's business.
    let What::Directory(directory) = image.inode(root)?.what else {
        return Err(damaged("its root is no directory").into());
    };
    let mut way = Way {
        image,
        entries: 0,
        paths_bytes: 0,
        directories: HashSet::new(),
    };
    let mut open = vec![(Vec::new(), way.names(root, directory)?.into_iter())];
    while let Some((folder, names)) = open.last_mut() {
        let Some(Named { name, inode }) = names.next() else {
            open.pop();
            continue;
        };
        let path = match folder.is_empty() {
            true => name,
            false => [folder, name.as_slice()].join(b"/".as_slice()),
        };
        if path.len() > NAME_BYTES_MAX {
            let start = display(&path[..START_BYTES]);
            return Err(TreeError::Long { start }.into());
        }
        way.paths_bytes = with_path(way.paths_bytes, &path)?;
        let names = way.entry(&path, inode, each).map_err(|fault| match fault {
            Fault::Read(cause) => Fault::Read(in_entry(&path, &cause)),
            other => other,
        })?;
        if let Some(names) = names {
            open.push((path, names.into_iter()));
        }
    }
    Ok(())
}

/// Bytes of all paths with this one, if there is room for it.
fn with_path(paths_bytes: u64, path: &[u8]) -> Result<u64, TreeError> {
    let bytes = paths_bytes + path.len() as u64;
    match bytes <= NAMES_BYTES_MAX {
        true => Ok(bytes),
        false => Err(TreeError::Full),
    }
}

/// What was seen so far.
struct Way<'a> {
    image: &'a mut Image,
    entries: u64,
    /// Bytes of all their paths: who keeps them has room for no more.
    paths_bytes: u64,
    /// Directories, by their inodes.
    directories: HashSet<u64>,
}

impl Way<'_> {
    /// Gives the names in an entry, if it is a directory.
    fn entry(
        &mut self,
        path: &[u8],
        reference: u64,
        each: &mut dyn FnMut(Found<'_>) -> Result<(), Fault>,
    ) -> Result<Option<Vec<Named>>, Fault> {
        let inode = self.image.inode(reference)?;
        each(Found {
            path,
            inode: &inode,
            reference,
            image: self.image,
        })?;
        match inode.what {
            What::Directory(directory) => self.names(reference, directory).map(Some),
            _ => Ok(None),
        }
    }

    /// The names in a directory, which is read for the first time.
    fn names(&mut self, inode: u64, directory: Directory) -> Result<Vec<Named>, Fault> {
        if !self.directories.insert(inode) {
            return Err(damaged("a directory lies in two others").into());
        }
        let left = LAYER_ENTRIES_MAX - self.entries;
        let names = self.image.names(directory, left)?;
        let names = names.ok_or(TreeError::Full)?;
        self.entries += names.len() as u64;
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bytes_of_paths_than_memory_should_hold_are_refused() {
        let before = NAMES_BYTES_MAX - 4;
        assert_eq!(with_path(before, b"a/bc"), Ok(NAMES_BYTES_MAX));
        assert_eq!(with_path(before, b"a/bcd"), Err(TreeError::Full));
    }
}

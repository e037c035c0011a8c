//! Squashfs images as sources: what the root of a live system is packed in.
//!
//! Read here and not by the backhand crate, which makes our own images: `docs/decisions/foreign-images-by-an-own-reader.md`.
//! Invariants: whatever an image says, it has no more entries, names and bytes than a layer may have, each directory is read
//! once, and nothing recurses; what it has more, what points out of it and what contradicts itself is an error.

mod blocks;
pub(crate) mod format;
mod image;
mod inode;
mod superblock;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use towline_contract::limits::{LAYER_ENTRIES_MAX, LAYER_UNPACKED_BYTES_MAX, NAME_BYTES_MAX};

use crate::content::{Content, Spool};
use crate::filter::Filter;
use crate::tarball::in_entry;
use crate::tree::{Entry, Meta, Node, Tree, TreeError, display};
use blocks::damaged;
use image::Image;
use inode::{Directory, Inode, Named, What};

/// What ISO 9660 has behind its first 32 KiB (ECMA-119, 8.1).
const ISO: (u64, &[u8; 5]) = (0x8001, b"CD001");

/// Bytes of a path that is too long which a message shows.
const START_BYTES: usize = 40;

/// Why an image cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    /// It cannot be read, or is damaged.
    #[error("cannot read live image {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// No squashfs, or one that is not read.
    #[error("{path} is no live image that can be read: {why}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// An entry that does not fit into the layer.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What came of unpacking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpacked {
    /// Newest time of the files that passed the filter, in seconds since 1970.
    pub newest: u32,
    /// Entries that passed the filter and have extended attributes, which layers have not.
    pub with_attributes: u64,
}

/// Adds the entries of the image at `path` that pass the filter to `tree`.
///
/// # Errors
/// See [`SquashfsError`].
pub fn unpack(
    path: &Path,
    filter: &Filter,
    spool: &mut Spool,
    tree: &mut Tree,
) -> Result<Unpacked, SquashfsError> {
    let read = |cause| SquashfsError::Read {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(read)?;
    let is_iso = is_iso(&file);
    let image = Image::open(file).map_err(read)?;
    let image = image.map_err(|why| SquashfsError::Unfit {
        path: path.to_owned(),
        why: match is_iso {
            true => "it is an ISO image: take the squashfs out of it first, as docs/how-to/live-images.md shows".into(),
            false => why,
        },
    })?;
    let mut walk = Walk {
        image,
        filter,
        spool,
        tree,
        unpacked: Unpacked::default(),
        entries: 0,
        bytes: 0,
        directories: HashSet::new(),
        files: HashMap::new(),
    };
    walk.run().map_err(|fault| match fault {
        Fault::Read(cause) => read(cause),
        Fault::Tree(cause) => cause.into(),
    })?;
    Ok(walk.unpacked)
}

fn is_iso(file: &File) -> bool {
    let (at, wanted) = ISO;
    let mut found = [0; ISO.1.len()];
    file.read_exact_at(&mut found, at).is_ok() && found == *wanted
}

enum Fault {
    Read(io::Error),
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

/// On the way through an image.
struct Walk<'a> {
    image: Image,
    filter: &'a Filter,
    spool: &'a mut Spool,
    tree: &'a mut Tree,
    unpacked: Unpacked,
    /// Entries so far, also those that are left out.
    entries: u64,
    /// Bytes of all files that were read so far.
    bytes: u64,
    /// Directories so far, by their inodes.
    directories: HashSet<u64>,
    /// Files with several names so far, by their inodes.
    files: HashMap<u64, Arc<Content>>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        let root = self.image.superblock.root;
        // Its owner and mode are the layer's business.
        let What::Directory(directory) = self.image.inode(root)?.what else {
            return Err(damaged("its root is no directory").into());
        };
        let mut open = vec![(Vec::new(), self.names(root, directory)?.into_iter())];
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
            let names = self.entry(&path, inode).map_err(|fault| match fault {
                Fault::Read(cause) => Fault::Read(in_entry(&path, &cause)),
                other => other,
            })?;
            if let Some(names) = names {
                open.push((path, names.into_iter()));
            }
        }
        Ok(())
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

    /// Adds an entry, if it passes the filter; gives the names in it if it is a directory.
    fn entry(&mut self, path: &[u8], reference: u64) -> Result<Option<Vec<Named>>, Fault> {
        let inode = self.image.inode(reference)?;
        if self.filter.keeps(path) {
            self.add(path, reference, &inode)?;
        }
        match inode.what {
            What::Directory(directory) => self.names(reference, directory).map(Some),
            _ => Ok(None),
        }
    }

    /// Refuses what unpacks without end, before it fills the disk.
    fn count(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.bytes <= LAYER_UNPACKED_BYTES_MAX {
            true => Ok(()),
            false => Err(damaged(format!(
                "with it there is more than the {LAYER_UNPACKED_BYTES_MAX} bytes that a layer may have"
            ))),
        }
    }

    fn add(&mut self, path: &[u8], reference: u64, inode: &Inode) -> Result<(), Fault> {
        let meta = Meta {
            mode: inode.permissions,
            uid: inode.uid,
            gid: inode.gid,
            mtime: Some(inode.mtime),
        };
        let node = match &inode.what {
            What::Directory(_) => Node::Directory { implied: false },
            What::File(content) => {
                self.unpacked.newest = self.unpacked.newest.max(inode.mtime);
                Node::File(self.content(reference, inode.links, content)?)
            }
            // From one of two folders that the layer has as one to the same name in the other: what lies there is the file.
            What::Symlink(target) if self.tree.leads_to_itself(path, target) => return Ok(()),
            What::Symlink(target) => Node::Symlink(target.clone()),
            &What::Special {
                file_type,
                major,
                minor,
            } => Node::Special {
                file_type,
                major,
                minor,
            },
        };
        self.tree.insert(path, Entry { meta, node })?;
        self.unpacked.with_attributes += u64::from(inode.has_attributes);
        Ok(())
    }

    /// What a file holds; the same for all its names.
    fn content(
        &mut self,
        reference: u64,
        links: u32,
        content: &inode::Content,
    ) -> io::Result<Arc<Content>> {
        if let Some(content) = self.files.get(&reference) {
            return Ok(Arc::clone(content));
        }
        self.count(content.bytes)?;
        let offset = self.spool.end();
        let spool = &mut *self.spool;
        self.image.content(content, |bytes| spool.append(bytes))?;
        let content = Arc::new(self.spool.since(offset));
        if links > 1 {
            self.files.insert(reference, Arc::clone(&content));
        }
        Ok(content)
    }
}

//! Reading squashfs images: our own, and those that the roots of live systems are packed in. Why not by a crate:
//! `docs/decisions/foreign-images-by-an-own-reader.md`.
//!
//! Invariants: whatever an image says, it has no more entries, names and bytes than a layer may have, each directory is read
//! once, and nothing recurses; what it has more, what points out of it and what contradicts itself is an error.

mod blocks;
pub(crate) mod format;
mod image;
pub(crate) mod inode;
mod superblock;
pub(crate) mod walk;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use towline_contract::limits::LAYER_UNPACKED_BYTES_MAX;

use crate::content::{Content, Spool};
use crate::filter::Filter;
use crate::tree::{Entry, Meta, Node, Tree, TreeError};
use blocks::damaged;
use image::Image;
use inode::What;
use walk::{Fault, Found};

/// What ISO 9660 has behind its first 32 KiB (ECMA-119, 8.1).
const ISO: (u64, &[u8; 5]) = (0x8001, b"CD001");

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
    let mut image = image.map_err(|why| SquashfsError::Unfit {
        path: path.to_owned(),
        why: match is_iso {
            true => "it is an ISO image: take the squashfs out of it first, as docs/how-to/live-images.md shows".into(),
            false => why,
        },
    })?;
    let mut unpacking = Unpacking {
        filter,
        spool,
        tree,
        unpacked: Unpacked::default(),
        bytes: 0,
        files: HashMap::new(),
    };
    walk::walk(&mut image, &mut |found| unpacking.entry(found)).map_err(|fault| match fault {
        Fault::Read(cause) => read(cause),
        Fault::Tree(cause) => cause.into(),
    })?;
    Ok(unpacking.unpacked)
}

fn is_iso(file: &File) -> bool {
    let (at, wanted) = ISO;
    let mut found = [0; ISO.1.len()];
    file.read_exact_at(&mut found, at).is_ok() && found == *wanted
}

/// What becomes of the entries.
struct Unpacking<'a> {
    filter: &'a Filter,
    spool: &'a mut Spool,
    tree: &'a mut Tree,
    unpacked: Unpacked,
    /// Bytes of all files that were read so far.
    bytes: u64,
    /// Files with several names so far, by their inodes.
    files: HashMap<u64, Arc<Content>>,
}

impl Unpacking<'_> {
    /// Adds an entry, if it passes the filter.
    fn entry(&mut self, found: Found<'_>) -> Result<(), Fault> {
        match self.filter.keeps(found.path) {
            true => self.add(found),
            false => Ok(()),
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

    fn add(&mut self, mut found: Found<'_>) -> Result<(), Fault> {
        let (path, inode) = (found.path, found.inode);
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
                Node::File(self.content(&mut found, content)?)
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
        found: &mut Found<'_>,
        content: &inode::Content,
    ) -> io::Result<Arc<Content>> {
        if let Some(content) = self.files.get(&found.reference) {
            return Ok(Arc::clone(content));
        }
        self.count(content.bytes)?;
        let offset = self.spool.end();
        let spool = &mut *self.spool;
        found.content(content, |bytes| spool.append(bytes))?;
        let content = Arc::new(self.spool.since(offset));
        if found.inode.links > 1 {
            self.files.insert(found.reference, Arc::clone(&content));
        }
        Ok(content)
    }
}

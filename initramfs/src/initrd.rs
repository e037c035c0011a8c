//! Initramfs images as sources: what the kernel's own unpacking makes of them, such as ReaR's rescue system.
//!
//! An image is a row of newc archives, each plain or compressed by itself, with zeros between them; the later file wins
//! (Linux Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use towline_contract::newc::{self, Decoder, Item, NewcError, mode};

use crate::compressed::one_member;
use crate::content::{Content, Spool};
use crate::filter::Filter;
use crate::tree::{Entry, Meta, Node, Tree, TreeError};

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Longest symbolic link (`PATH_MAX`, linux/limits.h).
const LINK_BYTES_MAX: usize = 4096;

/// Why an image cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// Reading or decompressing failed.
    #[error("cannot read initramfs {path}, archive {archive}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Number of the archive in it, counted from 1.
        archive: usize,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Not newc where an archive should be.
    #[error("initramfs {path}, archive {archive} is not what the kernel unpacks")]
    Newc {
        /// The file.
        path: PathBuf,
        /// Number of the archive in it, counted from 1.
        archive: usize,
        /// Why.
        #[source]
        cause: NewcError,
    },
    /// An entry that does not fit into the layer.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Adds the entries of all archives in the image at `path` that pass the filter to `tree`; gives their newest time.
///
/// # Errors
/// See [`InitrdError`].
pub fn unpack(
    path: &Path,
    filter: &Filter,
    spool: &mut Spool,
    tree: &mut Tree,
) -> Result<u32, InitrdError> {
    let mut archive = 1;
    let read = |cause, archive| InitrdError::Read {
        path: path.to_owned(),
        archive,
        cause,
    };
    let file = File::open(path).map_err(|cause| read(cause, archive))?;
    let mut stored = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut unpacker = Unpacker {
        filter,
        spool,
        tree,
        newest: 0,
        current: None,
        inodes: HashMap::new(),
    };
    while skip_zeros(&mut stored).map_err(|cause| read(cause, archive))? {
        let run = unpacker.member(&mut stored);
        run.map_err(|fault| match fault {
            Fault::Read(cause) => read(cause, archive),
            Fault::Tree(cause) => cause.into(),
            Fault::Newc(cause) => InitrdError::Newc {
                path: path.to_owned(),
                archive,
                cause,
            },
        })?;
        archive += 1;
    }
    Ok(unpacker.newest)
}

/// Whether another archive follows the zeros.
fn skip_zeros(stored: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = stored.fill_buf()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        match bytes.iter().position(|byte| *byte != 0) {
            Some(at) => {
                stored.consume(at);
                return Ok(true);
            }
            None => {
                let length = bytes.len();
                stored.consume(length);
            }
        }
    }
}

enum Fault {
    Read(io::Error),
    Newc(NewcError),
    Tree(TreeError),
}

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Self {
        Self::Read(cause)
    }
}

impl From<NewcError> for Fault {
    fn from(cause: NewcError) -> Self {
        Self::Newc(cause)
    }
}

impl From<TreeError> for Fault {
    fn from(cause: TreeError) -> Self {
        Self::Tree(cause)
    }
}

/// An entry on its way in.
struct Current {
    entry: newc::Entry,
    /// Where a link points, so far. What files hold goes to the spool.
    target: Vec<u8>,
    /// Where the content begins in the spool.
    offset: u64,
    kept: bool,
}

impl Current {
    fn link(&mut self, data: &[u8]) -> io::Result<()> {
        self.target.extend_from_slice(data);
        if self.target.len() <= LINK_BYTES_MAX {
            return Ok(());
        }
        let name = self.entry.display_name();
        let what = format!("the link {name} has more than {LINK_BYTES_MAX} bytes");
        Err(io::Error::other(what))
    }
}

struct Unpacker<'a> {
    filter: &'a Filter,
    spool: &'a mut Spool,
    tree: &'a mut Tree,
    newest: u32,
    current: Option<Current>,
    /// Files of the archive with several names, by inode: the names so far, and the content once it came.
    inodes: HashMap<[u32; 3], Linked>,
}

#[derive(Default)]
struct Linked {
    names: Vec<(Vec<u8>, Meta)>,
    content: Option<Arc<Content>>,
}

impl Unpacker<'_> {
    /// Unpacks one archive, or one compressed member with archives in it, and leaves `stored` behind it.
    fn member(&mut self, stored: &mut BufReader<File>) -> Result<(), Fault> {
        if stored.fill_buf()?.starts_with(b"0707") {
            return self.archive(stored);
        }
        let mut inner = BufReader::with_capacity(BUFFER_BYTES, one_member(stored)?);
        while skip_zeros(&mut inner)? {
            self.archive(&mut inner)?;
        }
        Ok(())
    }

    /// Unpacks one archive up to its trailer.
    fn archive(&mut self, stored: &mut impl BufRead) -> Result<(), Fault> {
        self.inodes.clear();
        let mut decoder = Decoder::one_of_many();
        loop {
            let bytes = stored.fill_buf()?;
            let mut rest = bytes;
            while self.item(&mut decoder, &mut rest)? {}
            let used = bytes.len() - rest.len();
            stored.consume(used);
            if used == 0 || decoder.is_done() {
                return Ok(decoder.finish()?);
            }
        }
    }

    /// Takes one item; false when `bytes` are used up.
    fn item(&mut self, decoder: &mut Decoder, bytes: &mut &[u8]) -> Result<bool, Fault> {
        match decoder.next(bytes)? {
            None => return Ok(false),
            Some(Item::Entry(entry)) => {
                self.current = Some(Current {
                    kept: self.filter.keeps(&entry.name),
                    target: Vec::new(),
                    offset: self.spool.end(),
                    entry,
                });
            }
            Some(Item::Data(data)) => {
                if let Some(current) = &mut self.current
                    && current.kept
                {
                    match current.entry.file_type() {
                        mode::S_IFLNK => current.link(data)?,
                        _ => self.spool.append(data)?,
                    }
                }
            }
            Some(Item::EntryEnd) => {
                if let Some(current) = self.current.take()
                    && current.kept
                {
                    self.place(current)?;
                }
            }
        }
        Ok(true)
    }

    fn place(&mut self, current: Current) -> Result<(), Fault> {
        let Current {
            entry,
            target,
            offset,
            ..
        } = current;
        let meta = Meta {
            mode: entry.mode & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            mtime: Some(entry.mtime),
        };
        let node = match entry.file_type() {
            mode::S_IFREG => return self.file(&entry, meta, offset),
            mode::S_IFDIR => Node::Directory { implied: false },
            mode::S_IFLNK => Node::Symlink(target),
            file_type => Node::Special {
                file_type,
                major: entry.rdev_major,
                minor: entry.rdev_minor,
            },
        };
        // The archive's own root, "."; its owner and mode are the layer's business. And a link from one of two folders that
        // the layer has as one to the same name in the other: what lies there is the file itself.
        let is_itself = |target: &Vec<u8>| self.tree.leads_to_itself(&entry.name, target);
        let circle = matches!(&node, Node::Symlink(target) if is_itself(target));
        if entry.name != b"." && !circle {
            self.tree.insert(&entry.name, Entry { meta, node })?;
        }
        Ok(())
    }

    /// A file. Of several names of one inode any may have the content: GNU cpio gives it to the last.
    fn file(&mut self, entry: &newc::Entry, meta: Meta, offset: u64) -> Result<(), Fault> {
        self.newest = self.newest.max(entry.mtime);
        let content = self.spool.since(offset);
        let has_content = !content.is_empty();
        let content = Arc::new(content);
        if entry.links < 2 {
            let node = Node::File(content);
            self.tree.insert(&entry.name, Entry { meta, node })?;
            return Ok(());
        }
        let inode = [entry.device_major, entry.device_minor, entry.inode];
        let linked = self.inodes.entry(inode).or_default();
        linked.names.push((entry.name.clone(), meta));
        if has_content || linked.content.is_none() {
            linked.content = Some(content);
        }
        let Some(content) = &linked.content else {
            return Ok(());
        };
        for (name, meta) in &linked.names {
            let (meta, node) = (*meta, Node::File(Arc::clone(content)));
            self.tree.insert(name, Entry { meta, node })?;
        }
        Ok(())
    }
}

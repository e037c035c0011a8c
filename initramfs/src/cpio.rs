//! newc archives as sources: initramfs images, and what rpm packages hold.

use std::collections::{HashMap, hash_map};
use std::io::{self, BufRead};
use std::sync::Arc;

use towline_contract::limits::LAYER_ENTRIES_MAX;
use towline_contract::newc::{self, Decoder, Item, NewcError, mode};

use crate::content::{Content, Spool};
use crate::filter::Filter;
use crate::tarball::in_entry;
use crate::tree::{Entry, Meta, Node, Tree, TreeError};

/// Longest symbolic link (`PATH_MAX`, linux/limits.h).
const LINK_BYTES_MAX: usize = 4096;

/// Why an archive cannot be unpacked.
pub(crate) enum Fault {
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
    /// Whether what it holds is wanted: for itself, or for another name of the same file that is kept, while this one is not.
    fn has_use(&self) -> bool {
        self.kept || is_linked(&self.entry)
    }

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

/// Adds the entries of archives to a tree.
pub(crate) struct Unpacker<'a> {
    filter: &'a Filter,
    spool: &'a mut Spool,
    tree: &'a mut Tree,
    /// Hears the real path of each entry that is no directory.
    added: &'a mut dyn FnMut(Vec<u8>),
    /// Owner and group of an entry.
    owners: &'a dyn Fn(&newc::Entry) -> (u32, u32),
    newest: u32,
    /// Entries so far, also those that are left out.
    entries: u64,
    current: Option<Current>,
    /// Files of the archive with several names, by inode.
    inodes: HashMap<[u32; 3], Linked>,
}

/// A file with several names. Any may have the content, also one that the filter leaves out: GNU cpio and rpm give it to the
/// last.
struct Linked {
    /// What the names that are kept have while the archive is read.
    first: Arc<Content>,
    /// The content, if it came with a later name than the first.
    later: Option<Content>,
    /// Real paths of the names that are kept.
    names: Vec<Vec<u8>>,
}

fn is_linked(entry: &newc::Entry) -> bool {
    entry.file_type() == mode::S_IFREG && entry.links > 1
}

impl<'a> Unpacker<'a> {
    /// Adds to `tree` what passes the filter; `added` hears the real path of each entry that is no directory, and `owners`
    /// says who owns one.
    pub(crate) fn new(
        filter: &'a Filter,
        spool: &'a mut Spool,
        tree: &'a mut Tree,
        added: &'a mut dyn FnMut(Vec<u8>),
        owners: &'a dyn Fn(&newc::Entry) -> (u32, u32),
    ) -> Self {
        Self {
            filter,
            spool,
            tree,
            added,
            owners,
            newest: 0,
            entries: 0,
            current: None,
            inodes: HashMap::new(),
        }
    }

    /// Newest time of the files so far, in seconds since 1970.
    pub(crate) fn newest(&self) -> u32 {
        self.newest
    }

    /// Unpacks one archive up to its trailer.
    pub(crate) fn archive(&mut self, stored: &mut impl BufRead) -> Result<(), Fault> {
        let mut decoder = Decoder::one_of_many();
        loop {
            let bytes = stored.fill_buf();
            let bytes = bytes.map_err(|cause| match &self.current {
                Some(current) => in_entry(&current.entry.name, &cause),
                None => cause,
            })?;
            let mut rest = bytes;
            while self.item(&mut decoder, &mut rest)? {}
            let used = bytes.len() - rest.len();
            stored.consume(used);
            if used == 0 || decoder.is_done() {
                decoder.finish()?;
                self.fill_links();
                return Ok(());
            }
        }
    }

    /// Takes one item; false when `bytes` are used up.
    fn item(&mut self, decoder: &mut Decoder, bytes: &mut &[u8]) -> Result<bool, Fault> {
        match decoder.next(bytes)? {
            None => return Ok(false),
            Some(Item::Entry(entry)) => {
                self.entries += 1;
                if self.entries > LAYER_ENTRIES_MAX {
                    return Err(TreeError::Full.into());
                }
                self.current = Some(Current {
                    kept: self.filter.keeps(&entry.name),
                    target: Vec::new(),
                    offset: self.spool.end(),
                    entry,
                });
            }
            Some(Item::Data(data)) => {
                if let Some(current) = &mut self.current
                    && current.has_use()
                {
                    match current.entry.file_type() {
                        mode::S_IFLNK => current.link(data)?,
                        _ => self.spool.append(data)?,
                    }
                }
            }
            Some(Item::EntryEnd) => {
                if let Some(current) = self.current.take()
                    && current.has_use()
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
            kept,
        } = current;
        let (uid, gid) = (self.owners)(&entry);
        let meta = Meta {
            mode: entry.mode & 0o7777,
            uid,
            gid,
            mtime: Some(entry.mtime),
        };
        let node = match entry.file_type() {
            mode::S_IFREG => return self.file(&entry, meta, offset, kept),
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
        if entry.name == b"." || circle {
            return Ok(());
        }
        let is_directory = matches!(node, Node::Directory { .. });
        let real = self.tree.insert(&entry.name, Entry { meta, node })?;
        if !is_directory {
            (self.added)(real);
        }
        Ok(())
    }

    /// A file, or one name of it.
    fn file(
        &mut self,
        entry: &newc::Entry,
        meta: Meta,
        offset: u64,
        kept: bool,
    ) -> Result<(), Fault> {
        let content = self.spool.since(offset);
        let content = match is_linked(entry) {
            true => self.linked(entry, content),
            false => Arc::new(content),
        };
        if !kept {
            return Ok(());
        }
        self.newest = self.newest.max(entry.mtime);
        let node = Node::File(content);
        let real = self.tree.insert(&entry.name, Entry { meta, node })?;
        if is_linked(entry)
            && let Some(linked) = self.inodes.get_mut(&inode(entry))
        {
            linked.names.push(real.clone());
        }
        (self.added)(real);
        Ok(())
    }

    /// What a name of a file with several has for now.
    fn linked(&mut self, entry: &newc::Entry, content: Content) -> Arc<Content> {
        match self.inodes.entry(inode(entry)) {
            hash_map::Entry::Vacant(vacant) => {
                let first = Arc::new(content);
                vacant.insert(Linked {
                    first: Arc::clone(&first),
                    later: None,
                    names: Vec::new(),
                });
                first
            }
            hash_map::Entry::Occupied(mut linked) => {
                let linked = linked.get_mut();
                if !content.is_empty() {
                    linked.later = Some(content);
                }
                Arc::clone(&linked.first)
            }
        }
    }

    /// Gives the names of the archive's files the contents that came after them.
    fn fill_links(&mut self) {
        for (_, linked) in self.inodes.drain() {
            let Some(content) = linked.later.map(Arc::new) else {
                continue;
            };
            for name in &linked.names {
                self.tree.refill(name, &linked.first, &content);
            }
        }
    }
}

/// Device and inode: what tells the names of one file.
fn inode(entry: &newc::Entry) -> [u32; 3] {
    [entry.device_major, entry.device_minor, entry.inode]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_more_entries_than_a_layer_may_have_is_refused() {
        let mut archive = Vec::new();
        for name in ["left/out", "kept"] {
            let builder = ::cpio::newc::Builder::new(name).mode(0o100_644);
            builder.write(&mut archive, 0).finish().unwrap();
        }
        ::cpio::newc::trailer(&mut archive).unwrap();
        let unpack = |entries_before| {
            let filter = Filter::new(&[], &["left".to_owned()]).unwrap();
            let (mut spool, mut tree) = (Spool::new().unwrap(), Tree::new());
            let added = &mut |_| {};
            let mut unpacker = Unpacker::new(&filter, &mut spool, &mut tree, added, &|_| (0, 0));
            unpacker.entries = entries_before;
            unpacker.archive(&mut archive.as_slice())
        };
        assert!(unpack(LAYER_ENTRIES_MAX - 2).is_ok());
        let found = unpack(LAYER_ENTRIES_MAX - 1);
        assert!(matches!(found, Err(Fault::Tree(TreeError::Full))));
    }
}

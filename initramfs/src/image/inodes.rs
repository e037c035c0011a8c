//! What an image says of each of its files, and the lists of its directories (Linux `fs/squashfs/squashfs_fs.h`).
//!
//! A directory's list comes behind the inodes that it names, and the directory's inode behind its list. So directories are written
//! from the last to the first in the order of their paths, each with the files in it; their numbers are decided before.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use towline_contract::newc::mode;

use super::ImageError;
use super::data::Data;
use super::folders::{Folder, Folders, Holds};
use super::listing::Listing;
use super::metadata::{Metadata, Place};
use super::plan::{Placed, Plan};
use crate::content::Content;
use crate::squashfs::format::{NONE, NOT_LISTED, kind};
use crate::tree::{Entry, Meta, Node};

/// Most users and groups together: how many there are has 16 bits.
const IDS_MAX: usize = u16::MAX as usize;

/// The tables of inodes and directories while they are written.
pub(super) struct Inodes<'a> {
    plan: &'a Plan<'a>,
    data: &'a Data,
    /// Time of entries that have none.
    time: u32,
    inodes: Metadata,
    lists: Metadata,
    ids: Vec<u32>,
    /// Their numbers in the image.
    numbers: HashMap<u32, u16>,
    /// Files with several names, by content and by what is said of them.
    links: HashMap<(*const Content, Said), Link>,
    /// Inodes so far.
    count: u32,
}

/// Mode, owner, group and time: names that differ in them are not of one file.
type Said = (u32, u32, u32, Option<u32>);

/// Names of one file.
#[derive(Default)]
struct Link {
    names: u32,
    written: Option<Written>,
}

/// An inode that was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) place: Place,
    pub(super) number: u32,
    /// Its short type.
    pub(super) kind: u16,
}

/// The tables.
pub(super) struct Tables {
    pub(super) inodes: Vec<u8>,
    pub(super) lists: Vec<u8>,
    pub(super) ids: Vec<u32>,
    /// Number of inodes.
    pub(super) count: u32,
    pub(super) root: Place,
}

impl<'a> Inodes<'a> {
    pub(super) fn new(plan: &'a Plan<'a>, data: &'a Data, time: u32) -> io::Result<Self> {
        Ok(Self {
            plan,
            data,
            time,
            inodes: Metadata::new()?,
            lists: Metadata::new()?,
            ids: Vec::new(),
            numbers: HashMap::new(),
            links: HashMap::new(),
            count: 0,
        })
    }

    /// Writes them all.
    ///
    /// # Errors
    /// An entry that squashfs cannot hold.
    pub(super) fn write(mut self, folders: &Folders<'_>) -> Result<Tables, ImageError> {
        for entry in folders.others() {
            if let Some(link) = link(entry) {
                self.links.entry(link).or_default().names += 1;
            }
        }
        // Those of directories are the first.
        self.count = number(folders.len());
        let mut written: Vec<Option<Written>> = vec![None; folders.len()];
        for (index, folder) in folders.last_to_first() {
            let mut listing = Listing::default();
            for (name, holds) in &folder.names {
                let inode = match *holds {
                    Holds::Folder(index) => written[index].ok_or_else(out_of_order),
                    Holds::Other(entry) => self.other(entry),
                };
                let added = inode.and_then(|inode| listing.add(name, inode));
                added.map_err(|cause| ImageError::entry(&folder.path_of(name), cause))?;
            }
            let inode = self.folder(index, folder, listing);
            written[index] = Some(inode.map_err(|cause| ImageError::entry(folder.path, cause))?);
        }
        Ok(Tables {
            inodes: self.inodes.finish().map_err(ImageError::Write)?,
            lists: self.lists.finish().map_err(ImageError::Write)?,
            ids: self.ids,
            count: self.count,
            root: written[0].map_or(Place::default(), |root| root.place),
        })
    }

    /// The inode of a directory, behind its list.
    fn folder(
        &mut self,
        index: usize,
        folder: &Folder<'_>,
        listing: Listing,
    ) -> io::Result<Written> {
        let folders = folder
            .names
            .iter()
            .filter(|(_, it)| matches!(it, Holds::Folder(_)));
        let links = number(2 + folders.count());
        // The root is its own: programs pass over a `..` of the number 0.
        let parent = folder_number(folder.parent.unwrap_or(index));
        let list = listing.finish();
        let place = self.lists.place()?;
        self.lists.add(&list)?;
        let bytes = u32::try_from(list.len())
            .map_err(io::Error::other)?
            .saturating_add(NOT_LISTED);
        let (long, body) = match u16::try_from(bytes) {
            Ok(bytes) => {
                let mut body = Vec::from(place.block.to_le_bytes());
                body.extend(links.to_le_bytes());
                body.extend(bytes.to_le_bytes());
                body.extend(place.offset.to_le_bytes());
                body.extend(parent.to_le_bytes());
                (0, body)
            }
            Err(_) => {
                let numbers = [links, bytes, place.block, parent];
                let mut body = numbers.map(u32::to_le_bytes).concat();
                // No index of its list, which Linux does without.
                body.extend(0_u16.to_le_bytes());
                body.extend(place.offset.to_le_bytes());
                body.extend(NONE.to_le_bytes());
                (kind::LONG, body)
            }
        };
        self.inode(
            kind::DIRECTORY,
            long,
            folder.meta,
            folder_number(index),
            &body,
        )
    }

    /// The inode of anything but a directory.
    fn other(&mut self, entry: &Entry) -> io::Result<Written> {
        let link = link(entry);
        if let Some(written) = link.and_then(|link| self.links.get(&link)?.written) {
            return Ok(written);
        }
        let names = link
            .and_then(|link| self.links.get(&link))
            .map_or(1, |it| it.names);
        self.count += 1;
        let (short, long, body) = self.body(&entry.node, names)?;
        let mut meta = entry.meta;
        if short == kind::SYMLINK {
            meta.mode = 0o777;
        }
        let written = self.inode(short, long, meta, self.count, &body)?;
        if let Some(link) = link.and_then(|link| self.links.get_mut(&link)) {
            link.written = Some(written);
        }
        Ok(written)
    }

    /// Type, what makes it long, and what follows the header.
    fn body(&self, node: &Node, names: u32) -> io::Result<(u16, u16, Vec<u8>)> {
        let pair = |second: u32| [names, second].map(u32::to_le_bytes).concat();
        Ok(match node {
            Node::File(content) => {
                let (long, body) = self.file(content, names)?;
                (kind::FILE, long, body)
            }
            Node::Symlink(target) => {
                let mut body = pair(number(target.len()));
                body.extend_from_slice(target);
                (kind::SYMLINK, 0, body)
            }
            Node::Special {
                file_type,
                major,
                minor,
            } => match *file_type {
                mode::S_IFBLK => (kind::BLOCK_DEVICE, 0, pair(device(*major, *minor)?)),
                mode::S_IFCHR => (kind::CHARACTER_DEVICE, 0, pair(device(*major, *minor)?)),
                mode::S_IFIFO => (kind::FIFO, 0, names.to_le_bytes().to_vec()),
                _ => (kind::SOCKET, 0, names.to_le_bytes().to_vec()),
            },
            Node::Directory { .. } => return Err(out_of_order()),
        })
    }

    /// Where a file's bytes are.
    fn file(&self, content: &Content, names: u32) -> io::Result<(u16, Vec<u8>)> {
        let (blocks, fragment, offset) = match self.plan.placed(content) {
            Placed::Own { blocks } => (&self.data.blocks[blocks], NONE, 0),
            Placed::Shared { fragment, at } => (&[][..], fragment, at),
        };
        let at = blocks.first().map_or(0, |first| first.at);
        let holes = blocks.iter().filter(|it| it.size == 0);
        let in_holes: u64 = holes.map(|hole| hole.bytes).sum();
        let short = match (u32::try_from(at), u32::try_from(content.len())) {
            (Ok(at), Ok(bytes)) if names == 1 && in_holes == 0 => Some((at, bytes)),
            _ => None,
        };
        let (long, mut body) = match short {
            Some((at, bytes)) => (
                0,
                [at, fragment, offset, bytes].map(u32::to_le_bytes).concat(),
            ),
            None => {
                let mut body = [at, content.len(), in_holes].map(u64::to_le_bytes).concat();
                body.extend(
                    [names, fragment, offset, NONE]
                        .map(u32::to_le_bytes)
                        .concat(),
                );
                (kind::LONG, body)
            }
        };
        body.extend(blocks.iter().flat_map(|block| block.size.to_le_bytes()));
        Ok((long, body))
    }

    /// Writes an inode: the header that all have, and `body`.
    fn inode(
        &mut self,
        short: u16,
        long: u16,
        meta: Meta,
        number: u32,
        body: &[u8],
    ) -> io::Result<Written> {
        let permissions = u16::try_from(meta.mode & 0o7777).unwrap_or_default();
        let (uid, gid) = (self.id(meta.uid)?, self.id(meta.gid)?);
        let mut header = [short + long, permissions, uid, gid]
            .map(u16::to_le_bytes)
            .concat();
        header.extend(meta.mtime.unwrap_or(self.time).to_le_bytes());
        header.extend(number.to_le_bytes());
        let place = self.inodes.place()?;
        self.inodes.add(&header)?;
        self.inodes.add(body)?;
        Ok(Written {
            place,
            number,
            kind: short,
        })
    }

    /// The number of a user or group in the image.
    fn id(&mut self, id: u32) -> io::Result<u16> {
        if let Some(number) = self.numbers.get(&id) {
            return Ok(*number);
        }
        let number = u16::try_from(self.ids.len()).map_err(io::Error::other)?;
        self.ids.push(id);
        if self.ids.len() > IDS_MAX {
            let what = format!(
                "it has one more user or group than the {IDS_MAX} that squashfs has room for"
            );
            return Err(io::Error::other(what));
        }
        self.numbers.insert(id, number);
        Ok(number)
    }
}

/// What tells a file that may have several names.
fn link(entry: &Entry) -> Option<(*const Content, Said)> {
    let Node::File(content) = &entry.node else {
        return None;
    };
    let Meta {
        mode,
        uid,
        gid,
        mtime,
    } = entry.meta;
    Some((Arc::as_ptr(content), (mode, uid, gid, mtime)))
}

/// What [`Folders`] never gives.
fn out_of_order() -> io::Error {
    io::Error::other("a directory is not where it must be")
}

/// Numbers of inodes begin with 1; the root is the first of all.
fn folder_number(index: usize) -> u32 {
    number(index + 1)
}

/// Of the entries and names of a layer there are fewer than 2^32.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A device number as squashfs stores it (`new_encode_dev`, linux/kdev_t.h).
fn device(major: u32, minor: u32) -> io::Result<u32> {
    match (major, minor) {
        (0..=0xFFF, 0..=0xF_FFFF) => Ok((minor & 0xFF) | (major << 8) | ((minor & !0xFF) << 12)),
        _ => Err(io::Error::other(format!(
            "squashfs has no room for its number, {major}:{minor}: 4095:1048575 is the greatest"
        ))),
    }
}

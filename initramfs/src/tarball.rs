//! Tar archives: what packages and vendors put their files in. File contents go to a [`Spool`].
//!
//! Invariants: an archive is read to the end of its stream; what it has between two contents is bounded, for that is read
//! into memory.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::Arc;

use towline_contract::newc::mode;

use crate::compressed::finish;
use crate::content::Spool;
use crate::filter::Filter;
use crate::tree::{Entry, Meta, Node, Tree, TreeError, display};

/// Most bytes between the contents of two entries: a header, a name and a link of 4096 bytes each, and extended attributes,
/// of which Linux has 64 KiB at most (`XATTR_SIZE_MAX`, linux/limits.h).
const BETWEEN_BYTES_MAX: u64 = 256 << 10;

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading failed, or it is no archive.
    #[error("the archive cannot be read")]
    Read(#[from] io::Error),
    /// An entry that does not fit into the layer.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Where entries go, and which.
pub(crate) struct Unpacker<'a> {
    /// Of the paths in the layer.
    pub(crate) filter: &'a Filter,
    pub(crate) spool: &'a mut Spool,
    pub(crate) tree: &'a mut Tree,
    /// Hears the real path of each entry that is no directory.
    pub(crate) added: &'a mut dyn FnMut(Vec<u8>),
    /// Where entries go in the layer.
    pub(crate) to: &'a str,
    /// Leading parts of each name that are dropped; entries with no more parts than that stay out.
    pub(crate) strip: usize,
    /// Owners as the archive has them, or root.
    pub(crate) owners: bool,
}

impl Unpacker<'_> {
    /// Adds the entries of the archive; gives the newest time of its files.
    pub(crate) fn run(&mut self, reader: impl Read) -> Result<u32, TarError> {
        let place = Place::default();
        let mut archive = tar::Archive::new(Watched {
            reader,
            place: &place,
        });
        let mut newest = 0;
        for entry in archive.entries()? {
            let entry = entry?;
            // Of a file with holes, what is in the archive; its own size may be anything.
            let bytes = match entry.header().entry_type().is_gnu_sparse() {
                true => entry.header().entry_size()?,
                false => entry.size(),
            };
            place.content(bytes);
            newest = newest.max(self.entry(entry)?);
        }
        place.content(u64::MAX);
        finish(&mut archive.into_inner())?;
        Ok(newest)
    }

    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<u32, TarError> {
        let Some(path) = self.place(&entry.path_bytes()) else {
            return Ok(0);
        };
        let meta = self.meta(entry.header())?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || !self.filter.keeps(&path) {
            // A directory that only holds what is left out is left out too: parents are made when they are needed.
            return Ok(0);
        }
        if kind.is_dir() {
            let node = Node::Directory { implied: false };
            self.tree.insert(&path, Entry { meta, node })?;
            return Ok(0);
        }
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let link = link.unwrap_or_default();
        let real = if kind.is_file() || kind.is_gnu_sparse() {
            let content = self.spool.add(&mut entry);
            let content = content.map_err(|cause| in_entry(&path, &cause))?;
            let node = Node::File(Arc::new(content));
            self.tree.insert(&path, Entry { meta, node })?
        } else if kind.is_symlink() {
            self.tree.symlink(&path, meta, &link)?
        } else if kind.is_hard_link() {
            let target = self.place(&link).unwrap_or(link);
            self.tree.hardlink(&path, &target)?
        } else {
            let node = special(entry.header(), &path)?;
            self.tree.insert(&path, Entry { meta, node })?
        };
        (self.added)(real);
        Ok(meta.mtime.unwrap_or(0))
    }

    /// The path in the layer of an entry.
    fn place(&self, name: &[u8]) -> Option<Vec<u8>> {
        let parts = name.split(|byte| *byte == b'/');
        let mut parts = parts.filter(|part| !part.is_empty() && *part != b".");
        let rest: Vec<_> = parts.by_ref().skip(self.strip).collect();
        if rest.is_empty() {
            return None;
        }
        let mut path = self.to.trim_matches('/').as_bytes().to_vec();
        for part in rest {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Some(path)
    }

    fn meta(&self, header: &tar::Header) -> io::Result<Meta> {
        let number = |n: u64| u32::try_from(n).map_err(io::Error::other);
        let owner = |n: io::Result<u64>| if self.owners { number(n?) } else { Ok(0) };
        Ok(Meta {
            mode: header.mode()? & 0o7777,
            uid: owner(header.uid())?,
            gid: owner(header.gid())?,
            mtime: Some(number(header.mtime()?)?),
        })
    }
}

/// Where the reading of an archive is, in bytes.
struct Place {
    at: Cell<u64>,
    /// Where the next content must have begun.
    end: Cell<u64>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            at: Cell::new(0),
            end: Cell::new(BETWEEN_BYTES_MAX),
        }
    }
}

impl Place {
    /// A content of so many bytes begins here.
    fn content(&self, bytes: u64) {
        let end = self.at.get().saturating_add(bytes);
        self.end.set(end.saturating_add(BETWEEN_BYTES_MAX));
    }
}

/// An archive whose place is watched.
struct Watched<'a, R> {
    reader: R,
    place: &'a Place,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        let at = self.place.at.get() + length as u64;
        self.place.at.set(at);
        match at <= self.place.end.get() {
            true => Ok(length),
            false => Err(io::Error::other(format!(
                "a name or what else describes an entry has more than {BETWEEN_BYTES_MAX} bytes"
            ))),
        }
    }
}

/// What went wrong while an entry was read, with its name.
pub(crate) fn in_entry(name: &[u8], cause: &io::Error) -> io::Error {
    io::Error::new(cause.kind(), format!("in entry {}: {cause}", display(name)))
}

/// A device node or fifo.
fn special(header: &tar::Header, path: &[u8]) -> io::Result<Node> {
    let kind = header.entry_type();
    let file_type = if kind.is_character_special() {
        mode::S_IFCHR
    } else if kind.is_block_special() {
        mode::S_IFBLK
    } else if kind.is_fifo() {
        mode::S_IFIFO
    } else {
        let what = format!("{} is of the unknown tar type {kind:?}", display(path));
        return Err(io::Error::other(what));
    };
    // A fifo has no number, and its fields may be blank.
    let (major, minor) = match file_type {
        mode::S_IFIFO => (None, None),
        _ => (header.device_major()?, header.device_minor()?),
    };
    Ok(Node::Special {
        file_type,
        major: major.unwrap_or(0),
        minor: minor.unwrap_or(0),
    })
}

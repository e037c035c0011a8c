//! What an image says of each of its files, and which names its directories have.

use std::io;

use towline_contract::limits::LINK_BYTES_MAX;
use towline_contract::newc::mode;

use super::blocks::damaged;
use super::format::{ENTRIES_OF_HEADER_MAX, NAME_BYTES_MAX, NONE, NOT_LISTED};
use super::image::{Image, Place};
use super::superblock::{u16_at, u32_at, u64_at};

/// One file of any type.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) permissions: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u32,
    /// Names that it has, as far as it says so.
    pub(super) links: u32,
    /// Whether it has extended attributes.
    pub(super) has_attributes: bool,
    pub(crate) what: What,
}

/// What it is.
#[derive(Debug)]
pub(crate) enum What {
    Directory(Directory),
    File(Content),
    Symlink(Vec<u8>),
    Special {
        file_type: u32,
        major: u32,
        minor: u32,
    },
}

/// Where a directory's list is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directory {
    place: Place,
    /// Its size, in bytes.
    bytes: u32,
}

/// Where a file's bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: u64,
    /// Where its first block is in the image.
    pub(super) at: u64,
    /// Number of the block that has its end, and where that begins there.
    pub(super) fragment: Option<(u32, u32)>,
    /// Where the sizes of its blocks are.
    pub(super) sizes: Place,
}

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Vec<u8>,
    /// Of its inode: by it two names of one file are known.
    pub(super) inode: u64,
}

impl Image {
    /// The inode that `reference` names: the place of its block in the table, and 16 bits of the offset in it.
    pub(super) fn inode(&mut self, reference: u64) -> io::Result<Inode> {
        let mut place = Place {
            block: self.superblock.inodes.saturating_add(reference >> 16),
            offset: usize::from((reference & 0xFFFF) as u16),
        };
        let mut header = [0; 16];
        self.take(&mut place, &mut header)?;
        let kind = u16_at(&header, 0);
        let body = self.body(kind, place)?;
        Ok(Inode {
            permissions: u32::from(u16_at(&header, 2)) & 0o7777,
            uid: self.id(u16_at(&header, 4))?,
            gid: self.id(u16_at(&header, 6))?,
            mtime: u32_at(&header, 8),
            links: body.links,
            has_attributes: body.attributes != NONE,
            what: body.what,
        })
    }

    /// What follows the header, by type (`SQUASHFS_DIR_TYPE` to `SQUASHFS_LSOCKET_TYPE`): seven, each short and long.
    fn body(&mut self, kind: u16, mut place: Place) -> io::Result<Body> {
        let directories = self.superblock.directories;
        let directory = |block: u32, offset, bytes| {
            What::Directory(Directory {
                place: Place {
                    block: directories.saturating_add(block.into()),
                    offset: usize::from(offset),
                },
                bytes,
            })
        };
        Ok(match kind {
            1 => {
                let it = self.fields::<16>(&mut place)?;
                let bytes = u16_at(&it, 8).into();
                Body::short(
                    u32_at(&it, 4),
                    directory(u32_at(&it, 0), u16_at(&it, 10), bytes),
                )
            }
            8 => {
                let it = self.fields::<24>(&mut place)?;
                let what = directory(u32_at(&it, 8), u16_at(&it, 18), u32_at(&it, 4));
                Body::long(u32_at(&it, 0), u32_at(&it, 20), what)
            }
            2 => {
                let it = self.fields::<16>(&mut place)?;
                let content = Content {
                    bytes: u32_at(&it, 12).into(),
                    at: u32_at(&it, 0).into(),
                    fragment: fragment(&it, 4),
                    sizes: place,
                };
                Body::short(1, What::File(content))
            }
            9 => {
                let it = self.fields::<40>(&mut place)?;
                let content = Content {
                    bytes: u64_at(&it, 8),
                    at: u64_at(&it, 0),
                    fragment: fragment(&it, 28),
                    sizes: place,
                };
                Body::long(u32_at(&it, 24), u32_at(&it, 36), What::File(content))
            }
            3 | 10 => {
                let it = self.fields::<8>(&mut place)?;
                let (links, bytes) = (u32_at(&it, 0), u32_at(&it, 4));
                if u64::from(bytes) > LINK_BYTES_MAX {
                    let what = format!("a link has {bytes} bytes, of {LINK_BYTES_MAX} at most");
                    return Err(damaged(what));
                }
                let mut target = vec![0; bytes as usize];
                self.take(&mut place, &mut target)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(damaged("a link leads to what is no path"));
                }
                let what = What::Symlink(target);
                let attributes = self.attributes(kind, 10, &mut place)?;
                Body::long(links, attributes, what)
            }
            4 | 5 | 11 | 12 => {
                let it = self.fields::<8>(&mut place)?;
                let number = u32_at(&it, 4);
                let what = What::Special {
                    file_type: if kind % 7 == 4 {
                        mode::S_IFBLK
                    } else {
                        mode::S_IFCHR
                    },
                    // As `new_decode_dev` (linux/kdev_t.h).
                    major: (number >> 8) & 0xFFF,
                    minor: (number & 0xFF) | ((number >> 12) & 0xF_FF00),
                };
                let attributes = self.attributes(kind, 11, &mut place)?;
                Body::long(u32_at(&it, 0), attributes, what)
            }
            6 | 7 | 13 | 14 => {
                let it = self.fields::<4>(&mut place)?;
                let what = What::Special {
                    file_type: if kind % 7 == 6 {
                        mode::S_IFIFO
                    } else {
                        mode::S_IFSOCK
                    },
                    major: 0,
                    minor: 0,
                };
                let attributes = self.attributes(kind, 13, &mut place)?;
                Body::long(u32_at(&it, 0), attributes, what)
            }
            other => return Err(damaged(format!("it is of the unknown type {other}"))),
        })
    }

    fn fields<const BYTES: usize>(&mut self, place: &mut Place) -> io::Result<[u8; BYTES]> {
        let mut bytes = [0; BYTES];
        self.take(place, &mut bytes)?;
        Ok(bytes)
    }

    /// The number of the extended attributes, which types from `long` on have at their end.
    fn attributes(&mut self, kind: u16, long: u16, place: &mut Place) -> io::Result<u32> {
        match kind < long {
            true => Ok(NONE),
            false => Ok(u32_at(&self.fields::<4>(place)?, 0)),
        }
    }

    /// The names in a directory, or none if there are more than `most`.
    pub(super) fn names(
        &mut self,
        directory: Directory,
        most: u64,
    ) -> io::Result<Option<Vec<Named>>> {
        let mut place = directory.place;
        let mut left = directory.bytes.saturating_sub(NOT_LISTED);
        let mut use_up = |bytes: u32| {
            left = left.checked_sub(bytes).ok_or_else(|| {
                damaged("the list of a directory is longer than the directory says")
            })?;
            Ok::<_, io::Error>(left > 0)
        };
        let mut names: Vec<Named> = Vec::new();
        let mut more = directory.bytes > NOT_LISTED;
        while more {
            let header = self.fields::<12>(&mut place)?;
            use_up(12)?;
            let (count, block) = (u32_at(&header, 0), u64::from(u32_at(&header, 4)));
            if count >= ENTRIES_OF_HEADER_MAX {
                return Err(damaged("a part of a directory has too many entries"));
            }
            for _ in 0..=count {
                let entry = self.fields::<8>(&mut place)?;
                let mut name = vec![0; usize::from(u16_at(&entry, 6)) + 1];
                if name.len() > NAME_BYTES_MAX {
                    return Err(damaged("a name in a directory is too long"));
                }
                self.take(&mut place, &mut name)?;
                if name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
                    return Err(damaged("a name in a directory is none"));
                }
                // Linux stops looking at the first that is greater, so that all images are sorted.
                if names.last().is_some_and(|before| before.name >= name) {
                    return Err(damaged(
                        "a name in a directory is there twice, or not in its place",
                    ));
                }
                more = use_up(9 + u32::from(u16_at(&entry, 6)))?;
                if names.len() as u64 == most {
                    return Ok(None);
                }
                let inode = block << 16 | u64::from(u16_at(&entry, 0));
                names.push(Named { name, inode });
            }
        }
        Ok(Some(names))
    }
}

/// What follows the header of an inode.
struct Body {
    links: u32,
    attributes: u32,
    what: What,
}

impl Body {
    fn short(links: u32, what: What) -> Self {
        Self::long(links, NONE, what)
    }

    fn long(links: u32, attributes: u32, what: What) -> Self {
        Self {
            links,
            attributes,
            what,
        }
    }
}

/// Number and offset of the block that has a file's end.
fn fragment(fields: &[u8], at: usize) -> Option<(u32, u32)> {
    let number = u32_at(fields, at);
    (number != NONE).then(|| (number, u32_at(fields, at + 4)))
}

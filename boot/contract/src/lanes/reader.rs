//! The reader: newc entries in, entries that keep to the rules out.

use std::collections::HashMap;
use std::fmt;

use super::policy::{self, Shape};
use crate::Digest;
use crate::limits::LINK_BYTES_MAX;
use crate::manifest::{Kind, Manifest};
use crate::newc::{Decoder, Entry, Item, NewcError, mode};

/// Path of an entry, relative to the root: components that are not empty, `.` or `..`, and hold no NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    fn parse(name: Vec<u8>) -> Option<Self> {
        let bad =
            |part: &[u8]| part.is_empty() || part == b"." || part == b".." || part.contains(&0);
        let ok = !name.is_empty() && !name.split(|b| *b == b'/').any(bad);
        ok.then_some(Self(name))
    }

    /// The path without a leading slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// The directory it lies in, and its name there. The directory is empty for an entry of the root.
    #[must_use]
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[], &self.0),
        }
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Owner, permission bits and time of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The twelve permission bits: set-id, sticky, rwx thrice.
    pub mode: u32,
    /// Modification time, in seconds since 1970.
    pub mtime: u32,
}

/// What a layer yields, in the archive's order.
#[derive(Debug, PartialEq, Eq)]
pub enum LayerItem<'a> {
    /// A directory.
    Directory {
        /// Where.
        path: EntryPath,
        /// Owner, mode, time.
        owner: Owner,
    },
    /// A regular file; its bytes follow as [`LayerItem::FileData`], then [`LayerItem::FileEnd`].
    FileStart {
        /// Where.
        path: EntryPath,
        /// Owner, mode, time.
        owner: Owner,
        /// Bytes that follow.
        bytes: u64,
        /// Whether it is the layer's image, to be mounted and not to be unpacked.
        image: bool,
    },
    /// A piece of the file.
    FileData(&'a [u8]),
    /// The file is complete.
    FileEnd,
    /// A symbolic link.
    Symlink {
        /// Where.
        path: EntryPath,
        /// Owner and time; a link has no mode.
        owner: Owner,
        /// What it points to, as stored: not empty, no NUL.
        target: Vec<u8>,
    },
    /// Another name of a regular file of this layer.
    Hardlink {
        /// Where.
        path: EntryPath,
        /// The file's first name.
        target: EntryPath,
    },
    /// A device, fifo or socket; in base layers only.
    Node {
        /// Where.
        path: EntryPath,
        /// Owner, mode, time.
        owner: Owner,
        /// The file type (inode(7)): `S_IFBLK`, `S_IFCHR`, `S_IFIFO` or `S_IFSOCK`.
        file_type: u32,
        /// Device number, major part.
        major: u32,
        /// Device number, minor part.
        minor: u32,
    },
}

/// Which rule an entry breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The archive is not valid newc.
    #[error("the archive is damaged")]
    Archive(#[from] NewcError),
    /// A name that could leave the root or hide something.
    #[error("names are relative, without empty, . or .. components")]
    Name,
    /// A parent that is no directory of this layer: missing, a link or a file.
    #[error("every parent must be a directory entry earlier in the same layer")]
    Parent,
    /// A name that was there before.
    #[error("a name may occur once in a layer")]
    Duplicate,
    /// Outside of the kind's directories.
    #[error("a {0} layer may not have anything there")]
    Outside(Kind),
    /// A directory on the way to the kind's own ones that is not plain.
    #[error("a {0} layer may have this directory only with mode 0755 and owner root")]
    Ancestor(Kind),
    /// A type of entry that the kind may not have.
    #[error("a {0} layer may not have a {1}")]
    Type(Kind, &'static str),
    /// A setuid or setgid bit.
    #[error("a {0} layer may not have set-id bits")]
    SetId(Kind),
    /// Permissions of a secret that are too wide.
    #[error("a {0} layer's files have mode 0600 at most, its directories 0700, and owner root")]
    Secret(Kind),
    /// Mode bits that mean nothing.
    #[error("mode {0:o} is of no known file type")]
    Mode(u32),
    /// A body where none belongs.
    #[error("a {0} has no content")]
    Body(&'static str),
    /// A link target that is empty, too long or has a NUL.
    #[error("a link's target has 1 to {LINK_BYTES_MAX} bytes and no NUL")]
    LinkTarget,
    /// A link that leads out of the kind's directories.
    #[error("a {0} layer's links may not leave its own directories")]
    LinkLeaves(Kind),
    /// A second name of something that is no regular file of this layer, or has bytes of its own.
    #[error(
        "a hard link names a regular file earlier in the same layer, and has no bytes of its own"
    )]
    Hardlink,
    /// Under `towline/`, but not the image that the manifest names.
    #[error("only the image that the manifest names may be under towline/")]
    NotTheImage,
    /// The image has another size, or is no plain file.
    #[error(
        "the image must be a regular file of {wanted} bytes, as its manifest says, and has {found}"
    )]
    ImageSize {
        /// Bytes in the archive.
        found: u64,
        /// Bytes in the manifest.
        wanted: u64,
    },
    /// The archive ended without its image.
    #[error("the image that the manifest names is missing")]
    NoImage,
    /// More bytes than the manifest says: a lie or a bomb.
    #[error("the archive is larger than the {0} bytes its manifest says")]
    MoreBytes(u64),
    /// Fewer bytes than the manifest says.
    #[error("the archive has {found} bytes, but its manifest says {wanted}")]
    FewerBytes {
        /// Bytes in the archive.
        found: u64,
        /// Bytes in the manifest.
        wanted: u64,
    },
    /// More entries than the manifest says.
    #[error("the archive has more than the {0} entries its manifest says")]
    MoreEntries(u64),
    /// Fewer entries than the manifest says.
    #[error("the archive has {found} entries, but its manifest says {wanted}")]
    FewerEntries {
        /// Entries in the archive.
        found: u64,
        /// Entries in the manifest.
        wanted: u64,
    },
}

/// A layer that breaks a rule. Nothing more of it may be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer} is refused{}", entry.as_ref().map(|e| format!(" at entry {e}")).unwrap_or_default())]
pub struct LaneError {
    /// Target name of the layer.
    pub layer: String,
    /// The entry, escaped for people; none when it is about the whole archive.
    pub entry: Option<String>,
    /// The rule.
    #[source]
    pub rule: Rule,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Directory,
    Other,
}

/// What happens with the body of the current entry.
enum Body {
    None,
    File,
    Link {
        path: EntryPath,
        owner: Owner,
        target: Vec<u8>,
    },
}

/// Reads one unpacked layer that arrives in pieces of any size.
///
/// Memory: 33 bytes of table for every entry, and the names of files that have several.
pub struct LayerReader {
    layer: String,
    kind: Kind,
    unpacked_bytes: u64,
    entries: u64,
    image: Option<(Vec<u8>, u64)>,
    replaceable: Vec<Vec<u8>>,
    decoder: Decoder,
    bytes_seen: u64,
    entries_seen: u64,
    image_seen: bool,
    /// Names by their digests, so that a million long ones fit in memory.
    names: HashMap<Digest, Seen>,
    /// First names of files with several, by inode number.
    inodes: HashMap<u32, EntryPath>,
    current: Option<String>,
    body: Body,
}

impl LayerReader {
    /// A reader for the layer with this manifest. `replaceable` is the list in the chain's *base* manifest.
    #[must_use]
    pub fn new(manifest: &Manifest, replaceable: &[String]) -> Self {
        let image = manifest.image.as_ref();
        Self {
            layer: manifest.target_name(),
            kind: manifest.kind,
            unpacked_bytes: manifest.unpacked_bytes,
            entries: manifest.entries,
            image: image.map(|image| (image.path.clone().into_bytes(), image.bytes)),
            replaceable: replaceable.iter().map(|p| p.clone().into_bytes()).collect(),
            decoder: Decoder::new(),
            bytes_seen: 0,
            entries_seen: 0,
            image_seen: false,
            names: HashMap::new(),
            inodes: HashMap::new(),
            current: None,
            body: Body::None,
        }
    }

    /// Whether an entry of this layer may replace a file, link or node of an earlier one: base and host layers within
    /// their lanes, others only what the base's manifest lists as replaceable.
    #[must_use]
    pub fn may_replace(&self, path: &EntryPath) -> bool {
        policy::replaces_freely(self.kind) || self.replaceable.iter().any(|p| p == path.as_bytes())
    }

    /// Takes unpacked bytes from the front of `input` until an item is complete; `None` once `input` is used up.
    ///
    /// # Errors
    /// The layer breaks a rule; the reader is of no use afterwards.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<LayerItem<'a>>, LaneError> {
        self.step(input).map_err(|rule| self.error(rule))
    }

    /// Ends the layer.
    ///
    /// # Errors
    /// The archive is not complete, or not as large as its manifest says.
    pub fn finish(mut self) -> Result<(), LaneError> {
        self.current = None;
        let result = self.check_end();
        result.map_err(|rule| self.error(rule))
    }

    fn error(&self, rule: Rule) -> LaneError {
        LaneError {
            layer: self.layer.clone(),
            entry: self.current.clone(),
            rule,
        }
    }

    fn check_end(&self) -> Result<(), Rule> {
        self.decoder.finish()?;
        if self.bytes_seen != self.unpacked_bytes {
            return Err(Rule::FewerBytes {
                found: self.bytes_seen,
                wanted: self.unpacked_bytes,
            });
        }
        if self.entries_seen != self.entries {
            return Err(Rule::FewerEntries {
                found: self.entries_seen,
                wanted: self.entries,
            });
        }
        if self.image.is_some() && !self.image_seen {
            return Err(Rule::NoImage);
        }
        Ok(())
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<LayerItem<'a>>, Rule> {
        loop {
            let before = input.len();
            let item = self.decoder.next(input)?;
            self.bytes_seen += (before - input.len()) as u64;
            if self.bytes_seen > self.unpacked_bytes {
                return Err(Rule::MoreBytes(self.unpacked_bytes));
            }
            let Some(item) = item else { return Ok(None) };
            let item = match item {
                Item::Entry(entry) => self.entry(entry)?,
                Item::Data(data) => self.data(data),
                Item::EntryEnd => self.entry_end()?,
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    fn data<'a>(&mut self, data: &'a [u8]) -> Option<LayerItem<'a>> {
        match &mut self.body {
            Body::File => Some(LayerItem::FileData(data)),
            Body::Link { target, .. } => {
                target.extend_from_slice(data);
                None
            }
            Body::None => None, // not reached: such an entry has no bytes
        }
    }

    fn entry_end(&mut self) -> Result<Option<LayerItem<'static>>, Rule> {
        match std::mem::replace(&mut self.body, Body::None) {
            Body::None => Ok(None),
            Body::File => Ok(Some(LayerItem::FileEnd)),
            Body::Link {
                path,
                owner,
                target,
            } => {
                if target.is_empty() || target.contains(&0) {
                    return Err(Rule::LinkTarget);
                }
                policy::check_link(self.kind, &path, &target)?;
                Ok(Some(LayerItem::Symlink {
                    path,
                    owner,
                    target,
                }))
            }
        }
    }

    /// Checks an entry's header; gives its item, unless that needs the body.
    fn entry(&mut self, entry: Entry) -> Result<Option<LayerItem<'static>>, Rule> {
        self.current = Some(entry.display_name());
        self.entries_seen += 1;
        if self.entries_seen > self.entries {
            return Err(Rule::MoreEntries(self.entries));
        }
        if u64::from(entry.bytes) > self.unpacked_bytes - self.bytes_seen {
            return Err(Rule::MoreBytes(self.unpacked_bytes));
        }
        let shape = Shape::of(&entry)?;
        let owner = Owner {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode & 0o7777,
            mtime: entry.mtime,
        };
        let path = EntryPath::parse(entry.name).ok_or(Rule::Name)?;
        let bytes = u64::from(entry.bytes);
        let image = self.check_image(&path, shape, bytes)?;
        policy::check_entry(self.kind, &path, shape, &owner, image)?;
        self.remember(&path, shape)?;
        match shape {
            Shape::Directory => Ok(Some(LayerItem::Directory { path, owner })),
            Shape::Regular => self.regular(path, owner, bytes, entry.inode, entry.links, image),
            Shape::Link if bytes > LINK_BYTES_MAX => Err(Rule::LinkTarget),
            Shape::Link => {
                let target = Vec::new();
                self.body = Body::Link {
                    path,
                    owner,
                    target,
                };
                Ok(None)
            }
            Shape::Node(_) => Ok(Some(LayerItem::Node {
                path,
                owner,
                file_type: entry.mode & mode::S_IFMT,
                major: entry.rdev_major,
                minor: entry.rdev_minor,
            })),
        }
    }

    /// A file, or another name of one: the first entry with an inode number has the bytes, later ones have none.
    fn regular(
        &mut self,
        path: EntryPath,
        owner: Owner,
        bytes: u64,
        inode: u32,
        links: u32,
        image: bool,
    ) -> Result<Option<LayerItem<'static>>, Rule> {
        if links > 1 {
            match self.inodes.get(&inode) {
                Some(first) if bytes == 0 && !image => {
                    let target = first.clone();
                    return Ok(Some(LayerItem::Hardlink { path, target }));
                }
                Some(_) => return Err(Rule::Hardlink),
                None => self.inodes.insert(inode, path.clone()),
            };
        }
        self.body = Body::File;
        Ok(Some(LayerItem::FileStart {
            path,
            owner,
            bytes,
            image,
        }))
    }

    /// Whether this is the image. Nothing else may be under `towline/` in any layer.
    fn check_image(&mut self, path: &EntryPath, shape: Shape, found: u64) -> Result<bool, Rule> {
        if path.components().next() != Some(b"towline") {
            return Ok(false);
        }
        if !policy::may_have_image(self.kind) {
            return Err(Rule::Outside(self.kind));
        }
        let way = [b"towline".as_slice(), b"towline/images"].contains(&path.as_bytes());
        match &self.image {
            Some(_) if way && shape == Shape::Directory => Ok(false),
            Some((name, wanted)) if name == path.as_bytes() => {
                let wanted = *wanted;
                if shape != Shape::Regular || found != wanted {
                    return Err(Rule::ImageSize { found, wanted });
                }
                self.image_seen = true;
                Ok(true)
            }
            _ => Err(Rule::NotTheImage),
        }
    }

    /// Every parent must have come before as a directory, and the name must not have.
    fn remember(&mut self, path: &EntryPath, shape: Shape) -> Result<(), Rule> {
        let (parent, _) = path.split();
        if !parent.is_empty() && self.names.get(&Digest::of(parent)) != Some(&Seen::Directory) {
            return Err(Rule::Parent);
        }
        let seen = match shape {
            Shape::Directory => Seen::Directory,
            _ => Seen::Other,
        };
        match self.names.insert(Digest::of(path.as_bytes()), seen) {
            None => Ok(()),
            Some(_) => Err(Rule::Duplicate),
        }
    }
}

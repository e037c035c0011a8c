//! What a layer yields: entries whose names and types keep to the rules.

use std::fmt;

/// Path of an entry, relative to the root: components that are not empty, `.` or `..`, and hold no NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    pub(super) fn parse(name: Vec<u8>) -> Option<Self> {
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

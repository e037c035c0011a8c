//! What a tree has at a path: its kind, its owner, permissions and time.

use std::sync::Arc;

use crate::content::Content;

/// Owner, permissions and time of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970; none takes the time of the whole layer.
    pub mtime: Option<u32>,
}

impl Meta {
    /// Root's, with these permission bits and the layer's time.
    #[must_use]
    pub fn root(mode: u32) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            mtime: None,
        }
    }
}

/// What an entry is.
#[derive(Clone, Debug)]
pub enum Node {
    /// A directory; `implied` when no source named it, so that the first that does sets its owner and mode.
    Directory {
        /// Made only because something lies in it.
        implied: bool,
    },
    /// A regular file. Entries that share the same [`Arc`] are hard links of one file.
    File(Arc<Content>),
    /// A symbolic link and where it points.
    Symlink(Vec<u8>),
    /// A device node, fifo or socket.
    Special {
        /// File type bits (inode(7)).
        file_type: u32,
        /// Device number, major part.
        major: u32,
        /// Device number, minor part.
        minor: u32,
    },
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Owner, permissions and time.
    pub meta: Meta,
    /// What it is.
    pub node: Node,
}

impl Node {
    /// The name of its type for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "a directory",
            Self::File(_) => "a file",
            Self::Symlink(_) => "a symbolic link",
            Self::Special { .. } => "a device node, fifo or socket",
        }
    }
}

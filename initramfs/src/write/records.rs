//! The records of an archive, decided before a byte is written: names, numbers, sizes.

use std::collections::HashMap;
use std::sync::Arc;

use towline_contract::limits::NEWC_FILE_BYTES_MAX;
use towline_contract::newc::{self, mode};

use super::WriteError;
use crate::content::Content;
use crate::tree::{Entry, Node, Tree, display};

/// An entry with its numbers, and the body that follows its header.
pub(super) struct Record<'a> {
    pub(super) path: &'a [u8],
    entry: &'a Entry,
    time: u32,
    inode: u32,
    links: u32,
    /// Bytes of the header.
    pub(super) header_bytes: u32,
    pub(super) body: Body<'a>,
}

impl Record<'_> {
    /// The header: made anew each time, for those of all entries together are megabytes.
    pub(super) fn header(&self) -> Result<Vec<u8>, WriteError> {
        header(
            self.path,
            self.entry,
            self.time,
            self.inode,
            self.links,
            self.body.len(),
        )
    }
}

/// What follows a header.
pub(super) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    Content(&'a Content),
}

impl Body<'_> {
    pub(super) fn len(&self) -> u64 {
        match self {
            Body::None => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Content(content) => content.len(),
        }
    }
}

/// Decides all headers: inode numbers count up, the first name of a file has its bytes.
pub(super) fn records(tree: &Tree, time: u32) -> Result<Vec<Record<'_>>, WriteError> {
    let mut names: HashMap<*const Content, u32> = HashMap::new();
    for (_, entry) in tree.iter() {
        if let Node::File(content) = &entry.node
            && may_have_names(content)
        {
            *names.entry(Arc::as_ptr(content)).or_default() += 1;
        }
    }
    let mut inodes: HashMap<*const Content, u32> = HashMap::new();
    let mut next_inode = 1;
    let mut records = Vec::with_capacity(tree.len());
    for (path, entry) in tree.iter() {
        let (links, seen) = match &entry.node {
            Node::File(content) => {
                let links = names.get(&Arc::as_ptr(content)).copied().unwrap_or(1);
                (links, inodes.get(&Arc::as_ptr(content)).copied())
            }
            Node::Directory { .. } => (2, None),
            _ => (1, None),
        };
        let inode = seen.unwrap_or(next_inode);
        if seen.is_none() {
            next_inode += 1;
            if let Node::File(content) = &entry.node
                && may_have_names(content)
            {
                inodes.insert(Arc::as_ptr(content), inode);
            }
        }
        let body = match &entry.node {
            Node::File(content) if seen.is_none() => Body::Content(content),
            Node::Symlink(target) => Body::Bytes(target),
            _ => Body::None,
        };
        let header = header(path, entry, time, inode, links, body.len())?;
        records.push(Record {
            path,
            entry,
            time,
            inode,
            links,
            header_bytes: u32::try_from(header.len()).unwrap_or(u32::MAX),
            body,
        });
    }
    Ok(records)
}

/// Whether the file may have more than one name: what is held once has one.
fn may_have_names(content: &Arc<Content>) -> bool {
    Arc::strong_count(content) > 1
}

fn header(
    path: &[u8],
    entry: &Entry,
    time: u32,
    inode: u32,
    links: u32,
    bytes: u64,
) -> Result<Vec<u8>, WriteError> {
    let refuse = |what: String| WriteError::Entry {
        path: display(path),
        what,
    };
    let (file_type, rdev_major, rdev_minor) = match &entry.node {
        Node::Directory { .. } => (mode::S_IFDIR, 0, 0),
        Node::File(_) => (mode::S_IFREG, 0, 0),
        Node::Symlink(_) => (mode::S_IFLNK, 0, 0),
        Node::Special {
            file_type,
            major,
            minor,
        } => (*file_type, *major, *minor),
    };
    let permissions = if matches!(entry.node, Node::Symlink(_)) {
        0o777
    } else {
        entry.meta.mode
    };
    newc::Entry {
        name: path.to_vec(),
        inode,
        mode: file_type | permissions,
        uid: entry.meta.uid,
        gid: entry.meta.gid,
        links,
        mtime: entry.meta.mtime.unwrap_or(time),
        bytes: u32::try_from(bytes)
            .map_err(|_| refuse(format!("{bytes} bytes are more than {NEWC_FILE_BYTES_MAX}")))?,
        rdev_major,
        rdev_minor,
        ..newc::Entry::default()
    }
    .encode()
    .map_err(|cause| refuse(cause.to_string()))
}

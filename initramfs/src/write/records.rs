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

/// The order of an archive's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By the bytes of their paths.
    Paths,
    /// The same, with programs and libraries behind all else, by their sizes: those that are alike are close enough together to be
    /// found by the search for distant matches.
    ProgramsLast,
}

impl Order {
    /// The entries of `tree`, every directory before what is in it.
    fn of(self, tree: &Tree) -> Vec<(&[u8], &Entry)> {
        let mut entries: Vec<_> = tree.iter().collect();
        if self == Self::ProgramsLast {
            entries.sort_by_key(|(path, entry)| program_bytes(path, entry));
        }
        entries
    }
}

/// Size of a program or library, as its permissions and its name say; none of all else.
fn program_bytes(path: &[u8], entry: &Entry) -> Option<u64> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let is_program = entry.meta.mode & 0o111 != 0 || name.windows(3).any(|it| it == b".so");
    match &entry.node {
        Node::File(content) if is_program => Some(content.len()),
        _ => None,
    }
}

/// Decides all headers: inode numbers count up, the first name of a file has its bytes.
pub(super) fn records(tree: &Tree, time: u32, order: Order) -> Result<Vec<Record<'_>>, WriteError> {
    let entries = order.of(tree);
    let mut names: HashMap<*const Content, u32> = HashMap::new();
    for (_, entry) in &entries {
        if let Node::File(content) = &entry.node
            && may_have_names(content)
        {
            *names.entry(Arc::as_ptr(content)).or_default() += 1;
        }
    }
    let mut inodes: HashMap<*const Content, u32> = HashMap::new();
    let mut next_inode = 1;
    let mut records = Vec::with_capacity(entries.len());
    for (path, entry) in entries {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Meta;

    #[test]
    fn programs_and_libraries_come_last_by_size_and_their_directories_before_them() {
        let mut tree = Tree::new();
        let mut file = |path: &str, mode, bytes: usize| {
            let content = Content::from_bytes(vec![0; bytes]);
            tree.file(path.as_bytes(), Meta::root(mode), content)
                .unwrap();
        };
        file("a/large", 0o755, 500);
        file("a/small", 0o755, 5);
        file("b/lib/libc.so.6", 0o644, 50);
        file("b/text", 0o644, 7);
        file("b/same", 0o755, 500);
        tree.symlink(b"c", Meta::root(0o777), b"a/large").unwrap();
        tree.hardlink(b"a/first", b"b/same").unwrap();
        let order = |order| {
            let records = records(&tree, 0, order).unwrap();
            let row = |record: Record<'_>| (display(record.path), record.body.len());
            records.into_iter().map(row).collect::<Vec<_>>()
        };
        let rows = order(Order::ProgramsLast);
        let wanted = [
            ("a", 0),
            ("b", 0),
            ("b/lib", 0),
            ("b/text", 7),
            ("c", 7),
            ("a/small", 5),
            ("b/lib/libc.so.6", 50),
            // The first name of a file has its bytes.
            ("a/first", 500),
            ("a/large", 500),
            ("b/same", 0),
        ];
        assert_eq!(rows, wanted.map(|(path, bytes)| (path.to_owned(), bytes)));
        let mut sorted = rows.iter().map(|row| row.0.clone()).collect::<Vec<_>>();
        sorted.sort();
        let paths = order(Order::Paths).into_iter().map(|row| row.0);
        assert_eq!(paths.collect::<Vec<_>>(), sorted);
    }
}

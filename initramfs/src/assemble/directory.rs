//! A directory of this machine as a source: names, kinds and contents count; owner, times and umask do not.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use towline_contract::newc::mode;

use super::SourceError;
use crate::content::Content;
use crate::filter::Filter;
use crate::listing::{Listed, Listing};
use crate::tree::{Entry, Meta, Node, Tree};

/// Adds what lies in `from`, which has this `listing`, to `tree` below `to`; gives the newest modification time of its files.
///
/// # Errors
/// An entry that does not fit.
pub(super) fn add(
    listing: Listing,
    from: &Path,
    to: &str,
    filter: &Filter,
    keep_modes: bool,
    tree: &mut Tree,
) -> Result<u32, SourceError> {
    let mut hard_links: HashMap<(u64, u64), Arc<Content>> = HashMap::new();
    let mut newest = 0;
    for listed in listing {
        let place = place(&listed.path, from, to);
        if !filter.keeps(&place) {
            continue;
        }
        let metadata = &listed.metadata;
        let permissions = if keep_modes {
            metadata.mode() & 0o7777
        } else {
            plain_mode(metadata)
        };
        if !metadata.is_dir() {
            newest = newest.max(u32::try_from(metadata.mtime()).unwrap_or(0));
        }
        let meta = Meta::root(permissions);
        let node = node(listed, &mut hard_links)?;
        tree.insert(&place, Entry { meta, node })?;
    }
    Ok(newest)
}

/// Where in the tree the file at `path`, which lies below `from`, goes.
fn place(path: &Path, from: &Path, to: &str) -> Vec<u8> {
    let inside = path.strip_prefix(from).unwrap_or(path);
    let inside = inside.as_os_str().as_bytes();
    match to {
        "" => inside.to_vec(),
        to => [to.as_bytes(), inside].join(&b'/'),
    }
}

/// Permission bits that do not depend on the umask: 0755 for directories and what its owner may execute, else 0644.
pub(super) fn plain_mode(metadata: &Metadata) -> u32 {
    if metadata.is_dir() || metadata.mode() & 0o100 != 0 {
        0o755
    } else {
        0o644
    }
}

fn node(
    listed: Listed,
    hard_links: &mut HashMap<(u64, u64), Arc<Content>>,
) -> Result<Node, SourceError> {
    let Listed {
        path,
        metadata,
        target,
    } = listed;
    if let Some(target) = target {
        return Ok(Node::Symlink(target.into_vec()));
    }
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Ok(Node::Directory { implied: false });
    }
    if kind.is_file() {
        let key = (metadata.dev(), metadata.ino());
        let links = metadata.nlink();
        let content = || Arc::new(Content::of_file(path, &metadata));
        return Ok(Node::File(match links {
            1 => content(),
            _ => Arc::clone(hard_links.entry(key).or_insert_with(content)),
        }));
    }
    let file_type = match kind {
        kind if kind.is_block_device() => mode::S_IFBLK,
        kind if kind.is_char_device() => mode::S_IFCHR,
        kind if kind.is_fifo() => mode::S_IFIFO,
        _ => mode::S_IFSOCK,
    };
    Ok(Node::Special {
        file_type,
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
    })
}

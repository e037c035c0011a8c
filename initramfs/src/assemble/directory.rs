//! A directory of this machine as a source: names, kinds and contents count; owner, times and umask do not.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use towline_contract::newc::mode;

use super::SourceError;
use crate::content::Content;
use crate::filter::Filter;
use crate::tree::{Entry, Meta, Node, Tree};

/// Adds what lies in `from` to `tree` below `to`; gives the newest modification time of its files.
///
/// # Errors
/// A folder that cannot be read, or an entry that does not fit.
pub(super) fn add(
    from: &Path,
    to: &str,
    filter: &Filter,
    keep_modes: bool,
    tree: &mut Tree,
) -> Result<u32, SourceError> {
    let mut hard_links: HashMap<(u64, u64), Arc<Content>> = HashMap::new();
    let mut newest = 0;
    let mut todo = vec![(from.to_owned(), to.as_bytes().to_vec())];
    while let Some((dir, place)) = todo.pop() {
        for name in sorted_names(&dir)? {
            let path = dir.join(&name);
            let mut place = place.clone();
            if !place.is_empty() {
                place.push(b'/');
            }
            place.extend_from_slice(name.as_bytes());
            let read = |cause| SourceError::Read {
                path: path.clone(),
                cause,
            };
            let metadata = path.symlink_metadata().map_err(read)?;
            if !metadata.is_dir() && !filter.keeps(&place) {
                continue;
            }
            let permissions = if keep_modes {
                metadata.mode() & 0o7777
            } else {
                plain_mode(&metadata)
            };
            let node = if metadata.is_dir() {
                todo.push((path.clone(), place.clone()));
                if !filter.keeps(&place) {
                    continue;
                }
                Node::Directory { implied: false }
            } else {
                newest = newest.max(u32::try_from(metadata.mtime()).unwrap_or(0));
                node(&path, &metadata, &mut hard_links).map_err(read)?
            };
            let meta = Meta::root(permissions);
            tree.insert(&place, Entry { meta, node })?;
        }
    }
    Ok(newest)
}

/// Permission bits that do not depend on the umask: 0755 for directories and what its owner may execute, else 0644.
pub(super) fn plain_mode(metadata: &Metadata) -> u32 {
    if metadata.is_dir() || metadata.mode() & 0o100 != 0 {
        0o755
    } else {
        0o644
    }
}

fn sorted_names(dir: &Path) -> Result<Vec<OsString>, SourceError> {
    let names = fs::read_dir(dir).and_then(|entries| entries.map(|e| Ok(e?.file_name())).collect());
    let mut names: Vec<OsString> = names.map_err(|cause: io::Error| SourceError::Read {
        path: PathBuf::from(dir),
        cause,
    })?;
    names.sort();
    Ok(names)
}

fn node(
    path: &Path,
    metadata: &Metadata,
    hard_links: &mut HashMap<(u64, u64), Arc<Content>>,
) -> io::Result<Node> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return Ok(Node::Symlink(
            fs::read_link(path)?.into_os_string().into_vec(),
        ));
    }
    if kind.is_file() {
        let content = || Arc::new(Content::of_file(path.to_owned(), metadata));
        let key = (metadata.dev(), metadata.ino());
        return Ok(Node::File(match metadata.nlink() {
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
    let number = |n| u32::try_from(n).map_err(io::Error::other);
    Ok(Node::Special {
        file_type,
        major: number(u64::from(rustix::fs::major(metadata.rdev())))?,
        minor: number(u64::from(rustix::fs::minor(metadata.rdev())))?,
    })
}

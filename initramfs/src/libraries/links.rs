//! The links that `ldconfig` makes when packages are installed, which the packages themselves may not have: a library's own name
//! beside its file.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::LibraryError;
use super::loader::{Loader, More};
use crate::tree::{Meta, Node, Tree, TreeError};

/// Adds a link by its own name (`DT_SONAME`) beside each library in a directory that everyone searches, where nothing has that
/// name. Of several files the newest version gets it, as with `ldconfig`.
///
/// # Errors
/// A library cannot be read.
pub fn link_sonames(tree: &mut Tree) -> Result<(), LibraryError> {
    for ((dir, name), file) in unnamed(tree)? {
        let path = format!("{dir}/{name}");
        let made = tree.symlink(path.as_bytes(), Meta::root(0o777), file.as_bytes());
        made.map_err(|cause: TreeError| LibraryError::Read {
            path,
            cause: std::io::Error::other(cause),
        })?;
    }
    Ok(())
}

/// Files by directory and the name that nothing there has.
fn unnamed(tree: &Tree) -> Result<BTreeMap<(String, String), String>, LibraryError> {
    let mut loader = Loader::new(tree, &[], More::None)?;
    let mut found: BTreeMap<(String, String), String> = BTreeMap::new();
    for (path, entry) in tree.iter() {
        let (Node::File(content), Ok(path)) = (&entry.node, std::str::from_utf8(path)) else {
            continue;
        };
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_library = name.starts_with("lib") && name.contains(".so");
        if !is_library || !loader.searches(dir) {
            continue;
        }
        let elf = loader.elf(path, content)?;
        let Some(own) = elf.and_then(|it| it.soname.clone()) else {
            continue;
        };
        let is_plain = own.starts_with("lib") && !own.contains('/');
        if !is_plain || tree.get(format!("{dir}/{own}").as_bytes()).is_some() {
            continue;
        }
        let best = found
            .entry((dir.to_owned(), own))
            .or_insert_with(|| name.to_owned());
        if by_version(best, name) == Ordering::Less {
            *best = name.to_owned();
        }
    }
    Ok(found)
}

/// Compares names with numbers in them by their numbers: `libx.so.1.10` is newer than `libx.so.1.9`.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        let parts = text.split(['.', '-']);
        let part = |it: &str| (it.parse().unwrap_or(0), it.to_owned());
        parts.map(part).collect()
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(by_version("libx.so.1.9", "libx.so.1.10"), Ordering::Less);
        assert_eq!(by_version("libx-2.0.so", "libx-1.9.so"), Ordering::Greater);
    }
}

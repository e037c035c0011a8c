//! What lies in a folder of this machine: names, and what `stat` says of each. All cores look, and once: whether a layer must be
//! built again and what it is built of are answered by the same look.
//!
//! Invariant: the order is that of the names, folder by folder, whatever the file system's and the number of cores.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::parallel::{FEW, in_order, workers};

/// Folders that one core reads before it hands over what it found.
const FOLDERS: usize = 64;

/// One entry of a folder.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) path: PathBuf,
    /// Of the entry itself: no link is followed.
    pub(crate) metadata: Metadata,
    /// Where it points, if it is a symbolic link.
    pub(crate) target: Option<OsString>,
}

/// All entries below a folder, each folder before what lies in it.
pub(crate) type Listing = Vec<Listed>;

/// Listings by the folder's path.
pub(crate) type Listings = HashMap<PathBuf, Listing>;

/// A file or folder that cannot be read, and why.
pub(crate) type Unreadable = (PathBuf, io::Error);

/// Looks at all that lies below `folder`. A link may lead to it; those in it are not followed.
///
/// # Errors
/// A folder or entry cannot be read.
pub(crate) fn list(folder: &Path) -> Result<Listing, Unreadable> {
    let mut listing = entries(folder)?;
    let mut looked_at = 0;
    // Level by level: what lies in the folders of one is the next.
    while looked_at < listing.len() {
        let level = listing[looked_at..].iter();
        let level = level.filter(|it| it.metadata.is_dir());
        let folders: Vec<&Path> = level.map(|it| it.path.as_path()).collect();
        let parts: Vec<_> = folders.chunks(FOLDERS).collect();
        let workers = workers().min(parts.len());
        let part = |number: usize| in_all(parts[number]);
        let found = in_order(
            parts.len(),
            workers,
            FEW,
            || part,
            |found| found.collect::<Result<Vec<_>, _>>(),
        )?;
        looked_at = listing.len();
        listing.extend(found.into_iter().flatten());
    }
    Ok(listing)
}

fn in_all(folders: &[&Path]) -> Result<Listing, Unreadable> {
    let mut all = Vec::new();
    for folder in folders {
        all.append(&mut entries(folder)?);
    }
    Ok(all)
}

/// What lies in one folder, by name.
fn entries(folder: &Path) -> Result<Listing, Unreadable> {
    let failed = |cause| (folder.to_owned(), cause);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = joined(folder, &entry.file_name());
        let look = || {
            let metadata = entry.metadata()?;
            let target = match metadata.is_symlink() {
                true => Some(fs::read_link(&path)?.into_os_string()),
                false => None,
            };
            Ok((metadata, target))
        };
        match look() {
            Ok((metadata, target)) => entries.push(Listed {
                path,
                metadata,
                target,
            }),
            Err(cause) => return Err((path, cause)),
        }
    }
    entries.sort_unstable_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(entries)
}

/// `folder/name` without room to grow: trees keep tens of thousands of these.
fn joined(folder: &Path, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::with_capacity(folder.as_os_str().len() + 1 + name.len());
    path.push(folder);
    path.push(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_listing_has_all_that_lies_below_a_folder_by_name_and_level() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["b/deep/deeper", "a", "c"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["z", "b/file", "b/deep/deeper/file", "a/file"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        symlink("b", dir.path().join("link")).unwrap();
        let listing = list(dir.path()).unwrap();
        let paths = listing.iter().map(|it| it.path.strip_prefix(dir.path()));
        let paths: Vec<_> = paths.map(|it| it.unwrap().to_str().unwrap()).collect();
        let wanted = [
            "a",
            "b",
            "c",
            "link",
            "z",
            "a/file",
            "b/deep",
            "b/file",
            "b/deep/deeper",
            "b/deep/deeper/file",
        ];
        assert_eq!(paths, wanted);
        assert_eq!(listing[3].target.as_deref(), Some("b".as_ref()));
    }

    #[test]
    fn more_folders_than_one_core_reads_at_a_time_are_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let name = |number: usize| format!("{number:03}");
        for number in (0..3 * FOLDERS + 1).rev() {
            fs::create_dir_all(dir.path().join(name(number)).join("in")).unwrap();
        }
        let listing = list(dir.path()).unwrap();
        let found = listing.iter().map(|it| it.path.clone());
        let folders = (0..3 * FOLDERS + 1).map(|number| dir.path().join(name(number)));
        let inside = folders.clone().map(|it| it.join("in"));
        assert!(found.eq(folders.chain(inside)));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(list(nowhere).unwrap_err().0, nowhere);
    }
}

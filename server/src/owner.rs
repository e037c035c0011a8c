//! What root makes in a site belongs to whom its folder belongs: the server may be another user, and must read it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Gid, Uid, fchown};

/// Gives `file`, new in `folder`, to the owner of the folder. Only root can, and only root needs to.
///
/// # Errors
/// An owner cannot be read or changed.
pub(crate) fn as_folder(file: &File, folder: &File) -> io::Result<()> {
    let (folder, file_now) = (folder.metadata()?, file.metadata()?);
    if !rustix::process::geteuid().is_root() || folder.uid() == file_now.uid() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(folder.uid()), Gid::from_raw(folder.gid()));
    Ok(fchown(file, Some(uid), Some(gid))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    #[test]
    fn a_file_of_roots_is_given_to_its_folders_owner() {
        let dir = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            chown(dir.path(), Some(4242), Some(4242)).unwrap();
        }
        let file = File::create(dir.path().join("file")).unwrap();
        let folder = File::open(dir.path()).unwrap();
        as_folder(&file, &folder).unwrap();
        let owner = folder.metadata().unwrap().uid();
        assert_eq!(file.metadata().unwrap().uid(), owner);
    }
}

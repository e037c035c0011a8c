//! What root makes in a site belongs to whom its folder belongs: the server may be another user, and must read it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Gid, Uid, fchown};

/// Gives `file` of `folder` to the owner of the folder. Only root can, and only root needs to.
///
/// Whoever owns the folder may have put something else where root opened it. So nothing is given but what is root's: a
/// folder, or a regular file without another name.
///
/// # Errors
/// An owner cannot be read or changed.
pub(crate) fn as_folder(file: &File, folder: &File) -> io::Result<()> {
    let (folder, file_now) = (folder.metadata()?, file.metadata()?);
    let is_plain = file_now.is_dir() || (file_now.is_file() && file_now.nlink() == 1);
    if !rustix::process::geteuid().is_root() || file_now.uid() != 0 || !is_plain {
        return Ok(());
    }
    if folder.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(folder.uid()), Gid::from_raw(folder.gid()));
    Ok(fchown(file, Some(uid), Some(gid))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::chown;

    #[test]
    #[ignore = "needs root: make test"]
    fn what_root_makes_is_given_to_its_folders_owner_and_nothing_else_is() {
        assert!(rustix::process::geteuid().is_root(), "this needs root");
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        chown(&state, Some(4242), Some(4243)).unwrap();
        let folder = File::open(&state).unwrap();
        let owner = |path: &std::path::Path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.uid(), metadata.gid())
        };
        let given = |name: &str| {
            let path = state.join(name);
            as_folder(&File::open(&path).unwrap(), &folder).unwrap();
            owner(&path)
        };
        fs::write(state.join("roots"), "").unwrap();
        assert_eq!(given("roots"), (4242, 4243));
        fs::create_dir(state.join("folder")).unwrap();
        assert_eq!(given("folder"), (4242, 4243));
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "").unwrap();
        fs::hard_link(&elsewhere, state.join("linked")).unwrap();
        assert_eq!(given("linked"), (0, 0), "it has another name");
        fs::write(state.join("others"), "").unwrap();
        chown(state.join("others"), Some(99), Some(99)).unwrap();
        assert_eq!(given("others"), (99, 99));
    }
}

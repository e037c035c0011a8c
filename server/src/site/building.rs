//! A new site while it is made: all of it or nothing.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{FlockOperation, flock};

use super::SiteError;

/// A site that is not ready: a folder beside the final one, so that renaming it is all that is left to do. It is removed
/// when making it fails; what a killed process left is removed by the next one.
pub(super) struct Building {
    pub(super) path: PathBuf,
    parent: PathBuf,
    /// Holds the lock that says somebody works here.
    folder: fs::File,
    done: bool,
}

impl Building {
    pub(super) fn beside(dir: &Path) -> Result<Self, SiteError> {
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).to_owned();
        let mut name = OsString::from(".");
        name.push(dir.file_name().ok_or(SiteError::Exists(dir.into()))?);
        name.push(".towline-init");
        let path = parent.join(name);
        let failed = |cause| SiteError::Make {
            path: path.clone(),
            cause,
        };
        fs::create_dir_all(&parent).map_err(failed)?;
        let folder = loop {
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
            let folder = fs::File::open(&path).map_err(failed)?;
            if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(SiteError::Busy(dir.into()));
            }
            // The one who had the lock may have renamed it to a finished site meanwhile.
            let (locked, named) = (folder.metadata().map_err(failed)?, fs::metadata(&path));
            if named.is_ok_and(|named| named.ino() == locked.ino()) {
                break folder;
            }
        };
        let building = Self {
            path: path.clone(),
            parent,
            folder,
            done: false,
        };
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let removed = if kind.is_dir() {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            };
            removed.map_err(failed)?;
        }
        Ok(building)
    }

    /// Gives the site its name, which must be free or an empty folder's.
    pub(super) fn finish(mut self, dir: &Path) -> Result<(), SiteError> {
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                SiteError::Exists(dir.into())
            }
            _ => SiteError::Make {
                path: dir.into(),
                cause,
            },
        };
        rustix::fs::syncfs(&self.folder).map_err(|errno| failed(errno.into()))?;
        fs::rename(&self.path, dir).map_err(failed)?;
        self.done = true;
        let parent = fs::File::open(&self.parent);
        parent.and_then(|p| p.sync_all()).map_err(failed)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is removed by the next one.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

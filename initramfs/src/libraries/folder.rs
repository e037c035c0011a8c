//! A system in a folder of this machine, looked up as if the folder were the root: absolute links lead nowhere else.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::root::Root;
use crate::content::Content;

/// The folder.
#[derive(Debug)]
pub struct Folder {
    /// Its real path.
    path: PathBuf,
    root: File,
}

impl Folder {
    /// The system in `path`.
    ///
    /// # Errors
    /// It is no folder, or cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        fs::read_dir(&path)?;
        let root = File::open(&path)?;
        Ok(Self { path, root })
    }

    /// Where on this machine `path` leads, as a process would find it whose root the folder is; the kernel follows the links.
    fn real(&self, path: &str) -> io::Result<PathBuf> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found: OwnedFd = openat2(
            &self.root,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )?;
        fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
    }
}

impl Root for Folder {
    fn find(&self, path: &str) -> Option<(String, Arc<Content>)> {
        let real = self.real(path).ok()?;
        let metadata = real.metadata().ok().filter(fs::Metadata::is_file)?;
        let name = real.strip_prefix(&self.path).ok()?.to_str()?.to_owned();
        Some((name, Arc::new(Content::of_file(real, &metadata))))
    }

    fn directory(&self, path: &str) -> Option<String> {
        let real = self.real(path).ok().filter(|it| it.is_dir())?;
        let name = real.strip_prefix(&self.path).ok()?.to_str()?;
        Some(name.to_owned())
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = self.real(path).and_then(fs::read_dir);
        let entries = entries.into_iter().flatten().flatten();
        entries
            .filter_map(|it| it.file_name().into_string().ok())
            .collect()
    }
}

//! A folder beside the results for what is half done, so that finished files are renamed within one file system.
//!
//! An interrupted build leaves its folder behind; the next one in the same place removes it. A lock tells the folders of
//! builds that still run.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

const PREFIX: &str = ".towline-";
const LOCK: &str = "lock";

/// The folder of one build; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    _lock: File,
}

impl Scratch {
    /// A new folder in `out`, and none left of builds that ended early.
    ///
    /// # Errors
    /// It cannot be made, or what is left cannot be removed.
    pub fn new(out: &Path) -> io::Result<Self> {
        sweep(out)?;
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(out)?;
        let lock = File::create_new(dir.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { dir, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the folders in `out` whose builds are gone.
fn sweep(out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // One without a lock is just being made; one that is locked is in use.
        let lock = File::open(entry.path().join(LOCK));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_build_left_is_removed_and_a_running_one_is_not() {
        let out = tempfile::tempdir().unwrap();
        let left = out.path().join(".towline-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), b"").unwrap();
        let running = Scratch::new(out.path()).unwrap();
        let other = Scratch::new(out.path()).unwrap();
        assert!(!left.exists());
        assert!(running.path().exists() && other.path().exists());
        drop((running, other));
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    }
}

//! Makes another directory the root of this machine and starts its init, as switch_root(8) does.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::mount_move;

use super::HandOverError;

/// What is moved into the new root; it was mounted by [`crate::mounts`].
const MOVED: &[&str] = &["dev", "proc", "sys", "run"];

/// The rescue system's init.
const INIT: &str = "/sbin/init";

/// Enters `root` and becomes its init. What the initramfs holds is deleted first: it is memory.
///
/// # Errors
/// A mount cannot be moved, or the init cannot be executed. After that the machine has no way back.
pub fn enter(root: &Path) -> Result<Infallible, HandOverError> {
    let failed = |what| move |cause: io::Error| HandOverError::SwitchRoot { what, cause };
    for name in MOVED {
        let target = root.join(name);
        fs::create_dir_all(&target).map_err(failed("make directories of"))?;
        mount_move(Path::new("/").join(name), &target)
            .map_err(|e| failed("move file systems into")(e.into()))?;
    }
    std::env::set_current_dir(root).map_err(failed("enter"))?;
    let old = fs::metadata("/")
        .map_err(failed("leave the initramfs for"))?
        .dev();
    if old != fs::metadata(".").map_err(failed("enter"))?.dev() {
        empty(Path::new("/"), old);
    }
    mount_move(".", "/").map_err(|e| failed("move")(e.into()))?;
    rustix::process::chroot(".").map_err(|e| failed("change into")(e.into()))?;
    std::env::set_current_dir("/").map_err(failed("enter"))?;
    become_init()
}

/// Becomes the init of the root as it is.
///
/// # Errors
/// It cannot be executed.
pub fn become_init() -> Result<Infallible, HandOverError> {
    let cause = Command::new(INIT)
        .env_clear()
        .env("PATH", crate::roles::PATH)
        .exec();
    Err(HandOverError::SwitchRoot {
        what: "start /sbin/init in",
        cause,
    })
}

/// Deletes everything below `directory` that is on the file system `device`. What cannot be deleted keeps its memory.
fn empty(directory: &Path, device: u64) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            empty(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptying_stays_on_its_file_system_and_follows_no_link() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("kept"), "").unwrap();
        fs::create_dir_all(inside.path().join("a/b")).unwrap();
        fs::write(inside.path().join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).unwrap();
        let device = fs::metadata(inside.path()).unwrap().dev();
        empty(inside.path(), device + 1);
        assert!(inside.path().join("a/b/file").exists());
        empty(inside.path(), device);
        assert_eq!(fs::read_dir(inside.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}

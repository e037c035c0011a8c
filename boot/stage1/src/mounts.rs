//! The file systems that any program expects, mounted by whoever is PID 1.
//!
//! Nothing is mounted twice: after a hand-over in place they are there already. What lies in `/run` before it is mounted
//! (the hand-over note, credentials) is carried over.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A file system that could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {kind} at {path}")]
pub struct MountError {
    kind: &'static str,
    path: &'static str,
    #[source]
    cause: io::Error,
}

/// One mount, in the order of [`MOUNTS`].
struct Mount {
    kind: &'static str,
    path: &'static str,
    flags: MountFlags,
    data: &'static std::ffi::CStr,
}

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// What must be there, in this order. The options are those of Debian's initramfs-tools and systemd.
const MOUNTS: &[Mount] = &[
    Mount {
        kind: "proc",
        path: "/proc",
        flags: NO_PROGRAMS,
        data: c"",
    },
    Mount {
        kind: "sysfs",
        path: "/sys",
        flags: NO_PROGRAMS,
        data: c"",
    },
    Mount {
        kind: "devtmpfs",
        path: "/dev",
        flags: MountFlags::NOSUID,
        data: c"mode=755",
    },
    Mount {
        kind: "devpts",
        path: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: c"gid=5,mode=620,ptmxmode=666",
    },
    Mount {
        kind: "tmpfs",
        path: "/dev/shm",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: c"mode=1777",
    },
    Mount {
        kind: "tmpfs",
        path: "/run",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: c"mode=755",
    },
];

/// Links that shells and programs expect and devtmpfs lacks: without `/dev/fd`, bash's `< <(...)` fails and ReaR writes
/// an empty layout.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Mounts all that is not mounted yet.
///
/// # Errors
/// The first that cannot be mounted.
pub fn mount_all() -> Result<(), MountError> {
    for it in MOUNTS {
        let failed = |cause| MountError {
            kind: it.kind,
            path: it.path,
            cause,
        };
        mount_one(it).map_err(failed)?;
    }
    for (link, target) in DEVICE_LINKS {
        // Already there, or the next program to miss it says so.
        let _ = symlink(target, link);
    }
    make_tmp();
    mount_firmware_variables();
    Ok(())
}

fn mount_one(it: &Mount) -> io::Result<()> {
    let path = Path::new(it.path);
    fs::create_dir_all(path)?;
    if is_mount_point(path)? {
        return Ok(());
    }
    let carried = Carried::from(path);
    mount(it.kind, path, it.kind, it.flags, it.data)?;
    carried.into_directory(path)
}

/// Whether a file system is mounted at `path`.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    let parent = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

/// Unmounts everything at and below `directory`: what an attempt that failed left behind, and its memory.
pub fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let below: Vec<_> = points
        .filter(|point| Path::new(point).starts_with(directory))
        .collect();
    for point in below.into_iter().rev() {
        // Detached now, gone when nothing is open there any more.
        let _ = unmount(point, UnmountFlags::DETACH);
    }
}

/// `/tmp` may be a plain directory; it only has to be open to all.
fn make_tmp() {
    let everyone = fs::Permissions::from_mode(0o1777);
    // A read-only root has its own; who needs it says so.
    let _ = fs::create_dir_all("/tmp").and_then(|()| fs::set_permissions("/tmp", everyone));
}

/// UEFI variables, which `efibootmgr` and `grub-install` need; absent on BIOS machines.
fn mount_firmware_variables() {
    let path = "/sys/firmware/efi/efivars";
    if Path::new(path).is_dir() {
        // Firmware without runtime services has none; the boot loader's installation says so later.
        let _ = mount("efivarfs", path, "efivarfs", NO_PROGRAMS, c"");
    }
}

/// Regular files and directories held in memory while something is mounted over them.
#[derive(Debug, Default)]
struct Carried(Vec<(PathBuf, u32, Option<Vec<u8>>)>);

impl Carried {
    /// What is in `directory`. Only `/run` has anything; it is small.
    fn from(directory: &Path) -> Self {
        let mut carried = Self::default();
        if directory == Path::new("/run") {
            carried.add(directory, Path::new(""));
        }
        carried
    }

    fn add(&mut self, directory: &Path, below: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), below.join(entry.file_name()));
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let mode = metadata.permissions().mode() & 0o777;
            if metadata.is_dir() {
                self.0.push((name.clone(), mode, None));
                self.add(&path, &name);
            } else if let (true, Ok(bytes)) = (metadata.is_file(), fs::read(&path)) {
                self.0.push((name, mode, Some(bytes)));
            }
        }
    }

    fn into_directory(self, directory: &Path) -> io::Result<()> {
        for (name, mode, bytes) in self.0 {
            let path = directory.join(name);
            match bytes {
                None => fs::create_dir_all(&path)?,
                Some(bytes) => fs::write(&path, bytes)?,
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// Copies the files below `from` to `to`, which may have some of them.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn carry_over(from: &Path, to: &Path) -> io::Result<()> {
    let mut carried = Carried::default();
    carried.add(from, Path::new(""));
    carried.into_directory(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_over_keeps_its_content_and_its_mode() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = from.path().join("towline/credentials/token");
        fs::create_dir_all(secret.parent().unwrap()).unwrap();
        fs::write(&secret, "x").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        carry_over(from.path(), to.path()).unwrap();
        let copy = to.path().join("towline/credentials/token");
        assert_eq!(fs::read(&copy).unwrap(), b"x");
        assert_eq!(
            fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_mounted_directory_is_told_from_a_plain_one() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/usr/bin")).unwrap());
    }
}

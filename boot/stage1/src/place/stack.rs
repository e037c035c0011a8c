//! Images as one tree: each mounted read-only by a loop device, stacked under an overlay in the order they come in.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::PlaceError;
use super::loop_device::attach;

/// Mounts `images`, the lowest first, under `state/mounts` and their stack, with `state/upper` over it, on `state/root`; gives that path.
/// `state` is on a file system in memory.
///
/// # Errors
/// A driver (loop, squashfs, overlay) is missing, or an image is none.
pub fn mount_images(images: &[PathBuf], state: &Path) -> Result<PathBuf, PlaceError> {
    let mut lower = Vec::new();
    for image in images {
        let target = mount_point(image, state);
        make(&target)?;
        mount_image(image, &target)?;
        lower.push(target);
    }
    let (root, upper, work) = (state.join("root"), state.join("upper"), state.join("work"));
    for dir in [&root, &upper, &work] {
        make(dir)?;
    }
    // The first in the list is the uppermost.
    lower.reverse();
    let mut options = b"lowerdir=".to_vec();
    options.extend(
        lower
            .iter()
            .map(|path| path.as_os_str().as_bytes())
            .collect::<Vec<_>>()
            .join(&b':'),
    );
    for (name, path) in [(",upperdir=", &upper), (",workdir=", &work)] {
        options.extend(name.as_bytes());
        options.extend(path.as_os_str().as_bytes());
    }
    let options =
        CString::new(options).map_err(|error| failed("stack images on", &root, error.into()))?;
    mount(
        "overlay",
        &root,
        "overlay",
        MountFlags::empty(),
        Some(options.as_c_str()),
    )
    .map_err(|errno| failed("stack images on", &root, errno.into()))?;
    Ok(root)
}

/// Unmounts what [`mount_images`] mounted, if anything; the memory of the images can be given back then.
pub(super) fn unmount_images(images: &[PathBuf], state: &Path) {
    let points = images.iter().map(|image| mount_point(image, state));
    for point in std::iter::once(state.join("root")).chain(points) {
        // Not mounted, when no plain layer came.
        let _ = unmount(&point, UnmountFlags::DETACH);
    }
}

/// Where an image is mounted.
fn mount_point(image: &Path, state: &Path) -> PathBuf {
    state
        .join("mounts")
        .join(image.file_stem().unwrap_or_default())
}

fn mount_image(image: &Path, target: &Path) -> Result<(), PlaceError> {
    let device = attach(image).map_err(|cause| failed("attach a loop device to", image, cause))?;
    mount(
        device.path(),
        target,
        "squashfs",
        MountFlags::RDONLY,
        None::<&std::ffi::CStr>,
    )
    .map_err(|errno| failed("mount the image on", target, errno.into()))
}

fn make(dir: &Path) -> Result<(), PlaceError> {
    fs::create_dir_all(dir).map_err(|cause| failed("make", dir, cause))
}

fn failed(what: &'static str, path: &Path, cause: std::io::Error) -> PlaceError {
    PlaceError::Mount {
        what,
        path: path.display().to_string(),
        cause,
    }
}

//! A chain that a boot loader or kexec has put into the initramfs: becomes the rescue system's root.
//!
//! The kernel has unpacked every layer into the initramfs. Images lie in `/towline/images` and are stacked under an
//! overlay; the plain files of the other layers are moved over them. Without images the initramfs is the root already.
//! Whoever loaded the layers has checked them, where each entry lies included: stage 1 before kexec ([`crate::place::kexec`]),
//! or nobody, when a boot loader took public ones. Which layer brought a file cannot be told any more here.

use std::convert::Infallible;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use towline_contract::handover::IMAGES_DIR;
use towline_contract::manifest::image_kind;

use crate::boot::IMAGE_MODULES;
use crate::command_line::CommandLine;
use crate::console::Console;
use crate::failure::joined;
use crate::handover::HandOverError;
use crate::handover::switch_root::{become_init, enter};
use crate::modules::{Loader, ModuleError};
use crate::mounts::MountError;
use crate::place::{Mounting, PlaceError, Root, mount_images};
use crate::progress::Progress as _;
use crate::{machine, mounts, power};

/// Where the root is put together.
const PLACE: &str = "/towline-root";

/// What stays in the initramfs: file systems, this program and the images, and the parts of a kernel layer that only a
/// boot loader and this program need; the image has them complete.
const LEFT: &[&str] = &[
    "boot",
    "dev",
    "init",
    "lib/modules",
    "proc",
    "run",
    "sys",
    "towline",
    "towline-root",
    "usr/lib/modules",
];

/// How long a failure stays on the screen before the machine restarts.
const FAILURE_WAIT: Duration = Duration::from_secs(120);

/// Becomes the rescue system; restarts the machine when that fails.
pub async fn run(console: &Console) -> Infallible {
    loop {
        let Err(error) = assemble(console);
        let seconds = FAILURE_WAIT.as_secs();
        console.failure(&format!(
            "FAILED: the layers in this initramfs cannot be started\n  because: {}\n  \
             next: check that the boot loader loaded all of them; the machine restarts in {seconds} s",
            joined(&error)
        ));
        tokio::time::sleep(FAILURE_WAIT).await;
        let _ = power::run(power::Command::Reboot);
    }
}

/// Why the layers cannot be put together.
#[derive(Debug, thiserror::Error)]
enum AssembleError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("cannot list the images in /{IMAGES_DIR}")]
    Images(#[source] io::Error),
    #[error("there are no modules for this kernel, {release}, to mount images with")]
    Modules {
        release: String,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("cannot move the plain layers over the images")]
    Move(#[source] io::Error),
    #[error(transparent)]
    HandOver(#[from] HandOverError),
}

fn assemble(console: &Console) -> Result<Infallible, AssembleError> {
    mounts::mount_all()?;
    let images = images(&Path::new("/").join(IMAGES_DIR)).map_err(AssembleError::Images)?;
    if images.is_empty() {
        console.step(format_args!("starting the rescue system"));
        return Ok(become_init()?);
    }
    console.step(format_args!(
        "starting the rescue system from {} images",
        images.len()
    ));
    load_modules()?;
    let state = Path::new(PLACE);
    Root::create(state, Mounting::Real)?;
    let root = mount_images(&images, state)?;
    move_over(Path::new("/"), Path::new(""), &root).map_err(AssembleError::Move)?;
    Ok(enter(&root)?)
}

/// The images in `directory`, lowest first: the kernel's, then the base's, as in any chain. Other names are no images.
fn images(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut images = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = format!("{IMAGES_DIR}/{}", entry.file_name().to_string_lossy());
        if let Some(kind) = image_kind(&name) {
            images.push((kind, entry.path()));
        }
    }
    // Kinds are in the order of a chain.
    images.sort();
    Ok(images.into_iter().map(|(_, path)| path).collect())
}

fn load_modules() -> Result<(), AssembleError> {
    let missing = |cause| AssembleError::Modules {
        release: machine::kernel_release(),
        cause,
    };
    // A word that is not understood must not keep a chain from starting that is there already.
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let command_line = CommandLine::parse(&command_line).unwrap_or_default();
    let mut loader = Loader::open(&command_line).map_err(missing)?;
    for module in IMAGE_MODULES {
        loader.load(module)?;
    }
    Ok(())
}

/// Moves the plain files at and below `from/below` to `to`. Never through a link of the images: a directory of a layer
/// where an image has a link is an error, unless nothing is left in it.
fn move_over(from: &Path, below: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from.join(below))? {
        let entry = entry?;
        let below = below.join(entry.file_name());
        if LEFT.iter().any(|left| below == Path::new(left)) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&below));
        let metadata = entry.metadata()?;
        if !metadata.is_dir() {
            replace(&source, &metadata, &target).map_err(|e| naming(&target, &e))?;
            continue;
        }
        match fs::symlink_metadata(&target) {
            Ok(it) if it.is_dir() => move_over(from, &below, to)?,
            Ok(_) if !has_more(from, &below)? => {}
            Ok(_) => return Err(naming(&target, &io::ErrorKind::NotADirectory.into())),
            Err(_) => {
                fs::create_dir(&target)?;
                same_attributes(&metadata, &target)?;
                move_over(from, &below, to)?;
            }
        }
    }
    Ok(())
}

/// Whether anything below `from/below` would be moved.
fn has_more(from: &Path, below: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(from.join(below))? {
        let entry = entry?;
        let below = below.join(entry.file_name());
        if LEFT.iter().any(|left| below == Path::new(left)) {
            continue;
        }
        if !entry.file_type()?.is_dir() || has_more(from, &below)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts one file, link or node in place of whatever is at `target`, and deletes its source: both are memory.
fn replace(source: &Path, metadata: &Metadata, target: &Path) -> io::Result<()> {
    match fs::remove_file(target) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let kind = FileType::from_raw_mode(metadata.mode());
    match kind {
        FileType::Symlink => {
            symlink(fs::read_link(source)?, target)?;
            lchown(target, Some(metadata.uid()), Some(metadata.gid()))?;
        }
        FileType::RegularFile => {
            fs::copy(source, target)?;
            same_attributes(metadata, target)?;
        }
        kind => {
            mknodat(
                CWD,
                target,
                kind,
                Mode::from_raw_mode(metadata.mode()),
                metadata.rdev(),
            )?;
            same_attributes(metadata, target)?;
        }
    }
    fs::remove_file(source)
}

fn same_attributes(metadata: &Metadata, target: &Path) -> io::Result<()> {
    // The owner first: changing it clears set-id bits.
    chown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    fn moved(from: &tempfile::TempDir, to: &tempfile::TempDir) -> io::Result<()> {
        move_over(from.path(), Path::new(""), to.path())
    }

    #[test]
    fn plain_files_replace_those_of_the_images_and_leave_the_initramfs() {
        let from = tree(&["etc/hostname", "usr/bin/agent", "init", "towline/stamp"]);
        let to = tree(&["etc/hostname", "usr/bin/bash"]);
        fs::write(from.path().join("etc/hostname"), "web-1").unwrap();
        moved(&from, &to).unwrap();
        assert_eq!(fs::read(to.path().join("etc/hostname")).unwrap(), b"web-1");
        assert!(
            to.path().join("usr/bin/agent").exists() && to.path().join("usr/bin/bash").exists()
        );
        assert!(!from.path().join("usr/bin/agent").exists());
        assert!(from.path().join("init").exists() && !to.path().join("init").exists());
    }

    #[test]
    fn a_kernel_layers_own_modules_do_not_hide_the_complete_ones_behind_a_link() {
        let from = tree(&["lib/modules/6.1/modules.dep"]);
        let to = tree(&["usr/lib/modules/6.1/modules.dep"]);
        symlink("usr/lib", to.path().join("lib")).unwrap();
        moved(&from, &to).unwrap();
        assert!(
            fs::symlink_metadata(to.path().join("lib"))
                .unwrap()
                .is_symlink()
        );
    }

    #[test]
    fn nothing_is_moved_through_a_link() {
        let from = tree(&["lib/agent.so"]);
        let to = tree(&["usr/lib/x"]);
        symlink("usr/lib", to.path().join("lib")).unwrap();
        let error = moved(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert!(!to.path().join("usr/lib/agent.so").exists());
    }

    #[test]
    fn a_kernels_image_lies_below_the_bases_whatever_their_numbers() {
        let images_of = |names: &[&str]| {
            let root = tree(names);
            let found = images(root.path()).unwrap().into_iter();
            found
                .map(|it| it.file_name().unwrap().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            images_of(&[
                "10-base.squashfs",
                "99-kernel.squashfs",
                "30-agent.squashfs"
            ]),
            ["99-kernel.squashfs", "10-base.squashfs"]
        );
        assert!(images(Path::new("/no/such/directory")).unwrap().is_empty());
    }

    #[test]
    fn modes_survive_the_move() {
        let (from, to) = (tree(&["usr/bin/agent"]), tree(&["x"]));
        let path = from.path().join("usr/bin/agent");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        moved(&from, &to).unwrap();
        let mode = fs::metadata(to.path().join("usr/bin/agent"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o750);
    }
}

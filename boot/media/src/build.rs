//! Building the medium: the same packages and the same stage 1 give the same bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use towline_contract::newc::NewcError;
use towline_initramfs::apt::AptError;
use towline_initramfs::content::Content;
use towline_initramfs::deb::DebError;
use towline_initramfs::kernel::KernelError;
use towline_initramfs::scratch::Scratch;
use towline_initramfs::tree::TreeError;
use towline_initramfs::write::WriteError;

use crate::area::{AreaError, Image};
use crate::iso::{self, Files};
use crate::sources::Sources;
use crate::{grub, initrd};

/// Largest medium, in bytes: what a management processor's virtual CD loads in good time, and room in a small stick.
pub const MEDIUM_BYTES_MAX: u64 = 36 << 20;

/// Largest stage 1, in bytes.
const STAGE1_BYTES_MAX: u64 = 16 << 20;

/// Why no medium was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Packages cannot be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A package cannot be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The kernel cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A file does not fit into the initrd.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The initrd cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The stamp's archive cannot be written.
    #[error(transparent)]
    Newc(#[from] NewcError),
    /// A pattern of this program is wrong.
    #[error(transparent)]
    Glob(#[from] globset::Error),
    /// A program is not installed.
    #[error("cannot run {program} (Debian package {package})")]
    NoTool {
        /// The program.
        program: &'static str,
        /// Its package.
        package: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {talk}")]
    Tool {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        talk: String,
    },
    /// The packages lack a file.
    #[error("the boot loaders' packages have no {0}")]
    NoFile(String),
    /// Stage 1 is no static program for this architecture.
    #[error("{path} cannot be stage 1: {what}")]
    Stage1 {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A time that no date has.
    #[error("{0} seconds since 1970 is no time")]
    Time(u32),
    /// A temporary file.
    #[error("cannot make a temporary file")]
    Temporary(#[source] io::Error),
    /// A file cannot be used.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// What was built has not exactly one stamp area.
    #[error("what was built cannot be stamped")]
    Area(#[from] AreaError),
    /// The medium is too large.
    #[error("the medium has {bytes} bytes, more than {MEDIUM_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
}

impl BuildError {
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { what, path, cause }
    }
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// Size of the image, in bytes.
    pub bytes: u64,
    /// Release of its kernel.
    pub kernel_release: String,
    /// Number of kernel modules in it.
    pub modules: usize,
    /// Its time, in seconds since 1970: the newest in the packages.
    pub time: u32,
}

/// Builds the medium with the program `stage1` as PID 1 to `out`; packages are kept in `cache`. `talk` gets a line a step.
///
/// `out` is replaced only by a finished image. All that is half done lies in a [`Scratch`] beside it, so that what an
/// interrupted build left goes with the next one.
///
/// # Errors
/// See [`BuildError`].
pub fn build(
    stage1: &Path,
    cache: &Path,
    out: &Path,
    talk: &dyn Fn(&str),
) -> Result<Built, BuildError> {
    let stage1 = read_stage1(stage1)?;
    let folder = out
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let work = Scratch::new(folder).map_err(BuildError::file("write to", folder))?;
    talk("packages of kernel and boot loaders");
    let sources = Sources::get(cache)?;
    let time = sources.time;
    let files = Files::new(work.path().join("iso"), time)?;

    talk(&format!(
        "initrd with the drivers of kernel {}",
        sources.kernel.release
    ));
    let modules = initrd::write_stage1(
        &sources.kernel,
        stage1,
        time,
        &files.path("boot/stage1.img")?,
    )?;
    files.write("boot/stamp.img", &Content::from_bytes(initrd::stamp(time)?))?;
    files.write("boot/vmlinuz", sources.kernel.image())?;
    files.write(
        "boot/grub/grub.cfg",
        &Content::from_bytes(grub::menu().into_bytes()),
    )?;
    let info = format!(
        "Towline {} {}\n",
        env!("CARGO_PKG_VERSION"),
        sources.kernel.release
    );
    files.write(".disk/info", &Content::from_bytes(info.into_bytes()))?;

    talk("boot loaders for BIOS, UEFI and Secure Boot");
    let (bios, sector) = grub::bios(&sources, work.path())?;
    let bios_path = files.path("boot/grub/eltorito.img")?;
    std::fs::copy(&bios, &bios_path).map_err(BuildError::file("write", &bios_path))?;
    let esp = iso::efi_partition(&sources, work.path())?;

    talk("hybrid image");
    let image = tempfile::Builder::new()
        .suffix(".iso")
        .tempfile_in(work.path())
        .map_err(BuildError::file("write to", work.path()))?;
    iso::write(&files, &sector, &esp, time, image.path())?;
    let bytes = finish(image, out)?;
    Ok(Built {
        bytes,
        kernel_release: sources.kernel.release.clone(),
        modules,
        time,
    })
}

/// Checks the image and gives it its name.
fn finish(image: tempfile::NamedTempFile, out: &Path) -> Result<u64, BuildError> {
    use std::os::unix::fs::PermissionsExt;
    let bytes = image
        .path()
        .metadata()
        .map_err(BuildError::file("read", image.path()))?
        .len();
    if bytes > MEDIUM_BYTES_MAX {
        return Err(BuildError::TooLarge { bytes });
    }
    Image::open(image.path())?.settings()?;
    // A token may be stamped on it later: it is its owner's alone.
    std::fs::set_permissions(image.path(), std::fs::Permissions::from_mode(0o600))
        .map_err(BuildError::file("write", image.path()))?;
    image
        .as_file()
        .sync_all()
        .map_err(BuildError::file("write", out))?;
    image
        .persist(out)
        .map_err(|error| BuildError::file("write", out)(error.error))?;
    Ok(bytes)
}

/// Reads stage 1 and refuses what the kernel could not start as PID 1 on an empty file system.
fn read_stage1(path: &Path) -> Result<Content, BuildError> {
    let refuse = |what: String| BuildError::Stage1 {
        path: path.to_owned(),
        what,
    };
    let bytes = path
        .metadata()
        .map_err(BuildError::file("read", path))?
        .len();
    if bytes > STAGE1_BYTES_MAX {
        return Err(refuse(format!(
            "it has {bytes} bytes, more than {STAGE1_BYTES_MAX}"
        )));
    }
    let program = std::fs::read(path).map_err(BuildError::file("read", path))?;
    check_program(&program).map_err(|what| refuse(what.to_owned()))?;
    Ok(Content::from_bytes(program))
}

/// Checks that the file at `path` is a program that can be stage 1: static, for x86-64.
///
/// # Errors
/// It is not, or cannot be read.
pub fn check_stage1(path: &Path) -> Result<(), BuildError> {
    read_stage1(path).map(drop)
}

/// ELF header and program headers by elf(5): 64 bit, little endian, x86-64, without an interpreter.
fn check_program(program: &[u8]) -> Result<(), &'static str> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = program.get(at..at.checked_add(bytes)?)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |sum, byte| (sum << 8) | usize::from(*byte)),
        )
    };
    if !program.starts_with(b"\x7fELF\x02\x01") || number(18, 2) != Some(62) {
        return Err("it is no program for x86-64");
    }
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return Err("its ELF header is cut off");
    };
    for index in 0..count {
        let kind = table.checked_add(index * size).and_then(|at| number(at, 4));
        match kind {
            None => return Err("its program headers are cut off"),
            Some(kind) if kind == PT_INTERP as usize => {
                return Err("it is not linked statically");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_libraries_is_refused_as_stage_1() {
        let this_test = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(
            check_program(&this_test)
                .unwrap_err()
                .contains("statically")
        );
        assert!(check_program(b"#!/bin/sh\n").is_err());
        assert!(check_program(&this_test[..60]).is_err());
    }
}

//! Why a kernel's modules cannot be had.

use std::io;
use std::path::PathBuf;

use crate::deb::DebError;
use crate::initrd::InitrdError;
use crate::squashfs::SquashfsError;
use crate::tree::TreeError;

/// Why a kernel's modules cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The package cannot be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The initramfs cannot be unpacked.
    #[error(transparent)]
    Initrd(#[from] InitrdError),
    /// The live image cannot be unpacked.
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    /// The package has no kernel, or more than one.
    #[error("{path} is no kernel package: {what}")]
    NoKernel {
        /// The package file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The initramfs or live image has no modules, or those of several kernels.
    #[error("{path} should have the modules of one kernel, and has {found}")]
    NoModules {
        /// The file.
        path: PathBuf,
        /// Whose modules it has.
        found: String,
    },
    /// The kernel image cannot be read.
    #[error("cannot read kernel image {path}")]
    Image {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Image and modules are not of one kernel.
    #[error("kernel image {image} is {of}, and the modules in {file} are for {modules}")]
    OtherKernel {
        /// The kernel image.
        image: PathBuf,
        /// Its release.
        of: String,
        /// What has the modules.
        file: PathBuf,
        /// The release that its modules are for.
        modules: String,
    },
    /// A configuration cannot be read.
    #[error("cannot read kernel configuration {path}")]
    Config {
        /// Its path among the kernel's files.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A module cannot be read.
    #[error("cannot read kernel module {module}")]
    Module {
        /// Its path below `kernel/`.
        module: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A line of the selection that names nothing.
    #[error("kernel {release} has no module {name:?}")]
    Unknown {
        /// Release of the kernel.
        release: String,
        /// The line.
        name: String,
    },
    /// A glob that is not valid.
    #[error(transparent)]
    Glob(#[from] globset::Error),
    /// `depmod` cannot be run or says no.
    #[error("depmod (Debian package kmod) failed: {0}")]
    Depmod(String),
    /// A temporary file.
    #[error("cannot write the modules for depmod")]
    Temporary(#[source] io::Error),
    /// An entry does not fit.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

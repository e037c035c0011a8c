//! Why packages cannot be had.

use std::io;
use std::path::PathBuf;

use towline_contract::Digest;

use super::lists::LISTS;

/// Why packages cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// There is no `apt-get` here.
    #[error("cannot run {program}; packages by name need a Debian or Ubuntu machine")]
    NoApt {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The lists of what the archive has are missing.
    #[error("this machine has no package lists in {LISTS}")]
    NoLists,
    /// apt does not know a package, or cannot resolve.
    #[error("apt cannot resolve {packages}: {talk}")]
    Unresolved {
        /// What was asked for.
        packages: String,
        /// Its errors, one line.
        talk: String,
    },
    /// A package that is no kernel and does not depend on exactly one.
    #[error("{package} depends on {found} kernel packages, and should on one")]
    NoKernel {
        /// The package.
        package: String,
        /// How many.
        found: usize,
    },
    /// The archive cannot be reached, or no longer has what the lists name.
    #[error("cannot download {files} packages: {talk}")]
    Download {
        /// How many were missing here.
        files: usize,
        /// apt's errors, one line.
        talk: String,
    },
    /// The newest lists cannot be had.
    #[error("cannot get the archives' newest package lists: {0}")]
    Update(String),
    /// Old packages cannot be removed.
    #[error("cannot remove packages that no archive has any more: {0}")]
    Clean(String),
    /// Another build has the folder for downloads.
    #[error("another build had {path} locked for {seconds} seconds, and has it still")]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// How long that was waited for.
        seconds: u64,
    },
    /// A package that the archive lists without a SHA-256.
    #[error("the archive has no SHA-256 for {0}")]
    NoDigest(String),
    /// A downloaded file is not the one that the archive's signed list names.
    #[error("{file} has SHA-256 {found}, but the signed package list says {wanted}")]
    Digest {
        /// The file.
        file: String,
        /// Its digest.
        found: Digest,
        /// The digest in the list.
        wanted: Digest,
    },
    /// A file or folder cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

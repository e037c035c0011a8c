//! Packages from the distribution's archive, by `apt-get`: it resolves, downloads and checks the archive's signatures.
//!
//! The closure is that of an empty machine, whatever is installed here, and needs no root: apt gets an empty status file
//! and our own folder for downloads. Packages to be left out are shown to it as installed, so that what only they need
//! stays out too. Every file, downloaded now or found in the folder, is checked against the SHA-256 in the signed lists:
//! apt itself takes a file of the right name and size as it is.
//!
//! The lists are the machine's own, which root keeps; or those that [`Apt::update`] has put into the folder for downloads.

mod dated;
mod downloads;
mod error;
mod listed;
mod lists;
mod lock;
mod run;
mod status;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;
use towline_contract::Digest;

use downloads::Download;
pub use error::AptError;
pub use listed::Listed;

/// Folder below the cache that stays empty: apt does not list the addresses of files that its folder has already.
const NOTHING: &str = "nothing";

/// A folder of downloaded packages, shared by all builds of a user.
#[derive(Debug)]
pub struct Apt {
    cache: PathBuf,
    /// How long it waits for the folder.
    patience: Duration,
}

impl Apt {
    /// Uses `cache` for downloads; it is made if need be.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(cache: &Path) -> Result<Self, AptError> {
        for dir in [cache.join("partial"), cache.join(NOTHING).join("partial")] {
            fs::create_dir_all(&dir).map_err(|cause| AptError::File { path: dir, cause })?;
        }
        // For apt, a relative path is one below its own folders.
        let cache = cache.canonicalize().map_err(|cause| AptError::File {
            path: cache.to_owned(),
            cause,
        })?;
        Ok(Self {
            cache,
            patience: lock::PATIENCE,
        })
    }

    /// Removes downloaded packages that no archive has any more.
    ///
    /// # Errors
    /// See [`AptError`].
    pub fn forget_old(&self) -> Result<(), AptError> {
        let _lock = self.lock()?;
        let nothing = self.pretend_installed(&[])?;
        let done = self.run("apt-get", &nothing, &["-qq", "autoclean"], &[])?;
        done.map(|_| ()).map_err(AptError::Clean)
    }

    /// What [`Apt::closure`] would give, by name and version; nothing is downloaded.
    ///
    /// # Errors
    /// See [`AptError`].
    pub fn listed(&self, packages: &[String], without: &[String]) -> Result<Vec<Listed>, AptError> {
        let _lock = self.lock()?;
        let status = self.pretend_installed(without)?;
        let downloads = self.resolve(packages, &status)?;
        Ok(downloads.iter().filter_map(|it| it.listed()).collect())
    }

    /// Names and digests of the files that [`Apt::closure`] would give; nothing is downloaded.
    ///
    /// # Errors
    /// See [`AptError`].
    pub fn files(
        &self,
        packages: &[String],
        without: &[String],
    ) -> Result<Vec<(String, Digest)>, AptError> {
        let _lock = self.lock()?;
        let status = self.pretend_installed(without)?;
        let downloads = self.resolve(packages, &status)?;
        Ok(downloads
            .into_iter()
            .map(|it| (it.file, it.digest))
            .collect())
    }

    /// The package files of `packages` and all they depend on (recommendations are not followed), less `without` and
    /// what only those need; sorted by file name. Downloads what the folder does not have.
    ///
    /// # Errors
    /// See [`AptError`].
    pub fn closure(
        &self,
        packages: &[String],
        without: &[String],
    ) -> Result<Vec<PathBuf>, AptError> {
        let _lock = self.lock()?;
        let status = self.pretend_installed(without)?;
        let downloads = self.resolve(packages, &status)?;
        self.fetch(&downloads, packages, &status)
    }

    /// The package files of just these packages, without anything they depend on.
    ///
    /// # Errors
    /// See [`AptError`].
    pub fn only(&self, packages: &[String]) -> Result<Vec<PathBuf>, AptError> {
        let _lock = self.lock()?;
        let nothing = self.pretend_installed(&[])?;
        let closure = self.resolve(packages, &nothing)?;
        let names = closure
            .iter()
            .map(Download::package)
            .filter(|name| !packages.iter().any(|p| p == name));
        let status = self.pretend_installed(&names.map(str::to_owned).collect::<Vec<_>>())?;
        let downloads = self.resolve(packages, &status)?;
        self.fetch(&downloads, packages, &status)
    }

    /// The package file of the kernel that `package` is or depends on.
    ///
    /// # Errors
    /// See [`AptError`]; also when there is none, or more than one.
    pub fn kernel(&self, package: &str) -> Result<PathBuf, AptError> {
        let nothing = self.pretend_installed(&[])?;
        let closure = self.resolve(&[package.to_owned()], &nothing)?;
        let kernels: Vec<_> = closure
            .iter()
            .map(Download::package)
            .filter(|name| listed::is_kernel(name))
            .collect();
        let no_kernel = || AptError::NoKernel {
            package: package.to_owned(),
            found: kernels.len(),
        };
        let [kernel] = kernels.as_slice() else {
            return Err(no_kernel());
        };
        let files = self.only(&[(*kernel).to_owned()])?;
        files.into_iter().next().ok_or_else(no_kernel)
    }

    /// A status file in which `packages` are installed, in the versions that would be.
    fn pretend_installed(&self, packages: &[String]) -> Result<NamedTempFile, AptError> {
        let failed = |cause| AptError::File {
            path: self.cache.clone(),
            cause,
        };
        let mut file = NamedTempFile::new_in(&self.cache).map_err(failed)?;
        if !packages.is_empty() {
            let shown = self.run(
                "apt-cache",
                &file,
                &["show", "--no-all-versions", "--"],
                packages,
            );
            let shown = shown?.map_err(|talk| unresolved(packages, talk))?;
            file.write_all(status::file(&shown).as_bytes())
                .map_err(failed)?;
        }
        Ok(file)
    }
}

fn unresolved(packages: &[String], talk: String) -> AptError {
    AptError::Unresolved {
        packages: packages.join(" "),
        talk,
    }
}

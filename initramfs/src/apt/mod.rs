//! Packages from the distribution's archive, by `apt-get`: it resolves, downloads and checks the archive's signatures.
//!
//! The closure is that of an empty machine, whatever is installed here, and needs no root: apt gets an empty status file
//! and our own folder for downloads. Packages to be left out are shown to it as installed, so that what only they need
//! stays out too. Every file, downloaded now or found in the folder, is checked against the SHA-256 in the signed lists:
//! apt itself takes a file of the right name and size as it is.
//!
//! The lists are the machine's own, which root keeps; or those that [`Apt::update`] has put into the folder for downloads.

mod dated;
mod listed;
mod lock;
mod run;
mod status;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;
use towline_contract::digest::Hasher;
use towline_contract::{Digest, Timestamp};

pub use listed::Listed;

/// Folder below the cache that stays empty: apt does not list the addresses of files that its folder has already.
const NOTHING: &str = "nothing";

/// Where apt keeps the archive's package lists.
const LISTS: &str = "/var/lib/apt/lists";

/// Folder below the cache for lists of our own.
const OWN_LISTS: &str = "lists";

/// The same until all of them are there for the first time.
const FIRST_LISTS: &str = "lists.first";

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

/// A folder of downloaded packages, shared by all builds of a user.
#[derive(Debug)]
pub struct Apt {
    cache: PathBuf,
    /// How long it waits for the folder.
    patience: Duration,
}

/// One package of a closure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Download {
    file: String,
    digest: Digest,
}

impl Download {
    fn package(&self) -> &str {
        self.file.split('_').next().unwrap_or_default()
    }

    fn listed(&self) -> Option<Listed> {
        Listed::of_file(&self.file)
    }
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

    /// Asks the archives for their newest lists, into the folder: this needs no root. From then on those count for all that
    /// use the folder, and not the machine's own. Lists that are not signed by a key of this machine are refused by apt.
    ///
    /// # Errors
    /// An archive cannot be reached, or its lists are not taken; those of before stay.
    pub fn update(&self) -> Result<(), AptError> {
        let _lock = self.lock()?;
        let own = self.own_lists();
        let lists = own.clone().unwrap_or_else(|| self.cache.join(FIRST_LISTS));
        let failed = |cause| AptError::File {
            path: lists.clone(),
            cause,
        };
        fs::create_dir_all(lists.join("partial")).map_err(failed)?;
        let nothing = self.pretend_installed(&[])?;
        let arguments = ["-qq", "-o", "APT::Update::Error-Mode=any", "update"];
        let done = self.run_by(Some(&lists), "apt-get", &nothing, &arguments, &[])?;
        done.map_err(AptError::Update)?;
        if own.is_none() {
            fs::rename(&lists, self.cache.join(OWN_LISTS)).map_err(failed)?;
        }
        Ok(())
    }

    /// Of when the lists are that [`Apt::update`] has made, by the newest of them; none when they do not say.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn lists_dated(&self) -> Result<Option<Timestamp>, AptError> {
        let path = self.cache.join(OWN_LISTS);
        dated::newest(&path).map_err(|cause| AptError::File { path, cause })
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

    /// The folder of lists that [`Apt::update`] has made.
    fn own_lists(&self) -> Option<PathBuf> {
        let lists = self.cache.join(OWN_LISTS);
        lists.exists().then_some(lists)
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

    fn resolve(
        &self,
        packages: &[String],
        status: &NamedTempFile,
    ) -> Result<BTreeSet<Download>, AptError> {
        let arguments = ["-qq", "--yes", "--print-uris", "install", "--"];
        let listing = self.run("apt-get", status, &arguments, packages)?;
        let listing = listing.map_err(|talk| unresolved(packages, talk))?;
        let lines = listing.lines().filter(|line| line.starts_with('\''));
        lines
            .map(|line| parse_uri(line).ok_or_else(|| AptError::NoDigest(line.to_owned())))
            .collect()
    }

    /// Makes sure that the folder has all of `downloads`, as the signed lists describe them; gives their paths.
    fn fetch(
        &self,
        downloads: &BTreeSet<Download>,
        packages: &[String],
        status: &NamedTempFile,
    ) -> Result<Vec<PathBuf>, AptError> {
        let path = |download: &Download| self.cache.join(&download.file);
        let has = |download: &Download| {
            digest_of(&path(download)).is_ok_and(|found| found == download.digest)
        };
        let missing: Vec<_> = downloads.iter().filter(|download| !has(download)).collect();
        if !missing.is_empty() {
            for download in &missing {
                let _ = fs::remove_file(path(download)); // a damaged one, which apt would take for good
            }
            let arguments = ["--quiet", "--yes", "--download-only", "install", "--"];
            let files = missing.len();
            self.run("apt-get", status, &arguments, packages)?
                .map_err(|talk| AptError::Download { files, talk })?;
        }
        for download in missing {
            let found = digest_of(&path(download)).map_err(|cause| AptError::File {
                path: path(download),
                cause,
            })?;
            if found != download.digest {
                return Err(AptError::Digest {
                    file: download.file.clone(),
                    found,
                    wanted: download.digest,
                });
            }
        }
        Ok(downloads.iter().map(path).collect())
    }
}

fn unresolved(packages: &[String], talk: String) -> AptError {
    AptError::Unresolved {
        packages: packages.join(" "),
        talk,
    }
}

/// File name and digest of `'URI' FILE BYTES SHA256:DIGEST`.
fn parse_uri(line: &str) -> Option<Download> {
    let mut words = line.rsplit_once('\'')?.1.split_whitespace();
    let file = words
        .next()
        .filter(|file| !file.contains('/') && !file.starts_with('.'))?;
    let digest = words.nth(1)?.strip_prefix("SHA256:")?.parse().ok()?;
    Some(Download {
        file: file.to_owned(),
        digest,
    })
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Whether this machine has package lists at all.
fn has_lists() -> bool {
    let is_list = |name: OsString| name.to_string_lossy().contains("_Packages");
    fs::read_dir(LISTS)
        .is_ok_and(|entries| entries.flatten().any(|entry| is_list(entry.file_name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_file_needs_a_sha256_and_a_plain_name() {
        let digest = Digest::of(b"");
        let line = format!("'http://a/b.deb' b_1%3a2_amd64.deb 10 SHA256:{digest}");
        let wanted = Download {
            file: "b_1%3a2_amd64.deb".into(),
            digest,
        };
        assert_eq!(parse_uri(&line), Some(wanted));
        assert_eq!(parse_uri("'http://a/b.deb' b.deb 10 MD5Sum:aa"), None);
        assert_eq!(parse_uri(&line.replace(" b_1", " ../b_1")), None);
    }
}

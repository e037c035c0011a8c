//! Packages from the distribution's archive, by `apt-get`: it resolves, downloads and checks the archive's signatures.
//!
//! The closure is that of an empty machine, whatever is installed here, and needs no root: apt gets an empty status file
//! and our own folder for downloads. Packages to be left out are shown to it as installed, so that what only they need
//! stays out too. Every file, downloaded now or found in the folder, is checked against the SHA-256 in the signed lists.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use towline_contract::Digest;
use towline_contract::digest::Hasher;

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
    #[error("this machine has no package lists: run `apt-get update` (as root), then try again")]
    NoLists,
    /// apt does not know a package, or cannot resolve.
    #[error("apt cannot provide {packages}: {talk}")]
    Refused {
        /// What was asked for.
        packages: String,
        /// Its errors, one line.
        talk: String,
    },
    /// A package that the archive lists without a SHA-256.
    #[error("the archive has no SHA-256 for {0}")]
    NoDigest(String),
    /// A downloaded file is not the one that the archive's signed list names.
    #[error("{file} has SHA-256 {found}, but the signed package list says {wanted}")]
    Digest {
        /// The file.
        file: String,
        /// Its digest; none when it is missing.
        found: String,
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

/// Folder below the cache that stays empty: apt does not list what a folder has already.
const NOTHING: &str = "nothing";

/// A folder of downloaded packages, shared by all builds of a user.
#[derive(Debug)]
pub struct Apt {
    cache: PathBuf,
}

/// One package of a closure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Download {
    file: String,
    digest: Digest,
}

impl Apt {
    /// Uses `cache` for downloads; it is made if need be.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(cache: &Path) -> Result<Self, AptError> {
        let partial = cache.join("partial");
        let nothing = cache.join(NOTHING).join("partial");
        let file = |path: &Path| {
            let path = path.to_owned();
            move |cause| AptError::File { path, cause }
        };
        fs::create_dir_all(&partial).map_err(file(&partial))?;
        fs::create_dir_all(&nothing).map_err(file(&nothing))?;
        // apt reads our settings from arguments; a relative path would mean one below its own folders.
        let cache = cache.canonicalize().map_err(file(cache))?;
        Ok(Self { cache })
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
        let names = self.dependencies(packages, &nothing)?;
        let status = self.pretend_installed(&names)?;
        let downloads = self.resolve(packages, &status)?;
        self.fetch(&downloads, packages, &status)
    }

    /// The package file of the kernel that `package` is or depends on.
    ///
    /// # Errors
    /// See [`AptError`]; also when there is none, or more than one.
    pub fn kernel(&self, package: &str) -> Result<PathBuf, AptError> {
        let packages = [package.to_owned()];
        let nothing = self.pretend_installed(&[])?;
        let listing = self.resolve(&packages, &nothing)?;
        let is_kernel = |download: &&Download| {
            let name = download.file.strip_prefix("linux-image-");
            name.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let kernels: Vec<_> = listing.iter().filter(is_kernel).collect();
        let [kernel] = kernels.as_slice() else {
            return Err(AptError::Refused {
                packages: package.to_owned(),
                talk: format!(
                    "it depends on {} kernel packages, and should on one",
                    kernels.len()
                ),
            });
        };
        let name = kernel.file.split('_').next().unwrap_or_default().to_owned();
        let files = self.only(&[name])?;
        files
            .into_iter()
            .next()
            .ok_or_else(|| AptError::NoDigest(package.to_owned()))
    }

    /// Names of all packages that `packages` need, less themselves.
    fn dependencies(
        &self,
        packages: &[String],
        status: &tempfile::NamedTempFile,
    ) -> Result<Vec<String>, AptError> {
        let listing = self.resolve(packages, status)?;
        let names = listing
            .iter()
            .filter_map(|download| download.file.split('_').next());
        Ok(names
            .filter(|name| !packages.iter().any(|package| package == name))
            .map(str::to_owned)
            .collect())
    }

    fn fetch(
        &self,
        downloads: &BTreeSet<Download>,
        packages: &[String],
        status: &tempfile::NamedTempFile,
    ) -> Result<Vec<PathBuf>, AptError> {
        let missing: Vec<_> = downloads
            .iter()
            .filter(|download| !self.has(download))
            .collect();
        if !missing.is_empty() {
            for download in &missing {
                let _ = fs::remove_file(self.cache.join(&download.file)); // of another version with the same name
            }
            self.run(
                "apt-get",
                status,
                &["--quiet", "--yes", "--download-only", "install", "--"],
                packages,
            )?;
        }
        for download in missing {
            self.check(download)?;
        }
        Ok(downloads
            .iter()
            .map(|download| self.cache.join(&download.file))
            .collect())
    }

    /// Keeps other builds out of the folder: apt's own locks are for root.
    fn lock(&self) -> Result<File, AptError> {
        let path = self.cache.join("lock");
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
        lock.map_err(|cause| AptError::File { path, cause })
    }

    /// A status file in which `without` are installed, in the versions that would be.
    fn pretend_installed(&self, without: &[String]) -> Result<tempfile::NamedTempFile, AptError> {
        let file = |cause| AptError::File {
            path: self.cache.clone(),
            cause,
        };
        let mut status = tempfile::NamedTempFile::new_in(&self.cache).map_err(file)?;
        if !without.is_empty() {
            let records = self.run(
                "apt-cache",
                &status,
                &["show", "--no-all-versions", "--"],
                without,
            )?;
            let text: String = records.split("\n\n").filter_map(status_record).collect();
            io::Write::write_all(&mut status, text.as_bytes()).map_err(file)?;
        }
        Ok(status)
    }

    fn resolve(
        &self,
        packages: &[String],
        status: &tempfile::NamedTempFile,
    ) -> Result<BTreeSet<Download>, AptError> {
        let arguments = ["-qq", "--yes", "--print-uris", "install", "--"];
        let listing = self.run("apt-get", status, &arguments, packages)?;
        let lines = listing.lines().filter(|line| line.starts_with('\''));
        lines
            .map(|line| parse_uri(line).ok_or_else(|| AptError::NoDigest(line.to_owned())))
            .collect()
    }

    fn has(&self, download: &Download) -> bool {
        digest_of(&self.cache.join(&download.file)).is_ok_and(|found| found == download.digest)
    }

    fn check(&self, download: &Download) -> Result<(), AptError> {
        match digest_of(&self.cache.join(&download.file)) {
            Ok(found) if found == download.digest => Ok(()),
            found => Err(AptError::Digest {
                file: download.file.clone(),
                found: found.map_or_else(
                    |cause| format!("none ({cause})"),
                    |digest| digest.to_string(),
                ),
                wanted: download.digest,
            }),
        }
    }

    /// Runs one of apt's programs with our settings; gives what it printed.
    fn run(
        &self,
        program: &'static str,
        status: &tempfile::NamedTempFile,
        arguments: &[&str],
        packages: &[String],
    ) -> Result<String, AptError> {
        let mut option = std::ffi::OsString::from("Dir::State::status=");
        option.push(status.path());
        let mut archives = std::ffi::OsString::from("Dir::Cache::archives=");
        archives.push(if arguments.contains(&"--print-uris") {
            self.cache.join(NOTHING)
        } else {
            self.cache.clone()
        });
        let output = Command::new(program)
            .arg("-o")
            .arg(option)
            .arg("-o")
            .arg(archives)
            .args(["-o", "Debug::NoLocking=true"])
            .args(["-o", "APT::Install-Recommends=false"])
            .args(["-o", "APT::Install-Suggests=false"])
            .args(["-o", "APT::Get::AllowUnauthenticated=false"])
            .args(["-o", "APT::Sandbox::User="])
            .args(["-o", "Acquire::ForceHash=SHA256"])
            .args(arguments)
            .args(packages)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| AptError::NoApt { program, cause })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        if !has_lists() {
            return Err(AptError::NoLists);
        }
        let talk = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<_> = talk
            .lines()
            .filter_map(|line| line.strip_prefix("E: "))
            .collect();
        Err(AptError::Refused {
            packages: packages.join(" "),
            talk: if errors.is_empty() {
                talk.trim().to_owned()
            } else {
                errors.join("; ")
            },
        })
    }
}

/// A package's record, as dpkg's status file would have it: installed, in a version just above the archive's, so that apt
/// sees no reason to touch it, but also as a provider of that very version.
fn status_record(record: &str) -> Option<String> {
    let field = |name: &str| {
        record
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let (name, version) = (field("Package:")?, field("Version:")?);
    let provides = field("Provides:").map_or(String::new(), |more| format!(", {more}"));
    let mut text =
        format!("Package: {name}\nStatus: install ok installed\nVersion: {version}+installed\n");
    for more in ["Architecture:", "Multi-Arch:"] {
        text += &field(more).map_or(String::new(), |value| format!("{more} {value}\n"));
    }
    Some(
        text + &format!(
            "Provides: {name} (= {version}){provides}\nMaintainer: none\nDescription: none\n\n"
        ),
    )
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
    let is_list = |name: std::ffi::OsString| name.to_string_lossy().contains("_Packages");
    fs::read_dir("/var/lib/apt/lists")
        .is_ok_and(|entries| entries.flatten().any(|entry| is_list(entry.file_name())))
}

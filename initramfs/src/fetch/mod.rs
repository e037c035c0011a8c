//! Files that recipes fetch, kept in a folder beside the downloaded packages.
//!
//! What the network says is believed of nothing: a file gets its name there after the recipe's digest or key vouched for it.
//! Nobody works with the files in that folder, which other builds replace: each build has copies, and these are verified.

mod client;
mod old;
mod verifier;

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use towline_contract::Digest;

pub use client::{NoAuthorities, authorities, tls};
pub use old::forget_old;

use crate::recipe::Download;
use crate::scratch::Scratch;
use client::Answer;
use verifier::{Fault, Verifier};

/// Largest signature file, in bytes. With a long comment one has 400.
const SIGNATURE_BYTES_MAX: u64 = 16 << 10;

/// Largest page that is looked through for versions, in bytes. Thirty releases with all their files are one of them in the JSON
/// of GitHub's API, and no listing of a folder has so many.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No authorities to check servers by.
    #[error(transparent)]
    Authorities(#[from] NoAuthorities),
    /// The recipe does not say what vouches for the file.
    #[error("{0}")]
    Proof(String),
    /// Nobody answers, or not by TLS that is trusted.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        cause: Box<ureq::Error>,
    },
    /// It is not there.
    #[error("{url} cannot be fetched: the server's answer is {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// More bytes than the recipe allows.
    #[error("{url} has more than {bytes_max} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The bound.
        bytes_max: u64,
    },
    /// The connection broke, or nothing came any more.
    #[error("{url} stopped after {got} bytes{}", of(.want.as_ref()))]
    Stopped {
        /// What was asked for.
        url: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        want: Option<u64>,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// All that the recipe fetches has taken too long.
    #[error("{url} did not come in time: what the recipe fetches may take {} minutes together", wait.as_secs() / 60)]
    Late {
        /// What was asked for.
        url: String,
        /// The bound.
        wait: Duration,
    },
    /// Other bytes than the recipe names.
    #[error("{url} has SHA-256 {found}, but the recipe says {wanted}")]
    Digest {
        /// What was asked for.
        url: String,
        /// Its digest.
        found: Digest,
        /// The digest in the recipe.
        wanted: Digest,
    },
    /// A signature that does not vouch for it.
    #[error("{url} is not signed by the recipe's minisign-key: {why}")]
    Signature {
        /// What was asked for.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// A signature that does not say of which release the file is.
    #[error(
        "{url} does not say that it is for {name} of version {version}: its trusted comment is {comment:?}"
    )]
    Unnamed {
        /// Where the signature is.
        url: String,
        /// Name of the file, in its URL.
        name: String,
        /// The version that it should be of.
        version: String,
        /// What was signed with it.
        comment: String,
    },
    /// A file or folder of the cache.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

fn of(want: Option<&u64>) -> String {
    want.map_or_else(String::new, |want| format!(" of {want}"))
}

/// Copies of fetched files that belong to one build, for as long as this lives.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    scratch: Option<Scratch>,
    /// Longest that they may take, all together.
    wait: Option<Duration>,
    /// What they have taken so far.
    spent: Duration,
    /// Copies so far. Two of one URL may be two versions of it.
    count: usize,
}

impl Copies {
    /// None yet; all together may take `wait`.
    pub(crate) fn within(wait: Option<Duration>) -> Self {
        Self {
            wait,
            ..Self::default()
        }
    }

    /// A copy of the file that `download` describes, out of `cache` if it is there; `talk` hears what is fetched.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) fn fetch(
        &mut self,
        download: &Download,
        cache: &Path,
        talk: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, FetchError> {
        let start = Instant::now();
        let fetched = self.fetch_one(download, cache, talk);
        self.spent += start.elapsed();
        match fetched {
            Err(FetchError::Unreachable { .. } | FetchError::Stopped { .. }) => {
                self.left(&download.url).and(fetched)
            }
            other => other,
        }
    }

    /// What is left of the time.
    fn left(&self, url: &str) -> Result<Option<Duration>, FetchError> {
        match self.wait {
            Some(wait) if self.spent >= wait => Err(FetchError::Late {
                url: url.to_owned(),
                wait,
            }),
            wait => Ok(wait.map(|it| it - self.spent)),
        }
    }

    fn fetch_one(
        &mut self,
        download: &Download,
        cache: &Path,
        talk: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, FetchError> {
        let verifier = Verifier::of(download)?;
        let kept = cache.join(verifier.name());
        let path = self.place(download, cache)?;
        let failed = |cause| FetchError::File {
            path: path.clone(),
            cause,
        };
        let mut file = File::create_new(&path).map_err(failed)?;
        let copy = |file: &mut File| {
            let mut kept = File::open(&kept)?.take(download.bytes_max());
            io::copy(&mut kept, file)
        };
        let verify = || verifier.check(File::open(&path).map_err(Fault::Read)?);
        if copy(&mut file).is_ok() && verify().is_ok() {
            return Ok(path);
        }
        talk(&format!("fetching {}", download.url));
        file.rewind().map_err(failed)?;
        file.set_len(0).map_err(failed)?;
        let mut answer = Answer::to(
            &download.url,
            download.bytes_max(),
            self.left(&download.url)?,
        )?;
        while let Some(more) = answer.next()? {
            file.write_all(more).map_err(failed)?;
        }
        match verify() {
            Ok(()) => {}
            Err(Fault::Read(cause)) => return Err(failed(cause)),
            Err(fault) => return Err(fault.of(&download.url)),
        }
        keep(&path, &kept).map_err(|cause| FetchError::File { path: kept, cause })?;
        Ok(path)
    }

    /// Where the next copy goes: beside what is kept, under a name by which messages are understood.
    fn place(&mut self, download: &Download, cache: &Path) -> Result<PathBuf, FetchError> {
        let failed = |cause| FetchError::File {
            path: cache.to_owned(),
            cause,
        };
        let new = || {
            fs::create_dir_all(cache)?;
            Scratch::new(cache)
        };
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => new().map_err(failed)?,
        };
        self.count += 1;
        let folder = self.scratch.insert(scratch).path();
        Ok(folder.join(format!("{}-{}", self.count, download.file_name())))
    }
}

/// Folder below the packages' cache for files that recipes fetch.
pub(crate) fn folder(cache: &Path) -> PathBuf {
    cache.join("fetched")
}

/// Gives the name `kept` to a copy of the file at `path`.
fn keep(path: &Path, kept: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut copy = NamedTempFile::new_in(folder)?;
    io::copy(&mut File::open(path)?, &mut copy)?;
    // Several users may share a cache: each verifies what is in it.
    copy.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    copy.as_file().sync_all()?;
    copy.persist(kept)?;
    Ok(())
}

/// The page at `url`, by the rules for files, but vouched for by nobody.
pub(crate) fn page(url: &str) -> Result<Vec<u8>, FetchError> {
    bytes(url, PAGE_BYTES_MAX)
}

/// A small file, in memory.
fn bytes(url: &str, bytes_max: u64) -> Result<Vec<u8>, FetchError> {
    let mut answer = Answer::to(url, bytes_max, None)?;
    let mut bytes = Vec::new();
    while let Some(more) = answer.next()? {
        bytes.extend_from_slice(more);
    }
    Ok(bytes)
}

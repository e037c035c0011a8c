//! Files that recipes fetch, kept in a folder beside the downloaded packages.
//!
//! What the network says is believed of nothing: a file gets its name there after the recipe's digest or key vouched for it,
//! and is looked at again each time it is taken from there.

mod client;
mod verifier;

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use towline_contract::Digest;

pub use client::{NoAuthorities, authorities, tls};

use crate::recipe::{Download, Proof};
use crate::scratch::Scratch;
use client::Answer;
use verifier::{Fault, Verifier};

/// Largest signature file, in bytes. With a long comment one has 400.
const SIGNATURE_BYTES_MAX: u64 = 16 << 10;

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

/// The file that `download` describes, in `folder`; `talk` hears what is fetched.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    download: &Download,
    folder: &Path,
    talk: &mut dyn FnMut(&str),
) -> Result<PathBuf, FetchError> {
    let verifier = match download.proof().map_err(FetchError::Proof)? {
        Proof::Sha256(digest) => Verifier::Sha256(digest),
        // Asked for each time: what is signed may have changed.
        Proof::Minisign(key) => {
            let url = format!("{}.minisig", download.url);
            let signature = bytes(&url)?;
            Verifier::minisign(key, &signature).map_err(|fault| fault.of(&url))?
        }
    };
    let path = folder.join(verifier.name(&download.url));
    let failed = |cause| FetchError::File {
        path: path.clone(),
        cause,
    };
    if let Ok(kept) = File::open(&path)
        && verifier.check(kept).is_ok()
    {
        return Ok(path);
    }
    talk(&format!("fetching {}", download.url));
    fs::create_dir_all(folder).map_err(failed)?;
    let scratch = Scratch::new(folder).map_err(failed)?;
    let mut file = NamedTempFile::new_in(scratch.path()).map_err(failed)?;
    let mut answer = Answer::to(&download.url, download.bytes_max())?;
    while let Some(more) = answer.next()? {
        file.write_all(more).map_err(failed)?;
    }
    file.rewind().map_err(failed)?;
    match verifier.check(file.as_file()) {
        Ok(()) => {}
        Err(Fault::Read(cause)) => return Err(failed(cause)),
        Err(fault) => return Err(fault.of(&download.url)),
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(path)
}

/// A small file, in memory.
fn bytes(url: &str) -> Result<Vec<u8>, FetchError> {
    let mut answer = Answer::to(url, SIGNATURE_BYTES_MAX)?;
    let mut bytes = Vec::new();
    while let Some(more) = answer.next()? {
        bytes.extend_from_slice(more);
    }
    Ok(bytes)
}

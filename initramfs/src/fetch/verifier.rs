//! Whether bytes are those that a recipe's digest or key vouches for.

use std::io::{self, Read};

use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};
use towline_contract::Digest;
use towline_contract::digest::Hasher;

use super::{FetchError, bytes};
use crate::recipe::{Download, Proof};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// What a file is held against.
pub(super) enum Verifier {
    /// Its SHA-256.
    Sha256(Digest),
    /// A key, and its signature of the file.
    Minisign {
        key: Box<PublicKey>,
        signature: Box<Signature>,
        /// Of the key and the signature file.
        digest: Digest,
    },
}

/// What is wrong with a file.
pub(super) enum Fault {
    /// It cannot be read.
    Read(io::Error),
    /// Another digest.
    Digest { found: Digest, wanted: Digest },
    /// Another signature, or none.
    Signature(String),
}

impl Fault {
    /// The error about the file that came from `url`.
    pub(super) fn of(self, url: &str) -> FetchError {
        let url = url.to_owned();
        match self {
            Self::Read(cause) => FetchError::File {
                path: url.into(),
                cause,
            },
            Self::Digest { found, wanted } => FetchError::Digest { url, found, wanted },
            Self::Signature(why) => FetchError::Signature { url, why },
        }
    }
}

impl Verifier {
    /// The verifier of what `download` describes. A signature is asked for each time: what is signed may have changed.
    pub(super) fn of(download: &Download) -> Result<Self, FetchError> {
        let key = match download.proof().map_err(FetchError::Proof)? {
            Proof::Sha256(digest) => return Ok(Self::Sha256(digest)),
            Proof::Minisign(key) => key,
        };
        let url = format!("{}.minisig", download.url);
        let file = bytes(&url)?;
        let signature = signature(&key, &file).map_err(|fault| fault.of(&url))?;
        let key_text = download.minisign_key.as_deref().unwrap_or_default();
        let digest = Digest::of(&[key_text.as_bytes(), b"\n", &file].concat());
        Ok(Self::Minisign {
            key: Box::new(key),
            signature: Box::new(signature),
            digest,
        })
    }

    /// The name of the file in the cache. What one key vouches for is never looked for on behalf of another.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.to_string(),
            Self::Minisign { digest, .. } => format!("signed-{digest}"),
        }
    }

    /// Reads all of `file`.
    pub(super) fn check(&self, mut file: impl Read) -> Result<(), Fault> {
        let mut check = match self {
            Self::Sha256(digest) => Check::Sha256(Hasher::default(), *digest),
            Self::Minisign { key, signature, .. } => {
                Check::Minisign(Box::new(started(key, signature)?))
            }
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer).map_err(Fault::Read)? {
                0 => return check.finish(),
                length => check.update(&buffer[..length]),
            }
        }
    }
}

/// The check of one file while it is read.
enum Check<'a> {
    Sha256(Hasher, Digest),
    Minisign(Box<StreamVerifier<'a>>),
}

impl Check<'_> {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher, _) => hasher.update(bytes),
            Self::Minisign(stream) => stream.update(bytes),
        }
    }

    fn finish(self) -> Result<(), Fault> {
        match self {
            Self::Sha256(hasher, wanted) => match hasher.finish() {
                found if found == wanted => Ok(()),
                found => Err(Fault::Digest { found, wanted }),
            },
            Self::Minisign(mut stream) => stream
                .finalize()
                .map_err(|cause| Fault::Signature(cause.to_string())),
        }
    }
}

/// What a `.minisig` file says, if it is by `key`.
fn signature(key: &PublicKey, file: &[u8]) -> Result<Signature, Fault> {
    let wrong = |why: &str| Fault::Signature(format!("its signature cannot be read: {why}"));
    let text = std::str::from_utf8(file).map_err(|_| wrong("it is no text"))?;
    let signature = Signature::decode(text).map_err(|cause| wrong(&cause.to_string()))?;
    // Refused before the file is fetched: another key, or the old way of signing.
    started(key, &signature)?;
    Ok(signature)
}

/// The check of what is signed. Signatures of minisign's old way cover the file itself, so that all of it would have to be in memory.
fn started<'a>(key: &'a PublicKey, signature: &'a Signature) -> Result<StreamVerifier<'a>, Fault> {
    key.verify_stream(signature).map_err(|cause| {
        Fault::Signature(match cause {
            Error::UnsupportedLegacyMode => {
                "it was signed in minisign's old way (-l), which is not taken".to_owned()
            }
            other => other.to_string(),
        })
    })
}

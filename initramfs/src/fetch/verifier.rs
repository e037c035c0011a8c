//! Whether bytes are those that a recipe's digest or key vouches for.

use std::io::{self, Read};

use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};
use towline_contract::Digest;
use towline_contract::digest::Hasher;

use super::{FetchError, SIGNATURE_BYTES_MAX, bytes};
use crate::recipe::{Download, Proof, Release};

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
        let url = download.signature_url();
        let file = bytes(&url, SIGNATURE_BYTES_MAX)?;
        let signature = signature(&key, &file).map_err(|fault| fault.of(&url))?;
        // Before the file is fetched; that this comment was signed with it is verified with the file.
        let wanted = download.release.as_ref();
        let wanted = wanted.filter(|_| download.signed_name != Some(false));
        if let Some(release) = wanted {
            let (name, comment) = (download.last_part(), signature.trusted_comment());
            if !is_named(comment, name, release) {
                return Err(FetchError::Unnamed {
                    url,
                    name: name.to_owned(),
                    version: release.version.clone(),
                    comment: comment.to_owned(),
                });
            }
        }
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

/// Whether a trusted comment says that what was signed is of the release: by the file's name with the version in it, such as
/// minisign writes by itself (`file:agent-1.2.tar.gz`), or by the first word that begins with a digit, which is the version. A
/// signature alone does not say so: an older file, with its own good signature, could lie at the URL of a newer one.
///
/// Any word will not do. The page chooses the version, so a comment must name one alone: that of `agent 1.2, build 4711` is not
/// 4711.
fn is_named(comment: &str, name: &str, release: &Release) -> bool {
    let mut words = comment.split_whitespace();
    let is_file = |word: &str| word.strip_prefix("file:").unwrap_or(word) == name;
    if release.is_in_name && words.clone().any(is_file) {
        return true;
    }
    let first = words.find_map(|word| {
        let number = word.strip_prefix('v').unwrap_or(word);
        number
            .starts_with(|c: char| c.is_ascii_digit())
            .then_some(number)
    });
    first == Some(release.version.as_str())
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

/// The check of what is signed. Signatures of minisign's old way cover the file itself, so that all of it would have to be in
/// memory.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_a_release_by_its_version_or_by_a_file_name_that_has_it() {
        let release = |is_in_name| Release {
            version: "1.2".into(),
            is_in_name,
        };
        for (comment, is_in_name, wanted) in [
            (
                "timestamp:1633700835\tfile:agent-1.2.tar.gz\thashed",
                true,
                true,
            ),
            ("agent-1.2.tar.gz", true, true),
            ("agent 1.2", true, true),
            ("agent v1.2, of today", true, false), // the word is another one
            ("release v1.2", false, true),
            (
                "timestamp:1633700835\tfile:agent-1.1.tar.gz\thashed",
                true,
                false,
            ),
            ("file:agent-1.20.tar.gz", true, false),
            ("file:old/agent-1.2.tar.gz", true, false),
            // Every release's file is called so.
            (
                "timestamp:1633700835\tfile:agent-1.2.tar.gz\thashed",
                false,
                false,
            ),
            ("signed by its maintainers", true, false),
            ("11.2 1.2.1 v v1", true, false),
            ("agent 1.2 2024-06-01", true, true),
            // What a page could call a version is one, and only one, of an old file's words.
            ("agent 1.1 build 1.2", true, false),
            ("", true, false),
        ] {
            let found = is_named(comment, "agent-1.2.tar.gz", &release(is_in_name));
            assert_eq!(found, wanted, "{comment:?}");
        }
        let word = Release {
            version: "hashed".into(),
            is_in_name: true,
        };
        let comment = "timestamp:1633700835\tfile:agent-1.1.tar.gz\thashed";
        assert!(!is_named(comment, "agent-hashed.tar.gz", &word));
    }
}

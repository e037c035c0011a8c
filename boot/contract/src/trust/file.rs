//! Bytes against what a signed document says of them.

use std::collections::BTreeMap;

use ring::digest::{SHA512, digest};

use super::error::TrustError;
use super::metadata::{FileRef, TargetFile};
use super::verified::Verified;
use crate::Digest;
use crate::limits::METADATA_BYTES_MAX;

/// Name of the hash that Towline writes.
const SHA256: &str = "sha256";

/// Name of the other hash that is understood.
const SHA512_NAME: &str = "sha512";

/// `hashes` with one digest.
pub(super) fn sha256(digest: &Digest) -> BTreeMap<String, String> {
    BTreeMap::from([(SHA256.into(), digest.to_string())])
}

impl TargetFile {
    /// Its SHA-256, when it has a valid one.
    #[must_use]
    pub fn sha256(&self) -> Option<Digest> {
        self.hashes.get(SHA256)?.parse().ok()
    }
}

/// The whole content of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetBytes(Vec<u8>);

impl AsRef<[u8]> for TargetBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Verified<TargetFile> {
    /// Verifies the whole file. Layers are verified by chunks instead, for they are used while they come.
    ///
    /// # Errors
    /// Not the bytes that are signed, or signed by no hash that is understood.
    pub fn verify(&self, name: &str, bytes: Vec<u8>) -> Result<Verified<TargetBytes>, TrustError> {
        let what = format!("target {}", name.escape_debug());
        check_length(&what, self.length, &bytes)?;
        check_hashes(&what, &self.hashes, &bytes)?;
        Ok(Verified::new(TargetBytes(bytes)))
    }
}

/// What `meta` of the document `what` says of `file`.
pub(super) fn file_ref<'a>(
    meta: &'a BTreeMap<String, FileRef>,
    file: &str,
    what: &str,
) -> Result<&'a FileRef, TrustError> {
    meta.get(file).ok_or_else(|| TrustError::Malformed {
        what: what.into(),
        why: format!("it does not name {file}"),
    })
}

/// Most bytes to read of a file that another one names so.
pub(super) fn max_bytes(file: &FileRef) -> u64 {
    file.length
        .unwrap_or(METADATA_BYTES_MAX)
        .min(METADATA_BYTES_MAX)
}

/// Checks `bytes` against what another file says of them.
pub(super) fn check_file(what: &str, file: &FileRef, bytes: &[u8]) -> Result<(), TrustError> {
    if let Some(wanted) = file.length {
        check_length(what, wanted, bytes)?;
    }
    match &file.hashes {
        Some(hashes) => check_hashes(what, hashes, bytes),
        None => Ok(()),
    }
}

fn check_length(what: &str, wanted: u64, bytes: &[u8]) -> Result<(), TrustError> {
    let found = bytes.len() as u64;
    if found == wanted {
        return Ok(());
    }
    let what = what.into();
    Err(TrustError::Length {
        what,
        found,
        wanted,
    })
}

/// All hashes that are understood must be those of `bytes`, and one must be understood.
fn check_hashes(
    what: &str,
    hashes: &BTreeMap<String, String>,
    bytes: &[u8],
) -> Result<(), TrustError> {
    let malformed = |why: &str| TrustError::Malformed {
        what: format!("the reference to {what}"),
        why: why.into(),
    };
    if let Some(text) = hashes.get(SHA256) {
        let wanted: Digest = text
            .parse()
            .map_err(|_| malformed("its sha256 is not valid"))?;
        let found = Digest::of(bytes);
        if found != wanted {
            let what = what.into();
            return Err(TrustError::Digest {
                what,
                found,
                wanted,
            });
        }
    }
    if let Some(wanted) = hashes.get(SHA512_NAME) {
        let found = hex::encode(digest(&SHA512, bytes));
        if found != *wanted {
            return Err(TrustError::Sha512 {
                what: what.into(),
                found,
                wanted: wanted.escape_debug().to_string(),
            });
        }
    }
    if !hashes.contains_key(SHA256) && !hashes.contains_key(SHA512_NAME) {
        return Err(malformed("its hashes have no sha256 or sha512"));
    }
    Ok(())
}

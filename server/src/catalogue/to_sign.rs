//! Documents that wait for a key which is elsewhere: files in the site's folder `to-sign`, named like the metadata they become.
//!
//! Who has the key signs the file (`towline key sign`); the command that left it, run again, makes the same document anew,
//! finds it signed, and goes on. A file that is no longer what the command would make is written over.

use std::path::PathBuf;
use std::{fs, io};

use towline_contract::Timestamp;
use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::trust::metadata::Targets;
use towline_contract::trust::{Envelope, SignedView, TrustError};

use super::change::TARGETS;
use super::{CatalogueError, Result, newest_root};
use crate::private::{self, Locked};
use crate::site::Site;

/// A document that is not signed enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToSign {
    /// Where it waits.
    pub file: PathBuf,
    /// How many of the required signatures it has.
    pub valid: usize,
    /// How many are required.
    pub threshold: u32,
    /// Identifiers of keys that could sign it, as their fingerprints begin.
    pub by: Vec<String>,
}

impl std::fmt::Display for ToSign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let groups = |id: &String| {
            let letters: Vec<_> = id.chars().collect();
            let groups: Vec<String> = letters.chunks(4).map(|it| it.iter().collect()).collect();
            groups.join("-")
        };
        let by: Vec<_> = self.by.iter().map(groups).collect();
        let (file, by) = (self.file.display(), by.join(", "));
        let (valid, threshold) = (self.valid, self.threshold);
        write!(
            f,
            "{file} has {valid} of {threshold} signatures (it can be signed by {by})"
        )
    }
}

/// The documents that wait, while nobody else changes them.
pub(super) struct Waiting(Locked);

impl Waiting {
    pub(super) fn open(site: &Site) -> Result<Self> {
        Ok(Self(private::lock(&site.to_sign())?))
    }

    /// The document of this name, with the signatures it has so far.
    pub(super) fn get(&self, name: &str) -> Result<Option<Envelope>> {
        let path = self.0.path(name);
        let Some(bytes) = private::read_bytes(&path, METADATA_BYTES_MAX)? else {
            return Ok(None);
        };
        let what = path.display().to_string();
        Ok(Some(Envelope::parse(&bytes, &what, METADATA_BYTES_MAX)?))
    }

    pub(super) fn put(&self, name: &str, envelope: &Envelope) -> Result<()> {
        Ok(self.0.write_from(name, &mut &envelope.to_bytes()[..])?)
    }

    /// The document that lacks signatures, if that is the error.
    pub(super) fn lacking(&self, name: &str, error: TrustError) -> Result<ToSign> {
        match error {
            TrustError::Signatures {
                valid,
                threshold,
                missing,
                ..
            } => Ok(ToSign {
                file: self.0.path(name),
                valid,
                threshold,
                by: missing,
            }),
            error => Err(error.into()),
        }
    }

    /// The bytes of `document`, the next of `role` in the catalogue `current`, if they wait here with enough signatures. Else
    /// they wait from now on.
    pub(super) fn targets(
        &self,
        site: &Site,
        current: &SignedView,
        role: &str,
        document: &Targets,
        now: Timestamp,
    ) -> Result<std::result::Result<Vec<u8>, ToSign>> {
        let name = format!("{}.{role}.json", document.header.version);
        let envelope = match self.get(&name)? {
            Some(envelope) if is(&envelope, document, now) => envelope,
            // Not without a word: an officer has signed it.
            Some(other) if !other.signatures.is_empty() && is_in_time(&other, document, now) => {
                return Err(CatalogueError::Waits(self.0.path(&name)));
            }
            _ => {
                let envelope = Envelope::unsigned(document)?;
                self.put(&name, &envelope)?;
                envelope
            }
        };
        let bytes = envelope.to_bytes();
        let signed = match role {
            TARGETS => newest_root(&site.store)?.targets_to_publish(&bytes),
            _ => current.role_to_publish(role, &bytes),
        };
        match signed {
            Ok(_) => Ok(Ok(bytes)),
            Err(error) => Ok(Err(self.lacking(&name, error)?)),
        }
    }
}

/// The document of this name waits no more.
pub(super) fn forget(site: &Site, name: &str) -> Result<()> {
    let path = site.to_sign().join(name);
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(private::failed("remove", &path)(cause).into())
        }
        _ => Ok(()),
    }
}

/// Whether what waits is this document, but for its date, which is between now and the document's.
fn is(envelope: &Envelope, document: &Targets, now: Timestamp) -> bool {
    let waiting: Option<Targets> = serde_json::from_value(envelope.signed.clone()).ok();
    waiting.is_some_and(|mut it| {
        it.header.expires = document.header.expires;
        is_in_time(envelope, document, now) && it == *document
    })
}

fn is_in_time(envelope: &Envelope, document: &Targets, now: Timestamp) -> bool {
    let waiting: Option<Targets> = serde_json::from_value(envelope.signed.clone()).ok();
    let expires = waiting.map(|it| it.header.expires);
    expires.is_some_and(|it| now < it && it <= document.header.expires)
}

//! Documents that wait for a key which is elsewhere: files in the site's folder `to-sign`, named like the metadata they become.
//!
//! Who has the key signs the file (`towline key sign`); the command that left it, run again, makes the same document anew,
//! finds it signed, and goes on. A file that is no longer what the command would make is written over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{fs, io};

use serde_json::Value;
use towline_contract::Timestamp;
use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::trust::metadata::Role;
use towline_contract::trust::{Envelope, KeyId, PublicKey, SigningKey, TrustError};

use super::{CatalogueError, Result};
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
        let by: Vec<_> = self.by.iter().map(|it| groups(it)).collect();
        let (file, by) = (self.file.display(), by.join(", "));
        let (valid, threshold) = (self.valid, self.threshold);
        write!(
            f,
            "{file} has {valid} of {threshold} signatures (it can be signed by {by})"
        )
    }
}

/// Letters in groups of four, as people compare them.
pub(super) fn groups(id: &str) -> String {
    let letters: Vec<_> = id.chars().collect();
    let groups: Vec<String> = letters.chunks(4).map(|it| it.iter().collect()).collect();
    groups.join("-")
}

/// Who must sign a document.
#[derive(Clone, Debug)]
pub(super) struct Required {
    pub(super) keys: Vec<PublicKey>,
    pub(super) threshold: u32,
}

impl Required {
    /// Those of a role, by the keys of the document that names it.
    pub(super) fn of(role: &Role, all: &BTreeMap<KeyId, PublicKey>) -> Self {
        let keys = role.keyids.iter().filter_map(|id| all.get(id));
        Self {
            keys: keys.cloned().collect(),
            threshold: role.threshold,
        }
    }

    /// Nobody: no signature is enough.
    pub(super) fn none() -> Self {
        Self {
            keys: Vec::new(),
            threshold: 0,
        }
    }

    /// Whether this is one of the keys.
    pub(super) fn has(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }

    /// Whether so many of these keys are enough.
    pub(super) fn is_met_by(&self, keys: &[&SigningKey]) -> bool {
        let own: BTreeSet<_> = keys
            .iter()
            .map(|it| it.public())
            .filter(|it| self.has(it))
            .map(|it| it.id())
            .collect();
        self.threshold > 0 && own.len() as u64 >= u64::from(self.threshold)
    }
}

/// The document with a signature by each of the keys.
pub(super) fn signed_by(mut envelope: Envelope, keys: &[&SigningKey]) -> Result<Envelope> {
    for key in keys {
        envelope.add_signature(key)?;
    }
    Ok(envelope)
}

/// The documents that wait, while nobody else changes them.
pub(super) struct Waiting<'a> {
    site: &'a Site,
    folder: Locked,
}

impl<'a> Waiting<'a> {
    pub(super) fn open(site: &'a Site) -> Result<Self> {
        let folder = private::lock(&site.to_sign())?;
        Ok(Self { site, folder })
    }

    /// The document of this name, with the signatures it has so far.
    pub(super) fn get(&self, name: &str) -> Result<Option<Envelope>> {
        read(self.site, name)
    }

    pub(super) fn put(&self, name: &str, envelope: &Envelope) -> Result<()> {
        Ok(self
            .folder
            .write_from(name, &mut &envelope.to_bytes()[..])?)
    }

    /// What the document of this name lacks; none when enough have signed.
    pub(super) fn lacking(
        &self,
        name: &str,
        envelope: &Envelope,
        required: &Required,
    ) -> Result<Option<ToSign>> {
        lacking(self.folder.path(name), envelope, required)
    }

    /// The document of this name as it waits here, if it is `wanted`; else `wanted`, which waits from now on, unless somebody has
    /// signed another.
    pub(super) fn take_up(&self, name: &str, wanted: Envelope, now: Timestamp) -> Result<Envelope> {
        match self.get(name)? {
            Some(waiting) if is(&waiting, &wanted, now) => Ok(waiting),
            // Not without a word: an officer has signed it.
            Some(other) if !other.signatures.is_empty() && is_in_time(&other, &wanted, now) => {
                Err(CatalogueError::Waits(self.folder.path(name)))
            }
            _ => Ok(wanted),
        }
    }

    /// The bytes of the document if it has enough signatures, with those that waited and those of `signers`. Else it waits.
    pub(super) fn collect(
        &self,
        name: &str,
        wanted: Envelope,
        signers: &[&SigningKey],
        required: &Required,
        now: Timestamp,
    ) -> Result<std::result::Result<Vec<u8>, ToSign>> {
        let envelope = signed_by(self.take_up(name, wanted, now)?, signers)?;
        self.put(name, &envelope)?;
        Ok(match self.lacking(name, &envelope, required)? {
            None => Ok(envelope.to_bytes()),
            Some(lacking) => Err(lacking),
        })
    }
}

/// What the document in `file` lacks; none when enough have signed.
pub(super) fn lacking(
    file: PathBuf,
    envelope: &Envelope,
    required: &Required,
) -> Result<Option<ToSign>> {
    let what = file.display().to_string();
    match envelope.require_signers(&what, &required.keys, required.threshold) {
        Ok(()) => Ok(None),
        Err(TrustError::Signatures {
            valid,
            threshold,
            missing,
            ..
        }) => Ok(Some(ToSign {
            file,
            valid,
            threshold,
            by: missing,
        })),
        Err(error) => Err(error.into()),
    }
}

/// The document of this name in the site's folder, whole as somebody left it.
pub(super) fn read(site: &Site, name: &str) -> Result<Option<Envelope>> {
    let path = site.to_sign().join(name);
    let Some(bytes) = private::read_bytes(&path, METADATA_BYTES_MAX)? else {
        return Ok(None);
    };
    let what = path.display().to_string();
    Ok(Some(Envelope::parse(&bytes, &what, METADATA_BYTES_MAX)?))
}

/// Refuses when another document than `wanted` waits under this name, signed or not.
pub(super) fn refuse_other(
    site: &Site,
    name: &str,
    wanted: &Envelope,
    now: Timestamp,
) -> Result<()> {
    match read(site, name)? {
        Some(other) if !is(&other, wanted, now) && is_in_time(&other, wanted, now) => {
            Err(CatalogueError::Waits(site.to_sign().join(name)))
        }
        _ => Ok(()),
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
fn is(waiting: &Envelope, wanted: &Envelope, now: Timestamp) -> bool {
    let mut waiting_as_wanted = waiting.signed.clone();
    waiting_as_wanted["expires"] = wanted.signed["expires"].clone();
    is_in_time(waiting, wanted, now) && waiting_as_wanted == wanted.signed
}

fn is_in_time(waiting: &Envelope, wanted: &Envelope, now: Timestamp) -> bool {
    let [waiting, wanted] = [waiting, wanted].map(|it| {
        let text = it.signed.get("expires").and_then(Value::as_str);
        text.and_then(|it| it.parse::<Timestamp>().ok())
    });
    matches!((waiting, wanted), (Some(it), Some(latest)) if now < it && it <= latest)
}

//! The envelope: a signed document and its signatures, and the one function that counts them.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::canonical_json;
use super::error::TrustError;
use super::keys::{KeyId, PublicKey, SigningKey};
use super::metadata::check_count;
use crate::limits::SIGNATURES_MAX;

/// `{"signatures": […], "signed": {…}}` (TUF 1.0, section 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The signatures over the canonical form of `signed`.
    pub signatures: Vec<Signature>,
    /// The document.
    pub signed: Value,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The key that made it.
    pub keyid: KeyId,
    /// For Ed25519, 64 bytes in hex.
    pub sig: String,
}

const TO_SIGN: &str = "the document to sign";

/// Who must have signed: the keys of a role and how many of them.
pub(super) struct Signers<'a> {
    pub(super) keys: Vec<(&'a KeyId, &'a PublicKey)>,
    pub(super) threshold: u32,
}

/// `signed` in an envelope with a signature by each of `keys`: JSON, ended by a newline. The same inputs give the same
/// bytes.
///
/// # Errors
/// A document that has no canonical form, such as one with a fraction in it.
pub fn sign(signed: &impl Serialize, keys: &[&SigningKey]) -> Result<Vec<u8>, TrustError> {
    let mut envelope = Envelope::unsigned(signed)?;
    for key in keys {
        envelope.add_signature(key)?;
    }
    Ok(envelope.to_bytes())
}

impl Envelope {
    /// The document without a signature.
    ///
    /// # Errors
    /// It has no JSON form.
    pub fn unsigned(document: &impl Serialize) -> Result<Self, TrustError> {
        let signed = serde_json::to_value(document).map_err(|source| TrustError::Json {
            what: TO_SIGN.into(),
            source,
        })?;
        Ok(Self {
            signatures: Vec::new(),
            signed,
        })
    }

    /// Reads an envelope of at most `max` bytes. Nothing in it is verified yet.
    ///
    /// # Errors
    /// Too large, no envelope, too many signatures, or two signatures in the name of one key (TUF 1.0, section 4.2).
    pub fn parse(bytes: &[u8], what: &str, max: u64) -> Result<Self, TrustError> {
        if bytes.len() as u64 > max {
            return Err(TrustError::TooLarge {
                what: what.into(),
                bytes: bytes.len() as u64,
                max,
            });
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(|source| TrustError::Json {
            what: what.into(),
            source,
        })?;
        let count = envelope.signatures.len();
        check_count(what, "signatures", count, SIGNATURES_MAX)?;
        let mut seen = BTreeSet::new();
        match envelope.signatures.iter().find(|s| !seen.insert(&s.keyid)) {
            Some(twice) => Err(TrustError::Malformed {
                what: what.into(),
                why: format!("two signatures are by key {}", twice.keyid.short()),
            }),
            None => Ok(envelope),
        }
    }

    /// Adds a signature over the document as it stands, in place of an older one by the same key.
    ///
    /// # Errors
    /// The document has no canonical form.
    pub fn add_signature(&mut self, key: &SigningKey) -> Result<(), TrustError> {
        let sig = key.sign(&self.message()?);
        self.put(key.public().id(), sig);
        Ok(())
    }

    /// What a key that is elsewhere signs: the canonical form of the document as it stands.
    ///
    /// # Errors
    /// The document has no canonical form.
    pub fn message(&self) -> Result<Vec<u8>, TrustError> {
        canonical(&self.signed, TO_SIGN)
    }

    /// Adds a signature that a key elsewhere has made of [`Self::message`]: of Ed25519, 64 bytes; of ECDSA, in DER.
    ///
    /// # Errors
    /// It is not this key's over the document, which may have no canonical form.
    pub fn take_signature(&mut self, key: &PublicKey, signature: &[u8]) -> Result<(), TrustError> {
        let sig = hex::encode(signature);
        if !key.verifies(&self.message()?, &sig) {
            return Err(TrustError::Malformed {
                what: TO_SIGN.into(),
                why: format!("the signature is not by key {}", key.id().fingerprint()),
            });
        }
        self.put(key.id(), sig);
        Ok(())
    }

    fn put(&mut self, keyid: KeyId, sig: String) {
        self.signatures.retain(|s| s.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
    }

    /// Whether so many different ones of these keys have signed, for those who collect signatures. It proves nothing of the
    /// document, which nobody has read yet: machines go by what they trusted before.
    ///
    /// # Errors
    /// [`TrustError::Signatures`] says who is missing.
    pub fn require_signers(
        &self,
        what: &str,
        keys: &[PublicKey],
        threshold: u32,
    ) -> Result<(), TrustError> {
        let ids: Vec<_> = keys.iter().map(PublicKey::id).collect();
        let keys = ids.iter().zip(keys).collect();
        self.verify(what, &Signers { keys, threshold })
    }

    /// The bytes to store: JSON, one field a line, ended by a newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // A tree of strings, integers and lists always has a JSON form.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The document's `_type`, and nothing more of it.
    pub(super) fn require_type(&self, what: &str, wanted: &str) -> Result<(), TrustError> {
        match self.signed.get("_type").and_then(Value::as_str) {
            Some(found) if found == wanted => Ok(()),
            found => Err(TrustError::Malformed {
                what: what.into(),
                why: format!("its _type is {found:?}, not {wanted:?}"),
            }),
        }
    }

    /// Verifies that enough *different* keys of `signers` signed, over the canonical form of the document as received.
    pub(super) fn verify(&self, what: &str, signers: &Signers<'_>) -> Result<(), TrustError> {
        let message = canonical(&self.signed, what)?;
        let mut signed_by = BTreeSet::new();
        let mut missing = Vec::new();
        for (id, key) in &signers.keys {
            let signature = self.signatures.iter().find(|s| s.keyid == **id);
            match (key.identity(), signature) {
                (Some(identity), Some(s)) if key.verifies(&message, &s.sig) => {
                    signed_by.insert(identity);
                }
                _ => missing.push(id.short()),
            }
        }
        if signers.threshold > 0 && signed_by.len() as u64 >= u64::from(signers.threshold) {
            return Ok(());
        }
        Err(TrustError::Signatures {
            what: what.into(),
            valid: signed_by.len(),
            threshold: signers.threshold,
            missing,
        })
    }

    /// The document as `T`: read from the very value whose canonical form was verified.
    pub(super) fn read<T: DeserializeOwned>(self, what: &str) -> Result<T, TrustError> {
        serde_json::from_value(self.signed).map_err(|source| TrustError::Json {
            what: what.into(),
            source,
        })
    }
}

fn canonical(document: &Value, what: &str) -> Result<Vec<u8>, TrustError> {
    canonical_json(document).map_err(|e| TrustError::Malformed {
        what: what.into(),
        why: e.to_string(),
    })
}

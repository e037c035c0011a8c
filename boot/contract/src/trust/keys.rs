//! Keys: public ones as TUF key objects, secret ones for those who sign.

use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::{Signer as _, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::canonical_json;
use crate::Digest;

/// The `keytype` and `scheme` of an Ed25519 key (RFC 8032).
const ED25519: &str = "ed25519";

/// Identifies a key in metadata: by convention [`PublicKey::id`], the SHA-256 of the canonical key object in hex. As the
/// specification wants it, a document's own identifiers are taken as they are; what is counted is keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first twelve letters or digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.0
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(12)
            .collect()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.escape_debug().to_string())
    }
}

/// A TUF key object. Types and schemes this program does not know are kept, and verify nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// Type of the key: `ed25519`.
    pub keytype: String,
    /// Signature scheme: `ed25519`.
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyValue,
    /// Fields that are not known here; they count for the identifier only.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// The `keyval` of a [`PublicKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// For Ed25519, the 32 bytes of the key in hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public: Option<String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl PublicKey {
    /// The key object of an Ed25519 key.
    #[must_use]
    pub fn ed25519(public: &[u8; 32]) -> Self {
        Self {
            keytype: ED25519.into(),
            scheme: ED25519.into(),
            keyval: KeyValue {
                public: Some(hex::encode(public)),
                unknown: BTreeMap::new(),
            },
            unknown: BTreeMap::new(),
        }
    }

    /// SHA-256 of the canonical key object, in hex (TUF 1.0, section 4.2; securesystemslib computes the same).
    #[must_use]
    pub fn id(&self) -> KeyId {
        // A key object that was read or made here is a tree of strings and numbers; one with a float has no canonical
        // form, and the identifier of nothing, which no key has.
        let canonical = serde_json::to_value(self)
            .ok()
            .and_then(|value| canonical_json(&value).ok());
        KeyId(Digest::of(&canonical.unwrap_or_default()).to_string())
    }

    /// Whether `signature` (in hex) is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let (Some(key), mut bytes) = (self.verifying_key(), [0; 64]) else {
            return false;
        };
        hex::decode_to_slice(signature, &mut bytes).is_ok()
            && key.verify_strict(message, &bytes.into()).is_ok()
    }

    /// What makes two key objects the same key; `None` for a key that can verify nothing.
    pub(super) fn identity(&self) -> Option<[u8; 32]> {
        self.verifying_key().map(|key| key.to_bytes())
    }

    fn verifying_key(&self) -> Option<VerifyingKey> {
        let mut public = [0; 32];
        if self.keytype != ED25519 || self.scheme != ED25519 {
            return None;
        }
        hex::decode_to_slice(self.keyval.public.as_deref()?, &mut public).ok()?;
        VerifyingKey::from_bytes(&public).ok()
    }
}

/// A secret Ed25519 key. It is wiped from memory when dropped and shows only its identifier.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key made from 32 bytes, which must be fresh and random for a new key (RFC 8032 calls them the private key).
    #[must_use]
    pub fn generate(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The bytes it was made from, to be stored where only its owner can read them.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::ed25519(self.0.verifying_key().as_bytes())
    }

    /// Signature over `message`, in hex.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        hex::encode(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

//! Keys: public ones as TUF key objects, secret ones for those who sign.

use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
#[cfg(feature = "rsa")]
use ring::signature::RSA_PSS_2048_8192_SHA256;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::canonical_json;
use crate::Digest;

/// The `keytype` and `scheme` of an Ed25519 key (RFC 8032).
const ED25519: &str = "ed25519";

/// The `keytype` and `scheme` of an ECDSA key on P-256 with SHA-256: what TPMs and HSMs have.
const ECDSA: &str = "ecdsa";
const ECDSA_P256: &str = "ecdsa-sha2-nistp256";

/// The `keytype` and `scheme` of the third kind of key that TUF defines: RSA of 2048 to 8192 bits, PSS with SHA-256 and a salt
/// as long. No machine and no server of Towline believes one; the test-only client of other people's suite does.
#[cfg(feature = "rsa")]
const RSA: &str = "rsa";
#[cfg(feature = "rsa")]
const RSA_PSS: &str = "rsassa-pss-sha256";

/// The algorithm in the `SubjectPublicKeyInfo` of an RSA key (RFC 3279, section 2.3.1).
#[cfg(feature = "rsa")]
const RSA_ALGORITHM: &[u8; 15] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// A `SubjectPublicKeyInfo` of an uncompressed point on P-256, but for the point (RFC 5480, sections 2.1.1 and 2.2).
const P256_PREFIX: &[u8; 26] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

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

    /// What people compare when they approve a key: its first 16 letters or digits, in groups of four.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let letters = self.0.chars().filter(char::is_ascii_alphanumeric);
        let letters: Vec<_> = letters.take(16).collect();
        let groups: Vec<String> = letters.chunks(4).map(|it| it.iter().collect()).collect();
        groups.join("-")
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
    /// Type of the key: `ed25519`, or `ecdsa` (older documents: `ecdsa-sha2-nistp256`).
    pub keytype: String,
    /// Signature scheme: `ed25519`, or `ecdsa-sha2-nistp256`.
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
    /// For Ed25519, the 32 bytes of the key in hex; for others, the `SubjectPublicKeyInfo` in PEM.
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

    /// The key object of an ECDSA key on P-256, from its `SubjectPublicKeyInfo` in PEM.
    #[must_use]
    pub fn ecdsa_p256(pem: String) -> Self {
        Self {
            keytype: ECDSA.into(),
            scheme: ECDSA_P256.into(),
            keyval: KeyValue {
                public: Some(pem),
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

    /// Whether the key is of a known type and well formed, so that it can verify anything.
    #[must_use]
    pub fn can_verify(&self) -> bool {
        self.verifying_key().is_some()
    }

    /// Whether `signature` (in hex; of ECDSA, in DER) is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let (Some(key), Ok(signature)) = (self.verifying_key(), hex::decode(signature)) else {
            return false;
        };
        match key {
            Verifying::Ed25519(key) => Signature::from_slice(&signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Verifying::EcdsaP256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(message, &signature)
                .is_ok(),
            #[cfg(feature = "rsa")]
            Verifying::RsaPss(key) => UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key)
                .verify(message, &signature)
                .is_ok(),
        }
    }

    /// What makes two key objects the same key; `None` for a key that can verify nothing.
    pub(super) fn identity(&self) -> Option<Vec<u8>> {
        Some(match self.verifying_key()? {
            Verifying::Ed25519(key) => key.to_bytes().to_vec(),
            Verifying::EcdsaP256(point) => point,
            #[cfg(feature = "rsa")]
            Verifying::RsaPss(key) => key,
        })
    }

    fn verifying_key(&self) -> Option<Verifying> {
        let public = self.keyval.public.as_deref()?;
        match (self.keytype.as_str(), self.scheme.as_str()) {
            (ED25519, ED25519) => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(public, &mut bytes).ok()?;
                VerifyingKey::from_bytes(&bytes)
                    .ok()
                    .map(Verifying::Ed25519)
            }
            (ECDSA | ECDSA_P256, ECDSA_P256) => {
                let info = SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes()).ok()?;
                let point = info.strip_prefix(P256_PREFIX)?;
                // 4: uncompressed (SEC 1, section 2.3.3). Whether it is on the curve is seen when it verifies.
                let uncompressed = point.len() == 65 && point[0] == 4;
                uncompressed.then(|| Verifying::EcdsaP256(point.to_vec()))
            }
            #[cfg(feature = "rsa")]
            (RSA, RSA_PSS) => rsa(public).map(Verifying::RsaPss),
            _ => None,
        }
    }
}

/// A key that is of a known type and well formed.
enum Verifying {
    Ed25519(VerifyingKey),
    /// An uncompressed point.
    EcdsaP256(Vec<u8>),
    /// An `RSAPublicKey` (RFC 8017, appendix A.1.1).
    #[cfg(feature = "rsa")]
    RsaPss(Vec<u8>),
}

/// The `RSAPublicKey` in a PEM. Sizes are ring's to check, when it verifies; this is so that what can be no key is none.
#[cfg(feature = "rsa")]
fn rsa(pem: &str) -> Option<Vec<u8>> {
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    let info = long_der(0x30, &info)?.strip_prefix(RSA_ALGORITHM)?;
    let key = long_der(0x03, info)?.strip_prefix(&[0])?;
    long_der(0x30, key).map(|_| key.to_vec())
}

/// What is in a DER value of this tag that is the whole of `der`, with a length of two bytes: 256 to 65535, as all parts of an
/// RSA key of 2048 bits and more (X.690, section 8.1.3.5; a shorter value has a shorter length, section 10.1).
#[cfg(feature = "rsa")]
fn long_der(tag: u8, der: &[u8]) -> Option<&[u8]> {
    match der {
        [first, 0x82, high, low, rest @ ..] if *first == tag => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            (length >= 256 && length == rest.len()).then_some(rest)
        }
        _ => None,
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

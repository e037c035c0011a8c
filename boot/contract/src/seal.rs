//! Sealing: what only the holder of one key can read, whoever carries it. `docs/formats/seal.md` specifies it.
//!
//! HPKE (RFC 9180) in base mode, one message a key: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. Nothing here has
//! random numbers of its own: the 32 bytes that each key and each message needs come in as an argument.

use std::fmt;

use hpke::aead::{AeadTag, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{self, CryptoRng, RngCore};
use hpke::{
    Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _,
    single_shot_open_in_place_detached, single_shot_seal_in_place_detached,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::Digest;

type Kem = X25519HkdfSha256;
type Kdf = HkdfSha256;
type Aead = ChaCha20Poly1305;

/// What a sealed message begins with: format 1, and with it the algorithms above.
const MAGIC: &[u8; 8] = b"TOWSEAL1";

/// Bytes of the sender's ephemeral public key (RFC 9180, section 7.1).
const ENCAPSULATED_BYTES: usize = 32;

/// Bytes of the tag at the end (RFC 9180, section 7.3).
const TAG_BYTES: usize = 16;

/// How much longer a message is when it is sealed, in bytes.
pub const SEALED_EXTRA_BYTES: usize = MAGIC.len() + ENCAPSULATED_BYTES + TAG_BYTES;

/// What a message is: HPKE's `info`. One that was sealed as something else does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// A recovery code with its request, for the server.
    RecoveryRequest,
    /// The answer to this sealed request, for the machine that made it: HPKE's `aad` is the digest of the request as it was sent.
    RecoveryAnswer(Digest),
}

impl Sealed {
    fn info(self) -> &'static [u8] {
        match self {
            Self::RecoveryRequest => b"towline/recovery-request/1",
            Self::RecoveryAnswer(_) => b"towline/recovery-answer/1",
        }
    }

    fn aad(&self) -> &[u8] {
        match self {
            Self::RecoveryRequest => &[],
            Self::RecoveryAnswer(request) => request.as_bytes(),
        }
    }
}

/// Why something was not sealed or does not open. It is not said which byte is wrong: nobody can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not the format.
    #[error(
        "it is not sealed: it does not begin with TOWSEAL1, or has fewer than {SEALED_EXTRA_BYTES} bytes"
    )]
    NotSealed,
    /// A public key of small order, with which everybody has the same secret.
    #[error("the X25519 key cannot be sealed to")]
    Key,
    /// Sealed to another key or as something else, or changed on its way.
    #[error("it is sealed to another key or for something else, or was changed on its way")]
    Closed,
}

/// A public X25519 key that messages are sealed to, in 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealTo(#[serde(with = "hex::serde")] [u8; 32]);

impl SealTo {
    /// Seals `message`. `random` must be fresh: of it the key is made that this one message is encrypted by.
    ///
    /// # Errors
    /// This is no key that can be sealed to.
    pub fn seal(
        &self,
        what: Sealed,
        message: &[u8],
        random: Zeroizing<[u8; 32]>,
    ) -> Result<Vec<u8>, SealError> {
        self.seal_with(what.info(), what.aad(), message, random)
    }

    fn seal_with(
        &self,
        info: &[u8],
        aad: &[u8],
        message: &[u8],
        random: Zeroizing<[u8; 32]>,
    ) -> Result<Vec<u8>, SealError> {
        let key = <Kem as hpke::Kem>::PublicKey::from_bytes(&self.0).map_err(|_| SealError::Key)?;
        // All of it at once, and encrypted where it lies: no copy of the message is left behind.
        let mut sealed = Vec::with_capacity(message.len() + SEALED_EXTRA_BYTES);
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&[0; ENCAPSULATED_BYTES]);
        sealed.extend_from_slice(message);
        let (head, body) = sealed.split_at_mut(MAGIC.len() + ENCAPSULATED_BYTES);
        let done = single_shot_seal_in_place_detached::<Aead, Kdf, Kem, _>(
            &OpModeS::Base,
            &key,
            info,
            body,
            aad,
            &mut Given(random),
        );
        let Ok((encapsulated, tag)) = done else {
            sealed.zeroize();
            return Err(SealError::Key);
        };
        encapsulated.write_exact(&mut head[MAGIC.len()..]);
        sealed.extend_from_slice(&tag.to_bytes());
        Ok(sealed)
    }
}

/// A secret X25519 key. It is wiped from memory when dropped, and shows nothing.
pub struct SealKey(<Kem as hpke::Kem>::PrivateKey);

impl SealKey {
    /// The key made from 32 fresh random bytes (`DeriveKeyPair` of RFC 9180).
    #[must_use]
    pub fn generate(random: &Zeroizing<[u8; 32]>) -> Self {
        Self(Kem::derive_keypair(random.as_slice()).0)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> SealTo {
        SealTo(Kem::sk_to_pk(&self.0).to_bytes().into())
    }

    /// Opens what was sealed to this key; what it gives is wiped when dropped.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn open(&self, what: Sealed, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.open_with(what.info(), what.aad(), sealed)
    }

    fn open_with(
        &self,
        info: &[u8],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (encapsulated, body, tag) = parts(sealed).ok_or(SealError::NotSealed)?;
        let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(encapsulated)
            .map_err(|_| SealError::Key)?;
        let tag = AeadTag::<Aead>::from_bytes(tag).map_err(|_| SealError::NotSealed)?;
        let mut message = Zeroizing::new(body.to_vec());
        single_shot_open_in_place_detached::<Aead, Kdf, Kem>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            info,
            &mut message,
            aad,
            &tag,
        )
        .map_err(|_| SealError::Closed)?;
        Ok(message)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// Encapsulated key, ciphertext and tag.
fn parts(sealed: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let rest = sealed.strip_prefix(MAGIC)?;
    let (encapsulated, rest) = rest.split_at_checked(ENCAPSULATED_BYTES)?;
    let (body, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
    Some((encapsulated, body, tag))
}

/// The random numbers of one message: the 32 bytes that were given, which is what X25519 takes (RFC 9180, section 4.1).
struct Given(Zeroizing<[u8; 32]>);

impl RngCore for Given {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        // A second call would repeat the first: better nothing at all.
        assert_eq!(bytes.len(), self.0.len(), "one key of 32 bytes a message");
        bytes.copy_from_slice(self.0.as_slice());
    }
}

impl CryptoRng for Given {}

#[cfg(test)]
mod tests;

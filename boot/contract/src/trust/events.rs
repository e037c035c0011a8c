//! Events that their machine signs: the token for reports of its recovery is the seed of an Ed25519 key, of which the server keeps
//! the public half. The bytes as they came are verified, and read afterwards. `docs/formats/api.md` specifies it.

use std::str::FromStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::keys::{PublicKey, SigningKey};
use super::verified::Verified;
use crate::event::{EVENT_BYTES_MAX, Event};

/// What a signature is over begins with this: nothing else that a key of ours signs does.
const CONTEXT: &[u8] = b"towline/event/1\0";

/// Longest name of a recovery in a signature, in bytes. Ours have 18; it is the bound of names in events.
const RECOVERY_BYTES_MAX: usize = 128;

/// Hex digits of an Ed25519 signature, 64 bytes (RFC 8032).
const SIGNATURE_LETTERS: usize = 128;

/// Signs the events of one recovery. Its key is wiped from memory when dropped.
#[derive(Clone, Debug)]
pub struct EventSigner {
    recovery: String,
    key: Arc<SigningKey>,
}

impl EventSigner {
    /// Signs for `recovery` by its token for reports, the content of [`crate::recovery::REPORT_TOKEN_FILE`]: 32 bytes in hex.
    /// None if it is anything else.
    #[must_use]
    pub fn new(recovery: &str, token: &str) -> Option<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(token.trim(), seed.as_mut_slice()).ok()?;
        Some(Self {
            recovery: recovery.to_owned(),
            key: Arc::new(SigningKey::generate(*seed)),
        })
    }

    /// The public half of its key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The header [`crate::api::EVENT_SIGNATURE_HEADER`] of an event with this body: the recovery, a blank, the signature in hex.
    #[must_use]
    pub fn header(&self, body: &[u8]) -> String {
        let signature = self.key.sign(&message(&self.recovery, body));
        format!("{} {signature}", self.recovery)
    }
}

/// What came in an event's header. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSignature {
    recovery: String,
    signature: String,
}

/// Why an event is not its machine's. It is not said which byte is wrong: nobody can mend it.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// No signature, not by this key, for another recovery, or over another body.
    #[error("the event is not signed by the machine of its recovery")]
    NotSigned,
    /// The machine has signed what this program does not read.
    #[error("the signed body is no event")]
    Json(#[from] serde_json::Error),
}

/// As [`EventSigner::header`] writes it.
impl FromStr for EventSignature {
    type Err = EventError;

    fn from_str(header: &str) -> Result<Self, EventError> {
        let (recovery, signature) = header.split_once(' ').ok_or(EventError::NotSigned)?;
        let is_name = (1..=RECOVERY_BYTES_MAX).contains(&recovery.len())
            && recovery.bytes().all(|b| b.is_ascii_graphic());
        if !is_name || signature.len() != SIGNATURE_LETTERS {
            return Err(EventError::NotSigned);
        }
        Ok(Self {
            recovery: recovery.to_owned(),
            signature: signature.to_owned(),
        })
    }
}

impl EventSignature {
    /// The recovery whose key it claims to be by.
    #[must_use]
    pub fn recovery(&self) -> &str {
        &self.recovery
    }

    /// The event in `body`, the bytes as they came, if `key` has signed it for this recovery.
    ///
    /// # Errors
    /// See [`EventError`].
    pub fn verify(&self, body: &[u8], key: &PublicKey) -> Result<Verified<Event>, EventError> {
        let is_signed = body.len() <= EVENT_BYTES_MAX
            && key.verifies(&message(&self.recovery, body), &self.signature);
        if !is_signed {
            return Err(EventError::NotSigned);
        }
        let event: Event = serde_json::from_slice(body)?;
        match event.recovery == self.recovery {
            true => Ok(Verified::new(event)),
            false => Err(EventError::NotSigned),
        }
    }
}

/// What is signed. No name of a recovery has a NUL, so no two of them and their bodies make the same message.
fn message(recovery: &str, body: &[u8]) -> Vec<u8> {
    [CONTEXT, recovery.as_bytes(), b"\0", body].concat()
}

//! A key that signs documents, wherever its secret half is.

use towline_contract::trust::{Envelope, PublicKey, SigningKey};

use super::{AgentError, AgentKey};

/// A key that signs.
#[derive(Debug)]
pub enum Signer {
    /// One that was read here.
    Here(SigningKey),
    /// One that an ssh-agent has.
    Agent(AgentKey),
}

impl Signer {
    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Here(key) => key.public(),
            Self::Agent(key) => key.public(),
        }
    }

    /// Adds its signature to the document.
    ///
    /// # Errors
    /// The document has no canonical form, or the agent does not sign.
    pub fn sign(&self, envelope: &mut Envelope) -> Result<(), AgentError> {
        match self {
            Self::Here(key) => Ok(envelope.add_signature(key)?),
            Self::Agent(key) => key.sign(envelope),
        }
    }
}

impl From<SigningKey> for Signer {
    fn from(key: SigningKey) -> Self {
        Self::Here(key)
    }
}

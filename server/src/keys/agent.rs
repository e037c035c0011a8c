//! Keys in an ssh-agent: the two requests of its protocol that signing takes (draft-miller-ssh-agent, sections 3.5 and 3.6).
//!
//! What it signs is no login of ssh: that begins with the length of a session's identifier (RFC 4252, section 7), and a document
//! with `{`. Types of keys and signatures are the `ssh-key` crate's; `docs/decisions/ssh-agent.md` says why no more of it.

use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pkcs8::der::asn1::{SequenceOf, UintRef};
use pkcs8::der::{self, Encode as _};
use ssh_encoding::{Decode as _, Encode, Reader as _};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, Mpint, Signature};
use towline_contract::trust::{Envelope, PublicKey, TrustError};

use super::public::of_ssh;

/// Numbers of messages (draft-miller-ssh-agent, section 6.1).
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Largest message, in bytes: what OpenSSH's agent takes and gives (`AGENT_MAX_LEN`).
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Most keys of an agent that are looked at. OpenSSH's gives up logins after six.
const IDENTITIES_MAX: u32 = 2048;

/// How long an agent may take: it may ask its owner, or wait for a finger on a token.
const PATIENCE: Duration = Duration::from_secs(180);

/// Why a key in an agent cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It cannot be spoken to.
    #[error("cannot speak with the ssh-agent at {socket}")]
    Socket {
        /// Where it listens.
        socket: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It says what it should not.
    #[error("the ssh-agent at {socket} gave no answer that can be understood")]
    Answer {
        /// Where it listens.
        socket: PathBuf,
    },
    /// It has no such key.
    #[error("the ssh-agent has no Ed25519 or ECDSA P-256 key {wanted} (it has {has})")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// Those that it has.
        has: String,
    },
    /// It has several of this name.
    #[error("the ssh-agent has several keys {wanted}: {has}")]
    Several {
        /// What was asked for.
        wanted: String,
        /// Those that it has.
        has: String,
    },
    /// The document is larger than an agent takes.
    #[error("an ssh-agent signs {max} bytes at most, and the document has {bytes}")]
    TooLarge {
        /// Bytes to sign.
        bytes: usize,
        /// Bytes that an agent takes.
        max: usize,
    },
    /// The agent, or its owner, did not want to.
    #[error("the ssh-agent did not sign with the key {0}")]
    Refused(String),
    /// The signature is not the key's over the document.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// A key in an agent.
#[derive(Clone, Debug)]
pub struct AgentKey {
    socket: PathBuf,
    /// As the agent names it.
    blob: Vec<u8>,
    name: String,
    public: PublicKey,
}

impl AgentKey {
    /// The agent's one key of this name: `SHA256:…` as `ssh-add -l` shows it, a fingerprint as `towline key show` does, or a
    /// comment.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn find(socket: &Path, wanted: &str) -> Result<Self, AgentError> {
        let all = identities(socket)?;
        let names = |keys: &[&Identity]| {
            let names = keys.iter().map(|it| it.name());
            match names.collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "none".into(),
                names => names,
            }
        };
        let found: Vec<_> = all.iter().filter(|it| it.is(wanted)).collect();
        let wanted = wanted.to_owned();
        match found.as_slice() {
            [one] => Ok(Self {
                socket: socket.into(),
                blob: one.blob.clone(),
                name: one.name(),
                public: one.public.clone(),
            }),
            [] => Err(AgentError::Unknown {
                wanted,
                has: names(&all.iter().collect::<Vec<_>>()),
            }),
            several => Err(AgentError::Several {
                wanted,
                has: names(several),
            }),
        }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// Adds the key's signature to the document.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn sign(&self, envelope: &mut Envelope) -> Result<(), AgentError> {
        let message = envelope.message()?;
        let (bytes, max) = (message.len(), MESSAGE_BYTES_MAX - self.blob.len() - 16);
        if bytes > max {
            return Err(AgentError::TooLarge { bytes, max });
        }
        let mut request = vec![SIGN_REQUEST];
        // No flags: they are about RSA.
        let parts: [&dyn Fn(&mut Vec<u8>) -> _; 3] = [
            &|to| Encode::encode(&self.blob, to),
            &|to| Encode::encode(&message, to),
            &|to| Encode::encode(&0_u32, to),
        ];
        let encoded = parts.iter().try_for_each(|part| part(&mut request));
        encoded.map_err(|_: ssh_encoding::Error| AgentError::TooLarge { bytes, max })?;
        let answer = exchange(&self.socket, &request)?;
        let [SIGN_RESPONSE, body @ ..] = answer.as_slice() else {
            return Err(AgentError::Refused(self.name.clone()));
        };
        let signature = signature(body).ok_or_else(|| AgentError::Answer {
            socket: self.socket.clone(),
        })?;
        Ok(envelope.take_signature(&self.public, &signature)?)
    }
}

/// A key that an agent has, of a type that machines believe.
struct Identity {
    blob: Vec<u8>,
    key: KeyData,
    comment: String,
    public: PublicKey,
}

impl Identity {
    fn name(&self) -> String {
        let (print, comment) = (self.key.fingerprint(HashAlg::Sha256), &self.comment);
        format!("{print} ({comment})")
    }

    fn is(&self, wanted: &str) -> bool {
        let print = self.key.fingerprint(HashAlg::Sha256).to_string();
        print == wanted || self.public.id().fingerprint() == wanted || self.comment == wanted
    }
}

fn identities(socket: &Path) -> Result<Vec<Identity>, AgentError> {
    let answer = exchange(socket, &[REQUEST_IDENTITIES])?;
    let understood = match answer.as_slice() {
        [IDENTITIES_ANSWER, body @ ..] => listed(body),
        _ => None,
    };
    understood.ok_or_else(|| AgentError::Answer {
        socket: socket.into(),
    })
}

fn listed(mut body: &[u8]) -> Option<Vec<Identity>> {
    let reader = &mut body;
    let count = u32::decode(reader).ok()?.min(IDENTITIES_MAX);
    let mut all = Vec::new();
    for _ in 0..count {
        let blob = Vec::decode(reader).ok()?;
        let comment = Vec::decode(reader).ok()?;
        // Certificates, and keys of types that are not known here, are others' business.
        let Ok(key) = KeyData::decode(&mut blob.as_slice()) else {
            continue;
        };
        if let Some(public) = of_ssh(&key) {
            let comment = String::from_utf8_lossy(&comment).into_owned();
            all.push(Identity {
                blob,
                key,
                comment,
                public,
            });
        }
    }
    Some(all)
}

/// The signature as TUF wants it: of Ed25519 as it is, of ECDSA as `SEQUENCE { r, s }` (RFC 3279, section 2.2.3).
fn signature(mut body: &[u8]) -> Option<Vec<u8>> {
    let signature = body.read_prefixed(Signature::decode).ok()?;
    if !body.is_finished() {
        return None;
    }
    match signature.algorithm() {
        Algorithm::Ed25519 => Some(signature.as_bytes().to_vec()),
        Algorithm::Ecdsa { .. } => {
            let mut parts = signature.as_bytes();
            let [r, s] = [(); 2].map(|()| Mpint::decode(&mut parts).ok());
            let (r, s) = (r?, s?);
            let mut sequence = SequenceOf::<UintRef<'_>, 2>::new();
            for part in [&r, &s] {
                let part: der::Result<_> = UintRef::new(part.as_positive_bytes()?);
                sequence.add(part.ok()?).ok()?;
            }
            sequence.to_der().ok()
        }
        _ => None,
    }
}

/// One request, and its answer: each is preceded by its length.
fn exchange(socket: &Path, request: &[u8]) -> Result<Vec<u8>, AgentError> {
    let spoken = || {
        let mut agent = UnixStream::connect(socket)?;
        agent.set_read_timeout(Some(PATIENCE))?;
        agent.set_write_timeout(Some(PATIENCE))?;
        let length = u32::try_from(request.len()).map_err(io::Error::other)?;
        agent.write_all(&length.to_be_bytes())?;
        agent.write_all(request)?;
        let mut length = [0; 4];
        agent.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            let what = format!("it has {length} bytes to say, and {MESSAGE_BYTES_MAX} are read");
            return Err(io::Error::other(what));
        }
        let mut answer = vec![0; length];
        agent.read_exact(&mut answer)?;
        Ok(answer)
    };
    spoken().map_err(|cause| AgentError::Socket {
        socket: socket.into(),
        cause,
    })
}

#[cfg(test)]
mod tests;

//! The credentials layer, which comes with a plan and is in no catalogue. It is wiped from memory when dropped, and not shown.

use std::fmt;

use zeroize::Zeroizing;

use super::chain::Chain;
use super::error::TrustError;
use super::target::TargetName;
use super::verified::Verified;
use crate::agent::CREDENTIALS_DIR;
use crate::lanes::Bounds;
use crate::limits::CREDENTIALS_BYTES_MAX;
use crate::manifest::{Compression, Kind, MANIFEST_FORMAT, Manifest, Needs, Placement};
use crate::newc::{Decoder, Item};
use crate::recovery::{CredentialsRef, Order, REPORT_TOKEN_FILE, Recover};
use crate::{Digest, Secret};

/// A credentials layer that the plan's signature covers: placed like any other layer, after all of them.
pub struct Credentials {
    /// What the plan says of it.
    pub manifest: Verified<Manifest>,
    /// All of its bytes.
    pub chunk: Verified<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.manifest.target_name())
    }
}

impl Credentials {
    /// The token for reports ([`REPORT_TOKEN_FILE`]), if they have one: what [`super::EventSigner`] signs by.
    #[must_use]
    pub fn report_token(&self) -> Option<Secret> {
        let path = format!("{}/{REPORT_TOKEN_FILE}", &CREDENTIALS_DIR[1..]);
        let (mut decoder, mut input) = (Decoder::new(), self.chunk.as_slice());
        let mut is_token = false;
        while let Some(item) = decoder.next(&mut input).ok()? {
            match item {
                Item::Entry(entry) => is_token = entry.name == path.as_bytes(),
                // The archive is here as a whole, and so is each of its files.
                Item::Data(data) if is_token => {
                    let token = std::str::from_utf8(data).ok()?.trim();
                    return Some(token.to_owned().into());
                }
                Item::Data(_) | Item::EntryEnd => {}
            }
        }
        None
    }
}

const WHAT: &str = "the credentials layer";

impl Verified<Chain> {
    /// Verifies the credentials that came beside the plan; none when the plan orders no recovery with credentials and none
    /// came.
    ///
    /// # Errors
    /// Not the bytes that the plan names; some came that it does not name, or none did.
    pub fn credentials(
        &self,
        bytes: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Option<Credentials>, TrustError> {
        let named = match &self.plan.order {
            Some(Order::Recover(Recover { credentials, .. })) => credentials.as_ref(),
            _ => None,
        };
        let (named, bytes) = match (named, bytes) {
            (None, None) => return Ok(None),
            (Some(named), Some(bytes)) => (named, bytes),
            (named, _) => {
                let (one, other) = match named {
                    Some(_) => ("the plan names", "none came"),
                    None => ("the plan names none", "some came"),
                };
                return Err(TrustError::Malformed {
                    what: WHAT.into(),
                    why: format!("{one}, and {other}"),
                });
            }
        };
        check(named, &bytes)?;
        Ok(Some(Credentials {
            manifest: Verified::new(manifest(&self.plan.recovery, named)),
            chunk: Verified::new(bytes),
        }))
    }
}

fn check(named: &CredentialsRef, bytes: &[u8]) -> Result<(), TrustError> {
    let (found, wanted) = (bytes.len() as u64, named.bytes);
    let what = || WHAT.into();
    if found > CREDENTIALS_BYTES_MAX {
        return Err(TrustError::TooLarge {
            what: what(),
            bytes: found,
            max: CREDENTIALS_BYTES_MAX,
        });
    }
    if found != wanted {
        return Err(TrustError::Length {
            what: what(),
            found,
            wanted,
        });
    }
    let (found, wanted) = (Digest::of(bytes), named.digest);
    if found != wanted {
        return Err(TrustError::Digest {
            what: what(),
            found,
            wanted,
        });
    }
    Ok(())
}

/// The name says which recovery it was made for.
fn manifest(recovery: &str, named: &CredentialsRef) -> Manifest {
    let target = TargetName {
        kind: Kind::Credentials,
        name: recovery.into(),
        version: "1".into(),
        architecture: "all".into(),
    };
    Manifest {
        format: MANIFEST_FORMAT,
        kind: target.kind,
        name: target.name,
        version: target.version,
        architecture: target.architecture,
        created: crate::Timestamp::UNIX_EPOCH,
        digest: named.digest,
        stored_bytes: named.bytes,
        unpacked_bytes: named.bytes,
        entries: named.entries,
        compression: Compression::None,
        chunks: vec![named.digest],
        placement: Placement::Ram,
        image: None,
        kernel_release: None,
        provides: Needs::default(),
        requires: Needs::default(),
        replaceable: vec![],
        packages: vec![],
        checks: vec![],
        agent: None,
        session: None,
        bounds: Bounds::default(),
    }
}

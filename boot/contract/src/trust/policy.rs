//! The site's layer policy as a signed target: the `custom` part has the document, length and digest are of its canonical JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::canonical_json;
use super::error::TrustError;
use super::file::sha256;
use super::metadata::TargetFile;
use super::view::SignedView;
use crate::Digest;
use crate::lanes::{LayerPolicy, POLICY_TARGET};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Custom {
    policy: Value,
}

fn malformed(why: String) -> TrustError {
    TrustError::Malformed {
        what: format!("signed target {POLICY_TARGET:?}"),
        why,
    }
}

impl TargetFile {
    /// The target of this policy.
    ///
    /// # Errors
    /// The policy has a mistake.
    pub fn of_policy(policy: &LayerPolicy) -> Result<Self, TrustError> {
        if let Some(why) = policy.mistake() {
            return Err(malformed(why));
        }
        let policy = serde_json::to_value(policy).map_err(|it| malformed(it.to_string()))?;
        let bytes = canonical_json(&policy).map_err(|it| malformed(it.to_string()))?;
        Ok(Self {
            length: bytes.len() as u64,
            hashes: sha256(&Digest::of(&bytes)),
            custom: serde_json::to_value(Custom { policy }).ok(),
        })
    }
}

impl TargetFile {
    /// The policy that this target has.
    ///
    /// # Errors
    /// It is not one that this program reads in full.
    pub fn layer_policy(&self) -> Result<LayerPolicy, TrustError> {
        let custom = self.custom.clone().unwrap_or_default();
        let custom: Custom =
            serde_json::from_value(custom).map_err(|it| malformed(it.to_string()))?;
        let bytes = canonical_json(&custom.policy).map_err(|it| malformed(it.to_string()))?;
        if (self.length, self.sha256()) != (bytes.len() as u64, Some(Digest::of(&bytes))) {
            return Err(malformed(
                "its length or digest is another document's".into(),
            ));
        }
        let policy: LayerPolicy =
            serde_json::from_value(custom.policy).map_err(|it| malformed(it.to_string()))?;
        match policy.mistake() {
            Some(why) => Err(malformed(why)),
            None => Ok(policy),
        }
    }
}

impl SignedView {
    /// The site's layer policy, if its targets role has signed one; else that of every site, which is empty.
    ///
    /// # Errors
    /// It is there, and not one that this program reads in full: then nothing can be said of any layer.
    pub fn layer_policy(&self) -> Result<LayerPolicy, TrustError> {
        match self.targets().targets.get(POLICY_TARGET) {
            Some(target) => target.layer_policy(),
            None => Ok(LayerPolicy::default()),
        }
    }
}

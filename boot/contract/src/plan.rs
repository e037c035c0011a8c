//! The plan: the signed answer to one boot request. [`crate::trust`] verifies it; `docs/formats/trust.md` specifies it.

use serde::{Deserialize, Serialize};

use crate::{Digest, Timestamp};

/// The format version this code writes, and the only one it reads.
pub const PLAN_FORMAT: u32 = 1;

/// `_type` of a plan's signed part.
pub const PLAN_TYPE: &str = "towline-plan";

/// Name of the delegation in the targets role that names the keys which sign plans.
pub const PLAN_ROLE: &str = "plan";

/// 32 fresh random bytes that a plan must echo, in hex.
pub type Nonce = Digest;

/// How the machine goes from stage 1 into the rescue system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandOver {
    /// The layers are placed in the running kernel, then `switch_root`.
    InPlace,
    /// The chain's kernel is loaded with the layers as its initramfs, then started by kexec.
    Kexec,
}

/// One layer of the chain: it must be in the verified catalogue under this name with this digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLayer {
    /// Target name, `KIND/NAME/VERSION/ARCHITECTURE`.
    pub target: String,
    /// SHA-256 of the stored layer.
    pub digest: Digest,
}

/// The timestamp metadata that the plan was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampRef {
    /// Version of `timestamp.json`.
    pub version: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// What one machine is to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootPlan {
    /// [`PLAN_TYPE`].
    #[serde(rename = "_type")]
    pub type_: String,
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// Echo of the request's nonce.
    pub nonce: Nonce,
    /// The server's time when it signed.
    pub time: Timestamp,
    /// The plan is not valid at this time and later; at most [`crate::limits::PLAN_SECONDS_MAX`] after `time`.
    pub expires: Timestamp,
    /// The catalogue it was made from.
    pub timestamp: TimestampRef,
    /// The layers in order; the later wins.
    pub chain: Vec<PlanLayer>,
    /// Kernel command line of the rescue system (added to by stage 1 when it starts another kernel).
    pub command_line: String,
    /// How to start it.
    pub hand_over: HandOver,
    /// Base URLs that serve the layers, in order of preference; the server itself when empty.
    pub mirrors: Vec<String>,
    /// Identifies this boot in events and logs.
    pub recovery: String,
    /// The host that is recovered; none for a plan of public layers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// What the rescue system does about it; nothing but to wait for its operator when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub order: Option<crate::recovery::Order>,
}

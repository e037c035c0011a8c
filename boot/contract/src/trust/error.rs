//! Why something is not trusted.

use super::dates::ExpiredRole;
use crate::manifest::ManifestError;
use crate::{Digest, Timestamp};

/// Why a document is not trusted. The `what` of each names the document as people know it (`version 3 of root.json`).
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// More bytes than the document may have.
    #[error("{what} has {bytes} bytes, more than the {max} allowed")]
    TooLarge {
        /// The document.
        what: String,
        /// Bytes received.
        bytes: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// More of something than the document may have.
    #[error("{what} has {found} {of}, more than the {max} allowed")]
    TooMany {
        /// The document.
        what: String,
        /// Of what.
        of: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// Not JSON of the right shape.
    #[error("{what} cannot be read")]
    Json {
        /// The document.
        what: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// JSON of the right shape that breaks a rule of its format.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The document.
        what: String,
        /// The rule, with what was found.
        why: String,
    },
    /// Not signed by enough keys of the role.
    #[error(
        "{what} is not trusted: {valid} of {threshold} required signatures are valid (no valid one by {})",
        missing.join(", ")
    )]
    Signatures {
        /// The document.
        what: String,
        /// Different keys that signed.
        valid: usize,
        /// How many must.
        threshold: u32,
        /// Short identifiers of the keys that did not.
        missing: Vec<String>,
    },
    /// Another version than the document that names it says: a rollback, or files of two moments mixed.
    #[error("{what} is version {found}, but {wanted} is required")]
    Version {
        /// The document.
        what: String,
        /// Version in the document.
        found: u64,
        /// Version required.
        wanted: u64,
    },
    /// An older version than one that was trusted before.
    #[error(
        "{what} is version {found}, but version {stored} was known before: it may be a rollback"
    )]
    Rollback {
        /// The document.
        what: String,
        /// Version offered.
        found: u64,
        /// Version stored.
        stored: u64,
    },
    /// A search that leads through more roles than any honest one.
    #[error("target {target} was looked for in {max} delegated roles, and there are more")]
    TooManyRoles {
        /// Name of the target.
        target: String,
        /// [`crate::limits::DELEGATED_ROLES_MAX`].
        max: usize,
    },
    /// Another length than was signed.
    #[error("{what} has {found} bytes, but {wanted} are signed")]
    Length {
        /// The document.
        what: String,
        /// Bytes received.
        found: u64,
        /// Bytes signed.
        wanted: u64,
    },
    /// Another digest than was signed.
    #[error("{what} has digest {}, but {} is signed", found.short(), wanted.short())]
    Digest {
        /// The document.
        what: String,
        /// Digest of what was received.
        found: Digest,
        /// Digest signed.
        wanted: Digest,
    },
    /// Another SHA-512 than was signed.
    #[error("{what} has SHA-512 {found}, but {wanted} is signed")]
    Sha512 {
        /// The document.
        what: String,
        /// SHA-512 of what was received, in hex.
        found: String,
        /// What is signed.
        wanted: String,
    },
    /// More new root versions than one boot follows.
    #[error(
        "more than {max} new versions of the root are offered; stamp the medium with a newer root"
    )]
    TooManyRotations {
        /// [`crate::limits::ROOT_ROTATIONS_MAX`].
        max: u32,
    },
    /// The plan answers another request: a replay.
    #[error("the plan answers another request (nonce {}, not {}): it may be a replay", found.short(), wanted.short())]
    Nonce {
        /// Nonce in the plan.
        found: Digest,
        /// Nonce that was sent.
        wanted: Digest,
    },
    /// The plan's time is before anything this machine can believe.
    #[error("the plan's time {time} is before {floor}, when this medium was made")]
    Clock {
        /// Time in the plan.
        time: Timestamp,
        /// Earliest time believed.
        floor: Timestamp,
    },
    /// The plan asks for something that the signed catalogue does not have.
    #[error("layer {target} of the plan is not in the signed catalogue with digest {}", digest.short())]
    NotInView {
        /// Target name in the plan.
        target: String,
        /// Digest in the plan.
        digest: Digest,
    },
    /// The layers do not make a chain.
    #[error("the plan's layers make no chain: {0}")]
    Chain(String),
    /// A layer of another host than the plan is for.
    #[error("the plan is for {}, but layer {target} belongs to another host", host.as_deref().unwrap_or("no host"))]
    ForeignHost {
        /// Target name in the plan.
        target: String,
        /// Host in the plan.
        host: Option<String>,
    },
    /// A plan for another host than the machine asked for.
    #[error("the plan is for {}, but {wanted} was asked for", found.as_deref().unwrap_or("no host"))]
    AnotherHost {
        /// Host in the plan.
        found: Option<String>,
        /// Host in the request.
        wanted: String,
    },
    /// A layer for other machines.
    #[error("layer {target} of the plan is for another architecture than this machine's, {wanted}")]
    Architecture {
        /// Target name in the plan.
        target: String,
        /// The machine's architecture.
        wanted: String,
    },
    /// Signed metadata is past its date, all else being right.
    #[error("signed metadata has expired: {}", list(.0))]
    Expired(Vec<ExpiredRole>),
    /// The manifest has the signed digest, but is no usable manifest.
    #[error("the manifest of layer {layer} cannot be used")]
    Manifest {
        /// Target name.
        layer: String,
        /// Why.
        source: ManifestError,
    },
    /// The manifest is about another layer than the one signed.
    #[error("the manifest of layer {layer} says {field} is {found}, but {wanted} is signed")]
    ManifestDisagrees {
        /// Target name.
        layer: String,
        /// The field.
        field: &'static str,
        /// Value in the manifest.
        found: String,
        /// Value signed.
        wanted: String,
    },
}

fn list(expired: &[ExpiredRole]) -> String {
    let texts: Vec<_> = expired.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

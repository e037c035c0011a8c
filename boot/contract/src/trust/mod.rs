//! Trust: the one place where bytes from elsewhere become something the programs may act on.
//!
//! A medium is stamped with a root document and has no memory. [`TrustedRoot`] follows the root's rotations,
//! [`TrustedTimestamp`] and [`TrustedSnapshot`] name the next file, [`SignedView`] is a catalogue whose signatures,
//! versions and digests are right; [`SignedView::plan`] then takes the server's plan and gives a [`Verified`]`<`[`Chain`]`>`,
//! from which manifests and chunks are verified. Each type can only be made from the one before it.
//!
//! Metadata is TUF 1.0 (<https://theupdateframework.github.io/specification/v1.0.31/>); `docs/formats/trust.md` says
//! which part of it, and specifies the plan. Nothing here does I/O or reads a clock.

mod canonical;
mod chain;
mod chunk;
mod command_line;
mod credentials;
mod envelope;
mod error;
mod handed_over;
mod hosts;
mod keys;
pub mod metadata;
mod plan;
mod target;
mod verified;
mod view;

pub use canonical::{CanonicalError, canonical_json};
pub use chain::{Chain, ChainLayer};
pub use chunk::ChunkError;
pub use command_line::check as check_command_line;
pub use credentials::Credentials;
pub use envelope::{Envelope, Signature, sign};
pub use error::TrustError;
pub use hosts::{added_session, host_paths, host_role, host_sessions, is_host_id, next_sessions};
pub use keys::{KeyId, PublicKey, SigningKey};
pub use plan::{Asked, ExpiryPolicy, FreshNonce};
pub use target::{LayerCustom, ManifestRef, TargetName};
pub use verified::Verified;
pub use view::{
    ExpiredRole, SignedView, TIMESTAMP_FILE, TrustedRoot, TrustedSnapshot, TrustedTimestamp,
};

//! Trust: the one place where bytes from elsewhere become something the programs may act on.
//!
//! A medium is stamped with a root document and has no memory. [`TrustedRoot`] follows the root's rotations,
//! [`TrustedTimestamp`] and [`TrustedSnapshot`] name the next file, [`SignedView`] is a catalogue whose signatures,
//! versions and digests are right; [`SignedView::plan`] then takes the server's plan and gives a [`Verified`]`<`[`Chain`]`>`,
//! from which manifests and chunks are verified. Each type can only be made from the one before it.
//!
//! Clients that keep their files and know the time are served by the same types: they compare with what they trusted
//! before ([`TrustedTimestamp::after`], [`TrustedSnapshot::not_before`]), check dates as they go (`require_date`), and find a
//! target through delegations ([`SignedView::search`]).
//!
//! Metadata is TUF 1.0 (<https://theupdateframework.github.io/specification/v1.0.31/>); `docs/formats/trust.md` says
//! which part of it, and specifies the plan. Nothing here does I/O or reads a clock.

mod canonical;
mod chain;
mod chunk;
mod command_line;
mod credentials;
mod dates;
mod envelope;
mod error;
mod events;
mod file;
mod handed_over;
mod hosts;
mod keys;
pub mod metadata;
mod pattern;
mod plan;
mod policy;
mod roles;
mod search;
mod signers;
mod stored;
mod target;
mod verified;
mod view;

pub use canonical::{CanonicalError, canonical_json};
pub use chain::{Chain, ChainLayer};
pub use chunk::{ChunkError, SealedChunk};
pub use command_line::check as check_command_line;
pub use credentials::Credentials;
pub use dates::ExpiredRole;
pub use envelope::{Envelope, Signature, sign};
pub use error::TrustError;
pub use events::{EventError, EventSignature, EventSigner};
pub use file::TargetBytes;
pub use hosts::{added_session, host_paths, host_role, host_sessions, is_host_id, next_sessions};
pub use keys::{KeyId, PublicKey, SigningKey};
pub use plan::{Asked, ExpiryPolicy, FreshNonce};
pub use roles::{BASE_ROLE, HOSTS_ROLE, layer_role, role_paths};
pub use search::{DelegatedFile, Search, Step};
pub use stored::StoredSnapshot;
pub use target::{LayerCustom, ManifestRef, TargetName};
pub use verified::Verified;
pub use view::{SignedView, TIMESTAMP_FILE, TrustedRoot, TrustedSnapshot, TrustedTimestamp};

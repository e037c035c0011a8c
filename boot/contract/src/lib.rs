//! What stage 1, the server and the layer builder agree on.
//!
//! Formats (newc, manifest, plan, stamp, events, API bodies), the limits on each, and trust. Nothing here does I/O or
//! reads a clock: bytes and the time come in as arguments, decisions go out. [`trust`] is the only module that can make a
//! [`trust::Verified`] value, and the programs accept nothing else where it matters.

pub mod agent;
pub mod api;
pub mod base_url;
pub mod digest;
pub mod event;
pub mod handover;
pub mod lanes;
pub mod limits;
pub mod manifest;
pub mod newc;
pub mod plan;
pub mod recovery;
pub mod seal;
pub mod secret;
pub mod session;
pub mod stamp;
pub mod trust;

pub use digest::Digest;
pub use jiff::Timestamp;
pub use secret::Secret;

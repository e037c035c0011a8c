//! Fetching: plan, metadata, manifests and layers, from servers that may be slow, gone or hostile.
//!
//! [`client`] speaks HTTP/1.1 over TCP or [`tls`]; [`plan`] asks for a plan and verifies it; [`layers`] brings verified chunks
//! in order, whatever the mirrors do. Nothing leaves this module that is not [`towline_contract::trust::Verified`].
//! HTTP proxies are not supported yet.

pub mod client;
mod error;
pub mod layers;
pub mod plan;
pub mod rehearsal;
pub mod tls;

pub use client::{Client, Connection, Server};
pub use error::FetchError;
pub use layers::Mirrors;
pub use plan::{Ask, Planned};
pub use tls::TlsTime;

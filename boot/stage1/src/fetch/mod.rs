//! Fetching: plan, metadata, manifests and layers, from servers that may be slow, gone or hostile.
//!
//! [`client`] connects by TCP and [`tls`], and [`connection`] speaks HTTP/1.1 over it; [`plan`] asks for a plan and verifies
//! it; [`layers`] brings verified chunks in order, whatever the mirrors do, and [`pace`] says which is too slow; [`cli`] runs all of it as an ordinary process.
//! Nothing leaves this module that is not [`towline_contract::trust::Verified`].
//! HTTP proxies are not supported yet.

pub mod cli;
pub mod client;
pub mod connection;
mod download;
mod error;
pub mod layers;
mod pace;
mod patience;
pub mod plan;
pub mod recovery;
mod server;
pub mod tls;

pub use client::Client;
pub use connection::Connection;
pub use error::FetchError;
pub use layers::Mirrors;
pub use patience::Patience;
pub use plan::{Ask, Planned};
pub use server::Server;
pub use tls::TlsTime;

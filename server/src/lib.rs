//! The provisioning server: a site's keys, store and catalogue, and the HTTP API that machines boot from.
//!
//! [`site`] makes and opens a site's folder, [`catalogue`] signs what is published, [`compose`] decides what one machine
//! boots (a pure function), [`hosts`] who may add sessions, [`sessions`] which session of a host that is, [`http`] serves it. The server holds online keys only for what must be fresh: plans, snapshot
//! and timestamp. What a machine runs is decided by the targets key and those of kinds, which can stay elsewhere.

pub mod catalogue;
pub mod collisions;
pub mod compose;
pub mod config;
pub mod credentials;
pub mod doctor;
pub mod drills;
pub mod events;
#[cfg(test)]
mod fixture;
pub mod hosts;
pub mod http;
pub mod intake;
pub mod keys;
mod log;
mod order;
mod owner;
pub mod private;
pub mod recoveries;
pub mod review;
pub mod sessions;
pub mod site;
pub mod store;
pub mod tls;
pub mod tracked;
mod unread;

pub use config::Config;
pub use site::Site;

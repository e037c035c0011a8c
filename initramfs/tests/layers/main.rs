//! The layer builder from outside: what other programs read of its layers, and what it refuses.
//!
//! Tests whose names begin with `archive_` need the distribution's archive (network, and package lists).

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

mod archive;
mod archives;
mod building;
mod chain;
mod contents;
mod deb;
mod fetching;
mod for_kernel;
mod images;
mod kernel;
mod libraries;
mod live_images;
mod makeself;
mod overrides;
mod reading;
mod recipes;
mod released;
mod rpm;
mod support;
mod tree;
mod verifying;

//! What each kind of layer may contain, entry by entry: mostly what it may not.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

mod archive;
mod kinds;
mod shape;

//! What must hold for any bytes that come from a network, a disk or a medium.
//!
//! One module a format, each with a function `check` that panics when a property does not hold: not only that nothing
//! panics, but that independent models judge alike and that what is written is read. `tests/fuzz/run` (`make fuzz`) lets
//! libFuzzer look for a counter-example; ordinary tests check the corpora, among them everything that was once found.

pub mod api;
mod cursor;
mod golden;
pub mod http;
pub mod lanes;
pub mod manifest;
pub mod metadata;
pub mod modules;
pub mod newc;
pub mod plan;
pub mod stamp;
